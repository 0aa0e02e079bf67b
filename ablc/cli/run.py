"""`ablc run`."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablc.cli.output import CLEAN, FINDINGS, INTERRUPTED, INVALID, answer, one_spec, print_fault, say
from ablc.faults import Fault, UserError, reason_of
from ablc.pipeline import compile_file
from ablc.recipes import load_recipe, make_recipe, parse_setting
from ablc.spec import Spec

if TYPE_CHECKING:
    from ablc.train.work import Prepared, Work
    from ablc.train.workers import Workers


@dataclass(frozen=True)
class RunOptions:
    """The flags of `ablc run`."""

    recipe: str | None = None
    steps: int | None = None
    seed: int | None = None
    scale: str | None = None
    out: Path | None = None
    settings: list[str] = field(default_factory=list)
    wandb: str = "off"
    mirrors: list[str] = field(default_factory=list)
    report_init: bool = False
    processes: int = 1

    def said(self) -> dict[str, Any]:
        """The recipe keys that the flags set. Raises SpecError."""
        flags = {"steps": self.steps, "seed": self.seed, "scale": self.scale}
        said = dict(parse_setting(text) for text in self.settings)
        return said | dict(parse_setting(f"train.{key}={value}") for key, value in flags.items() if value is not None)


def run_command(path: str | None, resume: Path | None, options: RunOptions) -> int:
    """Begin a run, or go on with one: say what will be trained and how, train, and say what came of it."""
    gc.enable()
    if (fault := _contradiction(path, resume, options)) is not None:
        print_fault(fault)
        return INVALID
    if options.processes > 1 and not _is_one_of_several():
        from ablc.cli.launch import launch

        return launch(sys.argv[1:], options.processes)
    with _heard_once():
        spec = one_spec(path) if path is not None else None
        if path is not None and spec is None:
            return INVALID
        return answer(lambda: _told(lambda: _run(spec, resume, options)))


def _is_one_of_several() -> bool:
    """Whether `torchrun`, or this command with --nproc, has started this process beside others."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _told(work: Callable[[], int]) -> int:
    """What another process than the first can't do is told too where the first may not know: on another machine, or
    where they never found each other."""
    from ablc.train.workers import WorkersError

    try:
        return work()
    except UserError as error:
        rank, local = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK"))
        if _is_one_of_several() and rank and (local == 0 or isinstance(error, WorkersError)):
            print(f"process {rank}: {error.message}", file=sys.__stderr__)
        raise


def _contradiction(path: str | None, resume: Path | None, options: RunOptions) -> Fault | None:
    if options.wandb not in ("online", "offline", "off"):
        return Fault("bad-option", f"--wandb is online, offline or off, not {options.wandb}")
    if unknown := [name for name in options.mirrors if name not in ("tensorboard", "trackio")]:
        return Fault("bad-option", f"--mirror is tensorboard or trackio, not {unknown[0]}")
    if path is None and resume is None:
        return Fault("no-spec", "no spec is given", help="name a file: ablc run specs/18.abl; or a run: --resume DIR")
    changing = (options.recipe, options.steps, options.seed, options.scale, options.out, options.settings or None)
    if resume is not None and (path is not None or any(one is not None for one in changing)):
        help = "take away the spec and the flags, or begin a new run without --resume"
        return Fault("bad-option", "a run that goes on keeps the spec and the recipe it began with", help=help)
    return None


@contextmanager
def _heard_once() -> Iterator[None]:
    """Of several processes the first alone writes to the terminal."""
    if not _is_one_of_several() or os.environ.get("RANK", "0") == "0":
        yield
        return
    streams = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        sys.stdout = sys.stderr = nowhere
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams


def _variants(spec: Spec) -> list[Spec]:
    """All variants of the file that a spec is one of."""
    if not spec.variant:
        return [spec]
    return [planned.spec for planned in compile_file(Path(spec.file), claims=False).variants]


def _run(spec: Spec | None, resume: Path | None, options: RunOptions) -> int:
    say("loading torch and transformers …")
    from ablc.train.mirrors import check_installed
    from ablc.train.workers import workers

    check_installed(options.mirrors)
    try:
        with workers() as team:
            if spec is not None:
                return _begin(spec, _variants(spec), options, team)
            assert resume is not None
            return _go_on(resume, options, team)
    except _Left as left:
        return left.code


class _Left(Exception):
    """This process ends before the others may, and said why. They may be waiting for it, which it mustn't wait for in
    turn."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


def _begin(spec: Spec, family: list[Spec], options: RunOptions, team: Workers) -> int:
    from ablc.cli.progress import tokenising
    from ablc.cli.summary import show_counts, show_training
    from ablc.train.environment import describe_device
    from ablc.train.record import check_new
    from ablc.train.work import prepare

    asked = options.recipe is not None or not team.is_first  # the first process alone asks the network
    name, why = team.share((options.recipe or "", "as you chose") if asked else _choose_recipe(team.device.type))
    recipe = make_recipe(load_recipe(name), spec.train, options.said())
    say(f"recipe {name}: {why}")
    if options.out is not None:
        check_new(options.out)
    with tokenising() as progress:
        prepared = prepare(spec, recipe, name, team, progress)
    show_counts(prepared.full)
    show_training(prepared, family, describe_device(team.device))
    folder = options.out or _claimed(spec, name, recipe.seed, team)
    return _train(prepared.work, folder, options, prepared)


def _claimed(spec: Spec, recipe: str, seed: int, team: Workers) -> Path:
    """A folder that the first process made for the run, the same in all of them."""
    from ablc.train.record import claim_folder

    made = team.share(team.first_does(lambda: claim_folder(spec.full_name, recipe, seed)))
    assert made is not None
    return made


def _go_on(folder: Path, options: RunOptions, team: Workers) -> int:
    from ablc.cli.progress import tokenising
    from ablc.train.checkpoints import has_weights
    from ablc.train.record import check_kind, read_facts
    from ablc.train.work import work_of

    facts = read_facts(folder)
    check_kind(folder, facts, calibration=False)
    if facts["status"] == "finished" and has_weights(folder):
        say(f"the run in {folder} is finished: there is nothing to go on with")
        return CLEAN
    if facts["status"] == "diverged":
        say("it diverged: after the same steps it will again, unless another machine rounds otherwise")
    say(f"goes on with {facts['name']} in {folder}")
    with tokenising() as progress:
        work = work_of(folder, facts, team, progress)
    return _train(work, folder, options, None)


def _train(work: Work, folder: Path, options: RunOptions, new: Prepared | None) -> int:
    """Build the model, open the record, train: a `new` run, or one that goes on."""
    from ablc.cli.progress import watch
    from ablc.cli.summary import duration, show_pair_errors, show_results
    from ablc.train.mirrors import mirrors
    from ablc.train.record import leave, resuming
    from ablc.train.runner import begin, execute, reopen
    from ablc.train.tracking import Tracker
    from ablc.train.work import assemble, estimate_seconds

    record = None
    try:
        watching = mirrors(options.wandb, options.mirrors, say) if work.workers.is_first else []
        record, checkpoint = reopen(folder, work, say) if new is None else (None, None)
        trainee = assemble(work, options.report_init, checkpoint)
        if options.report_init:
            show_pair_errors(trainee.errors)
        seconds = estimate_seconds(trainee.job, checkpoint.step if checkpoint is not None else 0)
        say(f"about {duration(seconds)} on this machine\n")
        if new is not None:
            record = begin(new, folder)
        with watch(work.steps) as view, _stopping(view.tell) as stop:
            facts = execute(work, trainee, record, folder, Tracker(watching, view.tell), view, stop, checkpoint)
    except BrokenPipeError:  # before anything is trained; then views are done without
        raise
    except KeyboardInterrupt as interrupt:
        there = (folder / "run.json").exists()
        say(f"interrupted; go on with: {resuming(folder)}" if there else "interrupted before the first step")
        raise _Left(INTERRUPTED) from interrupt
    except (MemoryError, OSError, RuntimeError) as error:
        _tell_failure(_failure(error, folder), work.workers)
        raise _Left(FINDINGS) from error
    finally:
        if record is not None:
            record.release()
        leave(folder)
    if not work.workers.is_first:
        return CLEAN
    show_results(facts, folder)
    return CLEAN if facts["status"] == "finished" else FINDINGS


@contextmanager
def _stopping(tell: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Whether to stop: the first Ctrl-C or SIGTERM lets the step in hand end, so that it can be saved; a second one
    doesn't wait."""
    asked: list[float] = []

    def ask(number: int, frame: object) -> None:
        now = time.monotonic()
        if asked and now - asked[0] < 1:
            return  # the same wish: it may come from the terminal and from whoever started us
        asked.append(now)
        if len(asked) > 1:
            raise KeyboardInterrupt
        tell("stopping after this step (again to stop at once)")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def _tell_failure(fault: Fault, team: Workers) -> None:
    print_fault(fault)
    if not team.is_first:  # what only this process knows must not be lost
        print(f"process {team.rank}: {fault.message}", file=sys.__stderr__)


# As PyTorch says it for a GPU, for main memory, and where a library of the GPU's had no room.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "_ALLOC_FAILED")


def _failure(error: BaseException, folder: Path) -> Fault:
    where = f"; the record in {folder} ends here" if (folder / "run.json").exists() else ""
    text = reason_of(getattr(error, "inner_exception", error))  # of what compiles
    if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        help = "lower train.batch_size (with train.accumulation higher), or choose a smaller --scale"
        return Fault("out-of-memory", f"out of memory{where}", help=help)
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        lacks = "compiler" in text or "triton" in text.lower()
        help = "leave train.compile out, or go on where there is a C++ compiler and, for a GPU, Triton"
        help = help if lacks else "leave train.compile or train.gradient_checkpointing out"
        return Fault("run-failed", f"the model can't be compiled here: {text}{where}", help=help)
    if "gloo" in text or "NCCL" in text:
        text = "another process has died, or can't be heard"
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {text}"
    if not where:
        return Fault("run-failed", text)
    from ablc.train.record import resuming

    help = f"what was saved can be gone on with: {resuming(folder)}"
    return Fault("run-failed", f"{text}{where}", help=help)
