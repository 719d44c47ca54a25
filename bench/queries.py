"""The queries of a dashboard over the fleet. Six hours in 355 steps where nothing else is said."""

from dataclasses import dataclass
from urllib.parse import urlencode


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """`kind` is the end point: `instant`, `range` (over `hours`, in `steps`), `label_values` (of `label`) or `series`."""

    name: str
    kind: str
    text: str
    hours: float = 6.0
    steps: int = 355
    label: str = ""

    def path(self, end_ms: int) -> str:
        """Path and parameters for data that ends at `end_ms`."""
        end = end_ms // 1000
        start = end - int(self.hours * 3600)
        if self.kind == "instant":
            return "/api/v1/query?" + urlencode({"query": self.text, "time": end})
        if self.kind == "range":
            step = int(self.hours * 3600) // self.steps
            return "/api/v1/query_range?" + urlencode({"query": self.text, "start": start, "end": end, "step": step})
        selected = urlencode({"match[]": self.text, "start": start, "end": end})
        return f"/api/v1/label/{self.label}/values?{selected}" if self.kind == "label_values" else f"/api/v1/series?{selected}"


QUERIES = (
    Query(name="rate, sum by, now", kind="instant", text="sum by (job, status) (rate(http_requests_total[5m]))"),
    Query(name="rate, sum by", kind="range", text="sum by (job, status) (rate(http_requests_total[5m]))"),
    Query(
        name="histogram_quantile",
        kind="range",
        text="histogram_quantile(0.99, sum by (le, handler) (rate(http_request_duration_seconds_bucket[5m])))",
    ),
    Query(name="topk", kind="range", text='topk(5, sum by (instance) (rate(node_cpu_seconds_total{mode!="idle"}[5m])))'),
    Query(name="avg_over_time", kind="range", text="avg_over_time(go_goroutines[30m])"),
    Query(
        name="join, group_left",
        kind="range",
        text="sum by (version) (rate(http_requests_total[5m]) * on (instance) group_left (version) app_build_info)",
    ),
    Query(
        name="error ratio, regex",
        kind="range",
        text='sum by (handler) (rate(http_requests_total{status=~"5..",handler=~"/api/.+"}[5m]))'
        ' / sum by (handler) (rate(http_requests_total{handler=~"/api/.+"}[5m]))',
    ),
    Query(name="subquery", kind="range", hours=1, steps=60, text="max_over_time(sum by (job) (rate(http_requests_total[5m]))[30m:1m])"),
    Query(name="quantile", kind="range", text="quantile by (mode) (0.9, rate(node_cpu_seconds_total[5m]))"),
    Query(name="count of everything, now", kind="instant", text='count({__name__=~".+"})'),
    Query(name="count of everything by name", kind="range", steps=60, text='count by (__name__) ({cluster=~"eu.*"})'),
    Query(name="all buckets, now", kind="instant", text="http_request_duration_seconds_bucket"),
    Query(
        name="a graph of many series",
        kind="range",
        hours=1,
        steps=240,
        text='rate(http_requests_total{cluster="eu-west-1",method="GET"}[1m])',
    ),
    Query(name="points of many series", kind="range", hours=1, steps=240, text='node_cpu_seconds_total{mode=~"idle|user"}'),
    Query(name="increase over an hour", kind="range", text='sum by (namespace) (increase(node_cpu_seconds_total{mode="user"}[1h]))'),
    Query(name="disk full in four hours", kind="range", steps=72, text="predict_linear(node_filesystem_avail_bytes[1h], 4 * 3600) < 4e10"),
    Query(name="label values", kind="label_values", label="instance", text="http_requests_total"),
    Query(name="series", kind="series", text='http_requests_total{status="500"}'),
)
