"""A run that was stopped, however it was stopped, ends as if it never had been: bit by bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import finish, start
from safetensors.torch import load_file
from tokenizers import Tokenizer

from ablc.train import checkpoints
from ablc.train.checkpoints import Checkpoints

SPEC = """\
name = "small"
model = "EleutherAI/pythia-14m"(hidden_size = 64, intermediate_size = 64, num_hidden_layers = 2)
attention[0] = none
mlp = lora(8)
train.scale = "1/2"
train.block_size = 32
train.batch_size = 4
train.eval_blocks = 4
train.eval_every = 5
train.save_every = 1
train.warmup_steps = 0
"""
STEPS = 40
Start = Callable[..., Any]


@pytest.fixture
def begin(cache: Path, tmp_path: Path) -> Start:
    """Start `ablc run small.abl … --out out`, or any other command, in the test's folder."""
    (tmp_path / "small.abl").write_text(SPEC)

    def started(*arguments: str, **options: Any) -> Any:
        known = ["run", "small.abl", "--recipe", "local", "--steps", str(STEPS), "--out", "out"]
        return start(list(arguments) or known, tmp_path, {"ABLC_CACHE": str(cache)}, **options)

    return started


@pytest.fixture
def again(begin: Start) -> Start:
    return lambda **options: begin("run", "--resume", "out", **options)


@pytest.fixture(scope="module")
def straight(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("straight")
    (folder / "small.abl").write_text(SPEC)
    arguments = ["run", "small.abl", "--recipe", "local", "--steps", str(STEPS), "--out", "out"]
    code, said = finish(start(arguments, folder, {"ABLC_CACHE": str(cache)}), folder)
    assert code == 0, said
    return folder / "out"


def untimed(folder: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in entry.items() if not key.endswith("_per_second")} for entry in entries]


def assert_same(folder: Path, straight: Path) -> None:
    assert untimed(folder) == untimed(straight)
    assert (folder / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()
    ended, expected = (json.loads((f / "run.json").read_text()) for f in (folder, straight))
    assert ended["status"] == "finished"
    assert [ended[key] for key in ("final", "best", "steps")] == [expected[key] for key in ("final", "best", "steps")]


def wait_for(found: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def lines(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for_more(process: Any, out: Path, chance: random.Random) -> None:
    """Until a process has taken a step or ended; now and then not at all."""
    before = lines(out)
    if chance.random() < 0.8:
        wait_for(lambda: not process.is_alive() or lines(out) > before)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_many_moments(seed: int, begin: Start, again: Start, tmp_path: Path, straight: Path) -> None:
    """Checkpoints are written after each step here, so that most kills meet the writing of one."""
    chance = random.Random(seed)
    out = tmp_path / "out"
    process, kills = begin(), 0
    wait_for(lambda: lines(out) > 1)
    while process.is_alive():
        time.sleep(chance.uniform(0.0, 0.15))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        process = again()
        wait_for_more(process, out, chance)
    code, said = finish(process, tmp_path)
    assert code == 0, said
    assert "Traceback" not in said
    assert kills >= 4
    assert_same(out, straight)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_interrupted_after_a_step(
    number: signal.Signals, begin: Start, again: Start, tmp_path: Path, straight: Path
) -> None:
    process = begin()
    wait_for(lambda: lines(tmp_path / "out") > 7)
    os.kill(process.pid, number)
    code, said = finish(process, tmp_path)
    assert code == 130, said
    assert "stopping after this step" in said and "ablc run --resume out" in said
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert facts["status"] == "interrupted" and facts["final"]["eval_loss"] > 0
    code, said = finish(again(), tmp_path)
    assert code == 0, said
    assert_same(tmp_path / "out", straight)


@pytest.fixture
def stopped(straight: Path, tmp_path: Path) -> Path:
    """A run that was killed: its record says `running`, the weights at the end are missing."""
    out = tmp_path / "out"
    shutil.copytree(straight, out)
    (out / "model.safetensors").unlink()
    facts = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    shutil.rmtree(out / "checkpoints" / f"step-{STEPS:08d}")
    return out


def test_half_a_line_of_metrics(stopped: Path, again: Start, tmp_path: Path, straight: Path) -> None:
    whole = (stopped / "metrics.jsonl").read_text()
    (stopped / "metrics.jsonl").write_text(whole[: len(whole) - 30])
    code, said = finish(again(), tmp_path)
    assert code == 0 and f"goes on after step {STEPS - 1}" in said
    assert_same(stopped, straight)


def test_without_any_checkpoint_it_begins_again(stopped: Path, again: Start, tmp_path: Path, straight: Path) -> None:
    shutil.rmtree(stopped / "checkpoints")
    assert finish(again(), tmp_path)[0] == 0
    assert_same(stopped, straight)


def test_a_finished_run_has_nothing_to_go_on_with(straight: Path, again: Start, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path / "out")
    code, said = finish(again(), tmp_path)
    assert code == 0 and "finished" in said
    assert_same(tmp_path / "out", straight)


def test_a_second_process_on_one_run_is_refused(begin: Start, again: Start, tmp_path: Path, straight: Path) -> None:
    process = begin()
    wait_for(lambda: lines(tmp_path / "out") > 1)
    os.kill(process.pid, signal.SIGSTOP)
    code, said = finish(again(), tmp_path)
    os.kill(process.pid, signal.SIGCONT)
    assert code == 2 and "another process is writing the run in out" in said
    assert finish(process, tmp_path)[0] == 0
    assert_same(tmp_path / "out", straight)


def test_a_tokenizer_that_has_changed(begin: Start, again: Start, cache: Path, tmp_path: Path, straight: Path) -> None:
    wanted = json.loads((straight / "run.json").read_text())["vocab_size"]
    made = (cache / "tokenizers").glob("*/tokenizer.json")  # those of other tests too
    file = next(one for one in made if Tokenizer.from_file(str(one)).get_vocab_size() == wanted)
    shutil.copy(file, tmp_path / "tok.json")
    arguments = ["run", "small.abl", "--recipe", "local", "--steps", "3", "--set", "train.tokenizer=tok.json"]
    code, said = finish(begin(*arguments, "--set", "train.scale=full", "--out", "out"), tmp_path)
    assert code == 0, said
    (tmp_path / "out" / "model.safetensors").unlink()
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = dict(zip(vocabulary, reversed(vocabulary.values()), strict=True))
    (tmp_path / "tok.json").write_text(json.dumps(content))
    code, said = finish(again(), tmp_path)
    assert code == 2 and "the tokenizer of the run in out has changed" in said


def test_where_a_run_went_on_is_recorded(stopped: Path, again: Start, tmp_path: Path) -> None:
    first = json.loads((stopped / "environment.json").read_text())
    assert finish(again(), tmp_path)[0] == 0
    environment = json.loads((stopped / "environment.json").read_text())
    assert environment["before"] == [first]
    assert environment["command"][1:] == ["run", "--resume", "out"]


def test_settings_of_another_version(stopped: Path, again: Start, tmp_path: Path) -> None:
    facts = json.loads((stopped / "run.json").read_text())
    (stopped / "run.json").write_text(json.dumps({**facts, "settings": {**facts["settings"], "unheard_of": 1}}))
    code, said = finish(again(), tmp_path)
    assert code == 2 and "take the version of ablc that wrote it" in said and "Traceback" not in said


def test_a_checkpoint_of_another_plan(stopped: Path, again: Start, tmp_path: Path) -> None:
    for folder in sorted((stopped / "checkpoints").iterdir()):
        facts = json.loads((folder / "state.json").read_text())
        weights, optimizer = (load_file(folder / name) for name in (checkpoints.WEIGHTS, checkpoints.OPTIMIZER))
        kept = {key: value for key, value in facts.items() if key not in ("hash", "files")}
        kept_ones = Checkpoints(stopped, keep=9, tell=print)
        kept_ones.save(facts["step"], weights, optimizer, {**kept, "fingerprint": "0" * 64})
        kept_ones.wait()
    code, said = finish(again(), tmp_path)
    assert code == 2 and "is of another plan" in said and "Traceback" not in said
    assert json.loads((stopped / "run.json").read_text())["status"] == "running"


@pytest.mark.parametrize(
    ("key", "sentence"),
    [("data", "has changed since it began"), ("trained_fingerprint", "holds the plan of another run")],
)
def test_what_it_began_with_has_changed(key: str, sentence: str, stopped: Path, again: Start, tmp_path: Path) -> None:
    facts = json.loads((stopped / "run.json").read_text())
    changed = {**facts["data"], "hash": "0"} if key == "data" else "0"
    (stopped / "run.json").write_text(json.dumps({**facts, key: changed}))
    code, said = finish(again(), tmp_path)
    assert code == 2 and sentence in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "--resume", "nowhere"], "there is no run in nowhere"),
        (["run", "--resume", "."], "there is no run in ."),
        (["run", "small.abl", "--resume", "out"], "keeps the spec and the recipe it began with"),
        (["run", "--resume", "out", "--set", "train.lr=1"], "keeps the spec and the recipe it began with"),
        (["run"], "no spec is given"),
    ],
)
def test_refused(arguments: list[str], sentence: str, begin: Start, tmp_path: Path) -> None:
    code, said = finish(begin(*arguments), tmp_path)
    assert code == 2 and sentence in said and "Traceback" not in said


def test_a_disk_too_full_for_checkpoints(begin: Start, again: Start, tmp_path: Path, straight: Path) -> None:
    """The weights and what the optimizer remembers don't fit; the record does, and the run can be gone on with."""
    code, said = finish(begin(largest_file=100_000), tmp_path)
    assert code == 1, said
    assert "the checkpoint of step 1 couldn't be written" in said and "File too large" in said
    assert "the weights could not be saved" in said and "Traceback" not in said
    assert untimed(tmp_path / "out") == untimed(straight)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "failed"
    code, said = finish(again(), tmp_path)
    assert code == 0, said
    assert_same(tmp_path / "out", straight)
    assert "error" not in json.loads((tmp_path / "out" / "run.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "small.abl", "--recipe", "local"], "runs/small/local-seed0 can't be made: permission denied"),
        (["run", "small.abl", "--recipe", "local", "--out", "new"], "new can't be written: "),
        (["run", "--resume", "out"], "out can't be written: permission denied"),
    ],
)
def test_folders_that_cant_be_written(
    arguments: list[str], sentence: str, stopped: Path, cache: Path, tmp_path: Path
) -> None:
    """Told before anything is trained, and nothing of what is there is touched."""
    (tmp_path / "small.abl").write_text(SPEC)
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    for folder in (stopped, tmp_path):
        folder.chmod(0o555)
    # The owner of all files may do anything, unless this is taken from them.
    harmless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command = [*harmless, sys.executable, "-m", "ablc", *arguments]
    environment = {**os.environ, "ABLC_CACHE": str(cache)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    for folder in (stopped, tmp_path):
        folder.chmod(0o755)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert "step 1/" not in done.stdout
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_the_weights_that_are_kept_are_those_of_the_last_step(straight: Path) -> None:
    newest = max((straight / "checkpoints").iterdir())
    last, kept = load_file(straight / "model.safetensors"), load_file(newest / "model.safetensors")
    assert newest.name == f"step-{STEPS:08d}"
    assert all(last[name].equal(kept[name]) for name in last)
