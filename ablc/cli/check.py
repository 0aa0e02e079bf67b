"""`ablc check`."""

from __future__ import annotations

from ablc.cli.output import INVALID, compile_all, exit_code, nothing_given, plural, print_fault, print_faults, say
from ablc.planning.verdicts import failure


def check_command(specs: list[str], texts: list[str], model: str | None) -> int:
    """Tell every error, warning and failed claim."""
    if nothing_given(specs, texts):
        return INVALID
    compiled = list(compile_all(specs, texts, model))
    failed = 0
    for one in compiled:
        print_faults(one)
        for planned in one.variants:
            for verdict in planned.verdicts:
                if verdict.holds is False:
                    failed += 1
                    print_fault(failure(verdict, planned.spec.variant))
    errors, warnings = (sum(f.level == level for one in compiled for f in one.faults) for level in ("error", "warning"))
    counted = [plural(errors, "error"), plural(warnings, "warning"), plural(failed, "failed claim")]
    say(f"{plural(len(compiled), 'file')}: {', '.join(counted)}", "bold")
    return exit_code(compiled, bool(failed))
