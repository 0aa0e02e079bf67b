"""A run from its first step, or from its newest checkpoint, to its last, written down as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.distributed.tensor import DTensor

from ablc.blueprint.measures import flops_per_token
from ablc.train.checkpoints import (
    ALONE,
    Checkpoint,
    Checkpoints,
    DamagedCheckpoint,
    restore,
    save_weights,
    state_of,
    weights_of,
)
from ablc.train.environment import describe_device, environment, peak_flops
from ablc.train.loop import Diverged, Evaluation, Step, train
from ablc.train.record import BEGINS_AGAIN, Record, RecordError, Status
from ablc.train.tracking import Tracker
from ablc.train.work import Prepared, Trainee, Work, facts_of
from ablc.train.workers import writers

LONGEST_UNSAVED = 600.0  # seconds without a checkpoint, where the recipe doesn't say how often


class View(Protocol):
    """Who watches a run: gets every step, every evaluation, and what there is to say."""

    def step(self, step: Step, steps: int) -> None: ...

    def tell(self, message: str) -> None: ...


def begin(prepared: Prepared, folder: Path) -> Record | None:
    """The record of a new run; None in all processes but the first. Raises RecordError, in all of them."""
    work = prepared.work

    def opened() -> Record:
        record = Record(folder, facts_of(prepared))
        record.open(prepared.spec, work.plan, environment(work.workers.device))
        return record

    return work.workers.first_does(opened)


def reopen(folder: Path, work: Work, tell: Callable[[str], None]) -> tuple[Record | None, Checkpoint | None]:
    """The record of a run that goes on, in the same way, and in all processes the newest checkpoint that the first one
    finds whole. Raises RecordError, also where that is another plan's."""
    workers = work.workers
    record = workers.first_does(lambda: Record.reopen(folder, environment(workers.device)))
    found = Checkpoints(folder, work.recipe.keep, tell).newest() if workers.is_first else None
    checkpoint = workers.share(found)
    if record is not None:
        record.tell_changes(tell)
    if checkpoint is not None and checkpoint.facts["fingerprint"] != work.plan.fingerprint:
        if record is not None:
            record.release()
        raise RecordError(f"the checkpoint of step {checkpoint.step} is of another plan than the run", _ANEW)
    return record, checkpoint


_ANEW = "take the checkpoints away to begin again, or run the spec anew"


def execute(
    work: Work,
    trainee: Trainee,
    record: Record | None,
    folder: Path,
    tracker: Tracker,
    view: View,
    stop: Callable[[], bool] = lambda: False,
    checkpoint: Checkpoint | None = None,
) -> dict[str, Any]:
    """Train from a checkpoint on, or from the start, and record; returns what `run.json` says.

    The record is closed with its status whatever happens. What was raised goes on to the caller, except that a
    divergence ends the run as `diverged`. Where `stop` says so, the run ends as `interrupted` after the step it is in,
    with a checkpoint of it. Raises RecordError where the checkpoint holds another model; the record is as it was then.
    """
    run = _Run(work, trainee, record, folder, tracker, view)
    run.start(checkpoint)
    status: Status = "failed"
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
        self.folder, self.tracker, self.view = folder, tracker, view
        self.is_sharded = any(isinstance(one, DTensor) for one in trainee.model.parameters())
        self.writers = writers(work.workers) if self.is_sharded else ALONE
        self.checkpoints = Checkpoints(folder, work.recipe.keep, view.tell, self.writers)
        if work.workers.device.type == "cpu":  # what is saved is what the step would change; elsewhere it is a copy
            trainee.job.optimizer.register_step_pre_hook(lambda *_: self.checkpoints.taken())
        self.facts: dict[str, Any] = record.facts if record is not None else {}
        self.seen: list[Evaluation] = []
        self.after = 0
        self.initial = weights_of(trainee.model, self.writers, copy=True) if work.counts_moved else {}
        self.forward_flops = flops_per_token(work.plan.blueprint, work.recipe.block_size)
        in_bf16 = work.recipe.precision != "fp32"
        self.peak = peak_flops(describe_device(work.workers.device)) if in_bf16 else None

    def start(self, checkpoint: Checkpoint | None) -> None:
        """Go back to the checkpoint, if there is one."""
        if checkpoint is not None:
            try:
                restore(self.trainee.model, self.trainee.job.optimizer, checkpoint)
            except DamagedCheckpoint as damaged:
                message = f"the checkpoint of step {checkpoint.step} can't be used: {damaged}"
                raise RecordError(message, _ANEW) from damaged
            self.after = checkpoint.step
            self.seen = [Evaluation(one["step"], one["eval_loss"]) for one in checkpoint.facts["evaluations"]]
            self.view.tell(f"goes on after step {self.after}")
        elif self.record is not None and self.record.goes_on:
            self.view.tell(BEGINS_AGAIN)
        if self.record is not None:
            self.record.continue_after(self.after if checkpoint is not None else -1, self.work.workers.size)
            if self.trainee.errors and checkpoint is None:
                self.record.write_json("init.json", [error.facts() for error in self.trainee.errors])
            self.tracker.start(self.record)

    def train(self, stop: Callable[[], bool]) -> None:
        workers, steps = self.work.workers, self.work.steps
        saved = time.monotonic()
        for step in train(self.trainee.job, self.after):
            self._log(step)
            is_unsaid = workers.is_first and self.work.recipe.save_every is None
            late = is_unsaid and time.monotonic() - saved > LONGEST_UNSAVED
            asked, is_late = workers.total(torch.tensor([stop(), late], dtype=torch.int64)).tolist()
            is_due = step.number % self.work.save_every == 0
            if step.number > 0 and (asked or is_late or is_due or step.number == steps):
                self._save(step.number)  # before the first step there is nothing that the seed doesn't say
                saved = time.monotonic()
            if asked and step.number < steps:
                raise KeyboardInterrupt

    def finish(self) -> None:
        """What there is to say once all steps are taken: the weights, and how many moved where they are bf16."""
        self.checkpoints.wait()
        moved = self._moved() if self.initial else None
        if self.record is not None and moved is not None:
            self.facts["moved"] = moved
        if self.record is not None or self.is_sharded:
            save_weights(weights_of(self.trainee.model, self.writers), self.folder, self.writers)

    def _moved(self) -> float:
        """The share of weights that are no longer what they were at the start. Every process looks at its own."""
        parameters = dict(self.trainee.model.named_parameters())
        moved = torch.zeros((), dtype=torch.int64)
        for name, before in self.initial.items():
            moved += (_own(parameters[name].detach()).cpu() != _own(before)).sum()
        return int(self.writers.total(moved)) / sum(int(parameter.numel()) for parameter in parameters.values())

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
        if self.record is None and not self.is_sharded:
            return
        self.checkpoints.wait()  # two at once would be more than there may be room for
        weights, state = state_of(self.trainee.model, self.trainee.job.optimizer, self.writers)
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


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Of a sharded tensor the share of this process."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
