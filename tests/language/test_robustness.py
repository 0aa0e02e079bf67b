"""Whatever stands in a file, there is a tree and faults: never an exception, and soon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ablc
from ablc.faults import Fault, Source, SpecError, render
from ablc.language.parse import parse
from ablc.language.read import decode, read
from ablc.pipeline import compile_source

MODEL = 'model = "EleutherAI/pythia-70m"\n'
PIECES = [
    *"=()[],.:;#\"'\n\\/*+-%<>!{}\t é\u2028\ufeff\0\x1b",
    *"== // <= within of 1% 3 8_0 -1 1e9 2.5 r mlp attention .qkv embedding lora none full layer [3:] (8)".split(),
    *'expect params freeze vary train lr name model "a" true null'.split(),
]
likely = st.lists(st.sampled_from(PIECES), max_size=30).map(lambda pieces: " ".join(pieces))
tight = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.perf_counter()
    yield
    assert time.perf_counter() - start < seconds


def codes(text: str) -> list[str]:
    faults: list[Fault] = []
    parse(Source("t", text), faults)
    return [fault.code for fault in faults]


@settings(max_examples=300)
@given(st.one_of(st.text(), likely, tight))
def test_any_text_compiles_or_is_told_what_is_wrong(text: str) -> None:
    compiled = compile_source(Source("t", MODEL + text))
    for fault in compiled.faults:
        assert render(fault)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_decode_and_parse_or_are_told_what_is_wrong(data: bytes) -> None:
    faults: list[Fault] = []
    source = decode(data, "t", faults)
    assert (source is None) == bool(faults)
    if source is not None:
        parse(source, faults)
    assert all(render(fault) for fault in faults)


@pytest.mark.parametrize("text", ["= 3", "=", "(3)", "(", ")", "[", "==", '"', ";", "#", ".", "%"])
def test_a_statement_may_begin_with_anything(text: str) -> None:
    codes(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("mlp[" + "(" * 10_000 + "1" + ")" * 10_000 + "] = none", "nested-too-deep"),
        ("mlp[" + "-" * 10_000 + "1] = none", "expression-too-long"),
        ("mlp = lora(" + "1 + " * 10_000 + "1)", "expression-too-long"),
        ("mlp = lora(" + "9" * 10_000 + ")", "bad-number"),
        ("(" * 10_000, "nested-too-deep"),
        (")" * 10_000, "unopened-bracket"),
    ],
)
def test_monsters_are_refused_within_a_second(text: str, code: str) -> None:
    with within(1):
        assert code in codes(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("mlp[" + "(" * 99 + "1" + ")" * 99 + "] = none", None),
        ("mlp[" + "(" * 100 + "1" + ")" * 100 + "] = none", "nested-too-deep"),
        ("mlp = lora(" + "1 + " * 99 + "1)", None),
        ("mlp = lora(" + "1 + " * 100 + "1)", "expression-too-long"),
        ("mlp = lora(" + "-" * 99 + "1)", None),
        ("mlp = lora(" + "-" * 100 + "1)", "expression-too-long"),
    ],
)
def test_the_limit_is_a_hundred(text: str, code: str | None) -> None:
    assert codes(text) == ([code] if code else [])


def test_a_large_file_is_refused_by_its_size_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.abl"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
    faults: list[Fault] = []
    with within(1):
        assert read(path, faults) is None
    assert [fault.code for fault in faults] == ["file-too-large"]


def test_a_megabyte_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "full.abl"
    path.write_bytes(b"#" * 1_000_000)
    faults: list[Fault] = []
    assert read(path, faults) is not None
    path.write_bytes(b"#" * 1_000_001)
    assert read(path, faults) is None


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(bytes(range(128, 256)))])
def test_what_is_no_text_file_is_a_fault(tmp_path: Path, make: object) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    faults: list[Fault] = []
    assert read(tmp_path / "x", faults) is None
    assert len(faults) == 1


def test_many_values_of_one_vary_are_told_apart_quickly() -> None:
    values = ", ".join(map(str, range(1, 15_001)))
    with within(2):
        compiled = compile_source(Source("t", f"{MODEL}vary r = {values}\nvary s = 1, 2\nmlp = lora(r + s)"))
    assert [fault.code for fault in compiled.faults] == ["too-many-variants"]


@pytest.mark.parametrize(
    ("text", "code"), [("mlp = \ud800", "not-utf8"), ("mlp = \0", "nul-byte"), (" " * 1_000_001, "file-too-large")]
)
def test_a_text_is_held_to_what_a_file_is_held_to(text: str, code: str) -> None:
    for act in (ablc.loads, ablc.parse):
        with pytest.raises(SpecError) as raised:
            act(text)
        assert [fault.code for fault in raised.value.faults] == [code]


def test_a_text_may_have_a_byte_order_mark_and_ends_of_lines_of_any_kind() -> None:
    spec = ablc.loads('\ufeffmodel = "EleutherAI/pythia-70m"\r\nmlp[0,\r\n1] = none\r\n')
    assert spec.edits[0].layers == (0, 1)
