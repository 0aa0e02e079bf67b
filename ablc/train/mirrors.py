"""Where a run can be watched: Weights & Biases, TensorBoard, trackio."""

from __future__ import annotations

import importlib.util
import netrc
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ablc.faults import UserError
from ablc.planning.counting import summary
from ablc.train.tracking import Mirror, Mirrored

PROJECT = "ablc"


class MirrorError(UserError):
    """A mirror that isn't installed."""

    code = "no-mirror"


def mirrors(wandb: str, names: list[str], tell: Callable[[str], None]) -> list[Mirror]:
    """The mirrors a command asked for: `wandb` is online, offline or off; `names` are of tensorboard and trackio.

    Without a key wandb would ask for one and wait: it stays offline, which is told.

    Raises MirrorError where a package is missing.
    """
    if wandb == "online" and not _has_key():
        tell("wandb has no key here, so its mirror is written offline (get one with `wandb login`; `wandb sync` later)")
        wandb = "offline"
    made: list[Mirror] = [] if wandb == "off" else [Wandb(wandb)]
    check_installed(names)
    return made + [TensorBoard() if name == "tensorboard" else Trackio() for name in names]


def check_installed(names: list[str]) -> None:
    """Raise MirrorError where a package is missing."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MirrorError(f"{name} isn't installed", f"pip install 'ablc[{name}]'")


def _has_key() -> bool:
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class Wandb:
    """Weights & Biases. All processes that go on with one run share its id."""

    name = "wandb"

    def __init__(self, mode: str) -> None:
        self.mode: Any = mode
        self._run: Any = None
        self._alone = False

    def start(self, run: Mirrored) -> None:
        import wandb

        self._alone = wandb.run is None  # else this process has a run of its own, which goes on
        identity = run.facts["mirror_id"]
        if self.mode == "offline":
            # Syncing two directories of one id lets the second replace the first. The new one gets the whole history.
            for old in (run.folder / "wandb").glob(f"offline-run-*-{identity}"):
                shutil.rmtree(old, ignore_errors=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=title(run),
            id=identity,
            resume="allow" if self.mode == "online" else None,
            dir=str(run.folder),
            mode=self.mode,
            config={**run.facts, "plan": run.plan.to_json()},
            tags=tags(run),
            settings=wandb.Settings(init_timeout=30, silent=True),
        )
        known = self._run.step if self.mode == "online" else 0
        for entry in run.history:
            if entry["step"] >= known:
                self.log(entry["step"], {key: value for key, value in entry.items() if key != "step"})
        table = wandb.Table(columns=["slot", "base", "this spec"], data=[list(row) for row in summary(run.plan)])
        self._run.summary["parameters"] = table

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        self._run.log(dict(metrics), step=step)

    def finish(self, summary: Mapping[str, Any], failed: bool) -> None:
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=int(failed))

    def close(self) -> None:
        """End its service, which only then has written everything. Left to the end of this process, one that was killed
        would have wandb print a traceback there."""
        import wandb

        if self._alone:
            wandb.teardown()


class TensorBoard:
    """Event files in the run's own directory, for `tensorboard --logdir runs`."""

    name = "tensorboard"

    def start(self, run: Mirrored) -> None:
        from torch.utils.tensorboard import SummaryWriter

        after = run.history[-1]["step"] + 1 if run.history else 0
        self._writer: Any = SummaryWriter(str(run.folder / "tensorboard"), purge_step=after)
        rows = [f"|{slot}|{before:,}|{now:,}|" for slot, before, now in summary(run.plan)]
        self._writer.add_text("parameters", "\n".join(["|slot|base|this spec|", "|---|--:|--:|", *rows]))

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, summary: Mapping[str, Any], failed: bool) -> None:
        pass

    def close(self) -> None:
        self._writer.close()


class Trackio:
    """trackio, which keeps its runs on this machine."""

    name = "trackio"

    def start(self, run: Mirrored) -> None:
        import trackio

        name = f"{title(run)}-{run.facts['mirror_id']}"
        self._run: Any = trackio.init(project=PROJECT, name=name, config=dict(run.facts), resume="allow")
        # Only the next step it would number itself says what it has; a step that is logged twice it shows twice.
        taken = run.history[-1]["step"] + 1 if run.history else 0
        self._known = getattr(self._run, "_next_step", taken)
        for entry in run.history:
            self.log(entry["step"], {key: value for key, value in entry.items() if key != "step"})

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        if step >= self._known:
            self._run.log(dict(metrics), step=step)

    def finish(self, summary: Mapping[str, Any], failed: bool) -> None:
        self._run.finish()

    def close(self) -> None:
        pass


def title(run: Mirrored) -> str:
    variant = run.facts["variant"]
    return f"{run.facts['name']}@{variant}" if variant else str(run.facts["name"])


def tags(run: Mirrored) -> list[str]:
    """What runs are searched by: the recipe, the scale, the base model, the plan. wandb takes 64 characters each."""
    facts = run.facts
    recipe, base = Path(facts["recipe"]).stem, str(facts["model"]).rpartition("/")[2]
    return [tag[:64] for tag in (recipe, f"scale {facts['scale']}", base, facts["fingerprint"][:12]) if tag]
