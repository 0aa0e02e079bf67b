"""Lines and columns as editors count them, against the plainest way to count them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablc.faults import Source
from ablc.language.read import decode
from ablc.lsp.positions import Lines, Place, replaced, units

ENCODINGS = ("utf-8", "utf-16", "utf-32")
CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
TEXTS = st.text(alphabet=st.sampled_from('ab=é€🙂"\n\r\u2028\x0c\x0b\x85'), max_size=30)


def counted(text: str, encoding: str) -> int:
    codec, width = CODECS[encoding]
    return len(text.encode(codec)) // width


def lines_of(text: str) -> list[str]:
    """The lines of a raw text, without their ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(TEXTS)
def test_every_character_of_a_raw_text_is_where_an_editor_has_it(encoding: str, text: str) -> None:
    lines = Lines(text, encoding, raw=True)
    line, column = 0, 0
    for offset, char in enumerate(text):
        inside_crlf = char == "\n" and text[offset - 1 : offset] == "\r"
        if not inside_crlf:
            assert lines.place(offset) == Place(line, column)
            assert lines.offset(Place(line, column)) == offset
        if char == "\n" or (char == "\r" and text[offset + 1 : offset + 2] != "\n"):
            line, column = line + 1, 0
        elif char != "\r":
            column += counted(char, encoding)
    assert line == len(lines_of(text)) - 1


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(TEXTS)
def test_a_source_has_the_lines_and_columns_of_the_text_it_was_read_from(encoding: str, text: str) -> None:
    source = decode(text.encode(), "a", [])
    assert source is not None
    lines = Lines(source.text, encoding)
    there = [lines.place(offset) for offset in range(len(source.text) + 1)]
    expected = [
        Place(number, counted(line[:column], encoding))
        for number, line in enumerate(lines_of(text))
        for column in range(len(line) + 1)
    ]
    assert there == expected


@pytest.mark.parametrize(("encoding", "column"), [("utf-8", 10), ("utf-16", 8), ("utf-32", 7)])
def test_an_emoji_before_shifts_columns_by_its_units(encoding: str, column: int) -> None:
    assert Lines('"\U0001f642" ; x', encoding).place(7) == Place(0, column)


def test_a_column_inside_a_character_is_its_beginning() -> None:
    assert Lines("a\U0001f642b", "utf-16").offset(Place(0, 2)) == 1


@pytest.mark.parametrize(
    ("place", "offset"), [(Place(0, 99), 2), (Place(1, 0), 3), (Place(1, 99), 5), (Place(7, 3), 5), (Place(2, 0), 5)]
)
def test_places_outside_the_text_are_the_nearest_there_is(place: Place, offset: int) -> None:
    assert Lines("ab\ncd").offset(place) == offset


def test_offsets_outside_the_text_too() -> None:
    assert Lines("ab\ncd").place(99) == Place(1, 2)
    assert Lines("ab\ncd").place(-5) == Place(0, 0)


def test_a_bom_counts_on_the_first_line_alone() -> None:
    lines = Lines("ab\ncd", bom=True)
    assert (lines.place(1), lines.place(4)) == (Place(0, 2), Place(1, 1))
    assert (lines.offset(Place(0, 2)), lines.offset(Place(0, 0)), lines.offset(Place(1, 1))) == (1, 0, 4)


@given(TEXTS, TEXTS, st.data())
def test_an_edit_replaces_what_stands_between_two_places(text: str, new: str, data: st.DataObject) -> None:
    lines = Lines(text, "utf-16", raw=True)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    inside = [place for place in (start, end) if text[place - 1 : place + 1] == "\r\n"]
    if not inside:
        expected = text[:start] + new + text[end:]
        assert replaced(text, lines.place(start), lines.place(end), new, "utf-16") == expected


def test_a_range_that_ends_before_it_begins_is_read_the_other_way() -> None:
    assert replaced("abcd", Place(0, 3), Place(0, 1), "X", "utf-16") == "aXd"


def test_half_a_surrogate_pair_is_no_reason_to_stop() -> None:
    assert units("\ud83d", "utf-16") == 1
    assert Lines(Source("a", "\ud83dx").text).place(1) == Place(0, 1)
