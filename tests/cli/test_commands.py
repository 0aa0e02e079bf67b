"""The commands as a shell sees them: output, exit codes, pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, SPECS, ablc, counted

from ablc.cli.app import app

MODEL = 'model = "EleutherAI/pythia-70m"\n'
ONE_LINER = "attention[0:3]=full; attention[3:]=lora(8); mlp[12:18]=lora_mlp(16)"
GOLDENS = Path(__file__).resolve().parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = {
        "good": "mlp = lora(8)\nexpect layers.mlp == 6",
        "fails": "expect params == 1",
        "warns": "mlp = none\nmlp = lora(8)",
        "family": "vary r = 8, 16\nmlp = lora(r)\nexpect params.mlp < 60_000",
        "broken": "mlp = lroa(8)",
        "runs": 'expect eval_loss < "good.abl"',
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.abl").write_text(MODEL + text)
    return tmp_path


# --- params ----------------------------------------------------------------------------------------------------------


def test_params_shows_a_row_a_model_and_a_total() -> None:
    done = ablc("params", SPECS / "18.abl", SPECS / "25.abl")
    head, first, second, total = done.stdout.splitlines()
    assert head.split() == ["file", "name", "base", "parameters", "trainable", "change", "expect"]
    assert "220,353,704" in first and "-45.64 %" in first and "all 2 hold" in first
    assert "405,334,016" in second and "353,822,720" in second and "2 hold, 1 need runs" in second
    assert total == "2 models in 2 files · claims: 4 hold, 1 need runs"
    assert (done.returncode, done.stderr) == (0, "")


def test_params_as_json_has_exactly_these_fields() -> None:
    done = ablc("params", "specs/18.abl", "--format", "json")
    (spec,) = (data := json.loads(done.stdout))["specs"]
    assert list(data) == ["format_version", "specs"] and data["format_version"] == "1.0"
    assert spec == {
        "file": "specs/18.abl",
        "name": "3-layers-partial-linear-lora-12-nonlinear-lora-8-256-attention-18",
        "variant": None,
        "model": "EleutherAI/pythia-410m",
        "params": 220_353_704,
        "trainable": 220_353_704,
        "base_params": 405_334_016,
        "flops_per_token": spec["flops_per_token"],
        "expect": [
            {"text": "expect params == 220_353_704", "holds": True, "actual": 220_353_704},
            {"text": "expect layers.mlp == 12", "holds": True, "actual": 12},
        ],
    }
    assert list(spec) == "file name variant model params trainable base_params flops_per_token expect".split()


def test_flops_depend_on_the_length_that_is_asked_for() -> None:
    short, long = (counted(SPECS / "01.abl", "--length", n)[0]["flops_per_token"] for n in ("1", "1001"))
    assert long - short == 1000 * 4 * 1024 * 24


def test_a_family_gives_an_entry_a_variant(folder: Path) -> None:
    found = counted(folder / "family.abl")
    assert [(one["name"], one["variant"]) for one in found] == [("family", "r=8"), ("family", "r=16")]
    assert [one["expect"][0]["holds"] for one in found] == [True, False]
    (one,) = counted(f"{folder}/family.abl@r=16")
    assert one["variant"] == "r=16"


def test_what_needs_runs_neither_holds_nor_fails(folder: Path) -> None:
    (one,) = counted(folder / "runs.abl")
    assert one["expect"] == [{"text": 'expect eval_loss < "good.abl"', "holds": None, "actual": None}]


def test_a_folder_means_the_specs_in_it() -> None:
    assert [one["file"] for one in counted("specs")] == [f"specs/{number:02}.abl" for number in range(1, 27)]


def test_an_invalid_spec_leaves_the_others_counted(folder: Path) -> None:
    done = ablc("params", "broken.abl", "good.abl", "missing.abl", "--format", "json", cwd=folder)
    assert done.returncode == 2
    assert [one["file"] for one in json.loads(done.stdout)["specs"]] == ["good.abl"]
    assert "error[unknown-operation]" in done.stderr and "error[cannot-read]" in done.stderr
    human = ablc("params", "broken.abl", "good.abl", cwd=folder)
    assert human.returncode == 2 and "1 model in 2 files · 1 invalid" in human.stdout


def test_the_owners_one_liner() -> None:
    (one,) = counted("-e", ONE_LINER, "--model", "EleutherAI/pythia-410m")
    qkv, pair = 1024 * 3072 + 3072, 1024 * 8 + 8 + 8 * 3072 + 3072
    up, down = 1024 * 4096 + 4096, 4096 * 1024 + 1024
    pairs = (1024 * 16 + 16 + 16 * 4096 + 4096) + (4096 * 16 + 16 + 16 * 1024 + 1024)
    assert one["params"] == 405_334_016 - 21 * (qkv - pair) - 6 * (up + down - pairs)


def test_a_model_directory_given_to_a_command_counts_from_where_it_was_typed(folder: Path) -> None:
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text('{"model_type": "gpt_neox", "num_hidden_layers": 2}')
    (folder / "inner").mkdir()
    (folder / "inner" / "spec.abl").write_text("mlp = lora(8)")
    assert ablc("params", "inner/spec.abl", "--model", "./base", cwd=folder).returncode == 0


# --- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "args", "code"),
    [
        ("params", ["good.abl"], 0),
        ("params", ["warns.abl"], 0),
        ("params", ["runs.abl"], 0),
        ("params", ["fails.abl", "good.abl"], 1),
        ("params", ["fails.abl", "broken.abl"], 2),
        ("params", ["missing.abl"], 2),
        ("params", [], 2),
        ("params", ["good.abl", "--format", "xml"], 2),
        ("params", ["good.abl", "--length", "0"], 2),
        ("params", ["family.abl@r=9"], 2),
        ("params", [".@r=9"], 2),
        ("params", ["x" * 300], 2),
        ("plan", ["good.abl"], 0),
        ("plan", ["fails.abl"], 1),
        ("plan", ["broken.abl"], 2),
        ("plan", [], 2),
        ("check", ["good.abl", "warns.abl"], 0),
        ("check", ["fails.abl"], 1),
        ("check", ["broken.abl"], 2),
        ("check", [], 2),
        ("nonsense", [], 2),
    ],
)
def test_exit_codes(folder: Path, command: str, args: list[str], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["ablc", command, *args])
    with pytest.raises(SystemExit) as ended:
        app()
    assert ended.value.code == code


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("fails", 1), ("broken", 2)])
def test_exit_codes_reach_the_shell(folder: Path, name: str, code: int) -> None:
    assert ablc("check", f"{name}.abl", cwd=folder).returncode == code


def test_nothing_given_says_how() -> None:
    assert "error[no-spec]" in ablc("params").stderr


def test_the_version_is_told() -> None:
    from ablc import __version__

    assert ablc("--version").stdout == f"ablc {__version__}\n"


# --- plan and check --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["18", "24"])
def test_plan_output(number: str, update_goldens: bool) -> None:
    done = ablc("plan", f"specs/{number}.abl")
    golden = GOLDENS / f"plan-{number}.txt"
    if update_goldens:
        golden.write_text(done.stdout, encoding="utf-8")
    assert done.stdout == golden.read_text(encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")


def test_plan_tells_what_a_statement_erased() -> None:
    done = ablc("plan", "-e", "attention.out = none\nattention[3:] = lora(8)", "-m", "EleutherAI/pythia-70m")
    assert "line 2 erased -e:1 attention.out = none in [3:]" in done.stdout


@pytest.mark.parametrize("command", ["params", "plan"])
def test_a_comment_allows_a_warning_in_every_command(folder: Path, command: str) -> None:
    assert "warning[erased]" in ablc(command, "warns.abl", cwd=folder).stderr
    allowed = "mlp = none  # ablc: allow erased it is shown\nmlp = lora(8)"
    (folder / "warns.abl").write_text(MODEL + allowed)
    (folder / "extends.abl").write_text('extends "warns.abl"\nattention = lora(8)')
    for name in ("warns.abl", "extends.abl"):
        assert ablc(command, name, cwd=folder).stderr == ""


def test_plan_as_json_reads_back() -> None:
    from ablc.planning import Plan

    data = json.loads(ablc("plan", "specs/18.abl", "specs/25.abl", "--format", "json").stdout)
    assert [Plan.from_json(plan).name[-2:] for plan in data["plans"]] == ["18", "25"]


def test_plan_shows_every_layer_when_asked() -> None:
    lines = ablc("plan", "specs/18.abl", "--layers").stdout.splitlines()
    start = next(n for n, line in enumerate(lines) if line.split() == ["layer", "base", "this"])
    assert [line.split()[0] for line in lines[start + 1 : start + 25]] == [str(layer) for layer in range(24)]


def test_check_tells_warnings_errors_and_failed_claims(folder: Path) -> None:
    done = ablc("check", "broken.abl", "warns.abl", "fails.abl", cwd=folder)
    assert done.stdout == "3 files: 1 error, 1 warning, 1 failed claim\n"
    for code in ("error[unknown-operation]", "warning[erased]", "error[claim-fails]"):
        assert code in done.stderr


def test_a_recipe_is_a_file_that_checks_clean() -> None:
    done = ablc("check", "ablc/recipes/local.abl")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_without_specs_is_told_as_that(tmp_path: Path) -> None:
    done = ablc("params", tmp_path)
    assert done.returncode == 2 and done.stderr == f"error[no-spec]: there is no spec (*.abl) in {tmp_path}\n\n"


def test_many_faults_are_cut_with_a_count(folder: Path) -> None:
    (folder / "many.abl").write_text(MODEL + "mlp = lroa(8)\n" * 200)
    done = ablc("check", "many.abl", cwd=folder)
    assert done.stderr.count("error[") == 50 and "150 more in many.abl" in done.stderr


# --- terminals and pipes ---------------------------------------------------------------------------------------------


def test_what_is_piped_is_plain_and_whole(folder: Path) -> None:
    name = "n" * 300
    (folder / "long.abl").write_text(f'name = "{name}"\n{MODEL}')
    done = ablc("params", "long.abl", "broken.abl", cwd=folder, FORCE_COLOR="", COLUMNS="40")
    assert name in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def on_a_terminal(args: list[str], cwd: Path, **env: str) -> str:
    """What a command writes to a terminal."""
    code = (
        "import os, pty, sys\n"
        "os.environ.update(COLUMNS='200', TERM='xterm-256color', PYTHONUTF8='1')\n"
        "sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, '-m', 'ablc', *sys.argv[1:]])))\n"
    )
    surroundings = {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, **env}
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(
        command, cwd=cwd, env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    return done.stdout.decode()


def test_a_terminal_gets_colour_unless_it_asks_for_none(folder: Path) -> None:
    assert "\x1b[1;31m" in on_a_terminal(["check", "broken.abl"], folder)
    shown = on_a_terminal(["check", "broken.abl"], folder, NO_COLOR="1")
    assert "error[unknown-operation]" in shown and "\x1b[31m" not in shown and "1;31" not in shown


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    command = [sys.executable, "-m", "ablc", "plan", "specs"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    told = process.stderr.read()
    assert process.wait(timeout=60) == 141 and told == ""


@pytest.mark.parametrize("command", ["params", "check"])
def test_an_output_that_takes_nothing_is_told(command: str) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = [sys.executable, "-m", "ablc", command, "specs/18.abl"]
        done = subprocess.run(process, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "error[failed]: the output can't be written: no space left on device\n\n"


def test_what_cant_be_read_isnt_told_as_what_cant_be_written(tmp_path: Path) -> None:
    name = f"/{'x' * 300}"
    spec = str(ROOT / "specs" / "18.abl")
    done = ablc("run", spec, "--recipe", "local", "--set", f"train.data={name}", cwd=tmp_path)
    assert done.returncode == 2 and f"{name}: file name too long" in done.stderr and "Traceback" not in done.stderr


def test_a_file_cant_write_to_the_terminal_through_its_name(folder: Path) -> None:
    (folder / "name.abl").write_text(f'name = "a\x1b[31mb"\n{MODEL}')
    assert "\x1b" not in ablc("params", "name.abl", cwd=folder).stdout


def test_an_output_that_knows_only_ascii_is_no_reason_to_crash(folder: Path) -> None:
    done = ablc("plan", "good.abl", cwd=folder, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
