"""What every *check yourself* is made of: a verdict on a learner's answer, and how it is reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from html import escape
from typing import Any, Literal

State = Literal["not attempted", "wrong", "right", "raised"]
COLOURS: dict[State, str] = {
    "not attempted": "#777777",
    "wrong": "#b35900",
    "right": "#1b7f4d",
    "raised": "#b35900",
}
SIGNS: dict[State, str] = {"not attempted": "○", "wrong": "✗", "right": "✓", "raised": "!"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says of an answer: a state, and a sentence."""

    state: State
    message: str

    def __repr__(self) -> str:
        return f"{self.state}: {self.message}"

    def _repr_html_(self) -> str:
        style = f"border-left:4px solid {COLOURS[self.state]};padding:.2em .8em"
        return f'<div style="{style}"><b>{SIGNS[self.state]} {self.state}</b>: {escape(self.message)}</div>'


class NotAttempted(Exception):
    """The learner's function still returns the three dots."""


def exercise(judge: Callable[[Any], str | None]) -> Callable[[Any], Verdict]:
    """Make a check of `judge`, which returns a hint for a wrong answer and None for a right one.

    The first line of the judge's docstring is what a learner reads who was right.
    """

    @wraps(judge)
    def check(answer: Any) -> Verdict:
        try:
            if answer is ...:
                raise NotAttempted
            hint = judge(answer)
        except NotAttempted:
            return Verdict("not attempted", "put your answer in place of the three dots")
        except Exception as error:  # whatever a learner's code may raise
            return Verdict("raised", f"{type(error).__name__}: {error}")
        right = (judge.__doc__ or "").strip().partition("\n")[0]
        return Verdict("right", right) if hint is None else Verdict("wrong", hint)

    return check


def call(function: Callable[..., Any], *args: Any) -> Any:
    """The result of a learner's function.

    Raises:
        NotAttempted: it returns the three dots, or nothing at all.
    """
    result = function(*args)
    if result is ... or result is None:
        raise NotAttempted
    return result
