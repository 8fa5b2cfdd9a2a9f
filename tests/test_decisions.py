"""Decisions about photos: the table that a spreadsheet edits, and featurizing by it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona.cli import main
from pomona.decisions import COLUMNS, neutralised, read_decisions, restored, rows_of
from pomona.findings import Finding
from pomona.findings.table import to_csv
from pomona.local import NoImagesError, featurize_folder
from pomona.results import LocalResults

ERROR = Finding(
    "label_error", "/photos/Pêche/=1.jpg", "Pêche", 0.5, "relabel: Kaki", "/o.jpg", "Kaki"
)
DARK = Finding("dark", "'quoted.jpg", "", 12.0, "leave out")


def saved(tmp_path: Path, *lines: str, encoding: str = "utf-8", end: str = "\n") -> Path:
    file = tmp_path / "findings.csv"
    file.write_bytes(end.join([*lines, ""]).encode(encoding))
    return file


def decided(file: Path) -> dict[str, str | None]:
    return {name: each.label for name, each in read_decisions(file).by_key.items()}


def test_the_table_opens_in_a_spreadsheet_and_has_no_formulas() -> None:
    content = to_csv([ERROR, DARK, Finding("thin_class", "=cmd|' /C calc'!A0", "@x", 4)], None, "")
    assert content.startswith(b"\xef\xbb\xbfpath,finding,score,suggestion,decision,label,")
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert [row[0] for row in rows[1:]] == [ERROR.path, "''quoted.jpg", "'=cmd|' /C calc'!A0"]
    assert not any(cell[:1] in "=+-@\t\r" for row in rows for cell in row if cell)
    assert [row.cells["path"] for row in rows_of(content, "")][1:] == [
        "'quoted.jpg",
        "=cmd|' /C calc'!A0",
    ]


@given(st.text())
def test_a_neutralised_cell_is_restored(cell: str) -> None:
    assert restored(neutralised(cell)) == cell


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("encoding", "end"), [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-16", "\r\n")]
)
def test_what_spreadsheets_save_is_read(
    tmp_path: Path, separator: str, encoding: str, end: str
) -> None:
    lines = [
        ["Path", "score", "Decision", "note"],
        ["file:/photos/a.jpg", '"0,25"', "Leave  OUT", ""],
        [
            '"/photos/b, c.jpg"',
            '"0,5"',
            "relabel: Pe\u0302che: blanche ",
            "a; b" if separator == "," else "",
        ],
        ["/photos/d.jpg", "", "", ""],
        ["/photos/e.jpg", "", "keep", ""],
        ["", "", "", ""],
    ]
    file = saved(tmp_path, *(separator.join(line) for line in lines), encoding=encoding, end=end)
    assert decided(file) == {"/photos/a.jpg": None, "/photos/b, c.jpg": "Pêche: blanche"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,decision", "a.jpg,delete"], r"line 2: unknown decision 'delete' \(write"),
        (["path,decision", "a.jpg,leaveout"], r"did you mean 'leave out'\?"),
        (["path,decision", "a.jpg,relabel:"], "line 2: 'relabel:' names no label"),
        (["path,decision", ",leave out"], "line 2: the decision 'leave out' has no path"),
        (
            ["path,decision", "a.jpg,leave out", "b.jpg,keep", "./a.jpg,relabel: b"],
            r"lines 2 and 4: two decisions about ./a.jpg, 'leave out' and 'relabel: b'",
        ),
        (["path,decision", "a.jpg,keep", "a.jpg,leave out"], "lines 2 and 3: two decisions"),
        (["photo,what"], "has no column path and decision"),
        ([], "is empty"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_its_line(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_decisions(saved(tmp_path, *lines))


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, "path,decision", "/Pêche/1.jpg,leave out", encoding="cp1252")
    with pytest.raises(ValueError, match="is not UTF-8: save it again as “CSV UTF-8”"):
        read_decisions(file)


def test_a_new_table_keeps_the_decisions_of_the_one_before() -> None:
    first = to_csv([ERROR, DARK], None, "")
    edited = first.replace(b"relabel: Kaki,,", b"relabel: Kaki,relabel: Kaki,")
    edited = edited.replace(b"leave out,,", b"leave out,leave out,")
    again = to_csv([DARK], edited, "")
    rows = {row.cells["finding"]: row.cells for row in rows_of(again, "")}
    # The label was corrected, so that the finding is gone; its decision still counts.
    assert rows["label_error"]["decision"] == "relabel: Kaki"
    assert rows["dark"]["decision"] == "leave out"
    assert to_csv([DARK], again, "") == again
    with pytest.raises(ValueError, match="line 2: unknown decision 'no'"):
        to_csv([], b"path,decision\na.jpg,no\n", "findings.csv")


def test_featurizing_leaves_out_and_relabels(
    folder: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    first, second, third, *_ = sorted(Path(folder.name).rglob("*.jpg"))
    file = saved(
        tmp_path,
        "path,decision",
        f"{first},leave out",
        f"file://{second.absolute()},relabel: new",
        f"{third.absolute()},keep",
    )
    summary = featurize_folder(folder.name, "out", model=tiny_model, decisions=file)
    assert summary.decided == {"left out": 1, "relabelled": 1}
    assert summary.photos == 15
    rows = pq.read_table("out/features").to_pylist()
    labels = {row["path"]: row["label"] for row in rows}
    assert str(first) not in labels
    assert labels[str(second)] == "new"
    assert labels[str(third)] == third.parent.name
    assert LocalResults("out").summary["decided"] == summary.decided


def test_decisions_about_other_photos_are_refused_and_nothing_is_written(
    folder: Path, tiny_model: Path, tmp_path: Path, output: Path
) -> None:
    file = saved(tmp_path, "path,decision", "/a.jpg,leave out", "/b.jpg,relabel: b")
    with pytest.raises(
        ValueError, match=r"csv, line 2: there is no photo /a.jpg in .*photos \(and 1 more\)"
    ):
        featurize_folder(folder, output, model=tiny_model, decisions=file)
    everything = [f"{path},leave out" for path in sorted(folder.rglob("*.jpg"))]
    with pytest.raises(NoImagesError, match="leave out all 16 photos"):
        featurize_folder(
            folder,
            output,
            model=tiny_model,
            decisions=saved(tmp_path, "path,decision", *everything),
        )
    assert not output.exists()


def test_check_decide_and_featurize_again(
    folder: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, photos = str(tmp_path / "out"), sorted(folder.rglob("*.jpg"))
    copy = photos[0].with_name("zz.jpg")
    copy.write_bytes(photos[0].read_bytes())
    featurize = ["featurize", str(folder), "-o", out, "--model", str(tiny_model)]
    assert main(featurize) == 0
    table = str(tmp_path / "findings.csv")
    assert main(["check", out, "-o", table, "--fail-on-findings", "duplicate"]) == 4
    assert main(["check", out, "--fail-on-findings", "unreadable,turned"]) == 0
    capsys.readouterr()

    text = Path(table).read_text("utf-8-sig")
    line = next(row for row in text.splitlines() if f"{copy},duplicate," in row)
    Path(table).write_text(text.replace(line, line.replace("leave out,", "leave out,leave out")))
    assert main([*featurize, "--overwrite", "--decisions", table]) == 0
    assert "by decision: 1 left out" in capsys.readouterr().out
    assert main(["check", out, "-o", table, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scope"] == {"photos": 16, "of": 16, "measured": 16}
    assert str(copy) not in json.dumps(found)
    assert read_decisions(table).of(str(copy)) is not None


def test_featurizing_again_keeps_the_decisions_beside_a_report(
    folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    featurize_folder(folder, out, model=tiny_model)
    (out / "report").mkdir()
    (out / "report/index.html").touch()
    table = out / "report/findings.csv"
    table.write_text(f"path,decision\n{min(folder.rglob('*.jpg'))},leave out\n")
    summary = featurize_folder(folder, out, model=tiny_model, overwrite=True, decisions=table)
    assert summary.decided == {"left out": 1}
    assert [path.name for path in (out / "report").iterdir()] == ["findings.csv"]
