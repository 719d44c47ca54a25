"""The slow, obvious twin of the decoder of version 2: the protobuf classes, walked reference by reference."""

from google.protobuf.message import DecodeError

from promlike.model.labels import METRIC_NAME
from promlike.remote_write.pb.remote_write_v2_pb2 import Request
from promlike.storage.access import Metadata
from tests.remote_write.sink import Row
from tests.remote_write.slow_decode import rows_of, valid

TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")
SUFFIXES = {"histogram": "bucket count sum", "gaugehistogram": "bucket gcount gsum", "summary": "count sum"}


def decode(data: bytes) -> tuple[list[Row], set[Metadata]] | None:
    """All samples of valid series in the body's order, and all metadata of series that have some; None when the body is malformed."""
    try:
        request = Request.FromString(data)
    except DecodeError:
        return None
    symbols = request.symbols
    if symbols and symbols[0]:
        return None
    rows: list[Row] = []
    found: set[Metadata] = set()
    for series in request.timeseries:
        refs, about = series.labels_refs, series.metadata
        if len(refs) % 2 or any(ref >= len(symbols) for ref in refs):
            continue
        if any(ref >= max(len(symbols), 1) for ref in (about.help_ref, about.unit_ref)):
            continue
        pairs = [(symbols[name], symbols[value]) for name, value in zip(refs[::2], refs[1::2], strict=True)]
        labels = valid(pairs)
        rows += rows_of(pairs, series.samples)
        help_, unit = (symbols[ref].decode(errors="replace") if ref else "" for ref in (about.help_ref, about.unit_ref))
        if labels is not None and (series.samples or series.exemplars) and (about.type or help_ or unit):
            kind = TYPES[about.type] if 0 <= about.type < len(TYPES) else "unknown"
            metric = dict(labels)[METRIC_NAME]
            for suffix in SUFFIXES.get(kind, "").split():
                if metric.endswith(f"_{suffix}") and len(metric) > len(suffix) + 1:
                    metric = metric[: -len(suffix) - 1]
                    break
            found.add(Metadata(metric=metric, type=kind, help=help_, unit=unit))
    return rows, found
