"""The Hugging Face hub, asked before anything is loaded from it: without a network its libraries try again and again
for most of a minute."""

from __future__ import annotations

import threading
from typing import Literal

from ablc.bases import builtin

# Seconds that the hub has to answer.
PATIENCE = 3.0


def hub_answers(kind: Literal["dataset", "model"], name: str) -> tuple[bool, str]:
    """Whether the hub has this data set or model for us, and why, within about three seconds."""
    answers: list[tuple[bool, str]] = []
    # In a thread, since a name server that doesn't answer isn't covered by the client's own timeout.
    thread = threading.Thread(target=lambda: answers.append(_ask_hub(kind, name)), daemon=True)
    thread.start()
    thread.join(PATIENCE + 0.5)
    return answers[0] if answers else (False, f"the hub doesn't answer within {PATIENCE:g} s")


def hub_revision(name: str) -> str | None:
    """The commit that a data set of the hub is at. Asked after `hub_answers`."""
    from huggingface_hub import HfApi

    return HfApi().dataset_info(name, timeout=PATIENCE).sha


def hub_id(name: str) -> str:
    """The hub's name of a base model: a built-in short name (`llama-3.1-8b`) has one, any other is its own."""
    if "/" in name or name not in builtin():
        return name
    config = builtin()[name]
    return next((other for other, its in builtin().items() if its is config and "/" in other), name)


def _ask_hub(kind: str, name: str) -> tuple[bool, str]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

    ask = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
    try:
        ask(name, timeout=PATIENCE)
    except OfflineModeIsEnabled:
        return False, "HF_HUB_OFFLINE is set"
    except (RepositoryNotFoundError, HFValidationError):
        what = "data set" if kind == "dataset" else kind
        return False, f"the hub has no {what} `{name}` that is open to you"
    except Exception as error:  # the hub's client changes its HTTP library, and with it the classes of its errors
        return False, f"the hub doesn't answer ({type(error).__name__})"
    return True, f"the hub has `{name}`"
