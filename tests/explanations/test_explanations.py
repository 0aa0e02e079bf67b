"""Every code is explained, and every example says what really comes out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from examples import PACKAGE, blocks, can_run, file_of, inside, outputs, written

from ablc.explanations import codes, explanation, level, title
from ablc.lints import lint_codes

GOLDENS = Path(__file__).resolve().parents[1] / "faults"
LONGEST = 40  # lines, the example and its output among them


@pytest.mark.parametrize("code", codes())
def test_the_example_yields_what_the_text_shows(code: str, tmp_path: Path, update_goldens: bool) -> None:
    text = explanation(code)
    if can_run(text):
        with inside(tmp_path):
            for block, output in outputs(text):
                if update_goldens:
                    path = file_of(code)
                    path.write_text(written(path.read_text(encoding="utf-8"), block, output), encoding="utf-8")
                else:
                    assert output == block.text
    shown = explanation(code) if not update_goldens else file_of(code).read_text(encoding="utf-8")
    assert re.search(rf"^{level(code)}\[{code}\]: ", shown, re.MULTILINE), "the example doesn't show its code"


@pytest.mark.parametrize("code", codes())
def test_a_text_is_a_sentence_an_example_and_a_way_out(code: str) -> None:
    text = explanation(code)
    assert title(code).endswith(".") and "\n" not in title(code)
    assert blocks(text), "there is no example"
    assert not text.rstrip().endswith("```"), "a way out stands at the end"
    assert len(text.splitlines()) <= LONGEST
    assert text.count("```") == 2 * len(blocks(text))


def raised() -> set[str]:
    """Every code in the source: the first text in a fault, in an exception that becomes one, or called `code`."""
    found: set[str] = set()
    makers = {"Fault", "BadValue", "SlotProblem", "BaseProblem", "Problem", "_config_fault"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(code)), *_]) if name in makers:
                    found.add(code)
                case ast.Call(func=ast.Name(id="ConfigProblem"), args=[_, ast.Constant(value=str(code)), *_]):
                    found.add(code)
                case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                    found.add(code)
    return found


def in_goldens() -> set[str]:
    texts = (path.read_text(encoding="utf-8") for path in GOLDENS.glob("*.txt"))
    return {code for text in texts for code in re.findall(r"^(?:error|warning)\[([a-z0-9-]+)\]", text, re.MULTILINE)}


def test_every_code_is_explained() -> None:
    assert len(raised()) > 60  # so that the test sees them
    missing = (raised() | in_goldens()) - {*codes()}
    assert not missing, f"no text in ablc/explanations explains {sorted(missing)}"


def test_nothing_else_is_explained() -> None:
    texts = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    unknown = [code for code in codes() if f'"{code}"' not in texts]
    assert not unknown, f"nothing raises {unknown}"


def test_lints_are_warnings_and_explain_themselves() -> None:
    assert lint_codes() and {*lint_codes()} <= {*codes()}
    assert {level(code) for code in lint_codes()} == {"warning"}


NOT_RUN = {
    # what needs a model that trains, a machine that lacks something, or a file that one may not write
    "bad-scale", "calibration-failed", "cannot-write", "failed", "fmt-would-change", "incomplete-export",
    "long-warmup", "merged-ranks", "no-data", "no-export", "no-mirror", "no-record", "no-weights", "no-workers",
    "not-as-planned", "nothing-to-fit", "nothing-to-train", "other-tokenizer", "out-of-memory", "run-failed",
    "undertrained",
}  # fmt: skip


def test_all_but_these_examples_are_run() -> None:
    assert {code for code in codes() if not can_run(explanation(code))} == NOT_RUN
