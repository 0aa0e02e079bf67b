"""`ablc fmt`."""

from __future__ import annotations

import difflib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ablc.cache import CannotWrite, replace_file
from ablc.cli.output import (
    CLEAN,
    FINDINGS,
    INVALID,
    files_of,
    is_terminal,
    plural,
    print_fault,
    print_faults,
    say,
    terminal,
)
from ablc.faults import Fault, Source, Span, one_line, reason_of, visible
from ablc.language.formatting import difference, formatted
from ablc.language.parse import parse
from ablc.language.read import MAX_BYTES, decode, read
from ablc.pipeline import Compiled

STDIN = "-"
_BOM = b"\xef\xbb\xbf"
_STYLES = {"---": "bold", "+++": "bold", "@@": "cyan", "-": "red", "+": "green"}


@dataclass(frozen=True)
class _Found:
    """What stands in a file: its bytes, and the text that they spell."""

    data: bytes
    source: Source


@dataclass(frozen=True)
class _Formatted:
    """A file before and after; `name` is as it was given, `-` for stdin."""

    name: str
    before: bytes
    after: bytes

    @property
    def is_canonical(self) -> bool:
        return self.before == self.after


def fmt_command(names: list[str], check: bool, diff: bool) -> int:
    """Give files canonical text, or tell which ones haven't got it."""
    if not names:
        print_fault(Fault("no-spec", "no spec is given", help="name files or folders, or `-` to read stdin"))
        return INVALID
    if STDIN in names and len(set(names)) > 1:  # its text goes to stdout, where the names of files stand
        print_fault(Fault("stdin-and-files", "`-` is stdin, and can't stand beside files", help="use two commands"))
        return INVALID
    deal = _show_diff if diff else _list if check else _write
    counted = Counter(_deal_with(file, deal) for file in dict.fromkeys(_files(names)))
    if not diff and STDIN not in names:
        _sum_up(counted, check)
    if counted["failed"]:
        return INVALID
    return FINDINGS if counted["changed"] and (check or diff) else CLEAN


def _files(names: list[str]) -> Iterator[str]:
    """Every file once that arguments name; a folder stands for the specs in it."""
    for name in names:
        # nothing at all is a shell's unset variable, and not this folder; reading it will say so
        yield from map(str, files_of(Path(name))) if name and name != STDIN else [name]


def _deal_with(file: str, deal: Callable[[_Formatted], None]) -> str:
    """What becomes of one file: `canonical` already, `changed` (or it would be), or `failed`, which is told."""
    faults: list[Fault] = []
    found = _read(file, faults)
    after = _canonical(found, faults) if found is not None else None
    if found is not None and after is not None:
        result = _Formatted(file, found.data, after)
        try:
            if not result.is_canonical or file == STDIN:
                deal(result)
            return "canonical" if result.is_canonical else "changed"
        except CannotWrite as error:
            faults += error.faults
    faults.sort(key=lambda fault: fault.span.start if fault.span is not None else 0)
    print_faults(Compiled(_shown(file), (), tuple(faults)))
    return "failed"


# --- from bytes to bytes ---------------------------------------------------------------------------------------------


def _read(file: str, faults: list[Fault]) -> _Found | None:
    """The bytes of a file and its text; None where it can't be a spec, which is a fault."""
    if not file:
        faults.append(Fault("cannot-read", "the name of a spec is empty"))
        return None
    path = Path(file)
    if file != STDIN and read(path, faults) is None:
        return None
    try:
        data = _stdin() if file == STDIN else path.read_bytes()
    except OSError as error:
        faults.append(Fault("cannot-read", f"{_shown(file)} can't be read: {reason_of(error)}"))
        return None
    source = decode(data, _shown(file), faults, folder=path.parent)
    return None if source is None else _Found(data, source)


def _stdin() -> bytes:
    if sys.stdin is None:
        raise OSError("it is closed")
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def _canonical(found: _Found, faults: list[Fault]) -> bytes | None:
    """The bytes of the canonical text, proven to say the same; None where there is none, which is a fault."""
    file = parse(found.source, faults)
    if faults:
        return None
    after = _spelled(formatted(file), found.data)
    if after == found.data:
        return after
    broken: list[Fault] = []
    source = decode(after, found.source.name, broken)
    again = parse(source, broken) if source is not None else None
    place = difference(file, again) if again is not None else None
    if not broken and place is None:
        return after
    message = f"the canonical text of {found.source.name} would say something else, so the file stays as it is"
    # what is near a limit of the language may be beyond it when it is broken into lines
    help = f"it would be refused: {broken[0].message}" if broken else "this is a mistake of ablc: report it"
    faults.append(Fault("fmt-would-change", message, place or Span(found.source, 0, 0), help))
    return None


def _spelled(text: str, like: bytes) -> bytes:
    """A text as bytes with a byte order mark where the file has one, its lines ending as the file's first line does."""
    first, ends, _ = like.partition(b"\n")
    if ends and first.endswith(b"\r"):
        text = text.replace("\n", "\r\n")
    return (_BOM if like.startswith(_BOM) else b"") + text.encode()


# --- what is done with it --------------------------------------------------------------------------------------------


def _write(result: _Formatted) -> None:
    """Replace a file's text; through a link, that of the file it leads to. Stdin's goes to stdout."""
    if result.name == STDIN:
        sys.stdout.buffer.write(result.after)
        sys.stdout.buffer.flush()
        return
    replace_file(Path(result.name), result.after)
    say(f"formatted {one_line(result.name)}")


def _list(result: _Formatted) -> None:
    if not result.is_canonical:
        say(f"would format {one_line(_shown(result.name))}")


def _show_diff(result: _Formatted) -> None:
    """A unified diff: for a terminal in colour, elsewhere byte by byte what `patch -p0` understands."""
    name = one_line(_shown(result.name))
    before, after = (_file_lines(data) for data in (result.before, result.after))
    for line in difflib.unified_diff(before, after, name, name):
        ended = line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        if is_terminal():
            _show_coloured(ended)
        else:
            sys.stdout.write(ended)


def _file_lines(data: bytes) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", data.decode())


def _show_coloured(line: str) -> None:
    style = next((style for begin, style in _STYLES.items() if line.startswith(begin)), "")
    for text in line.rstrip("\n").split("\n"):
        terminal().print(visible(text.rstrip("\r")), style=style, markup=False, soft_wrap=True)


def _sum_up(counted: Counter[str], check: bool) -> None:
    words = {"changed": "would be formatted" if check else "formatted", "canonical": "already canonical"}
    parts = [f"{counted[kind]:,} {words.get(kind, kind)}" for kind in ("changed", "canonical", "failed")]
    parts = [part for part in parts if not part.startswith("0 ")]
    say(f"{plural(counted.total(), 'file')}: {', '.join(parts)}", "bold")


def _shown(name: str) -> str:
    return "stdin" if name == STDIN else name
