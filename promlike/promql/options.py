"""Settings of the query engine and the limits that travel with one query."""

import time
from dataclasses import dataclass, field
from typing import Protocol

from promlike.errors import QueryCancelled, QueryTimeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What `--enable-feature` switches on, under Prometheus's names with `_` for `-`."""

    promql_experimental_functions: bool = False
    promql_delayed_name_removal: bool = False
    promql_extended_range_selectors: bool = False
    promql_binop_fill_modifiers: bool = False
    promql_duration_expr: bool = True
    use_start_timestamps: bool = False
    type_and_unit_labels: bool = False

    @classmethod
    def all(cls) -> "Features":
        return cls(
            promql_experimental_functions=True,
            promql_delayed_name_removal=True,
            promql_extended_range_selectors=True,
            promql_binop_fill_modifiers=True,
            use_start_timestamps=True,
            type_and_unit_labels=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    lookback_ms: int = 300_000
    timeout_seconds: float = 120.0
    max_samples: int = 50_000_000
    max_bytes: int = 4 << 30
    max_total_bytes: int = 8 << 30
    max_concurrency: int = 20
    max_queued: int = 1000
    features: Features = field(default_factory=Features)


class Holding(Protocol):
    """What counts the bytes that a query holds."""

    bytes: int


@dataclass(slots=True)
class Deadline:
    """When a query must have ended. Made at the edge, checked between kernels; `cancel()` ends it at the next check."""

    at: float
    timeout_seconds: float
    cancelled: bool = False
    holding: "Holding | None" = None

    @property
    def held_bytes(self) -> int:
        """What the query holds in memory now, as far as it is known."""
        return 0 if self.holding is None else self.holding.bytes

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(at=time.monotonic() + seconds, timeout_seconds=seconds)

    def cancel(self) -> None:
        self.cancelled = True

    def check(self) -> None:
        if self.cancelled:
            raise QueryCancelled("query was canceled in expression evaluation")
        if time.monotonic() > self.at:
            raise QueryTimeout("query timed out in expression evaluation")
