"""The model of a run, as a class that can be saved: the stock class with replacements, or a stock one folded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.utils import logging

from ablc.exporting.finished import ExportError, Finished, Weights
from ablc.exporting.folding import fold
from ablc.patching.build import skeleton, unfilled


def replaced_model(run: Finished) -> Any:
    """The run's model in evaluation mode; a stock one where nothing is replaced."""
    return _filled(unfilled(run.plan), run.weights)


def folded_model(run: Finished) -> Any:
    """A dense model of the stock class that computes the same, in evaluation mode. Raises ExportError where there is
    none."""
    return _filled(skeleton(run.plan), fold(run.plan, run.weights))


def _filled(empty: Any, weights: Weights) -> Any:
    """A model like an empty one with these weights, in their dtype. Raises ExportError unless they are all of its
    weights: transformers would fill what is missing with random numbers."""
    config = empty.config
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if not _within(getattr(config, name, None), config.vocab_size):
            setattr(config, name, None)  # the base's, outside the vocabulary of a proxy: `generate` mustn't wait for it
    options = {"config": config, "state_dict": weights, "dtype": next(iter(weights.values())).dtype}
    with quiet():
        model, info = type(empty).from_pretrained(None, **options, output_loading_info=True)
    if any(info.values()):
        kind, names = next((kind, names) for kind, names in info.items() if names)
        which = f"{kind.replace('_', ' ')}, {min(map(str, names))}"
        message = f"transformers reads these weights otherwise than planned: {which}"
        raise ExportError(message, "take the version of transformers that the run's environment.json names")
    if not config.use_cache:
        model.generation_config.use_cache = False
    assert isinstance(model, torch.nn.Module)
    return model.eval()


def _within(token: int | list[int] | None, size: int) -> bool:
    return token is None or all(one < size for one in ([token] if isinstance(token, int) else token))


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars of transformers, which are for waits that there aren't here."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
