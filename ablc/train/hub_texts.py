"""Texts of a data set of the Hugging Face hub, copied into the cache of data sets or streamed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablc.bases.hub import hub_answers, hub_revision
from ablc.faults import reason_of
from ablc.train.corpus import DataError
from ablc.train.texts import PARTS, WAY_OUT, Extent, Opened, Part, Texts, check_parts, load, rows


def hub_texts(recipe_data: str, streaming: bool = False, revision: str | None = None) -> Texts:
    """The texts of `owner/name` or `owner/name:config`, which is copied into the cache of data sets unless it is read
    `streaming`, at its newest commit or at `revision`.

    Raises:
        DataError: no such data set, no network within a few seconds, or no train and validation parts.
    """
    return _streamed(recipe_data, revision) if streaming else _copied(recipe_data)


def can_be_had(recipe_data: str) -> tuple[bool, str]:
    """Whether the texts can be had now, and why, within about three seconds; nothing is downloaded."""
    name, _, config = recipe_data.partition(":")
    if _is_cached(name, config):
        return True, f"{recipe_data} is in the local cache of data sets"
    return hub_answers("dataset", name)


def _copied(recipe_data: str) -> Texts:
    name, _, config = recipe_data.partition(":")
    found = _load_cached(name, config) if _is_cached(name, config) else _load_online(name, config)
    about = {
        "name": recipe_data,
        "dataset": name,
        "config": config or None,
        "fingerprint": "-".join(found[part]._fingerprint for part in PARTS),
        "revision": _revision(found["train"]),
    }
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def open(part: Part) -> Opened:
        return Opened(rows(found[part], recipe_data), Extent(rows=found[part].num_rows))

    return Texts(key, about, False, open)


def _streamed(recipe_data: str, revision: str | None) -> Texts:
    """Known by the commit they are read at: nothing of them is on this machine. Where that is known already the hub is
    asked for nothing before they are read, and so not at all where their tokens are in the cache."""
    name, _, config = recipe_data.partition(":")
    if revision is None:
        _check_hub(name)
        try:
            revision = hub_revision(name)
        except Exception as error:  # as in `load`
            raise DataError(f"data set `{name}` can't be had: {reason_of(error)}", WAY_OUT) from error
    about = {"name": recipe_data, "dataset": name, "config": config or None, "revision": revision}
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def open(part: Part) -> Opened:
        found = _load(name, config or None, streaming=True, revision=revision)[part]
        said = (found.info.splits or {}).get(part)  # by whoever made the set, if at all
        return Opened(rows(found, recipe_data), Extent(rows=said.num_examples if said else None))

    return Texts(key, about, False, open)


def _load_online(name: str, config: str) -> Mapping[str, Any]:
    _check_hub(name)
    return _load(name, config or None)


def _check_hub(name: str) -> None:
    answers, why = hub_answers("dataset", name)
    if not answers:
        help = f"there is a {name} here: write ./{name}" if Path(name).exists() else WAY_OUT
        raise DataError(f"data set `{name}` can't be had: {why}", help)


def _load_cached(name: str, config: str) -> Mapping[str, Any]:
    """From the local cache without asking the hub: a run with no network does what it did with one, and at once."""
    from datasets import config as settings

    before, settings.HF_HUB_OFFLINE = settings.HF_HUB_OFFLINE, True
    try:
        return _load(name, config or None)
    finally:
        settings.HF_HUB_OFFLINE = before


def _load(name: str, config: str | None, **options: Any) -> Mapping[str, Any]:
    """Both parts."""
    found: Mapping[str, Any] = load(lambda datasets: datasets.load_dataset(name, config, **options), name)
    check_parts(found, name)
    return found


def _is_cached(name: str, config: str) -> bool:
    """Whether an earlier load left this data set on disk: `<cache>/owner___name/config/version/hash/*.arrow`."""
    from datasets import config as settings
    from datasets.naming import camelcase_to_snakecase

    *owner, last = name.split("/")
    folder = Path(settings.HF_DATASETS_CACHE).expanduser() / "___".join([*owner, camelcase_to_snakecase(last)])
    return any(folder.glob(f"{config or '*'}/*/*/*.arrow"))


def _revision(part: Any) -> str | None:
    """The commit a hub data set was taken from, which stands in the addresses of its files: `…@<40 hex digits>/…`."""
    for address in part.info.download_checksums or ():
        commit = str(address).rpartition("@")[2][:40]
        if len(commit) == 40 and set(commit) <= set("0123456789abcdef"):
            return commit
    return None
