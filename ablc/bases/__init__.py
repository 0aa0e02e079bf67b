"""Base models by name: their config, and nothing else of them.

A name that begins with `.` or `/` is a local directory with a `config.json`; otherwise it is a built-in name, or
else a hub id, of which only `config.json` is taken, from the local hub cache if it lies there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ablc.faults import nearest
from ablc.language.read import MAX_BYTES, content, is_file

HUB_TIMEOUT_S = 5

# Whether the hub may be asked for what isn't on this machine: an editor's server must not do so at every keystroke.
may_ask: ContextVar[bool] = ContextVar("may_ask", default=True)


class BaseProblem(Exception):
    """Why a base model's config can't be had: one sentence, and a way out."""

    def __init__(self, code: str, message: str, help: str | None = None) -> None:
        self.code, self.message, self.help = code, message, help
        super().__init__(message)


@dataclass(frozen=True)
class Base:
    """A base model: the name it was asked for, and its config as it was found."""

    name: str
    config: Mapping[str, Any]


@cache
def builtin() -> Mapping[str, Mapping[str, Any]]:
    """Every built-in name with its config."""
    text = Path(__file__).with_name("builtin.json").read_text(encoding="utf-8")
    return MappingProxyType({name: entry["config"] for entry in json.loads(text) for name in entry["names"]})


def load_base(name: str, folder: Path) -> Base:
    """The base model of this name; a relative directory counts from `folder`. Raises BaseProblem."""
    if name.startswith((".", "/")):
        return Base(name, _read_directory(folder / name, name))
    if name in builtin():
        return Base(name, builtin()[name])
    return Base(name, _from_hub(name))


def _read_directory(path: Path, name: str) -> Mapping[str, Any]:
    file = path / "config.json"
    if not is_file(file):
        message = f"there is no directory {name} with a config.json"
        raise BaseProblem("unknown-model", message, "a local model is a directory, named from the file that says it")
    return _read_config(file, f"{name}/config.json")


def _read_config(file: Path, name: str) -> Mapping[str, Any]:
    try:
        data = content(file)
        if len(data) > MAX_BYTES:
            raise BaseProblem("bad-config", f"{name} has more than {MAX_BYTES:,} bytes")
        config = json.loads(data.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise BaseProblem("bad-config", f"{name} isn't readable JSON: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise BaseProblem("bad-config", f"{name} names no model_type")
    return config


@cache
def _from_hub(name: str) -> Mapping[str, Any]:
    """`config.json` of a hub id, from the local cache or the network."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    near = nearest(name, builtin())
    offer = "name a built-in model, or a local directory with a config.json (it begins with `.` or `/`)"
    offer = f"did you mean `{near}`? Or {offer}" if near else offer
    try:
        found = try_to_load_from_cache(name, "config.json")
        if not isinstance(found, str):
            if not may_ask.get():
                raise LookupError(name)
            get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=HUB_TIMEOUT_S)  # fails without retries
            found = hf_hub_download(name, "config.json", etag_timeout=HUB_TIMEOUT_S)
    except HFValidationError as error:
        raise BaseProblem("unknown-model", f"`{name}` is neither a built-in model nor a hub id", offer) from error
    except GatedRepoError as error:
        raise BaseProblem("unknown-model", f"`{name}` is gated on the hub", "log in with `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise BaseProblem("unknown-model", f"the hub has no model `{name}`", offer) from error
    except Exception as error:  # which HTTP client raises, and so what, differs between versions of the hub library
        why = "the hub can't be reached" if may_ask.get() else "the hub is asked when the file is saved"
        message = f"`{name}` is neither built in nor in the local hub cache, and {why}"
        raise BaseProblem("unknown-model", message, offer) from error
    return _read_config(Path(found), f"{name}/config.json")
