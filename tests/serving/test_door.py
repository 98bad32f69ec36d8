"""Only this machine, by this server's own port, and its own pages get in."""

from __future__ import annotations

import pytest
from answering import World

from mainspring.serving.door import loopback, refusal

HOST = b"127.0.0.1:8700"


@pytest.mark.parametrize("host", ["127.0.0.1:8700", "localhost:8700", "LocalHost:8700", "[::1]:8700"])
def test_this_server_is_called_by_a_name_of_this_machine_and_its_port(world: World, host: str) -> None:
    assert world.get("/healthz", headers={"host": host}).status_code == 200
    assert world.get("/healthz", headers={"host": host, "origin": "http://localhost:8700"}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "", "127.0.0.1", "localhost", "[::1]", "127.0.0.1:8701", "localhost:08700", "localhost.:8700", "::1:8700",
        "127.0.0.1.:8700", "127.1:8700", "2130706433:8700", "0.0.0.0:8700", "[::ffff:127.0.0.1]:8700",
        "evil.example:8700", "127.0.0.1:8700.evil.example", "localhost:8700@evil.example",
        "evil.example@localhost:8700",
        "localhost:8700, evil.example", " localhost:8700", "localhost:8700/", "localhost:+8700",
    ],
)  # fmt: skip
def test_another_name_or_port_is_refused(world: World, host: str) -> None:
    answer = world.get("/healthz", headers={"host": host})

    assert answer.status_code == 403 and "not served; call 127.0.0.1" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "origin",
    [
        "null", "http://evil.example", "http://127.0.0.1:9999", "http://127.0.0.1", "https://127.0.0.1:8700",
        "127.0.0.1:8700", "http://localhost.:8700", "http://127.0.0.1:8700.evil.example", "http://localhost:8700/",
        "http://http://localhost:8700", "",
    ],
)  # fmt: skip
def test_a_page_of_another_site_is_refused(world: World, origin: str) -> None:
    answer = world.get("/healthz", headers={"host": "localhost:8700", "origin": origin})

    assert answer.status_code == 403 and "other sites" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", HOST), (b"host", b"evil.example")],
        [(b"host", b"evil.example"), (b"host", HOST)],
        [(b"host", HOST), (b"host", HOST)],
        [(b"host", HOST), (b"origin", b"http://" + HOST), (b"origin", b"http://evil.example")],
    ],
)
def test_no_host_several_or_a_second_origin_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    assert refusal(headers, loopback(8700))


def test_on_the_ports_that_names_leave_out_they_do(world: World) -> None:
    assert refusal([(b"host", b"localhost"), (b"origin", b"http://localhost")], loopback(80)) is None
    assert refusal([(b"host", b"localhost")], loopback(443))
