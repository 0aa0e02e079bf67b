"""What is compared with what: files, folders, and states of a git repository, paired by name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ablc.faults import Fault, Source, Span, UserError
from ablc.language.read import is_file, specs_in
from ablc.pipeline import Compiled, compile_file
from ablc.review.compared import Pair
from ablc.review.revisions import Repository, RevisionError

# What a text says of other files: they may differ though it doesn't.
_ELSEWHERE = re.compile(rb'extends|"[./]|\.abl[@"]')


UNTOUCHED = Pair(None, None, same_text=True)


class NothingToCompare(UserError):
    """Arguments that name no two states."""

    code = "nothing-to-compare"


@dataclass(frozen=True)
class State:
    """The specs of one side, by path below `root`. Those of a `revision` are shown with it, as git writes them; others
    by their path from here."""

    root: Path
    names: frozenset[str]
    revision: str | None = None

    def compiled(self, name: str) -> Compiled | None:
        if name not in self.names:
            return None
        path = self.root / name
        if self.revision is None:
            return compile_file(path, name=os.path.relpath(path) if path.is_absolute() else None)
        found = compile_file(path, name=f"{self.revision}:{name}")
        return replace(found, faults=tuple(self._shown(fault) for fault in found.faults))

    def text(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes() if name in self.names else None
        except OSError:
            return None

    def _shown(self, fault: Fault) -> Fault:
        """A fault without the folder that the revision was laid out in."""
        related = tuple((self._span(span), self._said(label)) for span, label in fault.related)
        message, help = self._said(fault.message), self._said(fault.help) if fault.help else None
        span = self._span(fault.span) if fault.span is not None else None
        return replace(fault, message=message, help=help, span=span, related=related)

    def _span(self, span: Span) -> Span:
        return Span(Source(self._said(span.source.name), span.source.text), span.start, span.end)

    def _said(self, text: str) -> str:
        return text.replace(f"{self.root}/", f"{self.revision}:")


@contextmanager
def pairs(named: Sequence[str], against: str | None = None) -> Iterator[Iterator[Pair]]:
    """The pairs that the arguments of `ablc diff` mean. Raises UserError.

    Two paths are compared with each other. Otherwise revisions come before paths, as git has it: one is compared with
    the working tree, two with each other, `A..B` too, and `A...B` is B from where it left A. Without any it is HEAD.
    """
    if against is None and len(named) == 2 and all(map(_is_there, named)):
        yield _of_paths(*map(Path, named))
        return
    repository, before, after, paths = _asked(list(named), against)
    inside = [_from_top(path, repository) for path in paths]
    current = nullcontext(repository.root) if after is None else repository.at(after[1])
    with repository.at(before[1]) as old, current as new:
        names = [name for name in repository.files(before[1]) if _wanted(name, inside)]
        first = State(old, frozenset(names), before[0])
        names = [name for name in _names(repository, after) if _wanted(name, inside)]
        second = State(new, frozenset(names), after[0] if after is not None else None)
        _check_found(paths, inside, first.names | second.names)
        yield _of_states(first, second)


def _is_there(name: str) -> bool:
    """Whether a name is a path here, or a variant of a file."""
    try:
        return Path(name).exists() or ("@" in name and is_file(Path(name.partition("@")[0])))
    except (OSError, ValueError):
        return False


# --- paths -----------------------------------------------------------------------------------------------------------


def _of_paths(before: Path, after: Path) -> Iterator[Pair]:
    if before.is_dir() != after.is_dir():
        raise NothingToCompare(f"{before} and {after} are a file and a folder", "name two files, or two folders")
    if not before.is_dir():
        return iter([Pair(compile_file(before), compile_file(after))])
    states = [State(folder, frozenset(_specs(folder))) for folder in (before, after)]
    if not states[0].names and not states[1].names:
        raise NothingToCompare(f"there are no specs in {before} and {after}")
    return _of_states(*states)


def _specs(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in specs_in(folder)]


def _of_states(before: State, after: State) -> Iterator[Pair]:
    """By name. Where much is to be compiled, all cores do it: a spec is compiled by itself, and what comes of it is
    small."""
    names = sorted(before.names | after.names)
    touched = [name for name in names if not _is_untouched(before.text(name), after.text(name))]
    yield from [UNTOUCHED] * (len(names) - len(touched))
    cores = min(8, os.cpu_count() or 1, len(touched) // 100)
    if cores < 2 or sys.platform != "linux":  # elsewhere a process takes longer to start than all of it
        yield from (_pair(before, after, name) for name in touched)
        return
    from multiprocessing import get_context  # which takes a while, and is wanted seldom

    yield _pair(before, after, touched[0])  # with it the grammar is loaded, which the others then needn't
    with get_context("fork").Pool(cores) as pool:
        yield from pool.imap(partial(_pair, before, after), touched[1:], chunksize=32)


def _is_untouched(old: bytes | None, new: bytes | None) -> bool:
    return old is not None and old == new and not _ELSEWHERE.search(old)


def _pair(before: State, after: State, name: str) -> Pair:
    shown = None if before.revision is None else os.path.relpath(after.root / name) if after.revision is None else name
    pair = Pair(before.compiled(name), after.compiled(name), name=shown)
    return UNTOUCHED if before.text(name) == after.text(name) and pair.means_the_same else pair


# --- revisions -------------------------------------------------------------------------------------------------------

Revision = tuple[str, str]  # as it was asked for, and the commit


def _asked(named: list[str], against: str | None) -> tuple[Repository, Revision, Revision | None, list[str]]:
    """The repository, the revision before, the one after (None: the working tree), and paths."""
    try:
        repository = Repository.around(Path.cwd())
    except RevisionError as error:
        lost = next((name for name in named if not _is_there(name)), None)
        raise (NothingToCompare(f"there is no file or folder `{lost[:200]}`") if lost else error) from error

    def known(revision: str) -> Revision:
        return revision, repository.commit(revision)

    if against is not None:
        return repository, known(against), None, named
    if named and ".." in named[0] and not _is_there(named[0]):
        first, dots, second = re.split(r"(\.\.\.?)", named[0], maxsplit=1)
        before, after = known(first or "HEAD"), known(second or "HEAD")
        if dots == "...":
            commit = repository.merge_base(before[0], after[0])
            before = (commit[:10], commit)
        return repository, before, after, named[1:]
    known("HEAD")  # nothing can be compared without a commit
    revisions: list[Revision] = []
    while named and len(revisions) < 2 and not _is_there(named[0]) and repository.has(named[0]):
        revisions.append(known(named.pop(0)))
    return repository, revisions[0] if revisions else known("HEAD"), revisions[1] if revisions[1:] else None, named


def _names(repository: Repository, revision: Revision | None) -> list[str]:
    return repository.tracked() if revision is None else list(repository.files(revision[1]))


def _from_top(path: str, repository: Repository) -> str:
    """A path from here as one from the repository's top. Raises NothingToCompare where it lies outside."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100  (a link stays the link that git knows)
    try:
        return whole.relative_to(repository.root).as_posix()
    except ValueError:
        message = f"{path} lies outside the repository in {repository.root}"
        raise NothingToCompare(message, "name two files or two folders to compare them with each other") from None


def _wanted(name: str, inside: Sequence[str]) -> bool:
    if not name.endswith(".abl"):
        return False
    return not inside or any(one in (".", name) or name.startswith(f"{one}/") for one in inside)


def _check_found(paths: Sequence[str], inside: Sequence[str], names: frozenset[str]) -> None:
    for path, one in zip(paths, inside, strict=True):
        if not any(_wanted(name, [one]) for name in names):
            what = "there are no specs in" if Path(path).is_dir() else "there is no revision, file or folder"
            raise NothingToCompare(f"{what} `{path[:200]}`", "revisions come first, then paths: ablc diff HEAD~1 specs")
