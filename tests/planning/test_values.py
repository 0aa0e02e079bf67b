"""Bare words, integer expressions, and what a rank may depend on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_text import changed, codes, faults, plan, same, variants

from ablc.language.parse import parse_statement
from ablc.language.tree import Train
from ablc.spec.values import BadValue, Names, evaluate, integer


def number(text: str, **fields: int) -> int:
    node = parse_statement(f"train.x = {text}")
    assert isinstance(node, Train)
    return integer(node.value, Names({}, fields))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("10 - 3 - 2", 5),
        ("7 // 2 * 2", 6),
        ("-7 // 2", -4),
        ("7 // -2", -4),
        ("- -3", 3),
        ("1_000 // 3", 333),
        ("h // 128", 8),
    ],
)
def test_arithmetic_is_pythons(text: str, value: int) -> None:
    assert number(text, h=1024) == value


sums = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({' '.join(parts)})"),
    max_leaves=8,
)


@given(sums)
def test_any_expression_is_what_python_makes_of_it(text: str) -> None:
    assert number(text) == eval(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("1 // 0", "division-by-zero"),
        ("1 // (2 - 2)", "division-by-zero"),
        ("1.5 + 1", "not-an-integer"),
        ('"a" + 1', "not-an-integer"),
        ("width * 2", "unknown-name"),
        ("layer + 1", "unknown-name"),
        (" * ".join(["1" + "0" * 40] * 2), "number-too-large"),
    ],
)
def test_what_is_no_number_is_refused(text: str, code: str) -> None:
    with pytest.raises(BadValue) as caught:
        number(text)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("gpt2", "gpt2"),
        ('"gpt2"', "gpt2"),
        ("true", True),
        ("false", False),
        ("null", None),
        ("r", 8),
        ('"r"', "r"),
        ("-1.5", -1.5),
    ],
)
def test_a_bare_word_is_its_vary_value_a_constant_or_a_text(text: str, value: object) -> None:
    node = parse_statement(f"train.x = {text}")
    assert isinstance(node, Train)
    assert evaluate(node.value, Names({"r": 8}, {})) == value


def test_quotes_make_no_difference_where_a_word_is_meant() -> None:
    assert same("mlp = lora(8, bias=none)", 'mlp = lora(8, bias="none")')


def test_expressions_read_the_base_config() -> None:
    assert same("mlp = lora(hidden_size // 128)", "mlp = lora(4)")
    assert same("mlp[num_hidden_layers // 2:] = lora(8)", "mlp[3:] = lora(8)")


def test_expressions_read_the_untouched_config_and_say_so() -> None:
    text = 'model = "EleutherAI/pythia-70m"(num_hidden_layers = 12)\nmlp[num_hidden_layers - 3:] = none'
    assert codes(text) == ["overridden-field"]
    (change,) = plan(text).changes
    assert change.layers == tuple(range(3, 12))


def test_overrides_are_expressions_too() -> None:
    (one,) = variants('model = "EleutherAI/pythia-70m"(hidden_size = hidden_size // 2, intermediate_size = 4 * 256)')
    assert (one.spec.config["hidden_size"], one.spec.config["intermediate_size"]) == (256, 1024)


def test_a_rank_may_depend_on_depth() -> None:
    assert changed("mlp.up[:3] = lora(4 * (layer + 1))") == [
        ("mlp.up", (0,), "Linear(512, 4) · Linear(4, 2048)"),
        ("mlp.up", (1,), "Linear(512, 8) · Linear(8, 2048)"),
        ("mlp.up", (2,), "Linear(512, 12) · Linear(12, 2048)"),
    ]


def test_layers_of_equal_rank_are_one_line() -> None:
    made = changed("mlp.up = lora(4 + layer // 3)")
    assert [layers for _, layers, _ in made] == [(0, 1, 2), (3, 4, 5)]


def test_a_rank_that_fails_in_one_layer_is_told_with_the_layer() -> None:
    (fault,) = faults("mlp.up = lora(3 - layer)")
    assert fault.code == "bad-argument" and "layer 3" in fault.message


OVERRIDE = 'model = "EleutherAI/pythia-70m"(hidden_size = layer + 1)'


@pytest.mark.parametrize("text", ["mlp[layer:] = none", "embedding = lora(layer)", OVERRIDE])
def test_layer_means_nothing_elsewhere(text: str) -> None:
    assert codes(text) == ["unknown-name"]


@pytest.mark.parametrize(
    ("rank", "code"),
    [
        ("0", "bad-argument"),
        ("-1", "bad-argument"),
        ("2.5", "bad-argument"),
        ("8.0", "bad-argument"),
        ("true", "unknown-name"),
        ('"8"', "not-an-integer"),
        ("513", "refused"),
        ("1" + "0" * 30, "refused"),
        ("8 // 0", "division-by-zero"),
        ("512", None),
    ],
)
def test_a_rank_is_a_positive_integer_below_a_dimension(rank: str, code: str | None) -> None:
    found = [fault.code for fault in faults(f"attention.out = lora({rank})") if fault.level == "error"]
    assert found == ([code] if code else [])


def test_a_pair_larger_than_what_it_replaces_is_a_warning_with_both_figures() -> None:
    (fault,) = faults("attention.out = lora(257)")
    assert (fault.code, fault.level) == ("large-pair", "warning")
    assert "263,937" in fault.message and "262,656" in fault.message
    assert codes("attention.out = lora(255)") == []
