"""What a run needs is made ready before anything is trained: its plan and data, from a spec and a recipe or from the
record of a run that goes on; then the model, its optimizer, and how long it will take."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from ablc.api import plan as plan_of
from ablc.blueprint.measures import params, trainable
from ablc.faults import Fault, SpecError
from ablc.patching import PairError, weights_source
from ablc.patching.build import give_storage, unfilled
from ablc.patching.initial import planned_weights
from ablc.patching.pretrained import start
from ablc.planning import Plan
from ablc.spec import Spec
from ablc.spec.proxy import ScaleError, factor_of, scaled
from ablc.spec.recipe import MOST, Recipe
from ablc.train.checkpoints import Checkpoint
from ablc.train.data import Data, DataError, Progress, load_data, quiet
from ablc.train.loop import Job, accumulate, blocks_of, evaluate, make_optimizer
from ablc.train.loss import NextTokenLoss
from ablc.train.record import RecordError, read_plan
from ablc.train.rotary import quicken
from ablc.train.texts import is_local, local_path
from ablc.train.workers import Workers, layers_of, shard, spread

PROXY_VOCABULARY = 4096
FULL_VOCABULARY = 50_304  # what the built-in BPE reaches on the built-in corpus, and Pythia's own


@dataclass(frozen=True)
class Work:
    """What is trained, on what, and how: all that is needed to go on with a run. `base` is where the base model's
    tokenizer and weights lie, a path or a hub id; `weights` the same where training starts from them, else None."""

    plan: Plan
    recipe: Recipe
    weights: str | None
    data: Data
    steps: int
    workers: Workers
    base: str

    @property
    def eval_every(self) -> int:
        """In steps: as the recipe says, or a pass over the training data."""
        return self.recipe.eval_every or -(-len(self.data.train) // blocks_of(self.recipe))

    @property
    def counts_moved(self) -> bool:
        """Whether the run says how many weights moved since its start: those that are bf16 may stay where they are."""
        return self.recipe.precision == "bf16"

    @property
    def save_every(self) -> int:
        return self.recipe.save_every or self.eval_every


@dataclass(frozen=True)
class Prepared:
    """A run before it begins. `full` is the plan of the spec as it stands; the one in `work` is the same at full scale,
    the proxy's otherwise."""

    spec: Spec
    full: Plan
    factor: Fraction
    recipe_name: str
    work: Work


# --- plan and data ---------------------------------------------------------------------------------------------------


def prepare(spec: Spec, recipe: Recipe, recipe_name: str, workers: Workers, progress: Progress = quiet) -> Prepared:
    """Scale, plan, and load the data. Raises SpecError, ScaleError, CheckpointError or DataError before anything is
    trained."""
    full = plan_of(spec)
    check_trains(full)
    recipe = _from_anywhere(recipe)
    factor = factor_of(recipe.scale, spec.config)
    check_divides(recipe, workers)
    weights = None
    base = weights_source(spec)
    if recipe.weights == "pretrained":
        if recipe.scale != "full":
            message = "a proxy can't take the pretrained weights of the full model"
            raise ScaleError(message, 'train.scale = full, or train.weights = "scratch"')
        weights = base
    is_full = recipe.scale == "full"
    own = int(spec.config["vocab_size"])
    small = min(own, FULL_VOCABULARY) if is_full else PROXY_VOCABULARY
    wanted = small if recipe.tokenizer == "builtin" else own
    data = _load(recipe, base, wanted, workers, progress)
    plan = full if is_full else plan_of(scaled(spec, factor, data.vocab_size))
    work = Work(plan, recipe, weights, data, _steps(recipe, data), workers, base)
    return Prepared(spec, full, factor, recipe_name, work)


def _steps(recipe: Recipe, data: Data) -> int:
    """How many steps a recipe asks for. Raises DataError where its passes over the data are too many."""
    if recipe.steps is not None:
        return recipe.steps
    passes = recipe.epochs or 1
    steps = max(1, round(passes * len(data.train) / blocks_of(recipe)))
    if steps > MOST:
        raise DataError(f"{passes:g} passes over this data are {steps:,} steps", "set train.epochs lower")
    return steps


def _from_anywhere(recipe: Recipe) -> Recipe:
    """The recipe with its relative paths made absolute: a run may be gone on with from another folder."""
    paths = {"data": recipe.data} if is_local(recipe.data) else {}
    if recipe.tokenizer not in ("builtin", "base"):
        paths["tokenizer"] = recipe.tokenizer
    return recipe.model_copy(update={key: str(local_path(path)) for key, path in paths.items()})


def check_trains(plan: Plan) -> None:
    """Raise SpecError unless something is trained."""
    read = {weight.name for _, weight in planned_weights(plan.blueprint) if weight.read and not weight.frozen}
    if not read:
        raise SpecError([Fault("nothing-to-train", "all of this model is frozen", help="take a `freeze` out")])


def check_divides(recipe: Recipe, workers: Workers) -> None:
    """Raise DataError unless the blocks of a step can be shared out evenly."""
    blocks = blocks_of(recipe)
    if blocks % workers.size:
        message = f"the {blocks} blocks of a step can't be divided among {workers.size} processes"
        raise DataError(message, "make train.batch_size or train.accumulation a multiple of the number of processes")


def _load(
    recipe: Recipe, model: str, vocab_size: int, workers: Workers, progress: Progress, revision: str | None = None
) -> Data:
    def load() -> Data:
        return load_data(
            recipe.data,
            tokenizer=recipe.tokenizer,
            base_model=model,
            vocab_size=vocab_size,
            block_size=recipe.block_size,
            eval_blocks=recipe.eval_blocks,
            documents=recipe.packing == "documents",
            streaming=recipe.streaming,
            revision=revision,
            progress=progress,
        )

    return workers.first_does(load) or load()  # the others find in the cache what the first one made


def facts_of(prepared: Prepared) -> dict[str, Any]:
    """What `run.json` says from the start."""
    work = prepared.work
    return {
        "name": prepared.spec.name,
        "variant": prepared.spec.variant,
        "model": prepared.spec.model,
        "params": params(work.plan.blueprint),
        "trainable": trainable(work.plan.blueprint),
        "spec_params": params(prepared.full.blueprint),
        "spec_trainable": trainable(prepared.full.blueprint),
        "fingerprint": prepared.full.fingerprint,
        "trained_fingerprint": work.plan.fingerprint,
        "seed": work.recipe.seed,
        "recipe": prepared.recipe_name,
        "settings": work.recipe.model_dump(),
        "base": work.base,
        "weights": work.weights,
        "scale": "full" if work.recipe.scale == "full" else str(prepared.factor),
        "steps": work.steps,
        "processes": work.workers.size,
        "vocab_size": work.data.vocab_size,
        "data": dict(work.data.manifest),
        "baselines": {"unigram": work.data.baselines.unigram, "bigram": work.data.baselines.bigram},
        "mirror_id": uuid.uuid4().hex[:8],
        "final": None,
        "best": None,
    }


def work_of(folder: Path, facts: Mapping[str, Any], workers: Workers, progress: Progress = quiet) -> Work:
    """The work of a run that was begun, from its record. Raises RecordError where its data isn't what it was, DataError
    where it can't be had."""
    recipe = Recipe.model_validate(facts["settings"])
    check_divides(recipe, workers)
    data = _load(recipe, facts["base"], facts["vocab_size"], workers, progress, facts["data"].get("revision"))
    now, then = data.manifest, facts["data"]
    if (now["hash"], now["tokenizer"]["hash"]) != (then["hash"], then["tokenizer"]["hash"]):
        if now["hash"] != then["hash"] and now.get("python") != then.get("python"):
            message = f"the run in {folder} trains on the library of Python {then.get('python')}"
            raise RecordError(message, f"go on with that one; this is {now.get('python')}")
        what = "data" if now["hash"] != then["hash"] else "tokenizer"
        message = f"the {what} of the run in {folder} has changed since it began"
        raise RecordError(message, "run its spec again: what was measured before can't be compared")
    plan = read_plan(folder)
    if plan.fingerprint != facts["trained_fingerprint"]:
        raise RecordError(f"{folder} holds the plan of another run", "run its spec again")
    return Work(plan, recipe, facts["weights"], data, facts["steps"], workers, facts["base"])


# --- the model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trainee:
    """A model with its initial values, and the job that trains it. `errors` says how far low-rank pairs are from what
    they replaced, where that was asked for."""

    model: Any
    job: Job
    errors: tuple[PairError, ...]


def assemble(work: Work, report_init: bool = False, checkpoint: Checkpoint | None = None) -> Trainee:
    """Build the model, and what trains it. Where all of its values will be those of a checkpoint they are zeros until
    then. Raises CheckpointError where pretrained weights can't be had."""
    recipe, workers = work.recipe, work.workers
    # In bf16 the weights alone: rotary frequencies rounded so would turn by another angle with each position.
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    model = unfilled(work.plan, dtype=dtype)
    if recipe.gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None)  # what newer ones call it
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    unread = {weight.name for _, weight in planned_weights(work.plan.blueprint) if not weight.read}
    for name, parameter in model.named_parameters():
        if name in unread:  # no gradient ever reaches it: an optimizer would only decay it, and DDP wait for it
            parameter.requires_grad_(False)
    loss = NextTokenLoss(model, work.data.separator)
    if recipe.parallel == "fsdp" and workers.size > 1:
        shard(loss, model)
    errors = _give_values(model, work, report_init, checkpoint)
    if recipe.compile:
        # Each kind of layer is compiled for training, evaluation and a smaller last batch; the default allows 8 in all.
        torch._dynamo.config.recompile_limit = 8 * work.plan.blueprint.config["num_hidden_layers"]
        torch._dynamo.config.optimize_ddp = False  # it cuts what is compiled where DDP exchanges; a layer is cut enough
        if recipe.gradient_checkpointing:  # folding what adds zeros away loses track of what is to be computed again
            torch._inductor.config.joint_graph_constant_folding = False
        for layer in layers_of(model):  # one at a time: layers that are alike share what is compiled
            layer.compile(dynamic=False)
    else:
        quicken(model)
    optimizer = make_optimizer(model, recipe)
    together = spread(loss, workers)
    job = Job(together, optimizer, work.data, recipe, work.steps, work.eval_every, workers, work.data.separator)
    return Trainee(model, job, errors)


def _give_values(model: Any, work: Work, report: bool, checkpoint: Checkpoint | None) -> tuple[PairError, ...]:
    """Those that the run starts with: a run that goes on needs none of them, unless it is to say something of them."""
    recipe, device = work.recipe, work.workers.device
    if checkpoint is None or report or work.counts_moved:
        return start(model, work.plan, work.weights, seed=recipe.seed, init=recipe.init, device=device, report=report)
    give_storage(model, device)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    return ()


def estimate_seconds(job: Job, after: int = 0) -> float:
    """How long the steps that come `after` one will take on this machine, from one timed step and one timed evaluation
    batch, each the second of its kind. Changes nothing."""
    recipe, data = job.recipe, job.data
    blocks = data.batch(0, seed=recipe.seed, batch_size=blocks_of(recipe))
    devices = [job.workers.device] if job.workers.device.type == "cuda" else []
    at_once = recipe.batch_size * job.workers.size
    few = replace(job, data=_Some(data.validation[:at_once]))
    with torch.random.fork_rng(devices=devices):
        for part in (blocks[:at_once], blocks):  # the first time allocates, and perhaps compiles
            started = time.perf_counter()
            float(accumulate(job, part))
            step = time.perf_counter() - started
            started = time.perf_counter()
            evaluate(few, 0)
            one = time.perf_counter() - started
    job.optimizer.zero_grad(set_to_none=True)
    evaluations = 2 + (job.steps - after - 1) // job.eval_every
    batches = -(-len(data.validation) // at_once)
    return (job.steps - after) * step * 1.1 + evaluations * batches * one


@dataclass(frozen=True)
class _Some:
    """A few validation blocks, to time an evaluation on."""

    validation: Any

    def batch(self, step: int, *, seed: int, batch_size: int) -> Any:
        raise TypeError("only for evaluation")
