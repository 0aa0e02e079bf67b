"""The types an operation's arguments may have: what a value must be, and what becomes of it in a scaled-down model."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal

from ablc.blueprint.activations import ACTIVATIONS
from ablc.faults import did_you_mean


class Kind:
    """Checks and scales the values of one argument type. `numeric` ones are written as integer expressions."""

    numeric = False

    def check(self, value: Any) -> str | None:
        """Why `value` can't be this argument, or None."""
        raise TypeError("an argument type says what it accepts")

    def scaled(self, value: Any, factor: Fraction) -> Any:
        """The value in a model whose width is `factor` times the original's."""
        return value

    def default(self, value: Any, base_activation: str) -> Any:
        """The explicit form of an argument's default."""
        return value


class RankKind(Kind):
    """The inner width of a low-rank product."""

    numeric = True

    def check(self, value: Any) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return None
        return (
            f"a rank is a positive integer, not {value!r}" if isinstance(value, int | float) else "a rank is a number"
        )

    def scaled(self, value: Any, factor: Fraction) -> int:
        rank: int = round(value * factor)
        return max(1, rank)


class BiasKind(Kind):
    """Which factors of a pair have a bias."""

    choices = ("both", "out", "none")

    def check(self, value: Any) -> str | None:
        return None if value in self.choices else did_you_mean(str(value), self.choices, "choices")


class ActivationKind(Kind):
    """An activation function; the base model's own unless said."""

    def check(self, value: Any) -> str | None:
        return None if value in ACTIVATIONS else did_you_mean(str(value), ACTIVATIONS, "activations")

    def default(self, value: Any, base_activation: str) -> Any:
        return value if value is not None else base_activation


Rank = Annotated[int, RankKind()]
Bias = Annotated[Literal["both", "out", "none"] | None, BiasKind()]
Activation = Annotated[str | None, ActivationKind()]
