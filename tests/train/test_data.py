"""Blocks of tokens: where they come from, what is kept of them, in which order they go to the model."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from ablc.bases import hub
from ablc.train import hub_texts, local_texts, texts
from ablc.train.baselines import baselines
from ablc.train.corpus import Corpus, builtin_corpus
from ablc.train.data import Data, DataError, load_data, reachable
from ablc.train.texts import local_path
from ablc.train.tokenizer import Encoder, builtin_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def warm(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that the tests with the real corpus share, so that its texts are tokenised once."""
    monkeypatch.setenv("ABLC_CACHE", str(shared))
    return shared


@pytest.fixture(scope="module")
def corpus(shared: Path) -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLC_CACHE", str(shared))
        return builtin_corpus()


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    builtin_tokenizer(corpus, 300).save(str(path))
    return path


TRAIN = [f"line {number * 7919 % 1009} of the text, é\n" for number in range(400)]
VALIDATION = [f"line {number * 31} of another text\n" for number in range(60)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "train.txt").write_text("".join(TRAIN))
    (path / "validation.txt").write_text("".join(VALIDATION))
    return path


def stdlib(**changes: Any) -> Data:
    arguments: dict[str, Any] = {"tokenizer": "builtin", "base_model": "owner/model", "vocab_size": 4096}
    return load_data("stdlib", **arguments | {"block_size": 128, "eval_blocks": 64} | changes)


def local(data: Path | str, using: Path | str, /, **changes: Any) -> Data:
    arguments: dict[str, Any] = {"tokenizer": str(using), "base_model": "owner/model", "vocab_size": 300}
    return load_data(str(data), **arguments | {"block_size": 16, "eval_blocks": None} | changes)


def test_blocks_are_the_documents_with_an_end_after_each(warm: Path, corpus: Corpus) -> None:
    data = stdlib(eval_blocks=None)
    made = builtin_tokenizer(corpus, 4096)
    ids = [number for document in corpus.validation for number in [*made.encode(document.text).ids, 0]]
    count = len(ids) // 128
    assert data.validation.shape == (count, 128)
    assert data.validation.dtype == data.train.dtype == np.uint16
    assert data.validation.ravel().tolist() == ids[: count * 128]
    assert data.manifest["tokens"]["validation"] == len(ids)
    assert data.bytes_per_token == sum(len(d.text.encode()) for d in corpus.validation) / len(ids)
    assert data.manifest["hash"] == corpus.manifest.hash
    assert json.loads(json.dumps(data.manifest)) == data.manifest


def test_baselines_of_the_real_corpus_are_of_the_known_size(warm: Path) -> None:
    found = stdlib().baselines
    assert 6.2 < found.unigram < 7
    assert 4 < found.bigram < 5.2


def test_evaluation_blocks_are_evenly_spaced(warm: Path) -> None:
    everything, some = stdlib(eval_blocks=None).validation, stdlib(eval_blocks=7).validation
    expected = [number * len(everything) // 7 for number in range(7)]
    assert np.array_equal(some, everything[expected])
    assert np.array_equal(stdlib(eval_blocks=10**6).validation, everything)


def test_second_load_is_mapped_quick_and_equal(warm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = stdlib()
    monkeypatch.setattr(Encoder, "encode", None)
    start = time.perf_counter()
    second = stdlib()
    assert time.perf_counter() - start < 1
    assert same(first, second)
    assert isinstance(second.train, np.memmap)
    assert not second.train.flags.writeable


def same(a: Data, b: Data) -> bool:
    tokens = np.array_equal(a.train, b.train) and np.array_equal(a.validation, b.validation)
    return tokens and (a.manifest, a.bytes_per_token, a.baselines) == (b.manifest, b.bytes_per_token, b.baselines)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda content: content[: len(content) // 2],
    "nothing": lambda content: b"",
    "garbage": lambda content: b"\x93NUMPY\x01\x00\xff{",
    "a list": lambda content: b"[]",
    "one bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["train.npy", "validation.npy", "index.json", "baselines-16-None-300.json"])
def test_a_damaged_cache_is_made_again(folder: Path, tokenizer: Path, cache: Path, name: str, damage: str) -> None:
    first = local(folder, tokenizer)
    (entry,) = (cache / "data").rglob(name)
    intact = entry.read_bytes()
    # A new file, since the old one is mapped by `first`.
    entry.unlink()
    entry.write_bytes(DAMAGES[damage](intact))
    assert same(local(folder, tokenizer), first)
    assert entry.read_bytes() == intact


def test_a_cache_that_cannot_be_written_is_done_without(
    folder: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = local(folder, tokenizer)
    monkeypatch.setenv("ABLC_CACHE", str(tokenizer / "below-a-file"))
    assert same(local(folder, tokenizer), first)


def test_two_processes_at_once(tmp_path: Path, cache: Path, warm: Path) -> None:
    script = (
        "import hashlib; from ablc.train.data import load_data;"
        "d = load_data('stdlib', tokenizer='builtin', base_model='', vocab_size=512, block_size=64, eval_blocks=8);"
        "print(hashlib.sha256(d.train.tobytes() + d.validation.tobytes()).hexdigest(), d.baselines)"
    )
    env = os.environ | {"ABLC_CACHE": str(cache)}
    command = [sys.executable, "-c", script]
    both = [subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert printed[0] == printed[1] != ""
    left = [path.name for path in cache.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(set(left)), "each file once"
    assert not [name for name in left if name.startswith(".")]


def blocks(count: int) -> Data:
    """Data whose block number n is (n, n)."""
    train = np.repeat(np.arange(count, dtype=np.uint16)[:, None], 2, axis=1)
    return Data(train, train, count, {}, 1.0, baselines(train, train, count))


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first, second = blocks(50), blocks(50)
    later = first.batch(9, seed=3, batch_size=8)
    for step in (0, 5, 2):
        second.batch(step, seed=4, batch_size=3)
    np.random.seed(0)
    assert np.array_equal(second.batch(9, seed=3, batch_size=8), later)
    assert later.shape == (8, 2) and later.dtype == np.int64
    assert not np.array_equal(first.batch(9, seed=4, batch_size=8), later)


def test_the_order_is_the_same_in_every_version() -> None:
    assert blocks(10).batch(0, seed=0, batch_size=10)[:, 0].tolist() == GOLDEN_ORDER


GOLDEN_ORDER = [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]


@pytest.mark.parametrize("batch_size", [1, 7, 50, 64])
def test_an_epoch_has_every_block_once(batch_size: int) -> None:
    data = blocks(50)
    steps = math.ceil(150 / batch_size)
    seen = np.concatenate([data.batch(step, seed=1, batch_size=batch_size)[:, 0] for step in range(steps)])
    epochs = seen[:150].reshape(3, 50)
    assert np.array_equal(np.sort(epochs, axis=1), np.tile(np.arange(50), (3, 1)))
    assert not np.array_equal(epochs[0], epochs[1])


@pytest.mark.parametrize("wrong", [{"step": -1}, {"seed": -1}, {"batch_size": 0}])
def test_no_batch_of_negative_numbers(wrong: dict[str, int]) -> None:
    arguments = {"step": 0, "seed": 0, "batch_size": 1} | wrong
    with pytest.raises(ValueError):
        blocks(5).batch(arguments["step"], seed=arguments["seed"], batch_size=arguments["batch_size"])


def test_a_folder_is_its_lines_with_their_ends(folder: Path, tokenizer: Path) -> None:
    data = local(folder, tokenizer)
    made = Tokenizer.from_file(str(tokenizer))
    ids = [number for line in TRAIN for number in made.encode(line).ids]
    count = len(ids) // 16
    assert data.train.ravel().tolist() == ids[: count * 16]
    assert made.decode(data.validation.ravel().tolist()) in "".join(VALIDATION)
    assert data.manifest["name"] == str(folder)


@pytest.mark.parametrize("name", ["{}/0001.txt", "{}_0.txt", "wiki.{}.txt", "{}0.txt", "{}-00000-of-00001.txt"])
@pytest.mark.parametrize("documents", [False, True])
def test_a_folder_is_the_same_however_its_files_are_called(
    folder: Path, tokenizer: Path, tmp_path: Path, name: str, documents: bool
) -> None:
    for part in ("train", "validation"):
        file = tmp_path / "other" / name.format(part)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((folder / f"{part}.txt").read_bytes())
    first, second = (local(place, tokenizer, documents=documents) for place in (folder, tmp_path / "other"))
    assert np.array_equal(first.train, second.train) and np.array_equal(first.validation, second.validation)


def test_a_file_that_cant_be_read_is_told(folder: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(local_texts, "file_hash", forbidden)
    with pytest.raises(DataError, match=r"folder/train.txt can't be read: permission denied"):
        local(folder, tokenizer)


def test_json_lines_of_the_same_texts_have_the_same_hash(folder: Path, tokenizer: Path, tmp_path: Path) -> None:
    other = tmp_path / "lines"
    other.mkdir()
    for part, lines in (("train", TRAIN), ("validation", VALIDATION)):
        rows = [json.dumps({"id": number, "body": text}) for number, text in enumerate(lines)]
        (other / f"{part}.jsonl").write_text("\n".join(rows))
    first, second = local(folder, tokenizer), local(other, tokenizer)
    assert second.manifest["hash"] == first.manifest["hash"]
    assert np.array_equal(first.train, second.train)
    (folder / "validation.txt").write_text("".join(VALIDATION[1:]))
    assert local(folder, tokenizer).manifest["hash"] != first.manifest["hash"]


def pretrained(tokenizer: Path, folder: Path) -> Path:
    """A model's folder whose tokenizer would cut and fill up whatever it is given."""
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), eos_token="<|endoftext|>").save_pretrained(folder)
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.enable_truncation(8)
    made.enable_padding(length=64, pad_id=0, pad_token="<|endoftext|>")
    made.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("named", ["base", "path"])
def test_the_tokenizer_of_a_base_model(folder: Path, tokenizer: Path, tmp_path: Path, cache: Path, named: str) -> None:
    model = pretrained(tokenizer, tmp_path / "model")
    data = local(folder, "base" if named == "base" else model, base_model=str(model))
    tokens = data.train.copy()
    # Both have one key, so that what is kept of the one would hide what the other does.
    shutil.rmtree(cache)
    direct = local(folder, tokenizer)
    assert np.array_equal(tokens, direct.train)
    assert data.manifest["tokenizer"]["hash"] == direct.manifest["tokenizer"]["hash"]


def write(folder: Path, **files: str | bytes) -> Path:
    folder.mkdir()
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


FOLDERS: dict[str, tuple[dict[str, str | bytes], str]] = {
    "nothing": ({}, "data can't be loaded"),
    "one part": ({"corpus__txt": "x\n"}, "no validation part"),
    "empty part": ({"train__txt": "", "validation__txt": "x\n" * 99}, "the train part of .*/data is empty"),
    "short part": ({"train__txt": "x\n" * 99, "validation__txt": "x\n"}, "validation part of .*/data has 2 tokens"),
    "two columns": ({f"{p}__jsonl": '{"a": "x", "b": "y"}\n' for p in ("train", "validation")}, "no column `text`"),
    "numbers": ({f"{p}__jsonl": '{"text": 5}\n' for p in ("train", "validation")}, "`text` of .* holds int, not text"),
    "broken": ({f"{p}__jsonl": '{"a": "x' for p in ("train", "validation")}, "data/train.jsonl can't be read"),
    "latin": (
        {"train-0__txt": "x\n" * 99, "train-1__txt": b"\xe9\n", "validation__txt": "x"},
        "train-1.txt isn't UTF-8",
    ),
    "zipped": ({"train__txt": gzip.compress(b"x\n"), "validation__txt": "x\n"}, "train.txt isn't UTF-8 text"),
    "no parquet": ({"train__parquet": b"PAR", "validation__parquet": b"PAR"}, "data/train.parquet can't be loaded"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_no_data_says_why(tmp_path: Path, tokenizer: Path, case: str) -> None:
    files, sentence = FOLDERS[case]
    with pytest.raises(DataError, match=sentence) as error:
        local(write(tmp_path / "data", **files), tokenizer)
    assert error.value.help


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"block_size": 10**7}, "less than a block of 10,000,000"),
        ({"block_size": 1}, "nothing to predict"),
        ({"eval_blocks": 0}, "score nothing"),
        ({"vocab_size": 299}, "has 300 tokens, the model's vocabulary 299"),
        ({"tokenizer": "./none.json"}, "doesn't exist"),
        ({"tokenizer": __file__}, "isn't a tokenizer.json"),
        ({"tokenizer": "base", "base_model": "./none"}, "no tokenizer that can be loaded"),
    ],
)
def test_what_does_not_fit_says_why(folder: Path, tokenizer: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        local(folder, tokenizer, **changes)
    assert error.value.help


def test_a_missing_folder(folder: Path, tokenizer: Path) -> None:
    assert not reachable(str(folder / "none"))[0]
    assert reachable(str(folder))[0] and reachable(str(folder / "train.txt"))[0]
    with pytest.raises(DataError, match="there is no folder or file"):
        local(folder / "none", tokenizer)


@pytest.fixture(params=["refuses", "hangs", "offline"])
def no_hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub that refuses to talk, one that never answers, and one that we may not ask."""
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        if request.param == "refuses":
            server.close()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", request.param == "offline")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(hub, "PATIENCE", 0.5)
        yield request.param


def test_without_a_network_it_says_so_within_seconds(no_hub: str, folder: Path, tokenizer: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(DataError, match="data set `owner/set` can't be had") as error:
        local("owner/set:config", tokenizer)
    assert 'train.data = "stdlib"' in error.value.help
    assert ("HF_HUB_OFFLINE" in error.value.message) == (no_hub == "offline")
    found, why = reachable("owner/set")
    assert not found and why
    with pytest.raises(DataError, match="tokenizer of `owner/model` can't be had"):
        local(folder, "base")
    assert time.perf_counter() - start < 8
    assert reachable("stdlib")[0] and reachable(str(folder))[0]


@pytest.mark.parametrize("no_hub", ["refuses"], indirect=True)
def test_a_hub_data_set_loaded_before_needs_no_network(
    no_hub: str, folder: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    from datasets.packaged_modules.text.text import Text

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "sets")
    parts = {part: str(folder / f"{part}.txt") for part in ("train", "validation")}
    names = {"dataset_name": "my_set", "config_name": "small", "hash": "abc"}
    Text(cache_dir=str(tmp_path / "sets"), data_files=parts, keep_linebreaks=True, **names).download_and_prepare()
    # As a load from the hub would have named it.
    (tmp_path / "sets" / "my_set").rename(tmp_path / "sets" / "Owner___my_set")
    (built,) = (tmp_path / "sets" / "Owner___my_set").iterdir()
    built.rename(built.with_name("small"))
    assert reachable("Owner/MySet:small")[0] and not reachable("Owner/MySet:large")[0]
    data = local("Owner/MySet:small", tokenizer)
    direct = local(folder, tokenizer)
    assert np.array_equal(data.train, direct.train)
    assert data.manifest["hash"] == direct.manifest["hash"]
    assert (data.manifest["dataset"], data.manifest["config"]) == ("Owner/MySet", "small")
    assert data.manifest["fingerprint"]


# --- streamed, told, kept apart --------------------------------------------------------------------------------------


def test_a_streamed_hub_set_is_read_once_at_its_commit(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def load(name: str, config: str | None, **options: Any) -> Any:
        asked.append((name, config, options))
        parts = {"train": TRAIN, "validation": VALIDATION}
        rows = {part: [{"text": text} for text in some] for part, some in parts.items()}
        return {part: datasets.Dataset.from_list(some).to_iterable_dataset() for part, some in rows.items()}

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(hub_texts, "hub_answers", lambda kind, name: (True, "it does"))
    monkeypatch.setattr(hub_texts, "hub_revision", lambda name: "c0ffee")
    data = local("owner/set:small", tokenizer, streaming=True)
    assert asked == [("owner/set", "small", {"streaming": True, "revision": "c0ffee"})] * 2
    assert data.manifest["revision"] == "c0ffee"
    again = local("owner/set:small", tokenizer, streaming=True)
    assert len(asked) == 2 and np.array_equal(again.train, data.train)
    with monkeypatch.context() as offline:  # a run that goes on knows the commit
        offline.setattr(hub_texts, "hub_answers", lambda kind, name: (False, "no network"))
        resumed = local("owner/set:small", tokenizer, streaming=True, revision="c0ffee")
    assert len(asked) == 2 and resumed.manifest == data.manifest
    monkeypatch.setattr(hub_texts, "hub_revision", lambda name: "decaf")
    local("owner/set:small", tokenizer, streaming=True)
    assert len(asked) == 4


Told = list[tuple[str, int, float | None]]


def told(data: Path | str, tokenizer: Path, **changes: Any) -> Told:
    """What is said of the progress while a data set is tokenised."""
    said: Told = []
    local(data, tokenizer, progress=lambda *word: said.append(word), **changes)
    return said


def shares(said: Told) -> dict[str, list[float | None]]:
    return {part: [share for one, _, share in said if one == part] for part in ("train", "validation")}


def test_progress_is_told_part_by_part(folder: Path, tokenizer: Path) -> None:
    said = told(folder, tokenizer)
    assert said[0][0] == "train" and said[-1] == ("validation", len("".join(VALIDATION)), 1.0)
    assert max(size for part, size, _ in said if part == "train") == len("".join(TRAIN).encode())
    assert told(folder, tokenizer) == []


def assert_counts_up(said: Told) -> None:
    """Each part in several steps, from little of it to all."""
    for found in shares(said).values():
        assert len(found) > 1 and found == sorted(found, key=lambda share: share or 0.0)
        assert found[0] is not None and found[0] < 0.6 and found[-1] == 1.0


def test_progress_has_a_share_where_the_whole_is_known(
    folder: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(texts, "ROWS", 20)
    parts = {"train": TRAIN, "validation": VALIDATION}
    rows = {part: [{"id": number, "body": text} for number, text in enumerate(some)] for part, some in parts.items()}
    for kind in ("jsonl", "parquet"):
        (tmp_path / kind).mkdir()
        for part, some in rows.items():
            for half in range(2):  # a part in two files
                file = tmp_path / kind / f"{part}-{half}.{kind}"
                cut = some[half * len(some) // 2 : (half + 1) * len(some) // 2]
                if kind == "parquet":
                    datasets.Dataset.from_list(cut).to_parquet(file)
                else:
                    file.write_text("\n".join(map(json.dumps, cut)))
    (tmp_path / "all.txt").write_text("".join(TRAIN))
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TRAIN))
    datasets.Dataset.from_list(rows["train"]).to_parquet(tmp_path / "all.parquet")
    for name in (folder, tmp_path / "jsonl", tmp_path / "parquet"):
        assert_counts_up(told(name, tokenizer))
    for file in ("all.txt", "all.jsonl", "all.parquet"):
        found = shares(told(tmp_path / file, tokenizer))
        assert len(found["train"]) == 19 and found["train"][-1] == 1.0 and found["validation"] == [1.0]


def test_progress_has_no_share_where_nobody_knows_the_whole(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "csv").mkdir()
    for part, lines in (("train", TRAIN), ("validation", VALIDATION)):
        (tmp_path / "csv" / f"{part}.csv").write_text("text\n" + "".join(lines).replace(",", ""))
    said = told(tmp_path / "csv", tokenizer)
    assert said and {share for _, _, share in said} == {None}


def test_progress_of_the_built_in_corpus(corpus: Corpus, cache: Path, tokenizer: Path) -> None:
    said: Told = []
    stdlib(tokenizer=str(tokenizer), vocab_size=300, progress=lambda *word: said.append(word))
    counted = shares(said)["train"]
    assert len(counted) > 4 and counted == sorted(counted, key=lambda share: share or 0.0) and counted[-1] == 1.0
    known = corpus.manifest
    assert {part: size for part, size, _ in said} == {"train": known.train_bytes, "validation": known.validation_bytes}


def test_progress_of_hub_sets(folder: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the cache has its rows; of one that is streamed the number is known where whoever made it says so."""
    import datasets

    monkeypatch.setattr(texts, "ROWS", 20)
    monkeypatch.setattr(hub_texts, "hub_answers", lambda kind, name: (True, "it does"))
    revisions = iter("abc")
    monkeypatch.setattr(hub_texts, "hub_revision", lambda name: next(revisions))
    parts = {"train": TRAIN, "validation": VALIDATION}
    kept = {part: datasets.Dataset.from_list([{"text": text} for text in some]) for part, some in parts.items()}
    streamed = {part: some.to_iterable_dataset() for part, some in kept.items()}

    def load(name: str, config: str | None, streaming: bool = False, **options: Any) -> Any:
        return streamed if streaming else kept

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert_counts_up(told("owner/set", tokenizer))
    said = told("owner/set", tokenizer, streaming=True)
    assert {share for _, _, share in said} == {None}
    known = datasets.SplitDict()
    for part, some in parts.items():
        known.add(datasets.SplitInfo(part, num_examples=len(some)))
    for some in streamed.values():
        some.info.splits = known
    assert_counts_up(told("owner/set", tokenizer, streaming=True))


def test_documents_are_told_apart_only_where_that_is_wanted(tmp_path: Path, tokenizer: Path) -> None:
    end = Tokenizer.from_file(str(tokenizer)).token_to_id("<|endoftext|>")
    folder = tmp_path / "rows"
    folder.mkdir()
    for part, lines in (("train", TRAIN), ("validation", VALIDATION)):
        (folder / f"{part}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in lines))
    plain, apart = local(folder, tokenizer), local(folder, tokenizer, documents=True)
    assert (plain.separator, apart.separator) == (None, end)
    assert end not in plain.train
    assert abs((apart.train == end).sum() - len(TRAIN)) < 8


def test_a_tokenizer_without_an_end_cant_tell_documents_apart(folder: Path, tmp_path: Path, tokenizer: Path) -> None:
    content = json.loads(tokenizer.read_text())
    content["added_tokens"][0]["content"] = "<|start|>"
    content["model"]["vocab"]["<|start|>"] = content["model"]["vocab"].pop("<|endoftext|>")
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="no token that ends a document"):
        local(folder, tmp_path / "other.json", documents=True)


# --- files and folders -----------------------------------------------------------------------------------------------


def test_one_file_is_enough(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "all.txt").write_text("".join(TRAIN))
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TRAIN))
    plain, rows = (local(tmp_path / name, tokenizer) for name in ("all.txt", "all.jsonl"))
    made = Tokenizer.from_file(str(tokenizer))
    held_out = [number for line in TRAIN[-20:] for number in made.encode(line).ids]
    assert plain.validation.ravel().tolist() == held_out[: len(held_out) // 16 * 16]
    assert np.array_equal(plain.train, rows.train) and np.array_equal(plain.validation, rows.validation)


@pytest.mark.parametrize("sign", ["*", "?", "[", "::"])
def test_a_path_that_would_be_a_pattern(folder: Path, tmp_path: Path, tokenizer: Path, sign: str) -> None:
    odd = folder.rename(tmp_path / f"a{sign}b")
    (tmp_path / "link").symlink_to(odd)
    for place in (odd, tmp_path / "link"):
        with pytest.raises(DataError, match=re.escape(f"with `{sign}` in its path")):
            local(place, tokenizer)


def test_a_link_has_the_suffix_that_counts(folder: Path, tokenizer: Path) -> None:
    (folder / "train.txt").rename(folder / "0123abcd")
    (folder / "all.txt").symlink_to("0123abcd")
    assert local_path(str(folder / "all.txt")) == folder / "all.txt"
    assert len(local(folder / "all.txt", tokenizer).train)


@pytest.mark.parametrize("name", ["~nobody-that-anyone-knows/texts", "./loop"])
def test_a_path_that_leads_nowhere(name: str, tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    assert not reachable(name)[0]
    with pytest.raises(DataError, match="there is no folder or file"):
        local(name, tokenizer)


def test_how_a_folder_says_that_it_is_read_decides_too(tmp_path: Path, tokenizer: Path) -> None:
    folder = tmp_path / "csv"
    folder.mkdir()
    for part, lines in (("train", TRAIN), ("validation", VALIDATION)):
        (folder / f"{part}.csv").write_text("a;b\n" + "".join(f"{line.strip()};x\n" for line in lines))
    counts = []
    for column in ("a", "b"):
        (folder / "README.md").write_text(
            f"---\nconfigs:\n- config_name: default\n  sep: ;\n  usecols: [{column}]\n---\n"
        )
        counts.append(sum(local(folder, tokenizer, block_size=4).manifest["tokens"].values()))
    assert counts[0] > 2 * counts[1]
    (folder / "README.md").write_text((folder / "README.md").read_text() + "Some texts.\n")
    assert told(folder, tokenizer, block_size=4) == []


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("all.txt", "one long line" * 999, "has one row, and can't be cut in two parts"),
        ("all.json", '{"text": "' + "x" * 999 + '"}', "has one row, and can't be cut in two parts"),
        ("all.txt", "", "has no row"),
        ("all.jsonl", '{"text": 1', "all.jsonl can't be read"),
    ],
)
def test_a_file_that_is_no_data_says_why(
    tmp_path: Path, tokenizer: Path, name: str, content: str, sentence: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=sentence) as error:
        local(tmp_path / name, tokenizer)
    assert error.value.help


def test_the_same_bytes_read_in_another_way_are_other_texts(tmp_path: Path, tokenizer: Path) -> None:
    for name in ("same.txt", "same.jsonl"):
        (tmp_path / name).write_text("\n".join(json.dumps({"text": text}) for text in TRAIN))
    plain, rows = (local(tmp_path / name, tokenizer) for name in ("same.txt", "same.jsonl"))
    assert sum(plain.manifest["tokens"].values()) > sum(rows.manifest["tokens"].values())


def test_only_what_is_read_decides_the_key(folder: Path, tokenizer: Path) -> None:
    local(folder, tokenizer)
    (folder / "runs").mkdir()
    (folder / "runs" / "metrics.jsonl").write_text("{}")
    assert told(folder, tokenizer) == []
    (folder / "train.txt").write_text("".join(TRAIN[1:]))
    assert told(folder, tokenizer)


def test_a_byte_order_mark_is_no_text(folder: Path, tokenizer: Path) -> None:
    plain = local(folder, tokenizer).manifest["hash"]
    for file in folder.iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert local(folder, tokenizer).manifest["hash"] == plain


def test_a_local_folder_that_is_named_as_a_hub_set(
    folder: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_texts, "hub_answers", lambda kind, name: (False, "the hub doesn't answer"))
    monkeypatch.chdir(folder.parent)
    with pytest.raises(DataError) as error:
        local("folder", tokenizer)
    assert error.value.help == "there is a folder here: write ./folder"


def test_a_file_of_another_kind(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "all.csv").write_text("text\nx\n")
    with pytest.raises(DataError, match=r"none of .txt, .json, .jsonl, .parquet"):
        local(tmp_path / "all.csv", tokenizer)


def test_another_file_in_the_folder_changes_nothing(folder: Path, tmp_path: Path, tokenizer: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    for part, lines in (("train", TRAIN), ("validation", VALIDATION)):
        (rows / f"{part}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in lines))
    (rows / "LICENSE.txt").write_text("free")
    assert np.array_equal(local(rows, tokenizer).train, local(folder, tokenizer).train)


def test_a_document_of_plain_text_is_a_file(folder: Path, tokenizer: Path, tmp_path: Path) -> None:
    end = Tokenizer.from_file(str(tokenizer)).token_to_id("<|endoftext|>")
    apart = local(folder, tokenizer, documents=True, block_size=4)
    assert (apart.train == end).sum() <= 1
    (tmp_path / "all.txt").write_text("".join(TRAIN))
    with pytest.raises(DataError, match="is one document"):
        local(tmp_path / "all.txt", tokenizer, documents=True)
