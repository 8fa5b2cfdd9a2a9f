"""The files that a release carries, so that nobody compiles Pomona to run it on EMR.

Usage: python -m emr.release VERSION FOLDER FILE…

A FILE is copied, and a wheelhouse, which is a folder, is packed into two archives: one of itself,
for `make emr-up WHEELHOUSE=…`, and one with everything that the bucket needs, for the console. One
of EMR 7 also becomes the environment of EMR Serverless.
"""

from __future__ import annotations

import html
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from emr import environment
from emr.files import IN_BUCKET
from emr.wheelhouse import CHECKSUMS, ROOT, checksums

BOOTSTRAP = ROOT / "bootstrap"
#: Pages in the repository and their names in a release.
PAGES = {
    "guide.md": "guide.html",
    "guide.fr.md": "guide.fr.html",
    "privacy.md": "privacy.html",
    "privacy.fr.md": "privacy.fr.html",
    "README.md": "commands.html",
}
#: Files of the console's user, as they are.
FORMS = ("cluster.yaml", "serverless.yaml", "policies/user.json")
NOTEBOOKS = ROOT / "notebooks"
_PAGE = """<!doctype html>
<html lang="{language}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Pomona: {title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: auto; padding: 1rem }}
pre, code {{ background: #8882; font-size: 0.9rem }}
pre {{ padding: 0.5rem; overflow: auto }}
table {{ border-collapse: collapse }}
th, td {{ border: 1px solid #888; padding: 0.2rem 0.5rem; text-align: left }}
</style>
{body}"""


def make(version: str, folder: Path, files: list[Path]) -> None:
    """Write a release. The folder appears only when it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        new = Path(scratch, "new")
        new.mkdir(mode=0o755)
        in_bucket = dict(IN_BUCKET)
        for file in files:
            if not file.is_dir():
                shutil.copy(file, new)
            if file.suffix == ".onnx":
                in_bucket[f"models/{file.name}"] = file
        for wheelhouse in filter(Path.is_dir, files):
            packed = {
                f"wheelhouse/{path.relative_to(wheelhouse.parent).as_posix()}": path
                for path in wheelhouse.rglob("*")
                if path.is_file()
            }
            pack(packed, new / f"pomona-wheelhouse-{wheelhouse.name}-{version}.zip")
            pack({**in_bucket, **packed}, new / f"pomona-bucket-{wheelhouse.name}-{version}.zip")
            if not wheelhouse.name.startswith("emr-6."):
                name = f"pomona-serverless-{wheelhouse.name}-{version}.tar.gz"
                environment.build(wheelhouse, new / name)
        for form in (*(BOOTSTRAP / form for form in FORMS), *NOTEBOOKS.glob("*.ipynb")):
            shutil.copy(form, new)
        for source, name in PAGES.items():
            (new / name).write_text(page(BOOTSTRAP / source), encoding="utf-8")
        (new / CHECKSUMS).write_text(checksums(new))
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        new.rename(folder)


def pack(files: dict[str, Path], archive: Path) -> None:
    """Write a zip archive whose bytes depend only on the names and the contents of its files."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packing:
        for name, path in sorted(files.items()):
            # Wheels, which are most of it, are compressed already.
            method = zipfile.ZIP_STORED if path.suffix == ".whl" else zipfile.ZIP_DEFLATED
            packing.writestr(zipfile.ZipInfo(name), path.read_bytes(), method)


def page(source: Path) -> str:
    """Render a page of Markdown. Links to files that a release does not have become plain text."""
    from markdown_it import MarkdownIt

    forms = {form: Path(form).name for form in FORMS}

    def link(match: re.Match[str]) -> str:
        text, path, anchor = match.groups()
        name = {"": "", **PAGES, **forms}.get(path)
        return text if name is None else f"[{text}]({name}{anchor})"

    def with_anchor(match: re.Match[str]) -> str:
        tag, title = match.groups()
        words = re.sub(r"[^\w -]", "", html.unescape(re.sub(r"<[^>]+>", "", title)))
        return f'<{tag} id="{words.lower().replace(" ", "-")}">{title}</{tag}>'

    text = source.read_text(encoding="utf-8")
    (title, *_) = re.findall(r"^# (.+)$", text, re.MULTILINE)
    text = re.sub(r"\[([^\]]+)\]\((?!https?:)([^)#]*)(#[^)]*|)\)", link, text)
    body = MarkdownIt("commonmark").enable("table").render(text)
    return _PAGE.format(
        language="fr" if source.name.endswith(".fr.md") else "en",
        title=html.escape(title),
        body=re.sub(r"<(h\d)>(.*?)</\1>", with_anchor, body),
    )


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
