"""bootstrap's pages against the template, the release and each other: nothing runs, and no AWS."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from emr import release
from pomona.cli import _parser

ROOT = Path(__file__).resolve().parents[1]
BOOTSTRAP = ROOT / "bootstrap"
GUIDE, GUIDE_FR = BOOTSTRAP / "guide.md", BOOTSTRAP / "guide.fr.md"
PRIVACY, PRIVACY_FR = BOOTSTRAP / "privacy.md", BOOTSTRAP / "privacy.fr.md"
README = BOOTSTRAP / "README.md"
PAGES = [README, GUIDE, GUIDE_FR, PRIVACY, PRIVACY_FR]
PAIRS = [(GUIDE, GUIDE_FR), (PRIVACY, PRIVACY_FR)]
USER = BOOTSTRAP / "policies" / "user.json"
#: IAM's limit for a managed policy, in characters other than white space.
POLICY_LIMIT = 6144

#: Prints a CloudFormation template as JSON; `!Ref X` and the like become null.
TO_JSON = """
import json, sys, yaml
yaml.SafeLoader.add_multi_constructor("!", lambda loader, tag, node: None)
print(json.dumps(yaml.safe_load(sys.stdin)))
"""


class Part(NamedTuple):
    """A part of a page that has the same form in every language."""

    kind: str
    content: str


@functools.lru_cache(maxsize=None)
def template() -> dict[str, Any]:
    text = (BOOTSTRAP / "cluster.yaml").read_text(encoding="utf-8")
    return parsed(text)


def parsed(text: str) -> dict[str, Any]:
    # The environment of the AWS CLI has PyYAML.
    python = ROOT / ".venv" / "aws" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", TO_JSON], input=text, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def parts(page: Path) -> list[Part]:
    """Return headings by their level and number, blocks of code, and sizes of tables and lists."""
    found = []
    blocks = re.split(r"^(```\w*\n.*?^```)$", text_of(page), flags=re.M | re.S)
    for index, block in enumerate(blocks):
        if index % 2:
            found.append(
                Part("code", block.replace("fruits_on_emr.fr.ipynb", "fruits_on_emr.ipynb"))
            )
            continue
        for level, number in re.findall(r"^(#+) (\d+\.)?", block, re.M):
            found.append(Part("heading", f"{level} {number}"))
        tables = re.findall(r"(?:^\|.*\n)+", block, re.M)
        found += [Part("table", str(rows.count("\n"))) for rows in tables]
        found.append(Part("numbered", str(len(re.findall(r"^\d+\. ", block, re.M)))))
    return found


def table(page: Path, heading: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    rows = re.search(rf"^\| {heading} \|.*\n\|[ |-]*\n((?:\|.*\n)+)", text_of(page), re.M)
    assert rows, heading
    lines = rows[1].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].stem)
def test_both_languages_have_the_same_steps_and_commands(pair: tuple[Path, Path]):
    english, french = map(parts, pair)
    assert english == french


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].stem)
def test_both_languages_name_the_same_files_buttons_and_values(pair: tuple[Path, Path]):
    def quoted(page: Path) -> set[str]:
        return set(
            re.findall(
                r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S)
            )
        )

    english, french = map(quoted, pair)
    only_french = {"fruits_on_emr.fr.ipynb"}
    only_english = {"fruits_on_emr.ipynb"}
    assert english - french <= only_english
    assert french - english <= only_french


PARAMETER_TABLES = [(GUIDE, "On the page"), (GUIDE_FR, "Sur la page")]


@pytest.mark.parametrize(("page", "heading"), PARAMETER_TABLES, ids=["en", "fr"])
def test_the_guide_has_the_parameters_of_the_template_in_the_consoles_order(
    page: Path, heading: str
):
    interface = template()["Metadata"]["AWS::CloudFormation::Interface"]
    names = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    labels = [interface["ParameterLabels"][name]["default"] for name in names]
    rows = [(label, name.strip("`")) for label, name, _ in table(page, heading)]
    assert rows == list(zip(labels, names))


@pytest.mark.parametrize(("page", "heading"), PARAMETER_TABLES, ids=["en", "fr"])
def test_the_template_accepts_what_the_guide_enters(page: Path, heading: str):
    for _, name, advice in table(page, heading):
        parameter = template()["Parameters"][name.strip("`")]
        values = re.findall(r"`([^`]+)`", advice)
        if re.search(r"\b(empty|vide)\b", advice):
            values.append("")
        for value in values:
            assert value in parameter.get("AllowedValues", [value]), (name, value)
            assert re.search(parameter.get("AllowedPattern", ""), value), (name, value)
            if parameter["Type"] == "Number":
                limits = parameter["MinValue"], parameter.get("MaxValue", 10**9)
                assert limits[0] <= int(value) <= limits[1], (name, value)


@pytest.mark.parametrize("page", [GUIDE, GUIDE_FR], ids=["en", "fr"])
def test_the_guide_lists_what_the_archive_puts_into_the_bucket(page: Path):
    rows = table(page, "In the bucket" if page == GUIDE else "Dans le bucket")
    named = set(re.findall(r"`([^`]+)`", " ".join(row[0] for row in rows)))
    wheelhouses = {f"wheelhouse/{emr}/" for emr in ("emr-6.4.0", "emr-7.14.0")}
    photos_and_model = {"Test/", "models/efficientnet_lite0.onnx"}
    assert named == {*release.IN_BUCKET, *wheelhouses, *photos_and_model}


@pytest.mark.parametrize("page", [GUIDE, GUIDE_FR], ids=["en", "fr"])
def test_the_guide_downloads_files_that_a_release_has(page: Path):
    rows = table(page, "File" if page == GUIDE else "Fichier")
    named = set(re.findall(r"`([^`]+)`", " ".join(row[0] for row in rows)))
    forms = {Path(form).name for form in release.FORMS}
    assert {"cluster.yaml", "user.json"} <= forms
    archives = {f"pomona-bucket-{emr}-VERSION.zip" for emr in ("emr-6.4.0", "emr-7.14.0")}
    assert named == {"cluster.yaml", "user.json", *archives}


@pytest.mark.parametrize("page", [GUIDE, GUIDE_FR], ids=["en", "fr"])
def test_the_guide_downloads_this_version(page: Path):
    (version, *_) = re.findall(r'^version = "(.+)"', text_of(ROOT / "Cargo.toml"), re.M)
    assert set(re.findall(r"(?:/v|7\.14\.0-)(\d+\.\d+\.\d+)", text_of(page))) == {version}


@pytest.mark.parametrize("page", [GUIDE, GUIDE_FR], ids=["en", "fr"])
def test_the_guides_step_is_what_the_job_takes(page: Path):
    (arguments,) = re.findall(r"^--images .*$", text_of(page), re.M)
    given = _parser().parse_args(["run", *arguments.split()])
    assert given.images
    assert given.output


def test_the_rights_of_the_user_fit_into_one_policy():
    text = text_of(USER)
    assert len(re.sub(r"\s", "", text)) <= POLICY_LIMIT
    statements = json.loads(text)["Statement"]
    assert len({statement["Sid"] for statement in statements}) == len(statements)
    assert text.count("BUCKET") == 2
    for statement in statements:
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            assert re.fullmatch(r"[a-z0-9-]+:(\*|[A-Z]\w*\*?)", action), action
            scoped = statement["Resource"] != "*" or "Condition" in statement
            assert scoped or re.match(r"\w+:(Describe|Get|List)|cloudshell:", action), action


def test_no_right_reaches_beyond_pomonas_roles():
    for statement in json.loads(text_of(USER))["Statement"]:
        if "iam:" in json.dumps(statement["Action"]):
            resources = statement["Resource"]
            for resource in [resources] if isinstance(resources, str) else resources:
                assert re.match(
                    r"arn:aws:iam::\*:(role/pomona-\*|instance-profile/pomona-\*|role/aws-service-role/\*)$",
                    resource,
                )


def test_what_switches_event_logs_off_fits_into_the_template():
    (snippet,) = re.findall(r"^```yaml\n(.*?)^```$", text_of(PRIVACY), re.M | re.S)
    text = text_of(BOOTSTRAP / "cluster.yaml")
    before, after = text.split("BootstrapActions:\n")
    actions = parsed(f"{before}BootstrapActions:\n{snippet}{after}")
    clusters = [
        each["Properties"]["BootstrapActions"]
        for each in actions["Resources"].values()
        if each["Type"] == "AWS::EMR::Cluster"
    ]
    (names,) = [[action["Name"] for action in actions] for actions in clusters]
    assert names[0] == "no-event-logs"
    assert len(names) == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text_of(page))
    assert links
    for target, anchor in links:
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
