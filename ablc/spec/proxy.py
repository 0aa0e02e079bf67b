"""A narrower model that means the same: one factor on every width and rank; head size, depth and layer ranges
untouched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from ablc.families import family
from ablc.faults import UserError
from ablc.ops import operation
from ablc.spec.model import Edit, Spec

PROXY_WIDTH = 128  # what `auto` aims at: two heads of 64 train in about a minute on two cores


class ScaleError(UserError):
    """A factor that this model can't be scaled by."""

    code = "bad-scale"


def factor_of(scale: str, config: Mapping[str, Any]) -> Fraction:
    """The factor that a recipe's `scale` means for a model: `full`, `1/8`, or `auto`, the one nearest to a width of
    128."""
    if scale == "full":
        return Fraction(1)
    heads, width = config["num_attention_heads"], config["hidden_size"]
    fitting = [Fraction(kept, heads) for kept in range(1, heads + 1) if _divides(kept, config)]
    if scale == "auto":
        return min(fitting, key=lambda factor: abs(factor * width - PROXY_WIDTH))
    if Fraction(scale) not in fitting:
        units = ", ".join(str(factor) for factor in reversed(fitting) if factor.numerator == 1 and factor < 1)
        message = f"{scale} of {heads} heads can't be had with whole groups of heads"
        raise ScaleError(message, f"scales that fit: full{', ' if units else ''}{units}")
    return Fraction(scale)


def _divides(kept: int, config: Mapping[str, Any]) -> bool:
    """Whether so many of the heads can share the key-value heads that are kept in proportion, at least one."""
    kv_heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    return kept % max(1, round(Fraction(kv_heads * kept, config["num_attention_heads"]))) == 0


def scaled(spec: Spec, factor: Fraction, vocabulary: int) -> Spec:
    """The spec of the proxy: widths and ranks times `factor` (a rank is at least 1), the vocabulary the
    tokenizer's, and the standard deviation of initial weights times √(1/factor), so that activations start as
    large as in the full model."""
    config = dict(spec.config)
    for name, known in family(spec.family).fields.items():
        if known.scales == "width" and config[name] is not None:
            config[name] = max(1, round(config[name] * factor))
        elif known.scales == "vocabulary":
            config[name] = vocabulary
        elif known.scales == "std":
            config[name] = config[name] * float(1 / factor) ** 0.5
    for name, value in config.items():
        if name.endswith("_token_id") and not _is_in(value, vocabulary):
            config[name] = None  # a token of the base model's own tokenizer
    edits = tuple(_scaled_edit(edit, factor) for edit in spec.edits)
    return spec.model_copy(update={"config": config, "edits": edits})


def _is_in(token_id: Any, vocabulary: int) -> bool:
    """Whether an id, or every one of a list, is in the vocabulary; None is."""
    ids = token_id if isinstance(token_id, list) else [token_id]
    return all(number is None or number < vocabulary for number in ids)


def _scaled_edit(edit: Edit, factor: Fraction) -> Edit:
    arguments = operation(edit.operation).scaled(edit.arguments, factor)
    return edit.model_copy(update={"arguments": arguments})


def merged_ranks(specs: Iterable[Spec], factor: Fraction) -> dict[int, list[int]]:
    """Ranks that differ in the specs and are one in the proxy, by what they become: `{1: [6, 8]}` at 1/8."""
    become: dict[int, set[int]] = defaultdict(set)
    for spec in specs:
        for edit in spec.edits:
            small = operation(edit.operation).scaled(edit.arguments, factor)
            for name, value in edit.arguments.items():
                if isinstance(value, int) and small[name] != value:
                    become[small[name]].add(value)
    return {small: sorted(ranks) for small, ranks in sorted(become.items()) if len(ranks) > 1}
