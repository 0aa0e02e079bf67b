"""`ablc export`."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

from ablc.cli.output import CLEAN, print_fault, say
from ablc.faults import Fault


def export_command(run: Path, directory: Path, folded: bool) -> int:
    """Write the checkpoint, and say how it is loaded."""
    gc.enable()
    from ablc.exporting.export import export

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        export(run, directory, folded=folded)
    for warning in told:
        if warning.category is UserWarning:
            print_fault(Fault("incomplete-export", str(warning.message), level="warning"))
    say(f"wrote {directory}", "bold")
    if (directory / "modeling_ablc.py").exists():
        say("AutoModelForCausalLM.from_pretrained loads it after `import ablc`, or with trust_remote_code=True")
    else:
        say("AutoModelForCausalLM.from_pretrained loads it: it is a stock checkpoint")
    return CLEAN
