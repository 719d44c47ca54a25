"""Queries for the differential suite: every function, operator, modifier and matching form of Prometheus 2.42.

Built as products of small tables, so that a new case is a new row.
"""

SELECTORS = (
    "http_requests_total",
    'http_requests_total{job="api"}',
    'http_requests_total{job!="api"}',
    'http_requests_total{code=~"4..|5.."}',
    'http_requests_total{code!~"2.*"}',
    'http_requests_total{job="api",instance=~"[ab]:1",method!="POST"}',
    'http_requests_total{missing=""}',
    'http_requests_total{missing!=""}',
    'http_requests_total{code=~".+"}',
    'http_requests_total{nothing=~".*"}',
    '{__name__="up"}',
    '{__name__=~"up|constant"}',
    '{__name__=~"mem.*",job="web"}',
    '{job="node",mode=~"idle|user"}',
    '{umlaut="größe"}',
    '{text="say \\"hi\\""}',
    "{path='/usr'}",
    "{text=`line\nbreak`}",
    "no_such_metric",
    "flapping",
    "odd_values",
    "rare",
    "ended",
)

OVER_TIME = ("avg", "min", "max", "sum", "count", "stddev", "stdvar", "last", "present")
RANGED = ("http_requests_total", "temperature", "odd_values", "flapping", "rare", "constant")
COUNTER_FUNCTIONS = ("rate", "increase", "irate", "resets", "changes", "delta", "idelta", "deriv")
RANGES = ("47s", "5m", "17m13s")
MATH = "abs ceil floor exp ln log2 log10 sqrt sgn sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh deg rad".split()
DATES = "minute hour day_of_week day_of_month day_of_year days_in_month month year".split()
AGGREGATIONS = ("sum", "avg", "min", "max", "count", "stddev", "stdvar", "group")
ARITHMETIC = ("+", "-", "*", "/", "%", "^", "atan2")
COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")


def queries() -> list[str]:
    """All of them, without repeats, in a stable order."""
    found = [*_selectors(), *_ranges(), *_functions(), *_aggregations(), *_operators(), *_histograms(), *_labels(), *_shapes()]
    return list(dict.fromkeys(found))


def _selectors() -> list[str]:
    modified = [
        f"{selector} {modifier}"
        for selector in ('http_requests_total{job="api"}', "rare", "flapping")
        for modifier in ("offset 7m", "offset -3m", "@ {at}", "@ start()", "@ end()", "@ {at} offset 2m", "offset 2m @ {at}")
    ]
    return [*SELECTORS, *modified]


def _ranges() -> list[str]:
    found = [f"{name}_over_time({metric}[{window}])" for name in OVER_TIME for metric in RANGED for window in RANGES]
    found += [
        f"{name}({metric}[{window}])" for name in COUNTER_FUNCTIONS for metric in ("http_requests_total", *RANGED[1:]) for window in RANGES
    ]
    found += [f"quantile_over_time({q}, {metric}[9m])" for q in ("0", "0.3", "0.5", "0.99", "1", "-1", "2", "NaN") for metric in RANGED[:4]]
    found += [f"predict_linear({metric}[11m], {t})" for metric in RANGED for t in ("600", "-60", "3600.5")]
    found += [f"absent_over_time({selector}[6m])" for selector in ("ended", "no_such_metric", 'no_such{job="x",code=~"5.."}', "up")]
    found += [f"rate(http_requests_total[5m] {m})" for m in ("offset 10m", "offset -2m", "@ {at}", "@ end()", "@ start() offset 3m")]
    found += [f"{name}_over_time(rate(http_requests_total[3m])[13m:{step}])" for name in OVER_TIME for step in ("", "1m", "37s")]
    found += ["max_over_time(sum(up)[10m:1m])", "sum_over_time((up * 2)[7m:30s] offset 4m)", "avg_over_time(temperature[10m:45s] @ {at})"]
    found += ["deriv(avg_over_time(temperature[5m])[20m:1m])", "rate(http_requests_total[10m:15s])", "changes((up > 0)[20m:15s])"]
    return found


def _functions() -> list[str]:
    found = [f"{name}({metric})" for name in MATH for metric in ("temperature", "odd_values", "constant / 43")]
    found += [f"{name}({argument})" for name in DATES for argument in ("", "unix_time", "odd_values * 1e6", "vector(1709210000)")]
    found += [f"round({metric}{to})" for metric in ("temperature", "odd_values", "tiny", "huge") for to in ("", ", 5", ", 0.1", ", 0.3")]
    found += [f"clamp({metric}, {low}, {high})" for metric in ("temperature", "odd_values") for low, high in ((-2, 3), (4, 1), ("NaN", 2))]
    found += [
        f"{name}({metric}, {bound})"
        for name in ("clamp_min", "clamp_max")
        for metric in ("temperature", "odd_values")
        for bound in (0, 2.5, "NaN")
    ]
    found += [
        "timestamp(up)",
        "timestamp(rare)",
        "timestamp(up offset 3m)",
        "timestamp(up @ {at})",
        "timestamp(abs(up))",
        "timestamp(timestamp(rare))",
    ]
    found += [
        "time()",
        "vector(1)",
        "vector(time())",
        "scalar(constant)",
        "scalar(up)",
        "scalar(vector(NaN))",
        "pi()",
        "pi() * 2",
        "time() - 3",
    ]
    found += [
        "absent(up)",
        "absent(no_such_metric)",
        'absent(nope{a="b",c=~"d",e!="f"})',
        'absent(nope{a="b",a="c"})',
        "absent(sum(no_such_metric))",
    ]
    found += [f"{name}(temperature)" for name in ("sort", "sort_desc")] + [
        "sort(odd_values)",
        "sort_desc(odd_values)",
        "sort(http_requests_total)",
    ]
    return found


def _aggregations() -> list[str]:
    modifiers = ("", " by (job)", " by (job, instance)", " without (instance)", " by (missing)", " without ()", " by ()")
    found = [f"{op}{modifier} (http_requests_total)" for op in AGGREGATIONS for modifier in modifiers]
    found += [
        f"{op}{modifier} ({metric})"
        for op in AGGREGATIONS
        for modifier in ("", " by (job)")
        for metric in ("temperature", "odd_values", "huge")
    ]
    found += [f"{op}({k}, {metric})" for op in ("topk", "bottomk") for k in (0, 1, 3, 100) for metric in ("temperature", "memory_bytes")]
    found += [f"{op} by (job) (2, memory_bytes)" for op in ("topk", "bottomk")] + ["topk without (instance) (1, memory_bytes)"]
    found += [f"quantile{m} ({q}, temperature)" for m in ("", " by (job)") for q in (0, 0.25, 0.5, 0.9, 1, -0.1, 1.1, "NaN")]
    found += [
        'count_values("v", up)',
        'count_values("v", queue_depth)',
        'count_values by (job) ("job2", up)',
        'count_values("v", temperature > 2)',
    ]
    found += [
        "sum(rate(http_requests_total[5m])) by (job, code)",
        "sum by (__name__) ({job='web'})",
        "count without (le) (latency_seconds_bucket)",
    ]
    return found


def _operators() -> list[str]:
    sides = (("memory_bytes", "limit_bytes"), ("temperature", "2.5"), ("-3", "temperature"), ("odd_values", "odd_values"), ("7", "4"))
    found = [f"{left} {op} {right}" for op in ARITHMETIC for left, right in sides]
    found += [f"{left} {op} {right}" for op in COMPARISONS for left, right in sides[:4]]
    found += [f"{left} {op} bool {right}" for op in COMPARISONS for left, right in sides]
    matching = (
        "on (job, instance)",
        "ignoring (mode)",
        "on (instance) group_left",
        "on (instance) group_left (zone)",
        "ignoring (job) group_right",
    )
    found += [f"temperature * {m} memory_bytes" for m in matching[:2]] + [f"temperature * {m} memory_bytes" for m in matching[2:]]
    found += [f"memory_bytes {op} on (instance) group_left (zone, version) zone_info" for op in ("+", "*", ">", "<=", "== bool")]
    found += [f"zone_info {op} on (instance) group_right (zone) memory_bytes" for op in ("+", "/", "<", "!= bool")]
    found += [f"http_requests_total {op} {m} {right}" for op in ("and", "or", "unless") for m in ("", "on (job)", "ignoring (code, method)")
              for right in ("up", 'http_requests_total{code="200"}', "(memory_bytes > 5e8)")]  # fmt: skip
    found += ['rate(http_requests_total{code="500"}[5m]) / ignoring (code) group_left rate(http_requests_total{code="200"}[5m])']
    found += [
        "-temperature",
        "+temperature",
        "-(up + up)",
        "--1",
        "-2 ^ 2",
        "2 ^ 3 ^ 2",
        "1 + 2 * 3 % 2",
        "(1 + 2) * 3",
        "1 / 0",
        "-1 / 0",
        "0 / 0",
    ]
    found += [
        "up + up * up ^ up",
        "temperature > 1 < 4",
        "temperature > (memory_bytes / 1e8)",
        "up == 1 or vector(7)",
        "(up or zone_info) + 1",
    ]
    found += [
        "http_requests_total + on (job) up",
        "up + on (job) up",
        "up * on (job) group_left up",
        "0x1F + 1e3",
        "Inf - Inf",
        "NaN == bool NaN",
    ]
    return found


def _histograms() -> list[str]:
    inner = (
        "latency_seconds_bucket",
        "rate(latency_seconds_bucket[5m])",
        "sum by (le) (rate(latency_seconds_bucket[5m]))",
        "sum by (job, le) (increase(latency_seconds_bucket[17m]))",
        'latency_seconds_bucket{le!="+Inf"}',
        'latency_seconds_bucket{le="+Inf"}',
    )
    found = [f"histogram_quantile({q}, {buckets})" for q in ("0", "0.5", "0.9", "0.999", "1", "-1", "1.5", "NaN") for buckets in inner]
    return [*found, "rate(latency_seconds_sum[5m]) / rate(latency_seconds_count[5m])", "histogram_quantile(0.9, up)"]


def _labels() -> list[str]:
    found = [
        f'label_replace({metric}, "{to}", "{replacement}", "{source}", "{pattern}")'
        for metric in ("up", "words")
        for to, replacement, source, pattern in (
            ("host", "$1", "instance", "(.*):.*"),
            ("host", "$1-${2}", "instance", "(.)(.*)"),
            ("host", "fixed", "instance", "nomatch"),
            ("job", "", "job", ".*"),
            ("__name__", "renamed", "job", ".*"),
            ("instance", "x", "", ""),
            ("name", "$name", "job", "(?P<name>.).*"),
        )
    ]
    found += ['label_join(up, "both", "-", "job", "instance")', 'label_join(up, "job", "", "none")', 'label_join(up, "x", ",")']
    found += ['label_replace(up, "instance", "same", "", "")', 'label_join(up, "instance", "-", "job")']
    return found


def _shapes() -> list[str]:
    return [
        'sum by (job) (rate(http_requests_total{code=~"5.."}[5m])) / sum by (job) (rate(http_requests_total[5m])) > 0.01',
        "topk(2, sum by (instance) (rate(cpu_seconds_total[5m])))",
        'avg by (instance) (cpu_seconds_total{mode="idle"}) / on (instance) sum by (instance) (cpu_seconds_total)',
        "1 - avg(rate(cpu_seconds_total[5m])) without (mode)",
        "predict_linear(memory_bytes[30m], 4 * 3600) < 4e8",
        "max_over_time(deriv(temperature[5m])[20m:1m])",
        "count(up == 0) or vector(0)",
        "sum(up) / count(up) * 100",
        "(memory_bytes - memory_bytes offset 10m) / memory_bytes * 100",
        "quantile_over_time(scalar(constant) / 100, temperature[10m])",
        "scalar(sum(up)) + up",
        "up * scalar(no_such_metric)",
        "clamp_max(rate(http_requests_total[5m]), scalar(avg(temperature)))",
        '"a string"',
        "http_requests_total[1m]",
        "up[2m] offset 1m",
        "rate(http_requests_total[5m])[10m:1m]",
    ]
