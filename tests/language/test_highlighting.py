"""The Pygments lexer names every word as the parser reads it, and loses no character."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Error, Token
from rich.console import Console
from statement_trees import statements

from ablc.cli import output
from ablc.faults import Fault, Source, Span, render
from ablc.language import tree
from ablc.language.highlight import FIELD, MEASURE, OPERATION, SLOT, VARIED, AblLexer, Kind, styled_lines
from ablc.language.printer import show

SPECS = sorted((Path(__file__).resolve().parents[2] / "specs").glob("*.abl"))


def tokens(text: str) -> list[tuple[Kind, str]]:
    return [(kind, value) for _, kind, value in AblLexer().get_tokens_unprocessed(text)]


def named(text: str) -> str:
    """A text with the kind of each token before it, as in `Name.Function:lora`; blanks as they are."""
    kinds = [(str(kind).removeprefix("Token."), value) for kind, value in tokens(text)]
    return "".join(value if kind == "Text.Whitespace" else f"‹{kind} {value}›" for kind, value in kinds)


def words(text: str, *kinds: Kind) -> list[str]:
    return [value for kind, value in tokens(text) if kind in kinds]


# --- whatever the text -----------------------------------------------------------------------------------------------


@given(st.text(st.sampled_from('ab. \n;#"()[]=<%1_-/é\r\t') | st.characters(), max_size=60))
@example("mlp[\n3] = lora(8)\n)")
def test_no_character_is_lost(text: str) -> None:
    found = list(AblLexer().get_tokens_unprocessed(text))
    assert "".join(value for _, _, value in found) == text
    assert all(text.startswith(value, start) for start, _, value in found)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_specs_have_no_errors(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = list(get_lexer_by_name("ablc").get_tokens(text))
    assert "".join(value for _, value in found) == text
    assert Error not in {kind for kind, _ in found}


def by_places(node: tree.StatementNode) -> dict[Kind, list[str]]:
    """What the words of a statement are, as its tree has it."""
    match node:
        case tree.Assign():
            fields = [argument.keyword.name for argument in node.call.arguments if argument.keyword]
            return {SLOT: slots(node.targets), OPERATION: [node.call.operation.name], FIELD: fields}
        case tree.Freeze():
            return {SLOT: slots(node.targets)}
        case tree.Model():
            return {FIELD: [word for override in node.overrides for word in override.field.name.split(".")]}
        case tree.Train():
            return {FIELD: [node.key.name]}
        case tree.Vary():
            return {VARIED: [node.name.name]}
        case tree.Expect():
            measure, *slot = node.measure.name.split(".")
            return {MEASURE: [measure], SLOT: slot}
    return {}


def slots(targets: tuple[tree.Target, ...]) -> list[str]:
    return [word for target in targets for word in target.slot.name.split(".")]


@settings(max_examples=300)
@given(statements)
def test_a_statement_is_named_as_it_is_parsed(node: tree.StatementNode) -> None:
    text = show(node)
    expected = by_places(node)
    assert {kind: words(text, kind) for kind in expected} == expected
    others = {SLOT, OPERATION, FIELD, MEASURE, VARIED} - set(expected)
    assert not words(text, *others, Error)
    is_keyword = not isinstance(node, tree.Assign)
    assert words(text, Token.Keyword) == text.replace(".", " ").split()[:1] * is_keyword


@settings(max_examples=100)
@given(statements, statements, st.sampled_from(["\n", " ; ", "  # and\n\n"]))
def test_a_statement_is_named_alike_wherever_it_stands(
    first: tree.StatementNode, second: tree.StatementNode, between: str
) -> None:
    alone = [*tokens(show(first)), *tokens(between), *tokens(show(second))]
    assert tokens(show(first) + between + show(second)) == alone


# --- one example of everything ---------------------------------------------------------------------------------------

EXAMPLES = [
    ('name = "x"  # why', '‹Keyword name› ‹Operator =› ‹Literal.String.Double "x"›  ‹Comment.Single # why›'),
    ("about = name", "‹Keyword about› ‹Operator =› ‹Name name›"),
    (
        'model = "a/b"(tied = true,\n  rope.factor = 8)',
        '‹Keyword model› ‹Operator =› ‹Literal.String.Double "a/b"›‹Punctuation (›‹Name.Attribute tied› ‹Operator =› '
        "‹Keyword.Constant true›‹Punctuation ,›\n"
        "  ‹Name.Attribute rope›‹Punctuation .›‹Name.Attribute factor› ‹Operator =› "
        "‹Literal.Number.Integer 8›‹Punctuation )›",
    ),
    ('extends "a.abl"', '‹Keyword extends› ‹Literal.String.Double "a.abl"›'),
    (
        "vary r = 8, 1e-3",
        "‹Keyword vary› ‹Name.Constant r› ‹Operator =› ‹Literal.Number.Integer 8›‹Punctuation ,› "
        "‹Literal.Number.Float 1e-3›",
    ),
    (
        "mlp.act[3:, -1] = none",
        "‹Name.Variable mlp›‹Punctuation .›‹Name.Variable act›‹Punctuation [›‹Literal.Number.Integer 3›‹Punctuation :›"
        "‹Punctuation ,› ‹Operator -›‹Literal.Number.Integer 1›‹Punctuation ]› ‹Operator =› ‹Name.Function none›",
    ),
    (
        "mlp = lora(r // 2 + layer, bias=both)",
        "‹Name.Variable mlp› ‹Operator =› ‹Name.Function lora›‹Punctuation (›‹Name r› ‹Operator //› "
        "‹Literal.Number.Integer 2› ‹Operator +› ‹Name.Builtin.Pseudo layer›‹Punctuation ,› ‹Name.Attribute bias›"
        "‹Operator =›‹Name both›‹Punctuation )›",
    ),
    ("freeze layer", "‹Keyword freeze› ‹Name.Variable layer›"),
    (
        "train.lr = 0.5",
        "‹Keyword train›‹Punctuation .›‹Name.Attribute lr› ‹Operator =› ‹Literal.Number.Float 0.5›",
    ),
    (
        "expect layers.mlp <= 1_000",
        "‹Keyword expect› ‹Name.Builtin layers›‹Punctuation .›‹Name.Variable mlp› ‹Operator <=› "
        "‹Literal.Number.Integer 1_000›",
    ),
    (
        'expect eval_loss within 1% of 1.3 * "a.abl"',
        "‹Keyword expect› ‹Name.Builtin eval_loss› ‹Operator.Word within› ‹Literal.Number.Integer 1›‹Operator %› "
        '‹Operator.Word of› ‹Literal.Number.Float 1.3› ‹Operator *› ‹Literal.String.Double "a.abl"›',
    ),
]


@pytest.mark.parametrize(("text", "expected"), EXAMPLES, ids=[text.split("\n")[0] for text, _ in EXAMPLES])
def test_examples(text: str, expected: str) -> None:
    assert named(text) == expected


def test_only_the_first_word_of_a_statement_is_a_keyword() -> None:
    text = "freeze.model = vary(expect = train)\nexpect expect within 1% of of; within.of = name"
    assert words(text, Token.Keyword) == ["freeze", "expect"]
    assert words(text, Token.Operator.Word) == ["within", "of"]
    assert words(text, OPERATION) == ["name"]


def test_what_is_wrong_ends_with_its_line() -> None:
    text = "mlp[3 = none\nabout = \"open\nmlp = lora(8) ? 'x'\nfreeze mlp"
    assert words(text, Error) == ['"open', "?", "'", "'"]
    assert words(text, Token.Keyword) == ["about", "freeze"]
    assert words(text, OPERATION) == ["lora"]


# --- where it is found -----------------------------------------------------------------------------------------------


def test_it_is_found_by_name_and_by_file_name() -> None:
    assert isinstance(get_lexer_by_name("ablc"), AblLexer)
    assert isinstance(get_lexer_for_filename("specs/18.abl"), AblLexer)


def test_importing_ablc_leaves_pygments_alone() -> None:
    code = "import sys, ablc; ablc.load('specs/18.abl'); sys.exit('pygments' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SPECS[0].parents[1], check=False).returncode == 0


# --- faults on a terminal --------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> str:
    screen = Terminal()
    console = Console(
        file=screen, force_terminal=True, color_system="standard", highlight=False, width=200, no_color=False
    )
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(output, "terminal", lambda stderr: console)
    output.print_fault(fault)
    return screen.getvalue()


def test_a_fault_on_a_terminal_has_its_lines_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("a.abl", 'model = "a"(\n  name = 8)\nfreeze mlp  # name\n')
    related = ((Span(source, 26, 36), "here"),)
    text = shown(Fault("unknown-field", "no such field", Span(source, 15, 19), related=related), monkeypatch)
    assert "2 |   name = \x1b[36m8\x1b[0m)" in text  # the field of an override, and not a keyword
    assert "3 | \x1b[35mfreeze\x1b[0m mlp  \x1b[2m# name\x1b[0m" in text


def test_colour_changes_no_character(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("a.abl", "mlp = lora(8)  # \x1b[31m" + "." * 200)
    for fault in (Fault("no-spec", "1 | mlp = none"), Fault("erased", "1 | x\n2 | y", Span(source, 0, 3))):
        text = shown(fault, monkeypatch)
        for style in ("31", "36", "94", "2", "1;31", "1;36", "0"):
            text = text.replace(f"\x1b[{style}m", "")
        assert text == render(fault) + "\n\n"


def test_styles_are_given_line_by_line() -> None:
    assert styled_lines("a = b\n\nfreeze c") == [
        [("", "a"), ("", " "), ("", "="), ("", " "), ("bright_blue", "b")],
        [],
        [("magenta", "freeze"), ("", " "), ("", "c")],
    ]
