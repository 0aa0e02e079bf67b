"""`extends` splices another file in; overriding across files is the purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablc.pipeline import Compiled, compile_file

MODEL = 'model = "EleutherAI/pythia-70m"'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(**texts: str) -> None:
    for name, text in texts.items():
        Path(f"{name}.abl").write_text(text)


def compiled(name: str = "top") -> Compiled:
    return compile_file(Path(f"{name}.abl"))


def codes(name: str = "top") -> list[str]:
    return [fault.code for fault in compiled(name).faults]


def fingerprint(name: str = "top") -> str:
    (one,) = compiled(name).variants
    return one.plan.fingerprint


def test_a_chain_is_as_if_written_in_one_file(folder: Path) -> None:
    write(
        one=f"{MODEL}\nattention.out = none",
        two='extends "one.abl"\nattention.qkv[3:] = lora(8)',
        top='extends "two.abl"\nmlp[4:] = lora(8)',
        flat=f"{MODEL}\nattention.out = none\nattention.qkv[3:] = lora(8)\nmlp[4:] = lora(8)",
    )
    assert fingerprint() == fingerprint("flat")


def test_what_is_extended_comes_first_whatever_stands_before_it(folder: Path) -> None:
    write(base=f"{MODEL}\nmlp = none", top='about = "x"\nextends "base.abl"\nmlp = full', flat=MODEL)
    assert fingerprint() == fingerprint("flat")
    assert codes() == []  # overriding across files is no warning


def test_within_one_extended_file_erasing_is_still_a_warning(folder: Path) -> None:
    write(base=f"{MODEL}\nmlp = none\nmlp = lora(8)", top='extends "base.abl"')
    (fault,) = compiled().faults
    assert fault.code == "erased" and fault.span is not None and str(fault.span) == "base.abl:2:1"


def test_several_are_spliced_in_order(folder: Path) -> None:
    write(base=f"{MODEL}\nmlp = none", other="mlp = lora(8)", top='extends "base.abl"\nextends "other.abl"')
    (one,) = compiled().variants
    assert one.plan.changes[0].after.startswith("Linear")


def test_a_diamond_is_no_cycle_and_no_double_setting(folder: Path) -> None:
    write(
        base=f"{MODEL}\nmlp = lora(8)\ntrain.lr = 1e-3",
        left='extends "base.abl"\nattention.out = none',
        right='extends "base.abl"\nembedding = lora(8)',
        top='extends "left.abl"\nextends "right.abl"',
    )
    assert codes() == []


@pytest.mark.parametrize("names", [["top"], ["top", "two"], ["top", "two", "three"]])
def test_a_cycle_is_an_error(folder: Path, names: list[str]) -> None:
    for name, following in zip(names, [*names[1:], names[0]], strict=True):
        write(**{name: f'extends "{following}.abl"\n{MODEL}'})
    assert codes() == ["extends-cycle"]


def test_a_missing_file_a_directory_and_a_binary_are_errors_at_the_statement(folder: Path) -> None:
    (folder / "folder").mkdir()
    (folder / "binary.abl").write_bytes(bytes(range(256)))
    write(top=f'extends "missing.abl"\nextends "folder"\nextends "binary.abl"\n{MODEL}\nmlp = lroa(8)')
    found = [(fault.code, str(fault.span)) for fault in compiled().faults]
    assert found == [
        ("cannot-read", "top.abl:1:9"),
        ("not-a-file", "top.abl:2:9"),
        ("not-utf8", "top.abl:3:9"),
        ("unknown-operation", "top.abl:5:7"),
    ]


def test_an_unreadable_base_isnt_also_told_as_a_missing_model(folder: Path) -> None:
    write(top='extends "missing.abl"\nmlp = none')
    assert codes() == ["cannot-read"]


def test_a_path_may_climb_out_and_is_relative_to_its_file(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "shared").mkdir()
    (folder / "shared" / "config").mkdir()
    (folder / "shared" / "config" / "config.json").write_text(
        '{"model_type": "gpt_neox", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,'
        ' "vocab_size": 100, "intermediate_size": 128}'
    )
    (folder / "shared" / "base.abl").write_text('model = "./config"')
    (folder / "inner" / "top.abl").write_text('extends "../shared/base.abl"\nmlp = lora(8)')
    found = compile_file(Path("inner/top.abl"))
    assert found.ok and found.variants[0].spec.config["hidden_size"] == 64


def test_the_extending_file_replaces_model_vary_and_train(folder: Path) -> None:
    write(
        base=f"{MODEL}(num_hidden_layers = 3)\nvary r = 1, 2\nmlp = lora(r)\ntrain.lr = 1e-3\ntrain.seed = 1",
        top='extends "base.abl"\nmodel = "EleutherAI/pythia-14m"\nvary r = 4, 8, 16\ntrain.lr = 1e-4',
    )
    found = compiled()
    assert found.faults == ()
    assert [one.spec.variant for one in found.variants] == ["r=4", "r=8", "r=16"]
    spec = found.variants[0].spec
    assert (spec.model, spec.overrides, spec.config["num_hidden_layers"]) == ("EleutherAI/pythia-14m", {}, 6)
    assert spec.train == {"lr": 1e-4, "seed": 1}


def test_name_about_and_claims_are_not_inherited(folder: Path) -> None:
    write(base=f'name = "base"\nabout = "it"\n{MODEL}\nexpect params == 3', top='extends "base.abl"')
    (one,) = compiled().variants
    assert (one.spec.name, one.spec.about, one.verdicts) == ("top", None, ())


def test_extends_stands_first(folder: Path) -> None:
    write(base="mlp = none", top=f'{MODEL}\nextends "base.abl"')
    assert codes() == ["extends-not-first"]


@pytest.mark.parametrize("statement", [MODEL, "vary r = 1, 2", "train.lr = 1e-3", 'name = "x"', 'about = "x"'])
def test_set_twice_in_one_file_is_an_error_that_names_both(folder: Path, statement: str) -> None:
    rest = f"{MODEL}\nmlp = lora(r)" if statement.startswith("vary") else "" if statement == MODEL else MODEL
    write(top=f"{statement}\n{statement}\n{rest}")
    (fault,) = compiled().faults
    assert fault.code == "set-twice" and fault.span is not None and fault.span.line == 2
    assert [span.line for span, _ in fault.related] == [1]


@pytest.mark.parametrize(("depth", "each"), [(80, 1), (11, 2)])
def test_long_chains_and_explosions_are_refused(folder: Path, depth: int, each: int) -> None:
    for level in range(depth):
        write(**{f"f{level}": f'extends "f{level + 1}.abl"\n' * each})
    write(**{f"f{depth}": MODEL, "top": f'extends "f0.abl"\n{MODEL}'})
    assert set(codes()) == {"extends-too-many"}
