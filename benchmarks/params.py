"""How long counting takes, beside the shortest correct way to count without ablc.

    python benchmarks/params.py [--rounds 7]

Whole processes, in turn, in one run: so that what is compared is what a user waits for. The other way imports
transformers, builds each of the 26 models on the meta device, patches it by hand, and sums; it is `by_hand` below, and
must come to the same counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted((ROOT / "specs").glob("*.abl"))
ABLC = [str(Path(sys.executable).with_name("ablc")), "params"]


def by_hand() -> list[int]:
    """The parameters of the 26 experiments, built and patched on the meta device."""
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM, GPTNeoXConfig

    def pair(i: int, r: int, o: int, *middle: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Linear(i, r), *middle, nn.Linear(r, o))

    def config(h: int, layers: int, heads: int) -> GPTNeoXConfig:
        sizes = {
            "hidden_size": h,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * h,
        }
        return GPTNeoXConfig(vocab_size=50304, **sizes)

    small, large = config(1024, 24, 16), config(2560, 32, 32)

    def count(config, qkv=None, dense=None, mlp=None, first=0, mlps=(), no_attention=False, embedding=0, frozen=False):
        model = AutoModelForCausalLM.from_config(config)
        d = config.hidden_size
        for i, layer in enumerate(model.gpt_neox.layers):
            if no_attention:
                layer.attention = nn.Identity()
                continue
            if qkv and i >= first:
                layer.attention.query_key_value = pair(d, qkv, 3 * d)
            if dense == "none":
                layer.attention.dense = nn.Identity()
            elif dense:
                layer.attention.dense = pair(d, dense, d)
            if mlp and i in mlps:
                kind, r = mlp
                if kind == "whole":
                    layer.mlp = pair(d, r, d, nn.GELU())
                else:
                    layer.mlp.dense_h_to_4h = pair(d, r, 4 * d)
                    layer.mlp.dense_4h_to_h = pair(4 * d, r, d)
        if embedding:
            v = config.vocab_size
            model.gpt_neox.embed_in = nn.Sequential(nn.Embedding(v, embedding), nn.Linear(embedding, d, bias=False))
        model.gpt_neox.embed_in.requires_grad_(not frozen)
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    half = large.num_hidden_layers // 2
    whole8, lora16 = ("whole", 8), ("lora", 16)
    every = range(24)
    experiments = [
        {},
        *({"qkv": r} for r in (8, 8, 32, 256)),
        {"no_attention": True},
        {"qkv": 8, "dense": 8},
        *({"qkv": 8, "dense": "none"} for _ in range(2)),
        {"qkv": 8, "dense": "none", "mlp": whole8, "mlps": every},
        {"qkv": 8, "dense": "none", "mlp": ("whole", 768), "mlps": every},
        *({"qkv": 8, "dense": "none", "first": n} for n in (1, 6, 3, 2)),
        {"qkv": 8, "dense": "none", "first": 3, "mlp": whole8, "mlps": range(6, 24)},
        {"qkv": 8, "dense": "none", "first": 3, "mlp": whole8, "mlps": range(12, 24)},
        {"qkv": 8, "dense": "none", "first": 3, "mlp": ("whole", 256), "mlps": range(12, 24)},
        {"config": large},
        *({"config": large, "qkv": 8, "dense": "none", "first": n} for n in (3, 6)),
        {"qkv": 8, "dense": "none", "first": 6, "mlp": lora16, "mlps": range(20, 24)},
        {"qkv": 8, "dense": "none", "first": 6, "mlp": lora16, "mlps": range(12, 19)},
        {"config": large, "qkv": 8, "dense": "none", "first": 6, "mlp": lora16, "mlps": range(half, half + 7)},
        {"frozen": True},
        {"embedding": 512},
    ]
    with torch.device("meta"):
        return [count(**{"config": small, **experiment}) for experiment in experiments]


def timed(command: list[str]) -> float:
    """Seconds that a process takes; it must succeed."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - started


def same_counts() -> None:
    """Stop unless both ways count the same."""
    from ablc.blueprint.measures import trainable
    from ablc.pipeline import compile_file

    ours = [trainable(compile_file(path).variants[0].plan.blueprint) for path in SPECS]
    if ours != by_hand():
        sys.exit("the two ways don't count the same")


def thousand(folder: Path) -> list[str]:
    """A thousand different specs, as files."""
    for number in range(1000):
        text = 'model = "EleutherAI/pythia-410m"\nattention.out = none\n'
        text += f"attention.qkv[{number % 24}:] = lora({1 + number % 700})\n"
        text += f"mlp[{number % 20}:] = nonlinear_lora({2 + number // 2})\nexpect params < 500_000_000\n"
        (folder / f"{number:04}.abl").write_text(text)
    return [*ABLC, str(folder)]


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of each command in each round; a round runs every command once, so that noise falls on all alike."""
    one = [*ABLC, "-e", "attention[3:] = lora(8)", "--model"]
    with tempfile.TemporaryDirectory() as name:
        commands = {
            "ablc params, the 26 specs": [*ABLC, *map(str, SPECS)],
            "by hand on the meta device, the 26": [sys.executable, __file__, "--by-hand"],
            "ablc params, 1,000 specs": thousand(Path(name)),
            "ablc params, one spec on pythia-14m": [*one, "EleutherAI/pythia-14m"],
            "ablc params, one spec on llama-3.1-405b": [*one, "llama-3.1-405b"],
        }
        seconds: dict[str, list[float]] = {label: [] for label in commands}
        for command in commands.values():
            timed(command)  # fills the file cache and the grammar cache
        for _ in range(rounds):
            for label, command in commands.items():
                seconds[label].append(timed(command))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--by-hand", action="store_true", help="only count, without ablc (used by the benchmark itself)"
    )
    arguments = parser.parse_args()
    if arguments.by_hand:
        print(by_hand())
        return
    same_counts()
    seconds = measure(arguments.rounds)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {arguments.rounds} rounds\n"
    )
    for label, values in seconds.items():
        print(f"{label:42} median {statistics.median(values):6.3f} s   best {min(values):6.3f} s")
    ours, theirs = (seconds[label] for label in list(seconds)[:2])
    ratio = statistics.median(theirs) / statistics.median(ours)
    by_round = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"\nratio of the medians {ratio:.1f}, median of the rounds' ratios {by_round:.1f}")


if __name__ == "__main__":
    main()
