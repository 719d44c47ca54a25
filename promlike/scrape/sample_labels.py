"""From the labels a target exposes to the labels of a stored series: target labels joined, metric relabelling, limits."""

from dataclasses import dataclass, field

from promlike.config.names import LEGACY_LABEL_NAME, LEGACY_METRIC_NAME
from promlike.config.scrape import ScrapeConfig
from promlike.model.labels import METRIC_NAME, Labels, labels
from promlike.scrape.relabel import LabelSet, Rule, compile_rules, relabel
from promlike.scrape.series_text import LabelPairs


@dataclass(slots=True, kw_only=True, eq=False)
class SampleLabels:
    """The rules of one target, applied once per new series."""

    config: ScrapeConfig
    target: Labels
    _rules: tuple[Rule, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._rules = compile_rules(self.config.metric_relabel_configs)

    def of(self, exposed: LabelPairs) -> Labels | None:
        """The labels of the series; None when relabelling drops it. Raise ValueError where the series makes the scrape fail."""
        merged = self._honored(exposed) if self.config.honor_labels else self._renamed(exposed)
        if not relabel(merged, self._rules):
            return None
        series = labels(merged)
        self._check(series)
        return series

    def report(self, metric: str) -> Labels:
        """The labels of a series about the scrape itself, such as `up`: no relabelling. A target label it clashes with is renamed."""
        return labels(self._renamed([(METRIC_NAME, metric)]))

    def _honored(self, exposed: LabelPairs) -> LabelSet:
        """Exposed labels win, even empty ones: that is how a target says that it does not want a label."""
        return {**dict(self.target), **dict(exposed)}

    def _renamed(self, exposed: LabelPairs) -> LabelSet:
        """Target labels win; an exposed label of the same name becomes exported_<name>."""
        merged = {name: value for name, value in exposed if value}
        clashing = [(name, merged[name]) for name, _ in self.target if name in merged]
        merged.update(self.target)
        for name, value in sorted(clashing, key=lambda pair: len(pair[0])):
            renamed = f"exported_{name}"
            while renamed in merged:
                renamed = f"exported_{renamed}"
            merged[renamed] = value
        return merged

    def _check(self, series: Labels) -> None:
        metric = dict(series).get(METRIC_NAME)
        if metric is None:
            raise ValueError("metric relabelling took the metric name away")
        if self.config.metric_name_validation_scheme == "legacy":
            _check_legacy(metric, series)
        _check_limits(metric, series, self.config)


def _check_legacy(metric: str, series: Labels) -> None:
    if not LEGACY_METRIC_NAME.fullmatch(metric):
        raise ValueError(f'"{metric}" is not a metric name of the legacy scheme')
    for name, _ in series:
        if not LEGACY_LABEL_NAME.fullmatch(name):
            raise ValueError(f'"{name}" is not a label name of the legacy scheme')


def _check_limits(metric: str, series: Labels, config: ScrapeConfig) -> None:
    if 0 < config.label_limit < len(series):
        raise ValueError(f'label_limit exceeded: metric "{metric:.50}" has {len(series)} labels, {config.label_limit} are allowed')
    for kind, limit, position in (
        ("label_name_length_limit", config.label_name_length_limit, 0),
        ("label_value_length_limit", config.label_value_length_limit, 1),
    ):
        for pair in series if limit else ():
            if (length := len(pair[position].encode())) > limit:
                raise ValueError(f'{kind} exceeded: metric "{metric:.50}", label "{pair[0]:.50}" has {length} bytes, {limit} are allowed')
