"""What counting may import, and that everything before patching works without torch."""

from __future__ import annotations

import json

import pytest
from processes import python

HEAVY = [
    "torch",
    "transformers",
    "numpy",
    "huggingface_hub",
    "datasets",
    "tokenizers",
    "wandb",
    "safetensors",
    "pandas",
    "requests",
    "httpx",
    "pytest",
]
LIGHT = {
    "ablc", "lark", "pydantic", "pydantic_core", "rich", "typer", "click",
    # what these bring along
    "annotated_doc", "annotated_types", "colorama", "interegular", "markdown_it", "mdurl", "pygments", "regex",
    "shellingham", "typing_extensions", "typing_inspection", "_distutils_hack",
}  # fmt: skip

IMPORTED = """
import json, sys
from ablc.cli.app import app
try:
    app(sys.argv[1:], standalone_mode=False)
except SystemExit:
    pass
files = {name.partition(".")[0]: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
third_party = {name for name, file in files.items() if "site-packages" in file}
print("\\n" + json.dumps({"all": sorted(sys.modules), "third_party": sorted(third_party)}))
"""

BLOCKED = """
import importlib, pkgutil, sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ImportError(f"{name} is beyond the border")


sys.meta_path.insert(0, Blocker())
"""

EVERY_MODULE = """
import ablc

beyond = ("ablc.patching", "ablc.modeling_ablc", "ablc.train", "ablc.exporting", "ablc.cli", "ablc.__main__")
names = [m.name for m in pkgutil.walk_packages(ablc.__path__, "ablc.") if not m.name.startswith(beyond)]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


@pytest.mark.parametrize(
    "args", [["params", "specs"], ["params", "specs", "--format", "json"], ["plan", "specs/18.abl"]]
)
def test_counting_imports_nothing_heavy(args: list[str]) -> None:
    done = python(IMPORTED, *args)
    imported = json.loads(done.stdout.splitlines()[-1])
    assert not set(HEAVY) & set(imported["all"])
    assert "lark" in imported["third_party"]  # so that the test sees what is imported
    assert set(imported["third_party"]) <= LIGHT


def test_every_module_before_patching_imports_without_torch() -> None:
    done = python(BLOCKED + EVERY_MODULE)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


def test_a_spec_is_counted_without_torch() -> None:
    done = python(BLOCKED + 'import ablc; print(ablc.count(ablc.plan(ablc.load("specs/18.abl"))).params)')
    assert done.stdout == "220353704\n", done.stderr


@pytest.mark.parametrize(
    "statement",
    ["import torch", "from torch import nn", "import transformers.models.gpt_neox", "import ablc.patching.modules"],
)
def test_the_border_can_fail(statement: str) -> None:
    done = python(BLOCKED + statement)
    assert done.returncode == 1 and "is beyond the border" in done.stderr
