"""How far tokenising is: a bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import errno
import io
import itertools
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from ablc.cli import progress
from ablc.train.loop import Evaluation, Step

Tell = Callable[[str, int, float | None], None]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    """A terminal that keeps what is written to it."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(progress, "is_terminal", lambda: True)
    monkeypatch.setattr(progress, "terminal", lambda: console)
    return console


def frames(console: Console) -> list[str]:
    """What stood on the line of the bar, one after another."""
    assert isinstance(console.file, io.StringIO)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", console.file.getvalue()).replace("\r", "\n")
    return [line.strip() for line in plain.splitlines() if line.strip()]


def shown(tell: Tell, console: Console, *words: tuple[str, int, float | None]) -> str:
    """The line after some words of progress."""
    for word in words:
        tell(*word)
    bars = tell.__self__._progress  # type: ignore[attr-defined]
    bars.refresh()
    return frames(console)[-1]


def test_a_bar_with_its_end_on_a_terminal(screen: Console) -> None:
    with progress.tokenising() as tell:
        assert shown(tell, screen).startswith("loading the data …")
        line = shown(tell, screen, ("train", 2_000_000, 0.1), ("train", 10_000_000, 0.5))
        assert line.startswith("tokenised 10.0 MB of the train part") and " 50%" in line
        assert re.search(r"\d:\d\d:\d\d$", line), line  # the time left
        line = shown(tell, screen, ("validation", 500_000, 0.25))
        assert line.startswith("tokenised 0.5 MB of the validation part") and " 25%" in line


def test_a_counter_where_the_end_is_not_known(screen: Console) -> None:
    with progress.tokenising() as tell:
        line = shown(tell, screen, ("train", 2_000_000, None), ("train", 3_000_000, None))
    assert line.startswith("tokenised 3.0 MB of the train part") and "%" not in line and not re.search(r"\d:\d\d", line)


class Gone(io.StringIO):
    """A terminal that was closed."""

    closed_now = False

    def write(self, text: str) -> int:
        if self.closed_now:
            raise OSError(errno.EIO, "Input/output error")
        return super().write(text)


def test_no_run_ends_because_its_terminal_did(screen: Console) -> None:
    screen.file = gone = Gone()
    with pytest.raises(ValueError, match="of its own"), progress.watch(10):
        raise ValueError("of its own")
    with progress.watch(10) as view:
        view.tell("it begins")
        gone.closed_now = True
        view.tell("it goes on")
        view.step(Step(1, {"loss": 1.0, "lr": 1.0, "tokens_per_second": 1.0}, Evaluation(1, 1.0)), 10)


def test_what_is_told_of_a_run_is_no_markup(screen: Console) -> None:
    with progress.watch(10) as view:
        view.tell("tensorboard stopped: [/w] isn't a directory")
    assert "tensorboard stopped: [/w] isn't a directory" in "\n".join(frames(screen))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four seconds go by at each look at the clock."""
    ticks = itertools.count(step=4)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(ticks)))


def test_plain_lines_are_few_and_say_how_long(clock: None, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.tokenising() as tell:
        for megabytes in range(1, 11):
            tell("train", megabytes * 10**6, megabytes / 20)
        tell("validation", 10**6, None)
        tell("validation", 2 * 10**6, None)
    assert capsys.readouterr().out.splitlines() == [
        "tokenised 3.0 MB of the train part (15%, about 68 s left)",
        "tokenised 6.0 MB of the train part (30%, about 56 s left)",
        "tokenised 9.0 MB of the train part (45%, about 44 s left)",
        "tokenised 2.0 MB of the validation part",
    ]


def test_nothing_is_said_of_what_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.tokenising() as tell:
        tell("train", 10**6, 0.5)
        tell("train", 2 * 10**6, 1.0)
    assert capsys.readouterr().out == ""
