"""An export in processes that have never seen it: after `import ablc`, and in an environment without ablc."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import torch

import ablc

from .conftest import LLAMA, NEOX, logits, plan_of, record, tokens, trained

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:exported without a tokenizer")]
STATEMENT = "attention[0] = none; attention.qkv[1:] = lora(4); mlp[2] = nonlinear_lora(5); lm_head = lora(9)"
LOAD = """
import sys, torch
{before}
from transformers import AutoModelForCausalLM
{after}
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], {options}).eval()
given = torch.load(sys.argv[2])
with torch.no_grad():
    assert torch.equal(model(given["ids"]).logits, given["logits"]), "other logits"
    assert torch.equal(model.generate(given["ids"], **given["options"]), given["generated"]), "other text"
print(type(model).__module__)
"""
# Wherever ablc lies in the packages, it isn't there.
WITHOUT = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ablc":
            raise ModuleNotFoundError("No module named 'ablc'", name="ablc")
sys.meta_path.insert(0, Nowhere())
"""


@pytest.fixture(scope="module")
def out(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export in `out`, and what its model gives in `expected.pt`."""
    base = getattr(request, "param", NEOX)
    folder = tmp_path_factory.mktemp("exported")
    plan = plan_of(base + STATEMENT)
    live = trained(plan)
    ablc.export(record(folder / "run", plan, live), folder / "out")
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    ids = tokens(3, 17)
    generated = live.generate(ids, use_cache=False, **options)
    given = {"ids": ids, "logits": logits(live), "options": options, "generated": generated}
    torch.save(given, folder / "expected.pt")
    return folder


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new virtual environment that has what stands in ours, all but ablc."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    Path(own, "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def run(python: Path | str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    # Isolated: neither the working directory nor PYTHONPATH may bring ablc in where it shouldn't be.
    command = [str(python), "-I", "-c", code, str(folder / "out"), str(folder / "expected.pt")]
    surroundings = {**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import ablc", ""),
        ("", "import ablc"),
        ("import ablc; import transformers", ""),
        ("import transformers.models.auto.configuration_auto", "import ablc"),
        ("import ablc; from transformers import AutoConfig; AutoConfig.from_pretrained(sys.argv[1])", ""),
    ],
)
def test_it_loads_after_import_ablc(out: Path, before: str, after: str) -> None:
    done = run(sys.executable, LOAD.format(before=before, after=after, options=""), out)
    assert (done.returncode, done.stdout) == (0, "ablc.modeling_ablc\n"), done.stderr
    assert "UserWarning" not in done.stderr


@pytest.mark.parametrize("out", [NEOX, LLAMA], ids=["gpt_neox", "llama"], indirect=True)
def test_it_loads_without_ablc_where_its_code_is_trusted(out: Path, stranger: Path) -> None:
    done = run(stranger, WITHOUT + LOAD.format(before="", after="", options="trust_remote_code=True"), out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("transformers_modules.") and done.stdout.endswith(".modeling_ablc\n")


def test_saved_again_without_ablc_it_still_loads(out: Path, stranger: Path) -> None:
    again = 'model.save_pretrained(sys.argv[1] + "/../again")'
    done = run(stranger, WITHOUT + LOAD.format(before="", after="", options="trust_remote_code=True") + again, out)
    assert done.returncode == 0, done.stderr
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(out / "again", output_loading_info=True)
    assert not any(info.values())
    assert torch.equal(logits(model.eval()), torch.load(out / "expected.pt")["logits"])


@pytest.mark.parametrize("options", ["", "trust_remote_code=False"])
def test_without_ablc_and_without_trust_it_fails_aloud(out: Path, stranger: Path, options: str) -> None:
    done = run(stranger, WITHOUT + LOAD.format(before="", after="", options=options), out)
    assert done.returncode == 1 and "trust_remote_code=True" in done.stderr


def test_the_stranger_has_no_ablc(out: Path, stranger: Path) -> None:
    done = run(stranger, WITHOUT + "import transformers\nimport ablc", out)
    assert done.returncode == 1 and done.stderr.endswith("ModuleNotFoundError: No module named 'ablc'\n")


def test_transformers_stays_usable_where_registering_fails(out: Path) -> None:
    broken = 'import ablc, sys; sys.modules["ablc.modeling_ablc"] = None; from transformers import AutoConfig'
    done = run(sys.executable, f'{broken}\nprint(AutoConfig.for_model("llama").model_type)', out)
    assert (done.returncode, done.stdout) == (0, "llama\n")
    assert "AutoModelForCausalLM won't know the exports of ablc" in done.stderr
