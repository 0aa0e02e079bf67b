"""The commands' arguments and options."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    name="ablc",
    help="Architecture ablations: a spec goes in; an exact count and a trained model come out.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(StrEnum):
    human = "human"
    json = "json"


Specs = Annotated[list[Path] | None, typer.Argument(metavar="SPEC…", help="spec files, or folders of them")]
Text = Annotated[list[str] | None, typer.Option("-e", metavar="TEXT", help="a spec as text, in place of a file")]
Model = Annotated[str | None, typer.Option("--model", "-m", help="the base model where a spec names none")]
FormatOption = Annotated[Format, typer.Option("--format", help="for people or for machines")]
Length = Annotated[int, typer.Option("--length", min=1, max=10**9, help="sequence length that FLOPs are counted at")]


def _do(command: Callable[..., int], *arguments: Any) -> NoReturn:
    """Run a command and leave with its exit code; 141 where whoever read our output has gone (`ablc … | head`)."""
    try:
        code = command(*arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    raise typer.Exit(code)


@app.command()
def params(
    specs: Specs = None,
    text: Text = None,
    model: Model = None,
    format: FormatOption = Format.human,
    length: Length = 1024,
) -> None:
    """Exact parameter counts, before anything is built, and whether each `expect` holds."""
    from ablc.cli.params import params_command

    _do(params_command, specs or [], text or [], model, format.value, length)


@app.command()
def plan(
    specs: Specs = None,
    text: Text = None,
    model: Model = None,
    format: FormatOption = Format.human,
    length: Length = 1024,
    layers: Annotated[bool, typer.Option("--layers", help="show the parameters of every layer too")] = False,
) -> None:
    """What a spec changes where: before → after, modules matched, difference in parameters."""
    from ablc.cli.plan import plan_command

    _do(plan_command, specs or [], text or [], model, format.value, length, layers)


@app.command()
def check(specs: Specs = None, text: Text = None, model: Model = None) -> None:
    """Errors, warnings and failed claims of specs."""
    from ablc.cli.check import check_command

    _do(check_command, specs or [], text or [], model)


@app.command()
def run(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="a spec file, or a variant of one: sweep.abl@r=8")],
    recipe: Annotated[str | None, typer.Option(help="wikitext2, wikitext2-log, local, or a recipe file")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimizer steps, in place of the recipe's")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of initial weights and data order")] = None,
    scale: Annotated[str | None, typer.Option(help="width of the model that trains: 1/8, full, auto")] = None,
    out: Annotated[Path | None, typer.Option(help="the run's directory")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="any recipe key: train.lr=1e-4")
    ] = None,
    wandb: Annotated[str, typer.Option(help="online, offline or off")] = "off",
) -> None:
    """Train what a spec describes, and record it."""
    from ablc.cli.run import run_command

    _do(run_command, spec, recipe, steps, seed, scale, out, set_ or [], wandb)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="print the version")] = False,
) -> None:
    if version:
        from ablc import __version__

        typer.echo(f"ablc {__version__}")
        raise typer.Exit
