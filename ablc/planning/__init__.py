"""Spec to `Plan`: the rewrites folded over the blueprint, what they changed, and what is claimed of the result."""

from __future__ import annotations

from ablc.planning.plan import Change, Plan, make_plan

__all__ = ["Change", "Plan", "make_plan"]
