"""Mirrors show what the record holds, and whatever becomes of them costs the run nothing."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import ablc
from ablc.train import tracking
from ablc.train.mirrors import MirrorError, TensorBoard, Trackio, Wandb, mirrors
from ablc.train.record import Record
from ablc.train.tracking import Mirrored, Tracker

SPEC = 'name = "small"\nmodel = "EleutherAI/pythia-14m"(hidden_size = 32, num_hidden_layers = 2)\nmlp = lora(8)\n'
FACTS = {
    "name": "small",
    "variant": None,
    "mirror_id": "abcd1234",
    "recipe": "local",
    "scale": "1/2",
    "model": "EleutherAI/pythia-14m",
    "fingerprint": "0123456789abcdef",
    "settings": {"lr": 1e-3},
    "seed": 0,
    "base": "EleutherAI/pythia-14m",
    "weights": None,
    "vocab_size": 300,
    "data": {"hash": "0", "tokenizer": {"hash": "0"}},
    "baselines": {"unigram": 5.0, "bigram": 4.0},
    "trained_fingerprint": "0123456789abcdef",
    "steps": 50,
    "final": None,
    "best": None,
}


@pytest.fixture
def record(tmp_path: Path) -> Record:
    spec = ablc.loads(SPEC)
    made = Record(tmp_path / "run", FACTS)
    made.open(spec, ablc.plan(spec), {})
    return made


class Remembers:
    """A mirror that remembers what it was told."""

    name = "remembers"

    def __init__(self, at_log: Callable[[int], None] = lambda step: None) -> None:
        self.at_log = at_log
        self.run: Mirrored | None = None
        self.logged: list[int] = []
        self.closed = 0
        self.ended: tuple[Mapping[str, Any], bool] | None = None

    def start(self, run: Mirrored) -> None:
        self.run = run

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        self.at_log(step)
        self.logged.append(step)

    def finish(self, summary: Mapping[str, Any], failed: bool) -> None:
        self.ended = (summary, failed)

    def close(self) -> None:
        self.closed += 1


def follow(record: Record, tracker: Tracker, steps: range) -> None:
    tracker.start(record)
    for step in steps:
        entry = {"step": step, "loss": 5.0 - step}
        record.log(entry)
        tracker.log(entry)
    tracker.finish({"eval_loss": 1.0, "status": "finished"}, failed=False)


def test_a_mirror_gets_everything_in_order(record: Record) -> None:
    mirror, said = Remembers(), list[str]()
    follow(record, Tracker([mirror], said.append), range(3))
    assert mirror.logged == [0, 1, 2]
    assert (mirror.ended, mirror.closed) == (({"eval_loss": 1.0, "status": "finished"}, False), 1)
    assert said == []
    again = Remembers()
    follow(record, Tracker([again], said.append), range(3, 5))
    assert again.run is not None
    assert [entry["step"] for entry in again.run.history] == [0, 1, 2]
    assert again.logged == [3, 4]


def test_one_that_fails_is_told_once_and_the_other_goes_on(record: Record) -> None:
    def fail(step: int) -> None:
        raise ConnectionError("service is gone\nand more")

    broken, well, said = Remembers(fail), Remembers(), list[str]()
    follow(record, Tracker([broken, well], said.append), range(4))
    assert (well.logged, broken.closed, well.closed) == ([0, 1, 2, 3], 1, 1)
    assert said == ["remembers stopped: service is gone"]


def test_one_that_hangs_delays_no_step(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.5)
    never, said = threading.Event(), list[str]()
    started = time.perf_counter()
    follow(record, Tracker([Remembers(lambda step: never.wait() and None)], said.append), range(100))
    assert time.perf_counter() - started < 5
    assert said == ["remembers doesn't answer; the record is complete without it"]
    never.set()


def test_what_isnt_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MirrorError, match="trackio isn't installed") as raised:
        mirrors("off", ["trackio"], print)
    assert raised.value.help == "pip install 'ablc[trackio]'"
    assert mirrors("off", [], print) == []


@pytest.mark.parametrize("key", ["none", "environment", "netrc"])
def test_without_a_key_wandb_stays_offline(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would ask for one, and wait."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key == "environment":
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    if key == "netrc":
        (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password 0\n")
        (tmp_path / ".netrc").chmod(0o600)
    said: list[str] = []
    (made,) = mirrors("online", [], said.append)
    assert isinstance(made, Wandb)
    assert (made.mode, len(said)) == (("offline", 1) if key == "none" else ("online", 0))


def wait_for(found: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


# --- real ones -------------------------------------------------------------------------------------------------------


def synced(folder: Path) -> dict[int, dict[str, Any]]:
    """What `wandb sync` would send of the one offline run in a folder: the history by step."""
    history = {}
    for message in recorded(folder):
        items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in message.history.item}
        if items:
            history[int(items["_step"])] = items
    return history


def recorded(folder: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("wandb/offline-run-*/run-abcd1234.wandb")
    for data in messages(file.read_bytes()):
        message = wandb_internal_pb2.Record()
        message.ParseFromString(data)
        yield message


def messages(data: bytes, block: int = 32768) -> Iterator[bytes]:
    """The messages of a `.wandb` file: LevelDB's log format after 7 bytes. A message is one piece (1), or a first (2),
    middle ones (3) and a last (4); each piece has 4 bytes of checksum, 2 of length, 1 of kind before it."""
    place, pieces = 7, b""
    while place + 7 <= len(data):
        left = block - place % block
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        if place + 7 + length > len(data):
            return
        pieces += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield pieces
            pieces = b""


def test_what_wandb_gets(record: Record) -> None:
    said: list[str] = []
    follow(record, Tracker([Wandb("offline")], said.append), range(3))
    found = list(recorded(record.folder))
    run = next(message.run for message in found if message.HasField("run"))
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["plan"]["blueprint"] == json.loads(json.dumps(ablc.plan(ablc.loads(SPEC)).to_json()))["blueprint"]
    assert (config["settings"], config["recipe"]) == ({"lr": 1e-3}, "local")
    assert set(run.tags) == {"local", "scale 1/2", "pythia-14m", "0123456789ab"}
    assert (run.run_id, run.display_name, run.project) == ("abcd1234", "small", "ablc")
    summary = {
        item.key or item.nested_key[0]: json.loads(item.value_json)
        for message in found
        for item in message.summary.update
    }
    assert (summary["eval_loss"], summary["status"]) == (1.0, "finished")
    (table,) = record.folder.glob(f"wandb/offline-run-*/files/{summary['parameters']['path']}")
    rows = json.loads(table.read_text())
    assert rows["columns"] == ["slot", "base", "this spec"] and rows["data"][-1][0] in ("total", "trainable")
    assert said == []


def test_an_offline_run_that_was_resumed_syncs_as_one(record: Record) -> None:
    said: list[str] = []
    follow(record, Tracker([Wandb("offline")], said.append), range(3))
    assert sorted(synced(record.folder)) == [0, 1, 2]
    follow(record, Tracker([Wandb("offline")], said.append), range(3, 6))
    history = synced(record.folder)
    assert {step: items["loss"] for step, items in history.items()} == {step: 5.0 - step for step in range(6)}
    assert said == []


KILLED = """\
import json, os, pathlib, signal, subprocess, time
from ablc.train.mirrors import Wandb
from ablc.train.record import Record
from ablc.train.tracking import Tracker

record = Record.reopen(pathlib.Path("run"), {})
tracker = Tracker([Wandb("offline")], lambda said: print("said:", said))
tracker.start(record)
while not list(record.folder.glob("wandb/offline-run-*/run-abcd1234.wandb")):
    time.sleep(0.05)
mine = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()
services = [one for one in mine if b"wandb" in pathlib.Path(f"/proc/{one}/cmdline").read_bytes()]
for service in services:
    os.kill(int(service), signal.SIGKILL)
started = time.perf_counter()
for step in range(50):
    tracker.log({"step": step, "loss": 1.0})
print("services:", len(services), "quick:", time.perf_counter() - started < 1)
tracker.finish({}, failed=False)
"""


def test_a_killed_wandb_service_costs_no_step(record: Record, tmp_path: Path) -> None:
    """Its process is killed in the middle; the run goes on to its end, and at once, and nothing but that is said."""
    record.close("interrupted")
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    said, quick = sorted(done.stdout.splitlines())
    assert quick == "services: 1 quick: True" and said.startswith("said: wandb stopped: ")


def test_tensorboard(record: Record) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said: list[str] = []
    follow(record, Tracker([TensorBoard()], said.append), range(3))
    # The process was killed after step 1, whatever had been shown of step 2.
    record.continue_after(1, processes=1)
    follow(record, Tracker([TensorBoard()], said.append), range(2, 4))
    events = EventAccumulator(str(record.folder / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 5), (1, 4), (2, 3), (3, 2)]
    assert "mlp" in events.Tensors("parameters/text_summary")[0].tensor_proto.string_val[0].decode()
    assert said == []


@pytest.mark.slow
@pytest.mark.parametrize("shown", [range(3), range(2)], ids=["all", "but the last"])
def test_trackio(record: Record, shown: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step once, whether or not a killed process had shown its last ones."""
    import trackio
    from trackio import sqlite_storage

    folder = tmp_path / "trackio"
    for module in (trackio.utils, sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", folder)
    said: list[str] = []
    follow(record, Tracker([Trackio()], said.append), shown)
    for step in range(shown.stop, 3):
        record.log({"step": step, "loss": 5.0 - step})
    record.continue_after(1 if shown.stop == 3 else 2, processes=1)
    follow(record, Tracker([Trackio()], said.append), range(2 if shown.stop == 3 else 3, 5))
    (file,) = folder.rglob("*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
    assert {name for name, _, _ in rows} == {"small-abcd1234"}
    assert [(step, json.loads(metrics)["loss"]) for _, step, metrics in rows] == [(s, 5.0 - s) for s in range(5)]
    assert said == []
