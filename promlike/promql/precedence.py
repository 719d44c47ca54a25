"""Folds flat lists of operands and operators into trees by precedence. Iterative, so that no chain is too long for it."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from lark import Token

_UNARY = 5
"""Signs bind like `*`: `-2^2` is -4."""

PRECEDENCE = {
    **dict.fromkeys(("or",), 1),
    **dict.fromkeys(("and", "unless"), 2),
    **dict.fromkeys(("==", "!=", "<=", "<", ">=", ">", "</", ">/"), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%", "atan2"), _UNARY),
    "^": 6,
}
RIGHT_ASSOCIATIVE = frozenset({"^"})


class Operator(Protocol):
    """A binary operator as it stands in the list."""

    @property
    def symbol(self) -> str: ...


T = TypeVar("T")
O = TypeVar("O", bound=Operator)  # noqa: E741  # T and O read best as one letter each in the signature below


def fold(
    items: Iterable[object],
    operator_type: type[O],
    unary: Callable[[Token, T], T],
    binary: Callable[[O, T, T], T],
) -> T:
    """Combine `sign* operand (operator sign* operand)*`. Signs are tokens, operators of `operator_type`, all else is an operand."""
    operands: list[T] = []
    pending: list[Token | O] = []

    def combine() -> None:
        top = pending.pop()
        right = operands.pop()
        operands.append(unary(top, right) if isinstance(top, Token) else binary(top, operands.pop(), right))

    for item in items:
        if isinstance(item, Token):
            pending.append(item)
        elif isinstance(item, operator_type):
            while pending and _first(pending[-1], item.symbol):
                combine()
            pending.append(item)
        else:
            operands.append(item)  # type: ignore[arg-type]  # by the contract of `items`
    while pending:
        combine()
    return operands[0]


def _first(waiting: Token | Operator, symbol: str) -> bool:
    """Does the operator that waits bind before the one that comes?"""
    level = _UNARY if isinstance(waiting, Token) else PRECEDENCE[waiting.symbol]
    return level > PRECEDENCE[symbol] or (level == PRECEDENCE[symbol] and symbol not in RIGHT_ASSOCIATIVE)
