"""What counting words gets: the cross-entropy of a unigram and of a bigram model, which stand beside every loss.

A model whose loss is near the unigram's has learned which tokens are frequent and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.unsignedinteger[Any]]
Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]

AT_ONCE = 1 << 24  # tokens that are counted together: a gigabyte or so while it lasts


@dataclass(frozen=True, slots=True)
class Baselines:
    """Mean cross-entropy in nats a token on the validation blocks, at the positions a model is scored on."""

    unigram: float
    bigram: float


def baselines(train: Tokens, validation: Tokens, vocab_size: int, separator: int | None = None) -> Baselines:
    """Both models, counted on `train` (n, block) and scored on `validation` (m, block), ids below `vocab_size`.

    Position 0 of a block has nothing before it and isn't predicted, as in the model's own loss; pairs across blocks
    aren't counted either, nor is what follows a `separator` scored, where documents are told apart. With c a count, N
    the number of training tokens, V the vocabulary and T(h) how many different tokens follow h:

    - unigram: p(w) = (c(w) + 1) / (N + V), add-one;
    - bigram: p(w | h) = (c(h w) + T(h) p(w)) / (c(h) + T(h)), Witten-Bell's interpolation with the unigram,
      which has nothing to tune. After a token that training never continued it is the unigram.
    """
    unigram = _unigram(train, vocab_size)
    before, after = validation[:, :-1].ravel(), validation[:, 1:].ravel()
    if separator is not None:
        scored = before != separator
        before, after = before[scored], after[scored]
    alone = unigram[after]
    together, total, kinds = _bigram(train, before, after, vocab_size)
    # Where `before` was never continued, total and kinds are both 0: one kind seen zero times gives the unigram.
    kinds = np.maximum(kinds, 1)
    paired = (together + kinds * alone) / (total + kinds)
    return Baselines(float(-np.log(alone).mean()), float(-np.log(paired).mean()))


def _unigram(train: Tokens, vocab_size: int) -> Shares:
    counts = np.zeros(vocab_size, np.int64)
    for some in _pieces(train):
        counts += np.bincount(some.ravel(), minlength=vocab_size)
    return (counts + 1) / (train.size + vocab_size)


def _bigram(train: Tokens, before: Tokens, after: Tokens, vocab_size: int) -> tuple[Counts, Counts, Counts]:
    """For each pair (before, after): its count in `train`, the count of `before` with anything after it, and of kinds.

    Only the pairs that occur are held: at 50,304 tokens a table of all would take 20 GB.
    """
    codes, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for some in _pieces(train):
        pairs = np.unique(_codes(some[:, :-1].ravel(), some[:, 1:].ravel(), vocab_size), return_counts=True)
        codes, counts = _added((codes, counts), pairs)
    first = codes // vocab_size
    kinds = np.bincount(first, minlength=vocab_size)
    totals = np.bincount(first, weights=counts, minlength=vocab_size).astype(np.int64)
    wanted = _codes(before, after, vocab_size)
    at = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    together = np.where(codes[at] == wanted, counts[at], 0)
    return together, totals[before], kinds[before]


def _pieces(train: Tokens) -> Iterator[Tokens]:
    """The blocks, some at a time: a set that was tokenised from a stream needn't fit into memory."""
    rows = max(1, AT_ONCE // train.shape[1])
    for start in range(0, len(train), rows):
        yield train[start : start + rows]


def _added(one: tuple[Counts, Counts], other: tuple[Counts, Counts]) -> tuple[Counts, Counts]:
    """Two ascending lists of codes as one, with the sums of their counts."""
    codes, counts = (np.concatenate(both) for both in zip(one, other, strict=True))
    order = np.argsort(codes, kind="stable")  # merges what is ascending already
    codes, counts = codes[order], counts[order]
    firsts = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes[firsts], np.add.reduceat(counts, firsts)


def _codes(before: Tokens, after: Tokens, vocab_size: int) -> Counts:
    return before.astype(np.int64) * vocab_size + after
