"""`ablc calibrate`."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import exp, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablc.cli.output import (
    CLEAN,
    FINDINGS,
    INTERRUPTED,
    INVALID,
    is_terminal,
    one_spec,
    plural,
    print_fault,
    say,
    show_table,
)
from ablc.cli.progress import bars, tokenising, unless_gone
from ablc.cli.summary import warn_of_tokens
from ablc.faults import Fault, SpecError, reason_of
from ablc.recipes import load_recipe, make_recipe, parse_setting
from ablc.spec import Spec

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ablc.patching import PairError
    from ablc.spec.recipe import Recipe
    from ablc.train.calibrate import Outcome, Pair
    from ablc.train.fitting import Fit, Fitted
    from ablc.train.record import Record
    from ablc.train.work import Work

DATA = "local"  # the recipe whose data is used where none is named
# A calibration compares with the base as it is: its whole width, its weights, in full precision.
ALWAYS = {"scale": "full", "weights": "pretrained", "precision": "fp32"}


@dataclass(frozen=True)
class CalibrateOptions:
    """The flags of `ablc calibrate`."""

    recipe: str | None = None
    batches: int | None = None
    steps: int | None = None
    lr: float | None = None
    seed: int | None = None
    out: Path | None = None
    settings: list[str] = field(default_factory=list)

    def said(self) -> dict[str, Any]:
        """How blocks are fitted, as far as the flags say."""
        flags = {"batches": self.batches, "steps": self.steps, "lr": self.lr}
        return {key: value for key, value in flags.items() if value is not None}


def calibrate_command(path: str | None, resume: Path | None, options: CalibrateOptions) -> int:
    """Begin a calibration, or go on with one: load teacher and student, fit block after block, and say what came of
    it."""
    gc.enable()
    if (fault := _contradiction(path, resume, options)) is not None:
        print_fault(fault)
        return INVALID
    spec = one_spec(path) if path is not None else None
    if path is not None and spec is None:
        return INVALID
    for number in (signal.SIGINT, signal.SIGTERM):  # what a shell puts into the background ignores the first by itself
        signal.signal(number, _interrupt)
    if spec is not None:
        return _begin(spec, _recipe(spec, options), options)
    assert resume is not None
    return _answered(lambda: _go_on(resume), resume)


def _contradiction(path: str | None, resume: Path | None, options: CalibrateOptions) -> Fault | None:
    if options.lr is not None and not isfinite(options.lr):
        return Fault("bad-option", f"--lr is a number, not {options.lr}")
    if path is None and resume is None:
        help = "name a file: ablc calibrate specs/18.abl; or a calibration: --resume DIR"
        return Fault("no-spec", "no spec is given", help=help)
    if resume is not None and (path is not None or options != CalibrateOptions()):
        help = "take away the spec and the flags, or begin a new calibration without --resume"
        return Fault("bad-option", "a calibration that goes on keeps the spec and the flags it began with", help=help)
    return None


def _recipe(spec: Spec, options: CalibrateOptions) -> Recipe:
    """The recipe's data, cut in its blocks; without one, local texts in the base's own tokens. Pairs start as `svd`
    unless a setting says otherwise. Raises SpecError."""
    said = dict(parse_setting(text) for text in options.settings)
    said |= {} if options.seed is None else {"seed": options.seed}
    spoiled = [key for key in ALWAYS if key in said and said[key] != ALWAYS[key]]
    if spoiled:
        message = f"a calibration needs train.{spoiled[0]} = {ALWAYS[spoiled[0]]}"
        raise SpecError([Fault("bad-setting", message, help="leave the setting out")])
    own = {"tokenizer": "base"} if options.recipe is None else {}
    return make_recipe(load_recipe(options.recipe or DATA), own, spec.train, {"init": "svd"}, said, ALWAYS)


def _begin(spec: Spec, recipe: Recipe, options: CalibrateOptions) -> int:
    say("loading torch and transformers …")
    from ablc.train.record import check_new, claim_folder, leave

    name = options.recipe or DATA
    if options.out is not None:
        check_new(options.out)
    folder = options.out or claim_folder(spec.full_name, f"calibrated-{Path(name).stem}", recipe.seed)
    try:
        return _answered(lambda: _new(spec, name, recipe, options, folder), folder)
    finally:
        leave(folder)


def _new(spec: Spec, name: str, recipe: Recipe, options: CalibrateOptions, folder: Path) -> int:
    from ablc.api import plan as plan_of
    from ablc.patching import weights_source
    from ablc.train.calibrate import begin, check_positions, fittable, load
    from ablc.train.environment import pick_device
    from ablc.train.fitting import Fit
    from ablc.train.work import prepare
    from ablc.train.workers import Workers

    places = fittable(plan_of(spec))
    if not places:
        message = "this spec puts nothing in place of the base's modules that could be fitted, or it is frozen"
        print_fault(Fault("nothing-to-fit", message, help="what is only removed can be trained: ablc run"))
        return INVALID
    # Named by where it lies, so that its tokenizer and its weights are found from wherever this runs.
    spec = spec.model_copy(update={"model": weights_source(spec)})
    with tokenising() as progress:
        prepared = prepare(spec, recipe, name, Workers(pick_device()), progress)
    fit = Fit(**options.said(), seed=recipe.seed)
    check_positions(prepared.work, fit)
    pair = load(prepared.work)
    _show_start(spec, recipe, fit, len(pair.places), len(places), pair.errors)
    return _fit(prepared.work, pair, fit, lambda: begin(prepared, pair, fit, folder))


def _go_on(folder: Path) -> int:
    say("loading torch and transformers …")
    from ablc.train.calibrate import fit_of, load
    from ablc.train.checkpoints import has_weights
    from ablc.train.environment import environment, pick_device
    from ablc.train.record import Record, check_kind, read_facts
    from ablc.train.work import work_of
    from ablc.train.workers import Workers

    facts = read_facts(folder)
    check_kind(folder, facts, calibration=True)
    if facts["status"] == "finished" and has_weights(folder):
        say(f"the calibration in {folder} is finished: there is nothing to go on with")
        return CLEAN
    say(f"goes on with {facts['name']} in {folder}")
    fit, workers = fit_of(folder, facts), Workers(pick_device())
    with tokenising() as progress:
        work = work_of(folder, facts, workers, progress)
    return _fit(work, load(work), fit, lambda: Record.reopen(folder, environment(workers.device)))


def _fit(work: Work, pair: Pair, fit: Fit, opened: Callable[[], Record]) -> int:
    from ablc.train.calibrate import execute

    with _watch() as view:
        record = opened()
        outcome = execute(work, pair, fit, record, view)
    _show_results(outcome, record.facts["seconds"], record.folder)
    return CLEAN


def _answered(command: Callable[[], int], folder: Path) -> int:
    """The exit code of a command whose record is in a folder, and what to do where it was cut off."""
    from ablc.train.record import resuming

    command_again = resuming(folder, calibration=True)
    try:
        return command()
    except KeyboardInterrupt:
        there = (folder / "run.json").exists()
        say(f"interrupted; go on with: {command_again}" if there else "interrupted before the first block")
        return INTERRUPTED
    except (MemoryError, OSError, RuntimeError) as error:
        help = "if memory ran out: fewer --batches, or a smaller train.batch_size"
        if (folder / "run.json").exists():
            help += f"; what was done can be gone on with: {command_again}"
        print_fault(Fault("calibration-failed", reason_of(error), help=help))
        return FINDINGS


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


# --- what is shown ---------------------------------------------------------------------------------------------------


class _View:
    """A line for every block, above a bar on a terminal."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    @unless_gone
    def begin(self, done: int, blocks: int) -> None:
        if done:
            self.tell(f"goes on after block {done} of {blocks}")
        if self._progress is not None:
            self._task = self._progress.add_task("", total=blocks, completed=done)

    @unless_gone
    def block(self, fitted: Fitted, number: int, blocks: int) -> None:
        self.tell(f"{number:>{len(str(blocks))}}/{blocks}  {fitted.path}  {_change(fitted)}")
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=number)

    @unless_gone
    def tell(self, message: str) -> None:
        if self._progress is not None:
            self._progress.console.print(message, markup=False)
        else:
            say(message)


@contextmanager
def _watch() -> Iterator[_View]:
    if not is_terminal():
        yield _View(None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    with bars(MofNCompleteColumn(), BarColumn(), TimeRemainingColumn()) as progress:
        yield _View(progress)


def _change(fitted: Fitted) -> str:
    if fitted.before is None or fitted.after is None:
        return fitted.note
    return f"{fitted.before:.4f} → {fitted.after:.4f}"


def _show_start(spec: Spec, recipe: Recipe, fit: Fit, replaced: int, to_fit: int, errors: Sequence[PairError]) -> None:
    say(f"\n{spec.full_name}", "bold")
    products = [row for row in errors if not row.note]
    say(
        f"{plural(replaced, 'module')} of {spec.model} replaced or removed, {to_fit} to be fitted; "
        f"{len(products)} start as {recipe.init}"
    )
    tokens = fit.batches * recipe.batch_size * recipe.block_size
    say(f"fits on up to {tokens:,} tokens of {recipe.data}, seed {recipe.seed}\n")
    warn_of_tokens(recipe)


def _show_results(outcome: Outcome, seconds: float, folder: Path) -> None:
    rows = []
    for one in outcome.blocks:
        module = one.path.rpartition(".")[2]
        before, after = (f"{value:.4f}" if value is not None else "" for value in (one.before, one.after))
        rows.append((one.slot, "" if one.layer is None else str(one.layer), module, before, after, one.note))
    say("\nhow far each block is from the original, on positions that it wasn't fitted on", "bold")
    show_table(("slot", "layer", "module", "before", "after", ""), rows, right=("layer", "before", "after"))
    losses = (("teacher", outcome.teacher), ("student before", outcome.before), ("student after", outcome.after))
    shown = [(who, f"{loss:.4f}", f"{exp(min(loss, 700)):,.2f}") for who, loss in losses if loss is not None]
    say()
    show_table(("", "validation loss", "perplexity"), shown, right=("validation loss", "perplexity"))
    say(f"\nfinished after {seconds:.0f} s: {folder}", "bold")
