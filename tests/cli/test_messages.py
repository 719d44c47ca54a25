"""Which protobuf messages of remote write are taken, as the command line says it."""

import pytest

from promlike.cli.flags import FlagError, parse_flags
from promlike.cli.serve import server_options

FLAG = "--web.remote-write-receiver.accepted-protobuf-messages"
V1, V2 = "prometheus.WriteRequest", "io.prometheus.write.v2.Request"


@pytest.mark.parametrize(
    ("arguments", "messages"), [([], (V1, V2)), ([f"{FLAG}={V2}"], (V2,)), ([f"{FLAG}={V2}", f"{FLAG}={V1}"], (V2, V1))]
)
def test_accepted_messages(arguments: list[str], messages: tuple[str, ...]) -> None:
    assert tuple(server_options(parse_flags(arguments)).remote_write_messages) == messages


def test_an_unknown_message_is_refused() -> None:
    with pytest.raises(FlagError, match=r"'nothing' is not one of prometheus\.WriteRequest, io\.prometheus\.write\.v2\.Request"):
        server_options(parse_flags([f"{FLAG}=nothing"]))
