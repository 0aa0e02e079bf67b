"""All that can be said of files once they are compiled: their faults, the lints, and the claims that fail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ablc.checking.allow import Allows, allows_in
from ablc.faults import Fault, Source
from ablc.lints import Subject, lints
from ablc.pipeline import Compiled
from ablc.planning.verdicts import failure

__all__ = ["Checked", "check", "not_allowed"]


@dataclass(frozen=True)
class Checked:
    """A file with what there is to tell of it: errors and warnings in the order of their places, then failed claims."""

    compiled: Compiled
    faults: tuple[Fault, ...]
    failed: tuple[Fault, ...]

    @property
    def told(self) -> tuple[Fault, ...]:
        return self.faults + self.failed


def check(compiled: Sequence[Compiled]) -> list[Checked]:
    """Look at files together. A file with an error isn't linted: what it means isn't known."""
    subjects = {number: subject for number, one in enumerate(compiled) if (subject := _subject(one)) is not None}
    by_name: dict[str, list[tuple[int, Subject]]] = defaultdict(list)
    for number, subject in subjects.items():
        by_name[subject.source.name].append((number, subject))
    found: list[list[Fault]] = [list(one.faults) for one in compiled]
    for lint in lints():
        for fault in lint.find([*subjects.values()]):
            found[_file_of(fault, by_name)].append(fault)
    return [
        Checked(one, tuple(_allowed(faults, subjects.get(number))), tuple(_failed(one)))
        for number, (one, faults) in enumerate(zip(compiled, found, strict=True))
    ]


def not_allowed(faults: Iterable[Fault]) -> list[Fault]:
    """Faults of the compiler, less what comments allow: for commands that don't look further."""
    return _uncovered(faults, {})


def _subject(one: Compiled) -> Subject | None:
    if not one.variants:
        return None
    spec = one.variants[0].spec
    return Subject(Source(spec.file, spec.sources[spec.file]), one.variants)


def _file_of(fault: Fault, by_name: Mapping[str, list[tuple[int, Subject]]]) -> int:
    """The file that a lint's warning is about; texts that come from no file all have one name."""
    assert fault.span is not None, "a lint says where"
    return next(number for number, subject in by_name[fault.span.source.name] if subject.is_own(fault.span))


def _allowed(faults: Iterable[Fault], subject: Subject | None) -> list[Fault]:
    """Without what comments allow, and with what is to be said of the file's own comments."""
    if subject is None:
        return sorted(_uncovered(dict.fromkeys(faults), {}), key=_place)
    own = allows_in(subject.source)
    left = _uncovered(dict.fromkeys(faults), {subject.source.name: own})
    return sorted([*left, *own.faults()], key=_place)


def _uncovered(faults: Iterable[Fault], known: dict[str, Allows]) -> list[Fault]:
    """What no comment allows. `known` are the comments of files by name; those of an extended file hold for what it
    says, whoever builds on it."""
    left = []
    for fault in faults:
        source = fault.span.source if fault.span is not None else None
        if source is not None and source.name not in known:
            known[source.name] = allows_in(source)
        if source is None or not known[source.name].cover(fault):
            left.append(fault)
    return left


def _failed(one: Compiled) -> Iterator[Fault]:
    for planned in one.variants:
        for verdict in planned.verdicts:
            if verdict.holds is False:
                yield failure(verdict, planned.spec.variant)


def _place(fault: Fault) -> tuple[str, int]:
    return (fault.span.source.name, fault.span.start) if fault.span is not None else ("", 0)
