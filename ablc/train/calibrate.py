"""A calibration from beginning to end: the teacher, the student, their losses on the same held-out blocks, every fit
between them, and the record.

The record is a run's: what reads a run reads it too. `run.json` has `calibration` beside the rest, and `init.json`
what the student's pairs missed before any fit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import log
from pathlib import Path
from typing import Any, Protocol

import torch

from ablc.cache import write_atomically
from ablc.patching import PairError, start_from
from ablc.patching.replaced import Replaced, replaced
from ablc.planning import Plan
from ablc.train.checkpoints import weights_of
from ablc.train.environment import environment
from ablc.train.fitting import Fit, Fitted, Texts, calibrate, can_be_fitted
from ablc.train.loop import Evaluation, Job, evaluate, make_optimizer
from ablc.train.loss import NextTokenLoss
from ablc.train.record import Record
from ablc.train.runner import save_weights
from ablc.train.work import Prepared, Work, facts_of


class View(Protocol):
    """Who watches a calibration: gets every block as it is done, and what there is to say."""

    def block(self, fitted: Fitted, number: int, blocks: int) -> None: ...

    def tell(self, message: str) -> None: ...


@dataclass(frozen=True)
class Pair:
    """The base with its weights, and the model that started from them, with what its low-rank pairs missed."""

    teacher: Any
    student: Any
    places: list[Replaced]
    errors: tuple[PairError, ...]


@dataclass
class Outcome:
    """What is known so far: losses in nats a token on the same validation blocks, and the blocks that are done."""

    teacher: float
    before: float
    after: float | None = None
    blocks: list[Fitted] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        losses = {"teacher_loss": self.teacher, "student_before": self.before, "student_after": self.after}
        return {**losses, "blocks": [block.facts() for block in self.blocks]}


def fittable(plan: Plan) -> list[Replaced]:
    """The replaced modules that there is something to fit in."""
    return [one for one in replaced(plan) if can_be_fitted(one)]


def load(work: Work) -> Pair:
    """Teacher and student from the base's weights. Raises CheckpointError."""
    plan, recipe, device = work.plan, work.recipe, work.workers.device
    base = Plan(plan.name, plan.model, plan.original, plan.original, ())
    teacher, _ = start_from(base, work.weights, device=device)
    student, errors = start_from(plan, work.weights, seed=recipe.seed, init=recipe.init, device=device, report=True)
    return Pair(teacher, student, replaced(plan), errors)


def execute(prepared: Prepared, pair: Pair, fit: Fit, folder: Path, view: View) -> tuple[Record, Outcome]:
    """Calibrate and record. Whatever ends it, the record is closed with its status and has the weights as they were
    after the last block that was done; what was raised goes on to the caller. Raises RecordError."""
    work = prepared.work
    record = Record(folder, {**facts_of(prepared), "steps": len(pair.places), "calibration": asdict(fit)})
    record.open(prepared.spec, work.plan, environment(work.workers.device))
    _write(folder / "init.json", [row.facts() for row in pair.errors])
    outcome, status = None, "failed"
    try:
        outcome = Outcome(_loss(pair.teacher, work), _loss(pair.student, work))
        record.log({"step": 0, "eval_loss": outcome.before, "teacher_loss": outcome.teacher})
        _fit_all(work, pair, fit, record, outcome, view)
        outcome.after = _loss(pair.student, work)
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        if outcome is not None:
            save_weights(weights_of(pair.student), folder)
        _close(record, status, work, fit, outcome)
    return record, outcome


def _fit_all(work: Work, pair: Pair, fit: Fit, record: Record, outcome: Outcome, view: View) -> None:
    recipe, data = work.recipe, work.data
    count = min(fit.batches * recipe.batch_size, len(data.train))
    blocks = torch.from_numpy(data.batch(0, seed=recipe.seed, batch_size=count))
    texts = Texts(blocks, recipe.batch_size, data.separator)
    for number, fitted in enumerate(calibrate(pair.teacher, pair.student, pair.places, texts, fit), 1):
        outcome.blocks.append(fitted)
        if fitted.before is not None and fitted.after is not None:
            record.log({"step": number, "error_before": fitted.before, "error_after": fitted.after})
        view.block(fitted, number, len(pair.places))


def _loss(model: Any, work: Work) -> float:
    loss = NextTokenLoss(model, work.data.separator)
    optimizer = make_optimizer(model, work.recipe)  # a job has one; this one takes no step
    job = Job(loss, optimizer, work.data, work.recipe, 0, 1, work.workers, work.data.separator)
    return evaluate(job, 0).eval_loss


def _close(record: Record, status: Any, work: Work, fit: Fit, outcome: Outcome | None) -> None:
    facts: dict[str, Any] = {"calibration": {**asdict(fit), **(outcome.facts() if outcome else {})}}
    if outcome is not None and outcome.after is not None:
        evaluation = Evaluation(len(outcome.blocks), outcome.after)
        bits = outcome.after / log(2) / work.data.bytes_per_token
        facts["final"] = facts["best"] = {**evaluation.facts(), "bits_per_byte": bits}
        record.log({"step": len(outcome.blocks), "eval_loss": outcome.after, "teacher_loss": outcome.teacher})
    record.close(status, **facts)


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_atomically(path, (json.dumps(rows, indent=2) + "\n").encode())
