"""What a network is judged by: a number with a name, a direction, a unit and bounds."""

from __future__ import annotations

import re
from enum import StrEnum
from math import inf, isfinite
from typing import Annotated, Any

from pydantic import Field, ValidationError

from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel

PERCENT = "%"
SHARE = (0.0, 1.0)  # bounds
ROUNDING = 1e-5  # of numbers of single precision: a mean of shares may be 1.0000001
VAL = re.compile(r"(?<![A-Za-z])(?:val|eval|valid|validation)(?![A-Za-z])")  # in a key
DROP = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*(%?)")


class Direction(StrEnum):
    """Which of two scores is better."""

    max = "max"  # the larger one
    min = "min"


class Score(FileModel):
    """How the networks of a study are judged.

    Attributes:
        key: what the task logs, such as `val/acc`.
        direction: which is better.
        unit: of its values; empty: none. Differences of percent are points.
        bounds: the least and the largest value there can be; None: there is no such bound.
    """

    key: Annotated[str, Field(min_length=1, max_length=200)] = "val/acc"
    direction: Direction = Direction.max
    unit: Annotated[str, Field(max_length=40)] = PERCENT
    bounds: tuple[float | None, float | None] = (0.0, 100.0)

    def __init__(
        self, key: str | None = None, direction: Direction | str | None = None, **rest: Any
    ) -> None:
        if direction is not None and direction not in list(Direction):
            raise SsrError(f"direction={direction!r} is neither 'max' nor 'min': which is better?")
        given = {"key": key, "direction": direction}
        known = type(self).model_fields
        if unknown := next((name for name in rest if name not in known), None):
            raise SsrError(f"a score has no {unknown}: it has {', '.join(known)}.")
        if "bounds" in rest and isinstance(rest["bounds"], tuple | list):
            rest["bounds"] = tuple(None if b in (-inf, inf) else b for b in rest["bounds"])
        try:
            super().__init__(**{k: v for k, v in given.items() if v is not None}, **rest)
        except ValidationError as error:
            why = error.errors()[0]
            where = ".".join(map(str, why["loc"]))
            raise SsrError(f"a score's {where} is {why['input']!r}: {why['msg']}.") from None

    def fields(self) -> dict[str, Any]:
        """Say it by the names that a record has for it."""
        return {"score_key": self.key, **self.model_dump(exclude={"key"})}

    @property
    def name(self) -> str:
        """Its name for people: `val acc`."""
        return self.key.replace("/", " ").replace("_", " ")

    @property
    def val_name(self) -> str:
        """Its name with the part; a loop of the user's own may not say it: `val dice`."""
        return self.name if self.key != self.test_key else f"val {self.name}"

    @property
    def word(self) -> str:
        """What is measured, in a word: `accuracy`, `mIoU`."""
        last = self.key.rpartition("/")[2].replace("_", " ")
        return "accuracy" if last == "acc" else last

    @property
    def good(self) -> str:
        """What a network is that scores well, in a word."""
        return "accurate" if self == ACCURACY else "good"

    @property
    def title(self) -> str:
        """The word, as a heading begins; one with capitals of its own keeps its letters."""
        return self.word.capitalize() if self.word.islower() else self.word

    @property
    def test(self) -> Score:
        """The same score on test."""
        return self.model_copy(update={"key": self.test_key})

    @property
    def test_key(self) -> str:
        """What the task logs on test: the same key there, as `test/acc` of `val/acc`."""
        return VAL.sub("test", self.key, count=1)

    def on(self, part: str) -> Score:
        """The same score on a part, `val` or `test`, as people are to tell them apart."""
        if part != "test":
            return self
        key = self.test_key if self.test_key != self.key else f"test {self.key}"
        return self.model_copy(update={"key": key})

    @property
    def heading(self) -> str:
        """Its name with the unit, above a column: `val acc %`."""
        return f"{self.name} {self.unit}".strip()

    @property
    def unit_of_drops(self) -> str:
        """The unit of differences: `points` of percent."""
        return "points" if self.unit == PERCENT else self.unit

    @property
    def sign(self) -> int:
        """What makes larger better: 1, or -1 where it is minimised."""
        return 1 if self.direction is Direction.max else -1

    def drop(self, value: float, reference: float) -> float:
        """Say how much worse a value is than a reference; negative if it is better."""
        return self.sign * (reference - value)

    def lowered(self, value: float, drop: float) -> float:
        """Make a value worse by a drop, within the bounds."""
        return self.clamped(value - self.sign * drop)

    def clamped(self, value: float) -> float:
        """Bring a value within the bounds."""
        low, high = self.limits
        return min(max(value, low), high)

    def within_bounds(self, value: float) -> float | None:
        """Bring a value within the bounds where rounding put it outside; None: it is outside."""
        inside = self.clamped(value)
        return inside if abs(value - inside) <= ROUNDING * max(abs(inside), 1.0) else None

    @property
    def limits(self) -> tuple[float, float]:
        """The bounds as numbers; infinite where there is none."""
        low, high = self.bounds
        return (-inf if low is None else low), (inf if high is None else high)

    def check(self, value: float) -> float:
        """Bring a finite value within the bounds, or refuse it: see `within_bounds`.

        Raises:
            SsrError: says which bounds, and asks where percent was taken for a share.
        """
        if (inside := self.within_bounds(value)) is not None:
            return inside
        percent = self.bounds == SHARE and 1 < value <= 100
        raise SsrError(
            f"{self.key} is {value:g}, out of its bounds {self.between()}"
            f"{': is it a share, or percent from 0 to 100?' if percent else '.'}"
        )

    def between(self) -> str:
        """Write the bounds in words."""
        low, high = ("" if bound is None else f"{bound:g}" for bound in self.bounds)
        return f"{low or 'any'} to {high or 'any'}"

    def number(self, value: float) -> str:
        """Write a value without its unit."""
        value = value + 0.0  # -0 is 0
        if self.unit == PERCENT:
            return f"{value:.2f}"
        if self.bounds == SHARE:  # as many digits below each other
            return f"{value:.4f}"
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e6 else f"{value:.4g}"

    def rounded(self, value: float) -> float:
        """Round a value as files keep it: to 4 digits after the point of percent, else to 6."""
        return round(value, 4) if self.unit == PERCENT else float(f"{value:.6g}")

    def text(self, value: float) -> str:
        """Write a value with its unit: `93.52 %`."""
        return f"{self.number(value)} {self.unit}".strip()

    def drop_text(self, drop: float) -> str:
        """Write a difference with its unit: `0.35 points`."""
        return f"{self.number(drop)} {self.unit_of_drops}".strip()

    def change_text(self, drop: float) -> str:
        """Write a drop as what is lost, or gained: `to lose 0.35 points`."""
        return f"to {'gain' if drop < 0 else 'lose'} {self.drop_text(abs(drop))}"

    def expected_text(self, drop: float, low: float, high: float) -> str:
        """Write an expected drop and its interval, both as a gain where that is one."""
        ends = (-high, -low) if drop < 0 else (low, high)
        interval = " to ".join(map(self.number, ends))
        return f"{self.change_text(drop)} (80 % interval {interval})"

    def short_drop(self, drop: float) -> str:
        """Write a limit as it was typed: `0.5 points`, `1 point`."""
        number, unit = f"{drop:.6g}", self.unit_of_drops
        return f"{number} {'point' if (number, unit) == ('1', 'points') else unit}".strip()

    def read_drop(
        self, text: str, reference: float, key: str, *, whose: str = "the baseline's"
    ) -> float:
        """Read an allowed drop: a number in the score's unit, or a share of a reference as `2%`.

        Args:
            text: as it was typed.
            reference: what a share is of.
            key: that was typed, for the error.
            whose: reference it is, likewise.

        Raises:
            SsrError: if it is neither.
        """
        match = DROP.fullmatch(text.strip())
        if match is None or not is_drop(text):
            raise SsrError(
                f"{key}={text} is not a drop: type a number ({self.unit_of_drops or self.name}), "
                f"0 or more, or a share of {whose} {self.name} such as {key}=2%."
            )
        value = float(match[1])
        return value / 100 * abs(reference) if match[2] else value


def is_drop(text: str) -> bool:
    """Say whether a text is a number of 0 or more, or such a share in percent."""
    match = DROP.fullmatch(text.strip())
    return match is not None and isfinite(float(match[1]))


ACCURACY = Score()
VAL_LOSS = Score(key="val/loss", direction=Direction.min, unit="nats", bounds=(0.0, None))
