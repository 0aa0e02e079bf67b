"""From a spec and a recipe to a record: everything a run needs is made ready first, then trained and written down."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import log
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError

from ablc.api import plan as plan_of
from ablc.blueprint.measures import flops_per_token, params, trainable
from ablc.faults import Fault, SpecError
from ablc.patching import PairError, start_from, weights_source
from ablc.patching.initial import planned_weights
from ablc.planning import Plan
from ablc.spec import Spec
from ablc.spec.proxy import ScaleProblem, factor_of, scaled
from ablc.spec.recipe import Recipe
from ablc.train.checkpoints import Checkpoints, optimizer_state, restore, save_tensors, weights_of
from ablc.train.data import Data, DataError, Progress, load_data
from ablc.train.environment import environment, peak_flops
from ablc.train.loop import (
    Diverged,
    Evaluation,
    Job,
    Step,
    accumulate,
    blocks_of,
    evaluate,
    make_optimizer,
    train,
)
from ablc.train.loss import NextTokenLoss
from ablc.train.record import Record, RecordError, Status, read_plan
from ablc.train.tracking import Tracker
from ablc.train.workers import Workers, layers_of, spread

PROXY_VOCABULARY = 4096
FULL_VOCABULARY = 50_304  # what the built-in BPE reaches on the built-in corpus, and Pythia's own


class View(Protocol):
    """Who watches a run: gets every step, every evaluation, and what there is to say."""

    def step(self, step: Step, steps: int) -> None: ...

    def tell(self, message: str) -> None: ...


@dataclass(frozen=True)
class Work:
    """What is trained, on what, and how: all that is needed to go on with a run. `base` is where the base model's
    tokenizer and weights lie, a path or a hub id; `weights` the same where training starts from them, else None."""

    plan: Plan
    recipe: Recipe
    weights: str | None
    data: Data
    steps: int
    eval_every: int
    workers: Workers
    base: str

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


# --- before ----------------------------------------------------------------------------------------------------------


def prepare(
    spec: Spec, recipe: Recipe, recipe_name: str, workers: Workers, progress: Progress = lambda part, size: None
) -> Prepared:
    """Scale, plan, and load the data. Raises SpecError, ScaleProblem, CheckpointError or DataError before anything is
    trained."""
    full = plan_of(spec)
    check_trains(full)
    factor = factor_of(recipe.scale, spec.config)
    check_divides(recipe, workers)
    weights = None
    base = weights_source(spec)
    if recipe.weights == "pretrained":
        if recipe.scale != "full":
            message = "a proxy can't take the pretrained weights of the full model"
            raise ScaleProblem(message, 'train.scale = full, or train.weights = "scratch"')
        weights = base
    is_full = recipe.scale == "full"
    own = int(spec.config["vocab_size"])
    small = min(own, FULL_VOCABULARY) if is_full else PROXY_VOCABULARY
    wanted = small if recipe.tokenizer == "builtin" else own
    data = _load(recipe, base, wanted, workers, progress)
    plan = full if is_full else plan_of(scaled(spec, factor, data.vocab_size))
    epoch = max(1, len(data.train) // blocks_of(recipe))
    steps = recipe.steps if recipe.steps is not None else max(1, round((recipe.epochs or 1) * epoch))
    work = Work(plan, recipe, weights, data, steps, recipe.eval_every or epoch, workers, base)
    return Prepared(spec, full, factor, recipe_name, work)


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


def _load(recipe: Recipe, model: str, vocab_size: int, workers: Workers, progress: Progress) -> Data:
    with workers.first_goes_ahead():
        return load_data(
            recipe.data,
            tokenizer=recipe.tokenizer,
            base_model=model,
            vocab_size=vocab_size,
            block_size=recipe.block_size,
            eval_blocks=recipe.eval_blocks,
            documents=recipe.packing == "documents",
            streaming=recipe.streaming,
            progress=progress,
        )


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


def work_of(
    folder: Path, facts: Mapping[str, Any], workers: Workers, progress: Progress = lambda part, size: None
) -> Work:
    """The work of a run that was begun, from its record. Raises RecordError where its data isn't what it was, DataError
    where it can't be had."""
    if "calibration" in facts:
        raise RecordError(f"{folder} holds a calibration, which can't be gone on with", "calibrate the spec again")
    recipe = Recipe.model_validate(facts["settings"])
    check_divides(recipe, workers)
    data = _load(recipe, facts["base"], facts["vocab_size"], workers, progress)
    if data.manifest["hash"] != facts["data"]["hash"]:
        message = f"the data of the run in {folder} has changed since it began"
        raise RecordError(message, "run its spec again: what was measured before can't be compared")
    plan = read_plan(folder)
    if plan.fingerprint != facts["trained_fingerprint"]:
        raise RecordError(f"{folder} holds the plan of another run", "run its spec again")
    epoch = max(1, len(data.train) // blocks_of(recipe))
    return Work(
        plan, recipe, facts["weights"], data, facts["steps"], recipe.eval_every or epoch, workers, facts["base"]
    )


# --- the model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trainee:
    """A model with its initial values, and the job that trains it. `errors` says how far low-rank pairs are from what
    they replaced, where that was asked for."""

    model: Any
    job: Job
    errors: tuple[PairError, ...]


def assemble(work: Work, report_init: bool = False) -> Trainee:
    """Build the model, and what trains it. Raises CheckpointError where pretrained weights can't be had."""
    recipe, device = work.recipe, work.workers.device
    model, errors = start_from(
        work.plan, work.weights, seed=recipe.seed, init=recipe.init, device=device, report=report_init
    )
    if recipe.precision == "bf16":
        model = model.to(torch.bfloat16)
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    unread = {weight.name for _, weight in planned_weights(work.plan.blueprint) if not weight.read}
    for name, parameter in model.named_parameters():
        if name in unread:  # no gradient ever reaches it: an optimizer would only decay it, and DDP wait for it
            parameter.requires_grad_(False)
    if recipe.compile:
        for layer in layers_of(model):  # one at a time: layers that are alike share what is compiled
            layer.compile(dynamic=False)
    loss = spread(NextTokenLoss(model, work.data.separator), model, recipe.parallel, work.workers)
    optimizer = make_optimizer(model, recipe)
    job = Job(loss, optimizer, work.data, recipe, work.steps, work.eval_every, work.workers, work.data.separator)
    return Trainee(model, job, errors)


def estimate_seconds(job: Job) -> float:
    """How long the run will take on this machine, from one timed step and one timed evaluation batch. Changes
    nothing."""
    recipe, data = job.recipe, job.data
    blocks = data.batch(0, seed=recipe.seed, batch_size=blocks_of(recipe))
    devices = [job.workers.device] if job.workers.device.type == "cuda" else []
    some = replace(job, data=_Some(data.validation[: recipe.batch_size * job.workers.size]))
    with torch.random.fork_rng(devices=devices):
        accumulate(job, blocks[: recipe.batch_size * job.workers.size])  # the first one allocates
        started = time.perf_counter()
        accumulate(job, blocks)
        step = time.perf_counter() - started
        started = time.perf_counter()
        evaluate(some, 0)
        one = time.perf_counter() - started
    job.optimizer.zero_grad(set_to_none=True)
    evaluations = 2 + (job.steps - 1) // job.eval_every
    batches = -(-len(data.validation) // (recipe.batch_size * job.workers.size))
    return job.steps * step * 1.1 + evaluations * batches * one


@dataclass(frozen=True)
class _Some:
    """A few validation blocks, to time an evaluation on."""

    validation: Any

    def batch(self, step: int, *, seed: int, batch_size: int) -> Any:
        raise TypeError("only for evaluation")


# --- during and after ------------------------------------------------------------------------------------------------


def begin(prepared: Prepared, folder: Path) -> Record | None:
    """The record of a new run; None in all processes but the first. Raises RecordError, in all of them."""
    work = prepared.work

    def opened() -> Record:
        record = Record(folder, facts_of(prepared))
        record.open(prepared.spec, work.plan, environment(work.workers.device))
        return record

    return _by_the_first(opened, work.workers)


def reopen(folder: Path, workers: Workers) -> Record | None:
    """The record of a run that goes on, in the same way."""
    return _by_the_first(lambda: Record.reopen(folder), workers)


def _by_the_first(make: Callable[[], Record], workers: Workers) -> Record | None:
    record, problem = None, None
    if workers.is_first:
        try:
            record = make()
        except RecordError as error:
            problem = error
    problem = workers.share(problem)
    if problem is not None:
        raise problem
    return record


def execute(
    work: Work,
    trainee: Trainee,
    record: Record | None,
    folder: Path,
    tracker: Tracker,
    view: View,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train from the newest checkpoint in `folder` on, or from the start, and record; returns what `run.json` says.

    The record is closed with its status whatever happens. What was raised goes on to the caller, except that a
    divergence ends the run as `diverged`. Where `stop` says so, the run ends as `interrupted` after the step it is in,
    with a checkpoint of it. Raises RecordError where the checkpoint is another plan's.
    """
    run = _Run(work, trainee, record, folder, tracker, view)
    status: Status = "failed"
    try:
        run.start()
    except RecordError:
        if record is not None:
            record.release()
        raise
    try:
        run.train(stop)
        run.finish()
        status = "finished"
    except Diverged as diverged:
        view.tell(f"{diverged}: the run ends as diverged")
        run.facts["diverged_at"] = diverged.step
        status = "diverged"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except BaseException as error:
        run.facts["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        run.close(status)
    return run.facts


class _Run:
    """A run while it lasts. Only the first process has a record, writes, and is heard."""

    def __init__(
        self, work: Work, trainee: Trainee, record: Record | None, folder: Path, tracker: Tracker, view: View
    ) -> None:
        self.work, self.trainee, self.record = work, trainee, record
        self.tracker, self.view = tracker, view
        self.checkpoints = Checkpoints(folder, work.recipe.keep, view.tell)
        self.facts: dict[str, Any] = record.facts if record is not None else {}
        self.seen: list[Evaluation] = []
        self.after = 0
        self.initial = weights_of(trainee.model, self._is_first) if work.recipe.precision == "bf16" else {}
        self.forward_flops = flops_per_token(work.plan.blueprint, work.recipe.block_size)
        self.peak = peak_flops(work.workers.device)

    @property
    def _is_first(self) -> bool:
        return self.work.workers.is_first

    def start(self) -> None:
        """Go back to the newest checkpoint, if there is one."""
        checkpoint = self.checkpoints.newest()
        if checkpoint is not None:
            if checkpoint.facts["fingerprint"] != self.work.plan.fingerprint:
                message = f"the checkpoint of step {checkpoint.step} is of another plan than the run"
                raise RecordError(message, "take the checkpoints away to begin again, or run the spec anew")
            restore(self.trainee.model, self.trainee.job.optimizer, checkpoint)
            self.after = checkpoint.step
            self.seen = [Evaluation(one["step"], one["eval_loss"]) for one in checkpoint.facts["evaluations"]]
            self.view.tell(f"goes on after step {self.after}")
        if self.record is not None:
            self.record.continue_after(self.after if checkpoint is not None else -1)
            if self.trainee.errors and checkpoint is None:
                self.record.write_json("init.json", [error.facts() for error in self.trainee.errors])
            self.tracker.start(self.record)

    def train(self, stop: Callable[[], bool]) -> None:
        workers, steps = self.work.workers, self.work.steps
        for step in train(self.trainee.job, self.after):
            self._log(step)
            asked = workers.total(torch.tensor(float(stop()), device=workers.device)) > 0
            if asked or step.number == steps or (step.number and step.number % self.work.save_every == 0):
                self._save(step.number)
            if asked and step.number < steps:
                raise KeyboardInterrupt

    def finish(self) -> None:
        """What there is to say once all steps are taken: the weights, and how many moved where they are bf16."""
        weights = weights_of(self.trainee.model, self._is_first)
        if self.record is not None:
            if self.initial:
                self.facts["moved"] = _moved(self.initial, weights)
            self.checkpoints.wait()
            _save_weights(weights, self.record.folder, self.view)

    def close(self, status: Status) -> None:
        self.checkpoints.wait()
        if self.record is None:
            return
        try:
            self.record.close(status, **self._results())
        finally:
            self.tracker.finish({**(self.facts["final"] or {}), "status": status}, failed=status != "finished")

    def _log(self, step: Step) -> None:
        if step.evaluation is not None:
            self.seen.append(step.evaluation)
        if self.record is None:
            return
        entry = {"step": step.number, **step.metrics, **self._speed(step)}
        if step.evaluation is not None:
            entry |= self._scores(step.evaluation)
        self.record.log(entry)
        if step.evaluation is not None:
            self.record.update(**self._results())
        self.tracker.log(entry)
        self.view.step(step, self.work.steps)

    def _speed(self, step: Step) -> dict[str, float]:
        """Model FLOP/s: forward and backward take three times what forward takes, whatever is computed again or needs
        no gradient; and their share of what the devices could do, where that is known (MFU)."""
        if "tokens_per_second" not in step.metrics:
            return {}
        flops = 3 * self.forward_flops * step.metrics["tokens_per_second"]
        share = {} if self.peak is None else {"mfu": flops / (self.peak * self.work.workers.size)}
        return {"flops_per_second": flops, **share}

    def _save(self, number: int) -> None:
        model, optimizer = self.trainee.model, self.trainee.job.optimizer
        weights, state = weights_of(model, self._is_first), optimizer_state(model, optimizer, self._is_first)
        if self.record is not None:
            evaluations = [{"step": one.step, "eval_loss": one.eval_loss} for one in self.seen]
            facts = {"fingerprint": self.work.plan.fingerprint, "evaluations": evaluations}
            self.checkpoints.save(number, weights, state, facts)

    def _scores(self, evaluation: Evaluation) -> dict[str, float]:
        bits = evaluation.eval_loss / log(2) / self.work.data.bytes_per_token
        return {**evaluation.facts(), "bits_per_byte": bits}

    def _results(self) -> dict[str, Any]:
        """`final` is the last evaluation, `best` the one with the lowest loss."""
        if not self.seen:
            return {"final": None, "best": None}
        best = min(self.seen, key=lambda one: one.eval_loss)
        return {"final": self._scores(self.seen[-1]), "best": self._scores(best)}


def _moved(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> float:
    """The share of weights that are no longer what they were at the start."""
    moved = sum(int((after[name] != tensor).sum()) for name, tensor in before.items())
    return moved / sum(tensor.numel() for tensor in before.values())


def _save_weights(weights: Mapping[str, torch.Tensor], folder: Path, view: View) -> None:
    """The weights at the end, under their names in the model; a full disk costs the weights, not the record."""
    partial = folder / ".model.safetensors.partial"
    try:
        save_tensors(partial, weights)
        partial.replace(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        view.tell(f"the weights could not be saved: {error}")
