"""Writes the pages that are made from the code: `python docs/generate.py`. A test fails where they are out of date."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

from ablc.bases import builtin
from ablc.blueprint.measures import params, trainable
from ablc.blueprint.slots import slots_of
from ablc.explanations import codes, explanation, level, title
from ablc.families import families, family
from ablc.ops import operation, operations
from ablc.pipeline import compile_file
from ablc.recipes import builtin_recipes, load_recipe
from ablc.spec.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent


def spec_table() -> str:
    """`specs/README.md`: what the log says beside what is computed."""
    lines = [
        "# The 26 experiments",
        "",
        "One base model, one change after another, as a researcher's log records them. *Computed* is what",
        "`ablc params` counts; *reported* is what the log says, of trained parameters. Where the two differ, the spec",
        "says why.",
        "",
        "| # | name | base | what | computed | reported |",
        "|--:|---|---|---|--:|--:|",
    ]
    with (ROOT / "specs" / "log.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            planned = compile_file(ROOT / "specs" / f"{row['number']}.abl").variants[0]
            counted = trainable(planned.plan.blueprint)
            reported = int(row["reported"])
            what = "<br>".join(f"`{' '.join(s.text.split())}`" for s in _statements(planned.spec)) or "nothing"
            total = params(planned.plan.blueprint)
            shown = f"{counted:,}" + (f" trained of {total:,}" if total != counted else "")
            verdict = "same" if counted == reported else f"**{reported:,}**"
            base = planned.spec.model.rpartition("/")[2]
            lines.append(
                f"| [{row['number']}]({row['number']}.abl) | {row['name']} | {base} | {what} | {shown} | {verdict} |"
            )
    return "\n".join(lines) + "\n"


def _statements(spec: object) -> list[object]:
    said = [*spec.edits, *spec.freezes]  # type: ignore[attr-defined]
    return list(dict.fromkeys(entry.statement for entry in said))


def reference() -> str:
    """`docs/reference.md`: what exists."""
    parts = ["# Reference", "", "Made from the code by `docs/generate.py`.", "", "## Operations", ""]
    for name in operations():
        op = operation(name)
        text, _, example = op.doc.partition("\n\n")
        parts += [f"### `{op.signature()}`", "", text, "", "```python", example.strip(), "```", ""]
    parts += ["## Slots", "", "| family | slots |", "|---|---|"]
    for name in families():
        model = next(m for m, config in builtin().items() if config["model_type"] == name)
        blueprint = compile_file_model(model)
        parts.append(f"| {name} | {', '.join(f'`{slot}`' for slot in slots_of(blueprint).names)} |")
    parts += ["", "## Base models", "", "Built in; any hub id or local directory of these families works too.", ""]
    parts += ["| name | family | parameters |", "|---|---|--:|"]
    for name, config in builtin().items():
        parts.append(f"| `{name}` | {config['model_type']} | {params(compile_file_model(name)):,} |")
    parts += [
        "",
        "## Recipe keys",
        "",
        "| key | default | " + " | ".join(f"`{r}`" for r in builtin_recipes()) + " | meaning |",
    ]
    parts.append("|---|---|" + "---|" * len(builtin_recipes()) + "---|")
    loaded = [load_recipe(name) for name in builtin_recipes()]
    for key, field in Recipe.model_fields.items():
        values = " | ".join(_shown(recipe[key]) if key in recipe else "" for recipe in loaded)
        parts.append(f"| `train.{key}` | {_shown(field.default)} | {values} | {field.description} |")
    return "\n".join(parts) + "\n"


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


def compile_file_model(name: str) -> object:
    from ablc.bases import load_base
    from ablc.families import read_config

    config = load_base(name, ROOT).config
    kind = family(config["model_type"])
    return kind.build(read_config(kind, config, {}, []))


def codes_page() -> str:
    """`docs/codes.md`: what every error and warning means. Examples are shown as text: most are wrong on purpose."""
    parts = [
        "# Errors and warnings",
        "",
        "Made from the code by `docs/generate.py`; `ablc explain CODE` shows the same.",
        "",
    ]
    parts += ["| code | | meaning |", "|---|---|---|"]
    parts += [f"| [`{code}`](#{code}) | {level(code)} | {title(code)} |" for code in codes()]
    for code in codes():
        text = re.sub(r"^```\w+ ?(\S*)$", _fence, explanation(code).rstrip(), flags=re.MULTILINE)
        parts += ["", f"## {code}", "", text]
    return "\n".join(parts) + "\n"


def _fence(opened: re.Match[str]) -> str:
    return f"`{opened[1]}`:\n\n```text" if opened[1] else "```text"


PAGES = {"specs/README.md": spec_table, "docs/reference.md": reference, "docs/codes.md": codes_page}


def main() -> int:
    for name, make in PAGES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
