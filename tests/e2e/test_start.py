"""Starting: how long it takes, and what is said when it cannot work."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import free_port, promlike, promlike_command, running


def test_start_to_ready_with_compiled_kernels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = []
    for _ in range(2):
        with promlike(tmp_path) as server:
            seconds.append(server.seconds_to_ready)
            log = server.log
        assert server.process.returncode == 0
    with capsys.disabled():
        print(f"\nstart to ready: {min(seconds):.2f} s")
    assert min(seconds) < 15
    assert f"address=127.0.0.1:{server.port}" in log
    assert "store=duckdb:" in log


def failed_start(*command: str) -> str:
    """The log of a server that must refuse to start."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if "level=error" in line]
    assert len(errors) == 1, done.stderr
    return errors[0]


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = failed_start(*promlike_command(tmp_path, port))
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line


def test_a_data_folder_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert "cannot use the data folder" in failed_start(*promlike_command(tmp_path, free_port()))


def test_a_bad_configuration_is_one_clear_line(tmp_path: Path) -> None:
    line = failed_start(*promlike_command(tmp_path, free_port(), config="global:\n  scrape_intervall: 5s\n"))
    assert "promlike.yml:2" in line
    assert "scrape_interval" in line


def test_a_missing_configuration_file_that_was_asked_for_is_one_clear_line(tmp_path: Path) -> None:
    command = [*promlike_command(tmp_path, free_port()), "--log.format=logfmt"]
    command[4] = f"--config.file={tmp_path}/none.yml"
    assert "none.yml: cannot be read" in failed_start(*command)


def test_stores_that_are_not_there_are_refused_by_name(tmp_path: Path) -> None:
    line = failed_start(*promlike_command(tmp_path, free_port(), "--storage.url=mysql://localhost/x"))
    assert "mysql" in line


def test_a_wrong_flag_names_the_nearest_known_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "promlike", "--web.listen-adress=:1"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip() == "promlike: unknown flag --web.listen-adress; the nearest known flag is --web.listen-address"


def test_sighup_reloads_and_keeps_the_old_configuration_when_the_new_one_is_invalid(tmp_path: Path) -> None:
    with promlike(tmp_path, config="global:\n  scrape_interval: 30s\n") as server:

        def subquery_steps() -> str:
            count: str = server.data("query", query="count_over_time(vector(1)[2m:])", time="600.5")["result"][0]["value"][1]
            return count

        def interval() -> str:
            yaml: str = server.get("/api/v1/status/config").json()["data"]["yaml"]
            return next(line.split()[1] for line in yaml.splitlines() if "scrape_interval" in line)

        def reload(config: str) -> None:
            (tmp_path / "promlike.yml").write_text(config)
            os.kill(server.process.pid, signal.SIGHUP)
            time.sleep(0.5)

        assert interval() == "30s"
        assert subquery_steps() == "2"
        reload("global:\n  scrape_interval: 45s\n  evaluation_interval: 20s\n")
        assert interval() == "45s"
        assert subquery_steps() == "6"
        reload("global:\n  scrape_interval: never\n")
        assert interval() == "45s"
        assert server.get("/api/v1/status/runtimeinfo").json()["data"]["reloadConfigSuccess"] is False
        assert server.get("/-/ready").status == 200


def test_quit_and_reload_by_http_need_their_flag(tmp_path: Path) -> None:
    with promlike(tmp_path) as server:
        assert server.post("/-/quit").status == 403
        assert server.post("/-/reload").status == 403
    with promlike(tmp_path, "--web.enable-lifecycle") as server:
        assert server.post("/-/reload").status == 200
        assert server.post("/-/quit").status == 200
        assert server.process.wait(20) == 0


def test_everything_stands_under_the_route_prefix(tmp_path: Path) -> None:
    command = promlike_command(tmp_path, port := free_port(), "--web.external-url=http://example.org/metrics-of-all/")
    with running("promlike", command, port=port, folder=tmp_path, ready="/metrics-of-all/-/ready") as server:
        assert server.get("/metrics-of-all/api/v1/query", query="1+1").json()["data"]["result"][1] == "2"
        assert server.get("/api/v1/query", query="1+1").status == 404
        assert server.get("/").headers["Location"] == "/metrics-of-all/"


def test_a_cache_that_is_no_redis_is_one_clear_line(tmp_path: Path) -> None:
    line = failed_start(*promlike_command(tmp_path, free_port(), "--cache.redis-url=http://user:sesame@host"))
    assert "--cache.redis-url" in line
    assert "sesame" not in line


def test_a_cache_that_is_away_hinders_nothing_and_its_password_is_not_shown(tmp_path: Path) -> None:
    with promlike(tmp_path, f"--cache.redis-url=redis://:sesame@127.0.0.1:{free_port()}/0") as server:
        assert "promlike_cache_up" in server.get("/metrics").text
        assert server.get("/api/v1/status/flags").json()["data"]["cache.redis-url"].startswith("redis://:***@")
        assert server.data("query", query="1")["resultType"] == "scalar"
        assert "sesame" not in server.log
