"""Known differences between promlike (Prometheus 3.14) and Prometheus 2.42, each with its reason."""

import re

KNOWN: tuple[tuple[re.Pattern[str], str], ...] = ()
"""(pattern that the query matches, why the answers may differ)."""


def reason(query: str) -> str | None:
    """Why this query may be answered differently; None when it may not."""
    return next((why for pattern, why in KNOWN if pattern.search(query)), None)
