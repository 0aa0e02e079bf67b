"""The hooks of .pre-commit-hooks.yaml under the real pre-commit."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import MODEL, ROOT, git, repository, run

CONFIG = """\
repos:
  - repo: {hooks}
    rev: {revision}
    hooks: [{{id: ablc-fmt}}, {{id: ablc-check}}]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A repository that has both hooks. They come from another with nothing in it but their definition."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / ".pre-commit-hooks.yaml").write_bytes((ROOT / ".pre-commit-hooks.yaml").read_bytes())
    repository(hooks)
    folder = repository(tmp_path / "r", a="mlp = lora(8)\n")
    text = CONFIG.format(hooks=hooks, revision=git(hooks, "rev-parse", "HEAD"))
    (folder / ".pre-commit-config.yaml").write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "hooks")
    return folder


def hooks(place: Path) -> tuple[int, str]:
    git(place, "add", "-A")
    done = run("pre-commit", "run", "--all-files", cwd=place, PRE_COMMIT_HOME=str(place.parent / "cache"))
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_good_specs_pass(place: Path) -> None:
    code, said = hooks(place)
    assert code == 0 and said.count("Passed") == 2, said


@pytest.mark.slow
def test_text_is_made_canonical(place: Path) -> None:
    (place / "specs" / "a.abl").write_text(f"{MODEL}mlp=lora( 8 )\n")
    code, said = hooks(place)
    assert code == 1 and "files were modified by this hook" in said
    assert (place / "specs" / "a.abl").read_text() == f"{MODEL}mlp = lora(8)\n"
    assert hooks(place)[0] == 0


@pytest.mark.slow
def test_errors_and_failed_claims_stop_a_commit(place: Path) -> None:
    (place / "specs" / "a.abl").write_text(f"{MODEL}mlp = lora(8)\nexpect params == 1\n")
    code, said = hooks(place)
    assert code == 1 and "error[claim-fails]" in said and "expect params == 57_880_624" in said
