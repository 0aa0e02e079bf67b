"""`ablc calibrate`."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablc.cli.output import (
    CLEAN,
    FINDINGS,
    INVALID,
    is_terminal,
    one_spec,
    plural,
    print_fault,
    say,
    show_table,
    terminal,
)
from ablc.faults import Fault, SpecError
from ablc.recipes import load_recipe, make_recipe, parse_setting
from ablc.spec import Spec

if TYPE_CHECKING:
    from rich.progress import Progress

    from ablc.patching import PairError
    from ablc.spec.recipe import Recipe
    from ablc.train.calibrate import Outcome
    from ablc.train.fitting import Fit, Fitted

# A calibration compares with the base as it is: its whole width, its weights, in full precision.
ALWAYS = {"scale": "full", "weights": "pretrained", "precision": "fp32"}


def calibrate_command(
    path: str,
    recipe: str | None,
    batches: int,
    steps: int,
    lr: float,
    seed: int | None,
    out: Path | None,
    settings: list[str],
) -> int:
    """Compile, load teacher and student, fit block after block, and say what came of it."""
    gc.enable()
    spec = one_spec(path)
    if spec is None:
        return INVALID
    said = dict(parse_setting(text) for text in settings)
    said |= {} if seed is None else {"seed": seed}
    spoiled = [key for key in ALWAYS if key in said and said[key] != ALWAYS[key]]
    if spoiled:
        message = f"a calibration needs train.{spoiled[0]} = {ALWAYS[spoiled[0]]}"
        raise SpecError([Fault("bad-setting", message, help="leave the setting out")])
    return _calibrate(spec, recipe or "local", _recipe(recipe, spec, said), (batches, steps, lr), out)


def _recipe(name: str | None, spec: Spec, said: dict[str, Any]) -> Recipe:
    """The recipe's data, cut in its blocks; without one, local texts in the base's own tokens. Pairs start as `svd`
    unless a setting says otherwise."""
    own = {"tokenizer": "base"} if name is None else {}
    return make_recipe(load_recipe(name or "local"), own, spec.train, {"init": "svd"}, said, ALWAYS)


def _calibrate(spec: Spec, name: str, recipe: Recipe, how: tuple[int, int, float], out: Path | None) -> int:
    say("loading torch and transformers …")
    from ablc.train.record import check_new, claim_folder, leave

    signal.signal(signal.SIGTERM, _interrupt)
    folder = out or Path()
    try:
        if out is not None:
            check_new(out)
        else:
            folder = claim_folder(spec.full_name, f"calibrated-{Path(name).stem}", recipe.seed)
        return _work(spec, name, recipe, how, folder)
    except KeyboardInterrupt:
        kept = f"; the blocks that were done are in {folder}" if (folder / "model.safetensors").exists() else ""
        say(f"interrupted{kept}")
        return 130
    except (MemoryError, OSError, RuntimeError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        help = "if memory ran out: fewer --batches, or a smaller train.batch_size"
        print_fault(Fault("calibration-failed", text, help=help))
        return FINDINGS
    finally:
        leave(folder)


def _work(spec: Spec, name: str, recipe: Recipe, how: tuple[int, int, float], folder: Path) -> int:
    from ablc.api import plan as plan_of
    from ablc.patching import weights_source
    from ablc.train.calibrate import execute, fittable, load
    from ablc.train.environment import pick_device
    from ablc.train.fitting import Fit
    from ablc.train.work import prepare
    from ablc.train.workers import Workers

    places = fittable(plan_of(spec))
    if not places:
        message = "this spec puts nothing in place of the base's modules that could be fitted"
        print_fault(Fault("nothing-to-fit", message, help="what is only removed can be trained: ablc run"))
        return INVALID
    # Named by where it lies, so that its tokenizer and its weights are found from wherever this runs.
    spec = spec.model_copy(update={"model": weights_source(spec)})
    prepared = prepare(spec, recipe, name, Workers(pick_device()))
    pair, fit = load(prepared.work), Fit(*how, seed=recipe.seed)
    _show_start(spec, recipe, fit, len(pair.places), len(places), pair.errors)
    with _watch(len(pair.places)) as view:
        record, outcome = execute(prepared, pair, fit, folder, view)
    _show_results(outcome, record.facts["seconds"], folder)
    return CLEAN


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


# --- what is shown ---------------------------------------------------------------------------------------------------


class _View:
    """A line for every block, above a bar on a terminal."""

    def __init__(self, progress: Progress | None, blocks: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=blocks) if progress else None

    def block(self, fitted: Fitted, number: int, blocks: int) -> None:
        self.tell(f"{number:>{len(str(blocks))}}/{blocks}  {fitted.path}  {_change(fitted)}")
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=number)

    def tell(self, message: str) -> None:
        if self._progress is not None:
            self._progress.console.print(message, markup=False)
        else:
            say(message)


@contextmanager
def _watch(blocks: int) -> Iterator[_View]:
    if not is_terminal():
        yield _View(None, blocks)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), console=terminal()) as progress:
        yield _View(progress, blocks)


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
    if recipe.tokenizer != "base":
        message = f"the base was trained on its own tokens, and these are of the tokenizer `{recipe.tokenizer}`"
        print_fault(Fault("other-tokenizer", message, help="--set train.tokenizer=base", level="warning"))


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
