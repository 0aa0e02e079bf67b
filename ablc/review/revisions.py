"""The specs of a git repository as they were at a revision.

They are laid out in a temporary folder, with the config.json of the local bases that they name, so that `extends` and
claims find what they found then. Git is only read.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ablc.faults import UserError
from ablc.language.read import MAX_BYTES

NEEDED = (".abl", "/config.json")


class RevisionError(UserError):
    """A state of a repository that can't be had."""

    code = "no-revision"


@dataclass(frozen=True)
class Repository:
    """The git repository of a folder; `root` is its top."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """Raises RevisionError where there is none, or no git."""
        where = _git(folder, "rev-parse", "--show-toplevel", missing=f"{folder} isn't in a git repository")
        return cls(Path(where.strip()))

    def commit(self, revision: str) -> str:
        """The full hash that a revision means. Raises RevisionError."""
        if not self._has("HEAD"):
            raise RevisionError("this repository has no commits yet", "commit the specs, or compare two folders")
        if not self.has(revision):
            raise RevisionError(
                f"there is no revision `{revision[:100]}`", "name a commit, branch or tag: git log --oneline"
            )
        return _git(self.root, "rev-parse", "--verify", f"{revision}^{{commit}}").strip()

    def has(self, revision: str) -> bool:
        return not revision.startswith("-") and self._has(revision)

    def merge_base(self, first: str, second: str) -> str:
        """The last commit that both have. Raises RevisionError."""
        commits = [self.commit(one) for one in (first, second)]
        missing = f"{first} and {second} have no commit in common"
        return _git(self.root, "merge-base", *commits, missing=missing).strip()

    def files(self, commit: str) -> dict[str, str]:
        """The blob of everything that specs may need, by path from the top."""
        listed = _git(self.root, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
        entries = [entry.partition("\t") for entry in listed if entry.startswith("100")]  # no links, no submodules
        found = {name: about.split()[2] for about, _, name in entries if f"/{name}".endswith(NEEDED)}
        for name in found:
            if {"", ".", "..", ".git"} & set(name.split("/")):
                # No checkout makes such a name, but a fetched tree may hold it, and would choose where we write.
                raise RevisionError(f"the commit {commit[:10]} holds a file outside of its tree: {name[:100]}")
        return found

    def tracked(self) -> list[str]:
        """The specs of the working tree by path from the top, new ones too, but none that git ignores."""
        listed = _git(self.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.abl")
        return sorted({name for name in listed.split("\0") if name and self._is_file(self.root / name)})

    @staticmethod
    def _is_file(path: Path) -> bool:
        """Whether there is one; a link is another name of a file that is compared itself, or not ours."""
        return path.is_file() and not path.is_symlink()

    @contextmanager
    def at(self, commit: str) -> Iterator[Path]:
        """A folder with these files as they were."""
        with tempfile.TemporaryDirectory(prefix="ablc-") as folder:
            files = self.files(commit)
            for name, content in zip(files, self._contents(list(files.values())), strict=True):
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            yield Path(folder).resolve()

    def _has(self, revision: str) -> bool:
        command = ["git", "-C", str(self.root), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _contents(self, blobs: Sequence[str]) -> Iterator[bytes]:
        """One process for all of them; what is larger than a spec may be is cut, and refused when it is read."""
        command = ["git", "-C", str(self.root), "cat-file", "--batch"]
        asked = "".join(f"{blob}\n" for blob in blobs)
        done = subprocess.run(command, input=asked.encode(), capture_output=True, check=True).stdout
        place = 0
        for _ in blobs:
            start = done.index(b"\n", place) + 1
            size = int(done[place:start].rsplit(b" ", 1)[1])
            yield done[start : start + min(size, MAX_BYTES + 1)]
            place = start + size + 1


def _git(folder: Path, *arguments: str, missing: str | None = None) -> str:
    try:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False)
    except OSError as error:
        raise RevisionError("git isn't installed here", "name two files or folders") from error
    if done.returncode:
        said = next(iter(done.stderr.strip().splitlines()), "git failed").removeprefix("fatal: ")
        raise RevisionError(missing or said, "name two files or folders" if missing else None)
    return done.stdout
