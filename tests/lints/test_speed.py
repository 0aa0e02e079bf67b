"""Lints cost little beside compiling: what is measured is the time of this process, in proportion."""

from __future__ import annotations

import time

from linted import MEDIUM

from ablc.checking import check
from ablc.faults import Source
from ablc.pipeline import compile_source


def text(number: int) -> str:
    upper = f"mlp[{number % 12}:{number % 12 + 6}] = lora_mlp({number + 4})  # the middle"
    return f'model = "{MEDIUM}"\nattention.out = none\nattention.qkv[{number % 23}:] = lora({number + 8})\n{upper}\n'


def test_lints_take_a_fraction_of_what_compiling_takes() -> None:
    compile_source(Source("first.abl", text(0)))  # the parser's tables, and the modules of operations and families
    start = time.process_time()
    compiled = [compile_source(Source(f"{number}.abl", text(number))) for number in range(200)]
    compiling = time.process_time() - start
    start = time.process_time()
    check(compiled)
    assert time.process_time() - start < compiling / 2


def test_a_file_of_many_statements_is_linted_in_time() -> None:
    lines = [f"mlp[{n % 24}] = lora({n + 8})" for n in range(900)] + [f"freeze mlp[{n % 24}]" for n in range(900)]
    compiled = compile_source(Source("long.abl", f'model = "{MEDIUM}"\n' + "\n".join(lines)))
    start = time.process_time()
    check([compiled])
    assert time.process_time() - start < 5
