"""Checkpoints: whole or not at all, the last few kept, a damaged one noticed."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ablc.train import checkpoints
from ablc.train.checkpoints import Checkpoints, DamagedCheckpoint, read, restore, save_weights, state_of, weights_of
from ablc.train.workers import Workers

ALONE = Workers(torch.device("cpu"))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def kept(tmp_path: Path, said: list[str]) -> Checkpoints:
    return Checkpoints(tmp_path, keep=2, tell=said.append)


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for step in range(steps):
        take(model, optimizer, step)
    return model, optimizer


def take(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    torch.manual_seed(step)
    model(torch.randn(5, 4)).pow(2).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def save(kept: Checkpoints, steps: int) -> None:
    model, optimizer = trained(steps)
    kept.save(steps, *state_of(model, optimizer, ALONE), {"said": "é"})
    kept.wait()


def steps(kept: Checkpoints) -> list[str]:
    return sorted(path.name for path in kept.folder.iterdir())


def test_what_is_restored_goes_on_bit_by_bit(kept: Checkpoints) -> None:
    save(kept, 3)
    straight, _ = trained(5)
    model, optimizer = trained(1)
    found = kept.newest()
    assert found is not None and (found.step, found.facts["said"]) == (3, "é")
    restore(model, optimizer, found)
    for step in (3, 4):
        take(model, optimizer, step)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), straight.parameters(), strict=True))


def test_what_is_saved_may_change_once_it_is_taken(kept: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file = checkpoints.save_file
    monkeypatch.setattr(checkpoints, "save_file", lambda *given, **how: (time.sleep(0.2), save_file(*given, **how)))
    model, optimizer = trained(2)
    expected = {name: value.clone() for name, value in model.named_parameters()}
    kept.save(2, *state_of(model, optimizer, ALONE), {})
    kept.taken()
    take(model, optimizer, 2)
    kept.wait()
    found = kept.newest()
    assert found is not None
    restore(model, optimizer, found)
    assert all(torch.equal(parameter, expected[name]) for name, parameter in model.named_parameters())


def test_the_last_few_are_kept(kept: Checkpoints) -> None:
    for number in (1, 2, 9, 10):
        save(kept, number)
    assert steps(kept) == ["step-00000009", "step-00000010"]


def test_a_copy_of_ones_own_is_neither_taken_nor_taken_away(kept: Checkpoints) -> None:
    save(kept, 1)
    for name in ("step-00000001-backup", "step-best"):
        shutil.copytree(kept.folder / "step-00000001", kept.folder / name)
    save(kept, 2)
    save(kept, 3)
    assert steps(kept) == ["step-00000001-backup", "step-00000002", "step-00000003", "step-best"]
    newest = kept.newest()
    assert newest is not None and newest.step == 3 and len(steps(kept)) == 4


def test_the_newest_is_that_of_the_highest_step(kept: Checkpoints) -> None:
    save(kept, 1)
    for step in (99_999_999, 100_000_000):
        kept.save(step, *state_of(*trained(1), ALONE), {})
        kept.wait()
    newest = kept.newest()
    assert newest is not None and newest.step == 100_000_000


def test_a_damaged_one_isnt_counted_among_those_that_are_kept(tmp_path: Path, said: list[str]) -> None:
    kept = Checkpoints(tmp_path, keep=1, tell=said.append)
    save(kept, 12)
    flip(kept.folder / "step-00000012" / "model.safetensors")
    assert kept.newest() is None
    save(kept, 3)
    assert steps(kept) == ["damaged-step-00000012", "step-00000003"]


def test_none_is_none(kept: Checkpoints) -> None:
    assert kept.newest() is None


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def rewrite(path: Path) -> None:
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "step": 7}))


FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
DAMAGES = [(file, damage) for file in FILES for damage in (shorten, flip, Path.unlink)] + [("state.json", rewrite)]


@pytest.mark.parametrize(("file", "damage"), DAMAGES)
def test_a_damaged_one_is_told_and_the_one_before_is_taken(
    file: str, damage: Callable[[Path], None], kept: Checkpoints, said: list[str]
) -> None:
    save(kept, 1)
    save(kept, 2)
    damage(kept.folder / "step-00000002" / file)
    found = kept.newest()
    assert found is not None and found.step == 1
    assert len(said) == 1 and "step-00000002 is damaged" in said[0]
    assert steps(kept) == ["damaged-step-00000002", "step-00000001"]
    damage(kept.folder / "step-00000001" / file)
    assert kept.newest() is None


def test_one_that_was_being_written_is_no_checkpoint(kept: Checkpoints) -> None:
    save(kept, 1)
    (kept.folder / ".partial").mkdir()
    (kept.folder / ".partial" / "model.safetensors").write_bytes(b"half")
    found = kept.newest()
    assert found is not None and found.step == 1
    save(kept, 2)
    assert steps(kept) == ["step-00000001", "step-00000002"]


def test_a_failed_write_is_told_and_leaves_the_others(
    kept: Checkpoints, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(kept, 1)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    save(kept, 2)
    assert steps(kept) == ["step-00000001"]
    assert said == ["the checkpoint of step 2 couldn't be written: no space left on device; it goes on without it"]


def test_of_another_model(kept: Checkpoints) -> None:
    save(kept, 1)
    found = kept.newest()
    model = nn.Linear(4, 3)
    assert found is not None
    with pytest.raises(DamagedCheckpoint, match="aren't those of the model"):
        restore(model, torch.optim.AdamW(model.parameters()), found)


def test_nothing_is_unpickled(kept: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    save(kept, 1)
    monkeypatch.setattr("pickle.Unpickler", None)
    monkeypatch.setattr("pickle.load", None)
    monkeypatch.setattr("pickle.loads", None)
    model, optimizer = trained(0)
    restore(model, optimizer, read(kept.folder / "step-00000001"))


@pytest.mark.parametrize("left", ["a file", "a folder"])
def test_what_a_kill_left_of_the_weights_is_in_nobodys_way(left: str, tmp_path: Path) -> None:
    partial = tmp_path / ".model.safetensors.partial"
    if left == "a file":
        partial.write_bytes(b"half")
    else:
        (partial / "sharded").mkdir(parents=True)
    model, _ = trained(1)
    save_weights(weights_of(model), tmp_path)
    checkpoints._renew(partial)  # as several processes begin
    assert list(partial.iterdir()) == []
    assert load_file(tmp_path / "model.safetensors").keys() == dict(model.named_parameters()).keys()


def test_whatever_fails_in_a_checkpoint_is_told(
    kept: Checkpoints, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any, **how: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(checkpoints, "save_file", fail)
    save(kept, 1)
    assert said == ["the checkpoint of step 1 couldn't be written: MemoryError; it goes on without it"]
