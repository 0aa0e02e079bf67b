"""`ablc git`."""

from __future__ import annotations

from pathlib import Path

from ablc.blueprint.measures import params, trainable
from ablc.cli.output import CLEAN, INVALID, print_faults, say
from ablc.pipeline import Planned, compile_file
from ablc.review.git_config import disable, enable
from ablc.spec.values import show_layers


def enable_command(textconv: bool) -> int:
    """Set git up for specs in the repository around here."""
    attributes = enable(Path.cwd(), textconv)
    say("git diff shows above each hunk of a spec which model it is about")
    if textconv:
        say("and compares what specs mean: git diff --no-textconv compares their text")
    say(f"only this clone knows of it ({attributes}); take it back with: ablc git disable")
    return CLEAN


def disable_command() -> int:
    """Take back what `ablc git enable` set."""
    say("git is as it was" if disable(Path.cwd()) else "ablc git enable has set nothing here")
    return CLEAN


def show_command(file: Path) -> int:
    """Print what a spec means, for git to compare; its text where it has none by itself."""
    compiled = compile_file(file, claims=False, name=file.name)
    if compiled.ok and compiled.variants:
        print("\n".join(line for planned in compiled.variants for line in _meaning(planned)))
        return CLEAN
    try:  # git hands over one file alone, without those that it extends
        print(file.read_bytes().decode("utf-8", "replace"), end="")
    except OSError:
        print_faults(compiled)
        return INVALID
    return CLEAN


def _meaning(planned: Planned) -> list[str]:
    plan, spec = planned.plan, planned.spec
    lines = [f"@{spec.variant}"] if spec.variant else []
    lines += [f"base {plan.model}", *(f"base {name} = {value}" for name, value in spec.overrides.items())]
    for change in plan.changes:
        layers = show_layers(change.layers, len(plan.original.layers)) if change.layers is not None else ""
        lines.append(f"{change.slot}{layers}: {change.before} → {change.after}")
    lines += [f"train.{key} = {value}" for key, value in spec.train.items()]
    lines += [f"parameters {params(plan.blueprint):,}", f"trainable {trainable(plan.blueprint):,}"]
    return lines + [claim.text for claim in spec.claims]
