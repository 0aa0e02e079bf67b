"""Canonical text says what the file said, comments and all, and is its own canonical text."""

from __future__ import annotations

import re
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statement_trees import statements

from ablc.checking.allow import allows_in
from ablc.faults import Fault, Source
from ablc.language import tree
from ablc.language.formatting import difference, formatted
from ablc.language.parse import parse
from ablc.language.printer import show
from ablc.language.read import decode

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted([*(ROOT / "specs").glob("*.abl"), *(ROOT / "ablc" / "recipes").glob("*.abl")])

# --- random files: what they say, and a layout of it -----------------------------------------------------------------

LEXEME = re.compile(r'"[^"]*"|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?|\w+|//|[<>=]=|.')
ALLOW = "# ablc: allow erased that is the point"
comments = st.just(ALLOW) | st.text(
    st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=12
).map("#{}".format)
BLANKS = ["", "", " ", "  ", "\t", "\f"]
blanks = st.sampled_from(BLANKS)
Layout = tuple[str, list[tree.StatementNode], list[str]]


def laid_out(node: tree.StatementNode, remarks: list[str], random: Random) -> tuple[str, list[str]]:
    """A statement with blanks between its lexemes, newlines and comments in its brackets; and those comments."""
    text, said, depth = "", [], 0
    for lexeme in LEXEME.findall(show(node)):
        depth += (lexeme in ("(", "[")) - (lexeme in (")", "]"))
        text += lexeme
        if depth and random.random() < 0.1:
            remark = random.choice(["", *remarks])
            said += [remark] if remark else []
            text += f"{remark}\n"
        text += random.choice(BLANKS)
    return text, said


@st.composite
def files(draw: st.DrawFn) -> Layout:
    """The text of a file, with the statements and the comments that it was made of."""
    text, nodes, said = draw(blanks), [], []
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.integers(0, 9))
        if kind < 5:
            nodes.append(draw(statements))
            remarks = draw(st.lists(comments, max_size=3))
            written, inside = laid_out(nodes[-1], remarks, Random(draw(st.integers(0, 99))))
            text += draw(blanks) + written + draw(blanks)
            said += inside
        if kind in (0, 5, 6, 7):
            said.append(draw(comments))
            text += said[-1] + "\n"
        else:
            text += draw(st.sampled_from(["\n", ";", " ; ", "\n\n", "\n \t\n\n", ";\n;\n"]))
    return text, nodes, [re.sub(r"\s+\Z", "", comment) for comment in said]


def read(text: str) -> tree.File:
    faults: list[Fault] = []
    source = decode(text.encode(), "t", faults)
    assert source is not None
    file = parse(source, faults)
    assert not faults, (text, faults)
    return file


def canonical(text: str) -> str:
    return formatted(read(text))


def comments_of(text: str) -> list[str]:
    return [found.rstrip() for found in re.findall(r'"[^"\n]*"|#[^\n]*', text) if found[0] == "#"]


# --- laws ------------------------------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(files())
def test_statements_and_comments_stay(layout: Layout) -> None:
    text, nodes, said = layout
    after = canonical(text)
    assert [statement.node for statement in read(after).statements] == nodes
    assert comments_of(after) == said
    assert difference(read(text), read(after)) is None


@settings(max_examples=400)
@given(files())
def test_a_canonical_text_is_its_own(layout: Layout) -> None:
    once = canonical(layout[0])
    assert canonical(once) == once


def allowed(text: str) -> list[set[int] | None]:
    """Of each comment that allows a warning, the statements that it is about; None where that is the file."""
    file = read(text)
    starts = [statement.offset for statement in file.statements]
    scopes = [allow.scope for allow in allows_in(file.source).allows]
    return [None if scope is None else {starts.index(span.start) for span in scope} for scope in scopes]


@settings(max_examples=400)
@given(files())
def test_what_is_allowed_where_stays(layout: Layout) -> None:
    before, after = allowed(layout[0]), allowed(canonical(layout[0]))
    # what stands beside a lone `;` is about nothing, and may come to stand above a statement
    assert [one if one == set() else other for one, other in zip(before, after, strict=True)] == before


@settings(max_examples=200)
@given(files(), st.sampled_from(["\n", "\r\n"]))
def test_shape(layout: Layout, end: str) -> None:
    text, nodes, said = layout
    after = canonical(text.replace("\r", "").replace("\n", end))
    assert bool(after) == bool(nodes or said)
    assert not after or (after.endswith("\n") and not after.startswith("\n"))
    lines = after.split("\n")
    assert all(line == line.rstrip() for line in lines)
    assert all(lines[c.line - 1].startswith("#") or "  #" in lines[c.line - 1] for c in read(after).comments)


@settings(max_examples=200)
@given(st.lists(statements, max_size=4), st.sampled_from(["\n", ";", " ;\n", "\n\n\n\n"]))
def test_layout_doesnt_matter_where_there_are_no_comments_and_blank_lines(
    nodes: list[tree.StatementNode], between: str
) -> None:
    plain = canonical("".join(f"{show(node)}\n" for node in nodes))
    assert canonical(between.join(map(show, nodes))).replace("\n\n", "\n") == plain.replace("\n\n", "\n")


@settings(max_examples=200)
@given(statements)
def test_newlines_are_inside_brackets_only_where_a_line_would_be_too_wide(node: tree.StatementNode) -> None:
    after, flat = canonical(show(node)), show(node)
    if len(flat) <= 50:  # some characters take two columns
        assert after == f"{flat}\n"
    one, other = (re.sub(r",(?=[])])", "", re.sub(r"\s", "", text)) for text in (after, flat))
    assert one == other


# --- examples --------------------------------------------------------------------------------------------------------

BEFORE = """\


#  Kept as it is:   spaces and all
name="x";model = "EleutherAI/pythia-410m"   # the base


vary r=8,32 # a family \t
attention . out=none # no projection
                     # at all
 attention.qkv [ r // 2:, -1 ]=lora( (8), bias = none,)

   # indented

mlp[
  3, # the fourth
    5:
] = none
freeze layer[0];;
;
expect eval_loss   within 1 % of "01.abl"   \t


# the end"""

AFTER = """\
#  Kept as it is:   spaces and all
name = "x"
model = "EleutherAI/pythia-410m"  # the base

vary r = 8, 32        # a family
attention.out = none  # no projection
                      # at all
attention.qkv[r // 2 :, -1] = lora(8, bias=none)

# indented

mlp[
  3, # the fourth
    5:
] = none
freeze layer[0]
expect eval_loss within 1% of "01.abl"

# the end
"""


def test_an_example() -> None:
    assert canonical(BEFORE) == AFTER


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_specs_and_recipes_are_canonical(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert canonical(text) == text


@pytest.mark.parametrize("text", re.findall(r"```abl\n(.*?)```", (ROOT / "docs" / "language.md").read_text(), re.S))
def test_specs_in_the_language_reference_are_canonical(text: str) -> None:
    assert canonical(text) == text


@pytest.mark.parametrize("text", ["", "\n", " \t\n\r\n", ";", "; ;\n;", "\ufeff"])
def test_what_says_nothing_becomes_empty(text: str) -> None:
    assert canonical(text) == ""


def test_the_owners_one_line_becomes_three() -> None:
    text = "attention[0:3]=full; attention[3:]=lora(8); mlp[12:18]=lora_mlp(16)"
    assert canonical(text) == "attention[0:3] = full\nattention[3:] = lora(8)\nmlp[12:18] = lora_mlp(16)\n"


@pytest.mark.parametrize(
    ("between", "kept"),
    [("\n", "\n"), ("\n\n", "\n\n"), ("\n\n\n\n", "\n\n"), ("\n \t\n", "\n\n"), (";\n;\n", "\n"), ("\n;\n\n", "\n\n")],
)
def test_blank_lines_become_one(between: str, kept: str) -> None:
    assert canonical(f"mlp = none{between}layer = none") == f"mlp = none{kept}layer = none\n"


def test_statements_of_one_line_stay_together() -> None:
    assert canonical("layer = none\n\nmlp = none; mlp = full") == "layer = none\n\nmlp = none\nmlp = full\n"


@pytest.mark.parametrize(
    ("bounds", "canonical_bounds"),
    [
        ("a:b", "a:b"),
        ("-1:", "-1:"),
        ("a+1:", "a + 1 :"),
        (":a+1", ": a + 1"),
        ("a+1::2", "a + 1 : : 2"),
        ("::2", "::2"),
        ("-(a+b):3", "-(a + b):3"),
    ],
)
def test_a_colon_beside_a_computed_bound_has_blanks(bounds: str, canonical_bounds: str) -> None:
    assert canonical(f"mlp[{bounds}] = none") == f"mlp[{canonical_bounds}] = none\n"


# --- comments --------------------------------------------------------------------------------------------------------


def test_comments_of_consecutive_lines_begin_in_one_column() -> None:
    text = (
        "mlp = none # a\nattention = none # b\n\nlayer[3] = none # c\nlayer = none\nmlp = full # d\n# e\nmlp = none # f"
    )
    assert canonical(text).split("\n") == [
        "mlp = none        # a",
        "attention = none  # b",
        "",
        "layer[3] = none  # c",
        "layer = none",
        "mlp = full  # d",
        "# e",
        "mlp = none  # f",
        "",
    ]


def test_comments_dont_wait_for_a_wide_statement() -> None:
    wide = f"mlp[{', '.join('12' for _ in range(16))}] = none"
    assert 60 < len(wide) < 100
    assert canonical(f"mlp = none # a\n{wide} # b\nattention = none # c\nmlp = none # d").split("\n") == [
        "mlp = none  # a",
        f"{wide}  # b",
        "attention = none  # c",
        "mlp = none        # d",
        "",
    ]


def test_a_comment_behind_a_statement_goes_on_with_no_other() -> None:
    wide = f"mlp[{', '.join('12' for _ in range(16))}] = none"
    assert canonical(f"{wide}  # a\n{'layer = none'.ljust(len(wide))}  # b") == f"{wide}  # a\nlayer = none  # b\n"


def test_a_wide_character_takes_two_columns() -> None:
    assert canonical('about = "層" # a\nname = "abcd" # b') == 'about = "層"   # a\nname = "abcd"  # b\n'


def test_a_comment_right_below_another_goes_on_with_it() -> None:
    text = "mlp=none # a\n         # b\n         # c\nattention.out=none # d"
    assert canonical(text).split("\n") == [
        "mlp = none            # a",
        "                      # b",
        "                      # c",
        "attention.out = none  # d",
        "",
    ]


def test_blanks_before_a_comment_may_be_tabs() -> None:
    assert canonical("mlp[3]=none\t# a\n\t\t# b") == "mlp[3] = none  # a\n               # b\n"


def test_what_stands_on_several_lines_isnt_aligned_with_its_neighbours() -> None:
    lines = ["mlp = none  # a", "mlp[  # b", "3] = none  # c", "attention.out = none  # d", ""]
    assert canonical("\n".join(lines)).split("\n") == lines


@pytest.mark.parametrize("below", ["\n         # b", "          # b", "\t  # b", "# b"])
def test_a_comment_elsewhere_stands_for_itself(below: str) -> None:
    lines = canonical(f"mlp=none # a\n{below}\n").split("\n")
    assert lines[0] == "mlp = none  # a" and lines[-2:] == ["# b", ""]


def test_comments_below_each_other_with_no_statement_stand_in_the_first_column() -> None:
    assert canonical("   # a\n   # b\n") == "# a\n# b\n"


def test_a_comment_behind_brackets_that_mean_nothing_is_kept() -> None:
    """The node of such a statement ends before its bracket does."""
    text = "train.lr = ((1) # one\n\n) # two\nmlp = none"
    assert canonical(text) == "train.lr = ((1) # one\n\n)  # two\nmlp = none\n"
    assert canonical("train.lr = (1\n\n) # two\nmlp = none") == "train.lr = 1  # two\nmlp = none\n"


@pytest.mark.parametrize(
    "text",
    [
        f"layer = none\nmlp=none; layer = full  {ALLOW}\n",
        f"layer = none\n{ALLOW}\n# and so\nmlp=none; layer = full\nlayer = none\n",
        f"layer = none\nmlp=none; layer[ {ALLOW}\n3] = full\n",
    ],
)
def test_statements_that_one_comment_to_ablc_is_about_stay_together(text: str) -> None:
    assert canonical(text) == text


def test_other_statements_near_such_a_comment_are_parted() -> None:
    text = f"mlp=none {ALLOW}\nmlp=none;mlp=full\n{ALLOW}\nmlp=none\nmlp=none;mlp=full"
    parted = "mlp = none\nmlp = full\n"
    assert canonical(text) == f"mlp = none  {ALLOW}\n{parted}{ALLOW}\nmlp = none\n{parted}"


def test_a_hash_in_a_string_is_no_comment() -> None:
    assert canonical('about = "a # b"# c') == 'about = "a # b"  # c\n'


# --- long statements -------------------------------------------------------------------------------------------------

LAYERS = ", ".join(map(str, range(24)))


def listed(*items: object) -> str:
    return "".join(f"    {item},\n" for item in items)


def test_a_long_list_has_an_item_a_line() -> None:
    assert canonical(f"mlp[{LAYERS}, 99] = lora(8)") == f"mlp[\n{listed(*range(24), 99)}] = lora(8)\n"


def test_a_hundred_columns_are_allowed() -> None:
    text = f"mlp[{LAYERS}] = lora(11)\n"
    assert len(text) == 100 + 1
    assert canonical(text) == text
    assert canonical(text.replace("lora(", "lora(1")) == f"mlp[{LAYERS}] = lora(\n{listed(111)})\n"


def test_only_brackets_are_broken_that_make_a_line_too_wide() -> None:
    options = "act = gelu, bias = none, " + ", ".join(f"k{place} = (1 + {place}) * r" for place in range(6))
    items = ["act=gelu", "bias=none", *(f"k{place}=(1 + {place}) * r" for place in range(6))]
    assert canonical(f"attention.qkv[3, 5], mlp = lora({options})") == (
        f"attention.qkv[3, 5], mlp = lora(\n{listed(*items)})\n"
    )
    assert canonical(f"mlp[{LAYERS}, 24], attention[0] = lora({options})") == (
        f"mlp[\n{listed(*range(25))}], attention[0] = lora(\n{listed(*items)})\n"
    )


def test_overrides_are_broken_too() -> None:
    names = [f"some_rather_long_name_{letter}.of_a_field = 1" for letter in "abc"]
    assert canonical(f'model = "a, (b"({", ".join(names)})') == f'model = "a, (b"(\n{listed(*names)})\n'


def test_a_group_is_no_list() -> None:
    text = f"train.lr = ({' + '.join('abcdefgh' for _ in range(12))}) * (2 - -(a - b))\n"
    assert len(text) > 101
    assert canonical(text) == text


def test_a_statement_that_fits_is_put_on_one_line() -> None:
    assert canonical("mlp[\n  3,\n  5:,\n] = lora(\n8)") == "mlp[3, 5:] = lora(8)\n"


def test_many_long_statements_take_no_time_to_speak_of() -> None:
    file = read(f"{', '.join('mlp[1]' for _ in range(11_000))} = none")
    start = time.perf_counter()
    formatted(file)
    assert time.perf_counter() - start < 5  # on a machine that does other things too


# --- differences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("mlp = none\nlayer = none", "mlp = none\nlayer = full", "2:1"),
        ("mlp = none\nlayer = none", "mlp = none", "2:1"),
        ("mlp = none", "mlp = none\nlayer = none", "1:11"),
        ("# a\n# b", "# b\n# a", "1:1"),
        ("mlp = none # a", "mlp = none # b", "1:12"),
        ("mlp = none # a", "mlp = none", "1:12"),
        ("mlp = none # a", "# a\nmlp = none", "1:1"),
        ("mlp[ # a\n3] = none", "mlp[3] = none", "1:6"),
        ("train.lr = 0.1", "train.lr = 0.10", "1:1"),
        ("train.steps = 1_0", "train.steps = 10", "1:1"),
        ('about = "a  b"', 'about = "a b"', "1:1"),
    ],
)
def test_what_would_say_something_else_is_found(before: str, after: str, place: str) -> None:
    found = difference(read(before), read(after))
    assert found is not None and str(found) == f"t:{place}"


def test_layout_is_no_difference() -> None:
    assert difference(read(AFTER), read(AFTER.replace(" = ", "=").replace("  #", "#"))) is None


def test_a_source_is_enough() -> None:
    assert formatted(parse(Source("t", "mlp=none"), [])) == "mlp = none\n"
