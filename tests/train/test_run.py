"""`ablc run` as a user meets it: what it records, how it ends, and what it refuses before it begins."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from forked import finish, start
from safetensors.torch import load_file

import ablc
from ablc.blueprint.measures import flops_per_token
from ablc.cli import run as command
from ablc.faults import UserError
from ablc.patching.patch import shapes_of
from ablc.planning import Plan
from ablc.train import checkpoints
from ablc.train.corpus import DataError, builtin_corpus
from ablc.train.data import load_data
from ablc.train.environment import peak_flops
from ablc.train.loop import Diverged
from ablc.train.record import Record, claim_folder
from ablc.train.tokenizer import builtin_tokenizer
from ablc.train.workers import WorkersError

ROOT = Path(__file__).parents[2]
SPEC = """\
name = "small"
model = "EleutherAI/pythia-14m"(hidden_size = 64, intermediate_size = 64, num_hidden_layers = 2)
attention[0] = none
mlp = lora(8)
train.scale = "1/2"
train.block_size = 32
train.batch_size = 4
train.eval_blocks = 4
train.eval_every = 2
train.warmup_steps = 0
"""
Run = Callable[..., int]


@pytest.fixture
def run(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`ablc run small.abl FLAGS` in an empty folder, in this process; gives the exit code."""
    monkeypatch.setenv("ABLC_CACHE", str(cache))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.abl").write_text(SPEC)

    def started(path: str = "small.abl", **flags: Any) -> int:
        resume = flags.pop("resume", None)
        defaults = {} if resume else {"recipe": "local", "steps": 4, "out": Path("out")}
        options = command.RunOptions(**{**defaults, **flags})
        return command.run_command(None if resume else path, resume, options)

    return started


def facts(folder: Path | str = "out") -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((Path(folder) / "run.json").read_text())
    return loaded


def metrics(folder: Path | str = "out") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def untimed(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if not key.endswith("_per_second")}


def test_the_record(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(seed=3) == 0
    said = facts()
    full = ablc.plan(ablc.load("small.abl"))
    trained = Plan.from_json(json.loads(Path("out/plan.json").read_text()))
    assert said["status"] == "finished"
    assert (said["spec_params"], said["fingerprint"]) == (ablc.count(full).params, full.fingerprint)
    assert (said["params"], said["trained_fingerprint"]) == (ablc.count(trained).params, trained.fingerprint)
    assert said["params"] < said["spec_params"] == said["spec_trainable"]
    assert (said["seed"], said["recipe"], said["scale"]) == (3, "local", "1/2")
    assert said["settings"]["lr"] == 3e-3 and said["settings"]["init"] == "normal"
    assert len(said["data"]["hash"]) == 64
    assert said["baselines"]["bigram"] < said["baselines"]["unigram"]
    evaluated = [entry for entry in metrics() if "eval_loss" in entry]
    assert [entry["step"] for entry in evaluated] == [0, 2, 4]
    assert said["final"] == {key: evaluated[-1][key] for key in ("step", "eval_loss", "perplexity", "bits_per_byte")}
    assert said["best"]["eval_loss"] == min(entry["eval_loss"] for entry in evaluated)
    assert [entry["step"] for entry in metrics()] == [0, 1, 2, 3, 4]
    assert Path("out/spec.abl").read_text() == SPEC
    environment = json.loads(Path("out/environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    out = capsys.readouterr().out
    assert "recipe local: as you chose" in out
    assert "trains a proxy at 1/2 of the width" in out
    assert "a unigram model of the same data" in out


def test_the_weights_are_those_of_the_planned_model(run: Run) -> None:
    assert run() == 0
    trained = Plan.from_json(json.loads(Path("out/plan.json").read_text()))
    weights = load_file("out/model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == shapes_of(trained.blueprint)
    model = ablc.build(trained)
    model.load_state_dict(weights)


def test_two_runs_of_one_seed_are_equal_to_the_last_bit(run: Run) -> None:
    assert run(out=Path("one")) == run(out=Path("two")) == 0
    strip = [[untimed(entry) for entry in metrics(f)] for f in ("one", "two")]
    assert strip[0] == strip[1]
    one, two = (load_file(f"{folder}/model.safetensors") for folder in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_checkpoints_are_of_their_step_however_slowly_they_are_written(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["train.save_every=1", "train.keep=9"]
    assert run(out=Path("quick"), settings=settings) == 0
    save_file = checkpoints.save_file
    monkeypatch.setattr(checkpoints, "save_file", lambda *given, **how: (time.sleep(0.3), save_file(*given, **how)))
    assert run(out=Path("slow"), settings=settings) == 0
    files = sorted(path.relative_to("quick") for path in Path("quick").rglob("*.safetensors"))
    assert len(files) == 2 * 4 + 1
    assert all((Path("quick") / file).read_bytes() == (Path("slow") / file).read_bytes() for file in files)


def test_settings_from_all_sides(run: Run) -> None:
    Path("mine.abl").write_text("train.lr = 1e-3\ntrain.batch_size = 2\ntrain.epochs = 9\n")
    assert run(recipe="mine.abl", steps=2, settings=["train.lr=5e-4", "train.init=product", "eval_every=null"]) == 0
    said = facts()
    assert said["recipe"] == "mine.abl"
    settings = said["settings"]
    assert (settings["lr"], settings["init"], settings["steps"], settings["epochs"]) == (5e-4, "product", 2, None)
    assert settings["batch_size"] == 4  # the spec's own is stronger than the recipe's


def test_weights_in_bf16_say_how_many_moved(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """At the log's learning rate hardly any does; at a million times that most of the matrices do."""
    moved = []
    for number, rate in enumerate(("1e-7", "1e-1")):
        assert run(out=Path(str(number)), settings=["train.precision=bf16", f"train.lr={rate}", "train.clip=0"]) == 0
        moved.append(facts(str(number))["moved"])
    assert moved[0] < 0.02 and moved[1] > 0.4  # rows of tokens that weren't seen stay
    assert "of the weights moved at all" in capsys.readouterr().out
    assert run(out=Path("fp32")) == 0 and "moved" not in facts("fp32")


def test_the_share_of_what_the_device_could_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablc.train.runner.peak_flops", lambda name: 1e12)
    assert run(out=Path("bf16"), settings=["train.precision=bf16_autocast"]) == run(out=Path("fp32")) == 0
    trained = Plan.from_json(json.loads(Path("bf16/plan.json").read_text()))
    forward = flops_per_token(trained.blueprint, 32)
    for entry in metrics("bf16")[1:]:
        assert entry["flops_per_second"] == pytest.approx(3 * forward * entry["tokens_per_second"])
        assert entry["mfu"] == pytest.approx(entry["flops_per_second"] / 1e12)
    assert not any("mfu" in entry for entry in metrics("fp32"))  # what makers state is for bf16


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("CPU, 2 threads", None),
    ],
)
def test_peaks_are_of_the_very_device(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak


def test_stopped_before_the_first_step_it_begins_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def stopping(tell: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
        yield lambda: True

    assert run(out=Path("straight")) == 0
    with monkeypatch.context() as patched:
        patched.setattr(command, "_stopping", stopping)
        assert run() == 130
    assert facts()["status"] == "interrupted" and not list(Path("out").rglob("step-*"))
    assert run(resume=Path("out")) == 0
    assert [untimed(entry) for entry in metrics()] == [untimed(entry) for entry in metrics("straight")]


def test_a_full_disk_is_recorded_where_that_can_be(tmp_path: Path) -> None:
    record = Record(tmp_path / "run", {})
    record.open(ablc.loads(SPEC), ablc.plan(ablc.loads(SPEC)), {})
    record._metrics = open("/dev/full", "w")  # noqa: PTH123, SIM115
    with pytest.raises(OSError, match="No space"):
        record.log({"step": 1})
    record.close("failed")
    assert facts(tmp_path / "run")["status"] == "failed"


@pytest.mark.parametrize(("local", "heard"), [("0", True), ("1", False)])
def test_what_the_first_may_not_know_another_process_tells(
    local: str, heard: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(error: UserError) -> int:
        raise error

    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("LOCAL_RANK", local)
    with monkeypatch.context() as patched:
        patched.setattr("sys.__stderr__", sys.stderr)
        for error in (DataError("no such folder"), WorkersError("one GPU for two")):
            with pytest.raises(type(error)):
                command._told(lambda error=error: fail(error))  # type: ignore[misc]
    said = capfd.readouterr().err
    assert ("process 5: no such folder" in said) is heard and "process 5: one GPU for two" in said


def eval_losses(folder: str) -> list[float]:
    return [entry["eval_loss"] for entry in metrics(folder) if "eval_loss" in entry]


def test_activations_computed_again_change_nothing(run: Run) -> None:
    assert run(out=Path("plain")) == run(out=Path("again"), settings=["train.gradient_checkpointing=true"]) == 0
    assert eval_losses("again") == pytest.approx(eval_losses("plain"), abs=1e-5)


def test_documents_kept_apart(run: Run) -> None:
    write_texts(Path("texts"))
    for packing in ("blocks", "documents"):
        assert run(out=Path(packing), settings=["train.data=./texts", f"train.packing={packing}"]) == 0
    apart, plain = eval_losses("documents"), eval_losses("blocks")
    assert apart != pytest.approx(plain, abs=1e-4)
    assert apart[-1] < apart[0]


def test_weights_in_bf16_leave_the_rotary_frequencies_alone(run: Run) -> None:
    from ablc.exporting.finished import read
    from ablc.exporting.models import replaced_model

    assert run(settings=["train.precision=bf16"]) == 0
    model = replaced_model(read(Path("out")))
    ids = torch.arange(128)[None]
    live = ablc.build(read(Path("out")).plan, dtype=torch.bfloat16)
    assert live.gpt_neox.rotary_emb.inv_freq.dtype == torch.float32
    live.load_state_dict(load_file("out/model.safetensors"))
    with torch.no_grad():
        assert torch.equal(live.eval()(ids).logits, model(ids).logits)


def write_texts(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part, count in (("train", 400), ("validation", 90)):
        rows = [json.dumps({"text": f"line {number * 7919 % 1009} of a text"}) for number in range(count)]
        (folder / f"{part}.jsonl").write_text("\n".join(rows))


def test_a_data_folder_counts_from_the_spec_and_a_run_goes_on_from_anywhere(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(tmp_path / "specs" / "texts")
    (tmp_path / "specs" / "own.abl").write_text(SPEC + 'train.data = "./texts"\n')
    assert run("specs/own.abl") == 0
    assert facts()["settings"]["data"] == str(tmp_path / "specs" / "texts")
    write_texts(tmp_path / "other")
    assert run(out=Path("second"), settings=["train.data=./other"]) == 0
    for file in [*Path("second", "checkpoints").glob("step-*4/*"), Path("second", "model.safetensors")]:
        file.unlink()
    Path("second/run.json").write_text(json.dumps({**facts("second"), "status": "running"}))
    monkeypatch.chdir(tmp_path.parent)
    assert run(resume=tmp_path / "second") == 0
    assert facts(tmp_path / "second")["status"] == "finished"


def test_without_a_compiler_that_is_said(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "small.abl").write_text(SPEC)
    command = ["run", "small.abl", "--recipe", "local", "--steps", "2", "--set", "train.compile=true"]
    places = {"ABLC_CACHE": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    process = start(command, tmp_path, {**places, "PATH": str(tmp_path)})
    code, said = finish(process, tmp_path)
    assert code == 1 and "Traceback" not in said
    assert "the model can't be compiled here: No working C++ compiler found" in said
    assert "leave train.compile out" in said


@pytest.mark.slow
def test_compiled_is_the_same_within_rounding(run: Run) -> None:
    assert run(out=Path("plain")) == run(out=Path("other"), settings=["train.compile=true"]) == 0
    plain, other = ([entry.get("loss") for entry in metrics(folder)][1:] for folder in ("plain", "other"))
    assert other == pytest.approx(plain, abs=1e-3)


@pytest.mark.slow
def test_compiled_where_activations_are_computed_again_beside_a_removed_attention(run: Run) -> None:
    sizes = "hidden_size = 64, intermediate_size = 96, num_hidden_layers = 2, num_attention_heads = 4"
    Path("llama.abl").write_text(
        f'model = "llama-3.1-8b"({sizes}, num_key_value_heads = 2)\nattention[1] = none\n'
        + SPEC.partition("mlp = lora(8)\n")[2]
    )
    ways: list[list[str]] = [[], ["train.compile=true", "train.gradient_checkpointing=true"]]
    for number, settings in enumerate(ways):
        assert run("llama.abl", out=Path(str(number)), steps=2, settings=settings) == 0
    assert eval_losses("1") == pytest.approx(eval_losses("0"), abs=1e-4)


def test_speed_is_told_in_flops(run: Run) -> None:
    assert run() == 0
    trained = Plan.from_json(json.loads(Path("out/plan.json").read_text()))
    forward = ablc.count(trained, length=32).flops_per_token
    for entry in metrics()[1:]:
        assert entry["flops_per_second"] == pytest.approx(3 * forward * entry["tokens_per_second"])
        assert "mfu" not in entry  # nobody states what a CPU can do


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base model with weights and a tokenizer, in a folder of its own beside the specs'."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from ablc.train.corpus import builtin_corpus
    from ablc.train.tokenizer import builtin_tokenizer

    folder = tmp_path / "models" / "base"
    sizes = "hidden_size = 64, intermediate_size = 96, num_hidden_layers = 2, vocab_size = 300"
    text = f'model = "EleutherAI/pythia-14m"({sizes})'
    model = ablc.build(ablc.plan(ablc.loads(text)), seed=7)
    model.save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=builtin_tokenizer(builtin_corpus(), 300), eos_token="<|endoftext|>")
    fast.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder) is not None
    return folder


def test_from_pretrained_weights(run: Run, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = "train.weights = pretrained\ntrain.scale = full\ntrain.tokenizer = base\ntrain.eval_blocks = 4\n"
    keys += "train.batch_size = 2\ntrain.block_size = 32\n"
    (base.parent / "same.abl").write_text(f'model = "./base"\n{keys}')
    (base.parent / "low.abl").write_text(f'model = "./base"\nmlp.up = lora(16)\ntrain.init = svd\n{keys}')
    assert run("models/same.abl", out=Path("same"), steps=1) == 0
    assert run("models/low.abl", out=Path("low"), steps=1, report_init=True) == 0
    said = capsys.readouterr().out
    assert "from the weights of" in said and "relative Frobenius errors" in said
    pairs = json.loads(Path("low/init.json").read_text())
    assert [(pair["slot"], pair["layer"], pair["rank"]) for pair in pairs] == [("mlp.up", 0, 16), ("mlp.up", 1, 16)]
    assert all(pair["error"] == pytest.approx(pair["optimal"], rel=1e-4) for pair in pairs)
    assert Path(facts("low")["weights"]) == base
    model = ablc.build(ablc.plan(ablc.load("models/same.abl")), seed=7)
    assert metrics("same")[0]["eval_loss"] == pytest.approx(evaluated(model, Path("same")), rel=1e-6)


@pytest.mark.parametrize(("precision", "needs_it"), [("fp32", False), ("bf16", True)])
def test_to_go_on_a_base_is_needed_only_where_it_is_compared_with(
    precision: str, needs_it: bool, run: Run, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = "train.weights = pretrained\ntrain.scale = full\ntrain.tokenizer = base\ntrain.init = svd\n"
    keys += "train.eval_blocks = 4\ntrain.eval_every = 2\ntrain.batch_size = 2\ntrain.block_size = 32\n"
    Path("low.abl").write_text(f'model = "./models/base"\nmlp.up = lora(16)\n{keys}train.precision = {precision}\n')
    assert run("low.abl") == 0
    before, weights = metrics(), Path("out/model.safetensors").read_bytes()
    environment = Path("out/environment.json").read_bytes()
    for file in [*Path("out/checkpoints/step-00000004").iterdir(), Path("out/model.safetensors")]:
        file.unlink()
    Path("out/run.json").write_text(json.dumps({**facts(), "status": "running"}))
    (base / "model.safetensors").rename(base / "taken-away")
    assert run(resume=Path("out")) == (2 if needs_it else 0)
    if needs_it:
        assert "has no model.safetensors" in capsys.readouterr().err
        assert Path("out/environment.json").read_bytes() == environment, "nothing went on there"
        (base / "taken-away").rename(base / "model.safetensors")
        assert run(resume=Path("out")) == 0
    assert [untimed(entry) for entry in metrics()] == [untimed(entry) for entry in before]
    assert Path("out/model.safetensors").read_bytes() == weights


def evaluated(model: Any, folder: Path) -> float:
    """The loss of a model on the validation blocks that a run was scored on."""
    from ablc.train.data import load_data

    base = facts(folder)["base"]
    data = load_data("stdlib", tokenizer="base", base_model=base, vocab_size=300, block_size=32, eval_blocks=4)
    ids = torch.from_numpy(data.validation.astype("int64"))
    return float(model.eval()(ids, labels=ids).loss.detach())


def test_a_proxy_takes_no_pretrained_weights(run: Run, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (base.parent / "same.abl").write_text('model = "./base"\ntrain.weights = pretrained\n')
    assert run("models/same.abl") == 2
    assert "a proxy can't take the pretrained weights" in capsys.readouterr().err


def test_all_frozen_is_nothing_to_train(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("frozen.abl").write_text(SPEC + "freeze layer\nfreeze embedding, lm_head, final_norm\n")
    assert run("frozen.abl") == 2
    assert "all of this model is frozen" in capsys.readouterr().err


def test_extended_files_of_one_name_are_both_kept(run: Run) -> None:
    for folder, rank in (("a", 3), ("b", 2)):
        Path(folder).mkdir()
        Path(folder, "base.abl").write_text(f"mlp[0] = lora({rank})\n")
    Path("both.abl").write_text('extends "a/base.abl"\nextends "b/base.abl"\n' + SPEC)
    assert run("both.abl", steps=1) == 0
    kept = sorted(path.name for path in Path("out").glob("extended-*"))
    assert kept == ["extended-2-base.abl", "extended-base.abl"]


@pytest.mark.parametrize("name", ["x" * 300, "..", "a/../../b"])
def test_a_name_stays_below_runs(name: str, run: Run) -> None:
    Path("named.abl").write_text(SPEC.replace('"small"', f'"{name}"'))
    assert run("named.abl", out=None, steps=1) == 0
    assert len(list(Path("runs").glob("*/local-seed0/run.json"))) == 1


def test_epochs_say_how_long(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(steps=None, settings=["train.epochs=0.0001", "train.batch_size=32"]) == 0
    assert facts()["steps"] == 1
    write_texts(Path("texts"))
    keys: dict[str, Any] = {"tokenizer": "builtin", "base_model": "", "vocab_size": 4096}
    data = load_data("./texts", **keys, block_size=32, eval_blocks=4)
    blocks = len(data.train)
    # No pass is cut short, though three quarters of the blocks are more than half of them.
    passes = ["train.data=./texts", "train.epochs=3", f"train.batch_size={blocks * 3 // 4}"]
    assert run(out=Path("passes"), steps=None, settings=passes) == 0
    assert facts("passes")["steps"] == 4
    capsys.readouterr()
    assert run(out=Path("many"), steps=None, settings=["train.epochs=1e9"]) == 2
    assert "1e+09 passes over this data are" in capsys.readouterr().err
    assert run(out=Path("more"), steps=None, settings=["train.epochs=1e308"]) == 2


def test_a_warm_up_that_never_ends_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings=["train.warmup_steps=5"]) == run(out=Path("other"), settings=["train.warmup_steps=4"]) == 0
    said = capsys.readouterr().err
    assert "warning[long-warmup]: 5 steps of warm-up in a run of 4: its peak rate is never reached" in said
    assert said.count("long-warmup") == 1


def test_weights_with_others_tokens_are_told(run: Run, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = "train.weights = pretrained\ntrain.scale = full\ntrain.eval_blocks = 4\n"
    for tokenizer in ("base", "builtin"):
        Path(f"{tokenizer}.abl").write_text(f'model = "./models/base"\n{keys}train.tokenizer = {tokenizer}\n')
        assert run(f"{tokenizer}.abl", out=Path(tokenizer), steps=1) == 0
        assert ("warning[other-tokenizer]" in capsys.readouterr().err) is (tokenizer == "builtin")


def test_paths_count_from_the_file_that_says_them(run: Run) -> None:
    write_texts(Path("recipes/texts"))
    tokenizer = builtin_tokenizer(builtin_corpus(), 300)
    Path("recipes/mine").mkdir()
    tokenizer.save("recipes/mine/tokenizer.json")
    keys = 'train.data = "./texts"\ntrain.tokenizer = "mine"\ntrain.steps = 1\n'
    Path("recipes/own.abl").write_text(keys)
    assert run(recipe="recipes/own.abl") == 0
    assert facts()["settings"]["tokenizer"] == str(Path("recipes/mine").resolve())


def test_a_directory_of_its_own_for_each_run(run: Run) -> None:
    assert run(out=None, steps=1) == run(out=None, steps=1) == 0
    assert facts("runs/small/local-seed0")["status"] == facts("runs/small/local-seed0-2")["status"] == "finished"


def test_divergence_is_recorded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(settings=["train.lr=1e30", "train.clip=0"], steps=8) == 1
    said = facts()
    assert said["status"] == "diverged"
    assert said["diverged_at"] <= 8
    assert said["final"]["step"] < said["diverged_at"]
    assert not Path("out/model.safetensors").exists()


def test_ruined_weights_are_a_divergence_too(run: Run) -> None:
    """The loss and the gradient of the only step are finite; what the step made of the weights isn't."""
    assert run(settings=["train.lr=1e30"], steps=1) == 1
    assert (facts()["status"], facts()["diverged_at"], facts()["final"]["step"]) == ("diverged", 1, 0)
    assert not Path("out/model.safetensors").exists()


def test_two_runs_at_once_get_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    claimed = [claim_folder("small", "local", 0).name for _ in range(3)]
    assert claimed == ["local-seed0", "local-seed0-2", "local-seed0-3"]


def test_a_claimed_folder_is_left_where_nothing_came_of_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("ablc.train.work.accumulate", broken)
    assert run(out=None) == 1
    assert not list(Path("runs").glob("*/*"))


@pytest.mark.parametrize(
    "said",
    [
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes",
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_a_failure_leaves_its_record(
    said: str, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr("ablc.train.runner.train", broken)
    assert run() == 1
    assert facts()["status"] == "failed"
    assert "out of memory" in capsys.readouterr().err


def test_a_disk_that_is_full_while_training(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Record.log

    def full(record: Record, entry: dict[str, Any]) -> None:
        if entry["step"] == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        log(record, entry)

    assert run(out=Path("straight")) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Record, "log", full)
        assert run() == 1
    err = capsys.readouterr().err
    assert "no space left on device" in err and "--resume out" in err
    assert (facts()["status"], facts()["final"]["step"]) == ("failed", 2)
    assert run(resume=Path("out")) == 0
    assert [untimed(entry) for entry in metrics()] == [untimed(entry) for entry in metrics("straight")]


def refusals() -> dict[str, tuple[dict[str, Any], str]]:
    return {
        "recipe": ({"recipe": "locl"}, "did you mean `local`?"),
        "key": ({"settings": ["train.lrr=1"]}, "did you mean `lr`?"),
        "no value": ({"settings": ["train.lr"]}, "it is written train.lr=1e-4"),
        "value": ({"settings": ["train.lr=-1"]}, "train.lr: "),
        "word": ({"settings": ["train.schedule=linar"]}, "train.schedule: "),
        "scale": ({"scale": "1/3"}, "scales that fit"),
        "how long": ({"steps": None, "settings": ["train.steps=null"]}, "how long to train"),
        "data": ({"settings": ['train.data="./nowhere"']}, "there is no folder"),
        "block": ({"settings": ["train.block_size=100_000_000"]}, "less than a block"),
        "wandb": ({"wandb": "on"}, "--wandb is online, offline or off"),
        "missing": ({"path": "nowhere.abl"}, "can't be read"),
    }


@pytest.mark.parametrize("case", refusals())
def test_refused_before_anything_is_trained(case: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    flags, sentence = refusals()[case]
    assert run(**flags) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err
    assert not Path("out").exists()


def test_a_taken_directory_is_refused_and_stays_as_it_was(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(steps=1) == 0
    before = Path("out/run.json").read_bytes()
    assert run(steps=1) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert Path("out/run.json").read_bytes() == before


@pytest.mark.parametrize("there", ["metrics.jsonl", "spec.abl", "model.safetensors", "checkpoints"])
def test_what_a_run_would_overwrite_or_take_for_its_own_is_left_alone(
    there: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out", there).write_text("precious")
    assert run() == 2
    assert f"out holds a {there} that isn't this run's" in capsys.readouterr().err
    assert [one.name for one in Path("out").iterdir()] == [there] and Path("out", there).read_text() == "precious"
    Path("out", there).rename("out/log.txt")
    assert run() == 0
    assert Path("out/log.txt").read_text() == "precious"


def test_a_record_can_be_read_from_its_first_moment_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(record: Record, step: int, processes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Record, "continue_after", full)
        assert run() == 1
    assert facts()["status"] == "running"
    assert run(resume=Path("out")) == 0
    assert facts()["status"] == "finished"


@pytest.mark.parametrize("field", ["status", "settings", "data", "base", "steps", "baselines", "seconds", "name"])
def test_a_record_without_one_of_its_facts(field: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(steps=1) == 0
    known = facts()
    Path("out/run.json").write_text(json.dumps({key: value for key, value in known.items() if key != field}))
    assert run(resume=Path("out")) == 2
    assert f"`{field}` in out/run.json: field required" in capsys.readouterr().err
    Path("out/run.json").write_text(json.dumps({**known, field: [None]}))
    assert run(resume=Path("out")) == 2
    assert f"`{field}" in capsys.readouterr().err


def interrupted(*, without: str = "step-00000004") -> None:
    """Make the finished run in `out` one that was stopped after step 2."""
    for file in [*Path("out/checkpoints", without).iterdir(), Path("out/model.safetensors")]:
        file.unlink()
    Path("out/run.json").write_text(json.dumps({**facts(), "status": "running"}))


def test_a_damaged_line_costs_no_other(run: Run) -> None:
    assert run() == 0
    before = [untimed(entry) for entry in metrics()]
    interrupted()
    with Path("out/metrics.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n")
    assert run(resume=Path("out")) == 0
    assert [untimed(entry) for entry in metrics()] == before


def test_how_to_go_on_can_be_given_to_a_shell(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(out=Path("my runs/$1")) == 0
    assert run(out=Path("my runs/$1")) == 2
    assert "go on with it: ablc run --resume 'my runs/$1'; or" in capsys.readouterr().err


def test_that_it_goes_on_with_others_versions_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    interrupted()
    known = json.loads(Path("out/environment.json").read_text())
    Path("out/environment.json").write_text(json.dumps({**known, "packages": {**known["packages"], "torch": "1.0"}}))
    capsys.readouterr()
    assert run(resume=Path("out")) == 0
    said = capsys.readouterr().out
    assert f"torch was 1.0 and is {torch.__version__}: what follows may differ in its last digits" in said
    interrupted()
    assert run(resume=Path("out")) == 0
    assert "may differ" not in capsys.readouterr().out


@pytest.mark.parametrize(("field", "value"), [("steps", "3"), ("settings", {"tokenizer": 1}), ("final", "good")])
def test_a_record_with_a_fact_of_another_kind(
    field: str, value: Any, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(steps=1) == 0
    Path("out/run.json").write_text(json.dumps({**facts(), field: value}))
    assert run(resume=Path("out")) == 2
    assert f"`{field}" in capsys.readouterr().err
    assert run(resume=Path("out/run.json")) == 2
    assert "there is no run in out/run.json" in capsys.readouterr().err


def test_the_library_of_another_python_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    interrupted()
    true = facts()["data"]
    data = {**true, "hash": "0" * 64, "python": "2.7.18"}
    Path("out/run.json").write_text(json.dumps({**facts(), "data": data}))
    assert run(resume=Path("out")) == 2
    assert "trains on the library of Python 2.7.18" in capsys.readouterr().err
    tokenizer = {**data["tokenizer"], "hash": "0" * 64}
    Path("out/run.json").write_text(
        json.dumps({**facts(), "data": {**true, "tokenizer": tokenizer, "python": "2.7.18"}})
    )
    assert run(resume=Path("out")) == 2
    assert "the tokenizer of the run in out has changed" in capsys.readouterr().err


def test_that_it_begins_again_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    interrupted()
    shutil.rmtree("out/checkpoints")
    capsys.readouterr()
    assert run(resume=Path("out")) == 0
    assert "there is no checkpoint to go on from: it begins again" in capsys.readouterr().out


def test_damaged_weights_are_written_anew(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    weights = Path("out/model.safetensors").read_bytes()
    Path("out/model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert run(resume=Path("out")) == 0
    assert Path("out/model.safetensors").read_bytes() == weights
    assert run(resume=Path("out")) == 0
    assert "there is nothing to go on with" in capsys.readouterr().out


def test_who_goes_on_with_a_diverged_run_is_warned(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings=["train.lr=1e30", "train.clip=0"]) == 1
    assert run(resume=Path("out")) == 1
    assert "after the same steps it will again" in capsys.readouterr().out


def test_a_view_that_is_gone_ends_no_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from ablc.cli import progress

    def gone(text: str = "", style: str = "") -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(progress, "say", gone)
    assert run() == 0
    assert facts()["status"] == "finished"


def test_alone_it_is_the_first_whatever_its_rank(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run(steps=1) == 0
    assert "finished after" in capsys.readouterr().out


def test_another_transformers_than_planned_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXMLP

    made = GPTNeoXMLP.__init__

    def with_one_more(self: Any, config: Any) -> None:
        made(self, config)
        self.scale = torch.nn.Parameter(torch.ones(1))

    monkeypatch.setattr(GPTNeoXMLP, "__init__", with_one_more)
    assert run() == 2
    said = capsys.readouterr().err
    assert "transformers builds another base than planned" in said and "scale is 1, and the plan has missing" in said
    assert not Path("out").exists()


def test_a_directory_that_cant_be_written(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert run(out=Path("file/out")) == 2
    assert "can't be written" in capsys.readouterr().err


def test_a_family_names_its_variants(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sweep.abl").write_text(SPEC.replace("lora(8)", "lora(r)") + "vary r = 3, 2\n")
    assert run("sweep.abl") == 2
    assert "name one: sweep.abl@r=3, sweep.abl@r=2" in capsys.readouterr().err
    assert run("sweep.abl@r=2", steps=1, scale="1/4") == 0
    assert facts()["variant"] == "r=2"
    assert "ranks 2, 3 all become 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("device", "can_be_had", "chosen"), [("cpu", True, "local"), ("cuda", False, "local"), ("cuda", True, "wikitext2")]
)
def test_the_recipe_of_a_machine(device: str, can_be_had: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablc.train.data.reachable", lambda name: (can_be_had, "the hub doesn't answer"))
    name, why = command._choose_recipe(device)
    assert name == chosen
    assert "--recipe" in why
    assert ("the hub doesn't answer" in why) == (device == "cuda" and not can_be_had)


class TestWandb:
    def test_offline_needs_no_account_and_no_network(self, run: Run) -> None:
        assert run(wandb="offline", steps=2) == 0
        assert list(Path("out").glob("wandb/offline-run-*/*.wandb"))

    @pytest.mark.parametrize("broken", ["init", "log"])
    def test_its_failure_costs_the_run_nothing(
        self, broken: str, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import wandb

        class Mirror:
            summary: ClassVar[dict[str, Any]] = {}

            def log(self, *args: Any, **kwargs: Any) -> None:
                raise wandb.Error("service is gone")

            def finish(self, **kwargs: Any) -> None: ...

        def init(**kwargs: Any) -> Mirror:
            if broken == "init":
                raise wandb.Error("api key is wrong")
            return Mirror()

        monkeypatch.setattr(wandb, "init", init)
        assert run(wandb="online", steps=2) == 0
        assert facts()["status"] == "finished"
        assert len(metrics()) == 3
        assert capsys.readouterr().out.count("wandb stopped") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_process_leaves_its_record_intact(number: signal.Signals, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "small.abl").write_text(SPEC)
    process = subprocess.Popen(
        [sys.executable, "-m", "ablc", "run", "small.abl", "--recipe", "local", "--steps", "100000", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "ABLC_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = tmp_path / "out" / "metrics.jsonl"
    deadline = time.monotonic() + 90
    while not (lines.exists() and lines.read_text().count("\n") > 5) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    said = facts(tmp_path / "out")
    assert said["status"] == "interrupted"
    assert said["final"]["eval_loss"] > 0
    recorded = metrics(tmp_path / "out")
    assert [entry["step"] for entry in recorded] == list(range(len(recorded)))


@pytest.mark.slow
def test_the_real_size_trains_on_local_data(cache: Path, tmp_path: Path) -> None:
    """All 220 million parameters of spec 18, with a vocabulary of 50,304."""
    command_line = [sys.executable, "-m", "ablc", "run", str(ROOT / "specs" / "18.abl"), "--recipe", "local"]
    command_line += ["--scale", "full", "--steps", "2", "--out", "out"]
    command_line += ["--set", "train.block_size=64", "--set", "train.eval_blocks=2", "--set", "train.batch_size=2"]
    environment = {**os.environ, "ABLC_CACHE": str(cache)}
    done = subprocess.run(command_line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    said = facts(tmp_path / "out")
    assert said["params"] == said["spec_params"] == 220_353_704
    assert said["scale"] == "full"
    assert said["fingerprint"] == said["trained_fingerprint"]
    assert said["data"]["tokenizer"]["size"] == 50_304
    assert len(metrics(tmp_path / "out")) == 3


def test_diverged_says_which_step() -> None:
    assert str(Diverged(7, "loss")) == "the loss of step 7 isn't finite"
