"""Administrative calls: deleting as Prometheus does, and copies that open."""

import time
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.api.conftest import NOW_MS, Client
from tests.servers import promlike

PREFIX = "/prom/api/v1"


async def admin(client: Client, call: str, query: str = "", method: str = "POST") -> tuple[int, bytes]:
    status, body, _ = await client.request(method, f"{PREFIX}/admin/tsdb/{call}?{query}")
    return status, body


async def found(client: Client, selector: str) -> list[list[str]]:
    """The values of every series in the last two minutes."""
    path = f"{PREFIX}/query?query={quote(selector)}[2m]&time={NOW_MS / 1000}"
    status, body, _ = await client.request("GET", path)
    assert status == 200
    return [[value for _, value in series["values"]] for series in orjson.loads(body)["data"]["result"]]


async def test_admin_calls_need_their_flag(client: Client) -> None:
    for call in ("delete_series", "clean_tombstones", "snapshot"):
        answer = await client.post(f"admin/tsdb/{call}")
        assert (answer["code"], answer["errorType"], answer["error"]) == (503, "unavailable", "admin APIs disabled")


@pytest.mark.parametrize(
    ("call", "query", "error"),
    [
        ("delete_series", "", "no match[] parameter provided"),
        (
            "delete_series",
            "match[]=up&start=x",
            'invalid parameter "start": Invalid time value for \'start\': cannot parse "x" to a valid timestamp',
        ),
        (
            "delete_series",
            "match[]=up&end=-",
            'invalid parameter "end": Invalid time value for \'end\': cannot parse "-" to a valid timestamp',
        ),
        ("delete_series", "match[]=up{", 'invalid parameter "match[]": 1:4: parse error: unexpected end of input inside braces'),
        ("delete_series", "match[]=requests&match[]=rate(up[5m])", 'invalid parameter "match[]": 1:5: parse error: unexpected "("'),
        (
            "snapshot",
            "skip_head=maybe",
            'invalid parameter "skip_head": unable to parse boolean: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
    ],
)
async def test_wrong_parameters_are_refused_in_the_words_of_prometheus(open_client: Client, call: str, query: str, error: str) -> None:
    status, body = await admin(open_client, call, query)
    assert (status, orjson.loads(body)) == (400, {"status": "error", "errorType": "bad_data", "error": error})
    assert len(await found(open_client, "requests{code='500'}")) == 1


async def test_both_ends_of_the_times_are_included(open_client: Client) -> None:
    before = (await found(open_client, 'requests{code="500"}'))[0]
    start, end = (NOW_MS - 600_000) / 1000, (NOW_MS - 30_000) / 1000
    assert await admin(open_client, "delete_series", f'match[]=requests{{code="500"}}&start={start}&end={end}', "PUT") == (204, b"")
    assert (await found(open_client, 'requests{code="500"}'))[0] == before[-2:]
    assert len(await found(open_client, 'requests{code="200"}')) == 2


async def test_all_selectors_count_and_all_times_without_ends(open_client: Client) -> None:
    assert await admin(open_client, "delete_series", "match[]=requests{code='500'}&match[]={job='web'}&dry_run=1") == (
        200,
        b'{"status":"success","data":{"series":2}}',
    )
    assert (await admin(open_client, "delete_series", "match[]=requests{code='500'}&match[]={job='web'}"))[0] == 204
    assert len(await found(open_client, "requests")) == 1
    status, body, _ = await open_client.request("GET", f"{PREFIX}/label/job/values")
    assert (status, orjson.loads(body)["data"]) == (200, ["api"])
    assert (await admin(open_client, "delete_series", "match[]=requests&start=5&end=2"))[0] == 204
    assert len(await found(open_client, "requests")) == 1
    assert (await admin(open_client, "delete_series", "match[]={}"))[0] == 204
    assert await found(open_client, '{__name__!=""}') == []
    assert await admin(open_client, "clean_tombstones") == (204, b"")


@pytest.mark.parametrize("skip_head", [False, True])
def test_a_snapshot_opens_as_a_store(tmp_path: Path, skip_head: bool) -> None:
    (first := tmp_path / "first").mkdir()
    (second := tmp_path / "second").mkdir()
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name=b"__name__", value=b"kept")
    now_ms = int(time.time() * 1000)
    series.samples.add(timestamp=now_ms, value=7.0)
    with promlike(first, "--web.enable-admin-api") as server:
        assert server.write(request).status == 204
        name = server.data("admin/tsdb/snapshot", **({"skip_head": "true"} if skip_head else {}))["name"]
        series.samples[0].timestamp += 1
        assert server.write(request).status == 204
        server.data("admin/tsdb/snapshot")
    folder = first / "data" / "snapshots" / name
    assert [path.name for path in folder.iterdir()] == ["promlike.duckdb"]
    with promlike(second, f"--storage.url=duckdb:{folder}/promlike.duckdb") as server:
        answer = server.data("query", query="kept[1h]", time=str(now_ms / 1000 + 1))["result"]
        assert [each["values"] for each in answer] == ([] if skip_head else [[[now_ms / 1000, "7"]]])
        series.samples[0].timestamp += 1
        assert server.write(request).status == 204
