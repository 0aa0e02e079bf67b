"""Follows `extends`: a file and all it builds on become one list of statements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ablc.faults import Fault, Source
from ablc.language import tree
from ablc.language.parse import parse
from ablc.language.read import identity, read, shown
from ablc.language.tree import Statement

MAX_DEPTH = 64
MAX_FILES = 1000


@dataclass(frozen=True)
class Program:
    """The statements of a file with those of the files it extends before them, in the order they take effect."""

    source: Source
    statements: tuple[Statement, ...]

    def of(self, kind: type) -> list[Statement]:
        return [statement for statement in self.statements if isinstance(statement.node, kind)]

    def is_own(self, statement: Statement) -> bool:
        """Whether the file itself says this, not one that it extends."""
        return statement.source is self.source


def is_recipe(program: Program) -> bool:
    """Whether a file holds nothing but `train.…` statements and metadata."""
    kinds = {type(statement.node) for statement in program.statements}
    return tree.Train in kinds and kinds <= {tree.Train, tree.Metadata}


def gather(source: Source, faults: list[Fault], path: Path | None = None) -> Program:
    """Splice in what `extends` names, recursively. Paths are relative to the file that says them."""
    chain = (identity(path),) if path is not None else ()
    return Program(source, tuple(_splice(source, faults, chain, [0])))


def _splice(source: Source, faults: list[Fault], chain: tuple[Path, ...], count: list[int]) -> list[Statement]:
    inherited: list[Statement] = []
    own: list[Statement] = []
    for statement in parse(source, faults).statements:
        node = statement.node
        if not isinstance(node, tree.Extends):
            own.append(statement)
        elif any(not isinstance(earlier.node, tree.Metadata) for earlier in own):
            message = "`extends` stands before all other statements"
            faults.append(Fault("extends-not-first", message, statement.span(), "move it to the top of the file"))
        else:
            inherited += _extended(statement, node, faults, chain, count)
    return inherited + own


def _extended(
    statement: Statement, node: tree.Extends, faults: list[Fault], chain: tuple[Path, ...], count: list[int]
) -> list[Statement]:
    span = statement.span(node.path)
    path = statement.source.folder / node.path.value
    own = identity(path)
    count[0] += 1
    if own in chain:
        loop = " → ".join(p.name for p in (*chain[chain.index(own) :], own))
        faults.append(Fault("extends-cycle", f"`extends` goes in a circle: {loop}", span))
    elif len(chain) > MAX_DEPTH or count[0] > MAX_FILES:
        limit = f"at most {MAX_DEPTH} deep and {MAX_FILES} files in all"
        faults.append(Fault("extends-too-many", "`extends` leads through too many files", span, limit))
    elif (source := read(path, faults, name=shown(path), said_at=span)) is not None:
        return _splice(source, faults, (*chain, own), count)
    return []
