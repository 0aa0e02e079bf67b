"""`ablc calibrate` as a user meets it: what it records, what Ctrl-C leaves, and what it refuses before it begins."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

import ablc
from ablc.cli.calibrate import calibrate_command
from ablc.cli.output import answer
from ablc.patching import start_from
from ablc.patching.patch import shapes_of
from ablc.planning import Plan
from ablc.train import fitting
from ablc.train.fitting import REMOVED

torch.set_num_threads(1)
ROOT = Path(__file__).parents[2]
WORDS = [f"w{number}" for number in range(80)]
BASE = (
    'model = "EleutherAI/pythia-14m"(hidden_size = 32, num_attention_heads = 4, intermediate_size = 64, '
    "vocab_size = 81, num_hidden_layers = 3)\nmlp = full"
)
SPEC = """\
name = "small"
model = "./base"
mlp[0] = none
attention.qkv[1:] = lora(8)
mlp[1] = lora_mlp(6)
mlp[2] = nonlinear_lora(16)
train.data = "./texts"
train.block_size = 16
train.batch_size = 8
train.eval_blocks = 40
"""
Run = Callable[..., int]


def text(lines: int, seed: int) -> str:
    """Lines of words in which the next one mostly follows from the last two, and some words are frequent."""
    rng, said, last = random.Random(seed), [], (0, 1)
    for _ in range(lines * 10):
        follows = (last[0] + 2 * last[1] + 1) % 20
        last = (last[1], follows if rng.random() < 0.8 else int(80 * rng.random() ** 3))
        said.append(WORDS[last[1]])
    return "\n".join(" ".join(said[start : start + 10]) for start in range(0, len(said), 10)) + "\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, a base that was trained on them for a moment, and specs on it."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "texts").mkdir()
    for part, lines in (("train", 600), ("validation", 100)):
        (folder / "texts" / f"{part}.txt").write_text(text(lines, lines))
    tokenizer = Tokenizer(models.WordLevel({"?": 0, **{word: i + 1 for i, word in enumerate(WORDS)}}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    base = ablc.build(ablc.plan(ablc.loads(BASE)), seed=1)
    ids = torch.tensor(tokenizer.encode(text(8000, 1)).ids).reshape(-1, 20)
    optimizer = torch.optim.AdamW(base.parameters(), lr=5e-3)
    for some in ids.split(32):
        base(some, labels=some).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    base.save_pretrained(folder / "base")
    tokenizer.save(str(folder / "base" / "tokenizer.json"))
    (folder / "base" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (folder / "small.abl").write_text(SPEC)
    return folder


@pytest.fixture
def run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """`ablc calibrate small.abl FLAGS` in this process; gives the exit code."""
    monkeypatch.setenv("ABLC_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)
    handler = signal.getsignal(signal.SIGTERM)

    def started(path: str = "small.abl", **flags: Any) -> int:
        defaults = {"recipe": None, "batches": 24, "steps": 60, "lr": 3e-3, "seed": None, "out": tmp_path / "out"}
        return answer(lambda: calibrate_command(path, **{**defaults, "settings": [], **flags}))

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


def test_ctrl_c_keeps_what_was_done(
    run: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(out=tmp_path / "whole") == 0
    calls, real = [0], fitting.error_of

    def measured(*args: Any) -> float:
        calls[0] += 1
        if calls[0] == 6:  # before and after of two blocks, and before of a third
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(fitting, "error_of", measured)
    assert run() == 130
    said = read(tmp_path / "out" / "run.json")
    assert said["status"] == "interrupted" and said["final"] is None
    whole = read(tmp_path / "whole" / "run.json")["calibration"]["blocks"]
    assert said["calibration"]["blocks"] == whole[:3]
    done = tuple(f"{block['path']}." for block in whole[1:3])
    start, _ = start_from(ablc.plan(ablc.load(place / "small.abl")), place / "base", init="svd")
    weights, final = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "whole"))
    for name, value in start.named_parameters():
        assert torch.equal(weights[name], final[name] if name.startswith(done) else value), name
    assert "the blocks that were done are in" in capsys.readouterr().out


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


@pytest.mark.slow
def test_a_real_interrupt(place: Path, tmp_path: Path) -> None:
    arguments = ["small.abl", "--out", str(tmp_path / "out"), "--steps", "100000"]
    surroundings = {**os.environ, "PYTHONUNBUFFERED": "1", "ABLC_CACHE": str(place / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ablc", "calibrate", *arguments]
    with subprocess.Popen(command, cwd=place, env=surroundings, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("5/6"))  # the last block takes 100,000 steps
        process.send_signal(signal.SIGINT)
        assert "the blocks that were done are in" in process.stdout.read()
    assert process.returncode == 130
    said = read(tmp_path / "out" / "run.json")
    assert said["status"] == "interrupted" and len(said["calibration"]["blocks"]) == 5
    assert (tmp_path / "out" / "model.safetensors").exists()
