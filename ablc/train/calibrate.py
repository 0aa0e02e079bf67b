"""A calibration from beginning to end: the teacher, the student, their losses on the same held-out blocks, every fit
between them, and the record.

The record is a run's: what reads a run reads it too. `run.json` has `calibration` beside the rest, `init.json` what the
student's pairs missed before any fit, and a checkpoint is the student after so many blocks, with their rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import log
from pathlib import Path
from typing import Any, Protocol

import torch

from ablc.patching import PairError, start_from
from ablc.patching.initial import planned_weights
from ablc.patching.replaced import Replaced, replaced
from ablc.planning import Plan
from ablc.train.checkpoints import (
    Checkpoint,
    Checkpoints,
    DamagedCheckpoint,
    Tensors,
    restore,
    save_weights,
    weights_of,
)
from ablc.train.data import DataError
from ablc.train.environment import environment
from ablc.train.fitting import HELD_OUT, Fit, Fitted, Texts, calibrate, can_be_fitted
from ablc.train.loop import Evaluation, Job, evaluate, make_optimizer
from ablc.train.loss import NextTokenLoss
from ablc.train.record import BEGINS_AGAIN, Record, RecordError, Status
from ablc.train.work import Prepared, Work, facts_of

LONGEST_UNSAVED = 30.0  # seconds of fitting without a checkpoint, unless one block takes longer


class View(Protocol):
    """Who watches a calibration: gets every block as it is done, and what there is to say."""

    def begin(self, done: int, blocks: int) -> None: ...

    def block(self, fitted: Fitted, number: int, blocks: int) -> None: ...

    def tell(self, message: str) -> None: ...


@dataclass(frozen=True)
class Pair:
    """The base with its weights, and the model that started from them, with what its low-rank pairs missed."""

    teacher: Any
    student: Any
    places: list[Replaced]
    errors: tuple[PairError, ...]


@dataclass(frozen=True)
class Outcome:
    """What is known so far: losses in nats a token on the same validation blocks, and the blocks that are done."""

    teacher: float
    before: float
    after: float | None = None
    blocks: tuple[Fitted, ...] = ()

    def facts(self) -> dict[str, Any]:
        losses = {"teacher_loss": self.teacher, "student_before": self.before, "student_after": self.after}
        return {**losses, "blocks": [block.facts() for block in self.blocks]}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Outcome:
        """What `facts` says of the blocks that were done, which there may be more of to come."""
        blocks = tuple(Fitted(**block) for block in facts["blocks"])
        return cls(facts["teacher_loss"], facts["student_before"], blocks=blocks)


def fittable(plan: Plan) -> list[Replaced]:
    """The replaced modules that there is something to fit in: parameters that aren't frozen."""
    free = {weight.name for _, weight in planned_weights(plan.blueprint) if not weight.frozen}
    moving = {name for name in free for name in _above(name)}
    return [one for one in replaced(plan) if can_be_fitted(one) and one.path in moving]


def _above(name: str) -> Iterator[str]:
    """The modules that a parameter is in."""
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts)))


def check_positions(work: Work, fit: Fit) -> None:
    """Raise DataError where there are too few positions to fit on some and to measure at others."""
    count = _blocks(work, fit) * work.recipe.block_size
    if count < HELD_OUT:
        message = f"a calibration on {count} positions has none to measure at"
        raise DataError(message, "take more --batches, or a larger train.block_size")


def _blocks(work: Work, fit: Fit) -> int:
    return min(fit.batches * work.recipe.batch_size, len(work.data.train))


def load(work: Work) -> Pair:
    """Teacher and student from the base's weights. Raises CheckpointError."""
    plan, recipe, device = work.plan, work.recipe, work.workers.device
    base = Plan(plan.name, plan.model, plan.original, plan.original, ())
    teacher, _ = start_from(base, work.weights, device=device)
    student, errors = start_from(plan, work.weights, seed=recipe.seed, init=recipe.init, device=device, report=True)
    return Pair(teacher, student, replaced(plan), errors)


def begin(prepared: Prepared, pair: Pair, fit: Fit, folder: Path) -> Record:
    """The record of a new calibration. Raises RecordError."""
    work = prepared.work
    record = Record(folder, {**facts_of(prepared), "steps": len(pair.places), "calibration": asdict(fit)})
    record.open(prepared.spec, work.plan, environment(work.workers.device))
    return record


def fit_of(folder: Path, facts: Mapping[str, Any]) -> Fit:
    """How the blocks of a calibration that was begun are fitted. Raises RecordError."""
    try:
        return Fit(**{one.name: facts["calibration"][one.name] for one in fields(Fit)})
    except (KeyError, TypeError) as error:
        message = f"the calibration in {folder} is of another version of ablc"
        raise RecordError(message, "calibrate its spec again, or take that version") from error


def execute(work: Work, pair: Pair, fit: Fit, record: Record, view: View) -> Outcome:
    """Calibrate from the record's newest checkpoint on, or from the start, and record.

    Whatever ends it, the record is closed with its status, and there is a checkpoint of the blocks that were done; what
    was raised goes on to the caller. Raises RecordError where the checkpoint is another plan's or another base's.
    """
    calibration = _Calibration(work, pair, fit, record, view)
    try:
        calibration.start()
    except RecordError:
        record.release()
        raise
    status: Status = "failed"
    try:
        calibration.fit_all()
        outcome = calibration.finish()
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except BaseException as error:
        record.facts["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        calibration.close(status)
    return outcome


@dataclass(frozen=True)
class _Done:
    """Weights of the student, and what is known of just these. It is replaced as a whole, never changed: whenever an
    interruption comes, what is saved belongs together, however far the block in hand was."""

    weights: Tensors
    outcome: Outcome

    def and_one(self, fitted: Fitted, weights: Tensors) -> _Done:
        outcome = replace(self.outcome, blocks=(*self.outcome.blocks, fitted))
        return _Done({**self.weights, **weights}, outcome)


class _Calibration:
    """A calibration while it lasts."""

    def __init__(self, work: Work, pair: Pair, fit: Fit, record: Record, view: View) -> None:
        self.work, self.pair, self.fit = work, pair, fit
        self.record, self.view = record, view
        self.checkpoints = Checkpoints(record.folder, work.recipe.keep, view.tell)
        self.done: _Done | None = None
        self.saved = 0

    def start(self) -> None:
        """Go back to the newest checkpoint, if there is one. The metrics are written anew: they follow from it."""
        checkpoint = self.checkpoints.newest()
        if self.record.goes_on:
            self.record.tell_changes(self.view.tell)
        if checkpoint is not None:
            self._restore(checkpoint)
        elif self.record.goes_on:
            self.view.tell(BEGINS_AGAIN)
        self.record.facts["calibration"] = self._facts()
        self.record.continue_after(-1, self.work.workers.size)
        if checkpoint is None:
            self.record.write_json("init.json", [row.facts() for row in self.pair.errors])

    def _restore(self, checkpoint: Checkpoint) -> None:
        student, work = self.pair.student, self.work
        help = "take the checkpoints away to begin again, or calibrate the spec anew"
        if checkpoint.facts["fingerprint"] != work.plan.fingerprint:
            raise RecordError(
                f"the checkpoint of block {checkpoint.step} is of another plan than the calibration", help
            )
        start = _unfitted(self.pair)
        try:
            restore(student, make_optimizer(student, work.recipe), checkpoint)
        except DamagedCheckpoint as damaged:
            raise RecordError(f"the checkpoint of block {checkpoint.step} can't be used: {damaged}", help) from damaged
        # The teacher isn't saved: it is what it was only where the base still is.
        if any(not torch.equal(value, start[name]) for name, value in _unfitted(self.pair).items()):
            raise RecordError(f"the weights of {work.base} have changed since the calibration began", help)
        self.done = _Done(weights_of(student, copy=True), Outcome.of(checkpoint.facts["outcome"]))
        self.saved = checkpoint.step

    def fit_all(self) -> None:
        work, (teacher, student, places) = self.work, (self.pair.teacher, self.pair.student, self.pair.places)
        if self.done is None:
            self.done = _Done(weights_of(student, copy=True), Outcome(_loss(teacher, work), _loss(student, work)))
        known = self.done.outcome
        self.record.log({"step": 0, "eval_loss": known.before, "teacher_loss": known.teacher})
        for number, fitted in enumerate(known.blocks, 1):
            self._log(fitted, number)
        self.view.begin(len(known.blocks), len(places))
        saved = time.monotonic()
        for fitted in calibrate(teacher, student, places, self._texts(), self.fit, len(known.blocks)):
            self.done = self.done.and_one(fitted, _weights_at(student, fitted.path))
            number = len(self.done.outcome.blocks)
            self._log(fitted, number)
            self.view.block(fitted, number, len(places))
            if time.monotonic() - saved > LONGEST_UNSAVED:
                self._save()
                saved = time.monotonic()

    def finish(self) -> Outcome:
        """What there is to say once all blocks are done: the loss, and the weights."""
        assert self.done is not None
        outcome = replace(self.done.outcome, after=_loss(self.pair.student, self.work))
        self.checkpoints.wait()
        save_weights(self.done.weights, self.record.folder)
        self.done = _Done(self.done.weights, outcome)
        return outcome

    def close(self, status: Status) -> None:
        try:
            if status != "finished":
                self._save()
            self.checkpoints.wait()
        finally:
            self.record.close(status, **self._results())

    def _texts(self) -> Texts:
        recipe, data = self.work.recipe, self.work.data
        count = _blocks(self.work, self.fit)
        blocks = torch.from_numpy(data.batch(0, seed=recipe.seed, batch_size=count))
        return Texts(blocks, recipe.batch_size, data.separator)

    def _log(self, fitted: Fitted, number: int) -> None:
        if fitted.before is not None and fitted.after is not None:
            self.record.log({"step": number, "error_before": fitted.before, "error_after": fitted.after})

    def _save(self) -> None:
        """A checkpoint of the blocks that are done, unless there is one."""
        if self.done is None or len(self.done.outcome.blocks) == self.saved:
            return
        number = len(self.done.outcome.blocks)
        facts = {"fingerprint": self.work.plan.fingerprint, "outcome": self.done.outcome.facts()}
        self.checkpoints.save(number, self.done.weights, {}, facts)
        self.saved = number

    def _facts(self) -> dict[str, Any]:
        return {**asdict(self.fit), **(self.done.outcome.facts() if self.done else {})}

    def _results(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"calibration": self._facts()}
        known = self.done.outcome if self.done else None
        if known is not None and known.after is not None:
            evaluation = Evaluation(len(known.blocks), known.after)
            bits = known.after / log(2) / self.work.data.bytes_per_token
            facts["final"] = facts["best"] = {**evaluation.facts(), "bits_per_byte": bits}
            self.record.log({"step": len(known.blocks), "eval_loss": known.after, "teacher_loss": known.teacher})
        return facts


def _unfitted(pair: Pair) -> Tensors:
    """A copy of the student's weights that no fit changes: those of the base."""
    fitted = tuple(f"{one.path}." for one in pair.places)
    kept = ((name, value) for name, value in pair.student.named_parameters() if not name.startswith(fitted))
    return {name: value.detach().clone() for name, value in kept}


def _weights_at(model: torch.nn.Module, path: str) -> dict[str, torch.Tensor]:
    """A copy of a module's weights, under the names that they are saved under: one that is shared has another name."""
    own = {id(parameter) for parameter in model.get_submodule(path).parameters()}
    found = ((name, parameter) for name, parameter in model.named_parameters() if id(parameter) in own)
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in found}


def _loss(model: Any, work: Work) -> float:
    loss = NextTokenLoss(model, work.data.separator)
    optimizer = make_optimizer(model, work.recipe)  # a job has one; this one takes no step
    job = Job(loss, optimizer, work.data, work.recipe, 0, 1, work.workers, work.data.separator)
    return evaluate(job, 0).eval_loss
