"""`ablc calibrate` as a user meets it: what it records, and what it refuses before it begins."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from based import SPEC
from safetensors.torch import load_file
from typer.testing import CliRunner

import ablc
from ablc.cli.app import app
from ablc.cli.calibrate import CalibrateOptions, calibrate_command
from ablc.cli.output import answer
from ablc.patching import start_from
from ablc.patching.patch import shapes_of
from ablc.planning import Plan
from ablc.train.fitting import REMOVED, Fit

torch.set_num_threads(1)
Run = Callable[..., int]


@pytest.fixture
def run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """`ablc calibrate small.abl FLAGS` in this process; gives the exit code."""
    monkeypatch.setenv("ABLC_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)
    handler = signal.getsignal(signal.SIGTERM)

    def started(path: str = "small.abl", **flags: Any) -> int:
        known = {"batches": 24, "steps": 60, "lr": 3e-3, "out": tmp_path / "out"}
        return answer(lambda: calibrate_command(path, None, CalibrateOptions(**{**known, **flags})))

    yield started
    signal.signal(signal.SIGTERM, handler)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_what_it_says_and_records(run: Run, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    out, said = tmp_path / "out", read(tmp_path / "out" / "run.json")
    known = said["calibration"]
    assert said["status"] == "finished" and said["model"] == str(place / "base")
    assert (said["scale"], said["settings"]["tokenizer"], said["settings"]["init"]) == ("full", "base", "svd")
    assert (known["batches"], known["steps"], known["lr"]) == (24, 60, 3e-3)
    assert known["teacher_loss"] < known["student_after"] < known["student_before"]
    assert said["final"]["eval_loss"] == known["student_after"]
    assert [block["note"] for block in known["blocks"]] == [REMOVED, "", "", "", "", ""]
    assert all(block["after"] < block["before"] for block in known["blocks"][1:])
    plan = Plan.from_json(read(out / "plan.json"))
    weights = load_file(out / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == shapes_of(plan.blueprint)
    assert [row["note"] for row in read(out / "init.json")] == ["", "", "", "", "not a matrix"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 3, 4, 5, 6, 6]
    shown = capsys.readouterr().out
    assert "6 modules of" in shown and "5 to be fitted; 4 start as svd" in shown
    for who, loss in (
        ("teacher ", "teacher_loss"),
        ("student before", "student_before"),
        ("student after", "student_after"),
    ):
        assert any(line.startswith(who) and f"{known[loss]:.4f}" in line for line in shown.splitlines())


def test_the_weights_are_the_calibrated_ones(run: Run, place: Path, tmp_path: Path) -> None:
    assert run() == 0
    start, _ = start_from(ablc.plan(ablc.load(place / "small.abl")), place / "base", init="svd")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    changed = {name for name, value in start.named_parameters() if not torch.equal(value, weights[name])}
    fitted = tuple(f"{block['path']}." for block in read(tmp_path / "out" / "run.json")["calibration"]["blocks"][1:])
    assert changed and all(name.startswith(fitted) for name in changed)
    assert {name for name in weights if name.startswith(fitted) and name.endswith("weight")} <= changed


def test_two_of_one_seed_are_equal_and_it_can_be_run_from_anywhere(
    run: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run() == 0
    monkeypatch.chdir(tmp_path)
    texts = f"train.data={json.dumps(str(place / 'texts'))}"
    assert run(str(place / "small.abl"), out=Path("two"), settings=[texts]) == 0
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_too_few_positions_are_told(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["train.batch_size=1", "train.block_size=4"]
    assert run(batches=1, steps=5, settings=few) == 2
    said = capsys.readouterr()
    assert "a calibration on 4 positions has none to measure at" in said.err
    assert not (tmp_path / "out" / "run.json").exists()
    assert run(batches=2, steps=5, settings=few) == 0


def test_what_is_frozen_isnt_counted_as_to_be_fitted(run: Run, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        'model = "./base"\ntrain.data = "./texts"\nattention.qkv = lora(8)\nmlp.up[0] = lora(8)\nfreeze attention.qkv\n'
    )
    (place / "frozen.abl").write_text(text)
    assert run("frozen.abl", batches=2, steps=5) == 0
    assert ", 1 to be fitted" in capsys.readouterr().out
    (place / "frozen.abl").write_text(text.replace("mlp.up[0] = lora(8)", "freeze mlp"))
    assert run("frozen.abl", batches=2, steps=5, out=Path("other")) == 2
    assert "or it is frozen" in capsys.readouterr().err


def test_how_far_tokenising_is_can_be_seen(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, float | None]] = []

    @contextmanager
    def watched() -> Iterator[Callable[..., None]]:
        yield lambda *word: told.append(word)

    monkeypatch.setattr("ablc.cli.calibrate.tokenising", watched)
    monkeypatch.setenv("ABLC_CACHE", str(tmp_path / "one"))
    assert run(batches=1, steps=1) == 0
    assert [(part, share) for part, _, share in told] == [("train", 1.0), ("validation", 1.0)]
    (tmp_path / "out" / "model.safetensors").unlink()
    monkeypatch.setenv("ABLC_CACHE", str(tmp_path / "two"))
    assert answer(lambda: calibrate_command(None, tmp_path / "out", CalibrateOptions())) == 0
    assert len(told) == 4


def test_its_help_says_what_the_flags_are_otherwise() -> None:
    said = " ".join(CliRunner().invoke(app, ["calibrate", "--help"]).stdout.split())
    assert f"fitted on: {Fit.batches} " in said and f"inside: {Fit.steps} " in said
    assert float(said.split("learning rate: ")[1].split()[0]) == Fit.lr


def test_what_is_refused(run: Run, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fault(text: str | None = None, **flags: Any) -> str:
        (place / "other.abl").write_text(text if text is not None else SPEC)
        assert run("other.abl", **flags) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    assert "error[bad-setting]: a calibration needs train.scale = full" in fault(settings=["train.scale=1/2"])
    assert "error[unknown-recipe-key]" in fault(settings=["train.lrr=1"])
    assert "error[nothing-to-fit]" in fault(SPEC.split("attention.qkv")[0] + "mlp[0] = none")
    assert "error[is-a-family]" in fault("vary r = 2, 3\n" + SPEC.replace("lora(8)", "lora(r)"))
    assert "error[unknown-model]" in fault(SPEC.replace("./base", "./nowhere"))
    (place / "empty").mkdir(exist_ok=True)
    (place / "empty" / "config.json").write_text((place / "base" / "config.json").read_text())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (place / "empty" / name).write_text((place / "base" / name).read_text())
    assert "error[no-weights]" in fault(SPEC.replace("./base", "./empty"))
    assert "error[no-data]" in fault(SPEC.replace("./texts", "./no-texts"))


def test_a_directory_that_holds_a_run_is_left_alone(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{}")
    assert run(batches=1) == 2
    assert "error[no-record]" in capsys.readouterr().err
    assert (tmp_path / "out" / "run.json").read_text() == "{}"


def test_another_tokenizer_than_the_bases_own_is_told(
    run: Run, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(batches=1, steps=1, settings=[f"train.tokenizer={json.dumps(str(place / 'base'))}"]) == 0
    assert "warning[other-tokenizer]" in capsys.readouterr().err
