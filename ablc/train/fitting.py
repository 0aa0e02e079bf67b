"""Fits what a plan put in place of a base's modules to what they were, one after another, on real activations.

The teacher is the base with its pretrained weights, the student the plan's model started from them. In the order in
which a token meets the modules, each new one is fitted to give, for what the student gives it, what the teacher's
module gives in the teacher at the same tokens. So a module makes up for what those before it still miss, as in the
asymmetric reconstruction of AdaRound (Nagel et al. 2020), and each is fitted once. On eight specs of a small base this
ended at a lower loss than targets from the student's own inputs in seven. A smaller error needn't be a smaller loss:
query, key and value fitted by themselves left the loss where it was, or up to 0.004 nats higher.

Everything that operations put there maps each position by itself (a pair for a matrix, a table or an MLP), so a fit
needs no more than rows of inputs; those of the teacher stand for its outputs, which may be far wider. A product of two
matrices is fitted in closed form, anything else by AdamW.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ablc.blueprint import Chain
from ablc.patching.replaced import Replaced
from ablc.train.least_squares import solve
from ablc.train.loss import documents

ROWS = 1024  # positions a step of a fit, and at once when an error is measured
HELD_OUT = 8  # one in so many positions is kept for measuring
REMOVED, FROZEN = "removed: nothing to fit", "frozen: left as it started"


@dataclass(frozen=True)
class Fit:
    """How each block is fitted: on `batches` batches; one with an activation inside by `steps` of AdamW on random
    positions of them, the learning rate going from `lr` to 0."""

    batches: int = 16
    steps: int = 300
    lr: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """A block that was fitted, or a `note` why it wasn't. `before` and `after` are √(Σ‖f(x) − t‖² / Σ‖t‖²), at
    positions that the fit didn't see; t is what the teacher has there."""

    slot: str
    layer: int | None
    path: str
    before: float | None = None
    after: float | None = None
    note: str = ""

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def in_order(teacher: nn.Module, places: list[Replaced]) -> list[Replaced]:
    """The replaced modules in the order in which a token meets them."""
    order = {name: number for number, (name, _) in enumerate(teacher.named_modules())}
    return sorted(places, key=lambda one: order[one.path])


def can_be_fitted(one: Replaced) -> bool:
    return isinstance(one.after, Chain)


def calibrate(
    teacher: Any, student: Any, places: list[Replaced], texts: Texts, fit: Fit, done: int = 0
) -> Iterator[Fitted]:
    """Fit the student's new modules, all but the first ones that are `done`; each is yielded when it is fitted.

    What a fit makes of a module follows from the weights so far, the texts and the seed: nothing else is needed to go
    on. The last eighth of all positions is kept for measuring. A fit that doesn't make its error smaller there is taken
    back, and so is one that is interrupted.
    """
    teacher.eval(), student.eval()
    for one in in_order(teacher, places)[done:]:
        new = student.get_submodule(one.path)
        note = "" if can_be_fitted(one) else REMOVED
        if not note and not any(parameter.requires_grad for parameter in new.parameters()):
            note = FROZEN
        if note:
            yield Fitted(one.slot, one.layer, one.path, note=note)
            continue
        own, theirs = (inputs_of(model, one.path, texts) for model in (student, teacher))
        pairs = _Pairs(teacher.get_submodule(one.path), own, theirs)
        before, after = _fitted(new, pairs, fit, seed=_seed(fit.seed, one.path))
        yield Fitted(one.slot, one.layer, one.path, before, after)


@dataclass(frozen=True)
class Texts:
    """Token ids, (blocks, length), which a model gets `batch_size` blocks at a time. `separator` is the id that ends a
    document where documents are kept apart, else None."""

    blocks: Tensor
    batch_size: int
    separator: int | None = None


class _Enough(Exception):
    """Ends a forward pass when what was wanted of it is known."""


@torch.no_grad()
def inputs_of(model: nn.Module, path: str, texts: Texts) -> Tensor:
    """What a module is given at every position of all blocks: (positions, width), or ids (positions,)."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = args[0] if args else next(iter(named.values()))
        found.append(given.flatten(0, 1))
        raise _Enough

    handle = model.get_submodule(path).register_forward_pre_hook(keep, with_kwargs=True)
    device = next(model.parameters()).device
    try:
        for some in torch.split(texts.blocks.to(device), texts.batch_size):
            layout = {} if texts.separator is None else documents(some, texts.separator)
            try:
                model(input_ids=some, use_cache=False, **layout)
            except _Enough:
                continue
            raise RuntimeError(f"a forward pass of the model doesn't reach {path}")
    finally:
        handle.remove()
    return torch.cat(found)


@dataclass(frozen=True)
class _Pairs:
    """Inputs of the new module with the outputs it should have: `original` of `theirs`. Rows from `cut` on are held
    out."""

    original: nn.Module
    own: Tensor
    theirs: Tensor

    @property
    def cut(self) -> int:
        return len(self.own) - len(self.own) // HELD_OUT

    def at(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self.own[rows], self.original(self.theirs[rows])

    def to_fit(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows that aren't held out, a piece at a time."""
        return (self.at(slice(start, min(start + ROWS, self.cut))) for start in range(0, self.cut, ROWS))


def _fitted(new: nn.Module, pairs: _Pairs, fit: Fit, *, seed: int) -> tuple[float, float]:
    """Errors before and after; the module is left as the better of the two."""
    start = {name: values.clone() for name, values in new.state_dict().items()}
    before, after = error_of(new, pairs), float("inf")
    try:
        if [name for name, _ in new.named_children()] == ["A", "B"]:
            solve(new, pairs.original, pairs.to_fit())
        else:
            _descend(new, pairs, fit, seed)
        after = error_of(new, pairs)
    finally:
        if not after < before:
            new.load_state_dict(start)
    return before, after if after < before else before


def _descend(new: nn.Module, pairs: _Pairs, fit: Fit, seed: int) -> None:
    trained = [parameter for parameter in new.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=fit.lr, betas=(0.9, 0.95), weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    for step in range(fit.steps):
        optimizer.param_groups[0]["lr"] = fit.lr * (1 - step / fit.steps)
        rows = torch.randint(pairs.cut, (min(ROWS, pairs.cut),), generator=generator)
        given, wanted = pairs.at(rows.to(pairs.own.device))
        loss = (new(given) - wanted).square().sum() / wanted.square().sum().clamp(min=1e-30)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def error_of(new: nn.Module, pairs: _Pairs) -> float:
    """The relative error on the rows held out; where the teacher gives nothing but zeros, the error itself."""
    missed, size = 0.0, 0.0
    for start in range(pairs.cut, len(pairs.own), ROWS):
        given, wanted = pairs.at(slice(start, start + ROWS))
        missed += float((new(given) - wanted).double().square().sum())
        size += float(wanted.double().square().sum())
    return math.sqrt(missed / (size or 1.0))


def _seed(seed: int, path: str) -> int:
    """Every block draws its positions by itself: which others there are doesn't change its fit."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{path}".encode()).digest()[:8], "big") >> 1
