"""`# ablc: allow CODE reason`: where it holds, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest
from linted import SMALL, together, told

from ablc.checking import check
from ablc.faults import Source
from ablc.pipeline import compile_file, compile_source

LARGE = "attention.out = lora(400)"
ALLOW = "# ablc: allow large-pair the upper end of the sweep"


def codes(text: str) -> list[str]:
    return [fault.code for fault in told(text)]


@pytest.mark.parametrize(
    "text",
    [
        f"name = x\n{LARGE}  {ALLOW}",
        f"name = x\n{ALLOW}\n{LARGE}",
        f"name = x\n  {ALLOW}\n{LARGE}",
        f"name = x\n{ALLOW}\n# the largest that we try\n{LARGE}",
        f"name = x\n# ablc: allow large-pair a\n# ablc: allow no-effect b\n{LARGE}; mlp = full",
        f"name = x; {LARGE}  {ALLOW}",
        f"{ALLOW}\nname = x\n\n{LARGE}",
        f"{ALLOW}\n{LARGE}",
        f"name = x\nattention.out[\n  :  {ALLOW}\n] = lora(400)",
        f"name = x\nattention.out[\n  :\n] = lora(400)  {ALLOW}",
        f"name = x\n#ablc:allow large-pair  because\n{LARGE}",
    ],
)
def test_a_warning_is_allowed(text: str) -> None:
    assert codes(text) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"name = x\n{ALLOW}\n\n{LARGE}", ["unused-allow", "large-pair"]),
        (f"name = x  {ALLOW}\n{LARGE}", ["unused-allow", "large-pair"]),
        (f"name = x\n{LARGE}\n{ALLOW}", ["large-pair", "unused-allow"]),
        (f"name = x\n{LARGE}  # ablc: allow large-pair", ["large-pair", "allow-without-reason"]),
        (f"name = x\n{LARGE}  # ablc: allow large-pear why not", ["large-pair", "unknown-code"]),
        (f"name = x\n{LARGE}  # ablc: allow syntax why not", ["large-pair", "bad-allow"]),
        (f"name = x\n{LARGE}  # ablc: disable large-pair", ["large-pair", "bad-allow"]),
        (f'about = "{ALLOW}"\n{LARGE}', ["large-pair"]),
        (f"name = x\n{LARGE}  # as said: ablc: allow large-pair x", ["large-pair"]),
        (f"name = x\n{LARGE}  # ablc: allow no-effect it has none", ["large-pair", "unused-allow"]),
    ],
)
def test_a_warning_isnt_allowed(text: str, told: list[str]) -> None:
    assert codes(text) == told


def test_one_comment_for_a_file_allows_all_of_a_kind() -> None:
    assert codes(f"{ALLOW}\nname = x\n{LARGE}\nattention.qkv = lora(500)") == []
    assert codes(f"name = x\n{ALLOW}\n{LARGE}\nattention.qkv = lora(500)") == ["large-pair"]


def test_an_error_cant_be_allowed_and_hides_what_is_unused() -> None:
    found = compile_source(Source("spec.abl", f"{ALLOW}\nmlp = lroa(8)"), model=SMALL)
    assert [fault.code for fault in check([found])[0].faults] == ["unknown-operation"]


def test_what_depends_on_other_files_is_never_unused() -> None:
    allowed = "# ablc: allow same-model it has two names\nmlp = lora(8)"
    assert together(a="mlp = lora(8)", b=allowed) == []
    assert codes(allowed) == []


def test_an_extended_file_allows_what_it_says_itself(tmp_path: Path) -> None:
    base = tmp_path / "base.abl"
    base.write_text(f'model = "{SMALL}"\nmlp = none  # ablc: allow erased a first try\nmlp[3:] = lora(8)\n')
    (tmp_path / "spec.abl").write_text('extends "base.abl"\nattention.out = lora(8)\n')
    assert [fault.code for fault in check([compile_file(tmp_path / "spec.abl")])[0].faults] == []
    base.write_text(base.read_text().replace("# ablc", "# abc"))
    assert [fault.code for fault in check([compile_file(tmp_path / "spec.abl")])[0].faults] == ["erased"]
