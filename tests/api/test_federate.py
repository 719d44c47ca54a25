"""Federation beside a real Prometheus, and a Prometheus that federates promlike."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from promlike.api.federate_text import go_float
from promlike.model.blocks import STALE_NAN
from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.differential.pair import Pair
from tests.servers import Server, prometheus, promlike

CONFIG = 'global: {external_labels: {cluster: "c\\"1", job: never, Zone: z}}\n'
Samples = list[tuple[int, float]]
"""Age in seconds when it is written, and value: one that is to be seen stays young enough for as long as all tests here may take."""

SERIES: list[tuple[dict[str, str], Samples]] = [
    ({"__name__": "up", "job": "api", "instance": "a:1"}, [(60, 0), (2, 1)]),
    ({"__name__": "up", "job": "web", "instance": "b:1"}, [(70, 1)]),
    ({"__name__": "up", "job": "old", "instance": "b:1"}, [(400, 1)]),
    ({"__name__": "up", "job": "gone", "instance": "b:1"}, [(60, 1), (30, STALE_NAN)]),
    ({"__name__": "job:rate:sum", "job": "api"}, [(10, 0.1)]),
    ({"__name__": "alone"}, [(10, 1e6)]),
    ({"__name__": "odd", "A": '<ü>&\\ " \n', "z": "~"}, [(1, float("nan"))]),
    ({"__name__": "odd", "zone": "own", "cluster": "own"}, [(1, float("-inf"))]),
    *[
        ({"__name__": "values", "n": f"{n}"}, [(5, v)])
        for n, v in enumerate((0.0, 1e-5, 123456789.25, 1e20, 1e21, -2.5e-7, 1 / 3, 999999, 1e15))
    ],
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    now_ms = int(time.time()) * 1000
    request = WriteRequest()
    for labels, samples in SERIES:
        series = request.timeseries.add()
        for name, value in sorted(labels.items()):
            series.labels.add(name=name.encode(), value=value.encode())
        for age, number in samples:
            series.samples.add(timestamp=now_ms - age * 1000, value=number)
    with (
        prometheus(tmp_path_factory.mktemp("theirs"), config=CONFIG) as theirs,
        promlike(tmp_path_factory.mktemp("ours"), config=CONFIG) as ours,
    ):
        assert [server.write(request).status for server in (ours, theirs)] == [204, 204]
        yield Pair(ours=ours, theirs=theirs, end_ms=now_ms)


def text(server: Server, *matches: str) -> str:
    return server.request("GET", f"/federate?{urlencode([('match[]', match) for match in matches])}").text


@pytest.mark.parametrize(
    "matches",
    [
        ("up",),
        ('{job="api"}',),
        ('{__name__=~".+"}',),
        ('{__name__=~"job:.*"}', "up", 'up{job="api"}', "alone"),
        ("odd",),
        ("values",),
        ("nothing",),
        (),
        ("{}",),
        ("",),
        ("up{",),
        ("sum(up)",),
        ("up", "up{"),
    ],
)
def test_it_is_what_prometheus_answers(both: Pair, matches: tuple[str, ...]) -> None:
    path = f"/federate?{urlencode([('match[]', match) for match in matches])}"
    ours, theirs = (server.request("GET", path) for server in (both.ours, both.theirs))
    assert (ours.status, ours.text) == (theirs.status, theirs.text)
    assert ours.headers["Content-Type"].startswith(theirs.headers["Content-Type"])


PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
WANTED = [
    *("", "*/*", "text/plain", "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0", "text/html", "x;;=,", PROTOBUF),
    *(
        "application/vnd.google.protobuf",
        f"{PROTOBUF};q=0.5,text/plain;q=0.9",
        f"{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8",
    ),
    *(f"text/plain;q=0.1, {PROTOBUF};q=0.2", PROTOBUF.replace("MetricFamily", "X"), f"{PROTOBUF.upper()};q=1"),
]


@pytest.mark.parametrize("accept", WANTED)
@pytest.mark.parametrize("match", ['{__name__=~".+"}', "nothing", "odd"])
def test_the_format_is_the_one_that_prometheus_chooses(both: Pair, accept: str, match: str) -> None:
    path = f"/federate?{urlencode({'match[]': match})}"
    headers = {"Accept": accept} if accept else {}
    ours, theirs = (server.request("GET", path, headers=headers) for server in (both.ours, both.theirs))
    assert ours.headers["Content-Type"].startswith(theirs.headers["Content-Type"])
    assert (ours.status, ours.body) == (theirs.status, theirs.body)


def messages(body: bytes) -> list[bytes]:
    """The families of a body."""
    found, at = [], 0
    while at < len(body):
        size = shift = 0
        while True:
            byte = body[at]
            size |= (byte & 127) << shift
            shift, at = shift + 7, at + 1
            if byte < 128:
                break
        found.append(body[at : at + size])
        at += size
    return found


def test_ended_and_old_series_are_left_out(both: Pair) -> None:
    assert re.findall('job="(.*?)"', text(both.ours, "up")) == ["api", "web"]


def test_series_may_be_held_to_labels(both: Pair) -> None:
    forced = both.ours.request("GET", f"/federate?{urlencode({'match[]': 'up', 'extra_label': 'job=web'})}").text
    assert re.findall('job="(.*?)"', forced) == ["web"]
    assert both.ours.request("GET", f"/federate?{urlencode({'match[]': '{}', 'extra_label': 'job=web'})}").text == ""


def test_other_methods_and_forms_are_refused_as_there(both: Pair) -> None:
    for method in ("POST", "HEAD", "PUT"):
        assert both.ours.request(method, "/federate").status == both.theirs.request(method, "/federate").status
    for query in ("match[]=up;x", "match[]=%zz"):
        ours, theirs = (server.request("GET", f"/federate?{query}") for server in (both.ours, both.theirs))
        assert (ours.status, ours.text) == (theirs.status, theirs.text)


DOTTED = {"__name__": "http.status", "http.code": "404", "job": "api"}
ACCEPTS = {
    "": ("underscores", 'http_status{http_code="404",job="api",instance="",cluster'),
    "text/plain;version=0.0.4": ("underscores", "http_status{http_code"),
    "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2": (
        "allow-utf-8",
        '{"http.status","http.code"="404",job="api",',
    ),
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=x, text/plain": ("underscores", "http_status{http_code"),
}


@pytest.mark.parametrize("accept", ACCEPTS)
def test_names_outside_the_old_alphabet(tmp_path: Path, accept: str, dotted: Server) -> None:
    scheme, start = ACCEPTS[accept]
    answer = dotted.request("GET", "/federate?match[]=%7Bjob!=''%7D", headers={"Accept": accept} if accept else {})
    assert answer.headers["Content-Type"].endswith(f"; charset=utf-8; escaping={scheme}")
    kind, line = answer.text.splitlines()
    assert line.startswith(start.split(",cluster")[0])
    assert kind == ('# TYPE "http.status" untyped' if scheme == "allow-utf-8" else "# TYPE http_status untyped")


def test_names_outside_the_old_alphabet_in_protobuf(dotted: Server) -> None:
    for accept, name in ((PROTOBUF, b"http_status"), (f"{PROTOBUF};escaping=allow-utf-8", b"http.status")):
        answer = dotted.request("GET", "/federate?match[]=%7Bjob!=''%7D", headers={"Accept": accept})
        assert name in messages(answer.body)[0]
        assert answer.headers["Content-Type"].endswith("escaping=underscores" if b"_" in name else "escaping=allow-utf-8")


@pytest.fixture(scope="module")
def dotted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    request = WriteRequest()
    series = request.timeseries.add()
    for name, value in DOTTED.items():
        series.labels.add(name=name.encode(), value=value.encode())
    series.samples.add(timestamp=int(time.time() * 1000), value=1)
    with promlike(tmp_path_factory.mktemp("dotted")) as server:
        assert server.write(request).status == 204
        yield server


@pytest.mark.parametrize("flags", [(), ("--enable-feature=native-histograms",)], ids=["text", "protobuf"])
def test_a_prometheus_federates_promlike(both: Pair, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """With honor_labels it keeps the labels and times it is given, and no instance where there is none. With native histograms it asks for
    protobuf."""
    config = f"""
scrape_configs:
  - job_name: federate
    scrape_interval: 200ms
    scrape_timeout: 200ms
    honor_labels: true
    metrics_path: /federate
    params: {{"match[]": ["up{{job!='federate'}}", "job:rate:sum", "values"]}}
    static_configs: [{{targets: ["127.0.0.1:{both.ours.port}"]}}]
"""
    with prometheus(tmp_path, *flags, config=config) as global_one:
        until = time.monotonic() + 20
        while not (found := global_one.data("query", query="timestamp({__name__=~'up|job:rate:sum|values', job!='federate'})")["result"]):
            assert time.monotonic() < until
            time.sleep(0.1)
        kept = global_one.data("query", query="{__name__=~'up|job:rate:sum|values', job!='federate'}")["result"]
    ours = {
        line.split(" ")[0]: line.split(" ")[1:] for line in text(both.ours, "up", "job:rate:sum", "values").splitlines() if line[0] != "#"
    }
    assert len(kept) == len(found) == len(ours) == 12
    times = {one["metric"].get("n"): float(one["value"][1]) for one in found}
    assert times["3"] == both.end_ms / 1000 - 5
    rates = [one for one in kept if one["metric"]["__name__"] == "job:rate:sum"]
    assert rates[0]["metric"] == {"__name__": "job:rate:sum", "job": "api", "cluster": 'c"1', "Zone": "z"}
    assert float(rates[0]["value"][1]) == 0.1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "-0"), (1.0, "1"), (1e6, "1e+06"), (123456.5, "123456.5"), (1e-4, "0.0001"), (1e-5, "1e-05"), (1e300, "1e+300")],
)
def test_numbers_are_written_as_go_does(value: float, text: str) -> None:
    assert go_float(value) == text
