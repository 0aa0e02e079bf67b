"""The pages say what is so: generated ones are current, specs in them compile, and output is what comes out."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ablc.faults import Source, render
from ablc.pipeline import compile_source

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "specs" / "README.md"])


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def generated() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: make() for name, make in module.PAGES.items()}


def test_generated_pages_are_current() -> None:
    for name, text in generated().items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name} is out of date: make docs"


SPECS = [(path, text) for path in PAGES for text in blocks(path, "abl")]


@pytest.mark.parametrize(("path", "text"), SPECS, ids=[f"{p.name}-{i}" for i, (p, _) in enumerate(SPECS)])
def test_specs_in_pages_hold(path: Path, text: str) -> None:
    compiled = compile_source(Source(path.name, text, ROOT / "specs"))
    assert compiled.ok and not compiled.faults, "\n".join(map(render, compiled.faults))
    assert all(verdict.holds is not False for planned in compiled.variants for verdict in planned.verdicts)


COMMANDS = [(path, text) for path in PAGES for text in blocks(path, "console")]


@pytest.mark.parametrize(("path", "text"), COMMANDS, ids=[path.name for path, _ in COMMANDS])
def test_commands_in_pages_print_what_the_page_shows(path: Path, text: str) -> None:
    command, _, expected = text.partition("\n")
    assert command.startswith("$ ablc ")
    words = [sys.executable, "-m", "ablc", *command.removeprefix("$ ablc ").split()]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert done.stdout.strip() == expected.strip()


def test_links_between_pages_lead_somewhere() -> None:
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
