"""How a run is watched: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

from ablc.cli.output import is_terminal, say, terminal
from ablc.cli.summary import duration

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from ablc.train.loop import Evaluation, Step
    from ablc.train.runner import View


P = ParamSpec("P")


def unless_gone(show: Callable[P, None]) -> Callable[P, None]:
    """Who watches may be gone, a pipe closed, a disk full: no run ends because of that."""

    @functools.wraps(show)
    def shown(*arguments: P.args, **options: P.kwargs) -> None:
        with contextlib.suppress(OSError):
            show(*arguments, **options)

    return shown


@contextmanager
def bars(*columns: ProgressColumn, transient: bool = False) -> Iterator[Progress]:
    """Bars on the terminal, as long as there is one."""
    from rich.progress import Progress

    progress = Progress(*columns, console=terminal(), transient=transient)
    unless_gone(progress.start)()
    try:
        yield progress
    finally:
        unless_gone(progress.stop)()


class PlainView:
    """A line at every evaluation, and one at each tenth of the way, so that the log of a run can be read."""

    def __init__(self, steps: int) -> None:
        self._every = max(1, steps // 10)

    @unless_gone
    def step(self, step: Step, steps: int) -> None:
        if step.evaluation is not None:
            say(_evaluation(step.evaluation, steps))
        elif step.number % self._every == 0:
            say(_line(step, steps))

    @unless_gone
    def tell(self, message: str) -> None:
        say(message)


class LiveView:
    """A progress bar with step, loss, learning rate, tokens a second and time left; evaluations stay above it."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=steps, loss="", lr="", speed="")

    @unless_gone
    def step(self, step: Step, steps: int) -> None:
        if step.metrics:
            fields = {
                "loss": f"loss {step.metrics['loss']:.3f}",
                "lr": f"lr {step.metrics['lr']:.1e}",
                "speed": f"{step.metrics['tokens_per_second']:,.0f} tokens/s",
            }
            self._progress.update(self._task, completed=step.number, **fields)  # type: ignore[arg-type]
        if step.evaluation is not None:
            self._progress.console.print(_evaluation(step.evaluation, steps), style="green")

    @unless_gone
    def tell(self, message: str) -> None:
        self._progress.console.print(message, style="yellow", markup=False)


class _TokenisingBar:
    """A bar for the part in hand, which has an end and a time left where it is known how much the part is."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._part = progress, ""
        self._task = progress.add_task("loading the data …", total=None)

    def tell(self, part: str, size: int, share: float | None) -> None:
        if part != self._part:
            self._progress.remove_task(self._task)
            self._part, self._task = part, self._progress.add_task("", total=None if share is None else 1.0)
        self._progress.update(self._task, description=_tokenised(part, size), completed=share or 0.0)


class _TokenisingLines:
    """A line every ten seconds, so that a log stays short."""

    def __init__(self) -> None:
        self._part, self._said = "", time.monotonic()
        self._first = (0.0, 0.0)  # when the part in hand was first heard of, and how far it was then

    def tell(self, part: str, size: int, share: float | None) -> None:
        now = time.monotonic()
        if part != self._part:
            self._part, self._first = part, (now, share or 0.0)
        if now - self._said > 10:
            self._said = now
            say(_tokenised(part, size) + ("" if share is None else self._left(now, share)))

    def _left(self, now: float, share: float) -> str:
        began, before = self._first
        if share <= before:
            return f" ({share:.0%})"
        return f" ({share:.0%}, about {duration((now - began) / (share - before) * (1 - share))} left)"


@contextmanager
def tokenising() -> Iterator[Callable[[str, int, float | None], None]]:
    """Shows how far tokenising is, of each part: on one line of a terminal, elsewhere in a line every ten seconds."""
    if not is_terminal():
        yield _TokenisingLines().tell
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with bars(*columns, transient=True) as progress:
        yield _TokenisingBar(progress).tell


def _tokenised(part: str, size: int) -> str:
    return f"tokenised {size / 1e6:,.1f} MB of the {part} part"


@contextmanager
def watch(steps: int) -> Iterator[View]:
    """The view of a run on what stdout is."""
    if not is_terminal():
        yield PlainView(steps)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    fields: list[Any] = [TextColumn("{task.fields[" + name + "]}") for name in ("loss", "lr", "speed")]
    with bars(MofNCompleteColumn(), BarColumn(), *fields, TimeRemainingColumn()) as progress:
        yield LiveView(progress, steps)


def _line(step: Step, steps: int) -> str:
    metrics = step.metrics
    return (
        f"step {step.number:>{_digits(steps)}}/{steps}  loss {metrics['loss']:.4f}  lr {metrics['lr']:.2e}  "
        f"{metrics['tokens_per_second']:,.0f} tokens/s"
    )


def _evaluation(evaluation: Evaluation, steps: int) -> str:
    return (
        f"step {evaluation.step:>{_digits(steps)}}/{steps}  "
        f"validation loss {evaluation.eval_loss:.4f}  perplexity {evaluation.perplexity:,.2f}"
    )


def _digits(steps: int) -> int:
    return int(math.log10(max(1, steps))) + 1
