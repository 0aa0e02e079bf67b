"""How a run is watched: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ablc.cli.output import is_terminal, say, terminal

if TYPE_CHECKING:
    from rich.progress import Progress

    from ablc.train.loop import Evaluation, Step
    from ablc.train.runner import View


class PlainView:
    """A line at every evaluation, and one at each tenth of the way, so that the log of a run can be read."""

    def __init__(self, steps: int) -> None:
        self._every = max(1, steps // 10)

    def step(self, step: Step, steps: int) -> None:
        if step.evaluation is not None:
            say(_evaluation(step.evaluation, steps))
        elif step.number % self._every == 0:
            say(_line(step, steps))

    def tell(self, message: str) -> None:
        say(message)


class LiveView:
    """A progress bar with step, loss, learning rate, tokens a second and time left; evaluations stay above it."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=steps, loss="", lr="", speed="")

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

    def tell(self, message: str) -> None:
        self._progress.console.print(message, style="yellow")


@contextmanager
def tokenising() -> Iterator[Callable[[str, int], None]]:
    """Shows how far tokenising is: on one line of a terminal, elsewhere in a line every ten seconds."""
    if is_terminal():
        console = terminal()
        with console.status("loading the data …") as status:
            yield lambda part, size: status.update(_tokenised(part, size))
        return
    last = [time.monotonic()]

    def tell(part: str, size: int) -> None:
        if time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            say(_tokenised(part, size))

    yield tell


def _tokenised(part: str, size: int) -> str:
    return f"tokenised {size / 1e6:,.1f} MB of the {part} part"


@contextmanager
def watch(steps: int) -> Iterator[View]:
    """The view of a run on what stdout is."""
    if not is_terminal():
        yield PlainView(steps)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    fields: list[Any] = [TextColumn("{task.fields[" + name + "]}") for name in ("loss", "lr", "speed")]
    with Progress(MofNCompleteColumn(), BarColumn(), *fields, TimeRemainingColumn(), console=terminal()) as progress:
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
