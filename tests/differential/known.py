"""Known differences between promlike (Prometheus 3.14) and Prometheus 2.42, each with its reason."""

import re

KNOWN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\batan2\b"), "2.42 answers atan2 between a vector and anything with an empty vector"),
    (
        re.compile(r"\b(rate|increase)\(\(?.*(temperature|odd_values|rare|flapping|up)\b"),
        "2.42 limits the extrapolation of a counter near zero before it looks at the distance of the first sample, 3.x after",
    ),
    (
        re.compile(r"\b(predict_linear|deriv)\(\(?.*odd_values"),
        "2.42's compensated sums make NaN of every infinity, 3.x's keep those that do not meet their opposite",
    ),
    (re.compile(r"\[(3m|20m):1m\].*:1m\]"), "2.42 closes windows on the left, where the steps of nested subqueries meet"),
    (re.compile(r"\btimestamp\([^()]*@.*offset"), "2.42 forgets the offset of a selector under timestamp() that has both @ and offset"),
    (re.compile(r"\bpredict_linear\(.*@"), "2.42 loses samples of a window pinned by @ from step to step"),
)
"""(pattern that the query matches, why the answers may differ)."""


def reason(query: str) -> str | None:
    """Why this query may be answered differently; None when it may not."""
    return next((why for pattern, why in KNOWN if pattern.search(query)), None)
