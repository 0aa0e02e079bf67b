"""The numbers of a count that no claim can ask for."""

from __future__ import annotations

import pytest
from spec_text import LLAMA, SMALL, plan

from ablc.planning.counting import count

SIZE = 70_426_624


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("", 0),
        ("attention = none", 6 * 2 * 512),
        ("mlp[:2] = none", 2 * 2 * 512),
        ("attention, attention.norm = none", 0),
        ("mlp = lora(8)", 0),
        ("layer[0] = none", 0),
    ],
)
def test_the_norm_before_what_was_removed_is_counted_and_read_by_nobody(text: str, unread: int) -> None:
    assert count(plan(text)).unread == unread


@pytest.mark.parametrize(
    ("text", "trained"),
    [
        ("", SIZE),
        ("freeze embedding", SIZE - 50304 * 512),
        ("mlp[0] = none", SIZE - (2 * 512 * 2048 + 2048 + 512) - 2 * 512),
    ],
)
def test_the_optimizer_keeps_two_moments_of_what_is_trained_and_read(text: str, trained: int) -> None:
    assert count(plan(text)).optimizer_bytes == 8 * trained


def test_a_count_is_compared_with_its_own_base() -> None:
    made = count(plan("layer = none", LLAMA))
    assert made.base_params == 6_738_415_616
    assert (
        made.params == 2 * 32000 * 4096 + 4096 == sum(made.by_slot[s] for s in ("embedding", "lm_head", "final_norm"))
    )
    assert made.by_layer == (0,) * 32


def test_flops_are_those_of_the_length_that_is_asked_for() -> None:
    made = plan("attention[0] = none", SMALL)
    assert count(made, 11).flops_per_token - count(made, 1).flops_per_token == 10 * 4 * 512 * 5
