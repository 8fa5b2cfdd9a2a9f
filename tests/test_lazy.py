"""What `import pomona` loads."""

import subprocess
import sys

import pytest

import pomona

BLOCK_NUMPY = "import sys; sys.modules['numpy'] = None\n"


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_planner_and_the_model_store_work_without_numpy():
    script = BLOCK_NUMPY + (
        "import pomona, pomona.plan, pomona.models.store\n"
        "pomona.models.store.names()\n"
        "assert issubclass(pomona.ModelError, ValueError)\n"
        "print(pomona.plan.spark_settings('m5.xlarge')['spark.executor.cores'])"
    )
    assert run(script) == "4\n"


def test_importing_the_package_loads_neither_numpy_nor_the_extension():
    script = "import sys, pomona; print({'numpy', 'pomona._native'} & set(sys.modules))"
    assert run(script) == "set()\n"


def test_every_public_name_can_be_imported_and_is_listed():
    assert set(pomona.__all__) < set(dir(pomona))
    names = {}
    exec("from pomona import *", names)  # noqa: S102
    assert set(pomona.__all__) <= set(names)
    assert all(names[name] is getattr(pomona, name) for name in pomona.__all__)


def test_submodules_are_listed_and_imported_on_first_use():
    assert {"models", "plots", "spark"} < set(dir(pomona))
    script = "import pomona; print(pomona.plan.DEFAULT_WORKERS, pomona.models.__name__)"
    assert run(script) == "2 pomona.models\n"
    blocked = "import sys; sys.modules['pyspark'] = None; import pomona\n"
    script = "try: pomona.pipeline\nexcept AttributeError as error: print(error)"
    assert "pyspark" in run(blocked + script)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'pomona' has no attribute 'zebra'"):
        pomona.zebra  # noqa: B018


def test_the_plan_command_runs_without_numpy():
    script = BLOCK_NUMPY + (
        "from pomona.cli import main\n"
        "assert main(['plan', '--photos', '1000', '--throughput', '55']) == 0\n"
        "assert main(['model', 'list']) == 0"
    )
    assert "1,000 photos on 2 workers" in run(script)
