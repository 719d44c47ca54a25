import math

import pytest

from promlike.model.labels import labels
from tests.promql.call_data import Call, same

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("function", "value", "args", "expected"),
    [
        ("abs", -2.5, (), 2.5),
        ("ceil", -1.5, (), -1.0),
        ("floor", -1.5, (), -2.0),
        ("sgn", -7.0, (), -1.0),
        ("sgn", -0.0, (), -0.0),
        ("sgn", NAN, (), NAN),
        ("sqrt", -1.0, (), NAN),
        ("ln", 0.0, (), -INF),
        ("ln", -1.0, (), NAN),
        ("log2", 8.0, (), 3.0),
        ("log2", 0.0, (), -INF),
        ("log2", INF, (), INF),
        ("log2", 10.0, (), 3.321928094887362),
        ("log10", 20.0, (), 1.301029995663981),
        ("log10", 1000.0, (), 3.0),
        ("log10", 0.5, (), -0.3010299956639812),
        ("log10", -1.0, (), NAN),
        ("exp", 1000.0, (), INF),
        ("round", 2.5, (), 3.0),
        ("round", -2.5, (), -2.0),
        ("round", 0.25, (0.1,), 0.3),
        ("round", 5.015, (0.01,), 5.01),
        ("round", 13.0, (5.0,), 15.0),
        ("clamp_min", NAN, (INF,), INF),
        ("clamp_min", NAN, (1.0,), NAN),
        ("clamp_min", -0.0, (0.0,), 0.0),
        ("clamp_max", NAN, (-INF,), -INF),
        ("clamp_max", 0.0, (-0.0,), -0.0),
        ("clamp_max", 3.0, (2.0,), 2.0),
        ("clamp", 5.0, (0.0, 3.0), 3.0),
        ("clamp", 5.0, (NAN, 3.0), NAN),
        ("clamp", 5.0, (4.0, 3.0), None),
        ("acosh", 0.5, (), NAN),
        ("atanh", 1.0, (), INF),
        ("rad", 180.0, (), math.pi),
        ("deg", math.pi, (), 180.0),
    ],
)
def test_functions_of_one_value(function: str, value: float, args: tuple[float, ...], expected: float | None) -> None:
    call = Call()
    (row,) = call.values(function, call.vector(({"a": "b"}, [value])), *args) or [[None]]
    assert same(row[0], expected), row


def test_parameters_may_differ_between_steps() -> None:
    call = Call(3)
    vector = call.vector(({"a": "b"}, [1.0, 2.0, 3.0]), ({"a": "c"}, [None, 7.0, None]))
    assert call.rows("clamp", vector, [0.0, 5.0, 9.0], [9.0, 9.0, 0.0]) == [
        (labels({"a": "b"}), [1.0, 5.0, None]),
        (labels({"a": "c"}), [None, 7.0, None]),
    ]
    assert call.values("round", vector, [1.0, 2.0, 5.0])[0] == [1.0, 2.0, 5.0]


def test_the_greater_and_the_lesser_of_two_scalars() -> None:
    call = Call(2)
    assert call.scalar("max_of", [1.0, 5.0], 3.0) == [3.0, 5.0]
    assert call.scalar("min_of", [1.0, 5.0], 3.0) == [1.0, 3.0]
    assert math.isnan(call.scalar("max_of", NAN, 3.0)[0])
