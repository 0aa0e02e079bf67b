"""A plan becomes a torch model: from scratch (`build`) or by changing an existing Hugging Face model (`patch`).

From here on torch and transformers are needed; nothing before this package imports them.
"""

from __future__ import annotations

from ablc.patching.build import build
from ablc.patching.patch import PatchError, patch

__all__ = ["PatchError", "build", "patch"]
