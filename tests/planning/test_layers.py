"""Layer ranges read like Python's, but for what would be a slip."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_text import codes, plan, variants

from ablc.spec.values import show_layers


def layers_of(brackets: str) -> tuple[int, ...] | None:
    """The layers of a model of six that a range names."""
    (change,) = plan(f"mlp{brackets} = none").changes
    return change.layers


@pytest.mark.parametrize(
    ("brackets", "layers"),
    [
        ("", (0, 1, 2, 3, 4, 5)),
        ("[:]", (0, 1, 2, 3, 4, 5)),
        ("[3]", (3,)),
        ("[-1]", (5,)),
        ("[-6]", (0,)),
        ("[-0]", (0,)),
        ("[0:3]", (0, 1, 2)),
        ("[3:]", (3, 4, 5)),
        ("[:2]", (0, 1)),
        ("[-2:]", (4, 5)),
        ("[:-4]", (0, 1)),
        ("[1:-1]", (1, 2, 3, 4)),
        ("[0:6]", (0, 1, 2, 3, 4, 5)),
        ("[-6:]", (0, 1, 2, 3, 4, 5)),
        ("[::2]", (0, 2, 4)),
        ("[1::2]", (1, 3, 5)),
        ("[1:5:3]", (1, 4)),
        ("[::100]", (0,)),
        ("[0, 2, 4:6]", (0, 2, 4, 5)),
        ("[4, 0, 4, 3:5]", (0, 3, 4)),
        ("[5,]", (5,)),
        ("[num_hidden_layers - 1]", (5,)),
        ("[num_hidden_layers // 2 : num_hidden_layers // 2 + 2]", (3, 4)),
        ("[(1 + 2) * 2 - 5 :: 7 // 3]", (1, 3, 5)),
        ("[-7 // 2 + 4]", (0,)),  # floor division, as in Python: -7 // 2 is -4
    ],
)
def test_a_range_names_these_layers(brackets: str, layers: tuple[int, ...]) -> None:
    assert layers_of(brackets) == layers


@pytest.mark.parametrize(
    ("brackets", "code"),
    [
        ("[6]", "layer-out-of-range"),
        ("[-7]", "layer-out-of-range"),
        ("[0:7]", "layer-out-of-range"),
        ("[7:]", "layer-out-of-range"),
        ("[-7:]", "layer-out-of-range"),
        ("[0, 9]", "layer-out-of-range"),
        ("[num_hidden_layers]", "layer-out-of-range"),
        ("[::0]", "bad-stride"),
        ("[::-1]", "bad-stride"),
        ("[::1 - 2]", "bad-stride"),
        ("[3:3]", "empty-range"),
        ("[4:2]", "empty-range"),
        ("[6:]", "empty-range"),
        ("[0, 3:3]", "empty-range"),
        ("[2 - 3]", "negative-bound"),
        ("[-(1)]", None),
        ("[-num_hidden_layers]", "negative-bound"),
        ("[3 - num_hidden_layers:]", "negative-bound"),
        ("[1.0]", "not-an-integer"),
        ('["1"]', "not-an-integer"),
        ("[]", "syntax"),
        ("[1:2:3:4]", "syntax"),
    ],
)
def test_what_would_be_a_slip_is_an_error(brackets: str, code: str | None) -> None:
    assert codes(f"mlp{brackets} = none") == ([code] if code else [])


def test_a_swept_bound_may_leave_nothing() -> None:
    full, half, nothing = variants("vary k = 0, 3, 6\nmlp[k:] = none")
    assert [len(v.plan.changes[0].layers or ()) for v in (full, half)] == [6, 3]
    assert nothing.plan.changes == ()


def test_a_swept_bound_may_leave_nothing_where_the_rank_depends_on_the_layer() -> None:
    some, nothing = variants("vary k = 0, 6\nmlp[k:] = lora(layer + 1)")
    assert some.plan.changes and not nothing.plan.changes


def test_a_swept_bound_below_zero_is_an_error() -> None:
    assert codes("vary k = -1, 3\nmlp[k:] = none") == ["negative-bound"]


@pytest.mark.parametrize("slot", ["embedding", "lm_head", "final_norm"])
def test_slots_outside_the_layers_take_no_brackets(slot: str) -> None:
    assert codes(f"{slot}[0] = full") == ["no-layers"]
    assert codes(f"freeze {slot}[0]") == ["no-layers"]
    assert codes(f"{slot} = full\nfreeze {slot}") == []


MIXED = ["attention, attention.norm[3:]", "attention[3:], mlp", "mlp[0], mlp.norm, attention[0]"]


@pytest.mark.parametrize("targets", MIXED)
def test_in_a_list_all_have_brackets_or_none(targets: str) -> None:
    assert codes(f"{targets} = none") == ["mixed-brackets"]
    assert codes(f"freeze {targets}") == ["mixed-brackets"]


def test_a_list_of_targets_gets_the_operation_in_each() -> None:
    listed = plan("attention[:3], mlp[3:] = none")
    assert [(change.slot, change.layers) for change in listed.changes] == [("attention", (0, 1, 2)), ("mlp", (3, 4, 5))]


@given(st.sets(st.integers(0, 5), min_size=1))
def test_shown_layers_read_back_as_the_same(layers: set[int]) -> None:
    assert layers_of(show_layers(tuple(sorted(layers)), 6)) == tuple(sorted(layers))
