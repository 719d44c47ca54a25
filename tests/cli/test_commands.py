"""The commands beside `serve`, and how they answer a wrong command line."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from promlike import __version__
from promlike.cli.main import main
from promlike.process import StartError, bound_sockets, make_folder, shown_address
from tests.servers import Server, promlike

EVERYWHERE = "[::]" if socket.has_dualstack_ipv6() else "0.0.0.0"


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"promlike, version {__version__}\n"
    for words in (["--help"], ["-h"], ["help"], ["serve", "--help"]):
        assert main(words) == 0
        assert "--storage.tsdb.path=data/" in capsys.readouterr().out


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["server"]) == 2
    assert "unknown command 'server'" in capsys.readouterr().err


def test_check_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (good := tmp_path / "good.yml").write_text("scrape_configs: [{job_name: a}]\n")
    (bad := tmp_path / "bad.yml").write_text("global: {scrape_intervall: 1s}\n")
    assert main(["check", "config", str(good)]) == 0
    assert "1 scrape configurations" in capsys.readouterr().out
    assert main(["check", "config", str(good), str(bad)]) == 1
    assert "scrape_intervall" in capsys.readouterr().err
    assert main(["check", "rules", str(good)]) == 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with promlike(tmp_path_factory.mktemp("server")) as running:
        yield running


def test_queries_are_printed_a_sample_a_line(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "instant", server.url, 'label_replace(vector(2), "a", "b", "", "")', "--time=7"]) == 0
    assert capsys.readouterr().out == '{a="b"} => 2 @[7]\n'
    assert main(["query", "instant", server.url, "1+1", "--time=7"]) == 0
    assert capsys.readouterr().out == "2 @7\n"
    assert main(["query", "range", server.url, "vector(1)", "--start=0", "--end=20", "--step=10"]) == 0
    assert capsys.readouterr().out == "{} => 1 @[0]\n{} => 1 @[10]\n{} => 1 @[20]\n"


def test_queries_that_fail_say_why(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "instant", server.url, "sum("]) == 1
    assert capsys.readouterr().err.endswith("parse error: unclosed left parenthesis\n")
    assert main(["query", "instant", f"{server.url}/elsewhere", "1"]) == 1
    assert capsys.readouterr().err == "promlike: 404 404 page not found\n"
    assert main(["query", "instant", "http://127.0.0.1:1", "1"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("promlike: cannot ask http://127.0.0.1:1/api/v1/query: ")
    assert said.endswith("Connection refused\n")
    assert main(["query", "instant", "file:///etc", "1"]) == 2
    assert main(["query", "instant", server.url]) == 2
    assert main(["query", "instant", server.url, "1", "--tyme=1"]) == 2
    assert "the nearest known flag is --time" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["9090", "localhost", "host:port", "127.0.0.1:99999", "no.such.host.invalid:1"])
def test_addresses_that_cannot_be_listened_on(address: str) -> None:
    with pytest.raises(StartError, match="cannot listen on"), bound_sockets([address]):
        pass


def test_several_addresses() -> None:
    with bound_sockets(["127.0.0.1:0", "localhost:0", ":0"]) as sockets:
        assert [shown_address(bound).rpartition(":")[0] for bound in sockets] == ["127.0.0.1", "127.0.0.1", EVERYWHERE]


@pytest.mark.parametrize("address", [":0", "0.0.0.0:0", "[::]:0"])
def test_everywhere_means_ipv4_and_ipv6(address: str) -> None:
    with bound_sockets([address]) as (bound,):
        bound.listen()
        assert shown_address(bound).rpartition(":")[0] == EVERYWHERE
        for local in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            with socket.create_connection((local, bound.getsockname()[1]), timeout=10):
                pass


def test_everywhere_is_ipv4_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with bound_sockets([":0", "0.0.0.0:0"]) as sockets:
        assert [shown_address(bound).rpartition(":")[0] for bound in sockets] == ["0.0.0.0", "0.0.0.0"]


def test_a_port_that_is_taken_for_ipv4_is_not_free_everywhere() -> None:
    with bound_sockets(["127.0.0.1:0"]) as (taken,):
        taken.listen()
        with pytest.raises(StartError, match="Address already in use"), bound_sockets([f":{taken.getsockname()[1]}"]):
            pass


def test_a_data_folder_is_created_with_its_parents(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
