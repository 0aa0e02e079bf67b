"""What finally stands in a frozen slot is not trained."""

from __future__ import annotations

import pytest
from spec_text import LLAMA, codes, faults, plan, same

from ablc.blueprint.measures import params, slot_params, trainable

TIED = 'model = "EleutherAI/pythia-70m"(tie_word_embeddings = true)\n'


def frozen(text: str) -> int:
    blueprint = plan(text).blueprint
    return params(blueprint) - trainable(blueprint)


PARTS = "attention attention.qkv attention.out attention.norm mlp mlp.up mlp.down mlp.norm".split()


@pytest.mark.parametrize("slot", ["embedding", "lm_head", "final_norm", "layer", *PARTS])
def test_all_of_a_slot_is_frozen(slot: str) -> None:
    assert frozen(f"freeze {slot}") == slot_params(plan("").original, slot) > 0


def test_freezing_leaves_the_count_alone() -> None:
    assert params(plan("freeze layer, mlp").blueprint) == params(plan("").blueprint)


def test_only_the_layers_that_are_named() -> None:
    assert frozen("freeze mlp[:2]") * 3 == frozen("freeze mlp")


def test_it_is_applied_last_wherever_it_stands() -> None:
    assert same("freeze mlp\nmlp = lora(8)", "mlp = lora(8)\nfreeze mlp")
    assert frozen("freeze mlp\nmlp = lora(8)") == 6 * (512 * 8 + 8 + 8 * 512 + 512)


def test_a_part_of_what_was_replaced_has_nothing_left() -> None:
    assert codes("mlp = lora(8)\nfreeze mlp.up") == ["frozen-nothing"]


@pytest.mark.parametrize(("gone", "slot"), [("attention", "attention"), ("mlp.act", "mlp.act"), ("layer[2]", "mlp[2]")])
def test_freezing_what_has_been_removed_is_a_warning(gone: str, slot: str) -> None:
    (fault,) = faults(f"{gone} = none\nfreeze {slot}")
    assert (fault.code, fault.level) == ("frozen-nothing", "warning")
    assert fault.span is not None and fault.span.line == 2


def test_freezing_what_has_been_removed_in_some_layers_says_in_how_many() -> None:
    (fault,) = faults("attention[2:] = none\nfreeze attention")
    assert "4 of its 6 layers" in fault.message


def test_frozen_twice_is_frozen_once() -> None:
    assert same("freeze mlp\nfreeze mlp.up", "freeze mlp")
    made = plan("freeze mlp\nfreeze mlp.up")
    assert sum(change.trainable for change in made.changes) == -slot_params(made.blueprint, "mlp")


def test_a_frozen_part_and_the_frozen_whole_are_told_apart() -> None:
    assert not same("freeze mlp.up", "freeze mlp")
    assert same("freeze mlp.up, mlp.down", "freeze mlp")


# --- tied embeddings -------------------------------------------------------------------------------------------------


def test_a_tied_head_is_no_slot_and_the_help_names_the_embedding() -> None:
    for text in ("freeze lm_head", "lm_head = lora(8)"):
        (fault,) = faults(TIED + text)
        assert fault.code == "tied-slot" and fault.help is not None and "embedding" in fault.help


def test_freezing_a_tied_embedding_freezes_both() -> None:
    assert frozen(f"{TIED}freeze embedding") == 50304 * 512
    tied, untied = plan(f"{TIED}freeze embedding"), plan("freeze embedding, lm_head")
    assert trainable(tied.blueprint) == trainable(untied.blueprint)


def test_a_tied_embedding_cant_be_low_rank_and_the_help_unties_it() -> None:
    (fault,) = faults(f"{TIED}embedding = lora(8)")
    assert fault.level == "error" and fault.help is not None and "tie_word_embeddings = false" in fault.help
    assert codes(f"{TIED}embedding = full") == []


def test_separate_projections_freeze_one_by_one() -> None:
    made = plan("freeze attention.q", LLAMA)
    assert params(made.blueprint) - trainable(made.blueprint) == 32 * 4096 * 4096
