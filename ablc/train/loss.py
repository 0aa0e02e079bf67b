"""The loss of a step as a module, so that what wraps a module (DDP, FSDP) wraps all that is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

# Logits beyond this many numbers (256 MiB in fp32) are never held at once; on a GPU four times as many, for there a
# pass over the head's gradient, which each piece costs, is dear beside its products. Below it one product is fastest.
MOST_LOGITS = 2**26


class NextTokenLoss(nn.Module):
    """Cross-entropy of every next token, summed, in fp32.

    With `separator` (the id that ends a document) attention stays inside each document, positions count from its start,
    and the first token of a document isn't predicted: nothing it could be told from is in sight. Without it a block is
    one text.
    """

    def __init__(self, model: Any, separator: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.separator = separator

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The sum over (batch, length) ids, in nats."""
        layout = {} if self.separator is None else documents(tokens, self.separator)
        hidden = self.model.base_model(input_ids=tokens, use_cache=False, **layout).last_hidden_state
        targets = targets_of(tokens, self.separator)
        return head_loss(hidden[:, :-1].flatten(0, 1), self.model.get_output_embeddings(), targets.flatten())


def targets_of(tokens: torch.Tensor, separator: int | None) -> torch.Tensor:
    """What is to be predicted at each place but the last, -100 where nothing is: (batch, length - 1)."""
    following = tokens[:, 1:]
    return following if separator is None else following.masked_fill(tokens[:, :-1] == separator, -100)


def documents(tokens: torch.Tensor, separator: int) -> dict[str, torch.Tensor]:
    """What keeps the documents of a block apart: the places each token may attend to (batch, 1, length, length), and
    its place in its own document (batch, length)."""
    length = tokens.shape[1]
    ended = functional.pad((tokens[:, :-1] == separator).long(), (1, 0)).cumsum(1)
    same = ended[:, None, :, None] == ended[:, None, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
    places = torch.arange(length, device=tokens.device).expand_as(tokens)
    is_first = functional.pad(ended[:, 1:] != ended[:, :-1], (1, 0), value=True)
    starts = torch.where(is_first, places, 0).cummax(1).values
    return {"attention_mask": same & causal, "position_ids": places - starts}


def head_loss(hidden: torch.Tensor, head: nn.Module, targets: torch.Tensor) -> torch.Tensor:
    """The summed cross-entropy of (places, width) hidden states and (places,) targets through any output head.

    The fp32 matrix of places × vocabulary is held only where it is small. Otherwise the head and the softmax are
    taken a piece at a time. PyTorch's own `linear_cross_entropy` does so too, but sums a bf16 loss in bf16: it was off
    by half.
    """
    most = MOST_LOGITS * (4 if hidden.is_cuda else 1)
    rows = max(1, most // _vocabulary(head))
    if hidden.shape[0] <= rows:
        return _cross_entropy(head(hidden), targets)
    pieces = zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
    if not torch.is_grad_enabled():
        return torch.stack([_cross_entropy(head(some), wanted) for some, wanted in pieces]).sum()
    weights = [weight for weight in head.parameters() if weight.requires_grad]
    loss: torch.Tensor = _InPieces.apply(hidden, targets, rows, head, *weights)  # type: ignore[no-untyped-call]
    return loss


class _InPieces(torch.autograd.Function):
    """`head_loss` with the gradients of each piece taken as soon as there is its loss: logits are neither kept for the
    way back nor computed again there."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, targets: torch.Tensor, rows: int, head: nn.Module, *weights: torch.Tensor
    ) -> torch.Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        back = torch.empty_like(hidden)
        sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
        for start in range(0, len(hidden), rows):
            piece = slice(start, start + rows)
            some = hidden[piece].detach().requires_grad_()
            with torch.enable_grad():
                loss = _cross_entropy(head(some), targets[piece])
            back[piece], *found = torch.autograd.grad(loss, [some, *weights])
            total += loss.detach()
            for one, gradient in zip(sums, found, strict=True):
                one += gradient
        ctx.save_for_backward(back, *(one.to(weight.dtype) for one, weight in zip(sums, weights, strict=True)))
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        back, *weights = (saved.mul_(grad) for saved in ctx.saved_tensors)
        return back, None, None, None, *weights


def _vocabulary(head: nn.Module) -> int:
    """How many numbers the head gives for a place: those of its last product, where it is a pair."""
    last = head[-1] if isinstance(head, nn.Sequential) else head
    return int(last.out_features) if isinstance(last, nn.Linear) else 1


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor = _CrossEntropy.apply(logits.float(), targets)  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropy(torch.autograd.Function):
    """The summed cross-entropy of (places, vocabulary) fp32 logits, which become their own gradient in place.

    That of PyTorch holds as many numbers four times over. A head's product doesn't need its result on the way back;
    were there something that does, autograd would notice that it has changed.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        shares = logits.detach()
        kept = (targets != -100).unsqueeze(1)
        wanted = targets.unsqueeze(1).clamp(min=0)
        # The largest is taken off first: beside large logits the rest of the sum would be rounded away.
        at = shares.sub_(shares.amax(1, keepdim=True)).gather(1, wanted)
        sums = shares.exp_().sum(1, keepdim=True)
        loss = (sums.log() - at).masked_fill(~kept, 0).sum()
        if ctx.needs_input_grad[0]:
            shares.mul_(kept / sums).scatter_add_(1, wanted, -kept.float())
            ctx.save_for_backward(shares)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grad), None
