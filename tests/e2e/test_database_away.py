"""A database that stops, hangs or is not there yet: ingestion and recent samples go on, everything is written once it is back."""

import asyncio
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import Server, free_port, promlike, promlike_command
from tests.storage.postgres import Postgres, postgresql

HOUR_MS = 3_600_000
SOON_S = 10.0
"""What must not wait for a database has answered by then."""


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgresql() as running:
        yield running


def write(server: Server, name: str, ts_ms: int, value: float) -> int:
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name=b"__name__", value=name.encode())
    series.samples.add(timestamp=ts_ms, value=value)
    return server.write(request).status


def values(server: Server, name: str, now_ms: int) -> tuple[list[str], list[str]]:
    """The values of the last ten hours, and the warnings of the answer, which must not take long."""
    started = time.monotonic()
    answer = server.get("/api/v1/query", query=f"{name}[10h]", time=str(now_ms / 1000))
    assert time.monotonic() < started + SOON_S
    assert answer.status == 200, answer.text
    found = answer.json()
    return [value for series in found["data"]["result"] for _, value in series["values"]], found.get("warnings", [])


def rows(database: Postgres, schema: str = "promlike") -> list[tuple[str, float]]:
    async def fetch() -> list[tuple[str, float]]:
        connection = await asyncpg.connect(database.url("postgres"))
        found = await connection.fetch(f"SELECT metric, value FROM {schema}.labelled_samples ORDER BY metric, time")
        await connection.close()
        return [tuple(row) for row in found]

    return asyncio.run(fetch())


def let_write(database: Postgres, allowed: bool) -> None:
    """Whether transactions that begin from now on may write, as in a database that is promoted or made a standby."""

    async def set_default() -> None:
        connection = await asyncpg.connect(database.url("postgres"), server_settings={"default_transaction_read_only": "off"})
        await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'off' if allowed else 'on'}")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()

    asyncio.run(set_default())


def wait_until_flushed(server: Server) -> None:
    give_up_at = time.monotonic() + 90
    while b"\npromlike_storage_unflushed_samples 0.0\n" not in server.get("/metrics").body:
        assert time.monotonic() < give_up_at, server.log
        time.sleep(0.1)


def test_a_database_that_hangs_and_stops_costs_old_samples_only_while_it_does(tmp_path: Path, database: Postgres) -> None:
    flags = [f"--storage.url={database.url('postgres')}", "--storage.flush-interval=1s"]
    now_ms = int(time.time() * 1000)
    with promlike(tmp_path, *flags) as server:
        for hour in range(5):
            assert write(server, "old", now_ms - (5 - hour) * HOUR_MS, hour) == 204
        wait_until_flushed(server)
        assert server.stop() == 0
    with promlike(tmp_path, *flags) as server:  # whose memory is empty
        assert values(server, "old", now_ms) == (["0", "1", "2", "3", "4"], [])
        database.send(signal.SIGSTOP)
        try:
            for _ in range(3):
                assert write(server, "old", now_ms, 5) == 204
                assert write(server, "recent", now_ms, 1) == 204
                found, warnings = values(server, "old", now_ms)
                assert found == ["5"]
                assert len(warnings) == 1
                assert warnings[0].startswith("the store is away, samples from ")
                assert values(server, "recent", now_ms) == (["1"], [])
            assert server.data("label/__name__/values") == ["old", "recent"]
        finally:
            database.send(signal.SIGCONT)
        time.sleep(1.5)
        assert values(server, "old", now_ms) == (["0", "1", "2", "3", "4", "5"], [])
        database.stop()
        try:
            assert write(server, "old", now_ms - HOUR_MS // 2, 4.5) == 204
            assert write(server, "recent", now_ms + 1, 2) == 204
            found, warnings = values(server, "old", now_ms)
            assert found == ["4.5", "5"]
            assert "cannot be reached" in warnings[0]
            assert server.post("/api/v1/query_range", query="old", start=str(now_ms / 1000), end=str(now_ms / 1000), step="1").status == 200
            time.sleep(2)
        finally:
            database.start()
        wait_until_flushed(server)
        assert values(server, "old", now_ms) == (["0", "1", "2", "3", "4", "4.5", "5"], [])
        assert server.stop() == 0
    assert rows(database) == [("old", value) for value in (0, 1, 2, 3, 4, 4.5, 5)] + [("recent", 1), ("recent", 2)]


def test_a_database_that_is_read_only_for_a_while_is_waited_for(tmp_path: Path, database: Postgres) -> None:
    port, now_ms = free_port(), int(time.time() * 1000)
    flags = [f"--storage.url={database.url('postgres')}", "--storage.flush-interval=1s", "--storage.wal-max-size=100KB"]
    flags.append("--storage.schema=read_only")
    taken = 0
    with promlike(tmp_path, *flags, port=port) as server:
        let_write(database, False)
        try:
            while (status := write(server, "up", now_ms - 100_000 + taken, taken)) == 204:
                taken += 1
                assert taken < 10_000, server.log
            assert status == 503
            assert server.get("/-/ready").status == 200
            assert len(values(server, "up", now_ms)[0]) == taken
            assert "25006" in server.log
            server.process.kill()
            server.process.wait(30)
            with subprocess.Popen(promlike_command(tmp_path, port, *flags), stderr=subprocess.PIPE, text=True) as waiting:
                assert waiting.stderr is not None
                while "the start waits for it" not in (line := waiting.stderr.readline()):
                    assert line, "the server ended"
                assert "25006" in line
                let_write(database, True)
                while "msg=ready" not in (line := waiting.stderr.readline()):
                    assert line, "the server ended"
                waiting.terminate()
                assert waiting.wait(30) == 0
        finally:
            let_write(database, True)
    assert taken > 100
    assert rows(database, "read_only") == [("up", float(value)) for value in range(taken)]


def test_the_start_waits_for_the_database(tmp_path: Path, database: Postgres) -> None:
    port = free_port()
    command = promlike_command(tmp_path, port, f"--storage.url={database.url('postgres')}")
    database.stop()
    try:
        stopped = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert stopped.stderr is not None
        while "the start waits for it" not in (line := stopped.stderr.readline()):
            assert line, "the server ended"
        stopped.terminate()
        assert stopped.wait(SOON_S) == 0
        stopped.stderr.close()
        patient = subprocess.run([*command, "--storage.start-timeout=1s"], capture_output=True, text=True, timeout=60, check=False)
        assert patient.returncode == 1
        assert "cannot be reached" in patient.stderr.splitlines()[-1]
        assert "Traceback" not in patient.stderr
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
            assert waiting.stderr is not None
            while "the start waits for it" not in (line := waiting.stderr.readline()):
                assert line, "the server ended"
            database.start()
            while "msg=ready" not in (line := waiting.stderr.readline()):
                assert line, "the server ended"
            waiting.terminate()
            assert waiting.wait(30) == 0
    finally:
        if not (database.folder / "data" / "postmaster.pid").exists():
            database.start()


def test_a_start_waits_for_another_daemon_that_converts_the_database(tmp_path: Path, database: Postgres) -> None:
    schema = "converted"
    flags = (f"--storage.url={database.url('postgres')}", f"--storage.schema={schema}", "--storage.lock-timeout=200ms")
    command = promlike_command(tmp_path, port := free_port(), *flags)
    with another_converts(database, schema) as converting:
        for signalled in (True, False):
            log_file = tmp_path / f"waiting-{signalled}.log"
            with log_file.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
                server = Server(name="promlike", port=port, process=process, log_file=log_file)
                wait_for_line(server, "the start waits for another daemon, which brings the schema of the database up to date")
                time.sleep(1.0)  # much longer than a lock is waited for
                assert process.poll() is None
                assert server.get("/-/healthy").status == 200
                assert server.get("/-/ready").status == 503
                assert server.get("/api/v1/query", query="1").status == 503
                if not signalled:
                    converting.set()
                    wait_for_line(server, "msg=ready")
                    assert server.get("/-/ready").status == 200
                assert server.stop() == 0


@contextmanager
def another_converts(database: Postgres, schema: str) -> Iterator[threading.Event]:
    """Another daemon holds the lock of a schema until the event is set, at the end at the latest."""
    held, done = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(database.url("postgres"))
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"promlike schema {schema}")
            held.set()
            await asyncio.to_thread(done.wait)
        await connection.close()

    holder = threading.Thread(target=lambda: asyncio.run(hold()))
    holder.start()
    try:
        assert held.wait(SOON_S)
        yield done
    finally:
        done.set()
        holder.join()


def wait_for_line(server: Server, text: str) -> None:
    give_up_at = time.monotonic() + 30
    while text not in server.log:
        assert time.monotonic() < give_up_at, server.log
        time.sleep(0.05)
