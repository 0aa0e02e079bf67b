"""What `ablc run` shows before and after training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablc.blueprint.measures import params
from ablc.cli.output import print_fault, say, show_table
from ablc.faults import Fault
from ablc.planning import Plan
from ablc.planning.counting import summary
from ablc.spec import Spec
from ablc.spec.proxy import merged_ranks

if TYPE_CHECKING:
    from ablc.patching import PairError
    from ablc.spec.recipe import Recipe
    from ablc.train.work import Prepared


def show_counts(plan: Plan) -> None:
    """Parameters per slot, original against patched; the parts of a slot are in the slot's own row."""
    say(f"\n{plan.name}", "bold")
    columns = ("slot", plan.model.rpartition("/")[2], "this spec", "change")
    rows = [(slot, f"{a:,}", f"{b:,}", f"{b - a:+,}" if a != b else "·") for slot, a, b in summary(plan)]
    show_table(columns, rows, right=columns[1:])
    say()


def show_training(prepared: Prepared, family: list[Spec], device: str) -> None:
    """What trains, on what, for how long."""
    work, recipe = prepared.work, prepared.work.recipe
    if recipe.scale != "full":
        config = work.plan.blueprint.config
        say(
            f"trains a proxy at {_share(prepared.factor)} width: {params(work.plan.blueprint):,} parameters, "
            f"hidden size {config['hidden_size']}, {len(work.plan.blueprint.layers)} layers, "
            f"a vocabulary of {config['vocab_size']:,}"
        )
        for small, ranks in merged_ranks(family, prepared.factor).items():
            message = (
                f"ranks {', '.join(map(str, ranks))} all become {small} at this scale: the proxy can't tell them apart"
            )
            print_fault(Fault("merged-ranks", message, level="warning"))
    if work.weights:
        warn_of_tokens(recipe)
    if recipe.warmup_steps > work.steps:
        message = f"{recipe.warmup_steps:,} steps of warm-up in a run of {work.steps:,}: its peak rate is never reached"
        print_fault(
            Fault("long-warmup", message, help="train longer, or set train.warmup_steps lower", level="warning")
        )
    tokens = recipe.batch_size * recipe.accumulation * recipe.block_size
    start = f"from the weights of {work.weights}, " if work.weights else ""
    together = f" in {work.workers.size} processes ({recipe.parallel})" if work.workers.size > 1 else ""
    say(
        f"{work.steps:,} steps of {tokens:,} tokens of {work.data.manifest['name']}, {recipe.precision}, {start}"
        f"pairs start {recipe.init}, seed {recipe.seed}, on {device}{together}"
    )


def warn_of_tokens(recipe: Recipe) -> None:
    """Say it where weights that know their own tokens are given others."""
    if recipe.tokenizer != "base":
        message = f"the base was trained on its own tokens, and these are of the tokenizer `{recipe.tokenizer}`"
        print_fault(Fault("other-tokenizer", message, help="--set train.tokenizer=base", level="warning"))


def show_pair_errors(errors: Iterable[PairError]) -> None:
    """How far each low-rank pair is from the matrix it replaced, and how near a pair of its rank can be."""
    columns = ("slot", "layer", "rank", "error", "least possible")
    rows = [
        (
            one.slot,
            "" if one.layer is None else str(one.layer),
            str(one.rank),
            (one.note or "-") if one.error is None else f"{one.error:.4f}",
            "" if one.optimal is None else f"{one.optimal:.4f}",
        )
        for one in errors
    ]
    if rows:
        say("\nrelative Frobenius errors of the low-rank pairs at the start", "bold")
        show_table(columns, rows, right=columns[1:])
    else:
        say("no low-rank pair replaces a matrix here")


def show_results(facts: Mapping[str, Any], folder: Path) -> None:
    """How the run ended, beside what counting words reaches on the same data."""
    final, best, baselines = facts["final"], facts["best"], facts["baselines"]
    say(f"\n{facts['status']} after {duration(facts['seconds'])}: {folder}", "bold")
    if final is None:
        return
    rows = [
        ("this run, at the end", final["eval_loss"], f"step {final['step']}"),
        ("this run, at its best", best["eval_loss"], f"step {best['step']}"),
        ("a bigram model of the same data", baselines["bigram"], ""),
        ("a unigram model of the same data", baselines["unigram"], ""),
    ]
    shown = [(name, f"{loss:.4f}", f"{exp(min(loss, 700)):,.2f}", note) for name, loss, note in rows]
    show_table(("", "validation loss", "perplexity", ""), shown, right=("validation loss", "perplexity"))
    if "moved" in facts:
        say(f"{facts['moved']:.1%} of the weights moved at all: they are kept in bf16")
    if final["eval_loss"] > baselines["unigram"] - 1:
        message = "this run doesn't beat the unigram model by 1 nat: it has learned too little to be compared"
        print_fault(Fault("undertrained", message, help="train longer, or wider", level="warning"))


def _share(factor: Fraction) -> str:
    return "its own" if factor == 1 else f"{factor} of the"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
