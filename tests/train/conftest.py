"""What the tests of runs share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all runs: the corpus is tokenised once."""
    return tmp_path_factory.mktemp("cache")
