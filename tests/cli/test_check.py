"""`ablc check` and `ablc explain` as a shell sees them: formats, exit codes, what is mended."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ablc.checking.mend import CannotWrite, mend, write
from ablc.cli.check import CheckOptions, check_command
from ablc.cli.explain import explain_command
from ablc.explanations import codes, level
from ablc.faults import UserError
from ablc.pipeline import compile_file

MODEL = 'model = "EleutherAI/pythia-70m"\n'
VAIN = MODEL + "mlp = lora(8)\nfinal_norm = full\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def ablc_check(*names: str, text: str = "", **options: object) -> int:
    given = CheckOptions(**options)  # type: ignore[arg-type]
    return check_command([*names], [text] if text else [], None, given)


def mended(name: str, text: str) -> str:
    put(name, text)
    before = [planned.plan.fingerprint for planned in compile_file(Path(name)).variants]
    ablc_check(name, fix=True)
    compiled = compile_file(Path(name))
    assert compiled.ok and [planned.plan.fingerprint for planned in compiled.variants] == before
    return Path(name).read_bytes().decode()


# --- exit codes and formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "strict"),
    [
        ("mlp = lora(8)\nexpect layers.mlp == 6", 0, 0),
        ("mlp[3:] = full", 0, 1),
        ("mlp[3:] = full  # ablc: allow no-effect to say so", 0, 0),
        ("expect params == 1", 1, 1),
        ("mlp = lroa(8)", 2, 2),
    ],
)
def test_exit_codes(text: str, code: int, strict: int) -> None:
    put("spec.abl", MODEL + text)
    assert (ablc_check("spec.abl"), ablc_check("spec.abl", strict=True)) == (code, strict)


def test_people_see_lints_among_the_faults_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    put("spec.abl", MODEL + "mlp = none\nexpect params == 1")
    assert ablc_check("spec.abl") == 1
    done = capsys.readouterr()
    assert done.out == "1 file: 0 errors, 1 warning, 1 failed claim\n"
    assert done.err.index("warning[unread-parameters]") < done.err.index("error[claim-fails]")


def test_json_lists_faults_with_their_places(capsys: pytest.CaptureFixture[str]) -> None:
    put("spec.abl", MODEL + "mlp[3:] = full")
    put("broken.abl", "mlp = lroa(8)\n" + MODEL)
    assert ablc_check("spec.abl", "broken.abl", "nowhere.abl", format="json") == 2
    done = capsys.readouterr()
    assert done.err == ""
    said = json.loads(done.out)
    assert said["format_version"] == "1.0" and said["mended"] == []
    first, second, third = said["faults"]
    assert first == {
        "code": "no-effect",
        "level": "warning",
        "message": "this statement has no effect: `full` stands there already",
        "help": "take it out",
        "file": "spec.abl",
        "line": 2,
        "column": 1,
        "end": {"line": 2, "column": 15},
        "related": [],
    }
    assert (second["code"], second["line"], second["column"]) == ("unknown-operation", 1, 7)
    assert (third["code"], third["file"], third["line"], third["end"]) == ("cannot-read", None, None, None)


def test_github_gets_workflow_commands(capsys: pytest.CaptureFixture[str]) -> None:
    put("a,b:c%.abl", MODEL + "mlp[3:] = full\nexpect params within 0.1% of 1")
    assert ablc_check("a,b:c%.abl", "nowhere.abl", format="github") == 2
    first, second, third = capsys.readouterr().out.splitlines()
    place = "file=a%2Cb%3Ac%25.abl,line=2,col=1,endLine=2,endColumn=15,title=no-effect"
    assert first == f"::warning {place}::this statement has no effect: `full` stands there already%0Ahelp: take it out"
    assert second.startswith("::error file=a%2Cb%3Ac%25.abl,line=3,col=30,endLine=3,endColumn=31,title=claim-fails::")
    assert "expected within 0.1%25 of 1," in second
    assert third.startswith("::error title=cannot-read::nowhere.abl can't be read")


def test_nothing_given_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_command([], [], None, CheckOptions()) == 2
    assert "error[no-spec]" in capsys.readouterr().err


# --- --fix and --diff ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mlp[3:] = full\nattention = lora(8)\n", "attention = lora(8)\n"),
        ("attention = lora(8)\nmlp[3:] = full", "attention = lora(8)\n"),
        ("attention   =  lora( 8 );  mlp[3:] = full ; freeze mlp\n", "attention   =  lora( 8 );  freeze mlp\n"),
        ("attention = lora(8); mlp[3:] = full\n", "attention = lora(8)\n"),
        ("attention = lora(8)\n\nmlp[3:] = full\n\nfreeze mlp\n", "attention = lora(8)\n\nfreeze mlp\n"),
        ("mlp[\n  3:\n] = full\nattention = lora(8)\n", "attention = lora(8)\n"),
        ("mlp.act = none\nmlp = lora(8)\n", "mlp = lora(8)\n"),
        ("mlp = lora(8)\nmlp = lora(8)\n", "mlp = lora(8)\n"),
        ("mlp = lora(8)\nmlp[0] = lora(8)\n", "mlp = lora(8)\n"),
        ("freeze embedding, attention.qkv\nfreeze attention\n", "freeze embedding\nfreeze attention\n"),
        ("freeze attention.qkv, embedding\nfreeze attention\n", "freeze embedding\nfreeze attention\n"),
        ("freeze mlp, attention, mlp.up, mlp.down\n", "freeze mlp, attention\n"),
        ("attention = none\nfreeze attention\n", "attention = none\n"),
        ("vary r = 8, 16\nattention = lora(r)\nmlp[3:] = full\n", "vary r = 8, 16\nattention = lora(r)\n"),
    ],
)
def test_what_changes_nothing_is_taken_out(before: str, after: str) -> None:
    assert mended("spec.abl", MODEL + before) == MODEL + after


@pytest.mark.parametrize(
    "text",
    [
        "attention = none\n",  # what is unread is counted
        "mlp[0, 1] = lora(8)\nmlp[1] = none\n",  # erased in one layer
        "attention.out = lora(400)\n",
        "mlp[3:] = full  # as in the log\n",
        "attention = lora(8)\n# as in the log\nmlp[3:] = full\n",
        "mlp[3:  # to the end\n] = full\n",
        "vary n = 0, 6\nmlp[n:] = full\n",  # without it nothing would use the name
        "mlp[3:] = full  # ablc: allow no-effect to say so\n",
        "expect params == 1\n",
        "mlp = lroa(8)\nmlp[3:] = full\n",
    ],
)
def test_what_is_not_for_a_program_to_say_stays(text: str) -> None:
    put("spec.abl", MODEL + text)
    ablc_check("spec.abl", fix=True)
    assert Path("spec.abl").read_text() == MODEL + text


def test_what_was_done_and_left_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    put("spec.abl", VAIN + "attention[2] = full  # as in the log\n")
    assert ablc_check("spec.abl", fix=True) == 0
    done = capsys.readouterr()
    assert done.out.splitlines() == [
        "spec.abl:3: took out `final_norm = full` (no-effect)",
        "spec.abl: left `attention[2] = full`: what becomes of its comment is yours to say",
        "1 file: 0 errors, 1 warning, 0 failed claims",
    ]
    assert "spec.abl:3:1" in done.err  # the place in the file as it is now


def test_diff_shows_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    put("spec.abl", VAIN)
    for options in ({"diff": True}, {"diff": True, "fix": True}):
        assert ablc_check("spec.abl", **options) == 1
        shown = capsys.readouterr().out
        assert "--- spec.abl\n+++ spec.abl\n" in shown and "\n-final_norm = full\n" in shown
        assert Path("spec.abl").read_text() == VAIN
    put("spec.abl", MODEL + "mlp = lora(8)\n")
    assert ablc_check("spec.abl", diff=True) == 0


def test_json_says_what_was_mended(capsys: pytest.CaptureFixture[str]) -> None:
    put("spec.abl", VAIN)
    assert ablc_check("spec.abl", fix=True, format="json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "format_version": "1.0",
        "faults": [],
        "mended": [{"file": "spec.abl", "code": "no-effect", "line": 3}],
    }


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_endings_and_the_byte_order_mark_stay(mark: str) -> None:
    text = mark + MODEL + 'about = "d’à côté"\r\nmlp[3:] = full\r\nattention = lora(8)\r\nfreeze mlp\n'
    assert mended("spec.abl", text) == text.replace("mlp[3:] = full\r\n", "")


def test_permissions_and_links_stay(folder: Path) -> None:
    real = put("real.abl", VAIN)
    real.chmod(0o640)
    Path("link.abl").symlink_to("real.abl")
    ablc_check("link.abl", fix=True)
    assert Path("link.abl").is_symlink() and "final_norm" not in real.read_text()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(path.name for path in folder.iterdir()) == ["link.abl", "real.abl"]  # nothing is left beside them


def test_a_file_that_another_one_extends_stays_as_it_is() -> None:
    put("base.abl", VAIN)
    put("spec.abl", 'extends "base.abl"\nattention = lora(8)\nlayer[2] = full\nmlp[2] = lora(8)\n')
    ablc_check("base.abl", "spec.abl", fix=True)
    assert Path("base.abl").read_text() == VAIN
    Path("spec.abl").unlink()
    ablc_check("base.abl", fix=True)
    assert "final_norm" not in Path("base.abl").read_text()


@pytest.mark.parametrize("extender", ["spec.abl", "../other/spec.abl", "deeper/still/spec.abl"])
def test_one_that_extends_it_neednt_be_given(capsys: pytest.CaptureFixture[str], extender: str) -> None:
    Path(".git").mkdir()
    put("specs/base.abl", VAIN)
    place = Path("specs", extender)
    back = os.path.relpath("specs/base.abl", place.parent)
    put(str(place), f'# it has to stay\nextends "{back}"  # here\nlayer[2] = full\n')
    ablc_check("specs/base.abl", fix=True)
    assert Path("specs/base.abl").read_text() == VAIN
    said = capsys.readouterr().out
    assert "specs/base.abl: left as it is, since " in said and "spec.abl extends it" in said


def test_all_variants_are_looked_at_where_one_is_named() -> None:
    text = MODEL + "vary n = 0, 6\nattention[n:] = lora(8)\nattention[3:] = full\n"
    put("spec.abl", text)
    ablc_check("spec.abl@n=6", fix=True)
    assert Path("spec.abl").read_text() == text


def test_a_file_that_has_changed_isnt_overwritten(folder: Path) -> None:
    done = mend(put("spec.abl", VAIN))
    assert done is not None
    put("spec.abl", VAIN + "freeze mlp\n")
    with pytest.raises(CannotWrite):
        write(done)
    assert Path("spec.abl").read_text() == VAIN + "freeze mlp\n"


def test_a_folder_that_cant_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    put("spec.abl", VAIN)
    monkeypatch.setattr("ablc.cache.write_atomically", refused)
    with pytest.raises(UserError, match=r"spec.abl can't be written: permission denied"):
        ablc_check("spec.abl", fix=True)
    assert Path("spec.abl").read_text() == VAIN


# --- explain ---------------------------------------------------------------------------------------------------------


def test_explain_shows_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain_command("erased") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("warning[erased]\n\nA later statement takes back") and "```" not in shown
    assert '\n    model = "EleutherAI/pythia-70m"\n' in shown


@pytest.mark.parametrize("pasted", ["ERASED", "warning[erased]", "warning[erased]:", " erased "])
def test_explain_takes_what_an_error_begins_with(capsys: pytest.CaptureFixture[str], pasted: str) -> None:
    assert explain_command(pasted) == 0
    assert capsys.readouterr().out.startswith("warning[erased]")


def test_explain_lists_all_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain_command(None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[code, level(code)] for code in codes()]


def test_explain_knows_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain_command("unread-parameter") == 2
    assert "did you mean `unread-parameters`?" in capsys.readouterr().err
