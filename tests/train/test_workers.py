"""Several processes train as one would: the same losses within rounding, the same record, the same counts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import based
import pytest
import torch
from forked import finish, start
from safetensors.torch import load_file

from ablc.cli import launch
from ablc.train.workers import WorkersError, workers

# A norm that nobody reads, a frozen part, a low-rank head, and one validation block too many to be shared out evenly.
SPEC = """\
name = "small"
model = "EleutherAI/pythia-14m"(hidden_size = 64, intermediate_size = 64, num_hidden_layers = 3)
attention[0] = none
mlp[2] = lora(8)
layer[1] = none
lm_head = lora(16)
freeze mlp[0]
train.scale = "1/2"
train.block_size = 32
train.batch_size = 4
train.accumulation = 2
train.eval_blocks = 5
train.eval_every = 3
train.save_every = 3
train.warmup_steps = 0
"""
# Its head is its embedding, and its pairs start as what is best in place of matrices that nobody holds whole.
TIED = (
    SPEC.replace("lm_head = lora(16)", "attention.qkv[2] = lora(8); mlp.up[0] = lora(3)")
    .replace(
        '"EleutherAI/pythia-14m"(',
        '"llama-3.1-8b"(tie_word_embeddings = true, num_attention_heads = 4, num_key_value_heads = 2, ',
    )
    .replace("freeze mlp[0]", "freeze mlp.down[0]")
)
Train = Callable[..., Path]


@pytest.fixture(scope="module")
def train(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """A run of `count` processes that find each other as under torchrun; its directory."""

    def trained(
        count: int,
        *flags: str,
        folder: Path | None = None,
        code: int | tuple[int, ...] = 0,
        spec: str = SPEC,
        last_file: int = 0,
        settings: dict[str, Any] | None = None,
    ) -> Path:
        """The last of the processes can write no file beyond `last_file` bytes; `code` is that of each, or of all.
        `settings` are values for constants of modules."""
        folder = folder or tmp_path_factory.mktemp("run")
        begun = (folder / "out").exists()
        arguments = ["run", "--resume", "out"] if begun else ["run", "small.abl", "--recipe", "local", "--out", "out"]
        (folder / "small.abl").write_text(spec)
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
        place |= {"ABLC_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
        ranks = range(count) if count > 1 else [0]
        own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in ranks]
        environments = [{**place, **one} if count > 1 else {"ABLC_CACHE": str(cache)} for one in own]
        limits = [0] * (count - 1) + [last_file]
        started = [
            start([*arguments, *flags], folder, environment, limit, settings)
            for environment, limit in zip(environments, limits, strict=True)
        ]
        codes = code if isinstance(code, tuple) else (code,) * count
        for process, expected in zip(started, codes, strict=True):
            ended, said = finish(process, folder)
            assert ended == expected, said
            assert "Traceback" not in said
        return folder / "out"

    return trained


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def losses(out: Path) -> list[float]:
    entries = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [entry[key] for entry in entries for key in ("loss", "eval_loss") if key in entry]


def facts(out: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((out / "run.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def alone(train: Train) -> Path:
    return train(1, "--steps", "6")


@pytest.mark.parametrize("rank", ["0", "3"])
def test_more_processes_than_gpus_are_refused_by_each_of_them(rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "RANK": rank, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WorkersError, match="4 processes on a machine with 2 GPUs"), workers():
        raise AssertionError("it began")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_are_as_one(parallel: str, train: Train, alone: Path) -> None:
    out = train(2, "--steps", "6", "--set", f"train.parallel={parallel}")
    assert losses(out) == pytest.approx(losses(alone), abs=2e-5)
    assert len(losses(out)) == len(losses(alone)) == 9
    one, two = (load_file(folder / "model.safetensors") for folder in (alone, out))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=2e-5) for name in one)
    here, there = facts(out), facts(alone)
    assert (here["processes"], there["processes"]) == (2, 1)
    assert [here[key] for key in ("params", "trainable")] == [there[key] for key in ("params", "trainable")]
    assert sum(tensor.numel() for tensor in two.values()) == here["params"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting", ["precision=bf16_autocast", "packing=documents", "compile=true", "gradient_checkpointing=true"]
)
def test_two_are_as_one_in_every_way_of_training(setting: str, train: Train) -> None:
    flags = ("--steps", "6", "--set", f"train.{setting}")
    one = losses(train(1, *flags))
    for parallel in ("ddp", "fsdp"):
        assert losses(train(2, *flags, "--set", f"train.parallel={parallel}")) == pytest.approx(one, abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [SPEC, TIED], ids=["a low-rank head", "a tied head"])
def test_two_are_as_one_where_the_loss_is_taken_in_pieces(spec: str, train: Train) -> None:
    one = losses(train(1, "--steps", "6", spec=spec))
    pieces = {"ablc.train.loss:MOST_LOGITS": 30_000}
    for parallel in ("ddp", "fsdp"):
        two = train(2, "--steps", "6", "--set", f"train.parallel={parallel}", spec=spec, settings=pieces)
        assert losses(two) == pytest.approx(one, abs=2e-5)


@pytest.mark.slow
def test_two_start_from_pretrained_weights_as_one(train: Train, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The base lies beside the spec; of two processes that shard the model each reads what it needs of it."""
    keys = "train.weights = pretrained\ntrain.init = svd\ntrain.scale = full\ntrain.tokenizer = base\n"
    made = []
    for count in (1, 2):
        folder = tmp_path_factory.mktemp("pretrained")
        based.fill(folder)
        flags = ("--steps", "4", "--set", "train.parallel=fsdp", "--report-init")
        made.append(train(count, *flags, folder=folder, spec=based.SPEC + keys))
    one, two = made
    assert losses(two) == pytest.approx(losses(one), abs=2e-5)
    assert losses(one)[0] < 4.0, "not what the base has learnt"
    first, second = (json.loads((out / "init.json").read_text()) for out in made)
    assert first == second and sum(row["error"] is not None for row in first) == 4


@pytest.mark.slow
def test_shares_of_bf16_weights_that_moved(train: Train) -> None:
    flags = ("--steps", "3", "--set", "train.precision=bf16")
    one, two = train(1, *flags), train(2, *flags, "--set", "train.parallel=fsdp")
    assert facts(two)["moved"] == pytest.approx(facts(one)["moved"], abs=1e-3)
    tensors = load_file(two / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert {name: t.shape for name, t in tensors.items()} == {
        name: t.shape for name, t in load_file(one / "model.safetensors").items()
    }


@pytest.mark.slow
def test_shares_of_tied_and_decomposed_weights(train: Train) -> None:
    flags = ("--steps", "3", "--set", "train.init=svd", "--set", "train.tokenizer=builtin", "--report-init")
    one = train(1, *flags, spec=TIED)
    two = train(2, *flags, "--set", "train.parallel=fsdp", spec=TIED)
    assert losses(two) == pytest.approx(losses(one), abs=2e-5)
    first, second = (json.loads((out / "init.json").read_text()) for out in (one, two))
    assert first == second and sum(row["error"] is not None for row in first) == 4
    assert load_file(one / "model.safetensors").keys() == load_file(two / "model.safetensors").keys()


@pytest.mark.slow
def test_each_writes_its_shares(train: Train) -> None:
    out = train(2, "--steps", "3", "--set", "train.parallel=fsdp")
    (folder,) = (out / "checkpoints").iterdir()
    shards = sorted(folder.glob("*.safetensors"))
    assert [file.name[:11] for file in shards] == ["shard-00001", "shard-00002"]
    assert json.loads((folder / "state.json").read_text())["files"].keys() == {file.name for file in shards}
    held = [sum(t.numel() for name, t in load_file(file).items() if "/" not in name) for file in shards]
    assert sum(held) == facts(out)["params"] and min(held) > 0.4 * sum(held)
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    (out / "model.safetensors").unlink()
    (out / "run.json").write_text(json.dumps({**facts(out), "status": "running"}))
    train(2, folder=out.parent)
    assert (
        "shard-00002-model-00001-of-00001.safetensors doesn't have its hash" in (out.parent / "output.txt").read_text()
    )
    assert facts(out)["status"] == "finished"


@pytest.mark.slow
def test_a_share_that_cant_be_written_ends_no_run(train: Train) -> None:
    out = train(2, "--steps", "3", "--set", "train.parallel=fsdp", last_file=600_000)
    said = (out.parent / "output.txt").read_text()
    assert said.count("the checkpoint of step 3 couldn't be written: file too large") == 1
    assert facts(out)["status"] == "finished" and not list((out / "checkpoints").iterdir())
    assert {path.name for path in out.iterdir() if "model" in path.name} == {"model.safetensors"}


@pytest.mark.slow
def test_weights_whose_share_cant_be_written_are_told_by_all(train: Train) -> None:
    out = train(2, "--steps", "3", "--set", "train.parallel=fsdp", last_file=100_000, code=1)
    said = (out.parent / "output.txt").read_text()
    assert said.count("error[run-failed]: the weights could not be saved: file too large") == 1
    assert facts(out)["status"] == "failed" and not [path for path in out.iterdir() if "model" in path.name]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_another_number_of_processes_goes_on(parallel: str, before: int, after: int, train: Train, alone: Path) -> None:
    out = train(before, "--steps", "6", "--set", f"train.parallel={parallel}")
    (out / "checkpoints" / "step-00000006").rename(out.parent / "taken-away")
    (out / "model.safetensors").unlink()
    (out / "run.json").write_text(json.dumps({**facts(out), "status": "running"}))
    train(after, folder=out.parent)
    assert facts(out)["status"] == "finished"
    assert losses(out) == pytest.approx(losses(alone), abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_divergence_is_told_once(parallel: str, train: Train) -> None:
    flags = ("--steps", "6", "--set", "train.lr=1e30", "--set", f"train.parallel={parallel}")
    out = train(2, *flags, code=(1, 0))
    assert facts(out)["status"] == "diverged" and facts(out)["diverged_at"] >= 2
    assert (out.parent / "output.txt").read_text().count("the run ends as diverged") == 1


@pytest.mark.slow
def test_torchrun_starts_them_too(cache: Path, tmp_path: Path, alone: Path) -> None:
    (tmp_path / "small.abl").write_text(SPEC)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    command = [*torchrun, "-m", "ablc", "run", "small.abl", "--recipe=local", "--out=out", "--steps=6"]
    env = {**os.environ, "ABLC_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "out") == pytest.approx(losses(alone), abs=2e-5)


@pytest.mark.parametrize(
    ("codes", "first_is_killed", "expected"), [((130, 130), False, 130), ((0, 3), True, 3), ((0, 0), False, 0)]
)
def test_one_that_is_interrupted_waits_for_the_first(
    codes: tuple[int, int], first_is_killed: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first may be writing its checkpoint; where one failed it may wait for that one for ever."""
    monkeypatch.setattr(launch, "GRACE", 0.2)
    started = [
        subprocess.Popen([sys.executable, "-c", f"import sys, time; time.sleep({seconds}); sys.exit({code})"])
        for seconds, code in zip((2, 0), codes, strict=True)
    ]
    assert launch._wait(started) == expected
    assert (started[0].returncode == -signal.SIGKILL) is first_is_killed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "setting", "sentence"),
    [
        (3, "train.eval_blocks=5", "the 8 blocks of a step can't be divided among 3 processes"),
        (2, "train.data=./nowhere", "there is no folder or file"),
    ],
)
def test_what_the_first_refuses_all_do(count: int, setting: str, sentence: str, train: Train) -> None:
    out = train(count, "--steps", "6", "--set", setting, code=2)
    assert (out.parent / "output.txt").read_text().count(sentence) == 1
    assert not out.exists()


def launched(cache: Path, folder: Path) -> subprocess.Popen[str]:
    """`ablc run --nproc 2` in a session of its own, once it has taken a few steps."""
    (folder / "small.abl").write_text(SPEC)
    command = [sys.executable, "-m", "ablc", "run", "small.abl", "--recipe", "local", "--steps", "100000"]
    process = subprocess.Popen(
        [*command, "--out", "out", "--nproc", "2"],
        cwd=folder,
        env={**os.environ, "ABLC_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines = folder / "out" / "metrics.jsonl"
    end = time.monotonic() + 120
    while not (lines.exists() and lines.read_text().count("\n") > 5) and time.monotonic() < end:
        time.sleep(0.1)
    return process


@pytest.mark.slow
def test_the_command_starts_them_and_ctrl_c_ends_them(cache: Path, tmp_path: Path) -> None:
    process = launched(cache, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert output.count("stopping after this step") == 1
    assert facts(tmp_path / "out")["status"] == "interrupted"
    assert list((tmp_path / "out" / "checkpoints").glob("step-*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_one_that_is_killed_ends_the_other(number: int, cache: Path, tmp_path: Path) -> None:
    process = launched(cache, tmp_path)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(children) == 2
    os.kill(int(children[number]), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 137, output
    assert "Traceback" not in output
    assert facts(tmp_path / "out")["status"] in ("running", "failed")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_where_the_one_that_started_them_is_gone_they_stop(cache: Path, tmp_path: Path) -> None:
    process = launched(cache, tmp_path)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    process.kill()
    output, _ = process.communicate(timeout=60)  # which the children hold open until they have ended
    assert len(children) == 2 and "Traceback" not in output
    assert facts(tmp_path / "out")["status"] == "interrupted"
    assert list((tmp_path / "out" / "checkpoints").glob("step-*"))
