"""The verdict on a learner's answer, and the decorator that turns a judge into a check."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from html import escape
from typing import Any, Literal

State = Literal["not attempted", "wrong", "right", "raised"]
SIGNS: dict[State, tuple[str, str]] = {  # a sign and its colour
    "not attempted": ("○", "#777777"),
    "wrong": ("✗", "#b35900"),
    "right": ("✓", "#1b7f4d"),
    "raised": ("!", "#b35900"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a check: a state, and a sentence for the learner."""

    state: State
    message: str

    def __repr__(self) -> str:
        return f"{self.state}: {self.message}"

    def _repr_html_(self) -> str:
        sign, colour = SIGNS[self.state]
        style = f"border-left:4px solid {colour};padding:.2em .8em"
        return f'<div style="{style}"><b>{sign} {self.state}</b>: {escape(self.message)}</div>'


class NotAttempted(Exception):
    """The learner has not replaced the three dots."""


Judge = Callable[[Any], Iterator[str]]
"""Yields hints for a wrong answer, nothing for a right one. Only the first hint is used."""


def exercise(right: str) -> Callable[[Judge], Callable[[Any], Verdict]]:
    """A decorator that turns a judge into a check. `right` is the message for a right answer."""

    def decorate(judge: Judge) -> Callable[[Any], Verdict]:
        @wraps(judge)
        def check(answer: Any) -> Verdict:
            try:
                if answer is ...:
                    raise NotAttempted
                hint = next(judge(answer), None)
            except NotAttempted:
                return Verdict("not attempted", "put your answer in place of the three dots")
            except Exception as error:  # a learner's code may raise anything
                return Verdict("raised", f"{type(error).__name__}: {error}")
            return Verdict("right", right) if hint is None else Verdict("wrong", hint)

        return check

    return decorate


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a learner's function. Raises NotAttempted if the result is the three dots or None."""
    result = function(*arguments)
    if result is ... or result is None:
        raise NotAttempted
    return result
