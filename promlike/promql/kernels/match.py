"""Binary operations between rows of two blocks, and rows that share a group. Letters: S series, T steps, G groups, P pairs of series."""

import math

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Float64, Int32, Int64

ADD, SUB, MUL, DIV, MOD, POW, ATAN2, EQL, NEQ, GTR, LSS, GTE, LTE = range(13)
ARITHMETIC, FILTER_LEFT, FILTER_RIGHT, TRUTH = range(4)
"""What comes out of an operation: its result; the left or right value where the comparison holds; 1 or 0."""


@inlined
def _compute(op: int, a: float, b: float) -> float:
    if op == ADD:
        return a + b
    if op == SUB:
        return a - b
    if op == MUL:
        return a * b
    if op == DIV:
        return a / b
    if op == MOD:
        return float(np.fmod(a, b))
    if op == POW:
        return math.pow(a, b)
    return math.atan2(a, b)


@inlined
def _holds(op: int, a: float, b: float) -> bool:
    if op == EQL:
        return a == b
    if op == NEQ:
        return a != b
    if op == GTR:
        return a > b
    if op == LSS:
        return a < b
    if op == GTE:
        return a >= b
    return a <= b


@kernel("(i8, i8, f8[:,::1], b1[:,::1], i8[::1], f8[:,::1], b1[:,::1], i8[::1], i8, i8, f8[:,::1], b1[:,::1])")
def binary_rows(
    op: int,
    mode: int,
    left: Float64,
    left_present: Bool,
    left_rows: Int64,
    right: Float64,
    right_present: Bool,
    right_rows: Int64,
    low: int,
    high: int,
    out: Float64,
    present: Bool,
) -> None:
    """Row p of the result combines rows `left_rows[p]` and `right_rows[p]` (int64[P]) of float64[S,T] blocks, where both are present.

    Writes `out float64[P,T]`, `present bool[P,T]` for p in low..high-1.
    """
    steps = out.shape[1]
    for pair in range(low, high):
        a = left[left_rows[pair]]
        b = right[right_rows[pair]]
        a_present = left_present[left_rows[pair]]
        b_present = right_present[right_rows[pair]]
        for step in range(steps):
            present[pair, step] = a_present[step] & b_present[step]
        if mode == ARITHMETIC and op == DIV:
            for step in range(steps):
                out[pair, step] = a[step] / b[step]
        elif mode == ARITHMETIC and op == MUL:
            for step in range(steps):
                out[pair, step] = a[step] * b[step]
        elif mode == ARITHMETIC:
            for step in range(steps):
                if present[pair, step]:
                    out[pair, step] = _compute(op, a[step], b[step])
        elif mode == TRUTH:
            for step in range(steps):
                out[pair, step] = 1.0 if _holds(op, a[step], b[step]) else 0.0
        else:
            for step in range(steps):
                present[pair, step] &= _holds(op, a[step], b[step])
                out[pair, step] = a[step] if mode == FILTER_LEFT else b[step]


@kernel("(b1[:,::1], i4[::1], b1[:,::1])")
def union_rows(present: Bool, groups: Int32, out: Bool) -> int:
    """Or the rows of each group (`groups int32[S]`) into `out bool[G,T]`; return the first step at which a group has two, or -1."""
    steps = present.shape[1]
    conflict = steps
    for row in range(present.shape[0]):
        group = groups[row]
        for step in range(steps):
            if present[row, step]:
                if out[group, step] and step < conflict:
                    conflict = step
                out[group, step] = True
    return -1 if conflict == steps else conflict


@kernel("(f8[:,::1], b1[:,::1], i4[::1], f8[:,::1])")
def merge_rows(values: Float64, present: Bool, groups: Int32, out: Float64) -> None:
    """Write the present values of the rows of each group (`groups int32[S]`) into its row of `out float64[G,T]`."""
    for row in range(present.shape[0]):
        group = groups[row]
        for step in range(present.shape[1]):
            if present[row, step]:
                out[group, step] = values[row, step]
