"""Text and tree are two sides of one thing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from statement_trees import statements

from ablc.faults import Source
from ablc.language import tree
from ablc.language.parse import parse, parse_statement
from ablc.language.printer import show

SPECS = sorted((Path(__file__).resolve().parents[2] / "specs").glob("*.abl"))


@settings(max_examples=300)
@given(statements)
def test_what_is_printed_parses_to_the_same_tree(node: tree.StatementNode) -> None:
    text = show(node)
    again = parse_statement(text)
    assert again == node
    assert show(again) == text  # type: ignore[arg-type]


@settings(max_examples=100)
@given(statements, statements)
def test_statements_in_a_file_are_those_parsed_alone(first: tree.StatementNode, second: tree.StatementNode) -> None:
    file = parse(Source("two", f"{show(first)}\n{show(second)}"), [])
    assert [statement.node for statement in file.statements] == [first, second]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_specs_survive_printing(path: Path) -> None:
    file = parse(Source(path.name, path.read_text(encoding="utf-8")), [])
    printed = "\n".join(show(statement.node) for statement in file.statements)
    assert parse(Source(path.name, printed), []).statements == file.statements


@pytest.mark.parametrize(
    ("said", "canonical"),
    [
        ("a-(b-c)", "a - (b - c)"),
        ("(a-b)-c", "a - b - c"),
        ("a*(b+c)", "a * (b + c)"),
        ("(a*b)+c", "a * b + c"),
        ("a//(b*c)", "a // (b * c)"),
        ("-(a+b)", "-(a + b)"),
        ("- -a", "--a"),
        ("((8))", "8"),
    ],
)
def test_brackets_are_printed_only_where_they_mean_something(said: str, canonical: str) -> None:
    node = parse_statement(f"mlp = lora({said})")
    assert show(node) == f"mlp = lora({canonical})"  # type: ignore[arg-type]
