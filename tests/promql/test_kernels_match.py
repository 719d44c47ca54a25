"""Binary operations and merging of rows against slow, obvious twins."""

import math
import operator
from collections.abc import Callable

import numpy as np
import pytest

from promlike.promql.binary import OPERATORS
from promlike.promql.kernels import match

SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.5, -7.0, math.inf, -math.inf, math.nan, 1e308]


def go_pow(a: float, b: float) -> float:
    with np.errstate(all="ignore"):
        return float(np.float64(a) ** np.float64(b))


def go_divide(a: float, b: float) -> float:
    with np.errstate(all="ignore"):
        return float(np.float64(a) / np.float64(b))


def go_mod(a: float, b: float) -> float:
    return math.nan if b == 0 or math.isinf(a) else math.fmod(a, b)


TWINS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": go_divide,
    "%": go_mod,
    "^": go_pow,
    "atan2": math.atan2,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


@pytest.mark.parametrize("op", TWINS)
def test_operations_on_every_pair_of_special_values(op: str) -> None:
    left, right = (np.array(side) for side in zip(*((a, b) for a in SPECIAL for b in SPECIAL), strict=True))
    comparison = OPERATORS[op] >= match.EQL
    for mode in (match.TRUTH, match.FILTER_LEFT, match.FILTER_RIGHT) if comparison else (match.ARITHMETIC,):
        left_present = np.arange(len(left)) % 7 != 0
        right_present = np.arange(len(left)) % 11 != 0
        out, present = np.zeros((1, len(left))), np.zeros((1, len(left)), np.bool_)
        rows = np.zeros(1, np.int64)
        match.binary_rows(
            OPERATORS[op], mode, left[None], left_present[None], rows, right[None], right_present[None], rows, 0, 1, out, present
        )
        for at, (a, b) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
            result = TWINS[op](a, b)
            kept = result or mode in (match.ARITHMETIC, match.TRUTH)
            assert present[0, at] == bool(left_present[at] and right_present[at] and kept), (a, b)
            if present[0, at]:
                wanted = {match.FILTER_LEFT: a, match.FILTER_RIGHT: b}.get(mode, float(result))
                assert out[0, at] == pytest.approx(wanted, rel=1e-15, nan_ok=True), (a, b)


def test_rows_are_paired_by_index() -> None:
    left, right = np.arange(6.0).reshape(3, 2), np.arange(10.0, 14.0).reshape(2, 2)
    present = np.ones((3, 2), np.bool_)
    out, found = np.zeros((2, 2)), np.zeros((2, 2), np.bool_)
    match.binary_rows(match.ADD, match.ARITHMETIC, left, present, np.array([2, 0]), right, present[:2], np.array([0, 1]), 0, 2, out, found)
    assert out.tolist() == [[14.0, 16.0], [12.0, 14.0]]


def test_rows_of_a_group_become_one() -> None:
    values = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    present = np.array([[True, False, False], [False, False, True], [True, True, True]])
    groups = np.array([0, 0, 1], np.int32)
    union = np.zeros((2, 3), np.bool_)
    assert match.union_rows(present, groups, union) == -1
    assert union.tolist() == [[True, False, True], [True, True, True]]
    out = np.zeros((2, 3))
    match.merge_rows(values, present, groups, out)
    assert out[union].tolist() == [1, 6, 7, 8, 9]


def test_the_first_step_with_two_rows_of_a_group_is_told() -> None:
    present = np.array([[False, True, True], [True, False, True], [True, True, False]])
    groups = np.array([0, 0, 0], np.int32)
    assert match.union_rows(present, groups, np.zeros((1, 3), np.bool_)) == 0
    assert match.union_rows(np.ascontiguousarray(present[:2]), groups[:2], np.zeros((1, 3), np.bool_)) == 2
