"""Takes out of files what changes nothing: `ablc check --fix`.

What may go is what a warning says has no effect; whether it has none is then seen by compiling the file without it:
every variant must be the same model, with the same recipe and claims. Nothing but those statements is touched: no
layout, no line ending."""

from __future__ import annotations

import bisect
import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablc.cache import CannotWrite, replace_file
from ablc.checking import check
from ablc.faults import Fault, Source, Span, reason_of
from ablc.language import tree
from ablc.language.parse import parse
from ablc.language.read import decode, identity, specs_in
from ablc.language.tree import Statement
from ablc.lints import lints
from ablc.pipeline import Compiled, compile_file, compile_source

# Warnings of the planner that may mean a statement without effect.
_PLANNERS = ("erased", "frozen-nothing")
_MARK = b"\xef\xbb\xbf"
_STRING = re.compile(r'"[^"\n]*"')


@dataclass(frozen=True)
class Removal:
    """What is taken out of a text: characters `start` to `end`, for the warning `fault`."""

    start: int
    end: int
    fault: Fault


@dataclass(frozen=True)
class Mended:
    """A file before and after, with the line endings that it has. `left` are warnings about what changes nothing but
    has a comment of its own: whether the comment goes too is for a person to say. Where there is an `extender`, the
    file stays as it is: what has no effect in it may have one there."""

    path: Path
    before: str
    after: str
    removed: tuple[Fault, ...]
    left: tuple[Fault, ...]
    extender: Path | None = None


def mend(path: Path, model: str | None = None) -> Mended | None:
    """A file with what changes nothing taken out; None where it doesn't compile, or nothing can be done."""
    compiled = compile_file(path, model=model)
    if not compiled.variants:
        return None
    before = _read(path)
    text, removed = before, list[Fault]()
    while True:
        wanted, left = _wanted(compiled)
        done = _taken_out(path, model, text, wanted, compiled)
        if done is None:
            break
        text, compiled, some = done
        removed += some
    if removed and (other := _extender(path)) is not None:
        return Mended(path, before, before, (), (), other)
    return Mended(path, before, text, tuple(removed), left) if removed or left else None


def write(mended: Mended) -> None:
    """Put the new text where the old one is, in one step, with the permissions that it has. What has changed since it
    was read isn't overwritten.

    Raises:
        CannotWrite: the file can't be replaced, or is no longer what was mended.
    """
    if _read(mended.path) != mended.before:
        raise CannotWrite(f"{mended.path} has changed while it was being mended", "run the command again")
    mark = _MARK if mended.path.read_bytes().startswith(_MARK) else b""
    replace_file(mended.path, mark + mended.after.encode())


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CannotWrite(f"{path} can't be read: {reason_of(error)}") from error


def _extender(path: Path) -> Path | None:
    """A spec that extends a file, looked for from the top of its repository on, else in its folder; None where there
    is none."""
    own = identity(path)
    top = next((folder for folder in own.parents if (folder / ".git").exists()), own.parent)
    for other in specs_in(top):
        with contextlib.suppress(OSError):
            data = other.read_bytes()
            if b"extends" not in data:
                continue
            source = decode(data, str(other), [], folder=other.parent)
            said = parse(source, []).statements if source is not None else ()
            named = (one.node.path.value for one in said if isinstance(one.node, tree.Extends))
            if any(identity(other.parent / name) == own for name in named):
                return other
    return None


# --- what to take out ------------------------------------------------------------------------------------------------


def _wanted(compiled: Compiled) -> tuple[list[Removal], tuple[Fault, ...]]:
    """What could be taken out, in text order, and the warnings that are left because a comment is about them."""
    (checked,) = check([compiled])
    spec = compiled.variants[0].spec
    source = Source(spec.file, spec.sources[spec.file])
    codes = {*_PLANNERS, *(lint.code for lint in lints() if lint.mend)}
    faults = [f for f in checked.faults if f.code in codes and f.span is not None and f.span.source == source]
    statements = parse(source, []).statements
    removals: list[Removal] = []
    left: list[Fault] = []
    for number, statement in enumerate(statements):
        place = statement.span()
        here = [f for f in faults if f.span is not None and place.start <= f.span.start < place.end]
        if here and _has_comment(place):
            left += here
        elif here:
            removals += _of_statement(statements, number, here)
    return removals, tuple(left)


def _of_statement(statements: Sequence[Statement], number: int, faults: Sequence[Fault]) -> Iterator[Removal]:
    """A statement, or those of its targets that are told."""
    statement = statements[number]
    node = statement.node
    targets = [statement.span(target) for target in node.targets] if isinstance(node, tree.Assign | tree.Freeze) else []
    spans = {fault.span for fault in faults}
    if statement.span() in spans or all(target in spans for target in targets):
        yield _line_removal(statements, number, faults[0])
        return
    for place, target in enumerate(targets):
        if target in spans:
            fault = next(fault for fault in faults if fault.span == target)
            behind = any(earlier not in spans for earlier in targets[:place])
            start, end = (targets[place - 1].end, target.end) if behind else (target.start, targets[place + 1].start)
            yield Removal(start, end, fault)


def _line_removal(statements: Sequence[Statement], number: int, fault: Fault) -> Removal:
    """A statement with its line, or with the `;` that parts it from its neighbour."""
    span = statements[number].span()
    text = span.source.text
    start, end = text.rfind("\n", 0, span.start) + 1, text.find("\n", span.end)
    end = len(text) if end < 0 else end
    if not text[start : span.start].strip() and not text[span.end : end].strip(" \t;"):
        return Removal(*_with_blank(text, start, min(end + 1, len(text))), fault)
    if number + 1 < len(statements) and statements[number + 1].offset < end:
        return Removal(span.start, statements[number + 1].offset, fault)
    return Removal(statements[number - 1].span().end, span.end, fault)


def _with_blank(text: str, start: int, end: int) -> tuple[int, int]:
    """Lines that are taken out, with one of the two blank lines that would meet where they were."""
    after = text.find("\n", end)
    blank_before = start == 0 or text[:start].endswith("\n\n")
    if blank_before and after >= 0 and not text[end:after].strip():
        return start, after + 1
    return start, end


def _has_comment(span: Span) -> bool:
    """Whether a comment stands behind a statement, inside it, or right above it."""
    text = span.source.text
    start, end = text.rfind("\n", 0, span.start) + 1, text.find("\n", span.end)
    lines = _STRING.sub("", text[span.start : len(text) if end < 0 else end])
    above = text[:start].rstrip("\n") if not text[:start].endswith("\n\n") else ""
    return "#" in lines or above.rpartition("\n")[2].lstrip().startswith("#")


# --- taking it out ---------------------------------------------------------------------------------------------------


def _taken_out(
    path: Path, model: str | None, text: str, wanted: Sequence[Removal], before: Compiled
) -> tuple[str, Compiled, list[Fault]] | None:
    """The text without as much as can go, all at once or else one after the other; None where nothing can."""
    without = _without(text, wanted)
    at_once = _compiled_as(path, model, without, before) if wanted else None
    if at_once is not None:
        return without, at_once, [one.fault for one in wanted]
    compiled, removed = before, list[Fault]()
    for removal in reversed(wanted):  # from the end, so that the places of the others stay what they are
        without = _without(text, [removal])
        after = _compiled_as(path, model, without, before)
        if after is not None:
            text, compiled = without, after
            removed.append(removal.fault)
    return (text, compiled, removed[::-1]) if removed else None


def _without(text: str, removals: Sequence[Removal]) -> str:
    """A text without some of its characters, counted as the compiler does: CR LF is one."""
    ends = [match.start() - number for number, match in enumerate(re.finditer("\r\n", text))]
    for removal in sorted(removals, key=lambda one: one.start, reverse=True):
        start, end = (place + bisect.bisect_left(ends, place) for place in (removal.start, removal.end))
        text = text[:start] + text[end:]
    return text


def _compiled_as(path: Path, model: str | None, text: str, before: Compiled) -> Compiled | None:
    """What a text compiles to, if that is in every respect what stood there before."""
    after = compile_source(Source(before.file, text.replace("\r\n", "\n"), path.parent), path, model=model)
    return after if after.ok and _meaning(after) == _meaning(before) else None


def _meaning(compiled: Compiled) -> list[Any]:
    return [
        (
            planned.spec.full_name,
            planned.spec.about,
            planned.plan.fingerprint,
            planned.spec.train,
            [(verdict.claim.text, verdict.holds) for verdict in planned.verdicts],
        )
        for planned in compiled.variants
    ]
