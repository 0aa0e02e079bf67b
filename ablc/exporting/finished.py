"""A finished run, read from its directory: the plan, the weights, the tokenizer. Nothing is written here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ablc.blueprint import Tied, leaves
from ablc.faults import UserError
from ablc.patching.patch import shapes_of
from ablc.planning import Plan
from ablc.train.corpus import DataError, builtin_corpus
from ablc.train.record import resuming
from ablc.train.tokenizer import find_encoder, hub_tokenizer

Weights = dict[str, torch.Tensor]


class ExportError(UserError):
    """Why a run can't be used."""

    code = "no-export"


@dataclass(frozen=True)
class Encoding:
    """What `run.json` says of the tokenizer; `size` and `digest` are of what it was then, where that is known."""

    name: str
    base: str
    size: int | None
    digest: str | None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Encoding:
        known = facts.get("data", {}).get("tokenizer", {})
        return cls(
            str(facts["settings"]["tokenizer"]),
            str(facts.get("base", facts["model"])),
            known.get("size"),
            known.get("hash"),
        )


@dataclass(frozen=True)
class Finished:
    """A run that has weights; `plan` is that of the model that trained."""

    folder: Path
    plan: Plan
    encoding: Encoding

    @cached_property
    def weights(self) -> Weights:
        """Every weight under its planned name, on the CPU. Raises ExportError where any is missing or has another
        shape, so that nothing is ever filled with random numbers."""
        file = self.folder / "model.safetensors"
        try:
            found = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ExportError(f"{file} can't be read: {error}") from error
        found = _under_planned_names(found, self.plan)
        planned = shapes_of(self.plan.blueprint)
        wrong = {name for name in planned.keys() | found.keys() if planned.get(name) != _shape(found, name)}
        if wrong:
            raise ExportError(f"{file} doesn't hold the weights of plan.json: look at {min(wrong)}")
        return found

    @cached_property
    def tokenizer(self) -> Any:
        """The `transformers` tokenizer it was trained with. Raises DataError where that can't be had here."""
        name, base, size, digest = astuple(self.encoding)
        vocabulary = self.plan.blueprint.config["vocab_size"]
        builtin = name == "builtin"
        corpus = builtin_corpus() if builtin else None
        wanted = size if builtin and size else vocabulary
        encoder = find_encoder(name, base_model=base, vocab_size=wanted, corpus=corpus)
        if digest not in (None, encoder.digest):
            message = f"the tokenizer `{name}` is another one here than the run was trained with"
            raise DataError(message, "use the Python and the `tokenizers` that its environment.json names")
        if name == "base":
            return hub_tokenizer(base)
        from transformers import PreTrainedTokenizerFast

        end = None if encoder.separator is None else encoder.backend.id_to_token(encoder.separator)
        length = self.plan.blueprint.config["max_position_embeddings"]
        return PreTrainedTokenizerFast(tokenizer_object=encoder.backend, eos_token=end, model_max_length=length)


def read(folder: Path) -> Finished:
    """The run in `folder`. Raises ExportError where there is none, or it has no weights yet."""
    if not (folder / "run.json").is_file():
        raise ExportError(f"there is no run in {folder}", "name a directory that `ablc run` made: it holds a run.json")
    try:
        facts, data = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("run.json", "plan.json"))
        run, status = Finished(folder, Plan.from_json(data), Encoding.of(facts)), facts["status"]
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ExportError(f"the record in {folder} can't be read: {error!r}") from error
    if not (folder / "model.safetensors").is_file():
        message = f"{folder} has no model.safetensors: the run is {status}"
        raise ExportError(message, f"they are written when it finishes: go on with it, {resuming(folder, facts)}")
    return run


def _under_planned_names(found: Weights, plan: Plan) -> Weights:
    """safetensors keeps one of the names of a shared tensor, and not the one that a plan counts it under."""
    renamed = dict(found)
    for path, part in leaves(plan.blueprint.root):
        if isinstance(part.node, Tied) and f"{path}.weight" in renamed:
            renamed[f"{part.node.to}.weight"] = renamed.pop(f"{path}.weight")
    return renamed


def _shape(weights: Weights, name: str) -> tuple[int, ...] | None:
    return tuple(weights[name].shape) if name in weights else None
