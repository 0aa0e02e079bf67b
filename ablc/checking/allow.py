"""`# ablc: allow CODE reason`: comments that switch a warning off where they stand.

On the line of a statement, or alone on the line before it, one holds for that statement; before the first statement
of a file it holds for the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ablc.explanations import codes, level
from ablc.faults import Fault, Source, Span, did_you_mean, nearest
from ablc.language.split import split
from ablc.lints import lints

_COMMENT = re.compile(r'"[^"\n]*"?|#[^\n]*')
_DIRECTIVE = re.compile(r"#\s*ablc:\s*(?P<word>\S*)\s*(?P<code>\S*)\s*(?P<reason>.*)")
_EXAMPLE = "# ablc: allow erased the second half of a sweep"


@dataclass
class Allow:
    """One comment that allows a code in some statements; `scope` is None where it holds for the file."""

    code: str
    span: Span
    scope: tuple[Span, ...] | None
    used: bool = False

    def covers(self, fault: Fault) -> bool:
        if fault.code != self.code or fault.span is None:
            return False
        place = fault.span.start
        return self.scope is None or any(one.start <= place < max(one.end, one.start + 1) for one in self.scope)


@dataclass
class Allows:
    """What a file allows, what is wrong with how it says so, and, once its faults have been put to `cover`, what is not
    needed."""

    allows: list[Allow] = field(default_factory=list)
    wrong: list[Fault] = field(default_factory=list)

    def cover(self, fault: Fault) -> bool:
        """Whether a warning is allowed; which comments do so is remembered."""
        covering = [allow for allow in self.allows if allow.covers(fault)]
        for allow in covering:
            allow.used = True
        return bool(covering)

    def faults(self) -> Iterator[Fault]:
        yield from self.wrong
        depends = {lint.code for lint in lints() if lint.together}  # what another file makes so may be so elsewhere
        for allow in self.allows:
            if not allow.used and allow.code not in depends:
                where = "in this file" if allow.scope is None else "here"
                message = f"there is no `{allow.code}` {where} to allow"
                yield Fault("unused-allow", message, allow.span, "take the comment out", "warning")


def allows_in(source: Source) -> Allows:
    """What the comments of a file allow."""
    found = Allows()
    if "ablc:" not in source.text:
        return found
    statements = split(source, []).statements
    for match in _COMMENT.finditer(source.text):
        directive = _DIRECTIVE.fullmatch(match.group())
        if directive is None:
            continue
        span = Span(source, match.start(), match.start() + len(match.group().rstrip()))
        wrong = _wrong(span, directive)
        if wrong is not None:
            found.wrong.append(wrong)
        else:
            found.allows.append(Allow(directive["code"], span, _scope(span, statements)))
    return found


def _wrong(span: Span, said: re.Match[str]) -> Fault | None:
    """What is wrong with a comment, which then allows nothing."""
    word, code, reason = said["word"], said["code"], said["reason"].strip()
    if word != "allow":
        near = nearest(word, ["allow"])
        message = f"a comment to ablc begins with `allow`, not `{word}`" if word else "a comment to ablc says nothing"
        return Fault("bad-allow", message, span, f"did you mean `{near}`?" if near else f"as in {_EXAMPLE}", "warning")
    if not code:
        return Fault("bad-allow", "`allow` names no code", span, f"as in {_EXAMPLE}", "warning")
    if code not in codes():
        message = f"there is no code `{code}`, so nothing is allowed"
        return Fault("unknown-code", message, span, did_you_mean(code, _allowable(), "codes"), "warning")
    if level(code) == "error":
        return Fault("bad-allow", f"`{code}` is an error, and only warnings can be allowed", span, level="warning")
    if not reason:
        message = f"why `{code}` is right here isn't said, so it isn't allowed"
        return Fault("allow-without-reason", message, span, f"as in {_EXAMPLE}", "warning")
    return None


def _allowable() -> list[str]:
    return [code for code in codes() if level(code) == "warning"]


def _scope(comment: Span, statements: tuple[Span, ...]) -> tuple[Span, ...] | None:
    """The statements that a comment is about, None where it is about the file."""
    if not statements or comment.start < statements[0].start:
        return None
    source, line = comment.source, comment.line
    alone = not source.line(line)[: comment.column - 1].strip()
    if alone and not any(one.start < comment.start < one.end for one in statements):
        line += 1
        while _is_comment(source, line):  # several may stand above one statement
            line += 1
        return tuple(one for one in statements if one.line == line)
    return tuple(one for one in statements if one.line <= line <= source.position(one.end)[0])


def _is_comment(source: Source, line: int) -> bool:
    return line <= source.text.count("\n") + 1 and source.line(line).lstrip().startswith("#")
