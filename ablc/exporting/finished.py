"""A finished run, read from its directory: the plan, the weights, the tokenizer. Nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ablc.blueprint import Tied, leaves
from ablc.faults import UserError, reason_of
from ablc.patching.patch import shapes_of
from ablc.planning import Plan
from ablc.train.corpus import DataError, builtin_corpus
from ablc.train.record import RecordError, read_facts, read_plan, resuming
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
    digest: str

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Encoding:
        known = facts["data"]["tokenizer"]
        return cls(str(facts["settings"]["tokenizer"]), facts["base"], known.get("size"), known["hash"])


@dataclass(frozen=True)
class Finished:
    """A run that has weights; `plan` is that of the model that trained, `way_out` what to do where they are damaged."""

    folder: Path
    plan: Plan
    encoding: Encoding
    way_out: str

    @cached_property
    def weights(self) -> Weights:
        """Every weight under its planned name, on the CPU. Raises ExportError where any is missing or has another
        shape, so that nothing is ever filled with random numbers."""
        file = self.folder / "model.safetensors"
        try:
            found = load_file(file)
        except (OSError, SafetensorError) as error:
            help = self.way_out if isinstance(error, SafetensorError) else None
            raise ExportError(f"{file} can't be read: {reason_of(error)}", help) from error
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
        if digest != encoder.digest:
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
    try:
        facts, plan = read_facts(folder), read_plan(folder)
    except RecordError as error:
        raise ExportError(error.message, error.help) from error
    status = facts["status"]
    if status == "diverged":
        raise ExportError(f"the run in {folder} diverged: it has no weights", "run it anew, at a lower train.lr say")
    command = resuming(folder, calibration="calibration" in facts)
    if status != "finished" or not (folder / "model.safetensors").is_file():
        message = f"the run in {folder} has no weights: it is {status}"
        raise ExportError(message, f"they are written when it finishes: go on with it, {command}")
    return Finished(folder, plan, Encoding.of(facts), f"have it written anew: {command}")


def _under_planned_names(found: Weights, plan: Plan) -> Weights:
    """safetensors keeps one of the names of a shared tensor, and not the one that a plan counts it under."""
    renamed = dict(found)
    for path, part in leaves(plan.blueprint.root):
        if isinstance(part.node, Tied) and f"{path}.weight" in renamed:
            renamed[f"{part.node.to}.weight"] = renamed.pop(f"{path}.weight")
    return renamed


def _shape(weights: Weights, name: str) -> tuple[int, ...] | None:
    return tuple(weights[name].shape) if name in weights else None
