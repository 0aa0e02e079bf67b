"""The model of a run, as a class that can be saved: the stock class with replacements, or a stock one folded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.utils import logging

from ablc import modeling_ablc
from ablc.blueprint import Node
from ablc.blueprint.as_json import encode
from ablc.exporting.finished import Finished, Weights
from ablc.exporting.folding import fold
from ablc.patching import build
from ablc.patching.build import skeleton
from ablc.patching.replaced import replaced
from ablc.planning import Plan

# What a config says of the class that it was made for, or of the file it came from.
_OF_ITS_CLASS = ("model_type", "architectures", "transformers_version", "_name_or_path", "dtype")


def replaced_model(run: Finished) -> Any:
    """The run's model in evaluation mode; a stock one where nothing is replaced. Raises ExportError."""
    plan = run.plan
    found = replacements(plan)
    if not found:
        return folded_model(run)
    # The config of the patched model, since that also says what the KV cache must know.
    fields = build(plan, device="meta").config.to_dict().items()
    kept = {name: value for name, value in fields if name not in _OF_ITS_CLASS}
    family = plan.original.family
    config = modeling_ablc.config_class(family)(**_without_strangers(kept), replacements=found)
    return _filled(modeling_ablc.model_class(family), config, run.weights)


def folded_model(run: Finished) -> Any:
    """A dense model of the stock class that computes the same, in evaluation mode. Raises ExportError where there is
    none."""
    weights = fold(run.plan, run.weights)
    stock = skeleton(run.plan)
    kept = _without_strangers(stock.config.to_dict())
    return _filled(type(stock), type(stock.config)(**kept), weights)


def replacements(plan: Plan) -> list[dict[str, Any]]:
    """What stands where in place of the base's modules, as `modeling_ablc` reads it; equal ones are written once."""
    paths: dict[Node, list[str]] = defaultdict(list)
    for one in replaced(plan):
        paths[one.after].append(one.path)
    return [{"paths": at, "node": encode(node)} for node, at in paths.items()]


def _without_strangers(fields: dict[str, Any]) -> dict[str, Any]:
    """The base's special tokens may lie outside the vocabulary of a proxy; `generate` mustn't wait for them."""
    size = fields["vocab_size"]
    strange = {name for name in ("bos_token_id", "eos_token_id", "pad_token_id") if not _within(fields.get(name), size)}
    return {name: None if name in strange else value for name, value in fields.items()}


def _within(token: int | list[int] | None, size: int) -> bool:
    return token is None or all(one < size for one in ([token] if isinstance(token, int) else token))


def _filled(kind: Any, config: Any, weights: Weights) -> Any:
    """A model of a class with these weights, in their dtype. Raises RuntimeError unless they are all of its weights:
    transformers would fill what is missing with random numbers."""
    dtype = next(iter(weights.values())).dtype
    with quiet():
        options = {"config": config, "state_dict": weights, "dtype": dtype, "output_loading_info": True}
        model, info = kind.from_pretrained(None, **options)
    if any(info.values()):
        raise RuntimeError(f"transformers reads these weights otherwise than planned: {info}")
    if not config.use_cache:
        model.generation_config.use_cache = False
    assert isinstance(model, torch.nn.Module)
    return model.eval()


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
