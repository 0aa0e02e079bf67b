"""How fast training is, beside what a user would write instead.

    python benchmarks/training.py [--steps 40] [--rounds 3] [--factor 8]
    python benchmarks/training.py --full      # on a GPU

For specs 01, 06, 10 and 23 at a fraction of the width: `ablc run` beside a plain `transformers.Trainer` script on a
model patched by hand, with the same data, batch, precision and steps. Each is a process of its own; they take turns in
one run. It prints tokens a second and their ratio, peak memory (of the GPU where there is one), what the FLOPs that a
spec saves are worth in time, and what the loop takes beside forward, backward and step; `--full` is the real size in
bf16, and prints the share of what the device could do (MFU).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SPECS = ("01", "06", "10", "23")


@dataclass(frozen=True)
class Size:
    """What is trained on: at 1/factor of the width, or in full, and then with bf16 products."""

    factor: int
    full: bool
    batch: int

    @property
    def block(self) -> int:
        return 1024 if self.full else 128

    @property
    def vocabulary(self) -> int:
        return 50304 if self.full else 4096

    @property
    def tokens(self) -> int:
        return self.batch * self.block


# --- what a user would write -----------------------------------------------------------------------------------------


def by_hand(spec: str, size: Size) -> Any:
    """The experiment's model at 1/factor of the width, patched as one patches by hand."""
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM, GPTNeoXConfig

    class NoAttention(nn.Module):
        def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            return torch.zeros_like(hidden_states), None

    def pair(i: int, rank: int, o: int, *middle: nn.Module) -> nn.Module:
        rank = max(1, round(Fraction(rank, size.factor)))
        return nn.Sequential(nn.Linear(i, rank), *middle, nn.Linear(rank, o))

    h, f = 1024 // size.factor, 4096 // size.factor
    config = GPTNeoXConfig(
        hidden_size=h,
        intermediate_size=f,
        num_hidden_layers=24,
        num_attention_heads=16 // size.factor,
        vocab_size=size.vocabulary,
        initializer_range=0.02 * size.factor**0.5,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    for number, layer in enumerate(model.gpt_neox.layers):
        if spec == "06":
            layer.attention = NoAttention()
        if spec in ("10", "23"):
            layer.attention.dense = nn.Identity()
        if spec == "10" or (spec == "23" and number >= 6):
            layer.attention.query_key_value = pair(h, 8, 3 * h)
        if spec == "10":
            layer.mlp = pair(h, 8, h, nn.GELU())
        if spec == "23" and 12 <= number < 19:
            layer.mlp.dense_h_to_4h, layer.mlp.dense_4h_to_h = pair(h, 16, f), pair(f, 16, h)
    return model


def script(spec: str, size: Size, steps: int) -> dict[str, Any]:
    """Train with transformers.Trainer; the times at which steps ended."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from ablc.train.data import load_data

    torch.manual_seed(0)
    model = by_hand(spec, size)
    data = load_data(
        "stdlib", tokenizer="builtin", base_model="", vocab_size=size.vocabulary, block_size=size.block, eval_blocks=1
    )
    blocks = torch.from_numpy(data.train[: steps * size.batch].astype("int64"))
    ends: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=size.batch,
            bf16=size.full,
            learning_rate=3e-3,
            warmup_steps=20,
            adam_beta2=0.95,
            weight_decay=0.0,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        rows = [{"input_ids": block, "labels": block} for block in blocks]
        Trainer(model, arguments, train_dataset=rows, callbacks=[Watch()]).train()
    return {"ends": ends, "params": sum(p.numel() for p in model.parameters())}


# --- ablc ------------------------------------------------------------------------------------------------------------


def ablc(spec: str, size: Size, steps: int, **changes: Any) -> dict[str, Any]:
    """Train as `ablc run` does; the times at which steps ended, and those spent in forward, backward and step."""
    import torch

    import ablc as package
    from ablc.blueprint.measures import flops_per_token
    from ablc.recipes import load_recipe, make_recipe
    from ablc.train import loop
    from ablc.train.environment import describe_device, peak_flops
    from ablc.train.runner import begin, execute
    from ablc.train.tracking import Tracker
    from ablc.train.work import assemble, prepare
    from ablc.train.workers import workers

    ends, inside = list[float](), list[float]()

    class View:
        def step(self, step: loop.Step, steps: int) -> None:
            ends.append(time.perf_counter())

        def tell(self, message: str) -> None:
            print(message, file=sys.stderr)

    def timed(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                inside.append(time.perf_counter() - started)

        return call

    scale = {"scale": "full", "precision": "bf16_autocast"} if size.full else {"scale": f"1/{size.factor}"}
    batch = {"batch_size": size.batch, "block_size": size.block}
    keys = {"steps": steps, **scale, **batch, "eval_every": steps, "eval_blocks": 1, **changes}
    recipe = make_recipe(load_recipe("local"), {}, keys)
    with workers() as team, tempfile.TemporaryDirectory() as folder:
        prepared = prepare(package.load(ROOT / "specs" / f"{spec}.abl"), recipe, "local", team)
        trainee = assemble(prepared.work)
        if not torch.cuda.is_available():  # there it would have to wait after each, which the other way doesn't
            loop.accumulate, loop.clip = timed(loop.accumulate), timed(loop.clip)
            trainee.job.optimizer.step = timed(trainee.job.optimizer.step)  # type: ignore[method-assign]
        record = begin(prepared, Path(folder, "run"))
        facts = execute(prepared.work, trainee, record, Path(folder, "run"), Tracker([], print), View())
    flops = flops_per_token(prepared.work.plan.blueprint, size.block)
    peak = peak_flops(describe_device(prepared.work.workers.device))
    return {"ends": ends[1:], "inside": inside, "params": facts["params"], "flops": flops, "peak": peak}


def ablc_together(spec: str, size: Size, steps: int) -> dict[str, Any]:
    """`ablc run --nproc 2`, which has a thread in each; times from its record."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ablc", "run", str(ROOT / "specs" / f"{spec}.abl"), "--recipe", "local"]
        command += ["--out", f"{folder}/run", "--nproc", "2", "--steps", str(steps), "--scale", f"1/{size.factor}"]
        command += ["--set", f"train.eval_every={steps}", "--set", "train.eval_blocks=2"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
        facts = json.loads(Path(folder, "run", "run.json").read_text())
    seconds = [size.tokens / json.loads(line)["tokens_per_second"] for line in lines[1:]]
    ends = [sum(seconds[: number + 1]) for number in range(len(seconds))]
    return {"ends": ends, "params": facts["params"]}


# --- measuring -------------------------------------------------------------------------------------------------------


def measured(way: str, spec: str, options: argparse.Namespace) -> dict[str, Any]:
    """One process: seconds a step, peak memory in MB, and what it said of itself."""
    command = [sys.executable, __file__, "--way", way, "--spec", spec]
    command += ["--steps", str(options.steps), "--factor", str(options.factor), "--batch", str(options.batch)]
    command += ["--full"] * options.full
    # Of several GPUs one is measured: a Trainer would take all of them.
    one_gpu = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **one_gpu})
    if done.returncode:
        raise SystemExit(f"{way} of {spec} failed:\n{done.stderr}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    ends = said["ends"]
    # The first steps allocate, and after the last one there is an evaluation.
    said["seconds"] = (ends[-2] - ends[WARM]) / (len(ends) - 2 - WARM)
    return said


WARM = 2  # steps after the first that aren't timed either
WAYS = ("script", "ablc", "saving", "compiled", "2 processes")
FULL_WAYS = ("script", "ablc", "compiled")


def overhead(said: dict[str, Any]) -> float:
    """The share of the time between steps that was spent neither in forward, backward, clipping nor the step; on a GPU
    that isn't known."""
    if not said["inside"]:
        return float("nan")
    return float(1 - sum(said["inside"][3 * (WARM + 1) : -3]) / (said["ends"][-2] - said["ends"][WARM]))


def compare(options: argparse.Namespace, size: Size) -> None:
    what = "the real size, bf16 products" if size.full else f"1/{size.factor} of the width"
    print(
        f"{machine()}, {what}, {options.rounds} rounds of {options.steps} steps of {size.batch} × {size.block} tokens\n"
    )
    ways, specs = options.ways.split(","), options.specs.split(",")
    rounds = [
        {(way, spec): measured(way, spec, options) for spec in specs for way in ways} for _ in range(options.rounds)
    ]

    def median(way: str, spec: str, key: str) -> float:
        return statistics.median(one[way, spec][key] for one in rounds)

    print("spec  parameters  tokens/s: script     ablc", *(f"{way:>11}" for way in ("as it is", *ways[2:])), end="")
    print("  MB: script  ablc  overhead")
    for spec in specs:
        assert len({rounds[0][way, spec]["params"] for way in ways}) == 1, "not the same model"
        speeds = [size.tokens / median(way, spec, "seconds") for way in ways[:2]]
        ratios = [statistics.median(r["script", spec]["seconds"] / r[w, spec]["seconds"] for r in rounds) for w in ways]
        memory = [median(way, spec, "memory") for way in ways[:2]]
        loop = statistics.median(overhead(one["ablc", spec]) for one in rounds)
        print(
            f"{spec:4}  {rounds[0]['ablc', spec]['params']:10,}  {speeds[0]:16,.0f}  {speeds[1]:7,.0f}",
            *(f"{ratio:11.2f}" for ratio in ratios[1:]),
            f" {memory[0]:10,.0f}  {memory[1]:4,.0f}  {loop:8.1%}",
        )
    print(
        "ratios of tokens/s to those of the script: as it is, `saving` a checkpoint every fifth step, `compiled` with"
    )
    print("train.compile, and in two processes of one thread each")
    for spec in specs if size.full and rounds[0]["ablc", specs[0]]["peak"] else []:
        shares = {way: mfu(rounds[0]["ablc", spec], size.tokens / median(way, spec, "seconds")) for way in ways}
        print(f"\nMFU of {spec}:", ", ".join(f"{way} {share:.1%}" for way, share in shares.items()), end="")
    if "01" not in specs:
        return
    print("\nspec  FLOPs of 01 / FLOPs  seconds of 01 / seconds  worth")
    for spec in [spec for spec in specs if spec != "01"]:
        flops = rounds[0]["ablc", "01"]["flops"] / rounds[0]["ablc", spec]["flops"]
        saved = statistics.median(r["ablc", "01"]["seconds"] / r["ablc", spec]["seconds"] for r in rounds)
        print(f"{spec:4}  {flops:19.2f}  {saved:23.2f}  {saved / flops:5.2f}")


def mfu(said: dict[str, Any], tokens_per_second: float) -> float:
    """Forward and backward take three times what forward takes."""
    return float(3 * said["flops"] * tokens_per_second / said["peak"])


def machine() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()


def peak_memory() -> float:
    """In MB: of the GPU where there is one, else of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--factor", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8, help="sequences a step")
    parser.add_argument("--full", action="store_true", help="the real size and vocabulary, 1,024 tokens, bf16 products")
    parser.add_argument("--specs", default=",".join(SPECS))
    parser.add_argument("--ways", help=f"script and ablc, then any of the others: {', '.join(WAYS)}")
    parser.add_argument("--way")
    parser.add_argument("--spec", default="01")
    options = parser.parse_args()
    options.ways = options.ways or ",".join(way for way in WAYS if not options.full or way in FULL_WAYS)
    if options.steps < WARM + 4:
        parser.error(f"--steps is {WARM + 4} at least")
    size = Size(1 if options.full else options.factor, options.full, options.batch)
    if options.way is None:
        compare(options, size)
        return
    ways = {
        "script": lambda *given: script(*given),
        "ablc": lambda *given: ablc(*given, save_every=options.steps),
        "saving": lambda *given: ablc(*given, save_every=5),
        "compiled": lambda *given: ablc(*given, save_every=options.steps, compile=True),
        "2 processes": lambda *given: ablc_together(*given),
    }
    said = ways[options.way](options.spec, size, options.steps)
    said["memory"] = peak_memory()
    print(json.dumps(said))


if __name__ == "__main__":
    main()
