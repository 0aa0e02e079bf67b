"""A plan becomes a torch model: from scratch (`build`), from the weights of its base (`start_from`), or by changing an
existing Hugging Face model (`patch`).

From here on torch and transformers are needed; nothing before this package imports them.
"""

from __future__ import annotations

from ablc.patching.build import build
from ablc.patching.checkpoint import CheckpointError, weights_source
from ablc.patching.patch import PatchError, patch
from ablc.patching.pretrained import start_from
from ablc.patching.svd import PairError

__all__ = ["CheckpointError", "PairError", "PatchError", "build", "patch", "start_from", "weights_source"]
