"""From a spec and a recipe to a record: everything a run needs is made ready first, then trained and written down."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ablc.api import plan as plan_of
from ablc.blueprint.measures import params, trainable
from ablc.patching import build
from ablc.patching.initial import planned_weights
from ablc.planning import Plan
from ablc.spec import Spec
from ablc.spec.proxy import factor_of, scaled
from ablc.spec.recipe import Recipe
from ablc.train.data import Data, load_data
from ablc.train.environment import environment
from ablc.train.loop import Diverged, Evaluation, accumulate, evaluate, train
from ablc.train.record import Record
from ablc.train.tracking import Tracker

PROXY_VOCABULARY = 4096
FULL_VOCABULARY = 50_304  # what the built-in BPE reaches on the built-in corpus, and Pythia's own


class View(Protocol):
    """Who watches a run: gets every step, every evaluation, and what there is to say."""

    def step(self, entry: Mapping[str, float], steps: int) -> None: ...

    def evaluated(self, evaluation: Evaluation, steps: int) -> None: ...

    def tell(self, message: str) -> None: ...


@dataclass(frozen=True)
class Prepared:
    """All that a run needs. `full` is the plan of the spec as it stands, `plan` that of the model that trains: the
    same at full scale, the proxy's otherwise."""

    spec: Spec
    full: Plan
    plan: Plan
    factor: Fraction
    recipe: Recipe
    recipe_name: str
    data: Data
    steps: int
    eval_every: int
    device: torch.device


def prepare(spec: Spec, recipe: Recipe, recipe_name: str, device: torch.device) -> Prepared:
    """Scale, plan, and load the data. Raises SpecError, ScaleProblem or DataError before anything is trained."""
    full = plan_of(spec)
    factor = factor_of(recipe.scale, spec.config)
    own = int(spec.config["vocab_size"])
    wanted = own if recipe.tokenizer != "builtin" else PROXY_VOCABULARY if factor < 1 else min(own, FULL_VOCABULARY)
    data = load_data(
        recipe.data,
        tokenizer=recipe.tokenizer,
        base_model=spec.model,
        vocab_size=wanted,
        block_size=recipe.block_size,
        eval_blocks=recipe.eval_blocks,
    )
    plan = full if factor == 1 else plan_of(scaled(spec, factor, data.vocab_size))
    epoch = max(1, len(data.train) // (recipe.batch_size * recipe.accumulation))
    steps = recipe.steps if recipe.steps is not None else max(1, round((recipe.epochs or 1) * epoch))
    eval_every = recipe.eval_every or epoch
    return Prepared(spec, full, plan, factor, recipe, recipe_name, data, steps, eval_every, device)


def build_model(prepared: Prepared) -> nn.Module:
    """The model that trains, with its initial values; bf16 weights where the recipe says so."""
    recipe = prepared.recipe
    model = build(prepared.plan, seed=recipe.seed, init=recipe.init, device=prepared.device)
    if recipe.precision == "bf16":
        model = model.to(torch.bfloat16)
    assert isinstance(model, nn.Module)
    return model


def estimate_seconds(prepared: Prepared, model: nn.Module) -> float:
    """How long the run will take on this machine, from one timed step and one timed evaluation batch. Changes
    nothing."""
    recipe, data = prepared.recipe, prepared.data
    blocks = data.batch(0, seed=recipe.seed, batch_size=recipe.batch_size * recipe.accumulation)
    devices = [prepared.device] if prepared.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        accumulate(model, blocks[: recipe.batch_size], recipe, prepared.device)  # the first one allocates
        started = time.perf_counter()
        accumulate(model, blocks, recipe, prepared.device)
        step = time.perf_counter() - started
        started = time.perf_counter()
        evaluate(model, _Some(data.validation[: recipe.batch_size]), recipe, 0)
        one = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    evaluations = 2 + (prepared.steps - 1) // prepared.eval_every
    batches = -(-len(data.validation) // recipe.batch_size)
    return prepared.steps * step * 1.1 + evaluations * batches * one


@dataclass(frozen=True)
class _Some:
    """A few validation blocks, to time an evaluation on."""

    validation: Any

    def batch(self, step: int, *, seed: int, batch_size: int) -> Any:
        raise TypeError("only for evaluation")


def facts_of(prepared: Prepared) -> dict[str, Any]:
    """What `run.json` says from the start."""
    return {
        "name": prepared.spec.name,
        "variant": prepared.spec.variant,
        "model": prepared.spec.model,
        "params": params(prepared.plan.blueprint),
        "trainable": trainable(prepared.plan.blueprint),
        "spec_params": params(prepared.full.blueprint),
        "spec_trainable": trainable(prepared.full.blueprint),
        "fingerprint": prepared.full.fingerprint,
        "trained_fingerprint": prepared.plan.fingerprint,
        "seed": prepared.recipe.seed,
        "recipe": prepared.recipe_name,
        "settings": prepared.recipe.model_dump(),
        "scale": "full" if prepared.factor == 1 else str(prepared.factor),
        "steps": prepared.steps,
        "data": dict(prepared.data.manifest),
        "baselines": {"unigram": prepared.data.baselines.unigram, "bigram": prepared.data.baselines.bigram},
        "final": None,
        "best": None,
    }


def execute(prepared: Prepared, model: nn.Module, folder: Path, tracker: Tracker, view: View) -> Record:
    """Train and record. The record is closed with its status whatever happens; what was raised goes on to the
    caller, except that a divergence ends the run as `diverged`."""
    record = Record(folder, facts_of(prepared))
    record.open(prepared.spec, prepared.plan, environment(prepared.device))
    tracker.start(folder, prepared.spec.full_name, {**record.facts, "plan": prepared.plan.to_json()})
    seen: list[Evaluation] = []
    try:
        _train(prepared, model, record, tracker, view, seen)
        _save_weights(model, folder, view)
        record.close("finished", **_results(seen))
    except Diverged as diverged:
        view.tell(f"{diverged}: the run ends as diverged")
        record.close("diverged", **_results(seen), diverged_at=diverged.step)
    except KeyboardInterrupt:
        record.close("interrupted", **_results(seen))
        raise
    except BaseException as error:
        record.close("failed", **_results(seen), error=f"{type(error).__name__}: {error}")
        raise
    finally:
        tracker.finish({**(record.facts.get("final") or {}), "status": record.facts["status"]}, record.failed)
    return record


def _train(
    prepared: Prepared, model: nn.Module, record: Record, tracker: Tracker, view: View, seen: list[Evaluation]
) -> None:
    def log(entry: dict[str, float]) -> None:
        record.log(entry)
        tracker.log(entry)
        view.step(entry, prepared.steps)

    torch.manual_seed(prepared.recipe.seed)  # dropout, where a base has any
    unread = {weight.name for _, weight in planned_weights(prepared.plan.blueprint) if not weight.read}
    for evaluation in train(model, prepared.data, prepared.recipe, prepared.steps, prepared.eval_every, unread, log):
        seen.append(evaluation)
        view.evaluated(evaluation, prepared.steps)


def _results(seen: list[Evaluation]) -> dict[str, Any]:
    """`final` is the last evaluation, `best` the one with the lowest loss."""
    if not seen:
        return {"final": None, "best": None}
    return {"final": seen[-1].facts(), "best": min(seen, key=lambda one: one.eval_loss).facts()}


def _save_weights(model: nn.Module, folder: Path, view: View) -> None:
    """The weights at the end, under their names in the model; a full disk costs the weights, not the record."""
    from safetensors.torch import save_model

    partial = folder / ".model.safetensors.partial"
    try:
        save_model(model, str(partial))
        partial.replace(folder / "model.safetensors")
    except Exception as error:  # safetensors has its own error type for a failed write
        partial.unlink(missing_ok=True)
        view.tell(f"the weights could not be saved: {error}")
