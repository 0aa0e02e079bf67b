"""The 26 experiments count as they were decoded, to the last digit."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablc.api import load
from ablc.pipeline import compile_file
from ablc.planning import make_plan
from ablc.planning.counting import count

SPECS = Path(__file__).resolve().parents[2] / "specs"
PARAMS = {
    "01": 405_334_016, "02": 330_623_168, "03": 330_623_168, "04": 332_983_040, "05": 355_008_512, "06": 304_572_416,
    "07": 305_850_752, "08": 305_432_768, "09": 305_432_768, "10": 104_401_280, "11": 141_775_040, "12": 308_545_720,
    "13": 324_110_480, "14": 314_771_624, "15": 311_658_672, "16": 163_998_008, "17": 214_255_880, "18": 220_353_704,
    "19": 2_775_208_960, "20": 1_997_624_552, "21": 2_056_361_168, "22": 291_211_536, "23": 266_537_328,
    "24": 1_692_226_992, "25": 405_334_016, "26": 380_102_656,
}  # fmt: skip
TRAINABLE = {"25": 353_822_720}


def test_there_are_26() -> None:
    assert sorted(path.stem for path in SPECS.glob("*.abl")) == sorted(PARAMS)


@pytest.mark.parametrize("number", sorted(PARAMS))
def test_a_spec_counts_as_decoded(number: str) -> None:
    compiled = compile_file(SPECS / f"{number}.abl")
    assert compiled.faults == ()
    (one,) = compiled.variants
    counted = count(one.plan)
    assert (counted.params, counted.trainable) == (PARAMS[number], TRAINABLE.get(number, PARAMS[number]))
    assert all(verdict.holds is not False for verdict in one.verdicts)
    assert any(verdict.holds for verdict in one.verdicts)


@pytest.mark.parametrize("number", sorted(PARAMS))
def test_the_parts_of_a_count_add_up(number: str) -> None:
    (one,) = compile_file(SPECS / f"{number}.abl").variants
    counted = count(one.plan)
    outside = sum(counted.by_slot[slot] for slot in ("embedding", "final_norm", "lm_head"))
    assert counted.params == outside + sum(counted.by_layer)
    assert sum(counted.by_layer) == counted.by_slot["layer"]
    inside = ("attention", "mlp", "attention.norm", "mlp.norm")
    assert counted.by_slot["layer"] == sum(counted.by_slot[slot] for slot in inside)


def test_a_spec_that_was_loaded_plans_the_same_again() -> None:
    from ablc.api import plan

    spec = load(SPECS / "18.abl")
    (one,) = compile_file(SPECS / "18.abl").variants
    assert plan(spec) == one.plan == make_plan(spec, one.plan.original, [])
