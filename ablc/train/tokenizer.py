"""Texts to tokens: a byte-level BPE of the built-in corpus, a tokenizer.json, or the base model's own tokenizer."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ablc.bases.hub import hub_answers
from ablc.cache import cache_dir, write_atomically
from ablc.train.baselines import Tokens
from ablc.train.corpus import Corpus, DataError
from ablc.train.texts import is_local, local_path

END_OF_TEXT = "<|endoftext|>"
_OTHER_ENDS = ("</s>", "<|end_of_text|>", "<eos>", "<|im_end|>")
WAY_OUT = 'take `train.tokenizer = "builtin"`, or a tokenizer.json: `train.tokenizer = "./tokenizer.json"`'


@dataclass(frozen=True, eq=False)
class Encoder:
    """A tokenizer as training uses it: nothing cut, filled up or added but `separator` (None: it has none)."""

    backend: Tokenizer
    separator: int | None

    @cached_property
    def size(self) -> int:
        """One more than the highest id it can give."""
        return 1 + max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what decides the ids. A file's other settings change with the version of what wrote it."""
        content = json.loads(self.backend.to_str())
        decisive = [content[key] for key in ("added_tokens", "normalizer", "pre_tokenizer", "model")]
        return hashlib.sha256(json.dumps([decisive, self.separator]).encode()).hexdigest()

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        return np.uint16 if self.size <= 2**16 else np.uint32

    def encode(self, texts: list[str], *, separated: bool) -> Tokens:
        """All texts as one row of ids, each followed by `separator` where `separated`."""
        end = [self.separator] if separated and self.separator is not None else []
        rows = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return np.concatenate([np.array(row.ids + end, self.dtype) for row in rows] or [np.zeros(0, self.dtype)])


def find_encoder(tokenizer: str, *, base_model: str, vocab_size: int, corpus: Corpus | None) -> Encoder:
    """The encoder a recipe names: `builtin` (of `corpus`, `vocab_size` tokens), `base` (of `base_model`), or a path.

    Raises:
        DataError: it can't be had, or it has more than `vocab_size` tokens.
    """
    if tokenizer == "builtin" and corpus is not None:
        encoder = _as_encoder(builtin_tokenizer(corpus, vocab_size), END_OF_TEXT)
    elif tokenizer == "base":
        found = hub_tokenizer(base_model)
        encoder = _as_encoder(_backend(found, base_model), found.eos_token)
    else:
        encoder = _as_encoder(_from_file(local_path(tokenizer)), None)
    if encoder.size > vocab_size:
        message = f"the tokenizer `{tokenizer}` has {encoder.size:,} tokens, the model's vocabulary {vocab_size:,}"
        raise DataError(message, 'take `train.tokenizer = "builtin"`, or a model whose vocabulary is at least as large')
    return encoder


def builtin_tokenizer(corpus: Corpus, vocab_size: int) -> Tokenizer:
    """A byte-level BPE with exactly `vocab_size` tokens, of the training part alone, from the cache where it is there.

    The same corpus and the same version of `tokenizers` give the same tokenizer; `<|endoftext|>` has id 0. A damaged
    entry of the cache is made again, and a cache that can't be written is done without.

    Raises:
        DataError: the corpus hasn't that many tokens, or `vocab_size` is less than the 256 bytes and the end of text.
    """
    key = f"{corpus.manifest.hash[:32]}-{vocab_size}-{tokenizers.__version__}"
    path = cache_dir() / "tokenizers" / key / "tokenizer.json"
    kept = _read(path)
    if kept is not None and kept.get_vocab_size() == vocab_size and kept.token_to_id(END_OF_TEXT) is not None:
        return kept
    made = _train(corpus, vocab_size)
    with contextlib.suppress(OSError):
        write_atomically(path, made.to_str().encode())
    return made


def hub_tokenizer(name: str) -> Any:
    """The `transformers` tokenizer of a model: a local folder, the local hub cache, else the hub, in that order.

    Raises:
        DataError: there is none, or the hub doesn't answer within a few seconds.
    """
    with contextlib.suppress(Exception):
        return _from_pretrained(name, local_files_only=True)
    answers, why = (True, "") if is_local(name) else hub_answers("model", name)
    if not answers:
        raise DataError(f"the tokenizer of `{name}` can't be had: {why}", WAY_OUT)
    try:
        return _from_pretrained(name)
    except Exception as error:  # `tokenizers` raises bare Exception for a file it can't read
        raise DataError(f"`{name}` has no tokenizer that can be loaded ({type(error).__name__})", WAY_OUT) from error


def _from_pretrained(name: str, **options: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name, **options)


def _backend(found: Any, name: str) -> Tokenizer:
    backend = getattr(found, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise DataError(f"the tokenizer of `{name}` has no tokenizer.json", WAY_OUT)
    return backend


def _from_file(path: Path) -> Tokenizer:
    path = path / "tokenizer.json" if path.is_dir() else path
    found = _read(path)
    if found is None:
        state = "isn't a tokenizer.json" if path.exists() else "doesn't exist"
        raise DataError(f"the tokenizer {path} {state}", 'it is `"builtin"`, `"base"`, or the path of a tokenizer.json')
    return found


def _as_encoder(backend: Tokenizer, end: str | None) -> Encoder:
    # A file may ask to cut or to fill up, which would lose text or add some.
    backend.no_truncation()
    backend.no_padding()
    ends = [end] if end else [END_OF_TEXT, *_OTHER_ENDS]
    ids = [backend.token_to_id(token) for token in ends]
    return Encoder(backend, next((number for number in ids if number is not None), None))


def _read(path: Path) -> Tokenizer | None:
    try:
        return Tokenizer.from_file(str(path))
    except Exception:  # what `tokenizers` raises, for a missing file and for a damaged one
        return None


def _train(corpus: Corpus, vocab_size: int) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        # All 256 bytes, so that no text is out of vocabulary.
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([document.text for document in corpus.train], trainer)
    size = made.get_vocab_size()
    if size != vocab_size:
        message = f"a BPE of the built-in corpus can't have {vocab_size:,} tokens"
        limit = f"the {'fewest' if size > vocab_size else 'most'} it can have are {size:,}"
        raise DataError(message, f'{limit}; take another vocabulary, or `train.tokenizer = "base"`')
    return made
