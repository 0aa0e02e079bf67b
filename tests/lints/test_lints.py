"""What each lint tells, and what it leaves alone. How it is told stands in tests/faults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from linted import LLAMA, MEDIUM, SMALL, compiled, found, messages, together, told

from ablc.checking import check
from ablc.lints import lint_codes, lints
from ablc.pipeline import compile_file

ROOT = Path(__file__).resolve().parents[2]


def test_a_lint_is_a_file_and_its_code_the_files_name() -> None:
    assert [lint.code for lint in lints()] == [*lint_codes()]
    files = {path.stem for path in (ROOT / "ablc" / "lints").glob("*.py")} - {"__init__", "lint"}
    assert {code.replace("-", "_") for code in lint_codes()} == files


def test_the_specs_that_ship_are_told_only_what_is_so() -> None:
    checked = check([compile_file(path) for path in sorted((ROOT / "specs").glob("*.abl"))])
    warnings = {(Path(one.compiled.file).stem, fault.code) for one in checked for fault in one.faults}
    assert warnings <= {("06", "unread-parameters"), ("09", "linear-in-a-row")}


# --- no-effect and frozen-twice --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("mlp[3:] = full", ["mlp[3:] = full"]),
        ("mlp = full; mlp = lora(8)", ["mlp = full"]),
        ("mlp = lora_mlp(8); mlp.up = lora(8)", ["mlp.up = lora(8)"]),
        ("mlp.up = lora(4); mlp = full; mlp.down = full", ["mlp.down = full"]),
        ("mlp, attention.norm = none; attention.norm[0], mlp[1] = none", ["attention.norm[0], mlp[1] = none"]),
        ("mlp = lora(8); mlp[0] = lora(4); mlp[0] = lora(4)", []),  # that is told of the one before, as erased
        ("attention = none; attention.norm[1:] = full", ["attention.norm[1:] = full"]),
        ("layer[2] = full", ["layer[2] = full"]),
        ("embedding = full", ["embedding = full"]),
        ("mlp = lora(8); mlp = full", []),
        ("mlp.act = none; mlp = lora_mlp(8)", []),
        ("mlp = lora(8); mlp[0] = full", []),
        ("mlp = lora(8); mlp[0] = lora(8, bias=none)", []),
        ("attention[0:3] = full; attention[3:] = lora(8)", []),  # spelled out
        ("attention[3:] = lora(8); attention[0:3] = full", []),
        ("attention[0:3] = full; mlp[3:] = lora(8)", ["attention[0:3] = full"]),
        ("mlp = lora(8 + layer); mlp[2] = lora(10)", ["mlp[2] = lora(10)"]),
        ("vary first = 0, 6\nmlp[first:] = lora(8)", []),  # one variant is changed by it
        ("vary r = 8, 16\nattention = lora(r); mlp[1] = full", ["mlp[1] = full"]),
        ("vary r = 8, 16\nmlp = lora(r); mlp[1] = lora(8)", []),
    ],
)
def test_an_assignment_without_effect(text: str, places: list[str]) -> None:
    assert found("no-effect", text) == places


def test_what_an_extended_file_says_is_compared_and_not_told(tmp_path: Path) -> None:
    (tmp_path / "base.abl").write_text(f'model = "{SMALL}"\nmlp[0] = full; attention = lora(8)\nfreeze embedding\n')
    (tmp_path / "spec.abl").write_text('extends "base.abl"\nattention[2] = lora(8)\nmlp = none\nfreeze embedding\n')
    (checked,) = check([compile_file(tmp_path / "spec.abl")])
    told = [(fault.code, fault.span.text) for fault in checked.faults if fault.span is not None]
    assert ("no-effect", "attention[2] = lora(8)") in told and ("frozen-twice", "embedding") in told
    assert not [place for code, place in told if code == "no-effect" and place.startswith("mlp[0]")]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("freeze mlp; freeze mlp", ["mlp"]),
        ("freeze mlp.up; freeze mlp", ["mlp.up"]),
        ("freeze mlp; freeze mlp.up[2]", ["mlp.up[2]"]),
        ("freeze mlp[0:4]; freeze mlp[2:]", []),
        ("freeze mlp[0:4]; freeze mlp[2:]; freeze mlp[1:5]", ["mlp[1:5]"]),
        ("freeze layer; freeze final_norm", []),
        ("mlp = none; freeze mlp; freeze mlp", []),  # there is nothing to freeze, which is told by itself
        ("vary n = 0, 4\nfreeze mlp[n:]; freeze mlp[4:]", ["mlp[4:]"]),
        ("vary n = 0, 5\nfreeze mlp[n:]; freeze mlp[4:]", []),
    ],
)
def test_what_is_frozen_twice(text: str, places: list[str]) -> None:
    assert sorted(found("frozen-twice", text)) == places


# --- unread-parameters and linear-in-a-row ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("attention = none", ["`attention.norm` in 6 layers: 6,144"]),
        ("attention[3:] = none", ["`attention.norm` in 3 layers: 3,072"]),
        ("attention, attention.norm = none", []),
        ("attention, mlp = none", ["`attention.norm` in 6 layers: 6,144", "`mlp.norm` in 6 layers: 6,144"]),
        ("attention[5] = none", ["`attention.norm` in layer 5: 1,024"]),
        ("layer[2] = none", []),
        ("attention = none; layer[2] = none", ["`attention.norm` in 5 layers: 5,120"]),
        ("attention = none; attention = full", []),
        ("vary n = 3, 5\nattention[n:] = none", ["`attention.norm` in 3 layers: 3,072"]),
    ],
)
def test_parameters_that_nothing_reads(text: str, said: list[str]) -> None:
    assert [
        message.split("reads ")[1].split(" parameters")[0] for message in messages("unread-parameters", text)
    ] == said


def test_a_base_without_activation_is_to_blame_where_no_statement_is() -> None:
    text = f'model = "{SMALL}"(hidden_act = linear)\nmlp.act[2:] = none\nmlp[0] = lora(8)'
    model, statement = found("linear-in-a-row", text)
    assert model.startswith("model =") and statement == "mlp.act[2:]"
    assert [re.findall(r"in (?:layer \d|\d layers)", m)[0] for m in messages("linear-in-a-row", text)] == [
        "in layer 1",
        "in 4 layers",
    ]


def test_the_way_out_of_unread_parameters_is_one() -> None:
    for text in ("attention = none", "attention[3:] = none", "attention.norm[2] = none; attention = none"):
        for fault in told(text):
            assert fault.help is not None
            (statement,) = re.findall(r"`([^`]*)`", fault.help)
            kept = "attention.norm[2] = none\n" if "norm[2]" in text else ""
            better = statement if statement.startswith("attention,") else text + "\n" + statement
            better = better if "both" not in fault.help else kept + statement
            assert not found("unread-parameters", better), better


@pytest.mark.parametrize(
    ("text", "model", "layers"),
    [
        ("mlp.act = none", SMALL, 6),
        ("mlp.act[2:4] = none", SMALL, 2),
        ("mlp.act = none; mlp[0:3] = full", SMALL, 3),
        ("mlp.act, mlp.norm = none; mlp.up = lora(8)", SMALL, 6),
        ("mlp.act = none; mlp.up = nonlinear_lora(8)", SMALL, 6),  # the second factor and `mlp.down`
        ("mlp.act = none; mlp.up, mlp.down = nonlinear_lora(8)", SMALL, 6),
        ("mlp = lora_mlp(16); mlp.act = none", SMALL, 6),
        ("mlp.act = none", LLAMA, 0),  # the gate still multiplies
        ("mlp = lora(8)", SMALL, 0),
        ("mlp = nonlinear_lora(8, act=linear)", SMALL, 0),
        ("attention.qkv, attention.out = lora(8)", SMALL, 0),
        ("mlp.up = lora(8)", SMALL, 0),
        ("mlp.up = lora(500)", SMALL, 0),  # the pair is larger than what it replaces, which is told by itself
        ("mlp.act = none; mlp = lora_mlp(4)", SMALL, 0),
    ],
)
def test_linear_maps_in_a_row(text: str, model: str, layers: int) -> None:
    said = messages("linear-in-a-row", text, model)
    assert [int(re.findall(r"in (\d+) layers", message)[0]) for message in said] == ([layers] if layers else [])


def test_a_matrix_of_the_mlps_that_is_small_already_isnt_told() -> None:
    # a pair of one part, with an activation behind it
    assert not found("linear-in-a-row", "mlp.act = full; mlp.up = lora(500)")
    narrow = f'model = "{SMALL}"(intermediate_size = 64)\nmlp.act = none'
    assert not found("linear-in-a-row", narrow)
    assert found("linear-in-a-row", narrow.replace("64", "1024"))


# --- misread-range ---------------------------------------------------------------------------------------------------

HEADER = "# 13 with rank-16 MLPs in layers 12 to 18, as the log means them: seven layers.\n"


@pytest.mark.parametrize(
    "text",
    [
        "mlp[12:18] = none  # layers 12 to 18",
        "mlp[12:18] = none  # 12-18",
        "mlp[12:18] = none  # 12–18 go",
        "mlp[12:18] = none  # layers 12 … 18",
        "mlp[12:18] = none  # layers 12 through 18",
        "mlp[12:18] = none  # seven layers",
        "mlp[12:18] = none  # the 7 middle layers",
        "mlp[18:] = none  # the last seven layers",
        "mlp[12:20] = none  # layers 12 to 18",
        "attention = lora(8)\n# layers 12-18\nmlp[12:18] = none",
        "freeze mlp[12:18]  # layers 12 to 18",
        'name = "rank-16-12-18-layers-8"\nmlp[12:18] = none',
        'about = "seven middle MLPs are gone, layers 12 to 18"\nmlp[12:18] = none',
        'about = "the seven middle layers"\nmlp[12:18] = none',
        HEADER + "name = x\nmlp[12:18] = none",
        "mlp[num_hidden_layers // 2 : num_hidden_layers // 2 + 6] = none  # layers 12 to 18",
    ],
)
def test_a_range_that_reads_otherwise(text: str) -> None:
    assert len(found("misread-range", text, MEDIUM)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "mlp[12:19] = none  # layers 12 to 18",
        "mlp[12:18] = none  # layers 12 to 17",
        "mlp[12:18] = none  # [12:18]",
        "mlp[12:] = none  # layers 12 to 24",
        "mlp[12:18] = none  # six layers",
        "mlp[12:18] = none  # all but 18 layers",
        "mlp[6:] = none  # the first six layers stay",
        "mlp[6:] = none  # rank 7 layers",
        "mlp[12:18] = none  # 3 of 24 layers",
        "mlp[12:18] = none  # saves 12-18 %",
        "mlp[12:18] = none  # 12-18.5 points",
        "mlp[11:18] = none  # layers 12 to 18, counted from 1",
        "mlp[12:18] = none\n\n# layers 12 to 18 of the log",
        "mlp[::2] = none  # twelve layers",
        "mlp[12:18:2] = none  # 12-18",
        "mlp[12, 18] = none  # layers 12-18",
        "vary n = 18, 19\nmlp[12:n] = none  # layers 12 to 18",
        'name = "12-18"\nmlp[12:18], attention[12:19] = none',
        'name = "3-layers-linear-lora-12-nonlinear-lora-8-256"\nattention.qkv[3:] = lora(8)\nmlp[12:] = lora(256)',
        'name = "2024-12-18"\nmlp[12:18] = none',
        HEADER + "name = x\nmlp[12:19] = none",
        "# ten layers, then\n\nmlp[12:18] = none",
        "mlp[12:18] = none  # all layers",
    ],
)
def test_a_range_that_reads_as_it_is(text: str) -> None:
    assert not found("misread-range", text, MEDIUM)


# --- impossible-claim and same-model ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "possible"),
    [
        ("eval_loss < 0", False),
        ("eval_loss <= 0", True),
        ("eval_loss < 1e-9", True),
        ("eval_loss > -1", True),
        ("perplexity < 1", False),
        ("perplexity <= 1", True),
        ("perplexity == 0.5", False),
        ("perplexity within 50% of 0.5", False),
        ("perplexity within 100% of 0.5", True),
        ("bits_per_byte == -1", False),
        ("tokens_per_second < 0", False),
        ("tokens_per_second > 1_000_000_000", True),
    ],
)
def test_a_claim_that_no_run_fulfils(claim: str, possible: bool) -> None:
    assert (found("impossible-claim", f"expect {claim}") == []) is possible


def test_a_spec_compared_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relations = {
        "<": False,
        "<=": True,
        "==": True,
        "> 0.5 *": True,
        "> 2 *": False,
        ">=": True,
        ">": False,
        "within 1% of 1.1 *": False,
    }
    for relation, possible in relations.items():
        Path("spec.abl").write_text(f'model = "{SMALL}"\nexpect eval_loss {relation} "./spec.abl"\n')
        (checked,) = check([compile_file(Path("spec.abl"))])
        assert (not checked.faults) is possible, relation


def test_specs_that_are_one_model() -> None:
    assert together(a="mlp = lora(8)", b="mlp = lora(9)") == []
    assert together(a="mlp = lora(8)", b="mlp[:3], mlp[3:] = lora(8)\nname = other") == [
        ("b.abl", "this spec is the same model, with the same recipe, as a.abl")
    ]
    assert together(a="train.lr = 1e-3", b="train.lr = 1e-4") == []
    assert together(a="freeze mlp", b="freeze attention") == []
    assert len(together(a="mlp = none", b="mlp = none", c="mlp = none")) == 2


def test_texts_that_come_from_no_file_are_compared_too() -> None:
    checked = check([compiled(text, name="-e") for text in ("mlp = lora(8)", "mlp[:] = lora(8)", "mlp = lora(9)")])
    assert [[fault.code for fault in one.faults] for one in checked] == [[], ["same-model"], []]


def test_variants_that_are_one_model() -> None:
    family = "vary r = 8, 16\nmlp = lora(r)"
    assert together(a=family) == []
    ((_, said),) = together(a=family, b="mlp = lora(16)")
    assert said == "this spec is the same model, with the same recipe, as a.abl@r=16"
    ((_, said),) = together(a="vary n = 0, 6, 7\nabout = n\nmlp = lora(8)".replace("0, 6, 7", "x, y, z"))
    assert said.startswith(
        "the variant n=y is the same model, with the same recipe, as the variant n=x; so it is with 1"
    )


def test_variants_are_told_of_their_own_family_first() -> None:
    said = together(a="mlp = lora(8)", b="vary t = x, y\nabout = t\nmlp = lora(8)")
    assert [message.rpartition(" as ")[2] for _, message in said] == ["a.abl", "the variant t=x"]


def test_a_warning_says_in_which_variants_it_holds() -> None:
    (said,) = messages("unread-parameters", "vary n = 3, 5\nattention[n:] = none")
    assert said.endswith("(in n=3 and 1 more)")
    (said,) = messages("linear-in-a-row", "vary n = 6, 5\nmlp.act[n:] = none")
    assert said.endswith("(in n=5)")
