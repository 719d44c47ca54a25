"""The results as tables."""

import math
from dataclasses import dataclass, field

from bench.answers import Answer, difference
from bench.ingest import IngestResult
from bench.queries import QUERIES
from bench.servers import Usage

MIB = 1 << 20


@dataclass(slots=True, kw_only=True)
class Measured:
    """What was measured of one server; parts that were not are None or empty."""

    name: str
    ready_seconds: float = 0.0
    ingest: IngestResult | None = None
    loaded: Usage | None = None
    ended: Usage | None = None
    disk_bytes: int = 0
    disk_bytes_stopped: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)

    @property
    def mean_seconds(self) -> float:
        """Geometric mean over all queries, nan unless each was answered."""
        if not self.answers or any(answer.error for answer in self.answers.values()):
            return math.nan
        return math.exp(sum(math.log(answer.seconds) for answer in self.answers.values()) / len(self.answers))


def ingest_table(results: list[Measured]) -> str:
    rows = [["ingest", *(result.name for result in results)]]
    loads = [result.ingest for result in results]
    base = loads[0]
    rows.append(["samples/s", *(f"{load.samples_per_second / 1e6:.3f} M" if load else "-" for load in loads)])
    rows.append(
        [
            f"ratio to {results[0].name}",
            *(f"{load.samples_per_second / base.samples_per_second:.2f}" if load and base else "-" for load in loads),
        ]
    )
    rows.append(["wall, s", *(f"{load.seconds:.1f}" if load else "-" for load in loads)])
    rows.append(["slowest answer, ms", *(f"{load.slowest_answer_seconds * 1e3:.0f}" if load else "-" for load in loads)])
    rows.append(["server CPU, s", *(f"{load.cpu_seconds:.1f}" if load else "-" for load in loads)])
    rows.append(["server CPU, µs/sample", *(f"{load.cpu_seconds / load.samples * 1e6:.2f}" if load else "-" for load in loads)])
    rows.append(["client CPU, s", *(f"{load.client_cpu_seconds:.1f}" if load else "-" for load in loads)])
    rows.append(["RSS after load, MiB", *(f"{result.loaded.rss_bytes / MIB:.0f}" if result.loaded else "-" for result in results)])
    rows.append(["RSS at most, MiB", *(f"{result.ended.peak_rss_bytes / MIB:.0f}" if result.ended else "-" for result in results)])
    rows.append(["disk, B/sample, loaded", *(_per_sample(result, result.disk_bytes) for result in results)])
    rows.append(["disk, B/sample, stopped", *(_per_sample(result, result.disk_bytes_stopped) for result in results)])
    rows.append(["ready after, s", *(f"{result.ready_seconds:.1f}" for result in results)])
    return table(rows)


def _per_sample(result: Measured, size: int) -> str:
    return f"{size / result.ingest.samples:.2f}" if result.ingest and size else "-"


def query_table(results: list[Measured], reference: Measured | None) -> str:
    """Medians in ms; ratios are times of the first server. The last columns compare answers with those of the reference."""
    compared = [result for result in results if reference is not None and result is not reference]
    heads = ["query", *(f"{result.name}, ms" for result in results), *(f"{result.name} ×" for result in results[1:])]
    rows = [[*heads, "series", *(f"{result.name} = {reference.name if reference else ''}" for result in compared)]]
    for query in QUERIES:
        answers = [result.answers.get(query.name) for result in results]
        row = [query.name, *(f"{answer.seconds * 1e3:.1f}" if answer and not answer.error else "error" for answer in answers)]
        row += [f"{answer.seconds / answers[0].seconds:.2f}" if answer and answers[0] else "-" for answer in answers[1:]]
        counted = (reference or results[0]).answers.get(query.name)
        row.append(str(counted.count) if counted else "-")
        rows.append(row + [verdict(result, reference, query.name) for result in compared])
    means = [result.mean_seconds for result in results]
    rows.append(
        [
            "geometric mean",
            *(f"{mean * 1e3:.1f}" for mean in means),
            *(f"{mean / means[0]:.2f}" for mean in means[1:]),
            "",
            *(_count_same(result, reference) for result in compared),
        ]
    )
    return table(rows)


def verdict(result: Measured, reference: Measured | None, query: str) -> str:
    if reference is None or query not in result.answers or query not in reference.answers:
        return "-"
    return difference(result.answers[query], reference.answers[query])[:90] or "same"


def _count_same(result: Measured, reference: Measured | None) -> str:
    verdicts = [verdict(result, reference, query.name) for query in QUERIES]
    return f"{verdicts.count('same')} of {len(verdicts)}"


def table(rows: list[list[str]]) -> str:
    """A Markdown table with columns of even width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
