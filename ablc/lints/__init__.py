"""The lints: one file each, found by being here.

A lint is a function from a file that compiles to warnings about it. What `ablc explain` says of it is the docstring
of its file, with an example that is tested; nothing else needs to know of it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from ablc.lints.lint import Lint, Subject

__all__ = ["Lint", "Subject", "docstring", "lint_codes", "lints"]

_HELPERS = {"lint"}


@cache
def lint_codes() -> tuple[str, ...]:
    """The codes of all lints: the names of their files."""
    return tuple(sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if m.name not in _HELPERS))


@cache
def lints() -> tuple[Lint, ...]:
    """Every lint, in the order of their codes."""
    names = [code.replace("-", "_") for code in lint_codes()]
    return tuple(getattr(importlib.import_module(f"{__name__}.{name}"), name) for name in names)


def docstring(code: str) -> str:
    """What a lint means, as its file says it."""
    return importlib.import_module(f"{__name__}.{code.replace('-', '_')}").__doc__ or ""
