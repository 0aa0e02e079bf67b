"""`ablc run`."""

from __future__ import annotations

import gc
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablc.blueprint.measures import params, slot_params, trainable
from ablc.blueprint.slots import slots_of
from ablc.cli.output import CLEAN, FINDINGS, INVALID, print_fault, print_faults, say, show_table
from ablc.faults import Fault, SpecError
from ablc.pipeline import compile_file
from ablc.planning import Plan
from ablc.recipes import load_recipe, make_recipe, parse_setting
from ablc.spec import Spec
from ablc.spec.proxy import ScaleProblem, merged_ranks
from ablc.spec.recipe import Recipe


def run_command(
    path: str,
    recipe: str | None,
    steps: int | None,
    seed: int | None,
    scale: str | None,
    out: Path | None,
    settings: list[str],
    wandb: str,
) -> int:
    """Compile, say what will be trained and how, train, and say what came of it."""
    gc.enable()
    spec, family = _spec(path)
    if spec is None:
        return INVALID
    if wandb not in ("online", "offline", "off"):
        print_fault(Fault("bad-option", f"--wandb is online, offline or off, not {wandb}"))
        return INVALID
    try:
        flags = {"steps": steps, "seed": seed, "scale": scale}
        said = dict(parse_setting(text) for text in settings)
        said |= dict(parse_setting(f"train.{key}={value}") for key, value in flags.items() if value is not None)
        return _run(spec, family, recipe, said, out, wandb)
    except SpecError as error:
        for fault in error.faults:
            print_fault(fault)
    except ScaleProblem as problem:
        print_fault(Fault("bad-scale", problem.message, help=problem.help))
    return INVALID


def _spec(path: str) -> tuple[Spec | None, list[Spec]]:
    """The spec to run, and all variants of its file."""
    compiled = compile_file(Path(path), claims=False)
    print_faults(compiled)
    specs = [planned.spec for planned in compiled.variants]
    if len(specs) > 1:
        names = ", ".join(f"{path}@{spec.variant}" for spec in specs[:6]) + (", …" if len(specs) > 6 else "")
        print_fault(Fault("is-a-family", f"{path} is a family of {len(specs)} variants", help=f"run one: {names}"))
        return None, specs
    if specs and specs[0].variant:
        specs += [p.spec for p in compile_file(Path(path.rpartition("@")[0]), claims=False).variants]
    return (specs[0] if specs else None), specs


def _run(spec: Spec, family: list[Spec], name: str | None, said: dict[str, Any], out: Path | None, wandb: str) -> int:
    say("loading torch and transformers …")
    from ablc.train.data import DataError
    from ablc.train.environment import describe_device, pick_device
    from ablc.train.record import RecordError, new_folder
    from ablc.train.runner import build_model, estimate_seconds, execute, prepare
    from ablc.train.tracking import Tracker

    device = pick_device()
    name, why = (name, "as you chose") if name else _choose_recipe(device.type)
    recipe = make_recipe(load_recipe(name), spec.train, said)
    say(f"recipe {name}: {why}")
    try:
        prepared = prepare(spec, recipe, name, device)
    except DataError as error:
        print_fault(Fault("no-data", error.message, help=error.help))
        return INVALID
    _show_summary(prepared.full)
    _show_training(prepared, family, describe_device(device))
    model = build_model(prepared)
    seconds = estimate_seconds(prepared, model)
    say(f"about {_duration(seconds)} on this machine\n")
    folder = out or new_folder(spec.full_name, name, recipe.seed)
    signal.signal(signal.SIGTERM, _interrupt)
    from ablc.cli.progress import watch

    with watch(prepared.steps) as view:
        try:
            record = execute(prepared, model, folder, Tracker(wandb, view.tell), view)  # type: ignore[arg-type]
        except RecordError as error:
            print_fault(Fault("no-record", error.message, help=error.help))
            return INVALID
        except KeyboardInterrupt:
            view.tell(f"interrupted; what was recorded is in {folder}")
            return 130
        except (MemoryError, OSError, RuntimeError) as error:
            print_fault(_failure(error, folder))
            return FINDINGS
    _show_results(record.facts, folder)
    return CLEAN if record.facts["status"] == "finished" else FINDINGS


def _choose_recipe(device: str) -> tuple[str, str]:
    """`wikitext2` where there is an accelerator and its data can be had, else `local`; and why."""
    from ablc.train.data import reachable

    how = "choose with --recipe wikitext2, wikitext2-log, local, or a file"
    if device == "cpu":
        return "local", f"there is no accelerator here, so a small proxy trains on local data ({how})"
    ok, reason = reachable(str(load_recipe("wikitext2")["data"]))
    if not ok:
        return "local", f"{reason}, so a small proxy trains on local data ({how})"
    return "wikitext2", f"an accelerator is here and its data can be had ({how})"


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _failure(error: BaseException, folder: Path) -> Fault:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        help = "lower train.batch_size (with train.accumulation higher), or choose a smaller --scale"
        return Fault("out-of-memory", f"out of memory; the record in {folder} ends here", help=help)
    return Fault("run-failed", f"{text}; the record in {folder} ends here")


# --- what is shown ---------------------------------------------------------------------------------------------------


def _show_summary(plan: Plan) -> None:
    """Parameters per slot, original against patched; the parts of a slot are in the slot's own row."""
    say(f"\n{plan.name}", "bold")
    rows = []
    for slot in slots_of(plan.original).names:
        if "." in slot and not slot.endswith(".norm") and slot.split(".")[0] in ("attention", "mlp"):
            continue
        if slot != "layer":
            before, after = slot_params(plan.original, slot), slot_params(plan.blueprint, slot)
            rows.append((slot, f"{before:,}", f"{after:,}", f"{after - before:+,}" if after != before else "·"))
    for name, reading in (("total", params), ("trainable", trainable)):
        before, after = reading(plan.original), reading(plan.blueprint)
        rows.append((name, f"{before:,}", f"{after:,}", f"{after - before:+,}" if after != before else "·"))
    columns = ("slot", plan.model.rpartition("/")[2], "this spec", "change")
    show_table(columns, rows, right=columns[1:])
    say()


def _show_training(prepared: Any, family: list[Spec], device: str) -> None:
    recipe: Recipe = prepared.recipe
    if prepared.factor != 1:
        config = prepared.plan.blueprint.config
        say(
            f"trains a proxy at {prepared.factor} of the width: {params(prepared.plan.blueprint):,} parameters, "
            f"hidden size {config['hidden_size']}, {len(prepared.plan.blueprint.layers)} layers, "
            f"a vocabulary of {config['vocab_size']:,}"
        )
        for small, ranks in merged_ranks(family, prepared.factor).items():
            message = (
                f"ranks {', '.join(map(str, ranks))} all become {small} at this scale: the proxy can't tell them apart"
            )
            print_fault(Fault("merged-ranks", message, level="warning"))
    tokens = recipe.batch_size * recipe.accumulation * recipe.block_size
    say(
        f"{prepared.steps:,} steps of {tokens:,} tokens of {prepared.data.manifest['name']}, {recipe.precision}, "
        f"pairs start {recipe.init}, seed {recipe.seed}, on {device}"
    )


def _show_results(facts: Mapping[str, Any], folder: Path) -> None:
    final, best, baselines = facts["final"], facts["best"], facts["baselines"]
    say(f"\n{facts['status']} after {_duration(facts['seconds'])}: {folder}", "bold")
    if final is None:
        return
    rows = [
        ("this run, at the end", final["eval_loss"], f"step {final['step']}"),
        ("this run, at its best", best["eval_loss"], f"step {best['step']}"),
        ("a bigram model of the same data", baselines["bigram"], ""),
        ("a unigram model of the same data", baselines["unigram"], ""),
    ]
    from math import exp

    shown = [(name, f"{loss:.4f}", f"{exp(min(loss, 700)):,.2f}", note) for name, loss, note in rows]
    show_table(("", "validation loss", "perplexity", ""), shown, right=("validation loss", "perplexity"))
    if final["eval_loss"] > baselines["unigram"] - 1:
        message = "this run doesn't beat the unigram model by 1 nat: it has learned too little to be compared"
        print_fault(Fault("undertrained", message, help="train longer, or wider", level="warning"))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
