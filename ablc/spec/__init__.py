"""Text to `Spec`: `extends` followed, `vary` expanded, names looked up, numbers evaluated, defaults explicit."""

from __future__ import annotations

from ablc.spec.model import Claim, Edit, Freeze, Spec

__all__ = ["Claim", "Edit", "Freeze", "Spec"]
