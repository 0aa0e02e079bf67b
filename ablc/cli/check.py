"""`ablc check`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablc.checking import Checked, check
from ablc.checking.mend import Mended, mend, write
from ablc.cli.findings import as_annotation, as_json
from ablc.cli.output import (
    CLEAN,
    FINDINGS,
    INVALID,
    compile_all,
    nothing_given,
    plural,
    print_fault,
    print_faults,
    say,
)
from ablc.faults import Fault
from ablc.language.read import is_file, shown
from ablc.pipeline import Compiled


@dataclass(frozen=True)
class CheckOptions:
    """`fix` mends what can be mended, `diff` only shows it; with `strict` a warning fails too."""

    format: str = "human"
    strict: bool = False
    fix: bool = False
    diff: bool = False


def check_command(specs: list[str], texts: list[str], model: str | None, options: CheckOptions) -> int:
    """Tell every error, warning and failed claim; mend first where that is asked for."""
    if nothing_given(specs, texts):
        return INVALID
    compiled = list(compile_all(specs, texts, model))
    mended = _mended(compiled, model) if options.fix or options.diff else []
    if options.fix and not options.diff:
        for one in mended:
            if one.removed:
                write(one)
        if any(one.removed for one in mended):
            compiled = list(compile_all(specs, texts, model))
    checked = check(compiled)
    _show(checked, mended, options)
    would_change = options.diff and any(one.removed for one in mended)
    return max(_exit_code(checked, options.strict), FINDINGS if would_change else CLEAN)


def _exit_code(checked: Sequence[Checked], strict: bool) -> int:
    if any(not one.compiled.ok for one in checked):
        return INVALID
    return FINDINGS if any(one.failed or (strict and one.faults) for one in checked) else CLEAN


def _show(checked: Sequence[Checked], mended: Sequence[Mended], options: CheckOptions) -> None:
    if options.format == "json":
        done = [{"file": str(m.path), "code": f.code, "line": _line(f)} for m in mended for f in m.removed]
        print(as_json([fault for one in checked for fault in one.told], done))
        return
    if options.format == "github":
        for one in checked:
            for fault in one.told:
                print(as_annotation(fault))
        return
    _show_mended(mended, options)
    for one in checked:
        print_faults(replace(one.compiled, faults=one.faults))
        for fault in one.failed:
            print_fault(fault)
    found = [fault for one in checked for fault in one.faults]
    errors, warnings = (sum(fault.level == level for fault in found) for level in ("error", "warning"))
    failed = sum(len(one.failed) for one in checked)
    counted = [plural(errors, "error"), plural(warnings, "warning"), plural(failed, "failed claim")]
    say(f"{plural(len(checked), 'file')}: {', '.join(counted)}", "bold")


# --- mending ---------------------------------------------------------------------------------------------------------


def _mended(compiled: Sequence[Compiled], model: str | None) -> list[Mended]:
    """What can be mended in the files among what was given."""
    files = dict.fromkeys(Path(one.file) for one in compiled if one.ok and is_file(Path(one.file)))
    return [done for file in files if (done := mend(file, model)) is not None]


def _show_mended(mended: Sequence[Mended], options: CheckOptions) -> None:
    for one in mended:
        if one.extender is not None:
            say(f"{one.path}: left as it is, since {shown(one.extender)} extends it")
        if options.diff and one.removed:
            sys.stdout.write(_difference(one))
        elif one.removed:
            for fault in one.removed:
                say(f"{one.path}:{_line(fault)}: took out `{_text(fault)}` ({fault.code})")
        for fault in one.left:
            say(f"{one.path}: left `{_text(fault)}`: what becomes of its comment is yours to say")


def _difference(one: Mended) -> str:
    before, after = (text.splitlines(keepends=True) for text in (one.before, one.after))
    lines = difflib.unified_diff(before, after, str(one.path), str(one.path))
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _line(fault: Fault) -> int:
    return fault.span.line if fault.span is not None else 1


def _text(fault: Fault) -> str:
    return " ".join(fault.span.text.split()) if fault.span is not None else ""
