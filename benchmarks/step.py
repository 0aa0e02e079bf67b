"""What a step on the CPU is made of.

    python benchmarks/step.py [--specs 01,10] [--factor 8]

Each spec is trained as `ablc run` does, at a fraction of the width; the profiler of PyTorch says what its kernels take.
It costs some time itself, so the whole is what a step takes without it, and each kind has its share of that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STEPS = 10
KINDS = {
    "attention": ("aten::_scaled_dot_product",),
    "products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "norms": ("aten::native_layer_norm",),
    "activations": ("aten::gelu",),
    "optimizer": ("aten::_fused_adamw_", "Optimizer.step", "aten::_foreach", "aten::linalg_vector_norm"),
}
HEAD, REST = "output head", "copies, sums, positions"


def kind_of(event: Any, vocabulary: int) -> str:
    """What an operator of PyTorch belongs to."""
    found = next((kind for kind, names in KINDS.items() if event.key.startswith(names)), REST)
    if found in ("products", REST) and any(vocabulary in shape for shape in event.input_shapes):
        return HEAD
    return found


def profiled(spec: str, factor: int) -> tuple[float, Counter[str]]:
    """Milliseconds of a step without the profiler, and of its kinds of operators with it."""
    import torch

    import ablc
    from ablc.recipes import load_recipe, make_recipe
    from ablc.train import loop
    from ablc.train.work import assemble, prepare
    from ablc.train.workers import workers

    keys = {"steps": 4 * STEPS, "scale": f"1/{factor}", "eval_blocks": 1}
    with workers() as team:
        recipe = make_recipe(load_recipe("local"), {}, keys)
        work = prepare(ablc.load(ROOT / "specs" / f"{spec}.abl"), recipe, "local", team).work
        job = assemble(work).job

    def step(number: int) -> float:
        started = time.perf_counter()
        loop.accumulate(job, job.data.batch(number, seed=0, batch_size=recipe.batch_size))
        loop.clip(job.optimizer, recipe.clip)
        job.optimizer.step()
        job.optimizer.zero_grad()
        return 1000 * (time.perf_counter() - started)

    times = [step(number) for number in range(2 * STEPS)][STEPS:]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        for number in range(STEPS):
            step(2 * STEPS + number)
    kinds: Counter[str] = Counter()
    for event in profile.key_averages(group_by_input_shape=True):
        kinds[kind_of(event, work.data.vocab_size)] += event.self_cpu_time_total / 1000 / STEPS
    return statistics.median(times), kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--specs", default="01,06,10,23")
    parser.add_argument("--factor", type=int, default=8)
    options = parser.parse_args()
    kinds = [*KINDS, HEAD, REST]
    print(
        f"1/{options.factor} of the width; milliseconds\n\nspec  whole step",
        *(f"{kind:>{len(kind) + 2}}" for kind in kinds),
    )
    for spec in options.specs.split(","):
        whole, found = profiled(spec, options.factor)
        scale = whole / found.total()
        print(f"{spec:4}  {whole:10.1f}", *(f"{found[kind] * scale:{len(kind) + 2}.1f}" for kind in kinds), flush=True)


if __name__ == "__main__":
    main()
