"""What a model is trained and scored on: blocks of tokens, in an order that a seed and a step determine."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ablc.cache import cache_dir, write_atomically
from ablc.train import hub_texts
from ablc.train.baselines import Baselines, Tokens, baselines
from ablc.train.corpus import DataError, builtin_corpus
from ablc.train.local_texts import local_texts
from ablc.train.texts import PARTS, Part, Texts, builtin_texts, is_local, local_path
from ablc.train.tokenizer import Encoder, find_encoder
from ablc.train.tokens import Progress, Streams, quiet, tokenise

__all__ = ["Baselines", "Data", "DataError", "Progress", "load_data", "quiet", "reachable"]

# Part of every key: raise it where the same texts and tokenizer would give other files.
LAYOUT = 3


@dataclass(frozen=True, eq=False)
class Data:
    """Tokens in blocks, and what is known of them.

    Attributes:
        train: (blocks, block size), uint16 or uint32, mapped from the cache where there is one.
        validation: (blocks, block size), the same; the blocks that are scored, always in this order.
        vocab_size: the model's; ids are below it.
        manifest: what a record says of the data. Runs may be compared where `manifest["hash"]` is equal, losses a token
            where the hash of its `tokenizer`, its `block_size` and its `packing` are equal as well.
        bytes_per_token: UTF-8 bytes a token in the whole validation part: bits per byte are nats a token / ln 2 / this.
        baselines: of counting, on these blocks.
        separator: the id that ends a document, where documents are to be told apart; else None.
    """

    train: Tokens
    validation: Tokens
    vocab_size: int
    manifest: dict[str, Any]
    bytes_per_token: float
    baselines: Baselines
    separator: int | None = None

    def batch(self, step: int, *, seed: int, batch_size: int) -> npt.NDArray[np.int64]:
        """The training blocks of a step counted from 0: (batch_size, block size).

        A pure function of step, seed and batch size, so that every spec sees the same blocks in the same order and a
        resumed run goes on where it was. Epoch after epoch all blocks come once each, in an order of that epoch; a
        batch may begin in one epoch and end in the next.

        Raises:
            ValueError: `step` or `seed` is negative, or `batch_size` isn't positive.
        """
        if step < 0 or batch_size < 1:
            raise ValueError(f"no batch of {batch_size} blocks at step {step}")
        count = len(self.train)
        places = range(step * batch_size, (step + 1) * batch_size)
        rows = [_order(count, seed, place // count)[place % count] for place in places]
        return np.asarray(self.train[rows], dtype=np.int64)


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> npt.NDArray[np.intp]:
    """A permutation of `count` blocks, by sorting PCG64's raw output: numpy keeps that the same in all its versions,
    what its shuffling does it doesn't.
    """
    return np.argsort(np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(count), kind="stable")


def load_data(
    recipe_data: str,
    *,
    tokenizer: str,
    base_model: str,
    vocab_size: int,
    block_size: int,
    eval_blocks: int | None,
    documents: bool = False,
    streaming: bool = False,
    revision: str | None = None,
    progress: Progress = quiet,
) -> Data:
    """The data of a recipe: texts, tokens, blocks; from the cache where the same texts were tokenised before.

    Args:
        recipe_data: `stdlib`, a hub data set (`owner/name` or `owner/name:config`), or a folder (`./…`, `/…`) with
            train.txt and validation.txt or what else `datasets` reads there, or one file of text, json or parquet.
        tokenizer: `builtin` (a BPE of the built-in corpus with exactly `vocab_size` tokens), `base` (that of
            `base_model`), or the path of a tokenizer.json or its folder.
        base_model: a hub id or a folder; used by `base` alone.
        vocab_size: the model's.
        block_size: tokens a block. What is left at the end of a part is dropped.
        eval_blocks: how many validation blocks are kept, evenly spaced; None, or more than there are, keeps all.
        documents: whether the documents of a block are to be told apart.
        streaming: read a hub data set while it is tokenised, without a copy in the cache of data sets.
        revision: the commit of a hub data set that is read streaming; the newest one where it is None.
        progress: is told, while texts are tokenised, of which part, how many bytes of it are done, and what share of it
            that is, None where nobody knows.

    The built-in corpus has `<|endoftext|>` after each document; texts of a data set follow each other at once, unless
    they are wanted as `documents`.

    Raises:
        DataError: texts or tokenizer can't be had, don't fit the vocabulary, or are shorter than a block.
    """
    _check(block_size, eval_blocks)
    corpus = builtin_corpus() if recipe_data == "stdlib" or tokenizer == "builtin" else None
    encoder = find_encoder(tokenizer, base_model=base_model, vocab_size=vocab_size, corpus=corpus)
    if corpus and recipe_data == "stdlib":
        texts = builtin_texts(corpus)
    elif is_local(recipe_data):
        texts = local_texts(recipe_data, documents)
    else:
        texts = hub_texts.hub_texts(recipe_data, streaming, revision)
    if documents:
        texts = _as_documents(texts, encoder, tokenizer)
    folder = cache_dir() / "data" / _key(texts, encoder)
    streams = tokenise(folder, texts, encoder, progress)
    train = _blocks(streams, "train", block_size, recipe_data)
    validation = _spread(_blocks(streams, "validation", block_size, recipe_data), eval_blocks)
    separator = encoder.separator if documents else None
    kept = folder / f"baselines-{block_size}-{eval_blocks}-{vocab_size}{'-documents' if documents else ''}.json"
    counted = _baselines(kept, train, validation, vocab_size, separator)
    used = {"name": tokenizer, "hash": encoder.digest, "size": encoder.size}
    manifest = {**_manifest(texts, streams), "tokenizer": used, "block_size": block_size}
    manifest["packing"] = "documents" if documents else "blocks"
    held_out = streams["validation"]
    return Data(train, validation, vocab_size, manifest, held_out.bytes / len(held_out.tokens), counted, separator)


def reachable(recipe_data: str) -> tuple[bool, str]:
    """Whether the texts can be had now, and why, within about three seconds; nothing is downloaded."""
    if recipe_data == "stdlib":
        return True, "the standard library of this Python is there"
    if is_local(recipe_data):
        found = local_path(recipe_data).exists()
        return found, f"{recipe_data} {'is there' if found else 'is not there'}"
    return hub_texts.can_be_had(recipe_data)


def _as_documents(texts: Texts, encoder: Encoder, tokenizer: str) -> Texts:
    if encoder.separator is None:
        message = f"the tokenizer `{tokenizer}` has no token that ends a document"
        raise DataError(message, 'take `train.packing = "blocks"`, or a tokenizer with an end-of-text token')
    return replace(texts, separated=True)


def _check(block_size: int, eval_blocks: int | None) -> None:
    if block_size < 2:
        raise DataError(
            f"in a block of {block_size} tokens there is nothing to predict", "`train.block_size` is 2 or more"
        )
    if eval_blocks is not None and eval_blocks < 1:
        raise DataError(f"{eval_blocks} validation blocks score nothing", "`train.eval_blocks` is 1 or more, or null")


def _key(texts: Texts, encoder: Encoder) -> str:
    content = json.dumps([LAYOUT, texts.key, texts.separated, encoder.digest])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _blocks(streams: Streams, part: Part, block_size: int, name: str) -> Tokens:
    tokens = streams[part].tokens
    count = len(tokens) // block_size
    if not len(tokens):
        raise DataError(f"the {part} part of {name} is empty", "put text into it")
    if not count:
        message = f"the {part} part of {name} has {len(tokens):,} tokens, less than a block of {block_size:,}"
        raise DataError(message, "take a smaller `train.block_size` or more text")
    return tokens[: count * block_size].reshape(count, block_size)


def _spread(blocks: Tokens, wanted: int | None) -> Tokens:
    """`wanted` blocks at even distances from the first on."""
    if wanted is None or wanted >= len(blocks):
        return blocks
    return blocks[np.arange(wanted) * len(blocks) // wanted]


def _baselines(path: Path, train: Tokens, validation: Tokens, vocab_size: int, separator: int | None) -> Baselines:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_bytes())
        return Baselines(float(kept["unigram"]), float(kept["bigram"]))
    counted = baselines(train, validation, vocab_size, separator)
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(asdict(counted)).encode())
    return counted


def _manifest(texts: Texts, streams: Streams) -> dict[str, Any]:
    """What is known of the texts, with a hash of them where there is none yet, and how many tokens they became."""
    content = "".join(streams[part].hash for part in PARTS)
    return {
        "hash": hashlib.sha256(content.encode()).hexdigest(),
        **texts.about,
        "tokens": {part: len(streams[part].tokens) for part in PARTS},
    }
