"""`ablc fmt` as a shell sees it: what it writes, what it leaves, what it tells."""

from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, SPECS, ablc
from rich.console import Console

from ablc.cli import fmt, output
from ablc.cli.fmt import fmt_command
from ablc.language.tree import File

UGLY = 'model="EleutherAI/pythia-70m" # base\n\n\nmlp=lora( 8 )'
GOOD = 'model = "EleutherAI/pythia-70m"  # base\n\nmlp = lora(8)\n'
BROKEN = 'model = "EleutherAI/pythia-70m"\nmlp == none\nattention = = full\n'


@pytest.fixture
def ugly(tmp_path: Path) -> Path:
    path = tmp_path / "ugly.abl"
    path.write_bytes(UGLY.encode())
    return path


def state(path: Path) -> tuple[int, int]:
    """What changes where a file is written or replaced."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def piped(text: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ablc", "fmt", *options, "-"]
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, timeout=60, check=False)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_file_is_given_canonical_text(ugly: Path) -> None:
    done = ablc("fmt", ugly)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"formatted {ugly}\n1 file: 1 formatted\n"
    assert ugly.read_bytes() == GOOD.encode()
    assert names(ugly.parent) == ["ugly.abl"]


def test_a_canonical_file_isnt_touched(ugly: Path) -> None:
    ugly.write_text(GOOD)
    os.utime(ugly, ns=(1, 1))
    before = state(ugly)
    done = ablc("fmt", ugly)
    assert (done.returncode, done.stdout) == (0, "1 file: 1 already canonical\n")
    assert state(ugly) == before


def test_a_folder_stands_for_its_specs_and_each_file_is_done_once(
    ugly: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ugly.parent / "good.abl").write_text(GOOD)
    (ugly.parent / "notes.txt").write_text(UGLY)
    assert fmt_command([str(ugly.parent), str(ugly)], False, False) == 0
    assert capsys.readouterr().out == f"formatted {ugly}\n2 files: 1 formatted, 1 already canonical\n"
    assert (ugly.parent / "notes.txt").read_text() == UGLY


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o664])
def test_permissions_stay(ugly: Path, mode: int) -> None:
    ugly.chmod(mode)
    assert fmt_command([str(ugly)], False, False) == 0
    assert ugly.read_text() == GOOD and stat.S_IMODE(ugly.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_stays(ugly: Path) -> None:
    os.chown(ugly, 65534, 65533)
    assert fmt_command([str(ugly)], False, False) == 0
    assert (ugly.stat().st_uid, ugly.stat().st_gid) == (65534, 65533)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_line_ends_and_the_byte_order_mark_stay(ugly: Path, mark: bytes, end: bytes) -> None:
    ugly.write_bytes(mark + UGLY.encode().replace(b"\n", end))
    assert fmt_command([str(ugly)], False, False) == 0
    assert ugly.read_bytes() == mark + GOOD.encode().replace(b"\n", end)
    before = state(ugly)
    assert fmt_command([str(ugly)], False, False) == 0
    assert state(ugly) == before


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (b"mlp = none\r\nlayer = none\n", b"mlp = none\r\nlayer = none\r\n"),
        (b"mlp = none\nlayer = none\r\n", b"mlp = none\nlayer = none\n"),
        (b"mlp = none # a\r\r\n", b"mlp = none  # a\r\n"),
        (b"mlp = none\r", b"mlp = none\n"),
    ],
)
def test_mixed_line_ends_become_those_of_the_first_line(ugly: Path, text: bytes, after: bytes) -> None:
    ugly.write_bytes(text)
    assert fmt_command([str(ugly)], True, False) == 1
    assert fmt_command([str(ugly)], False, False) == 0
    assert ugly.read_bytes() == after
    assert fmt_command([str(ugly)], True, False) == 0


def test_an_empty_file_stays_empty(ugly: Path) -> None:
    ugly.write_bytes(b"")
    assert fmt_command([str(ugly)], True, False) == 0


def test_through_a_link_its_target_is_written(ugly: Path) -> None:
    folder = ugly.parent / "links"
    folder.mkdir()
    (folder / "b.abl").symlink_to("../ugly.abl")
    (folder / "a.abl").symlink_to("b.abl")
    assert fmt_command([str(folder / "a.abl")], False, False) == 0
    assert ugly.read_text() == GOOD
    assert (folder / "a.abl").is_symlink() and (folder / "b.abl").is_symlink()
    assert names(folder) == ["a.abl", "b.abl"]


# --- only looking ----------------------------------------------------------------------------------------------------


def test_check_lists_what_would_change_and_writes_nothing(ugly: Path) -> None:
    (ugly.parent / "good.abl").write_text(GOOD)
    before = state(ugly)
    done = ablc("fmt", "--check", ugly.parent)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"would format {ugly}\n2 files: 1 would be formatted, 1 already canonical\n"
    assert state(ugly) == before and names(ugly.parent) == ["good.abl", "ugly.abl"]


def test_names_begin_no_line_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a\n::error::b.abl").write_text(UGLY)
    for options in (["--check"], ["--diff"], []):
        done = ablc("fmt", *options, tmp_path)
        assert "b.abl" in done.stdout and "\n::error" not in done.stdout + done.stderr


def test_the_shipped_specs_are_canonical() -> None:
    done = ablc("fmt", "--check", SPECS)
    assert (done.returncode, done.stdout) == (0, "26 files: 26 already canonical\n")


def test_diff_shows_what_would_change_and_writes_nothing(ugly: Path) -> None:
    before = state(ugly)
    done = ablc("fmt", "--diff", "ugly.abl", cwd=ugly.parent)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "--- ugly.abl\n+++ ugly.abl\n@@ -1,4 +1,3 @@\n"
        '-model="EleutherAI/pythia-70m" # base\n'
        '+model = "EleutherAI/pythia-70m"  # base\n'
        " \n-\n-mlp=lora( 8 )\n\\ No newline at end of file\n+mlp = lora(8)\n"
    )
    assert state(ugly) == before


def test_diff_of_what_is_canonical_is_empty() -> None:
    done = ablc("fmt", "--diff", SPECS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("mark", "end"), [(b"", b"\n"), (b"\xef\xbb\xbf", b"\r\n")])
def test_patch_understands_the_diff(ugly: Path, mark: bytes, end: bytes) -> None:
    ugly.write_bytes(mark + UGLY.encode().replace(b"\n", end))
    command = [sys.executable, "-m", "ablc", "fmt", "--check", "--diff", "ugly.abl"]
    diff = subprocess.run(command, cwd=ugly.parent, capture_output=True, timeout=60, check=False)
    assert diff.returncode == 1
    subprocess.run(["git", "apply", "-p0"], cwd=ugly.parent, input=diff.stdout, timeout=60, check=True)
    assert ugly.read_bytes() == mark + GOOD.encode().replace(b"\n", end)


def test_a_diff_on_a_terminal_is_coloured_and_shows_what_is_invisible(
    ugly: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=20, color_system="standard", highlight=False)
    monkeypatch.setattr(fmt, "is_terminal", lambda: True)
    monkeypatch.setattr(fmt, "terminal", lambda: console)
    ugly.write_bytes(b"mlp=none # \x1b[2J [bold] and so on\r\n")
    assert fmt_command([str(ugly)], False, True) == 1
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[-2:] == [
        "\x1b[31m-mlp=none # �[2J [bold] and so on\x1b[0m",
        "\x1b[32m+mlp = none  # �[2J [bold] and so on\x1b[0m",
    ]
    assert lines[0].startswith("\x1b[1m--- ") and lines[2] == "\x1b[36m@@ -1 +1 @@\x1b[0m"


# --- stdin -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [UGLY, GOOD])
def test_stdin_is_formatted_to_stdout(text: str) -> None:
    done = piped(b"\xef\xbb\xbf" + text.encode().replace(b"\n", b"\r\n"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"\xef\xbb\xbf" + GOOD.encode().replace(b"\n", b"\r\n")


def test_stdin_can_be_checked_and_compared() -> None:
    good = piped(GOOD.encode(), "--check")
    assert (good.returncode, good.stdout) == (0, b"")
    checked = piped(UGLY.encode(), "--check")
    assert (checked.returncode, checked.stdout) == (1, b"would format stdin\n")
    compared = piped(UGLY.encode(), "--diff")
    assert compared.returncode == 1 and compared.stdout.startswith(b"--- stdin\n+++ stdin\n@@ ")


def test_what_is_wrong_in_stdin_is_told_and_nothing_written() -> None:
    done = piped(BROKEN.encode())
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"error[syntax]") == 2 and b"--> stdin:2:5" in done.stderr


def test_stdin_beside_files_is_refused(ugly: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fmt_command(["-", str(ugly)], False, False) == 2
    assert "error[stdin-and-files]" in capsys.readouterr().err
    assert ugly.read_text() == UGLY


# --- what is wrong ---------------------------------------------------------------------------------------------------


def test_a_broken_file_is_told_of_and_left_and_others_are_formatted(ugly: Path) -> None:
    broken = ugly.parent / "broken.abl"
    broken.write_text(BROKEN)
    before = state(broken)
    done = ablc("fmt", ugly.parent)
    assert done.returncode == 2
    assert done.stdout == f"formatted {ugly}\n2 files: 1 formatted, 1 failed\n"
    places = re.findall(r"error\[syntax\].*\n *--> (\S+)", done.stderr)
    assert places == [f"{broken}:2:5", f"{broken}:3:13"]
    assert ugly.read_text() == GOOD and state(broken) == before


def test_errors_are_told_in_the_order_of_their_places(ugly: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ugly.write_text("mlp == none\nlayer[3 = none\n")
    assert fmt_command([str(ugly)], False, False) == 2
    assert re.findall(r"error\[([a-z-]+)\]", capsys.readouterr().err) == ["syntax", "unclosed-bracket"]


@pytest.mark.parametrize("options", [(True, False), (False, True)])
def test_a_broken_file_outweighs_what_would_change(ugly: Path, options: tuple[bool, bool]) -> None:
    (ugly.parent / "broken.abl").write_text(BROKEN)
    assert fmt_command([str(ugly.parent)], *options) == 2


@pytest.mark.parametrize("text", ["mlp = none\nattention[3 = full\n", 'about = "x\nmlp=none', "mlp = none\nfreeze )"])
def test_what_the_splitter_refuses_is_left(ugly: Path, text: str) -> None:
    ugly.write_text(text)
    assert fmt_command([str(ugly)], False, False) == 2
    assert ugly.read_text() == text


def test_what_is_no_text_is_told(ugly: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for data, code in [(b"mlp=\xff", "not-utf8"), (b"mlp=\0", "nul-byte"), (b" " * 1_000_001, "file-too-large")]:
        ugly.write_bytes(data)
        assert fmt_command([str(ugly)], False, False) == 2
        assert f"error[{code}]" in capsys.readouterr().err
        assert ugly.read_bytes() == data


def test_what_cant_be_read_is_told(ugly: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (ugly.parent / "folder.abl").mkdir()
    (ugly.parent / "empty").mkdir()
    loop = ugly.parent / "loop.abl"
    loop.symlink_to(loop)
    for name in ("", "missing.abl", str(loop), "x" * 5000, f"{ugly}/x.abl"):
        assert fmt_command([name], False, False) == 2
        assert capsys.readouterr().err.startswith("error[cannot-read]: ")
    assert fmt_command([str(ugly.parent / "empty")], False, False) == 2
    assert capsys.readouterr().err.startswith("error[no-spec]: ")
    assert fmt_command([], False, False) == 2
    assert capsys.readouterr().err.startswith("error[no-spec]: ")


def test_a_file_that_goes_while_files_are_read_is_told(
    ugly: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [ugly.parent / "gone.abl", ugly]
    monkeypatch.setattr(output, "specs_in", lambda folder: listed)
    assert fmt_command([str(ugly.parent)], False, False) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error[cannot-read]: {listed[0]} can't be read: no such file")
    assert ugly.read_text() == GOOD


def test_a_file_that_goes_while_it_is_read_is_told(
    ugly: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = fmt.read
    monkeypatch.setattr(fmt, "read", lambda path, faults: (whole(path, faults), path.unlink())[0])
    assert fmt_command([str(ugly)], False, False) == 2
    assert capsys.readouterr().err.startswith("error[cannot-read]: ")


def test_a_file_that_goes_before_it_is_written_doesnt_come_back(
    ugly: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = fmt.formatted
    monkeypatch.setattr(fmt, "formatted", lambda file: (whole(file), ugly.unlink())[0])
    assert fmt_command([str(ugly)], False, False) == 2
    assert capsys.readouterr().err.startswith("error[cannot-write]: ")
    assert names(ugly.parent) == []


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    ugly: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", fail)
    assert fmt_command([str(ugly)], False, False) == 2
    assert capsys.readouterr().err == f"error[cannot-write]: {ugly} can't be written: permission denied\n\n"
    assert ugly.read_text() == UGLY and names(ugly.parent) == ["ugly.abl"]


def test_a_reader_sees_the_old_file_or_the_new_one(ugly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (seen.append(to.read_text()), replace(self, to))[1])
    assert fmt_command([str(ugly)], False, False) == 0
    assert seen == [UGLY] and ugly.read_text() == GOOD


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_is_forbidden_is_told(ugly: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, mode, code in [
        (ugly, 0o000, "cannot-read"),
        (ugly, 0o444, "cannot-write"),
        (ugly.parent, 0o555, "cannot-write"),
    ]:
        kept = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode)
        try:
            assert fmt_command([str(ugly)], False, False) == 2
        finally:
            path.chmod(kept)
        assert capsys.readouterr().err.startswith(f"error[{code}]: {ugly} can't be ")
        assert ugly.read_text() == UGLY


def test_a_read_only_file_is_left(
    ugly: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though its folder would allow to replace it."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert fmt_command([str(ugly)], False, False) == 2
    assert capsys.readouterr().err == f"error[cannot-write]: {ugly} can't be written: it is read-only\n\n"
    assert ugly.read_text() == UGLY


# --- the proof -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "place", "help"),
    [
        (GOOD.replace("8", "16"), "4:1", "mistake of ablc"),
        (GOOD.replace("# base", "# bas"), "1:31", "mistake of ablc"),
        (GOOD.replace("8)", "8"), "4:1", "it would be refused: this `(` is never closed"),
        ("", "1:1", "mistake of ablc"),
        (f"{GOOD}layer = = none", "1:1", "it would be refused: unexpected `=`"),
    ],
)
@pytest.mark.parametrize("options", [(False, False), (True, False), (False, True)])
def test_a_text_that_would_say_something_else_is_never_written(
    ugly: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: str,
    place: str,
    help: str,
    options: tuple[bool, bool],
) -> None:
    def garbled(file: File) -> str:
        return wrong

    monkeypatch.setattr(fmt, "formatted", garbled)
    assert fmt_command([str(ugly)], *options) == 2
    said = capsys.readouterr().err
    assert "error[fmt-would-change]" in said and f"{ugly}:{place}\n" in said and help in said
    assert ugly.read_text() == UGLY


def test_a_statement_that_would_grow_beyond_the_limit_is_left(ugly: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = ", ".join(f"mlp[{'1, ' * 999}1]" for _ in range(33))
    ugly.write_text(f"{targets}=none")
    assert ugly.stat().st_size < 100_100
    assert fmt_command([str(ugly)], False, False) == 2
    assert "it would be refused: a statement has at most 100,000 characters" in capsys.readouterr().err
