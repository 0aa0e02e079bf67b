"""What is wrong with a document, and where it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import MODEL, opened

from ablc.checking import check
from ablc.lsp.analysis import Analysis, further, reading
from ablc.lsp.diagnostics import MOST, Finding, findings
from ablc.pipeline import compile_source

SPECS = sorted(Path("specs").resolve().glob("*.abl"))
FAULTY = sorted((Path(__file__).resolve().parents[1] / "faults").glob("*.abl"))


def found(analysis: Analysis) -> list[Finding]:
    with reading(analysis.texts, analysis.reads):
        return findings(analysis, analysis.faults)


def underlined(analysis: Analysis) -> list[tuple[str, str]]:
    return [(one.code, analysis.source.text[one.start : one.end]) for one in found(analysis)]


def last(analysis: Analysis) -> tuple[object, ...]:
    """What is told once all variants are looked at."""
    faults = analysis.faults
    for told in further(analysis):
        faults = faults if told is None else told
    return faults


@pytest.mark.parametrize("path", [*SPECS, *FAULTY], ids=lambda path: path.stem)
def test_what_check_tells_is_told(path: Path) -> None:
    data = path.read_bytes()
    if b"\0" in data or not _is_utf8(data):
        return
    analysis = opened(data.decode("utf-8"), path, ask=True)
    (checked,) = check([compile_source(analysis.source, path)])
    assert set(last(analysis)) == set(checked.told)
    shown = found(analysis)
    assert [one.code for one in shown] == [fault.code for fault in analysis.faults]
    assert all(0 <= one.start <= one.end <= max(1, len(analysis.source.text)) for one in shown)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def test_a_fault_underlines_its_place_and_says_the_way_out() -> None:
    (one,) = found(opened(MODEL + "mlp = loar(3)"))
    assert (one.level, one.code, one.start - len(MODEL)) == ("error", "unknown-operation", 6)
    assert one.message == "there is no operation `loar`\nhelp: did you mean `lora`?"


def test_a_failed_claim_is_a_fault_with_the_corrected_line() -> None:
    (one,) = found(opened(MODEL + "expect params == 5"))
    assert (one.code, one.level) == ("claim-fails", "error")
    assert one.message.endswith("help: expect params == 405_334_016")


def test_what_has_no_place_stands_at_the_beginning() -> None:
    (one,) = found(opened("x" * 1_000_001))
    assert (one.code, one.start, one.end) == ("file-too-large", 0, 1)


def test_the_end_of_a_statement_is_underlined_at_its_last_character() -> None:
    assert underlined(opened(MODEL + "mlp =")) == [("syntax", "=")]


def test_a_related_place_is_told_with_its_note() -> None:
    (one,) = found(opened(MODEL + "mlp = none\nmlp = lora(8)"))
    assert one.code == "erased"
    assert [(span.text, note) for span, note in one.related] == [("mlp = lora(8)", "here")]


def test_more_faults_than_anyone_reads_are_counted() -> None:
    shown = found(opened(MODEL + ")\n" * (MOST + 5)))
    assert len(shown) == MOST + 1
    assert shown[-1].message == "… and 5 more"


def test_a_fault_of_an_extended_file_stands_at_the_extends_that_leads_there(tmp_path: Path) -> None:
    (tmp_path / "deep.abl").write_text(MODEL + "mlp = loar(3)\n")
    (tmp_path / "base.abl").write_text('extends "deep.abl"\n')
    (tmp_path / "good.abl").write_text("train.lr = 1e-3\n")
    text = 'extends "good.abl"\nextends "base.abl"\nattention = none\n'
    analysis = opened(text, tmp_path / "a.abl")
    (one,) = found(analysis)
    assert text[one.start : one.end] == '"base.abl"'
    assert "deep.abl:2: there is no operation `loar`" in one.message
    assert [(span.text, span.line) for span, _ in one.related] == [("loar", 2)]


def test_an_unsaved_buffer_is_read_in_place_of_its_file(tmp_path: Path) -> None:
    base = tmp_path / "base.abl"
    base.write_text(MODEL + "mlp = none\n")
    text = 'extends "base.abl"\nexpect layers.mlp == 24\n'
    assert not opened(text, tmp_path / "a.abl").faults
    analysis = opened(text, tmp_path / "a.abl", {base.resolve(): MODEL + "mlp[1:] = none\n"})
    assert underlined(analysis) == [("claim-fails", "24")]


def test_an_unsaved_buffer_stands_for_a_file_that_isnt_there(tmp_path: Path) -> None:
    text = 'extends "new.abl"\nmlp = lora(8)\nexpect params < "other.abl"\n'
    path = tmp_path / "a.abl"
    assert [code for code, _ in underlined(opened(text, path))] == ["cannot-read"]
    texts = {(tmp_path / name).resolve(): MODEL for name in ("new.abl", "other.abl")}
    assert underlined(opened(text, path, texts)) == []


def test_what_a_document_reads_is_known_though_it_isnt_there(tmp_path: Path) -> None:
    analysis = opened('extends "new.abl"\nexpect params < "other.abl"\n', tmp_path / "a.abl")
    assert (tmp_path / "new.abl").resolve() in analysis.reads


def test_a_family_is_looked_at_variant_by_variant() -> None:
    analysis = opened(MODEL + "vary r = 8, 2000, 9\nattention.out = lora(r)\n")
    assert analysis.labels == ("r=8", "r=2000", "r=9")
    assert analysis.faults == ()
    told = [*further(analysis)]
    assert len(told) == 1, "one with errors is the last"
    assert [fault.code for fault in told[0] or ()] == ["refused"]


def test_a_large_family_is_told_of_at_powers_of_two_and_at_the_end() -> None:
    ranks = ", ".join(str(rank) for rank in range(1, 12))
    analysis = opened(MODEL + f"vary r = {ranks}\nattention.out = lora(r)\n")
    said = [number for number, told in enumerate(further(analysis), 2) if told is not None]
    assert said == [2, 4, 8, 11]


def test_the_hub_isnt_asked_while_somebody_types() -> None:
    ((code, text),) = underlined(opened('model = "some-one/some-model"\n'))
    assert (code, text) == ("unknown-model", '"some-one/some-model"')
    assert "the hub is asked when the file is saved" in found(opened('model = "some-one/some-model"\n'))[0].message


def test_what_is_right_is_known_beside_what_is_wrong() -> None:
    analysis = opened(MODEL + "mlp = none\nattention = loar(3)\nattention.qkv = lora(8\nembedding = lora(9)\n")
    assert {fault.code for fault in analysis.faults} == {"unknown-operation", "unclosed-bracket"}
    assert analysis.planned is not None
    assert [change.slot for change in analysis.planned.plan.changes] == ["mlp", "embedding"]


def test_without_a_base_nothing_is_planned() -> None:
    assert opened("mlp = none\n").planned is None
    assert opened('model = "nowhere"\nmlp = none\n').planned is None
