"""Counting words: the unigram and the bigram model that stand beside every loss."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from ablc.train.baselines import baselines


def brute_baselines(train: list[list[int]], validation: list[list[int]], size: int) -> tuple[float, float]:
    tokens = Counter(token for block in train for token in block)
    pairs = Counter(pair for block in train for pair in itertools.pairwise(block))
    alone, paired = [], []
    for before, after in (pair for block in validation for pair in itertools.pairwise(block)):
        one = (tokens[after] + 1) / (sum(tokens.values()) + size)
        total = sum(count for (first, _), count in pairs.items() if first == before)
        kinds = sum(first == before for first, _ in pairs)
        alone.append(one)
        paired.append((pairs[before, after] + kinds * one) / (total + kinds) if kinds else one)
    return tuple(-sum(map(math.log, shares)) / len(shares) for shares in (alone, paired))


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("size", [9, 60_000])
@pytest.mark.parametrize("at_once", [1 << 24, 24, 1])
def test_they_are_those_counted_by_hand(dtype: type, size: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tokens are counted together."""
    monkeypatch.setattr("ablc.train.baselines.AT_ONCE", at_once)
    generator = np.random.default_rng(0)
    train = generator.integers(0, 6, (20, 8)).astype(dtype)
    validation = generator.integers(0, 9, (5, 8)).astype(dtype)
    validation[0, 3:5] = size - 1
    found = baselines(train, validation, size)
    expected = brute_baselines(train.tolist(), validation.tolist(), size)
    assert (found.unigram, found.bigram) == pytest.approx(expected)


def test_bigram_shares_add_up_to_one() -> None:
    train = np.array([[0, 1, 2, 0, 1, 3, 3, 3]], np.uint16)
    for before in range(5):
        losses = [baselines(train, np.array([[before, after]], np.uint16), 5).bigram for after in range(5)]
        assert sum(math.exp(-loss) for loss in losses) == pytest.approx(1)


def test_baselines_are_scored_where_a_model_is() -> None:
    train = np.array([[1, 0, 2, 3], [2, 3, 0, 1]], np.uint16)
    validation = np.array([[1, 0, 3, 2]], np.uint16)
    apart = baselines(train, validation, 5, separator=0)
    shares = [(count + 1) / (8 + 5) for count in (2, 2)]  # of 0 and of 2, each seen twice; 3 after the end isn't scored
    assert apart.unigram == pytest.approx(-sum(map(math.log, shares)) / 2)
    assert apart != baselines(train, validation, 5)
