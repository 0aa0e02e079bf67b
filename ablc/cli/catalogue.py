"""`ablc ops`, `ablc slots` and `ablc models`: what exists, from the code that makes it."""

from __future__ import annotations

import textwrap

from ablc.bases import builtin
from ablc.blueprint import Blueprint, describe
from ablc.blueprint.measures import params, slot_params
from ablc.blueprint.slots import slots_of
from ablc.cli.output import CLEAN, plural, say, show_table
from ablc.faults import Fault, Source, SpecError, did_you_mean
from ablc.ops import operation, operations
from ablc.pipeline import compile_source
from ablc.planning.places import fitting, standing

EXAMPLE_BASE = "EleutherAI/pythia-410m"


def ops_command(names: list[str]) -> int:
    """What each operation does, where it may stand, how it is written in Python."""
    for name in names:
        if name not in operations():
            help = did_you_mean(name, operations(), "operations")
            raise SpecError([Fault("unknown-operation", f"there is no operation `{name}`", help=help)])
    base = _base(EXAMPLE_BASE)
    for name in names or operations():
        op = operation(name)
        text, _, example = op.doc.partition("\n\n")
        say(op.signature(), "bold")
        say(textwrap.indent(textwrap.fill(" ".join(text.split()), 96), "  "))
        places = [slot for slot in slots_of(base).names if name in fitting(base, slot)]
        say(textwrap.indent(textwrap.fill(f"stands in: {', '.join(places)}", 96), "  "))
        say(f"  written: {_written(name, places)}")
        say(textwrap.indent(example.strip(), "  ") + "\n")
    return CLEAN


def slots_command(model: str) -> int:
    """The slots of a base model: what stands there, how much it holds, what may stand there instead."""
    base = _base(model)
    rows = []
    for slot in slots_of(base).names:
        layers = "" if slot in slots_of(base).single else f"{len(base.layers)}"
        stands = "; ".join(dict.fromkeys(describe(node) for node in standing(base, slot)))
        others = [name for name in fitting(base, slot) if name != "full"]
        rows.append((slot, stands, layers, f"{slot_params(base, slot):,}", ", ".join(others)))
    say(f"{model}: {base.family}, {params(base):,} parameters, {plural(len(base.layers), 'layer')}\n", "bold")
    show_table(
        ("slot", "what stands there", "layers", "parameters", "operations"), rows, right=("layers", "parameters")
    )
    example = f"\nablc plan -m {model} -e 'mlp[{len(base.layers) // 2}:] = lora_mlp(16); attention.norm[0] = none'"
    say(example)
    return CLEAN


def models_command() -> int:
    """The base models whose configs ship with ablc."""
    rows = []
    for name, config in builtin().items():
        base = _base(name)
        width, depth = base.config["hidden_size"], len(base.layers)
        rows.append((name, config["model_type"], f"{params(base):,}", str(depth), f"{width:,}"))
    show_table(("model", "family", "parameters", "layers", "width"), rows, right=("parameters", "layers", "width"))
    say("\nAny other model of these families works by its hub id, or as a directory with a config.json.")
    say(f"ablc slots {EXAMPLE_BASE}")
    return CLEAN


def _base(model: str) -> Blueprint:
    """The untouched base. Raises SpecError."""
    compiled = compile_source(Source("model", ""), model=model)
    if not compiled.ok:
        raise SpecError(compiled.faults)
    return compiled.variants[0].plan.original


def _written(name: str, places: list[str]) -> str:
    """A statement with it, in the slot that it is most often for."""
    place = next((slot for slot in ("mlp", "attention.qkv") if slot in places), places[0])
    ranks = [parameter.name for parameter in operation(name).parameters if parameter.required]
    return f"{place}[12:] = {name}" + (f"({', '.join('16' for _ in ranks)})" if ranks else "")
