"""The control plane's door and its answers: who gets in, what is refused, and always in JSON."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from mainspring.app import server
from mainspring.core.errors import Conflict, NotInStore
from mainspring.serving.door import loopback
from mainspring.store.home import Home

SECRET = "a-token"
HEADERS = {"Authorization": f"Bearer {SECRET}", "Host": "127.0.0.1:8701"}


class Works:
    """A controller that writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def status(self) -> dict[str, Any]:
        return {"loops": {"late": {}}}

    def advance(self, now: datetime) -> dict[str, Any]:
        if now < datetime(2024, 1, 1, tzinfo=UTC):
            raise Conflict("the clock stands at 2024-01-01 and only moves forward")
        self.asked.append(("advance", now))
        return {"now": now.isoformat(), "decisions": {}}

    def decisions(self, loop: str) -> list[dict[str, Any]]:
        self._known(loop)
        return [{"decision": "promote"}]

    def models(self, loop: str) -> list[dict[str, Any]]:
        self._known(loop)
        return [{"number": 1}]

    def promote(self, loop: str, version: int | None, reason: str) -> dict[str, Any]:
        return self._act("promote", loop, version, reason)

    def rollback(self, loop: str, reason: str) -> dict[str, Any]:
        return self._act("rollback", loop, reason)

    def decide(self, verb: str, loop: str, version: int | None, reason: str) -> dict[str, Any]:
        return self._act(verb, loop, version, reason)

    def audit(self) -> list[dict[str, Any]]:
        return [{"act": "promote"}]

    def turn(self, loop: str, reason: str) -> dict[str, Any]:
        return self._act("turn", loop, reason)

    def _act(self, *asked: Any) -> dict[str, Any]:
        self._known(asked[1])
        self.asked.append(asked)
        return {"reason": "done"}

    def _known(self, loop: str) -> None:
        if loop != "late":
            raise NotInStore(f"no loop {loop!r} here; there are late")


class Api:
    """Calls the API in process."""

    def __init__(self) -> None:
        self.works = Works()
        self.app = server.api(self.works, SECRET, loopback(8701))

    def call(self, method: str, path: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        async def called() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8701") as client:
                return await client.request(method, path, headers=HEADERS if headers is None else headers, **body)

        return asyncio.run(called())


@pytest.fixture
def api() -> Api:
    return Api()


def error_of(answer: httpx.Response) -> str:
    """The message of a refusal, which is always JSON of one shape and one line."""
    assert set(answer.json()) == {"error"} and set(answer.json()["error"]) == {"code", "message"}, answer.text
    message = str(answer.json()["error"]["message"])
    assert message and "\n" not in message and "Traceback" not in message
    return message


# ------------------------------------------------------------------------------------------------------------ the door


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic a-token", f"Bearer {SECRET}x"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/status"), ("POST", "/api/clock"), ("GET", "/nowhere")])
def test_without_the_token_nobody_learns_anything(api: Api, given: str | None, method: str, path: str) -> None:
    headers = {"Host": "127.0.0.1:8701"} if given is None else {**HEADERS, "Authorization": given}

    answer = api.call(method, path, headers)

    assert answer.status_code == 401 and "run/token" in error_of(answer)
    assert api.works.asked == []


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8701", 200),
        ("localhost:8701", 200),
        ("localhost", 403),
        ("localhost:8700", 403),
        ("[::1]:8701", 200),
        ("[::1]", 403),
        ("example.org", 403),
        ("127.0.0.1.example.org:8701", 403),
        ("localhost:8701@example.org", 403),
        ("localhost:x", 403),
        ("", 403),
    ],
)
def test_only_the_names_of_this_machine_are_served(api: Api, host: str, status: int) -> None:
    answer = api.call("GET", "/api/status", {**HEADERS, "Host": host})

    assert answer.status_code == status
    if status == 403:
        assert "not served" in error_of(answer)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8701", 200),
        ("http://localhost:8701", 200),
        ("127.0.0.1:8701", 403),
        ("https://127.0.0.1:8701", 403),
        ("http://127.0.0.1:3000", 403),
        ("https://example.org", 403),
        ("null", 403),
        ("http://127.0.0.1:8701.example.org", 403),
    ],
)
def test_a_page_of_another_site_gets_nothing_even_with_the_token(api: Api, origin: str, status: int) -> None:
    assert api.call("GET", "/api/status", {**HEADERS, "Origin": origin}).status_code == status


def test_the_token_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")

    first, second = server.token(home), server.token(home)

    path = home.path / "run" / "token"
    assert first == second == path.read_text() and len(first) > 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_empty_token_of_a_killed_start_lets_nobody_in(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")
    (home.folder("run") / "token").write_text("")

    assert len(server.token(home)) > 40


# ------------------------------------------------------------------------------------------------------------- answers


def test_what_is_asked_reaches_the_works(api: Api) -> None:
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/api/clock", {"now": "2024-02-01T00:00:00+01:00"}),
        ("POST", "/api/loops/late/promote", {"version": 2, "reason": "better at night"}),
        ("POST", "/api/loops/late/promote", None),
        ("POST", "/api/loops/late/rollback", {}),
        ("POST", "/api/loops/late/run", {"reason": "new labels"}),
        ("POST", "/api/loops/late/hold", {"reason": "a holiday"}),
        ("POST", "/api/loops/late/approve", {"version": 3}),
        ("POST", "/api/loops/late/reject", {"version": 3, "reason": "biased"}),
    ]

    answers = [api.call(method, path, json=body) for method, path, body in calls[:2]]
    answers += [api.call(method, path, **({} if body is None else {"json": body})) for method, path, body in calls[2:]]

    assert [answer.status_code for answer in answers] == [200] * 8
    assert api.works.asked == [
        ("advance", datetime.fromisoformat("2024-02-01T00:00:00+01:00")),
        ("promote", "late", 2, "better at night"),
        ("promote", "late", None, "by hand"),
        ("rollback", "late", "by hand"),
        ("turn", "late", "new labels"),
        ("hold", "late", None, "a holiday"),
        ("approve", "late", 3, "by hand"),
        ("reject", "late", 3, "biased"),
    ]
    assert api.call("GET", "/api/loops/late/decisions").json() == [{"decision": "promote"}]
    assert api.call("GET", "/api/loops/late/models").json() == [{"number": 1}]
    assert api.call("GET", "/api/audit").json() == [{"act": "promote"}]


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/", 404, "no such path: /"),
        ("GET", "/api", 404, "no such path: /api"),
        ("POST", "/api/loops/late/explode", 404, "no such path"),
        ("GET", "/api/loops/../../etc/passwd", 404, "no such path"),
        ("GET", "/api/loops/nobody/models", 404, "no loop 'nobody' here; there are late"),
        ("POST", "/api/loops/nobody/promote", 404, "no loop 'nobody'"),
        ("GET", "/api/clock", 405, "GET is not taken here; use POST"),
        ("DELETE", "/api/status", 405, "DELETE is not taken here; use "),
        ("PUT", "/api/loops/late/run", 405, "PUT is not taken here; use POST"),
    ],
)
def test_wrong_paths_and_methods_are_refused_in_the_same_shape(
    api: Api, method: str, path: str, status: int, said: str
) -> None:
    answer = api.call(method, path)

    assert answer.status_code == status and said in error_of(answer)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/api/clock", b"", 400, "now=None is not an ISO 8601 time"),
        ("/api/clock", b"{", 400, "the body is not valid JSON"),
        ("/api/clock", b"[1]", 400, "the body must be an object with now"),
        ("/api/clock", b"\xff\xfe", 400, "the body is not valid JSON"),
        ("/api/clock", b"[" * 5000, 400, "the body is not valid JSON"),
        ("/api/clock", b'{"now": NaN}', 400, "the body is not valid JSON"),
        ("/api/clock", b'{"now": 1, "now": 2}', 400, "key 'now' stands twice"),
        ("/api/clock", b'{"now": 17}', 400, "now=17 is not an ISO 8601 time"),
        ("/api/clock", b'{"now": "tomorrow"}', 400, "now='tomorrow' is not an ISO 8601 time"),
        ("/api/clock", b'{"now": "2024-02-01T00:00:00"}', 400, "has no time zone; add +00:00"),
        ("/api/clock", b'{"now": "9999-12-31T23:59:59+00:00"}', 400, "give a year"),
        ("/api/clock", b'{"now": "0001-01-01T00:00:00+10:00"}', 400, "give a year"),
        ("/api/clock", b'{"now": "2023-01-01T00:00:00+00:00"}', 409, "only moves forward"),
        ("/api/clock", b'{"then": 1}', 400, "the body must be an object with now"),
        ("/api/clock", b'{"now": "' + b"x" * 70_000 + b'"}', 413, "at most 65,536 are taken"),
        ("/api/loops/late/promote", b'{"version": "2"}', 400, "version '2' must be a whole number"),
        ("/api/loops/late/promote", b'{"version": true}', 400, "version True must be a whole number"),
        ("/api/loops/late/promote", b'{"reason": {"a": 1}}', 400, "reason {'a': 1} must be text"),
        ("/api/loops/late/approve", b'{"version": 1.5}', 400, "version 1.5 must be a whole number"),
        ("/api/loops/late/reject", b'{"why": 1}', 400, "the body must be an object with reason, version"),
        ("/api/loops/late/rollback", b'{"reason": " "}', 400, "reason ' ' must be text"),
        ("/api/loops/late/run", b'{"reason": "\\ud800"}', 400, "the body is not valid JSON"),
    ],
)
def test_a_bad_body_is_refused_with_what_to_do(api: Api, path: str, body: bytes, status: int, said: str) -> None:
    answer = api.call("POST", path, content=body)

    assert answer.status_code == status and said in error_of(answer)
    assert api.works.asked == []


def test_a_body_that_grows_beyond_the_limit_is_cut_off(api: Api) -> None:
    async def drip() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 5_000

    assert api.call("POST", "/api/clock", content=drip()).status_code == 413


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), sqlite3.OperationalError("disk is full")])
def test_a_home_that_can_not_be_used_is_told_without_a_stack_trace(api: Api, fault: Exception) -> None:
    def full(*_: Any) -> dict[str, Any]:
        raise fault

    api.works.turn = full  # type: ignore[method-assign]

    answer = api.call("POST", "/api/loops/late/run")
    assert answer.status_code == 503 and "can't be read or written now" in error_of(answer)


@pytest.mark.parametrize("many", [400, pytest.param(20_000, marks=(pytest.mark.soak, pytest.mark.timeout(1800)))])
def test_no_mutated_body_is_a_fault_of_the_server(api: Api, many: int) -> None:
    source = random.Random(24)
    said = [b'{"now": "2024-02-01T00:00:00+00:00"}', b'{"version": 2, "reason": "by hand"}']
    pieces = [b"null", b"NaN", b"1e999", b'"\\ud800"', b"\xff", b"\x00", b"{", b"]", b'"', b"9" * 60, b"[" * 2_000]

    for _ in range(many):
        content = bytearray(source.choice(said))
        for _ in range(source.randint(1, 3)):
            place = source.randrange(len(content))
            content[place : place + source.randrange(3)] = source.choice(pieces)
        path = source.choice(
            ["/api/clock", "/api/loops/late/promote", "/api/loops/late/rollback", "/api/loops/late/run"]
        )
        answer = api.call("POST", f"/api/{path}", content=bytes(content))

        assert answer.status_code < 500, (path, content, answer.text)
        if answer.status_code >= 400:
            error_of(answer)
