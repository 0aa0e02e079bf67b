"""Texts become tokens once, in a file that grows with them."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from ablc.train import tokens
from ablc.train.corpus import DataError
from ablc.train.texts import Extent, Opened, Part, Texts
from ablc.train.tokenizer import Encoder
from ablc.train.tokens import Streams, quiet, tokenise

PIECES, WORDS = 20, 10_000


def encoder() -> Encoder:
    made = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Encoder(made, None)


def made(folder: Path, watch: Callable[[Part, int], None] = lambda part, number: None) -> Streams:
    """Both parts, each of `PIECES` batches of `WORDS` words; `watch` is called before each batch is read."""

    def batches(part: Part) -> Iterator[list[str]]:
        for number in range(PIECES):
            watch(part, number)
            yield ["ab"[number % 2] + " " + "b " * (WORDS - 1)]

    return tokenise(folder, Texts("key", {}, False, lambda part: Opened(batches(part), Extent())), encoder(), quiet)


def test_they_are_in_the_file_before_the_next_piece_is_read(tmp_path: Path) -> None:
    sizes: dict[Part, list[int]] = {"train": [], "validation": []}

    def watch(part: Part, number: int) -> None:
        (partial,) = tmp_path.glob(f".{part}.npy.*")
        sizes[part].append(partial.stat().st_size)

    streams = made(tmp_path, watch)
    for part, found in sizes.items():
        assert all(size >= number * WORDS * 2 for number, size in enumerate(found))
        tokens = streams[part].tokens
        assert isinstance(tokens, np.memmap) and len(tokens) == PIECES * WORDS
        assert tokens[::WORDS].tolist() == [number % 2 for number in range(PIECES)]
        assert streams[part].bytes == PIECES * WORDS * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", "train.npy", "validation.npy"]


def test_where_nothing_can_be_written_they_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    here, there = made(tmp_path / "file" / "below"), made(tmp_path / "folder")
    for part in here:
        assert np.array_equal(here[part].tokens, there[part].tokens)
        assert (here[part].bytes, here[part].hash) == (there[part].bytes, there[part].hash)


def test_a_disk_that_is_full_is_told(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=r"tokens can't be kept in .*: file too large") as caught:
            made(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "ABLC_CACHE" in str(caught.value.help)
    assert not list(tmp_path.iterdir())
    assert len(made(tmp_path)["train"].tokens) == PIECES * WORDS


def test_what_a_killed_process_left_goes_when_it_is_old(tmp_path: Path) -> None:
    old, new = tmp_path / ".train.npy.1-2.partial", tmp_path / ".train.npy.3-4.partial"
    old.touch()
    new.touch()
    past = time.time() - 2 * tokens.ABANDONED
    os.utime(old, (past, past))
    made(tmp_path)
    assert not old.exists() and new.exists()


def test_a_long_list_of_texts_is_tokenised_in_pieces() -> None:
    long = [["a" * 600_000, "b", "c" * 600_000, "d"], [], ["e" * 3_000_000, "f"]]
    pieces = list(tokens._pieces(long))
    assert [[text[0] for text in piece] for piece in pieces] == [["a", "b", "c"], ["d"], ["e"], ["f"]]
