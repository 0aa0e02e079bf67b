"""The built-in corpus, its split, and the tokenizer made of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ablc.train import corpus as corpus_module
from ablc.train import tokenizer as tokenizer_module
from ablc.train.corpus import Corpus, DataError, Document, builtin_corpus, overlap, validation_units
from ablc.train.tokenizer import END_OF_TEXT, builtin_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def stdlib(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLC_CACHE", str(tmp_path_factory.mktemp("cache")))
        return builtin_corpus()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A hundred modules of about one size, so that each has about 1 % of the bytes."""
    root = tmp_path / "library"
    root.mkdir()
    for number in range(100):
        words = [hashlib.sha256(f"{number} {i}".encode()).hexdigest()[: 3 + i % 6] for i in range(60)]
        (root / f"m{number:02}.py").write_text(" ".join(words) + "\n" + "def first(self):\n    return self\n" * 3)
    return root


def paths(corpus: Corpus) -> set[str]:
    return {document.path for document in (*corpus.train, *corpus.validation)}


def test_no_unit_of_the_library_is_in_both_parts(stdlib: Corpus) -> None:
    train = {document.unit for document in stdlib.train}
    held_out = {document.unit for document in stdlib.validation}
    assert len(held_out) >= 5
    assert not train & held_out
    assert stdlib.manifest.validation_units == tuple(sorted(held_out))


def test_a_twentieth_is_held_out_and_little_of_it_stands_in_training(stdlib: Corpus) -> None:
    manifest = stdlib.manifest
    assert 0.04 < manifest.validation_bytes / (manifest.train_bytes + manifest.validation_bytes) < 0.08
    assert 0 < manifest.overlap < 0.08
    assert manifest.overlap == overlap(stdlib.train, stdlib.validation)


def test_manifest_counts_what_is_there(stdlib: Corpus) -> None:
    record = json.loads(stdlib.manifest.to_json())
    assert record["name"] == "stdlib"
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["train_files"] == len(stdlib.train) > 200
    assert record["train_bytes"] == sum(len(document.text.encode()) for document in stdlib.train)
    assert re.fullmatch("[0-9a-f]{64}", record["hash"])


def test_tests_tables_and_installed_packages_are_left_out(library: Path) -> None:
    before = paths(builtin_corpus(library))
    for name in ("test/a", "pack/tests/a", "pack/idle_test/a", "encodings/a", "site-packages/torch/a", "distutils/a"):
        (library / name).parent.mkdir(parents=True)
        (library / f"{name}.py").write_text("x = 1\n")
    (library / "_sysconfigdata__linux.py").write_text("x = 1\n")
    (library / "latin.py").write_bytes(b"name = '\xe9'\n")
    (library / "pack" / "kept.py").write_text("x = 1\n")
    assert paths(builtin_corpus(library)) == before | {"pack/kept.py"}


def test_hash_depends_on_content_alone(library: Path, tmp_path: Path) -> None:
    first = builtin_corpus(library).manifest.hash
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in sorted(library.iterdir(), reverse=True):
        (elsewhere / path.name).write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert builtin_corpus(elsewhere).manifest.hash == first
    (elsewhere / "m07.py").write_bytes((elsewhere / "m07.py").read_bytes().replace(b"self", b"cls_"))
    assert builtin_corpus(elsewhere).manifest.hash != first


def test_every_eighth_unit_of_middle_size_is_held_out() -> None:
    sizes = {f"u{number:02}": 900 + number for number in range(80)} | {"giant": 20_000, "tiny": 10}
    documents = [Document(f"{name}.py", "x" * size) for name, size in sizes.items()]
    assert validation_units(documents) == tuple(f"u{number:02}" for number in range(75, 0, -8))
    assert validation_units(reversed(documents)) == validation_units(documents)


def test_a_package_is_one_unit() -> None:
    assert Document("json/decoder.py", "").unit == Document("json/__init__.py", "").unit == "json"
    assert Document("os.py", "").unit == "os"


def brute_overlap(train: list[str], validation: list[str]) -> float:
    def grams(text: str) -> list[tuple[str, ...]]:
        words = re.findall(r"\w+|[^\w\s]", text)
        return [tuple(words[i : i + 13]) for i in range(len(words) - 12)]

    known = {gram for text in train for gram in grams(text)}
    found = [gram in known for text in validation for gram in grams(text)]
    return sum(found) / len(found)


def test_overlap_is_that_of_all_grams_compared_one_by_one() -> None:
    line = "if (a[0] == b.c): return self._first(d, e)\n"
    train = [line * 3, "for x in range(3):\n    print(x, y, z, end='')\n" * 2]
    validation = [line * 2 + "while True: break # here\n" + line, train[1] * 2, "other words " * 20]
    assert overlap(documents(train), documents(validation)) == pytest.approx(brute_overlap(train, validation))


def test_overlap_of_nothing_of_everything_and_across_files() -> None:
    words = [f"w{number}" for number in range(40)]
    whole = documents([" ".join(words)])
    assert overlap(whole, whole) == 1
    assert overlap(whole, documents(["three words only"])) == 0
    assert overlap([], whole) == 0
    halves = documents([" ".join(words[:12]), " ".join(words[12:])])
    assert overlap(halves, documents([" ".join(words[:24])])) == 0


def documents(texts: list[str]) -> list[Document]:
    return [Document(f"{number}.py", text) for number, text in enumerate(texts)]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"overlap": 7}', b'{"overlap": null}', b"\xff\xfe"])
def test_overlap_comes_from_the_cache_unless_damaged(
    library: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    first = builtin_corpus(library).manifest
    with monkeypatch.context() as patch:
        patch.setattr(corpus_module, "overlap", None)
        assert builtin_corpus(library).manifest == first
    (entry,) = (cache / "corpus").iterdir()
    entry.write_bytes(damage)
    assert builtin_corpus(library).manifest == first


@pytest.mark.parametrize("files", [None, 0, 3])
def test_a_library_without_source_is_an_error_with_a_way_out(tmp_path: Path, files: int | None) -> None:
    root = tmp_path / "stripped"
    if files is not None:
        root.mkdir()
        for number in range(files):
            (root / f"m{number}.py").write_text("x = 1\n")
    with pytest.raises(DataError) as error:
        builtin_corpus(root)
    assert "stripped" in error.value.message and "train.data" in error.value.help


def test_corpus_is_frozen(library: Path) -> None:
    corpus = builtin_corpus(library)
    for thing, name in ((corpus, "train"), (corpus.manifest, "hash"), (corpus.train[0], "text")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, "")


@pytest.mark.parametrize("size", [257, 300, 4096])
def test_vocabulary_is_exact(stdlib: Corpus, size: int) -> None:
    made = builtin_tokenizer(stdlib, size)
    assert made.get_vocab_size() == size
    assert sorted(made.get_vocab().values()) == list(range(size))
    assert made.token_to_id(END_OF_TEXT) == 0


def test_a_full_size_vocabulary_is_exact(stdlib: Corpus) -> None:
    assert builtin_tokenizer(stdlib, 50304).get_vocab_size() == 50304


def test_any_text_survives(library: Path) -> None:
    made = builtin_tokenizer(builtin_corpus(library), 300)
    text = "  def été(): 漢字\t\x00🙂\r\n\n"
    assert made.decode(made.encode(text).ids) == text


def test_tokens_are_of_the_training_part_alone(library: Path) -> None:
    held_out = builtin_corpus(library).manifest.validation_units
    for path in library.iterdir():
        word = "heldout" if path.stem in held_out else "trained"
        path.write_text(path.read_text() + f"\nx {word}" * 20)
    corpus = builtin_corpus(library)
    assert corpus.manifest.validation_units == held_out
    made = builtin_tokenizer(corpus, 400)
    assert len(made.encode(" trained").ids) == 1
    assert len(made.encode(" heldout").ids) > 2


def test_tokenizer_comes_from_the_cache(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = builtin_corpus(library)
    first = builtin_tokenizer(corpus, 300).to_str()
    monkeypatch.setattr(tokenizer_module, "_train", None)
    assert builtin_tokenizer(corpus, 300).to_str() == first


@pytest.mark.parametrize("damage", ["nothing", "garbage", "half", "other", "no end of text"])
def test_a_damaged_tokenizer_is_made_again(library: Path, cache: Path, damage: str) -> None:
    corpus = builtin_corpus(library)
    first = builtin_tokenizer(corpus, 300).to_str()
    (entry,) = (cache / "tokenizers").rglob("tokenizer.json")
    contents = {
        "nothing": "",
        "garbage": "\x00\x01{",
        "half": first[: len(first) // 2],
        "other": builtin_tokenizer(corpus, 301).to_str(),
        "no end of text": first.replace(END_OF_TEXT, "<|other|>"),
    }
    entry.write_text(contents[damage])
    assert builtin_tokenizer(corpus, 300).to_str() == first
    assert entry.read_text() == first


def test_a_cache_that_cannot_be_written_is_done_without(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = builtin_tokenizer(builtin_corpus(library), 300).to_str()
    # A file where a folder would have to be: no user may write below it, not even root.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ABLC_CACHE", str(tmp_path / "file" / "cache"))
    assert builtin_tokenizer(builtin_corpus(library), 300).to_str() == first


def test_another_process_with_other_threads_makes_the_same(stdlib: Corpus, tmp_path: Path) -> None:
    script = (
        "import hashlib; from ablc.train.corpus import builtin_corpus as c; from ablc.train.tokenizer import *;"
        "print(hashlib.sha256(builtin_tokenizer(c(), 4096).to_str().encode()).hexdigest())"
    )
    env = os.environ | {"ABLC_CACHE": str(tmp_path / "fresh"), "RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    other = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    here = builtin_tokenizer(stdlib, 4096).to_str()
    assert other.stdout.strip() == hashlib.sha256(here.encode()).hexdigest()


@pytest.mark.parametrize(("size", "limit"), [(100, "fewest"), (10**6, "most")])
def test_a_vocabulary_that_cannot_be_had_says_what_can(library: Path, size: int, limit: str) -> None:
    with pytest.raises(DataError, match=f"{size:,}") as error:
        builtin_tokenizer(builtin_corpus(library), size)
    assert limit in error.value.help
