"""A seeded generator of queries that type-check, from the same tables as the fixed ones. Depth-limited; most answers are not empty."""

from random import Random

from tests.differential import queries as tables

METRICS = ("http_requests_total", "temperature", "memory_bytes", "limit_bytes", "up", "odd_values", "rare", "flapping", "cpu_seconds_total")
MATCHERS = ("", '{job="api"}', '{instance=~"a.*"}', '{job!="web"}', '{instance!~"c:.",job=~"api|node"}', '{code=""}')
AGGREGATIONS = tuple(op for op in tables.AGGREGATIONS if not op.startswith("std"))
"""2.42 says that the deviation of a single NaN is 0, 3.x that it is NaN."""

LABELS = ("job", "instance", "code", "method", "zone", "missing")
WINDOWS = ("47s", "3m", "7m13s", "20m")


class QueryGenerator:
    """`vector(depth)` and `scalar(depth)` give the text of an expression of that type."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def query(self) -> str:
        return self.vector(self.random.randint(1, 4)) if self.random.random() < 0.93 else self.scalar(3)

    def vector(self, depth: int) -> str:
        if depth <= 0:
            return self.selector()
        kinds = (
            self.ranged,
            self.ranged,
            self.aggregation,
            self.aggregation,
            self.function,
            self.arithmetic,
            self.comparison,
            self.set_operation,
            self.matched,
            self.selector,
            self.relabelled,
        )
        return self.random.choice(kinds)(depth)

    def selector(self, depth: int = 0) -> str:
        return self.random.choice(METRICS) + self.random.choice(MATCHERS) + self.modifier()

    def modifier(self) -> str:
        return self.random.choice(("", "", "", "", " offset 3m", " offset -1m", " @ {at}", " @ end()", " @ start() offset 1m"))

    def window(self, depth: int) -> str:
        if depth > 1 and self.random.random() < 0.3:
            return f"({self.vector(depth - 2)})[{self.random.choice(WINDOWS[1:])}:{self.random.choice(('37s', '1m'))}]{self.modifier()}"
        return f"{self.random.choice(METRICS)}{self.random.choice(MATCHERS)}[{self.random.choice(WINDOWS)}]{self.modifier()}"

    def ranged(self, depth: int) -> str:
        function = self.random.choice(
            (*tables.COUNTER_FUNCTIONS, *(f"{name}_over_time" for name in tables.OVER_TIME), "quantile", "predict")
        )
        window = self.window(depth)
        if function == "quantile":
            return f"quantile_over_time({self.random.choice(('0.1', '0.5', '0.95'))}, {window})"
        return f"predict_linear({window}, 300)" if function == "predict" else f"{function}({window})"

    def grouping(self) -> str:
        chosen = ", ".join(self.random.sample(LABELS, self.random.randint(0, 3)))
        return self.random.choice(("", f" by ({chosen})", f" without ({chosen})"))

    def aggregation(self, depth: int) -> str:
        inner = self.vector(depth - 1)
        if self.random.random() < 0.2:
            return f"quantile{self.grouping()} ({self.random.choice(('0.2', '0.5', '0.8'))}, {inner})"
        return f"{self.random.choice(AGGREGATIONS)}{self.grouping()} ({inner})"

    def function(self, depth: int) -> str:
        inner = self.vector(depth - 1)
        kind = self.random.random()
        if kind < 0.5:
            return f"{self.random.choice(('abs', 'ceil', 'floor', 'sgn', 'sqrt', 'ln', 'round', 'atan', 'timestamp', 'hour'))}({inner})"
        if kind < 0.7:
            return f"clamp({inner}, {self.random.randint(-5, 0)}, {self.random.randint(1, 50)})"
        return f"clamp_{self.random.choice(('min', 'max'))}({inner}, {self.scalar(1)})"

    def arithmetic(self, depth: int) -> str:
        """Not %: it makes of a difference in the last bit, as compensated sums have from others, one of a whole divisor."""
        sides = [self.vector(depth - 1), self.scalar(1)]
        self.random.shuffle(sides)
        return f"({sides[0]}) {self.random.choice(('+', '-', '*', '/'))} ({sides[1]})"

    def comparison(self, depth: int) -> str:
        return f"({self.vector(depth - 1)}) {self.random.choice(tables.COMPARISONS)}{self.random.choice(('', ' bool'))} {self.scalar(1)}"

    def set_operation(self, depth: int) -> str:
        on = self.random.choice(("", " on (job)", " ignoring (code, method)", " on (instance, job)"))
        return f"({self.vector(depth - 1)}) {self.random.choice(('and', 'or', 'unless'))}{on} ({self.vector(depth - 1)})"

    def matched(self, depth: int) -> str:
        left, right = self.vector(depth - 1), self.vector(depth - 1)
        operator = self.random.choice((*tables.ARITHMETIC[:4], *tables.COMPARISONS))
        kind = self.random.random()
        if kind < 0.4:
            return f"({left}) {operator} on (job, instance) group_left sum by (job, instance) ({right})"
        if kind < 0.7:
            return f"avg by (instance) ({left}) {operator} on (instance) avg by (instance) ({right})"
        return f"({left}) {operator} ({right})"

    def relabelled(self, depth: int) -> str:
        inner = self.vector(depth - 1)
        if self.random.random() < 0.5:
            return f'label_join({inner}, "joined", "/", "job", "instance")'
        return f'label_replace({inner}, "short", "$1", "instance", "(.):.*")'

    def scalar(self, depth: int) -> str:
        if depth <= 0 or self.random.random() < 0.5:
            return self.random.choice(("0", "1", "2.5", "-7", "1e6", "time() % 60", "pi()"))
        return self.random.choice((f"scalar(sum({self.vector(depth - 1)}))", f"({self.scalar(depth - 1)} + {self.scalar(depth - 1)})"))
