"""Where names and paths lead, hints beside statements, the outline, and what the formatter would change."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import MODEL, marked, opened

from ablc.language.formatting import formatted
from ablc.lsp.analysis import Analysis, reading
from ablc.lsp.definition import Definition, definition
from ablc.lsp.edits import format_edits
from ablc.lsp.hints import hints, symbols


def leads(text: str, path: Path | None = None, texts: dict[Path, str] | None = None) -> Definition | None:
    text, place = marked(text)
    analysis = opened(text, path, texts)
    with reading(analysis.texts, analysis.reads):
        return definition(analysis, place)


def hinted(analysis: Analysis) -> list[tuple[str, str]]:
    """Each hint with the text of the line before it."""
    text = analysis.source.text
    with reading(analysis.texts, analysis.reads):
        return [(text[: h.offset].rpartition("\n")[2], h.label) for h in hints(analysis, 0, len(text))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "base.abl").write_text(MODEL + "vary r = 8, 9\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ('extends "ba|se.abl"', "base.abl"),
        ('model = "./mo|del"', "model/config.json"),
        ('expect params < "ba|se.abl"', "base.abl"),
        ('expect params < 1.3 * "bas|e.abl@r=8"', "base.abl"),
    ],
)
def test_a_path_leads_to_its_file(folder: Path, text: str, target: str) -> None:
    found = leads(text, folder / "a.abl")
    assert found is not None and found.path == (folder / target).resolve()
    plain = text.replace("|", "")
    assert plain[found.start : found.end].strip('"').partition("@")[0] in text.replace("|", "")
    assert plain[found.start] == '"'


@pytest.mark.parametrize(
    "text",
    [
        'extends "no|where.abl"',
        'model = "Eleuther|AI/pythia-410m"',
        'name = "ba|se.abl"',
        "train.l|r = 1e-3",
        MODEL + "vary lora = 8, 9\nmlp = lo|ra(lora)",
        MODEL + "mlp = lora(hidden|_size)",
        "|",
    ],
)
def test_other_words_lead_nowhere(folder: Path, text: str) -> None:
    assert leads(text, folder / "a.abl") is None


def test_a_file_that_only_an_editor_has_is_led_to(tmp_path: Path) -> None:
    new = (tmp_path / "new.abl").resolve()
    found = leads('extends "ne|w.abl"', tmp_path / "a.abl", {new: MODEL})
    assert found is not None and found.path == new


def test_a_varied_name_leads_to_its_vary() -> None:
    text = MODEL + "vary r = 8, 9\nmlp = lora(2 * r|)"
    found = leads(text)
    assert found is not None and found.source is not None
    assert found.source.text[found.first : found.last] == "r"
    assert found.first == text.index("vary r") + 5


def test_a_varied_name_of_an_extended_file_leads_there(folder: Path) -> None:
    found = leads('extends "base.abl"\nmlp = lora(r|)', folder / "a.abl")
    assert found is not None and found.source is not None
    assert found.path == (folder / "base.abl").resolve()
    assert found.source.text[: found.first].endswith("vary ")


# --- hints -----------------------------------------------------------------------------------------------------------


def test_hints_are_exact_differences() -> None:
    text = MODEL + "attention.qkv[3:] = lora(8)  # why\nmlp.act = none; mlp[3] = (\nfreeze embedding\ntrain.lr = 1e-3\n"
    assert hinted(opened(text)) == [
        (MODEL.strip(), "339,962,024 parameters"),
        ("attention.qkv[3:] = lora(8)", "-65,371,992"),
        ("freeze embedding", "-51,511,296 trained"),
    ]


def test_a_growing_model_has_a_sign_and_one_that_stays_has_its_total() -> None:
    assert hinted(opened(MODEL + "attention.out[0] = lora(1000)"))[1] == ("attention.out[0] = lora(1000)", "+1,000,424")
    assert hinted(opened(MODEL)) == [(MODEL.strip(), "405,334,016 parameters")]


def test_a_family_has_the_hints_of_its_first_variant() -> None:
    analysis = opened(MODEL + "vary r = 8, 32\nattention.qkv[3:] = lora(r)")
    assert hinted(analysis)[-1] == ("attention.qkv[3:] = lora(r)", "-65,371,992")
    assert "r=8" in hints(analysis, 0, 999)[-1].tooltip


def test_the_total_stands_at_the_extends_that_brings_the_model(folder: Path) -> None:
    (folder / "base.abl").write_text(MODEL)
    found = hinted(opened('extends "base.abl"\nmlp = none\n', folder / "a.abl"))
    assert found[0] == ('extends "base.abl"', "203,884,544 parameters")


def test_a_hint_stands_behind_the_bracket_that_closes_its_statement() -> None:
    text = 'model = "EleutherAI/pythia-410m"(\n  hidden_size = 512\n)\n'
    assert hinted(opened(text))[0][0] == ")"


def test_hints_outside_what_is_seen_are_left_out() -> None:
    analysis = opened(MODEL + "mlp = none\n")
    assert [hint.label for hint in hints(analysis, 40, 60)] == ["-201,449,472"]


# --- outline, formatting ---------------------------------------------------------------------------------------------


def test_the_outline_has_every_statement() -> None:
    text = MODEL + 'name = "x"\nvary r = 8, 9\nmlp[r:], attention[r:] = none\nfreeze embedding\ntrain.lr = 1e-3\n'
    text += "expect params < 5\n"
    assert [(one.name, one.detail, one.kind) for one in symbols(opened(text))] == [
        ("model", '"EleutherAI/pythia-410m"', "model"),
        ("name", '"x"', "text"),
        ("vary r", "8, 9", "name"),
        ("mlp[r:], attention[r:]", "none", "slot"),
        ("freeze embedding", "", "freeze"),
        ("train.lr", "1e-3", "key"),
        ("expect params < 5", "", "claim"),
    ]


def test_formatting_changes_the_lines_that_need_it_and_no_others() -> None:
    text = MODEL + "mlp=none\nattention = none\n# end\n"
    (edit,) = format_edits(opened(text))
    assert (text[edit.start : edit.end], edit.text) == ("mlp=none\n", "mlp = none\n")


@pytest.mark.parametrize("text", [MODEL, "", MODEL + "mlp=(\n", MODEL + "mlp=lora(;\n"])
def test_what_is_formatted_or_doesnt_parse_stays(text: str) -> None:
    assert format_edits(opened(text)) == []


@pytest.mark.parametrize(
    "text", ["mlp=none", "\n\n\nmlp = none\n\n\n\n", "mlp=none;attention=none;freeze embedding  # x"]
)
def test_the_edit_makes_the_canonical_text(text: str) -> None:
    analysis = opened(text)
    (edit,) = format_edits(analysis)
    assert text[: edit.start] + edit.text + text[edit.end :] == formatted(analysis.file)
