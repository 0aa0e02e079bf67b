"""A calibration that was stopped, however it was stopped, ends as if it never had been: bit by bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from based import SPEC
from filelock import FileLock
from forked import finish, start
from safetensors.torch import load_file, save_file

from ablc.cli.calibrate import CalibrateOptions, calibrate_command
from ablc.cli.output import answer
from ablc.cli.run import RunOptions, run_command
from ablc.train import calibrate, checkpoints

torch.set_num_threads(1)
FLAGS: dict[str, Any] = {"batches": 24, "steps": 60, "lr": 3e-3}
EACH_BLOCK = {"ablc.train.calibrate:LONGEST_UNSAVED": -1.0}
Run = Callable[..., int]


@pytest.fixture
def surroundings(place: Path) -> dict[str, str]:
    return {"ABLC_CACHE": str(place / "cache")}


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own folder, with a spec, a base and texts that it may change."""
    for name in ("base", "texts"):
        shutil.copytree(place / name, tmp_path / name)
    shutil.copy(place / "small.abl", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here: Path, surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`ablc calibrate small.abl --out out`, or with `resume` `ablc calibrate --resume out`, in this process."""
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    handler = signal.getsignal(signal.SIGTERM)

    def started(out: str = "out", resume: bool = False) -> int:
        if resume:
            return answer(lambda: calibrate_command(None, Path(out), CalibrateOptions()))
        return answer(lambda: calibrate_command("small.abl", None, CalibrateOptions(**FLAGS, out=Path(out))))

    yield started
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def straight(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a calibration that nothing stopped."""
    out = tmp_path_factory.mktemp("straight") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("ABLC_CACHE", str(place / "cache"))
        assert answer(lambda: calibrate_command("small.abl", None, CalibrateOptions(**FLAGS, out=out))) == 0
    return out


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**read(path), **changes}))


def assert_same(out: Path, straight: Path) -> None:
    for name in ("model.safetensors", "metrics.jsonl", "init.json"):
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name
    ended, expected = (read(folder / "run.json") for folder in (out, straight))
    assert ended["status"] == "finished"
    assert [ended[key] for key in ("calibration", "final", "best")] == [
        expected[key] for key in ("calibration", "final", "best")
    ]


def rows(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_text().count("error_after") if path.exists() else 0


def wait_for(found: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


class Interrupt:
    """A function that behaves as Ctrl-C does at its `call`-th call, before what it does or after it."""

    def __init__(self, real: Callable[..., Any], call: int, *, after: bool) -> None:
        self.real, self.left, self.after = real, call, after

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.left -= 1
        if not self.left and not self.after:
            raise KeyboardInterrupt
        result = self.real(*args, **named)
        if not self.left:
            raise KeyboardInterrupt
        return result


MOMENTS = {
    "at the first loss": ("ablc.train.calibrate._loss", 1),
    "at the last loss": ("ablc.train.calibrate._loss", 3),
    "at the start of a fit": ("ablc.train.fitting.inputs_of", 3),
    "while a fit is measured": ("ablc.train.fitting.error_of", 6),
    "while what a block became is copied": ("ablc.train.calibrate._weights_at", 4),
    "while the weights are written": ("ablc.train.calibrate.save_weights", 1),
    "while a fit is counted": ("ablc.train.calibrate._Done.and_one", 3),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupted(
    moment: str,
    after: bool,
    run: Run,
    here: Path,
    straight: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A fit may be whole in the model already while nothing says so: then it must be done again, from its start."""
    from pkgutil import resolve_name

    place, call = MOMENTS[moment]
    owner, _, name = place.rpartition(".")
    real = getattr(resolve_name(owner), name)
    stop = Interrupt(real, call, after=after)
    with monkeypatch.context() as patch:
        patch.setattr(resolve_name(owner), name, lambda *args, **named: stop(*args, **named))
        assert run() == 130
    assert capsys.readouterr().out.rstrip().endswith("interrupted; go on with: ablc calibrate --resume out")
    facts = read(here / "out" / "run.json")
    assert facts["status"] == "interrupted" and facts["final"] is None
    done = len(facts["calibration"].get("blocks", []))
    assert run(resume=True) == 0
    said = capsys.readouterr().out
    assert (f"goes on after block {done} of 6" in said) == bool(done)
    assert_same(here / "out", straight)


def test_what_was_done_is_not_done_again(run: Run, here: Path, straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(calibrate, "_weights_at", Interrupt(calibrate._weights_at, 5, after=False))
        assert run() == 130
    expected = read(straight / "run.json")["calibration"]["blocks"]
    assert read(here / "out" / "run.json")["calibration"]["blocks"] == expected[:4]
    assert not (here / "out" / "model.safetensors").exists()
    counted: list[str] = []
    real = calibrate._weights_at
    monkeypatch.setattr(calibrate, "_weights_at", lambda model, path: counted.append(path) or real(model, path))
    assert run(resume=True) == 0
    assert counted == [block["path"] for block in expected[4:]]
    assert len(read(here / "out" / "environment.json")["before"]) == 1


def interrupted(run: Run, call: int = 5) -> None:
    """Four blocks done, each with its checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "LONGEST_UNSAVED", -1.0)
        patch.setattr(calibrate, "_weights_at", Interrupt(calibrate._weights_at, call, after=False))
        assert run() == 130


def test_a_damaged_checkpoint_is_set_aside(
    run: Run, here: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(run)
    older, newest = sorted((here / "out" / "checkpoints").iterdir())
    content = (newest / checkpoints.WEIGHTS).read_bytes()
    (newest / checkpoints.WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run(resume=True) == 0
    said = capsys.readouterr().out
    assert f"checkpoints/{newest.name} is damaged" in said and "goes on after block 3 of 6" in said
    assert (newest.with_name(f"damaged-{newest.name}")).exists() and older.name == "step-00000003"
    assert_same(here / "out", straight)


def test_without_any_checkpoint_it_begins_again(run: Run, here: Path, straight: Path) -> None:
    interrupted(run)
    shutil.rmtree(here / "out" / "checkpoints")
    (here / "out" / "init.json").unlink()
    assert run(resume=True) == 0
    assert_same(here / "out", straight)


def test_half_a_line_of_metrics_and_half_a_checkpoint(run: Run, here: Path, straight: Path) -> None:
    interrupted(run)
    (here / "out" / "metrics.jsonl").write_text((here / "out" / "metrics.jsonl").read_text()[:-20])
    newest = max((here / "out" / "checkpoints").iterdir())
    newest.rename(newest.with_name(".partial"))
    edit(here / "out" / "run.json", status="running")
    assert run(resume=True) == 0
    assert_same(here / "out", straight)


# --- real processes --------------------------------------------------------------------------------------------------


COMMAND = ["calibrate", "small.abl", *(part for key, value in FLAGS.items() for part in (f"--{key}", str(value)))]


@pytest.fixture
def begin(here: Path, surroundings: dict[str, str]) -> Callable[..., Any]:
    def started(*arguments: str, **options: Any) -> Any:
        return start(list(arguments) or [*COMMAND, "--out", "out"], here, surroundings, **options)

    return started


# Each block takes a while here, so that most kills meet one.
DESCENDED = SPEC.split("mlp[0]")[0] + "mlp = nonlinear_lora(16)\nattention.qkv = nonlinear_lora(8)\n"
DESCENDED += SPEC[SPEC.index("train.data") :]
SLOW = ["calibrate", "descended.abl", "--batches", "8", "--steps", "150", "--lr", "3e-3"]


@pytest.fixture(scope="session")
def descended(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `alone`, of another spec."""
    (place / "descended.abl").write_text(DESCENDED)
    out = tmp_path_factory.mktemp("descended") / "out"
    code, said = finish(start([*SLOW, "--out", str(out)], place, {"ABLC_CACHE": str(place / "cache")}), place)
    assert code == 0, said
    return out


@pytest.fixture(scope="session")
def alone(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `straight`, in a process of its own: it has as many threads as the others, on which the last bits depend."""
    out = tmp_path_factory.mktemp("alone") / "out"
    code, said = finish(start([*COMMAND, "--out", str(out)], place, {"ABLC_CACHE": str(place / "cache")}), place)
    assert code == 0, said
    return out


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_many_moments(seed: int, begin: Callable[..., Any], here: Path, descended: Path) -> None:
    """A checkpoint is written after each block here, so that some kills meet the writing of one."""
    chance, out, kills = random.Random(seed), here / "out", 0
    (here / "descended.abl").write_text(DESCENDED)
    process = begin(*SLOW, "--out", "out", settings=EACH_BLOCK)
    wait_for(lambda: (out / "run.json").exists())
    while process.is_alive() and kills < 15:
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        before = rows(out)
        process = begin("calibrate", "--resume", "out", settings=EACH_BLOCK)
        if chance.random() < 0.8:
            wait_for(lambda started=process, before=before: not started.is_alive() or rows(out) > before)
    code, said = finish(process, here)
    assert code == 0, said
    assert "Traceback" not in said and "goes on after block" in said and kills >= 2
    assert_same(out, descended)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_real_signal(number: signal.Signals, begin: Callable[..., Any], here: Path, descended: Path) -> None:
    (here / "descended.abl").write_text(DESCENDED)
    process = begin(*SLOW, "--out", "out")
    wait_for(lambda: rows(here / "out") >= 2)
    os.kill(process.pid, number)
    code, said = finish(process, here)
    assert code == 130, said
    assert "interrupted; go on with: ablc calibrate --resume out" in said and "Traceback" not in said
    assert read(here / "out" / "run.json")["status"] == "interrupted"
    code, said = finish(begin("calibrate", "--resume", "out"), here)
    assert code == 0, said
    assert "goes on after block" in said
    assert_same(here / "out", descended)


def test_a_disk_too_full_for_checkpoints(begin: Callable[..., Any], here: Path, alone: Path) -> None:
    code, said = finish(begin(largest_file=30_000, settings=EACH_BLOCK), here)
    assert code == 1, said
    assert "the checkpoint of step 1 couldn't be written" in said and "the weights could not be saved" in said
    assert "go on with: ablc calibrate --resume out" in said.replace("gone on with", "go on with")
    assert "Traceback" not in said
    facts = read(here / "out" / "run.json")
    assert facts["status"] == "failed" and "could not be saved" in facts["error"]
    code, said = finish(begin("calibrate", "--resume", "out"), here)
    assert code == 0, said
    assert_same(here / "out", alone)
    assert "error" not in read(here / "out" / "run.json")


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What `ablc calibrate --resume out` says where it refuses, which must leave the record as it was."""

    def told() -> str:
        before = (here / "out" / "run.json").read_bytes()
        capsys.readouterr()
        assert run(resume=True) == 2
        assert (here / "out" / "run.json").read_bytes() == before
        return capsys.readouterr().err

    return told


def test_a_finished_one_has_nothing_to_go_on_with(
    run: Run, here: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(straight, here / "out")
    assert run(resume=True) == 0
    assert "the calibration in out is finished: there is nothing to go on with" in capsys.readouterr().out
    assert_same(here / "out", straight)


def test_a_run_and_a_calibration_are_told_apart(
    run: Run, refused: Callable[[], str], here: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(straight, here / "out")
    assert answer(lambda: run_command(None, Path("out"), RunOptions())) == 2
    said = capsys.readouterr().err
    assert "out holds a calibration" in said and "ablc calibrate --resume out" in said
    assert run() == 2
    assert "go on with it: ablc calibrate --resume out" in capsys.readouterr().err
    facts = read(here / "out" / "run.json")
    del facts["calibration"]
    (here / "out" / "run.json").write_text(json.dumps(facts))
    said = refused()
    assert "out holds a run, and no calibration" in said and "ablc run --resume out" in said


def test_changed_data(run: Run, refused: Callable[[], str], here: Path) -> None:
    interrupted(run)
    with (here / "texts" / "train.txt").open("a") as file:
        file.write("w1 w2\n")
    assert "the data of the run in out has changed since it began" in refused()


def test_a_changed_tokenizer(run: Run, refused: Callable[[], str], here: Path) -> None:
    interrupted(run)
    content = read(here / "base" / "tokenizer.json")
    words = content["model"]["vocab"]
    words["w0"], words["w1"] = words["w1"], words["w0"]
    (here / "base" / "tokenizer.json").write_text(json.dumps(content))
    assert "the tokenizer of the run in out has changed since it began" in refused()


def test_a_changed_base(run: Run, refused: Callable[[], str], here: Path) -> None:
    interrupted(run)
    (file,) = (here / "base").glob("*.safetensors")
    weights = load_file(file)
    save_file({name: value * 1.01 for name, value in weights.items()}, file, metadata={"format": "pt"})
    said = refused()
    assert f"the weights of {here / 'base'} have changed since the calibration began" in said


def test_another_plan(run: Run, refused: Callable[[], str], here: Path) -> None:
    interrupted(run)
    facts = read(here / "out" / "run.json")
    edit(here / "out" / "run.json", trained_fingerprint="0" * 64)
    assert "out holds the plan of another run" in refused()
    edit(here / "out" / "run.json", trained_fingerprint=facts["trained_fingerprint"])
    for folder in (here / "out" / "checkpoints").iterdir():
        state = read(folder / checkpoints.STATE)
        del state["hash"]
        state["fingerprint"] = "0" * 64
        state["hash"] = checkpoints._hash_of(state)
        (folder / checkpoints.STATE).write_text(json.dumps(state))
    assert "the checkpoint of block 4 is of another plan" in refused()


def test_settings_of_another_version(run: Run, refused: Callable[[], str], here: Path) -> None:
    interrupted(run)
    edit(here / "out" / "run.json", calibration={"batches": 24})
    assert "the calibration in out is of another version of ablc" in refused()


def test_a_second_process(run: Run, refused: Callable[[], str], here: Path, straight: Path) -> None:
    interrupted(run)
    with FileLock(here / "out" / ".lock"):
        assert "another process is writing the run in out" in refused()
    assert run(resume=True) == 0
    assert_same(here / "out", straight)


@pytest.mark.parametrize(
    ("path", "options", "sentence"),
    [
        ("small.abl", {}, "keeps the spec and the flags it began with"),
        (None, {"steps": 60}, "keeps the spec and the flags it began with"),
        (None, {"settings": ["train.block_size=8"]}, "keeps the spec and the flags it began with"),
        (None, {"out": Path("other")}, "keeps the spec and the flags it began with"),
        (None, {}, "there is no run in nowhere"),
    ],
)
def test_flags_that_would_change_it(
    path: str | None, options: dict[str, Any], sentence: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(lambda: calibrate_command(path, Path("nowhere"), CalibrateOptions(**options))) == 2
    assert sentence in capsys.readouterr().err
    assert not (here / "nowhere").exists()


def test_neither_a_spec_nor_a_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(lambda: calibrate_command(None, None, CalibrateOptions())) == 2
    assert "no spec is given" in capsys.readouterr().err
