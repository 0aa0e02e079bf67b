"""The commands' arguments and options."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ablc.cli import completion

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


Specs = Annotated[
    list[str] | None,
    typer.Argument(metavar="SPEC…", help="spec files, or folders of them", autocompletion=completion.specs),
]
Text = Annotated[
    list[str] | None,
    typer.Option("-e", metavar="TEXT", help="a spec as text, in place of a file", autocompletion=completion.text),
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="the base model where a spec names none", autocompletion=completion.models),
]
OneSpec = Annotated[
    str | None,
    typer.Argument(
        metavar="SPEC", help="a spec file, or a variant of one: sweep.abl@r=8", autocompletion=completion.specs
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(help="wikitext2, wikitext2-log, local, or a recipe file", autocompletion=completion.recipes),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="any recipe key: train.lr=1e-4", autocompletion=completion.settings
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="for people or for machines")]
Length = Annotated[int, typer.Option("--length", min=1, max=10**9, help="sequence length that FLOPs are counted at")]


def _do(command: Callable[..., int], *arguments: Any) -> NoReturn:
    """Run a command and leave with its exit code; 141 where whoever read our output has gone (`ablc … | head`)."""
    from ablc.cli.output import INVALID, answer, print_fault
    from ablc.faults import Fault, reason_of

    try:
        code = answer(lambda: command(*arguments))
        sys.stdout.flush()
    except OSError as error:
        # Python would complain once more while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(141)
        ours = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        what = "the output can't be written: " if ours else f"{error.filename}: " if error.filename else ""
        print_fault(Fault("failed", f"{what}{reason_of(error)}"))
        sys.exit(INVALID)
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


class Findings(StrEnum):
    human = "human"
    json = "json"
    github = "github"


@app.command()
def check(
    specs: Specs = None,
    text: Text = None,
    model: Model = None,
    format: Annotated[
        Findings, typer.Option("--format", help="for people, machines, annotations on GitHub")
    ] = Findings.human,
    strict: Annotated[bool, typer.Option("--strict", help="exit with 1 where there is a warning")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="take out what changes nothing")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="show what --fix would take out; write nothing")] = False,
) -> None:
    """Errors, warnings and failed claims of specs; `ablc explain CODE` says more of each."""
    from ablc.cli.check import CheckOptions, check_command

    _do(check_command, specs or [], text or [], model, CheckOptions(format.value, strict, fix, diff))


@app.command()
def explain(
    code: Annotated[
        str | None,
        typer.Argument(metavar="CODE", help="the code of an error or a warning", autocompletion=completion.codes),
    ] = None,
) -> None:
    """What a code means, with an example and the way out; all codes where none is named."""
    from ablc.cli.explain import explain_command

    _do(explain_command, code)


@app.command()
def fmt(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE…", help="spec files, folders of them, or - for stdin")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="write nothing; list the files that would change")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="write nothing; show what would change")] = False,
) -> None:
    """Give specs canonical text; what they say, and their comments, stay."""
    from ablc.cli.fmt import fmt_command

    _do(fmt_command, files or [], check, diff)


class Page(StrEnum):
    human = "human"
    json = "json"
    md = "md"
    github = "github"


@app.command()
def diff(
    named: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[A] [B] [-- PATH…]", help="files, folders, or git revisions", autocompletion=completion.specs
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="REV", help="compare this revision with the files here")
    ] = None,
    format: Annotated[
        Page, typer.Option("--format", help="for people, machines, Markdown, a pull request")
    ] = Page.human,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="exit with 1 where a model changes")] = False,
) -> None:
    """What changes in the models of two files, two folders, or two git revisions."""
    from ablc.cli.diff import diff_command

    paths = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else None  # the parser forgets where it stood
    before = (named or [])[: len(named or []) - len(paths or [])]
    _do(diff_command, before, paths, against, format.value, exit_code)


@app.command()
def run(
    spec: OneSpec = None,
    recipe: RecipeOption = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimizer steps, in place of the recipe's")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of initial weights and data order")] = None,
    scale: Annotated[str | None, typer.Option(help="width of the model that trains: 1/8, full, auto")] = None,
    out: Annotated[Path | None, typer.Option(help="the run's directory")] = None,
    set_: Settings = None,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="go on with the run in this directory")] = None,
    nproc: Annotated[int, typer.Option("--nproc", min=1, max=1024, help="processes, one for each GPU")] = 1,
    report_init: Annotated[bool, typer.Option("--report-init", help="how far pairs start from what was")] = False,
    wandb: Annotated[str, typer.Option(help="online, offline or off")] = "off",
    mirror: Annotated[list[str] | None, typer.Option("--mirror", help="tensorboard or trackio")] = None,
) -> None:
    """Train what a spec describes, and record it; or go on with a run."""
    from ablc.cli.run import RunOptions, run_command

    options = RunOptions(recipe, steps, seed, scale, out, set_ or [], wandb, mirror or [], report_init, nproc)
    _do(run_command, spec, resume, options)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the directory of a finished run")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="a new or empty directory")],
    folded: Annotated[bool, typer.Option("--folded", help="a dense checkpoint of the stock class")] = False,
) -> None:
    """Write a run's model as a directory that AutoModelForCausalLM.from_pretrained loads."""
    from ablc.cli.export import export_command

    _do(export_command, run, directory, folded)


@app.command(name="eval")
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the directory of a finished run")],
    tasks: Annotated[str, typer.Option("--tasks", metavar="A,B", help="tasks of lm-eval, or from --tasks-path")],
    tasks_path: Annotated[Path | None, typer.Option("--tasks-path", metavar="DIR", help="tasks of your own")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="so many examples of each task")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="sequences at a time")] = 8,
    format: FormatOption = Format.human,
) -> None:
    """Score a run's model with lm-eval."""
    from ablc.cli.evaluate import eval_command

    _do(eval_command, run, tasks, tasks_path, limit, batch_size, format.value)


@app.command()
def calibrate(
    spec: OneSpec = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="whose data to use; local texts where none is named", autocompletion=completion.recipes),
    ] = None,
    batches: Annotated[int | None, typer.Option(min=1, help="batches that blocks are fitted on: 16")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="optimizer steps for a block with an activation inside: 300")
    ] = None,
    lr: Annotated[float | None, typer.Option(min=0.0, help="their peak learning rate: 1e-3")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of the data order, and of the fits")] = None,
    out: Annotated[Path | None, typer.Option(help="the directory of the result, that of a run")] = None,
    set_: Settings = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="go on with the calibration in this directory")
    ] = None,
) -> None:
    """Fit each replaced block to the pretrained original on real activations; or go on with a calibration."""
    from ablc.cli.calibrate import CalibrateOptions, calibrate_command

    _do(calibrate_command, spec, resume, CalibrateOptions(recipe, batches, steps, lr, seed, out, set_ or []))


@app.command()
def ops(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="operations", autocompletion=completion.operations)
    ] = None,
) -> None:
    """The operations: what each does, where it may stand, an example."""
    from ablc.cli.catalogue import ops_command

    _do(ops_command, names or [])


@app.command()
def slots(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="a built-in name, hub id or ./directory", autocompletion=completion.models
        ),
    ],
) -> None:
    """The slots of a base model, what stands there, and what may stand there instead."""
    from ablc.cli.catalogue import slots_command

    _do(slots_command, model)


@app.command()
def models() -> None:
    """The base models that ship with ablc."""
    from ablc.cli.catalogue import models_command

    _do(models_command)


@app.command()
def lsp() -> None:
    """Serve an editor: the language server protocol on stdin and stdout."""
    from ablc.cli.lsp import lsp_command

    _do(lsp_command)


git = typer.Typer(name="git", help="Let git show changes of specs better, in this clone alone.", no_args_is_help=True)
app.add_typer(git)


@git.command("enable")
def git_enable(
    textconv: Annotated[bool, typer.Option("--textconv", help="compare what specs mean, not their text")] = False,
) -> None:
    """Show above each hunk of a spec which model it is about."""
    from ablc.cli.git import enable_command

    _do(enable_command, textconv)


@git.command("disable")
def git_disable() -> None:
    """Take back what `enable` set."""
    from ablc.cli.git import disable_command

    _do(disable_command)


@git.command("show")
def git_show(file: Annotated[Path, typer.Argument(metavar="FILE", help="a spec")]) -> None:
    """Print what a spec means: what git compares with --textconv."""
    from ablc.cli.git import show_command

    _do(show_command, file)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="print the version")] = False,
) -> None:
    if version:
        from ablc import __version__

        typer.echo(f"ablc {__version__}")
        raise typer.Exit
