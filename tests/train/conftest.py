"""What the tests of runs share."""

from __future__ import annotations

from pathlib import Path

import pytest
from based import fill


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all runs: the corpus is tokenised once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, a base that was trained on them for a moment, and a spec on it."""
    folder = tmp_path_factory.mktemp("place")
    fill(folder)
    return folder
