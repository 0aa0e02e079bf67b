"""What the tests of lints share: texts compiled and checked together."""

from __future__ import annotations

from ablc.checking import check
from ablc.faults import Fault, Source
from ablc.pipeline import Compiled, compile_source

SMALL = "EleutherAI/pythia-70m"  # hidden 512, 6 layers, intermediate 2048, parallel residual
MEDIUM = "EleutherAI/pythia-410m"  # 24 layers
LLAMA = "meta-llama/Llama-2-7b-hf"


def compiled(text: str, model: str = SMALL, name: str = "spec.abl") -> Compiled:
    found = compile_source(Source(name, text), model=model)
    assert found.ok, [fault.message for fault in found.faults]
    return found


def told(text: str, model: str = SMALL) -> list[Fault]:
    (checked,) = check([compiled(text, model)])
    return [*checked.faults]


def found(code: str, text: str, model: str = SMALL) -> list[str]:
    """What the warnings of one code point at."""
    return [fault.span.text for fault in told(text, model) if fault.code == code and fault.span is not None]


def messages(code: str, text: str, model: str = SMALL) -> list[str]:
    return [fault.message for fault in told(text, model) if fault.code == code]


def together(**texts: str) -> list[tuple[str, str]]:
    """Files checked together: the names of those that are told to be like another, with what is said."""
    checked = check([compiled(text, name=f"{name}.abl") for name, text in texts.items()])
    return [(one.compiled.file, fault.message) for one in checked for fault in one.faults if fault.code == "same-model"]
