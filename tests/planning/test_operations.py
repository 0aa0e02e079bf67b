"""Which operation may stand where, and what it becomes."""

from __future__ import annotations

import doctest
import importlib

import pytest
from spec_text import LLAMA, SMALL, changed, codes, faults, plan, same

from ablc.blueprint.measures import params
from ablc.blueprint.slots import slots_of
from ablc.ops import operation, operations

CALLS = {name: f"{name}(8)" for name in ("lora", "nonlinear_lora", "lora_mlp")} | {"full": "full", "none": "none"}
ATTENTION = ["attention.qkv", "attention.q", "attention.k", "attention.v", "attention.out"]
LINEARS = [*ATTENTION, "mlp.up", "mlp.gate", "mlp.down", "lm_head"]
MAY_STAND = {
    "full": None,  # anywhere
    "none": {"attention", "mlp", "attention.out", "attention.norm", "mlp.norm", "final_norm", "mlp.act", "layer"},
    "lora": {*LINEARS, "attention", "mlp", "embedding"},
    "nonlinear_lora": {*LINEARS, "attention", "mlp"},
    "lora_mlp": {"mlp"},
}
NEOX_SLOTS = slots_of(plan("", SMALL).original).names
LLAMA_SLOTS = slots_of(plan("", LLAMA).original).names
MATRIX = [
    (op, slot, model)
    for op in operations()
    for model, slots in ((SMALL, NEOX_SLOTS), (LLAMA, LLAMA_SLOTS))
    for slot in slots
]


def test_every_operation_is_in_the_matrix() -> None:
    assert set(operations()) == MAY_STAND.keys() == CALLS.keys()


def test_the_slots_are_the_same_words_in_every_family() -> None:
    assert set(NEOX_SLOTS) == set(LLAMA_SLOTS) - {"attention.q", "attention.k", "attention.v", "mlp.gate"}
    others = "embedding final_norm layer attention attention.norm mlp mlp.act mlp.norm".split()
    assert set(LLAMA_SLOTS) == {*LINEARS, *others}


@pytest.mark.parametrize(("op", "slot", "model"), MATRIX)
def test_an_operation_stands_where_it_may_and_nowhere_else(op: str, slot: str, model: str) -> None:
    allowed = MAY_STAND[op]
    found = [fault.code for fault in faults(f"{slot} = {CALLS[op]}", model) if fault.level == "error"]
    assert found == ([] if allowed is None or slot in allowed else ["cannot-stand"])


def test_a_refusal_lists_every_place_where_it_may_stand() -> None:
    (fault,) = faults("embedding = none")
    assert fault.help is not None
    assert all(slot in fault.help for slot in MAY_STAND["none"] or ())


def test_none_in_place_of_an_output_projection_needs_matching_widths() -> None:
    assert codes('model = "EleutherAI/pythia-70m"\nattention.out = none') == []
    llama = f'model = "{LLAMA}"(head_dim = 64)\nattention.out = none'
    assert codes(llama) == ["refused"]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("attention = lora(8)", [("attention.qkv", "Linear(512, 8) · Linear(8, 1536)")]),
        ("attention = nonlinear_lora(8)", [("attention.qkv", "Linear(512, 8) · gelu · Linear(8, 1536)")]),
        ("mlp = lora(8)", [("mlp", "Linear(512, 8) · Linear(8, 512)")]),
        ("mlp = nonlinear_lora(8, act=relu)", [("mlp", "Linear(512, 8) · relu · Linear(8, 512)")]),
        ("mlp.down = lora(8)", [("mlp.down", "Linear(2048, 8) · Linear(8, 512)")]),
        ("embedding = lora(8)", [("embedding", "Embedding(50304, 8) · Linear(8, 512, no bias)")]),
        ("lm_head = lora(8)", [("lm_head", "Linear(512, 8, no bias) · Linear(8, 50304, no bias)")]),
        ("mlp.up = lora(8, bias=out)", [("mlp.up", "Linear(512, 8, no bias) · Linear(8, 2048)")]),
        ("mlp.up = lora(8, bias=none)", [("mlp.up", "Linear(512, 8, no bias) · Linear(8, 2048, no bias)")]),
        ("attention = none", [("attention", "nothing")]),
        ("layer = none", [("layer", "nothing")]),
        ("attention.out = none", [("attention.out", "identity")]),
        ("mlp.act = none", [("mlp.act", "identity")]),
        ("attention.norm = none", [("attention.norm", "identity")]),
    ],
)
def test_what_stands_there_then(text: str, made: list[tuple[str, str]]) -> None:
    assert [(slot, after) for slot, _, after in changed(text)] == made


def test_biases_follow_what_is_replaced() -> None:
    (change,) = plan("mlp = lora(8)", LLAMA).changes
    assert change.after == "Linear(4096, 8, no bias) · Linear(8, 4096, no bias)"
    assert "no bias" not in plan("mlp = lora(8, bias=both)", LLAMA).changes[0].after


def test_separate_projections_get_a_pair_each() -> None:
    made = plan("attention = lora(8)", "meta-llama/Llama-3.1-8B")
    assert {(change.after, change.matched) for change in made.changes} == {
        ("Linear(4096, 8, no bias) · Linear(8, 4096, no bias)", 32),
        ("Linear(4096, 8, no bias) · Linear(8, 1024, no bias)", 64),
    }
    assert same("attention = lora(8)", "attention.q, attention.k, attention.v = lora(8)", LLAMA)


def test_a_gated_mlp_has_three_pairs() -> None:
    fewer = 3 * (4096 * 11008 - 8 * (4096 + 11008))
    assert params(plan("mlp = lora_mlp(8)", LLAMA).blueprint) == 6_738_415_616 - 32 * fewer


def test_a_removed_layer_has_no_parameters() -> None:
    assert params(plan("layer[0:2] = none").blueprint) == 70_426_624 - 2 * 3_152_384


OWN_NAMES = ["attention.dense", "query_key_value", "o_proj", "dense_h_to_4h", "input_layernorm", "embed_in"]


@pytest.mark.parametrize("name", OWN_NAMES)
def test_a_familys_own_name_is_an_error_that_gives_the_right_word(name: str) -> None:
    model = LLAMA if name == "o_proj" else SMALL
    (fault,) = faults(f"{name} = full", model)
    assert fault.code == "unknown-slot" and fault.help is not None and fault.help.startswith("write `")


def test_the_head_of_a_checkpoint_is_known_by_that_name_too() -> None:
    (fault,) = faults("embed_out = lora(8)")
    assert fault.help is not None and "`lm_head`" in fault.help


def test_a_slot_that_is_missing_is_told_with_those_there_are_once() -> None:
    (fault,) = faults("whatever = none")
    assert fault.help is not None and fault.help.count("mlp.down") == 1


def test_part_of_a_fused_projection_points_to_the_whole() -> None:
    for slot in ("attention.q", "attention.k", "attention.v"):
        (fault,) = faults(f"{slot} = lora(8)")
        assert fault.code == "unknown-slot" and fault.help is not None and "attention.qkv" in fault.help


@pytest.mark.parametrize("name", operations())
def test_every_operation_shows_itself_in_an_example_that_runs(name: str) -> None:
    module = importlib.import_module(f"ablc.ops.{name}")
    examples = doctest.DocTestParser().get_doctest(operation(name).doc, vars(module).copy(), name, None, 0)
    assert examples.examples, "no example in the docstring"
    assert doctest.DocTestRunner().run(examples).failed == 0
