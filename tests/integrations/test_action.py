"""The GitHub Action: its script as a runner calls it, and that what it installs is enough."""

from __future__ import annotations

import re
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from repositories import ROOT, commit, git, repository, run

SCRIPT = ROOT / "integrations" / "github" / "review.sh"
REQUIREMENTS = ROOT / "integrations" / "github" / "requirements.txt"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return repository(tmp_path / "r", a="mlp = lora(8)", b="mlp = none")


def review(
    place: Path, base: str = "", strict: bool = False, paths: str = ".", ref: str = "refs/heads/main"
) -> tuple[int, str, str]:
    """The exit code, the log with its annotations, and the step's summary."""
    summary = place.parent / "summary.md"
    summary.write_text("")
    settings = {"ABLC_PATHS": paths, "ABLC_BASE": base, "ABLC_STRICT": str(strict).lower(), "GITHUB_REF": ref}
    done = run("bash", SCRIPT, cwd=place, GITHUB_STEP_SUMMARY=str(summary), **settings)
    return done.returncode, done.stdout + done.stderr, summary.read_text()


def test_what_changes_stands_in_the_summary(place: Path) -> None:
    base = git(place, "rev-parse", "HEAD")
    commit(place, a="mlp = lora(16)", c="attention = none")
    code, _, summary = review(place, base)
    assert code == 0
    assert summary.startswith("## What changes in the models\n\n**3 specs: 1 changed, 1 added, 1 with the same model**")
    assert "| `specs/a.abl` | changed | 57,880,624 | 57,929,824 | +49,200 | +0.09 |" in summary
    assert "<details><summary>specs/c.abl</summary>" in summary


def test_errors_are_annotated_and_fail(place: Path) -> None:
    commit(place, b="mlp = lroa(8)", c="expect params == 1")
    code, log, summary = review(place)
    assert code == 2 and summary == ""
    errors = re.findall(r"^::error file=specs/([bc])\.abl,line=2,.*::(.*)$", log, re.MULTILINE)
    assert dict(errors).keys() == {"b", "c"} and "there is no operation `lroa`" in dict(errors)["b"]


def test_strict_fails_on_text_that_isnt_canonical(place: Path) -> None:
    commit(place, a="mlp=lora( 8 )")
    assert review(place)[0] == 0
    assert review(place, strict=True)[0] == 1


def test_a_shallow_checkout_fetches_what_it_compares_with(place: Path) -> None:
    base = git(place, "rev-parse", "HEAD")
    commit(place, a="mlp = lora(16)")
    git(place, "config", "uploadpack.allowAnySHA1InWant", "true")
    git(place.parent, "clone", "-q", "--depth=1", f"file://{place}", "shallow")
    assert "changed" in review(place.parent / "shallow", base)[2]


@pytest.mark.parametrize(
    "paths", ["specs/a.abl specs/b.abl", "specs/a.abl\nspecs/b.abl\n", "  specs/a.abl\n\n specs/b.abl"]
)
def test_paths_are_parted_by_blanks_or_lines(place: Path, paths: str) -> None:
    base = commit(place, b="mlp = lroa(8)", c="mlp = none")
    code, log, summary = review(place, base, paths=paths)
    assert code == 2 and "file=specs/b.abl,line=2" in log
    assert summary.startswith("## What changes in the models\n\n**2 specs")


def test_a_comparison_that_fails_is_told_and_fails_nothing(place: Path) -> None:
    code, log, summary = review(place, "0" * 40)
    assert code == 0
    assert f"::warning title=ablc::the specs couldn't be compared with {'0' * 40}" in log
    assert summary == (
        f"## What changes in the models\n\nIt couldn't be compared with `{'0' * 40}`; the log says why.\n"
    )


def test_a_pull_request_is_compared_with_what_it_is_merged_into(place: Path) -> None:
    git(place, "checkout", "-qb", "feature")
    commit(place, a="mlp = lora(16)")
    git(place, "checkout", "-q", "main")
    stale = git(place, "rev-parse", "HEAD")
    commit(place, b="mlp = lora(4)")  # since the event was sent
    git(place, "merge", "-q", "--no-ff", "-m", "merged", "feature")
    assert "**2 specs: 2 changed**" in review(place, stale)[2]
    assert "**2 specs: 1 changed, 1 with the same model**" in review(place, stale, ref="refs/pull/7/merge")[2]


def test_the_action_calls_the_script_with_all_its_inputs() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    steps = action["runs"]["steps"]
    assert steps[-1]["run"].endswith(f'{SCRIPT.relative_to(ROOT).as_posix()}"')
    assert re.findall(r"ABLC_\w+", SCRIPT.read_text()) and set(steps[-1]["env"]) == set(
        re.findall(r"ABLC_[A-Z]+", SCRIPT.read_text())
    )
    used = set(re.findall(r"inputs\.([\w-]+)", str(action["runs"])))
    assert used == set(action["inputs"])


def test_what_it_installs_is_of_the_packages_own_dependencies() -> None:
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    said = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert set(said) < set(own)


@pytest.mark.slow
def test_what_it_installs_is_enough(place: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    for what in (["--requirement", REQUIREMENTS], ["--no-deps", ROOT]):
        done = run(python, "-m", "pip", "install", "--quiet", *what, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    path = f"{python.parent}:/usr/bin:/bin"
    done = run("bash", SCRIPT, cwd=place, PATH=path, ABLC_BASE="HEAD", ABLC_PATHS="specs", PYTHONPATH="")
    assert done.returncode == 0 and "2 specs: 2 with the same model" in done.stdout, done.stderr
    assert run(python, "-c", "import torch", cwd=tmp_path).returncode != 0 and sys.prefix != str(tmp_path)
