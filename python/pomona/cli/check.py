"""`pomona check`: find label errors, near-duplicates and bad photos."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona._images import one_line
from pomona._output import atomic_file
from pomona._suggest import did_you_mean
from pomona.cli._arguments import add_json_option, seed
from pomona.cli._errors import SOME_FINDINGS
from pomona.cli._results import add_results, open_others, open_results
from pomona.cli._terminal import count, show, show_json, show_step
from pomona.findings import KINDS, Findings, look
from pomona.findings.drift import compare_with
from pomona.findings.gallery import open_gallery
from pomona.findings.table import to_csv

if TYPE_CHECKING:
    from pomona.findings import Finding, Group
    from pomona.findings.drift import Drift

#: Findings of a kind that are printed; the CSV and the JSON have all of them.
_PRINTED = 5


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "check",
        parents=[common],
        help="find label errors, near-duplicates and bad photos",
        description="Look at all photos of RESULTS for suspected label errors, near-duplicates "
        "(across classes, across training and test folders, within a class), thin classes, photos "
        "that are unreadable, damaged, turned, blurred, dark, tiny or blank, and outliers. The CSV "
        "has a column `decision`: write `leave out` or `relabel: NAME` there, and give the file to "
        "--decisions of `pomona run` or `pomona featurize`.",
        epilog="examples: pomona check results -o findings.csv; "
        "pomona check results --json --fail-on-findings label_error,duplicate_across_parts",
    )
    add_results(verb)
    verb.add_argument(
        "-o",
        "--output",
        metavar="CSV",
        help="write all findings to this CSV file; the decisions of an existing one are kept",
    )
    verb.add_argument(
        "--against",
        metavar="OTHER",
        help="other results, such as last month's: also tell what is new, gone or has changed",
    )
    verb.add_argument(
        "--fail-on-findings",
        nargs="?",
        type=_kinds,
        const=KINDS,
        default=(),
        metavar="KIND,…",
        help=f"exit with code {SOME_FINDINGS} if there are findings, of these kinds if given: "
        + ", ".join(KINDS),
    )
    verb.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="seed of the sample that is drawn from very large sets (default: 0)",
    )
    add_json_option(verb)
    verb.set_defaults(command=_check, unfinished="no findings were written")


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(kind.strip() for kind in text.split(","))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"there is no kind of finding {unknown[0]!r}: choose from {', '.join(KINDS)}"
            + did_you_mean(unknown[0], KINDS)
        )
    return kinds


def _check(args: argparse.Namespace) -> int:
    with open_results(args.results, "check", args.unfinished) as results, open_others(
        args.against, "check", args.unfinished
    ) as against:
        show_step("reading the features")
        with open_gallery(results, seed=args.seed) as photos:
            found = look(results, photos, seed=args.seed, progress=show_step)
            drift = None
            if against is not None:
                drift = compare_with(results, photos, against, seed=args.seed, progress=show_step)
    if args.output is not None:
        _write(found, Path(args.output))
    if args.json:
        answer = found.as_dict()
        if drift is not None:
            answer["against"] = drift.as_dict()
        show_json(answer)
    else:
        show(_describe(found, drift, args.output))
    wanted = any(group.kind in args.fail_on_findings for group in found.groups)
    return SOME_FINDINGS if wanted else 0


def _write(found: Findings, path: Path) -> None:
    earlier = path.read_bytes() if path.exists() else None
    content = to_csv(found, earlier, str(path))
    with atomic_file(path) as file:
        file.write(content)


def _describe(found: Findings, drift: Drift | None, output: str | None) -> str:
    lines = [line for group in found.groups for line in _lines(group)]
    looked = count(found.photos, "photo")
    if found.photos < found.of:
        looked = f"a sample of {looked} of {found.of:,}"
    lines.append(f"{count(found.total, 'finding')} in {looked}")
    if found.measured < found.photos:
        lines[-1] += f"; the pixels of {found.measured:,} were measured"
    number, reason = found.not_measured
    if number:
        lines.append(f"{count(number, 'photo')} could not be read again: {one_line(reason)}")
    if drift is not None:
        lines += _changes(drift)
    if output is not None:
        lines.append(f"{one_line(output)}: all findings, with a column for decisions")
    return "\n".join(lines)


def _lines(group: Group) -> list[str]:
    lines = [f"{group.kind}: {group.total:,}"]
    lines += [f"  {_line(finding)}" for finding in group.findings[:_PRINTED]]
    if group.total > _PRINTED:
        lines.append(f"  and {group.total - _PRINTED:,} more")
    return lines


def _line(finding: Finding) -> str:
    parts = ["" if finding.score is None else f"{finding.score:g}", finding.path]
    parts += [finding.suggestion, finding.other_path]
    return one_line("  ".join(part for part in parts if part))


def _changes(drift: Drift) -> list[str]:
    lines = [
        f"compared with {count(drift.photos, 'photo')} in {one_line(drift.uri)}: "
        f"{len(drift.new):,} new, {len(drift.gone):,} gone, {len(drift.far):,} far from the other "
        "photos of their class"
    ]
    moved = [each for each in drift.classes if each.distance is not None]
    for each in moved[:_PRINTED]:
        far = "" if each.far_share is None else f", {each.far_share:.1%} far"
        lines.append(
            f"  {one_line(each.label)}: {each.here:,} photos, {each.there:,} in the other; means "
            f"{each.distance:.2f} spreads apart{far}"
        )
    return lines
