"""The extension for Visual Studio Code holds together, and its grammar reads a spec as the language does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String

from ablc.faults import Source
from ablc.language.highlight import FIELD, MEASURE, OPERATION, SLOT, VARIED, AblLexer, Kind
from ablc.language.parse import KEYWORDS, parse
from ablc.ops import operations

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "editors" / "vscode"
SNAPSHOTS = EXTENSION / "test" / "snapshot"
SPECS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "specs").glob("*.abl")))
TEXTS = {"specs": SPECS, "examples": (SNAPSHOTS / "examples.abl").read_text(encoding="utf-8")}

# what a scope of the grammar is to the Pygments lexer: the first that a scope begins with
KINDS: dict[str, Kind] = {
    "comment.line": Comment.Single,
    "string.quoted": String.Double,
    "keyword.control": Keyword,
    "keyword.operator.word": Operator.Word,
    "keyword.operator": Operator,
    "keyword.other.unit": Operator,
    "constant.numeric.integer": Number.Integer,
    "constant.numeric.float": Number.Float,
    "constant.language": Keyword.Constant,
    "entity.name.function": OPERATION,
    "variable.other.slot": SLOT,
    "variable.other.constant": VARIED,
    "variable.parameter": FIELD,
    "variable.language.layer": Name.Builtin.Pseudo,
    "variable.other": Name,
    "support.type.property-name": FIELD,
    "support.variable.measure": MEASURE,
    "punctuation": Punctuation,
}


def read_json(name: str) -> Any:
    return json.loads((EXTENSION / name).read_text(encoding="utf-8"))


def rules(node: Any) -> Iterator[dict[str, Any]]:
    """Every rule of a grammar, however deep."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from rules(child)


# --- the manifest and the grammar ------------------------------------------------------------------------------------


def test_the_manifest_names_files_that_are_there() -> None:
    manifest = read_json("package.json")
    (language,), (grammar,) = manifest["contributes"]["languages"], manifest["contributes"]["grammars"]
    assert (language["id"], language["extensions"]) == ("ablc", [".abl"])
    assert grammar["scopeName"] == read_json(grammar["path"])["scopeName"] == "source.ablc"
    assert read_json(language["configuration"])["comments"] == {"lineComment": "#"}
    assert (EXTENSION / manifest["main"]).is_file()
    assert read_json("package-lock.json")["packages"][""]["dependencies"] == manifest["dependencies"]


def test_the_license_is_that_of_the_repository() -> None:
    assert (EXTENSION / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_keywords_are_those_of_the_language() -> None:
    found: list[str] = []
    for rule in rules(read_json("syntaxes/ablc.tmLanguage.json")):
        if rule.get("beginCaptures", {}).get("1", {}).get("name") == "keyword.control.ablc":
            found += re.match(r"\\b\(([a-z|]+)\)\\b", rule["begin"])[1].split("|")  # type: ignore[index]
    assert sorted(found) == sorted(KEYWORDS)


def test_no_operation_is_listed() -> None:
    grammar = read_json("syntaxes/ablc.tmLanguage.json")
    patterns = [rule.get(key, "") for rule in rules(grammar) for key in ("match", "begin", "end")]
    words = set(re.findall(r"[a-z_]+", " ".join(patterns).replace(r"\b", " ")))
    assert "within" in words  # so that the test sees what is listed
    assert not words & set(operations())


def test_every_rule_that_is_included_is_there() -> None:
    grammar = read_json("syntaxes/ablc.tmLanguage.json")
    included = {rule["include"] for rule in rules(grammar) if isinstance(rule.get("include"), str)}
    assert included == {f"#{name}" for name in grammar["repository"]}


def test_the_examples_have_no_syntax_errors() -> None:
    faults: list[Any] = []
    parse(Source("examples.abl", TEXTS["examples"]), faults)
    assert faults == []


# --- the snapshots ---------------------------------------------------------------------------------------------------


def snapshot(name: str) -> list[tuple[str, list[str]]]:
    """The lines of a text, each with the innermost scope of each of its characters."""
    lines: list[tuple[str, list[str]]] = []
    for line in (SNAPSHOTS / f"{name}.abl.snap").read_text(encoding="utf-8").splitlines():
        if line.startswith(">"):
            lines.append((line[1:], [""] * len(line[1:])))
        else:
            marks, *scopes = re.split(r"(?<=\^) ", line[1:], maxsplit=1)
            inner = [scope for scope in scopes[0].split() if not scope.startswith("punctuation.definition")][-1]
            start, end = marks.index("^"), len(marks)
            lines[-1][1][start:end] = [inner] * (end - start)
    return lines


@pytest.mark.parametrize("name", TEXTS)
def test_a_snapshot_is_of_the_texts_as_they_are(name: str) -> None:
    shown = "\n".join(line for line, _ in snapshot(name))
    assert shown.strip() == TEXTS[name].strip(), "out of date: npm run snapshot, in editors/vscode"


@pytest.mark.parametrize("name", TEXTS)
def test_the_grammar_names_each_word_as_the_lexer_does(name: str) -> None:
    seen = []
    for number, (line, scopes) in enumerate(snapshot(name), start=1):
        seen += [(number, char, kind_of(scope)) for char, scope in zip(line, scopes, strict=True) if not char.isspace()]
    expected = []
    number = 1
    for _, kind, text in AblLexer().get_tokens_unprocessed(TEXTS[name]):
        expected += [(number, char, kind) for char in text if not char.isspace()]
        number += text.count("\n")
    assert seen == expected


def kind_of(scope: str) -> Kind:
    return next((kind for begins, kind in KINDS.items() if scope.startswith(begins)), scope)


# --- its own tests ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None, reason="node and npm are not installed"
)
def test_its_own_tests_pass(tmp_path: Path) -> None:
    copy = tmp_path / "editors" / "vscode"
    shutil.copytree(EXTENSION, copy, ignore=shutil.ignore_patterns("node_modules", "*.vsix"))
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    for command in (["npm", "ci", "--no-audit", "--no-fund"], ["npm", "test"]):
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
