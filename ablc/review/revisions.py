"""A git repository as it was at a revision. Git is only read, and nothing is checked out: whoever reads a file of the
repository is given what the revision has in its place."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ablc.faults import UserError
from ablc.language.read import MAX_BYTES, Instead, instead

MOST_LINKS = 40
# What specs read as a rule, and what is therefore fetched at once; any other file is fetched when it is asked for.
_USUAL = (".abl", "/config.json")
_FILE, _LINK, _MODULE = "100", "120", "160"  # how the modes of git's entries begin


class RevisionError(UserError):
    """A state of a repository that can't be had."""

    code = "no-revision"


@dataclass(frozen=True)
class Repository:
    """The git repository of a folder. `root` is the top of its working tree; where it has none (`is_bare`), the
    repository itself stands for it."""

    root: Path
    is_bare: bool = False

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """Raises RevisionError where there is none, or no git."""
        if _git(folder, "rev-parse", "--is-inside-work-tree").strip() == "true":
            return cls(Path(_git(folder, "rev-parse", "--show-toplevel").removesuffix("\n")))
        return cls(Path(_git(folder, "rev-parse", "--absolute-git-dir").removesuffix("\n")), is_bare=True)

    def commit(self, revision: str) -> str:
        """The full hash that a revision means. Raises RevisionError."""
        if not self.has("HEAD"):
            raise RevisionError("this repository has no commits yet", "commit the specs, or compare two folders")
        found = self._hash(revision)
        if found is None:
            help = "name a commit, branch or tag: git log --oneline"
            if self._is_shallow:
                help = "this clone is shallow: git fetch --unshallow gets the rest"
            raise RevisionError(f"there is no revision `{revision[:100]}`", help)
        return found

    def has(self, revision: str) -> bool:
        return self._hash(revision) is not None

    def merge_base(self, first: str, second: str) -> str:
        """The last commit that both have. Raises RevisionError."""
        commits = [self.commit(one) for one in (first, second)]
        try:
            return _git(self.root, "merge-base", *commits).strip()
        except RevisionError as error:
            help = "this clone is shallow: git fetch --unshallow gets the rest" if self._is_shallow else None
            raise RevisionError(f"{first} and {second} have no commit in common", help) from error

    def at(self, commit: str, label: str) -> Tree:
        """The files of a commit; they are shown as `label:path`. Raises RevisionError."""
        listed = _git(self.root, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
        said = (one.partition("\t") for one in listed)
        # No checkout makes a name like `../x`, but a tree that was fetched may hold one, and would lead outside.
        entries = {name: about.split(" ") for about, _, name in said if not {"", ".", ".."} & set(name.split("/"))}
        links = {name: blob for name, (mode, _, blob) in entries.items() if mode.startswith(_LINK)}
        files = {name: blob for name, (mode, _, blob) in entries.items() if mode.startswith(_FILE)}
        modules = frozenset(name for name, (mode, _, _) in entries.items() if mode.startswith(_MODULE))
        usual = {blob for name, blob in files.items() if f"/{name}".endswith(_USUAL)}
        wanted = sorted(usual | set(links.values()))
        known = dict(zip(wanted, _blobs(self.root, wanted), strict=True))
        targets = {name: known[blob].decode("utf-8", "surrogateescape") for name, blob in links.items()}
        return Tree(self.root, label, files, targets, modules, known)

    def tracked(self) -> tuple[list[str], set[str]]:
        """The specs of the working tree by path from the top, new ones too but none that git ignores; and those that a
        sparse checkout leaves out."""
        if self.is_bare:
            raise RevisionError("this repository has no working tree", "name two revisions")
        listed = _git(self.root, "ls-files", "-z", "-t", "--cached", "--others", "--exclude-standard", "--", "*.abl")
        entries = [(entry[:1], entry[2:]) for entry in listed.split("\0") if entry]
        left_out = {name for tag, name in entries if tag == "S"}
        return sorted({name for _, name in entries if _is_plain(self.root / name)}), left_out

    def _hash(self, revision: str) -> str | None:
        command = [*_command(self.root), "rev-parse", "--verify", "--quiet", "--end-of-options"]
        done = subprocess.run([*command, f"{revision}^{{commit}}"], capture_output=True, text=True, check=False)
        found = done.stdout.strip()
        return found if done.returncode == 0 and re.fullmatch("[0-9a-f]{40,64}", found) else None

    @cached_property
    def _is_shallow(self) -> bool:
        return _git(self.root, "rev-parse", "--is-shallow-repository").strip() == "true"


@dataclass(frozen=True)
class Tree:
    """The files of a commit. `files` are blobs by path from the top, `links` the targets of symbolic links."""

    root: Path
    label: str
    files: Mapping[str, str]
    links: Mapping[str, str]
    modules: frozenset[str]
    _known: dict[str, bytes] = field(repr=False)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Whatever is read below the repository's root inside is read from this commit."""
        token = instead.set(Instead(self.content, self.shown))
        try:
            yield
        finally:
            instead.reset(token)

    def content(self, path: Path) -> bytes | None:
        """What the commit has at a path; None for one outside of the repository. Raises OSError where it has no
        file."""
        name = self.name(path)
        if name is None:
            return None
        if name not in self.files:
            inside = next((module for module in self.modules if name.startswith(f"{module}/")), None)
            reason = f"it lies in the submodule {inside}" if inside else os.strerror(errno.ENOENT)
            raise FileNotFoundError(errno.ENOENT, reason, str(path))
        blob = self.files[name]
        if blob not in self._known:
            self._known[blob] = next(_blobs(self.root, [blob]))
        return self._known[blob]

    def shown(self, path: Path) -> str | None:
        name = self.name(path)
        return None if name is None else f"{self.label}:{name}"

    def name(self, path: Path) -> str | None:
        """A path from the repository's top, links followed as the commit has them; None where it leads outside."""
        whole = (path if path.is_absolute() else Path.cwd() / path).parts
        depth = len(self.root.parts)
        if whole[:depth] != self.root.parts:
            return None
        done: list[str] = []
        left, followed = list(whole[depth:]), 0
        while left:
            part = left.pop(0)
            if part == "..":
                if not done:
                    return None
                done.pop()
            elif part not in ("", "."):
                done.append(part)
                target = self.links.get("/".join(done))
                if target is not None:
                    followed += 1
                    if target.startswith("/") or followed > MOST_LINKS:
                        return None
                    done.pop()
                    left = [*target.split("/"), *left]
        return "/".join(done)


def _is_plain(path: Path) -> bool:
    """Whether there is a file; a link is another name of a file that is compared itself, or not ours."""
    return path.is_file() and not path.is_symlink()


def _command(folder: Path) -> list[str]:
    return ["git", "-C", str(folder)]


def _git(folder: Path, *arguments: str) -> str:
    """What git says. Raises RevisionError with git's own sentence where it can't."""
    try:
        done = subprocess.run(
            [*_command(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except OSError as error:
        raise RevisionError("git isn't installed here", "name two files or folders") from error
    if done.returncode:
        said = next(iter(done.stderr.strip().splitlines()), "git failed").removeprefix("fatal: ")
        if "not a git repository" in said:
            raise RevisionError(f"{folder} isn't in a git repository", "name two files or folders")
        raise RevisionError(f"git can't be asked: {said}")
    return done.stdout


def _blobs(root: Path, blobs: Sequence[str]) -> Iterator[bytes]:
    """Their content, by one process for all of them; what is larger than a spec may be is cut, and refused when it is
    read. Raises RevisionError."""
    if not blobs:
        return
    asked = "".join(f"{blob}\n" for blob in blobs)
    command = [*_command(root), "cat-file", "--batch"]
    done = subprocess.run(command, input=asked.encode(), capture_output=True, check=False).stdout
    place = 0
    for blob in blobs:
        start = done.find(b"\n", place) + 1
        size = re.fullmatch(rb"[0-9a-f]+ blob (\d+)\n", done[place:start])
        if size is None:
            raise RevisionError(
                f"the file with the hash {blob[:10]} isn't in this clone", "git fetch gets what it lacks"
            )
        yield done[start : start + min(int(size[1]), MAX_BYTES + 1)]
        place = start + int(size[1]) + 1
