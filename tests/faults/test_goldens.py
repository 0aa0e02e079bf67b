"""Every fault as a reader sees it: `NAME.abl` beside `NAME.txt`, as `ablc check` would tell it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import ablc
from ablc.api import load
from ablc.bases import builtin
from ablc.checking import check
from ablc.checking.mend import Mended, write
from ablc.faults import Fault, UserError, render
from ablc.pipeline import compile_file
from ablc.recipes import load_recipe, make_recipe, parse_setting
from ablc.spec.proxy import factor_of

FOLDER = Path(__file__).resolve().parent
PACKAGE = Path(ablc.__file__).resolve().parent
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+|syntax|refused|erased")
NOT_CODES = {"utf-8", "utf-8-sig"}
NOT_HERE = (
    "lsp/",
    "train/",
    "patching/",
    "exporting/",
    "review/",
    "cli/",
)  # faults of commands and runs have their own tests


def told(name: str) -> list[Fault]:
    """What `check` tells of a file: its faults and its lints, then its failed claims."""
    (checked,) = check([compile_file(Path(name))])
    return [*checked.told]


# --- what no file beside this one can hold ---------------------------------------------------------------------------


def _too_large() -> list[Fault]:
    with Path("file-too-large.abl").open("wb") as file:
        file.truncate(50_000_000)
    return told("file-too-large.abl")


def _too_deep() -> list[Fault]:
    for depth in range(70):
        Path(f"{depth}.abl").write_text(f'extends "{depth + 1}.abl"\n')
    return told("0.abl")


def _too_many_statements() -> list[Fault]:
    Path("too-many-statements.abl").write_text('model = "EleutherAI/pythia-70m"\n' + "mlp = none\n" * 2000)
    return told("too-many-statements.abl")


def _too_many_items() -> list[Fault]:
    Path("list-too-long.abl").write_text(f'model = "EleutherAI/pythia-70m"\nmlp[{"0, " * 1000}1] = none\n')
    return told("list-too-long.abl")


def _too_long() -> list[Fault]:
    Path("statement-too-long.abl").write_text(f'model = "EleutherAI/pythia-70m"\nmlp = lora({"1 + " * 30000}1)\n')
    return told("statement-too-long.abl")


def _unknown_variant() -> list[Fault]:
    return told(str(_family("unknown-variant.abl")) + "@r=9")


def _family(name: str) -> Path:
    path = Path(name)
    path.write_text('model = "EleutherAI/pythia-70m"\nvary r = 8, 16\nmlp = lora(r)\n')
    return path


def _same_model() -> list[Fault]:
    family = "vary tag = one, two\nname = tag\nmlp = lora(16)"
    texts = {"first": "mlp[0:6] = lora(8)", "second": "mlp = lora(8)", "third": family}
    for name, text in texts.items():
        Path(f"{name}.abl").write_text(f'model = "EleutherAI/pythia-70m"\n{text}\n')
    return [fault for one in check([compile_file(Path(f"{name}.abl")) for name in texts]) for fault in one.told]


def _changed_meanwhile() -> object:
    path = Path("cannot-write.abl")
    path.write_text("mlp = none\n")
    return write(Mended(path, "mlp = full\n", "", (), ()))


def _raised(act: Callable[[], object]) -> list[Fault]:
    with pytest.raises(UserError) as caught:
        act()
    return list(caught.value.faults)


def _no_recipe() -> object:
    Path("not-a-recipe.abl").write_text("train.lr = 1e-3\nmlp = none\n")
    return load_recipe("not-a-recipe.abl")


MADE: dict[str, Callable[[], list[Fault]]] = {
    "same-model": _same_model,
    "cannot-write": lambda: _raised(_changed_meanwhile),
    "file-too-large": _too_large,
    "extends-too-many": _too_deep,
    "too-many-statements": _too_many_statements,
    "list-too-long": _too_many_items,
    "statement-too-long": _too_long,
    "unknown-variant": _unknown_variant,
    "is-a-family": lambda: _raised(lambda: load(_family("is-a-family.abl"))),
    "unknown-recipe": lambda: _raised(lambda: load_recipe("wikitxt2")),
    "not-a-recipe": lambda: _raised(_no_recipe),
    "bad-recipe": lambda: _raised(lambda: make_recipe({"steps": 3, "epochs": 2})),
    "bad-scale": lambda: _raised(lambda: factor_of("1/7", builtin()["EleutherAI/pythia-410m"])),
    "unknown-setting": lambda: _raised(lambda: parse_setting("train.lrr=1e-4")),
    "bad-setting": lambda: _raised(lambda: parse_setting("train.lr=fast")),
}

# --- the tests -------------------------------------------------------------------------------------------------------


def compare(name: str, text: str, update: bool) -> None:
    golden = FOLDER / f"{name}.txt"
    assert text.strip(), "this case tells nothing"
    if update:
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def rendered(faults: list[Fault]) -> str:
    return "\n\n".join(render(fault) for fault in faults) + "\n"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.abl")))
def test_file_is_told_as_in_its_golden(name: str, monkeypatch: pytest.MonkeyPatch, update_goldens: bool) -> None:
    monkeypatch.chdir(FOLDER)
    compare(name, rendered(told(f"{name}.abl")), update_goldens)


@pytest.mark.parametrize("name", sorted(MADE))
def test_made_case_is_told_as_in_its_golden(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update_goldens: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    compare(name, rendered(MADE[name]()), update_goldens)


def emitted_codes() -> set[str]:
    """Every text in the code that is spelled as a fault's code."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if not path.relative_to(PACKAGE).as_posix().startswith(NOT_HERE):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
            found.update(text for text in texts if CODE.fullmatch(text))
    return found - NOT_CODES


def golden_codes() -> set[str]:
    texts = (path.read_text(encoding="utf-8") for path in FOLDER.glob("*.txt"))
    return {code for text in texts for code in re.findall(r"^(?:error|warning)\[([a-z0-9-]+)\]", text, re.M)}


def test_every_code_has_a_golden() -> None:
    missing = emitted_codes() - golden_codes() - {"no-spec"}  # that one is told by the commands: tests/cli
    assert not missing, f"no golden in tests/faults shows {sorted(missing)}"


def test_every_golden_shows_a_place_and_belongs_to_a_case() -> None:
    cases = {path.stem for path in FOLDER.glob("*.abl")} | MADE.keys()
    assert {path.stem for path in FOLDER.glob("*.txt")} == cases
