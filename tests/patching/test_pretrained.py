"""From the weights of a base: only what the plan keeps is read, under the names it has, or it is said why not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import ablc
from ablc.bases.hub import hub_id
from ablc.patching import CheckpointError, checkpoint, start_from, weights_source
from ablc.patching.patch import shapes_of

from .checkpoints import base_model, logits, saved
from .conftest import BASES, LLAMA, NEOX, plan_of

FULL = "attention = lora(32); attention.out = lora(32); mlp = lora_mlp(32); embedding = lora(32); lm_head = lora(32)"
TIED = {family: text.replace("vocab_size", "tie_word_embeddings = true, vocab_size") for family, text in BASES.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "base"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tensors that are read, under the names that the files have."""
    seen: list[str] = []
    real = checkpoint.safe_open

    class Spy:
        def __init__(self, *args: Any, **options: Any) -> None:
            self._file = real(*args, **options)

        def __enter__(self) -> Spy:
            self._file.__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self._file.__exit__(*error)

        def get_tensor(self, name: str) -> torch.Tensor:
            seen.append(name)
            tensor: torch.Tensor = self._file.get_tensor(name)
            return tensor

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    monkeypatch.setattr(checkpoint, "safe_open", Spy)
    return seen


@pytest.mark.parametrize("family", sorted(BASES))
@pytest.mark.parametrize("options", [{}, {"max_shard_size": "20KB"}], ids=["one file", "sharded"])
def test_an_untouched_plan_is_the_base(family: str, options: dict[str, str], folder: Path) -> None:
    base = saved(family, folder, **options)
    assert (folder / "model.safetensors.index.json").exists() == bool(options)
    model, rows = start_from(plan_of(BASES[family] + "mlp = full"), folder)
    assert rows == () and model.training
    assert torch.equal(logits(model), logits(base))


@pytest.mark.parametrize("family", sorted(BASES))
def test_at_full_rank_svd_is_the_base(family: str, folder: Path) -> None:
    base = saved(family, folder)
    model, rows = start_from(plan_of(BASES[family] + FULL), str(folder), init="svd")
    assert float((logits(model) - logits(base)).abs().max()) < 1e-4
    assert rows and all(row.error is not None and row.error < 1e-6 for row in rows)


@pytest.mark.parametrize("family", sorted(BASES))
def test_only_what_is_kept_or_decomposed_is_read(family: str, folder: Path, reads: list[str]) -> None:
    saved(family, folder)
    text = (
        BASES[family] + "attention[0] = none; layer[1] = none; mlp[2] = nonlinear_lora(4); attention.out[2] = lora(2)"
    )
    plan = plan_of(text)
    first = start_from(plan, folder)
    kept = shapes_of(plan.original).keys() & shapes_of(plan.blueprint).keys()
    head = {"lm_head.weight": "embed_out.weight"} if family == "gpt_neox" else {}
    assert sorted(reads) == sorted(head.get(name, name) for name in kept)
    reads.clear()
    start_from(plan, folder, init="svd")
    out = {name for name in shapes_of(plan.original) if ".2." in name and (".dense." in name or "o_proj" in name)}
    assert len(out) == (2 if family == "gpt_neox" else 1)
    assert sorted(reads) == sorted(head.get(name, name) for name in kept | out)
    assert first[1] == ()


def test_the_kept_weights_are_the_files_and_the_new_ones_those_of_the_seed(folder: Path) -> None:
    base = dict(saved("gpt_neox", folder).named_parameters())
    plan = plan_of(NEOX + "mlp.up[1] = lora(3); mlp[2] = nonlinear_lora(4)")
    scratch = dict(ablc.build(plan, seed=6, init="product").named_parameters())
    model, _ = start_from(plan, folder, seed=6, init="product")
    for name, value in model.named_parameters():
        assert torch.equal(value, base[name] if name in base else scratch[name]), name


def test_dtype_and_frozen_parts(folder: Path) -> None:
    saved("llama", folder)
    model, _ = start_from(plan_of(LLAMA + "mlp = lora_mlp(2); freeze mlp[1]"), folder, init="svd", dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {n.split(".mlp")[0] for n, p in model.named_parameters() if not p.requires_grad} == {"model.layers.1"}


def test_a_half_precision_checkpoint_is_read_in_the_dtype_that_is_asked(folder: Path) -> None:
    base_model(NEOX).half().save_pretrained(folder)
    model, _ = start_from(plan_of(NEOX + "mlp[0] = none"), folder)
    stored = load_file(folder / "model.safetensors")
    assert stored["embed_out.weight"].dtype == torch.float16
    assert torch.equal(model.lm_head.weight, stored["embed_out.weight"].float())


@pytest.mark.parametrize("family", sorted(BASES))
@pytest.mark.parametrize("under", ["embedding", "head", "both"])
def test_tied_weights_under_either_name(family: str, under: str, folder: Path) -> None:
    base = saved(family, folder, TIED[family])
    file = folder / "model.safetensors"
    tensors = load_file(file)
    table, head = ("gpt_neox.embed_in.weight", "embed_out.weight"), ("model.embed_tokens.weight", "lm_head.weight")
    table_name, head_name = table if family == "gpt_neox" else head
    assert head_name not in tensors
    if under != "embedding":
        tensors[head_name] = tensors[table_name].clone() if under == "both" else tensors.pop(table_name)
    save_file(tensors, file)
    model, _ = start_from(plan_of(TIED[family] + "mlp[1] = none"), folder)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert torch.equal(model.lm_head.weight, base.lm_head.weight)


@pytest.mark.parametrize("family", sorted(BASES))
def test_a_checkpoint_without_the_head_lacks_the_first_word_of_its_names(family: str, folder: Path) -> None:
    base = base_model(TIED[family])
    base.base_model.save_pretrained(folder)
    assert not any(name.startswith(("gpt_neox.", "model.")) for name in load_file(folder / "model.safetensors"))
    model, _ = start_from(plan_of(TIED[family] + "mlp = full"), folder)
    assert torch.equal(logits(model), logits(base))


def test_old_buffers_are_left_out_and_so_are_layers_beyond_an_overridden_depth(folder: Path) -> None:
    base = saved("gpt_neox", folder)
    file = folder / "model.safetensors"
    old = {
        f"gpt_neox.layers.{i}.attention.{name}": torch.zeros(1) for i in range(4) for name in ("bias", "masked_bias")
    }
    old["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = torch.zeros(4)
    save_file({**load_file(file), **old}, file)
    text = NEOX.replace("num_hidden_layers = 4", "num_hidden_layers = 2")
    model, _ = start_from(plan_of(text + "mlp = full"), folder)
    assert torch.equal(
        model.gpt_neox.layers[1].mlp.dense_h_to_4h.weight, base.gpt_neox.layers[1].mlp.dense_h_to_4h.weight
    )


@pytest.mark.parametrize("init", ["normal", "svd"])
def test_a_report_of_any_start(init: Any, folder: Path) -> None:
    saved("llama", folder)
    plan = plan_of(LLAMA + "attention.out[1:] = lora(4); mlp[0] = lora(2)")
    _, rows = start_from(plan, folder, init=init, report=True)
    assert [(row.slot, row.layer, row.rank) for row in rows] == [
        ("mlp", 0, 2),
        *(("attention.out", layer, 4) for layer in (1, 2, 3)),
    ]
    for row in rows[1:]:
        assert row.error is not None and row.optimal is not None
        assert (abs(row.error - row.optimal) < 1e-6) == (init == "svd")
        assert json.loads(json.dumps(row.facts()))["path"] == f"model.layers.{row.layer}.self_attn.o_proj"
    assert rows[0].note == "not a matrix"


# --- what can't be loaded --------------------------------------------------------------------------------------------


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


DENSE = "gpt_neox.layers.{}.attention.dense.weight"
MISSING = [DENSE.format(layer) for layer in range(4)]


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda t: [t.pop(name) for name in MISSING], r"lacks .*\.0\..*\.2\.attention\.dense\.weight and 1 more"),
        (lambda t: t.update({MISSING[1]: torch.zeros(32, 8)}), r"\.1\.attention\.dense\.weight is 32 × 8 and not 32 ×"),
        (lambda t: t.update({MISSING[1]: torch.zeros(32, 32, dtype=torch.int8)}), "is I8: quantised weights"),
        (lambda t: t[MISSING[2]].fill_(float("inf")), r"layers\.2\.attention\.dense\.weight of .* aren't finite"),
        (lambda t: t.update({"gpt_neox.layers.0.extra.weight": torch.zeros(2)}), "the plan's base hasn't: .*extra"),
    ],
    ids=["missing", "another shape", "quantised", "not finite", "unknown"],
)  # fmt: skip
def test_weights_that_dont_fit(edit: Callable[[Any], Any], sentence: str, folder: Path) -> None:
    saved("gpt_neox", folder)
    change(folder, edit)
    with pytest.raises(CheckpointError, match=sentence):
        start_from(plan_of(NEOX + "mlp = lora(2)"), folder)


def test_what_the_plan_doesnt_need_may_be_missing(folder: Path) -> None:
    saved("gpt_neox", folder)
    change(folder, lambda tensors: [tensors.pop(name) for name in MISSING])
    start_from(plan_of(NEOX + "attention.out = lora(2)"), folder)
    with pytest.raises(CheckpointError, match="lacks"):
        start_from(plan_of(NEOX + "attention.out = lora(2)"), folder, init="svd")


def test_weights_of_another_family(folder: Path) -> None:
    saved("llama", folder)
    with pytest.raises(CheckpointError, match="holds weights that the plan's base hasn't") as error:
        start_from(plan_of(NEOX + "mlp = full"), folder)
    assert error.value.help and "another model" in error.value.help


def damage_index(folder: Path, text: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickled weights only"),
        (lambda f: (f / "model.safetensors").write_bytes(b"not these"), "is no safetensors file"),
        (lambda f: damage_index(f, "{"), "is no index of files"),
        (lambda f: damage_index(f, '{"weight_map": {"a": "../other/x.safetensors"}}'), "a file outside the checkpoint"),
        (lambda f: damage_index(f, '{"weight_map": {"lm_head.weight": "gone.safetensors"}}'), "lacks"),
    ],
    ids=["empty", "pickles", "damaged", "bad index", "outside", "index only"],
)
def test_files_that_are_no_checkpoint(harm: Callable[[Path], Any], sentence: str, folder: Path) -> None:
    saved("gpt_neox", folder)
    harm(folder)
    with pytest.raises(CheckpointError, match=sentence):
        start_from(plan_of(NEOX + "mlp = full"), folder)


def test_a_shard_that_is_gone(folder: Path) -> None:
    saved("gpt_neox", folder, max_shard_size="20KB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"has no {shard.name}, which its index names"):
        start_from(plan_of(NEOX + "mlp = full"), folder)


# --- where the weights lie -------------------------------------------------------------------------------------------


def test_a_local_base_counts_from_the_file_that_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved("gpt_neox", tmp_path / "specs" / "base")
    (tmp_path / "specs" / "own.abl").write_text('model = "./base"\nmlp = lora(2)')
    (tmp_path / "specs" / "sub").mkdir()
    (tmp_path / "specs" / "sub" / "more.abl").write_text('extends "../own.abl"\nattention[0] = none')
    monkeypatch.chdir(tmp_path)
    for file in ("specs/own.abl", "specs/sub/more.abl", tmp_path / "specs" / "own.abl"):
        assert weights_source(ablc.load(file)) == str(tmp_path / "specs" / "base")
    saved("gpt_neox", tmp_path / "specs" / "sub" / "base")
    with pytest.raises(CheckpointError, match="may be"):
        weights_source(ablc.load("specs/sub/more.abl"))


def test_a_built_in_short_name_has_a_hub_id() -> None:
    assert hub_id("llama-3.1-8b") == "meta-llama/Llama-3.1-8B"
    assert hub_id("EleutherAI/pythia-14m-deduped") == "EleutherAI/pythia-14m-deduped"
    assert weights_source(ablc.loads(LLAMA)) == "meta-llama/Llama-3.1-8B"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local cache of the hub; gives where a commit of owner/name lies in it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = tmp_path / "hub" / "models--owner--name"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("c0ffee")
    return model / "snapshots" / "c0ffee"


@pytest.mark.parametrize("options", [{}, {"max_shard_size": "20KB"}], ids=["one file", "sharded"])
def test_from_the_local_cache_of_the_hub_without_a_network(options: dict[str, str], hub_cache: Path) -> None:
    base = saved("gpt_neox", hub_cache, **options)
    model, _ = start_from(plan_of(NEOX + "mlp = full"), "owner/name")
    assert torch.equal(logits(model), logits(base))


def test_without_a_network_it_says_so_at_once(hub_cache: Path) -> None:
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match="the weights of `owner/name` can't be had: HF_HUB_OFFLINE") as error:
        start_from(plan_of(NEOX + "mlp = full"), "owner/name")
    assert error.value.help and "local directory" in error.value.help
    saved("gpt_neox", hub_cache, max_shard_size="20KB")
    next(hub_cache.glob("model-00002*")).unlink()
    with pytest.raises(CheckpointError, match="can't be had"):
        start_from(plan_of(NEOX + "mlp = full"), "owner/name")
    with pytest.raises(CheckpointError, match="can't be had"):
        start_from(plan_of(NEOX + "mlp = full"), "no such/hub/id")
    assert time.perf_counter() - started < 5


def test_only_the_shards_that_are_needed_are_fetched(
    folder: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    saved("gpt_neox", folder, max_shard_size="20KB")
    fetched: list[str] = []

    def download(name: str, file: str) -> str:
        fetched.append(file)
        return str(folder / file)

    monkeypatch.setattr(checkpoint, "hub_answers", lambda kind, name: (True, ""))
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, name: [p.name for p in folder.iterdir()])
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    start_from(plan_of(NEOX + "layer = none"), "owner/name")
    shards = set(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].values())
    assert fetched[0] == "model.safetensors.index.json"
    assert len(fetched[1:]) == len(set(fetched[1:])) and set(fetched[1:]) < shards
