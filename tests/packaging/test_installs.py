"""The grammar and all else that is data is found however ablc is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = "EleutherAI/pythia-410m"
COUNT = ["-m", "ablc", "params", "-e", "attention[3:] = lora(8)", "--model", MODEL, "--format", "json"]
WHERE = "import ablc; print(ablc.__file__)"

pytestmark = pytest.mark.slow


def ended(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    words = list(map(str, command))
    surroundings = {**os.environ, **env}
    return subprocess.run(words, cwd=cwd, env=surroundings, capture_output=True, text=True, timeout=120, check=False)


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    done = ended(*command, cwd=cwd, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and an sdist of a clean copy of the repository."""
    folder = tmp_path_factory.mktemp("built")
    copy = folder / "copy"
    copy.mkdir()
    for name in ("ablc", "grammar", "specs", "tests", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel", "--outdir", folder / "dist", cwd=copy)
    return folder / "dist"


def environment(folder: Path) -> Path:
    """The Python of a fresh virtual environment that sees the libraries of this one, but not its ablc."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # a bare path in a .pth adds the folder without running its own .pth files, so not the editable ablc of this one
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


def install(python: Path, *what: str | Path) -> None:
    arguments = ("install", "--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--ignore-installed", *what)
    run(python, "-m", "pip", *arguments, cwd=python.parent, PIP_DISABLE_PIP_VERSION_CHECK="1")


def counts_from(python: Path, folder: Path, home: Path) -> None:
    """The install under test is the one that is imported, and it counts."""
    assert Path(run(python, "-c", WHERE, cwd=folder).strip()).is_relative_to(home)
    assert '"params": 339962024' in run(python, *COUNT, cwd=folder, ABLC_CACHE=str(folder / "cache"))
    recipes = run(python, "-c", "from ablc.recipes import builtin_recipes; print(*builtin_recipes())", cwd=folder)
    assert recipes.split() == ["local", "wikitext2", "wikitext2-log"]


def test_a_wheel(built: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    install(python, next(built.glob("*.whl")))
    counts_from(python, tmp_path, tmp_path / "venv")


def test_an_sdist(built: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    install(python, next(built.glob("*.tar.gz")))
    counts_from(python, tmp_path, tmp_path / "venv")


def test_an_editable_install(built: Path, tmp_path: Path) -> None:
    copy = built.parent / "copy"
    python = environment(tmp_path / "venv")
    install(python, "--editable", copy)
    counts_from(python, tmp_path, copy)


def test_without_its_grammar_an_installation_says_so(built: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    install(python, next(built.glob("*.whl")))
    grammar = next((tmp_path / "venv").rglob("ablc.lark"))
    grammar.unlink()
    done = ended(python, *COUNT, cwd=tmp_path, ABLC_CACHE=str(tmp_path / "cache"))
    assert done.returncode != 0 and "ablc.lark is missing" in done.stderr


def test_an_sdist_holds_what_a_build_and_the_tests_need(built: Path) -> None:
    names = run("tar", "-tzf", next(built.glob("*.tar.gz")), cwd=built).splitlines()
    inside = {name.partition("/")[2] for name in names}
    assert {"grammar/ablc.lark", "specs/18.abl", "README.md", "LICENSE", "tests/conftest.py"} <= inside
