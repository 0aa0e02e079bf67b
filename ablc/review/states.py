"""What is compared with what: files, folders, and states of a git repository, paired by name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from ablc.faults import UserError
from ablc.language.read import content, specs_in
from ablc.pipeline import Compiled, compile_file, split_variant
from ablc.review.compared import Pair
from ablc.review.revisions import Repository, RevisionError, Tree

# What a text says of other files: they may differ though it doesn't.
_ELSEWHERE = re.compile(rb'extends|"[./]|\.abl[@"]')
_ORDER = "revisions come first, then paths: ablc diff HEAD~1 -- specs"
UNTOUCHED = Pair(None, None, same_text=True)


class NothingToCompare(UserError):
    """Arguments that name no two states."""

    code = "nothing-to-compare"


@dataclass(frozen=True)
class State:
    """The specs of one side, by path below `root`; those of a revision are read from its `tree`."""

    root: Path
    names: frozenset[str]
    tree: Tree | None = None

    def compiled(self, name: str | None) -> Compiled | None:
        if name not in self.names:
            return None
        path = self.root / str(name)
        with self._reading():
            return compile_file(path, name=self._shown(path))

    def text(self, name: str | None) -> bytes | None:
        """Its bytes with LF at the ends of lines, None where it isn't there or can't be read."""
        try:
            with self._reading():
                return content(self.root / str(name)).replace(b"\r\n", b"\n") if name in self.names else None
        except OSError:
            return None

    def _reading(self) -> AbstractContextManager[None]:
        return self.tree.reading() if self.tree is not None else nullcontext()

    def _shown(self, path: Path) -> str:
        if self.tree is not None:
            return self.tree.shown(path) or str(path)
        return os.path.relpath(path) if path.is_absolute() else str(path)


def pairs(named: Sequence[str], paths: Sequence[str] | None = None, against: str | None = None) -> Iterator[Pair]:
    """The pairs that the arguments of `ablc diff` mean; `paths` are those after `--`, None where there is no `--`.

    Two paths are compared with each other. Otherwise revisions come before paths, as git has it: one is compared with
    the working tree, two with each other, `A..B` too, and `A...B` is B from where it left A. Without any it is HEAD.

    Raises:
        UserError: they mean nothing, or two things.
    """
    if against is None and paths is None and len(named) == 2 and all(map(_is_there, named)):
        for name in named:
            _check_means_a_path(name)
        return _of_paths(*map(Path, named))
    repository, before, after, paths = _asked(list(named), paths, against)
    inside = [_from_top(path, repository) for path in paths]
    old, left_out = repository.at(before[1], before[0]), set[str]()
    if after is None:
        names, left_out = repository.tracked()
        second = State(repository.root, _wanted(names, inside))
    else:
        new = repository.at(after[1], after[0])
        second = State(repository.root, _wanted(new.files, inside), new)
    first = State(repository.root, _wanted(old.files, inside) - left_out, old)
    _check_found(paths, inside, first.names | second.names)
    return _of_states(first, second)


def _is_there(name: str) -> bool:
    """Whether a name is a path here, or a variant of a file."""
    try:
        return Path(name).exists() or split_variant(Path(name))[1] is not None
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


# --- pairing ---------------------------------------------------------------------------------------------------------

Names = tuple[str | None, str | None]
_STATES: list[tuple[State, State]] = []  # what the processes of a pool compare: inherited, since it may be large


def _of_states(before: State, after: State) -> Iterator[Pair]:
    """Where much is to be compiled, all cores do it: a spec is compiled by itself, and what comes of it is small."""
    every = _named(before, after)
    touched = [names for names in every if not _is_untouched(names, before, after)]
    yield from [UNTOUCHED] * (len(every) - len(touched))
    cores = min(8, os.cpu_count() or 1, len(touched) // 100)
    if cores < 2 or sys.platform != "linux":  # elsewhere a process takes longer to start than all of it
        yield from (_pair(before, after, names) for names in touched)
        return
    from multiprocessing import get_context  # which takes a while, and is wanted seldom

    yield _pair(before, after, touched[0])  # with it the grammar is loaded, which the others then needn't
    with get_context("fork").Pool(cores, _STATES.append, ((before, after),)) as pool:
        yield from pool.imap(_pair_there, touched[1:], chunksize=32)


def _named(before: State, after: State) -> list[Names]:
    """The two names of each file: the same, or one that was renamed and is otherwise as it was."""
    gone, new = before.names - after.names, after.names - before.names
    texts = {text: name for name in gone if (text := before.text(name)) is not None} if new else {}
    renamed = {name: old for name in sorted(new) if (old := texts.pop(after.text(name) or b"", None)) is not None}
    found: list[Names] = [(name, name) for name in before.names & after.names]
    found += [(name, None) for name in gone - set(renamed.values())]
    found += [(renamed.get(name), name) for name in new]
    return sorted(found, key=lambda names: names[1] or names[0] or "")


def _is_untouched(names: Names, before: State, after: State) -> bool:
    text = before.text(names[0]) if names[0] == names[1] else None
    return text is not None and text == after.text(names[1]) and not _ELSEWHERE.search(text)


def _pair_there(names: Names) -> Pair:
    """With what will be asked of it, which then goes along."""
    pair = _pair(*_STATES[-1], names)
    if pair.status == "changed":
        for change in pair.changes:
            _ = change.is_same, change.measures
    return pair


def _pair(before: State, after: State, names: Names) -> Pair:
    pair = Pair(before.compiled(names[0]), after.compiled(names[1]), name=_title(before, after, names))
    same = names[0] == names[1] and before.text(names[0]) == after.text(names[1])
    if same and pair.is_broken_in_both:
        return Pair(None, None, broken_before=True)
    return UNTOUCHED if same and pair.status == "same model" else pair


def _title(before: State, after: State, names: Names) -> str | None:
    """How two states of one file are called; nothing where they are two files."""
    if before.tree is None:
        return None
    shown = [name if after.tree is not None else os.path.relpath(after.root / name) for name in names if name]
    return " → ".join(dict.fromkeys(shown))


# --- revisions -------------------------------------------------------------------------------------------------------

Revision = tuple[str, str]  # as it was asked for, and the commit


def _asked(
    named: list[str], paths: Sequence[str] | None, against: str | None
) -> tuple[Repository, Revision, Revision | None, list[str]]:
    """The repository, the revision before, the one after (None: the working tree), and paths."""
    try:
        repository = Repository.around(Path.cwd())
    except RevisionError as error:
        lost = next((name for name in named if not _is_there(name)), None)
        raise (NothingToCompare(f"there is no file or folder `{lost[:200]}`") if lost else error) from error

    def known(revision: str) -> Revision:
        return revision, repository.commit(revision)

    known("HEAD")  # nothing can be compared without a commit
    if against is not None:
        return repository, known(against), None, [*named, *(paths or ())]
    if paths is None:  # then a name says by itself what it is
        said = list(takewhile(lambda name: _means_a_revision(name, repository), named[:2]))
        paths = named[len(said) :]
    else:
        said = named
    ends = _RANGE.fullmatch(said[0]) if said else None
    if len(said) > (1 if ends else 2):
        raise NothingToCompare(f"`{said[-1][:200]}` is a revision too many: two can be compared", _ORDER)
    if ends:
        before, after = known(ends["start"] or "HEAD"), known(ends["end"] or "HEAD")
        if ends["dots"] == "...":
            commit = repository.merge_base(before[0], after[0])
            before = (commit[:10], commit)
        return repository, before, after, list(paths)
    found = [known(name) for name in said] or [known("HEAD")]
    return repository, found[0], found[1] if found[1:] else None, list(paths)


# Git allows no two dots in the name of a branch.
_RANGE = re.compile(r"(?P<start>.*?)(?P<dots>\.\.\.?)(?P<end>.*)")


def _means_a_revision(name: str, repository: Repository) -> bool:
    """Whether a name is a revision, or a range of them. Raises NothingToCompare where it is a path as well."""
    ends = _RANGE.fullmatch(name)
    found = all(repository.has(name or "HEAD") for name in ((ends["start"], ends["end"]) if ends else (name,)))
    if found and not repository.is_bare and _is_there(name):
        _check_means_a_path(name, repository)
    return found


def _check_means_a_path(name: str, repository: Repository | None = None) -> None:
    """Raise NothingToCompare where something that is a path here is a revision as well."""
    try:
        means_both = (repository or Repository.around(Path.cwd())).has(name)
    except RevisionError:
        return
    if means_both:
        help = f"say which: ablc diff {name} --, or ablc diff -- {name}"
        raise NothingToCompare(f"`{name[:200]}` is a revision and a path here", help)


def _from_top(path: str, repository: Repository) -> str:
    """A path from here as one from the repository's top. Raises NothingToCompare where it lies outside."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100  (a link stays the link that git knows)
    for way in (whole, whole.parent.resolve() / whole.name, whole.resolve()):
        if way.is_relative_to(repository.root):
            return way.relative_to(repository.root).as_posix()
    message = f"{path} lies outside the repository in {repository.root}"
    raise NothingToCompare(message, "name two files or two folders to compare them with each other")


def _wanted(names: Iterable[str], inside: Sequence[str]) -> frozenset[str]:
    """The specs among names that lie in one of some paths; all of them where none is named."""
    specs = [name for name in names if name.endswith(".abl")]
    return frozenset(name for name in specs if not inside or any(_lies_in(name, one) for one in inside))


def _lies_in(name: str, path: str) -> bool:
    return path in (".", name) or name.startswith(f"{path}/")


def _check_found(paths: Sequence[str], inside: Sequence[str], names: frozenset[str]) -> None:
    for path, one in zip(paths, inside, strict=True):
        if not any(_lies_in(name, one) for name in names):
            what = "there are no specs in" if Path(path).is_dir() else "there is no revision, file or folder"
            raise NothingToCompare(f"{what} `{path[:200]}`", _ORDER)
