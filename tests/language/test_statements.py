"""Where a statement begins and ends, and what a mistake in one does to the others."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from lark import Lark

from ablc.faults import Fault, Source, render
from ablc.language import tree
from ablc.language.parse import grammar_text, parse
from ablc.language.printer import show
from ablc.language.read import decode


def shown(text: str) -> list[str]:
    """The canonical text of each statement of a file that has no fault."""
    faults: list[Fault] = []
    file = parse(Source("t", text), faults)
    assert not faults
    return [show(statement.node) for statement in file.statements]


def faults_of(text: str) -> list[Fault]:
    faults: list[Fault] = []
    parse(Source("t", text), faults)
    return faults


def test_the_grammar_has_no_conflict() -> None:
    Lark(grammar_text(), parser="lalr", strict=True)


def test_strict_would_tell_of_a_conflict() -> None:
    ambiguous = grammar_text().replace("?atom: INT", "?atom: OCTAL | INT") + "\nOCTAL: /0[0-7]*/\n"
    with pytest.raises(Exception, match=r"(?i)collision"):
        Lark(ambiguous, parser="lalr", strict=True)


def test_a_statement_ends_at_a_newline_or_a_semicolon() -> None:
    assert shown("mlp = none; attention = full\nfreeze embedding;;\n\n;") == [
        "mlp = none",
        "attention = full",
        "freeze embedding",
    ]


def test_the_owners_one_line_is_three_statements() -> None:
    text = "attention[0:3]=full; attention[3:]=lora(8); mlp[12:18]=lora_mlp(16)"
    assert shown(text) == ["attention[0:3] = full", "attention[3:] = lora(8)", "mlp[12:18] = lora_mlp(16)"]


def test_a_newline_inside_brackets_ends_nothing() -> None:
    assert shown("mlp[\n  3, # the fourth\n  5:\n] = lora(\n8,\n)") == ["mlp[3, 5:] = lora(8)"]


def test_a_newline_outside_brackets_ends_a_statement() -> None:
    assert [fault.code for fault in faults_of("mlp =\nnone")] == ["syntax", "syntax"]


def test_comments_run_to_the_end_of_the_line() -> None:
    assert shown("# one; two = three\nmlp = none # four; five\n#") == ["mlp = none"]


def test_a_string_holds_what_would_mean_something_outside() -> None:
    assert shown('about = "a; b # c [ ( d"') == ['about = "a; b # c [ ( d"']


@pytest.mark.parametrize("data", [b"mlp = none\r\nattention = full\r\n", b"\xef\xbb\xbfmlp = none\nattention = full\n"])
def test_line_ends_and_a_byte_order_mark_mean_nothing(data: bytes) -> None:
    source = decode(data, "t", [])
    assert source is not None
    assert shown(source.text) == ["mlp = none", "attention = full"]


def test_places_count_lines_and_columns_after_crlf() -> None:
    source = decode(b"mlp = none\r\n  attention = full\r\n", "t", [])
    assert source is not None
    span = parse(source, []).statements[1].span()
    assert (span.line, span.column, span.text) == (2, 3, "attention = full")


def test_a_fault_in_a_file_with_crlf_looks_like_any_other() -> None:
    one, other = (decode(f"mlp == none{end}".encode(), "t", []) for end in ("\r\n", "\n"))
    assert one is not None and other is not None
    assert [render(fault) for fault in faults_of(one.text)] == [render(fault) for fault in faults_of(other.text)]
    assert "\r" not in one.text


def test_a_mistake_in_one_statement_hides_none_of_the_others() -> None:
    faults: list[Fault] = []
    text = "mlp == none\nattention = full\nfreeze\nembedding = lora(8)\nmlp[3 = none\nlayer[0] = none"
    file = parse(Source("t", text), faults)
    assert [show(statement.node) for statement in file.statements] == [
        "attention = full",
        "embedding = lora(8)",
        "layer[0] = none",
    ]
    assert sorted(fault.span.line for fault in faults if fault.span) == [1, 3, 5]


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("mlp = none\nattention[3: = lora(8)\nmlp = none", "unclosed-bracket", "2:10"),
        ("mlp = lora(8\nattention = none\n", "unclosed-bracket", "1:11"),
        ("mlp = lora((8)\n", "unclosed-bracket", "1:11"),
        ("mlp[3) = none", "mismatched-bracket", "1:6"),
        ("mlp = lora(8))", "unopened-bracket", "1:14"),
        ('name = "a\nmlp = none', "unclosed-string", "1:8"),
    ],
)
def test_brackets_and_strings_are_told_where_they_stand(text: str, code: str, place: str) -> None:
    (fault,) = faults_of(text)
    assert (fault.code, str(fault.span)) == (code, f"t:{place}")


KEYWORDS = ["name", "about", "model", "extends", "vary", "freeze", "train", "expect"]


@pytest.mark.parametrize("word", [*KEYWORDS, "within", "of", "layer", "true"])
def test_a_keyword_is_one_only_as_a_first_word(word: str) -> None:
    text = f"vary {word} = {word}, 2; train.{word} = {word}; mlp[{word}:] = lora({word}, {word}={word})"
    assert len(shown(f"{text}; expect {word}.{word} == {word}")) == 4


@pytest.mark.parametrize("word", KEYWORDS)
def test_a_first_word_that_begins_like_a_keyword_is_a_slot(word: str) -> None:
    (node,) = (statement.node for statement in parse(Source("t", f"{word}s = none; "), []).statements)
    assert isinstance(node, tree.Assign)


@pytest.mark.parametrize("number", ["0", "7", "1_000", "12_34", "0.5", "1e-4", "3.0e10", "1_0.2_5"])
def test_numbers_are_kept_as_written(number: str) -> None:
    assert shown(f"train.lr = {number}") == [f"train.lr = {number}"]


@pytest.mark.parametrize("number", ["08", "00", "1__0", "1_", "01.5", "1e99999"])
def test_misspelled_numbers_are_refused(number: str) -> None:
    assert [fault.code for fault in faults_of(f"train.lr = {number}")] == ["bad-number"]


def test_only_a_leading_zero_or_underscore_is_called_one() -> None:
    (fault,) = faults_of("train.lr = 1e-1000")
    assert "zero" not in fault.message


def test_trees_are_frozen() -> None:
    node = parse(Source("t", "mlp = none"), []).statements[0].node
    with pytest.raises(FrozenInstanceError):
        node.start = 3  # type: ignore[misc]
