"""Random statement trees, made from the node classes themselves: every kind, no text in between."""

from __future__ import annotations

import keyword
from typing import Any

from hypothesis import strategies as st

from ablc.language import tree

AT = (0, 0)  # places don't count in comparisons
OPERATORS = ("+", "-", "*", "//")

names = st.one_of(
    st.sampled_from(["r", "layer", "none", "name", "model", "of", "within", "expect", "_x9", *keyword.kwlist[:5]]),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True),
)
texts = st.text(st.characters(exclude_characters='"\n\r\0', exclude_categories=["Cs"]), max_size=12)


def _integer(value: int, grouped: bool) -> tree.Integer:
    return tree.Integer(*AT, value, f"{value:_}" if grouped else str(value))


def _float(whole: int, fraction: str, exponent: int | None) -> tree.Float:
    text = f"{whole}.{fraction}" + (f"e{exponent}" if exponent is not None else "")
    return tree.Float(*AT, float(text), text)


words = st.builds(lambda name: tree.Word(*AT, name), names)
integers = st.builds(_integer, st.integers(0, 10**20), st.booleans())
digits = st.from_regex(r"[0-9]{1,4}", fullmatch=True)
floats = st.builds(_float, st.integers(0, 999), digits, st.none() | st.integers(-20, 20))
strings = st.builds(lambda text: tree.String(*AT, text), texts)
leaves = st.one_of(words, integers, floats, strings)


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(lambda operand: tree.Negative(*AT, operand, 0), inner),
        st.builds(lambda op, a, b: tree.Binary(*AT, op, a, b, 0), st.sampled_from(OPERATORS), inner, inner),
    )


values = st.recursive(leaves, _grown, max_leaves=12)
dotted = st.builds(lambda parts: tree.Dotted(*AT, ".".join(parts)), st.lists(names, min_size=1, max_size=3))
indices = st.builds(lambda value: tree.Index(*AT, value), values)
slices = st.builds(lambda a, b, c: tree.Slice(*AT, a, b, c), *[st.none() | values] * 3)
layers = st.builds(lambda items: tree.Layers(*AT, tuple(items)), st.lists(indices | slices, min_size=1, max_size=4))
targets = st.lists(
    st.builds(lambda slot, at: tree.Target(*AT, slot, at), dotted, st.none() | layers), min_size=1, max_size=3
).map(tuple)
arguments = st.builds(lambda key, value: tree.Argument(*AT, key, value), st.none() | words, values)
calls = st.builds(lambda op, said: tree.Call(*AT, op, tuple(said)), words, st.lists(arguments, max_size=3))
overrides = st.builds(lambda field, value: tree.Override(*AT, field, value), dotted, values)

relations = st.one_of(
    st.tuples(st.sampled_from(["==", "<", "<=", ">", ">="]), st.none()),
    st.tuples(st.just("within"), integers | floats),
)

# what a statement begins with is a keyword, so an assignment's first slot can't be one
KEYWORDS = {"name", "about", "model", "extends", "vary", "freeze", "train", "expect"}
assignments = st.builds(lambda at, call: tree.Assign(*AT, at, call), targets, calls).filter(
    lambda node: node.targets[0].slot.name.partition(".")[0] not in KEYWORDS
)

statements: st.SearchStrategy[tree.StatementNode] = st.one_of(
    st.builds(lambda key, value: tree.Metadata(*AT, key, value), st.sampled_from(["name", "about"]), values),
    st.builds(lambda value, said: tree.Model(*AT, value, tuple(said)), values, st.lists(overrides, max_size=3)),
    st.builds(lambda path: tree.Extends(*AT, path), strings),
    st.builds(lambda name, said: tree.Vary(*AT, name, tuple(said)), words, st.lists(values, min_size=1, max_size=4)),
    st.builds(lambda at: tree.Freeze(*AT, at), targets),
    st.builds(lambda key, value: tree.Train(*AT, key, value), words, values),
    st.builds(lambda m, rel, value: tree.Expect(*AT, m, rel[0], rel[1], value), dotted, relations, values),
    assignments,
)
