"""`ablc params`."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from ablc.blueprint.measures import flops_per_token, params, trainable
from ablc.cli.output import (
    INVALID,
    compile_all,
    exit_code,
    nothing_given,
    plural,
    print_fault,
    print_faults,
    say,
    show_table,
)
from ablc.pipeline import Compiled, Planned
from ablc.planning.verdicts import Verdict, failure


def params_command(specs: list[str], texts: list[str], model: str | None, format: str, length: int) -> int:
    """Count every spec; an invalid one is told on stderr and the others are still counted."""
    if nothing_given(specs, texts):
        return INVALID
    compiled = list(compile_all(specs, texts, model))
    for one in compiled:
        print_faults(one, warnings=format == "human")
    failed = [(v, p) for one in compiled for p in one.variants for v in p.verdicts if v.holds is False]
    if format == "json":
        entries = [_entry(one, planned, length) for one in compiled for planned in one.variants]
        print(json.dumps({"format_version": "1.0", "specs": entries}, indent=2, ensure_ascii=False))
    else:
        _show(compiled)
        for verdict, planned in failed:
            print_fault(failure(verdict, planned.spec.variant))
    return exit_code(compiled, bool(failed))


def _entry(one: Compiled, planned: Planned, length: int) -> dict[str, Any]:
    blueprint, original = planned.plan.blueprint, planned.plan.original
    return {
        "file": one.file,
        "name": planned.spec.name,
        "variant": planned.spec.variant,
        "model": planned.spec.model,
        "params": params(blueprint),
        "trainable": trainable(blueprint),
        "base_params": params(original),
        "flops_per_token": flops_per_token(blueprint, length),
        "expect": [{"text": v.claim.text, "holds": v.holds, "actual": v.actual} for v in planned.verdicts],
    }


def _show(compiled: list[Compiled]) -> None:
    rows = [_row(one, planned) for one in compiled for planned in one.variants]
    if rows:
        columns = ("file", "name", "base", "parameters", "trainable", "change", "expect")
        show_table(columns, rows, right=("parameters", "trainable", "change"))
    say(_total(compiled), "bold")


def _row(one: Compiled, planned: Planned) -> tuple[str, ...]:
    total, base = params(planned.plan.blueprint), params(planned.plan.original)
    return (
        one.file,
        planned.spec.full_name,
        planned.spec.model,
        f"{total:,}",
        f"{trainable(planned.plan.blueprint):,}",
        f"{100 * (total - base) / base:+.2f} %" if total != base else "·",
        _words(planned.verdicts),
    )


def _words(verdicts: tuple[Verdict, ...]) -> str:
    """How many claims hold, fail, need runs."""
    counted = Counter(verdict.word for verdict in verdicts)
    said = [
        f"{counted['fails']} fail" if counted["fails"] else "",
        f"{counted['holds']} hold" if counted["holds"] else "",
    ]
    if counted["needs runs"]:
        said.append(f"{counted['needs runs']} need runs")
    if len(counted) == 1:
        return verdicts[0].word if len(verdicts) == 1 else f"all {said[0] or said[1] or said[2]}"
    return ", ".join(filter(None, said))


def _total(compiled: list[Compiled]) -> str:
    planned = [p for one in compiled for p in one.variants]
    counted = Counter(verdict.word for p in planned for verdict in p.verdicts)
    invalid = sum(not one.ok for one in compiled)
    parts = [f"{plural(len(planned), 'model')} in {plural(len(compiled), 'file')}"]
    parts += [f"{invalid} invalid"] if invalid else []
    claims = [f"{counted['holds']} hold", f"{counted['fails']} fail", f"{counted['needs runs']} need runs"]
    claims = [text for text in claims if not text.startswith("0 ")]
    return " · ".join([*parts, "claims: " + ", ".join(claims)] if claims else parts)
