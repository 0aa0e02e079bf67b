"""Assignments fold in text order, each on the original of its slot."""

from __future__ import annotations

import pytest
from spec_text import changed, codes, faults, plan, same

from ablc.blueprint.measures import params, trainable


def test_a_whole_brings_back_what_was_taken_out_below_it() -> None:
    assert same("mlp.act = none; mlp = lora_mlp(16)", "mlp = lora_mlp(16)")


def test_a_whole_brings_back_the_output_projection_in_its_layers() -> None:
    assert changed("attention.out = none; attention[3:] = lora(8)") == [
        ("attention.out", (0, 1, 2), "identity"),
        ("attention.qkv", (3, 4, 5), "Linear(512, 8) · Linear(8, 1536)"),
    ]


def test_a_part_after_its_whole_is_changed_in_what_the_whole_became() -> None:
    assert changed("mlp = lora_mlp(16); mlp.act = none; mlp.up = full") == [
        ("mlp.act", (0, 1, 2, 3, 4, 5), "identity"),
        ("mlp.down", (0, 1, 2, 3, 4, 5), "Linear(2048, 16) · Linear(16, 512)"),
    ]


def test_an_operation_works_on_the_original_not_on_what_stands_there() -> None:
    assert same("mlp.up = lora(8); mlp.up = lora(4)", "mlp.up = lora(4)")


@pytest.mark.parametrize("slot", ["attention", "attention.out", "mlp", "mlp.act", "mlp.norm", "layer"])
def test_full_undoes(slot: str) -> None:
    assert same(f"{slot} = none; {slot} = full", "")


def test_norms_are_parts_of_the_layer() -> None:
    assert changed("attention = none") == [("attention", (0, 1, 2, 3, 4, 5), "nothing")]
    both = changed("attention, attention.norm = none")
    assert [slot for slot, _, _ in both] == ["attention", "attention.norm"]
    assert same("attention.norm = none; attention = full", "attention.norm = none")


def test_a_layer_takes_everything_in_it() -> None:
    assert same("mlp[2] = lora(8); attention.norm[2] = none; layer[2] = none", "layer[2] = none")
    assert same("layer[2] = none; layer[2] = full", "")


@pytest.mark.parametrize(
    ("text", "whole", "part"),
    [
        ("attention = none\nattention.qkv = lora(8)", 1, 2),
        ("mlp = lora(8)\nmlp.up = lora(4)", 1, 2),
        ("mlp[3:] = nonlinear_lora(8)\nmlp[0] = none\nmlp.act[3] = none", 1, 3),
        ("layer[2] = none\nattention.norm[2] = none", 1, 2),
        ("layer[2] = none\nmlp.up[2] = lora(8)", 1, 2),
        ("mlp = lora(8)\nmlp = none\nmlp.up = full", 2, 3),
    ],
)
def test_a_part_of_what_has_no_parts_is_an_error_that_names_both_lines(text: str, whole: int, part: int) -> None:
    (fault,) = [fault for fault in faults(text) if fault.level == "error"]
    assert fault.code == "whole-is-gone"
    assert fault.span is not None and fault.span.line == part
    assert [span.line for span, _ in fault.related] == [whole]


def test_layers_where_the_whole_still_stands_may_be_addressed() -> None:
    assert codes("mlp[3:] = lora(8); mlp.up[:3] = lora(4)") == []


# --- warnings --------------------------------------------------------------------------------------------------------


def warnings(text: str) -> list[tuple[int, str]]:
    return [(f.span.line, f.message) for f in faults(text) if f.level == "warning" and f.span is not None]


@pytest.mark.parametrize(
    "text",
    [
        "mlp.act = none\nmlp = lora_mlp(16)",
        "attention.out = none\nattention = none",
        "mlp = lora(8)\nlayer = none",
        "mlp.up = lora(8)\nmlp.up = lora(4)",
        "mlp.up = lora(8)\nmlp.up = full",
        "embedding = lora(8)\nembedding = lora(4)",
    ],
)
def test_a_statement_that_a_later_one_takes_back_is_a_warning(text: str) -> None:
    assert warnings(text) == [(1, "this statement has no effect: line 2 puts something else there")]


def test_a_statement_taken_back_in_some_layers_is_a_warning_that_names_them() -> None:
    assert warnings("attention.out = none\nattention[3:] = lora(8)") == [(1, "line 2 takes this back in layers [3:6]")]


def test_two_statements_may_take_one_back_together() -> None:
    ((line, message),) = warnings("mlp = lora(8)\nmlp[:3] = none\nmlp[3:] = lora(4)")
    assert line == 1 and "no effect" in message and "line 2, 3" in message


def test_a_statement_of_which_one_slot_still_stands_has_an_effect() -> None:
    ((line, message),) = warnings("attention.qkv, attention.out = lora(8)\nattention.qkv = lora(4)")
    assert line == 1 and "no effect" not in message


@pytest.mark.parametrize(
    "text",
    [
        "attention[0:3] = full\nattention[3:] = lora(8)",
        "mlp = lora_mlp(16)\nmlp.act = none",
        "attention = none\nattention.norm = none",
        "mlp[:3] = lora(8)\nmlp[3:] = lora(4)",
        "mlp = full\nmlp = lora(8)",
    ],
)
def test_what_erases_nothing_is_no_warning(text: str) -> None:
    assert warnings(text) == []


def test_the_plan_says_what_was_erased() -> None:
    change = next(c for c in plan("attention.out = none\nattention[3:] = lora(8)").changes if c.slot == "attention.qkv")
    assert change.erased == ("spec.abl:1 attention.out = none in [3:]",)


def test_the_plan_says_what_full_took_back() -> None:
    first, second = plan("attention.out = none; attention[3:] = full").changes
    assert (first.slot, first.layers, second.slot, second.layers) == (
        "attention.out",
        (0, 1, 2),
        "attention",
        (3, 4, 5),
    )
    assert (second.params, second.matched) == (0, 0)
    assert [text.endswith("attention.out = none in [3:]") for text in second.erased] == [True]


def test_the_differences_of_a_plan_add_up() -> None:
    parts = "attention.qkv = lora(8); attention.out[2:] = none; mlp[4:] = none; embedding = lora(16)"
    made = plan(f"{parts}; layer[0] = none; freeze mlp")
    assert sum(c.params for c in made.changes) == params(made.blueprint) - params(made.original)
    assert sum(c.trainable for c in made.changes) == trainable(made.blueprint) - trainable(made.original)
