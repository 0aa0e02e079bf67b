"""`ablc plan`."""

from __future__ import annotations

import json

from ablc.blueprint.measures import (
    flops_per_token,
    kv_bytes_per_token,
    optimizer_bytes,
    params,
    trainable,
    weight_bytes,
)
from ablc.cli.output import INVALID, compile_all, exit_code, nothing_given, print_fault, print_faults, say, show_table
from ablc.pipeline import Planned
from ablc.planning import Change, Plan
from ablc.planning.counting import Count, count
from ablc.planning.verdicts import failure
from ablc.spec.values import show_layers


def plan_command(specs: list[str], texts: list[str], model: str | None, format: str, length: int, layers: bool) -> int:
    """Show what every spec changes, or print the plans as JSON."""
    if nothing_given(specs, texts):
        return INVALID
    compiled = list(compile_all(specs, texts, model))
    for one in compiled:
        print_faults(one, warnings=format == "human")
    variants = [planned for one in compiled for planned in one.variants]
    if format == "json":
        plans = [planned.plan.to_json() for planned in variants]
        print(json.dumps({"format_version": "1.0", "plans": plans}, ensure_ascii=False))
    else:
        for planned in variants:
            _show(planned, length, layers)
    failed = [v for planned in variants for v in planned.verdicts if v.holds is False]
    return exit_code(compiled, bool(failed))


def _show(planned: Planned, length: int, layers: bool) -> None:
    plan = planned.plan
    say(plan.name, "bold")
    say(f"base {plan.model} · fingerprint {plan.fingerprint[:12]}\n")
    if plan.changes:
        _show_changes(plan)
    else:
        say("no changes: this is the base model")
    for change in plan.changes:
        for erased in change.erased:
            say(f"line {change.line} erased {erased}", "yellow")
    say()
    _show_totals(plan, length)
    counted = count(plan, length)
    if counted.unread:
        say(f"{counted.unread:,} parameters are counted, but nothing reads them (the norm of a removed part)")
    if layers:
        say()
        _show_layers(counted, [*count(_base(plan), length).by_layer])
    for verdict in planned.verdicts:
        say(f"{verdict.claim.text}: {verdict.word}")
        if verdict.holds is False:
            print_fault(failure(verdict, planned.spec.variant))
    say()


def _show_changes(plan: Plan) -> None:
    rows = []
    for change in plan.changes:
        layers = show_layers(change.layers, len(plan.original.layers)) if change.layers is not None else ""
        row = (f"{change.slot}{layers}", f"{change.before} → {change.after}", str(change.matched), _difference(change))
        rows.append((*row, f"{change.file}:{change.line}  {change.statement}"))
    columns = ("slot", "before → after", "modules", "parameters", "statement")
    show_table(columns, rows, right=("modules", "parameters"))


def _difference(change: Change) -> str:
    if change.params == change.trainable:
        return f"{change.params:+,}" if change.params else "0"
    return f"{change.trainable:+,} trained"


def _show_totals(plan: Plan, length: int) -> None:
    readings = {
        "parameters": params,
        "trainable": trainable,
        f"forward FLOPs a token, at {length:,} tokens": lambda blueprint: flops_per_token(blueprint, length),
        f"bytes of weights ({plan.original.config['dtype']})": weight_bytes,
        "bytes of AdamW's state (fp32)": optimizer_bytes,
        "bytes of KV cache a token": kv_bytes_per_token,
    }
    rows = []
    for name, reading in readings.items():
        before, after = reading(plan.original), reading(plan.blueprint)
        change = f"{100 * (after - before) / before:+.2f} %" if after != before else "·"
        rows.append((name, f"{before:,}", f"{after:,}", change))
    show_table(("", "base", "this", "change"), rows, right=("base", "this", "change"))


def _show_layers(counted: Count, base: list[int]) -> None:
    rows = [
        (str(layer), f"{before:,}", f"{after:,}")
        for layer, (before, after) in enumerate(zip(base, counted.by_layer, strict=True))
    ]
    show_table(("layer", "base", "this"), rows, right=("layer", "base", "this"))


def _base(plan: Plan) -> Plan:
    return Plan(plan.name, plan.model, plan.original, plan.original, ())
