"""Coverage-guided fuzzing of everything that reads a spec: parser, formatter, planner.

    pip install atheris
    python fuzzing/language.py --minutes 10

Starts from the specs and from the files that the tests of faults have, and mutates what reaches new code. Whatever is
read, nothing may be raised; a text without errors has a canonical text that says the same and is its own. An input that
breaks this is written to the folder named at the end. docs/fuzzing.md says what was found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ablc"]):
    from ablc.faults import Fault, Source, has_errors, render
    from ablc.language.formatting import difference, formatted
    from ablc.language.parse import parse, parse_statement
    from ablc.language.printer import show
    from ablc.language.read import decode
    from ablc.pipeline import compile_source

ROOT = Path(__file__).resolve().parents[1]
BASE = "EleutherAI/pythia-14m"
WORDS = """name about model extends vary freeze train expect full none lora( nonlinear_lora( lora_mlp( embedding lm_head
final_norm layer attention attention.qkv attention.out attention.norm mlp mlp.up mlp.down mlp.act mlp.norm bias act both
out num_hidden_layers hidden_size true false null within % of == <= >= // params trainable flops_per_token
layers. eval_loss [3:] [::2] [-1] "EleutherAI/pythia-14m" gelu steps epochs lr""".split()


def check(data: bytes) -> None:
    """Everything that must hold of any bytes at all."""
    faults: list[Fault] = []
    source = decode(data, "fuzzed.abl", faults)
    if source is not None:
        file = parse(source, faults)
        if not faults:
            check_formatting(source)
        for statement in file.statements:
            text = show(statement.node)
            assert parse_statement(text) == statement.node, text
        compiled = compile_source(source, model=BASE)
        faults += compiled.faults
        assert compiled.ok == (not has_errors(compiled.faults))
    for fault in faults:
        assert render(fault)


def check_formatting(source: Source) -> None:
    faults: list[Fault] = []
    before = parse(source, faults)
    text = formatted(before)
    after = parse(Source("formatted.abl", text), faults)
    assert not faults, [render(fault) for fault in faults]
    assert difference(before, after) is None, text
    assert formatted(after) == text, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--corpus", type=Path, help="a folder that inputs which reach new code are kept in")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ablc-fuzz-"))
    corpus = options.corpus or folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate([*ROOT.glob("specs/*.abl"), *ROOT.glob("tests/faults/*.abl")]):
        (corpus / f"seed-{number}").write_bytes(path.read_bytes())
    words = folder / "words"
    words.write_text(
        "".join(f'"{word.encode().hex(" ")}"\n'.replace(" ", "\\x").replace('"', '"\\x', 1) for word in WORDS)
    )
    print(f"inputs that break something: {folder}/crash-*", flush=True)
    flags = [f"-max_total_time={options.minutes * 60:.0f}", "-max_len=2000", "-timeout=10", f"-dict={words}"]
    atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={folder}/", str(corpus)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
