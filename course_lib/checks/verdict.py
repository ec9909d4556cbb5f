"""The verdict on a learner's answer, and the decorator that turns a judge into a check."""

import reprlib
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from html import escape
from os.path import dirname
from typing import Any, Literal

import numpy as np
from torch import Tensor

from course_lib.language import say

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
        return say("{it}: {said}", it=say(self.state), said=self.message)

    def _repr_html_(self) -> str:
        sign, colour = SIGNS[self.state]
        style, state = f"border-left:4px solid {colour};padding:.2em .8em", f"<b>{sign} {say(self.state)}</b>"
        return f'<div style="{style}">{say("{it}: {said}", it=state, said=escape(self.message))}</div>'


class Judged(Exception):
    """Ends a check at once: `Judged(state, message)`."""


DOTS = "put your answer in place of the three dots"
NOTHING = "your function returned None: is a `return` missing, perhaps in one branch?"
OTHER_FORM = (TypeError, ValueError, LookupError, AttributeError, RuntimeError)  # a judge fails on a strange value
Answer = Callable[..., Any]
Judge = Callable[[Answer], Iterator[str]]
"""Yields hints for a wrong answer, of which the first is used. Yields nothing, or raises `Judged`, for a right one."""


def exercise(right: str = "") -> Callable[[Judge], Callable[[Any], Verdict]]:
    """A decorator that turns a judge into a check. `right` is the usual message for a right answer.

    The judge calls the learner's function, and gets what it returns in the form that `plain` gives it.
    """

    def decorate(judge: Judge) -> Callable[[Any], Verdict]:
        @wraps(judge)
        def check(answer: Any) -> Verdict:
            returned: Any = None

            def call(*arguments: Any) -> Any:
                nonlocal returned
                try:
                    returned = plain(answer(*arguments))
                except Exception as error:  # a learner's code may raise anything
                    raise Judged("raised", described(error)) from None
                if returned is ...:
                    raise Judged("not attempted", say(DOTS))
                if returned is None:
                    raise Judged("wrong", say(NOTHING))
                return returned

            if answer is ...:
                return Verdict("not attempted", say(DOTS))
            if not callable(answer):
                return Verdict("wrong", say("give the check your function itself: its name, without brackets after it"))
            try:
                hint = next(judge(call), None)
            except Judged as judged:
                return Verdict(*judged.args)
            except OTHER_FORM:
                found = reprlib.repr(returned)
                hint = say("your function returned {found}; the question asks for another kind of value", found=found)
            return Verdict("right", say(right)) if hint is None else Verdict("wrong", hint)

        return check

    return decorate


def plain(returned: Any) -> Any:
    """Tensors, arrays, tuples, generators, … as lists of Python values; anything else as it is."""
    if isinstance(returned, Tensor | np.ndarray | np.generic):
        return returned.tolist()
    if isinstance(returned, str | Mapping) or not isinstance(returned, Iterable):
        return returned
    return [plain(value) for value in returned]


def number(returned: Any) -> float:
    """A learner's answer if it is one number, or a list with one. Raises TypeError otherwise."""
    match returned:
        case [value] | value if isinstance(value, int | float):
            return value
    raise TypeError(f"{returned!r} is not one number")


def described(error: Exception) -> str:
    """The type and message of an error in a learner's function, and the learner's line that led to it."""
    library = dirname(dirname(__file__))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(library)]
    own = [frame for frame in frames if frame.filename == frames[0].filename]  # without the libraries that it called
    place = say(" (line {number} of your code: {line})", number=own[-1].lineno, line=own[-1].line) if own else ""
    return f"{type(error).__name__}: {error}{place}"
