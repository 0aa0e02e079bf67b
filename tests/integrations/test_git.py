"""`ablc git` in a real repository: what `git diff` shows, and that nothing stays behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from repositories import git, repository, run

LONG = "mlp[0] = none\n" + "# a line\n" * 10 + "mlp[1] = lora(8)\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = repository(tmp_path / "r", long=LONG, uses="mlp = lora(8)\nexpect params > 0\n")
    (folder / "specs" / "long.abl").write_text((folder / "specs" / "long.abl").read_text().replace("8", "9"))
    (folder / "specs" / "uses.abl").write_text(
        (folder / "specs" / "uses.abl").read_text().replace("lora(8)", "lora(r=8)")
    )
    return folder


def ablc(place: Path, *arguments: str) -> str:
    done = run("ablc", "git", *arguments, cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def hunk(place: Path) -> str:
    return next(line for line in git(place, "diff", "specs/long.abl").splitlines() if line.startswith("@@"))


def test_hunks_say_which_model(place: Path) -> None:
    assert "pythia" not in hunk(place)
    ablc(place, "enable")
    assert hunk(place).endswith('@@ model = "EleutherAI/pythia-70m"')
    assert "lora(r=8)" in git(place, "diff", "specs/uses.abl")


def test_with_textconv_the_meaning_is_compared(place: Path) -> None:
    ablc(place, "enable", "--textconv")
    assert git(place, "diff", "specs/uses.abl") == ""
    shown = git(place, "diff", "specs/long.abl")
    assert "+mlp[1]: mlp → Linear(512, 9) · Linear(9, 512)" in shown and "+parameters 66,236,937" in shown
    assert "lora(r=8)" in git(place, "diff", "--no-textconv", "specs/uses.abl")


def test_a_spec_that_git_has_alone_is_shown_as_text(place: Path) -> None:
    ablc(place, "enable", "--textconv")
    (place / "specs" / "uses.abl").write_text('extends "long.abl"\nmlp = lora(7)\n')
    git(place, "commit", "-qam", "extends")
    assert '+extends "long.abl"' in git(place, "show", "HEAD", "--", "specs/uses.abl")


@pytest.mark.parametrize("own", ["", "*.bin binary\n"])
def test_disable_leaves_nothing(place: Path, own: str) -> None:
    attributes = place / ".git" / "info" / "attributes"
    if own:
        attributes.write_text(own)
    before = (place / ".git" / "config").read_text()
    for flags in (["enable"], ["enable", "--textconv"], ["enable"]):
        ablc(place, *flags)
    assert attributes.read_text() == f"{own}*.abl diff=ablc\n"
    assert "textconv" not in git(place, "config", "--list")
    ablc(place, "enable", "--textconv")
    assert git(place, "status", "--porcelain") == "M specs/long.abl\n M specs/uses.abl"
    ablc(place, "disable")
    assert (place / ".git" / "config").read_text() == before
    assert (attributes.read_text() if attributes.exists() else "") == own
    assert ablc(place, "disable") == "ablc git enable has set nothing here\n"


def test_attributes_of_any_encoding_stay(place: Path) -> None:
    attributes = place / ".git" / "info" / "attributes"
    own = "*.b\xedn binary\r\n*.txt text".encode("latin-1")
    attributes.write_bytes(own)
    ablc(place, "enable")
    assert attributes.read_bytes() == own + b"\n*.abl diff=ablc\n"
    ablc(place, "disable")
    assert attributes.read_bytes() == own + b"\n"


@pytest.mark.parametrize("gone", [False, True])
def test_with_textconv_git_needs_no_ablc_on_the_path(place: Path, tmp_path: Path, gone: bool) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "ablc").symlink_to(Path(sys.executable).with_name("ablc"))
    done = run(bin_ / "ablc", "git", "enable", "--textconv", cwd=place)
    assert done.returncode == 0, done.stderr
    if gone:  # the environment that ablc was installed in, say
        command = git(place, "config", "diff.ablc.textconv")
        git(place, "config", "diff.ablc.textconv", command.replace(str(Path(sys.executable).parent), "/nowhere"))
    done = run("git", "diff", cwd=place, PATH="/usr/bin:/bin")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("+mlp[1] = lora(9)" in done.stdout) is gone
    assert ("+mlp[1]: mlp → Linear(512, 9) · Linear(9, 512)" in done.stdout) is not gone


def test_a_file_that_isnt_there_is_told(tmp_path: Path) -> None:
    done = run("ablc", "git", "show", "gone.abl", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error[cannot-read]: ") and "Traceback" not in done.stderr


def test_never_a_command_for_diffs(place: Path) -> None:
    ablc(place, "enable", "--textconv")
    assert "diff.ablc.command" not in git(place, "config", "--list")


def test_outside_of_a_repository(tmp_path: Path) -> None:
    done = run("ablc", "git", "enable", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error[no-revision]: ") and "Traceback" not in done.stderr
