"""What all commands share: finding specs, compiling them, and writing faults and tables.

Colour and boxes go to a terminal only; what is piped is plain, never cut, and respects NO_COLOR as rich does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablc.faults import Fault, UserError, one_line, render, visible
from ablc.language.read import from_text, specs_in
from ablc.pipeline import Compiled, compile_file, compile_source

CLEAN, FINDINGS, INVALID, INTERRUPTED = 0, 1, 2, 130
MOST_FAULTS = 50  # of one file; a thousand messages help nobody

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ablc.spec import Spec


def is_terminal() -> bool:
    return sys.stdout.isatty()


def say(text: str = "", style: str = "") -> None:
    """One line of output, styled on a terminal."""
    if is_terminal():
        terminal().print(visible(text), style=style, markup=False)
    else:
        print(visible(text), flush=True)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> None:
    """A table with a line under its head on a terminal; elsewhere plain columns that nothing cuts or folds."""
    if is_terminal():
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, justify="right" if column in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(one_line, row))
        terminal().print(table, markup=False)
        return
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        print("  ".join(cells).rstrip())


def terminal(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def compile_all(specs: list[str], texts: list[str], model: str | None) -> Iterator[Compiled]:
    """Compile every file, folder and text that a command was given, one at a time."""
    for name in specs:
        if name:
            yield from (compile_file(file, model=model) for file in files_of(Path(name)))
        else:  # a shell's unset variable, and not this folder
            yield Compiled(name, (), (Fault("cannot-read", "the name of a spec is empty"),))
    for text in texts:
        faults: list[Fault] = []
        source = from_text(text, "-e", faults)
        yield Compiled("-e", (), tuple(faults)) if source is None else compile_source(source, model=model)


def one_spec(path: str) -> Spec | None:
    """The spec of a file, or of one variant of it; None where there isn't exactly one, which is told."""
    compiled = compile_file(Path(path), claims=False)
    print_faults(compiled)
    specs = [planned.spec for planned in compiled.variants]
    if len(specs) > 1:
        names = ", ".join(f"{path}@{spec.variant}" for spec in specs[:6]) + (", …" if len(specs) > 6 else "")
        print_fault(Fault("is-a-family", f"{path} is a family of {len(specs)} variants", help=f"name one: {names}"))
        return None
    return specs[0] if specs else None


def nothing_given(specs: list[str], texts: list[str]) -> bool:
    if specs or texts:
        return False
    print_fault(Fault("no-spec", "no spec is given", help="name files, or write one: -e 'attention[3:] = lora(8)'"))
    return True


def files_of(path: Path) -> list[Path]:
    """A file, or the specs in a folder."""
    try:
        return specs_in(path) or [path] if path.is_dir() else [path]
    except (OSError, ValueError):
        return [path]  # reading it will say what is wrong


def print_faults(compiled: Compiled, *, warnings: bool = True) -> None:
    """Write a file's faults to stderr, errors and warnings in the order of their places."""
    faults = [fault for fault in compiled.faults if warnings or fault.level == "error"]
    if any(fault.level == "warning" for fault in faults):  # then comments may allow some
        from ablc.checking import not_allowed

        faults = not_allowed(faults)
    for fault in faults[:MOST_FAULTS]:
        print_fault(fault)
    if len(faults) > MOST_FAULTS:
        print(f"… and {len(faults) - MOST_FAULTS} more in {compiled.file}\n", file=sys.stderr)


def print_fault(fault: Fault) -> None:
    text = render(fault) + "\n"
    if not sys.stderr.isatty():
        print(text, file=sys.stderr)
        return
    from rich.text import Text

    shown = Text(text)
    colour = "bold red" if fault.level == "error" else "bold yellow"
    _colour_spec(shown, fault)
    shown.highlight_regex(r"^(error|warning)\[[^]]+\]", colour)
    shown.highlight_regex(r"\^+", colour)
    shown.highlight_regex(r"(?m)^ +(help|note):", "bold cyan")
    terminal(stderr=True).print(shown)


def _colour_spec(shown: Text, fault: Fault) -> None:
    """Colours the lines of specs in a rendered fault; one that is cut, and so begins anywhere, stays as it is."""
    from ablc.language.highlight import styled_lines

    spans = [span for span in (fault.span, *(span for span, _ in fault.related)) if span is not None]
    for span, line in zip(spans, re.finditer(r"(?m)^\d+ \| (.*)$", shown.plain), strict=False):
        if line[1] != visible(span.source.line(span.line)):
            continue
        place = line.start(1)
        for style, text in styled_lines(span.source.text)[span.line - 1]:
            shown.stylize(style, place, place + len(text))
            place += len(text)


def answer(command: Callable[[], int]) -> int:
    """The exit code of a command; what its user can mend is told."""
    try:
        return command()
    except UserError as error:
        for fault in error.faults:
            print_fault(fault)
    return INVALID


def exit_code(compiled: Iterable[Compiled], findings: bool) -> int:
    if any(not one.ok for one in compiled):
        return INVALID
    return FINDINGS if findings else CLEAN
