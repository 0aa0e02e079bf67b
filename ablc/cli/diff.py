"""`ablc diff`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ablc.cli.output import CLEAN, FINDINGS, INVALID, print_faults, say, show_table
from ablc.faults import Fault
from ablc.review import rows
from ablc.review.compared import Change, Pair
from ablc.review.markdown import in_code, in_html, in_text
from ablc.review.rows import Table
from ablc.review.states import pairs

MOST_BYTES = 1_000_000  # GitHub takes a summary of 1 MiB at the most, else nothing of it
UNCHANGED = {"same model", "same text", "broken as before"}


def diff_command(named: list[str], paths: list[str] | None, against: str | None, format: str, exit_code: bool) -> int:
    """Show what changes in the models of two files, folders or states of a repository."""
    found = _heard(pairs(named, paths, against))
    if format == "human":
        all_pairs = list(_human(found))
    else:
        all_pairs = list(found)
        {"json": _json, "md": _markdown, "github": _github}[format](all_pairs)
    kinds = {pair.status for pair in all_pairs}
    if "broken" in kinds:
        return INVALID
    return FINDINGS if exit_code and kinds - UNCHANGED else CLEAN


def _heard(found: Iterable[Pair]) -> Iterator[Pair]:
    """The same, what is wrong with each told before it."""
    for pair in found:
        for side in (pair.before, pair.after):
            if side is not None:
                print_faults(side, warnings=False)
        yield pair


def _told(found: Iterable[Pair]) -> list[Pair]:
    return [pair for pair in found if pair.status not in ("same text", "broken as before")]


# --- for people ------------------------------------------------------------------------------------------------------


def _human(found: Iterable[Pair]) -> Iterator[Pair]:
    """Each pair is shown as it comes, while others are still compared."""
    seen = []
    for pair in found:
        seen.append(pair)
        if _told([pair]):
            _show_pair(pair)
        yield pair
    if len(seen) != 1 or not _told(seen):
        say(rows.summary(seen), "bold")


def _show_pair(pair: Pair) -> None:
    if pair.status == "same model":
        say(f"{rows.title(pair)}: same model")
        return
    word = "" if pair.status == "changed" else f" ({pair.status})"
    say(f"{rows.title(pair)}{word}", "bold")
    for line in rows.settings(pair.recipe):
        say(line)
    for change in pair.changes:
        if not change.is_same:
            _show_change(change)
    say()


def _show_change(change: Change) -> None:
    if change.name:
        say(f"\n@{change.name}{_stands_alone(change)}")
    for line in rows.base(change):
        say(line)
    say()
    for heading, table in rows.changes(change):
        if heading:
            say(heading)
        _show(table)
        say()
    if change.diff is not None and change.diff.same_model:
        say("same model")
    if change.moves:
        _show(rows.measures(change))
    for number, line in enumerate(rows.others(change)):
        say(("\n" if number == 0 else "") + line)


def _stands_alone(change: Change) -> str:
    if change.before is None:
        return " (added)"
    return " (removed)" if change.after is None else ""


def _show(table: Table) -> None:
    show_table(table.columns, table.rows, right=table.right)


# --- for pages -------------------------------------------------------------------------------------------------------


def _markdown(found: list[Pair]) -> None:
    for pair in _told(found):
        print("\n".join([f"### {in_code(rows.title(pair))}", "", *_page(pair)]))
    if len(found) != 1 or not _told(found):
        print(rows.summary(found))


def _github(found: list[Pair]) -> None:
    """What stands in a pull request: a table of all specs, each one's lines folded below, as far as there is room."""
    print(f"**{rows.summary(found)}**\n")
    told = [pair for pair in _told(found) if pair.status != "same model"]
    if not told:
        return
    lines = [_overview(pair, change) for pair in told for change in _changes(pair)]
    columns = ("spec", "", "parameters before", "after", "difference", "%")
    table = _marked(Table(columns, tuple(lines), frozenset(columns[2:])))
    pages = (
        "\n".join([f"<details><summary>{in_html(rows.title(pair))}</summary>\n", *_page(pair), "</details>\n"])
        for pair in told
    )
    room = _print_fitting(table, MOST_BYTES // 2, "lines")
    _print_fitting(list(pages), MOST_BYTES // 2 + room, "specs")


def _print_fitting(parts: Sequence[str], room: int, what: str) -> int:
    """Print what fits into so many bytes, and how many parts are left out; returns the bytes that remain."""
    for number, part in enumerate(parts):
        room -= len(part.encode()) + 1
        if room < 0:
            print(f"\n… and {len(parts) - number:,} {what} more: `ablc diff` shows all of them\n")
            return 0
        print(part)
    return room


def _overview(pair: Pair, change: Change | None) -> tuple[str, ...]:
    if change is None:
        return in_code(rows.title(pair)), pair.status, "", "", "", ""
    name = rows.title(pair) + (f" @{change.name}" if change.name else "")
    word = f"{pair.status}, **a claim {change.fails}**" if change.fails else pair.status
    return in_code(name), word, *rows.compared(*change.measures["params"])


def _page(pair: Pair) -> list[str]:
    if pair.status in ("same model", "broken"):
        said = [f"- {in_text(fault.message)}" for fault in _errors(pair)]
        lines = ["same model", ""] if pair.status == "same model" else [*said, ""]
    else:
        lines = [] if pair.status == "changed" else [pair.status, ""]
    if said := [f"- {in_text(one)}" for one in rows.settings(pair.recipe)]:
        lines += [*said, ""]
    for change in pair.changes:
        if not change.is_same:
            lines += _change_page(change)
    return lines


def _change_page(change: Change) -> list[str]:
    lines = [f"{in_code(f'@{change.name}')}{_stands_alone(change)}", ""] if change.name else []
    for line in rows.base(change):
        lines += [in_text(line), ""]
    for heading, table in rows.changes(change):
        lines += [in_text(heading), ""] if heading else []
        lines += _table(table)
    if change.moves:
        lines += _table(rows.measures(change))
    said = [f"- {in_text(line)}" for line in rows.others(change)]
    return [*lines, *said, ""] if said else lines


def _changes(pair: Pair) -> Sequence[Change | None]:
    """At least one for each pair: a recipe, or what is broken, has no model."""
    return pair.changes or [None]


def _table(table: Table) -> list[str]:
    return _marked(Table(table.columns, tuple(tuple(map(in_text, row)) for row in table.rows), table.right))


def _marked(table: Table) -> list[str]:
    """A table whose cells are Markdown already."""
    rule = ["--:" if column in table.right else "---" for column in table.columns]
    return [f"| {' | '.join(cells)} |" for cells in (table.columns, rule, *table.rows)] + [""]


def _errors(pair: Pair) -> list[Fault]:
    faults = [fault for side in (pair.before, pair.after) if side is not None for fault in side.faults]
    return [fault for fault in faults if fault.level == "error"]


# --- for machines ----------------------------------------------------------------------------------------------------


def _json(found: list[Pair]) -> None:
    entries = [entry for pair in _told(found) for entry in _entries(pair)]
    print(json.dumps({"format_version": "1.0", "pairs": entries}, indent=2, ensure_ascii=False))


def _entries(pair: Pair) -> Iterable[dict[str, Any]]:
    before, after = pair.names
    same = {"before": before, "after": after, "status": pair.status}
    errors = [
        {"code": fault.code, "message": fault.message, "place": str(fault.span) if fault.span else None}
        for fault in _errors(pair)
    ]
    for change in _changes(pair):
        yield {
            **same,
            "variant": (change.name or None) if change else None,
            "measures": _both(change.measures) if change else {},
            "recipe": _both(change.recipe if change else pair.recipe),
            "claims": _claims(change) if change else [],
            "difference": change.diff.to_json() if change and change.diff else None,
            "errors": errors,
        }


def _both(values: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    return {name: {"before": before, "after": after} for name, (before, after) in values.items()}


def _claims(change: Change) -> list[dict[str, Any]]:
    def said(verdict: Any) -> dict[str, Any] | None:
        return None if verdict is None else {"text": verdict.claim.text, "holds": verdict.holds}

    return [{"before": said(c.before), "after": said(c.after), "word": c.word} for c in change.claims]
