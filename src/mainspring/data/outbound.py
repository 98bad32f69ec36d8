"""The one client for addresses that a user gives: whom it asks, who gets credentials, time, size, calls."""

from __future__ import annotations

import base64
import ipaddress
import json
import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urljoin

import httpcore
import httpx

from mainspring.core.errors import SourceError, SourceNotFound
from mainspring.core.quantities import number_of_bytes, seconds
from mainspring.core.sources import Http
from mainspring.core.wording import duration
from mainspring.store.secrets import secret

ATTEMPTS = 6
CALLS_PER_ANSWER = 3
"""So many calls, on the whole, may an answer cost: a failing server isn't pressed."""
_REDIRECTS = 5
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_FAULTS = (httpx.HTTPError, httpx.StreamError, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered, its body aside."""

    headers: httpx.Headers
    url: str


class _Passing(Exception):
    """A failure that another try may not meet; *wait*: what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Outbound:
    """Asks one server. Credentials go to its origin only; a redirect to another one isn't followed with them."""

    def __init__(
        self,
        url: str,
        access: Http,
        *,
        sleep: Callable[[float], None] = time.sleep,
        chance: random.Random | None = None,
    ) -> None:
        self._origin, self._access = _origin(url), access
        self._sleep, self._chance = sleep, chance or random.Random()
        self._max_time, self._max_size = seconds(access.max_time), number_of_bytes(access.max_size)
        transport = _Transport(access.private)
        self._client = httpx.Client(transport=transport, trust_env=False, timeout=seconds(access.timeout))
        self._token: str | None = None
        self._calls = self._answered = 0

    def __enter__(self) -> Outbound:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, url: str, read: Callable[[bytes, Answer], T], *, parameters: Iterable[tuple[str, str]] = ()) -> T:
        """What *read* makes of the answer's body; an answer that it refuses may be one cut short: it is asked again."""

        def once() -> T:
            body = bytearray()
            answer = self._get("GET", url, parameters, body.extend, "application/json")
            try:
                return read(bytes(body), answer)
            except SourceError as error:
                raise _Passing(str(error)) from None

        return self._tried(once, url)

    def download(self, url: str, file: BinaryIO) -> Answer:
        """The answer's body, written to *file*."""

        def once() -> Answer:
            file.seek(0)
            file.truncate()
            answer = self._get("GET", url, (), file.write, "*/*")
            if "content-length" not in answer.headers and answer.headers.get("transfer-encoding") != "chunked":
                raise SourceError(f"{shown(url)!r} doesn't say how long it is, so a cut would go unseen; serve it with "
                                  "Content-Length")  # fmt: skip
            return answer

        return self._tried(once, url)

    def head(self, url: str) -> Answer | None:
        """The answer's headers; None where the server doesn't tell them without a body."""

        def once() -> Answer | None:
            try:
                return self._get("HEAD", url, (), lambda _: None, "*/*")
            except _Refused as refused:
                if refused.status in (403, 405, 501):
                    return None
                raise

        return self._tried(once, url)

    def post(self, url: str, form: Mapping[str, str], user: tuple[str, str]) -> bytes:
        """The body of the answer to a form that *user* sends; it isn't sent on where the server redirects."""

        def once() -> bytes:
            self._calls += 1
            body = bytearray()
            found = self._streamed("POST", httpx.URL(url), {}, body.extend, url, data=dict(form), auth=user)
            if not isinstance(found, Answer):
                raise SourceError(f"{shown(url)!r} redirects what must stay secret; give the address behind it")
            return bytes(body)

        return self._tried(once, url)

    def _tried(self, once: Callable[[], T], url: str) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                made = once()
            except _Passing as failure:
                reason, wait = str(failure), failure.wait
            else:
                self._answered += 1
                return made
            if wait:  # who waits as it is told presses nobody
                self._calls -= 1
            if attempt == ATTEMPTS or self._calls >= CALLS_PER_ANSWER * (self._answered + 1):
                raise SourceError(f"{shown(url)!r} failed {attempt} times, last: {reason}; run again later")
            if wait is not None and wait > self._max_time:
                raise SourceError(
                    f"{shown(url)!r} asks to wait {duration(wait)}, longer than max_time={self._access.max_time!r}; "
                    "run again later"
                )
            self._sleep(wait if wait is not None else self._chance.uniform(0.1, 0.5 * 2**attempt))
        raise AssertionError("unreachable")

    def _get(
        self, method: str, url: str, parameters: Iterable[tuple[str, str]], sink: Callable[[bytes], Any], accept: str
    ) -> Answer:
        """One answer, behind at most a few redirects."""
        asked, given = url, list(parameters)
        for _ in range(_REDIRECTS + 1):
            headers = {"Accept": accept, "User-Agent": "mainspring"}
            if accept == "*/*":
                headers["Accept-Encoding"] = "identity"
            added = self._credentials(asked, headers)
            self._calls += 1
            address = httpx.URL(asked).copy_merge_params([*given, *added]) if given or added else httpx.URL(asked)
            found = self._streamed(method, address, headers, sink, asked)
            if isinstance(found, Answer):
                return found
            asked, given = self._followed(asked, found), []
        raise SourceError(f"{shown(url)!r} redirects more than {_REDIRECTS} times; give the address behind them")

    def _streamed(
        self, method: str, address: httpx.URL, headers: Mapping[str, str], sink: Callable[[bytes], Any], asked: str,
        **sent: Any,
    ) -> Answer | str:  # fmt: skip
        """The answer, or where it redirects to."""
        ends = time.monotonic() + self._max_time
        try:
            with self._client.stream(method, address, headers=dict(headers), **sent) as response:
                if response.has_redirect_location:
                    return str(response.headers["location"])
                self._refuse_failure(response, asked)
                size = 0
                for piece in response.iter_bytes():
                    size += len(piece)
                    self._refuse_excess(size, ends, asked)
                    sink(piece)
                return Answer(response.headers, asked)
        except (httpx.TimeoutException, httpcore.TimeoutException):
            raise _Passing(f"no answer within timeout={self._access.timeout!r}") from None
        except _FAULTS as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise SourceError(
                    f"{shown(asked)!r} has a certificate that isn't trusted; where it is of an authority of your own, "
                    "name that one's in the environment: SSL_CERT_FILE=FILE"
                ) from None
            raise _Passing(f"{type(error).__name__}: {_without(str(error), address)}") from None

    def _refuse_failure(self, response: httpx.Response, asked: str) -> None:
        status = response.status_code
        if status < 400 and status != 206:
            return
        if status == 401 and self._access.oauth2 is not None and self._token is not None:
            self._token = None
            raise _Passing("401 Unauthorized: the token isn't valid any more", 0.0)
        if status in _PASSING:
            raise _Passing(f"{status} {_phrase(status)}", _retry_after(response.headers))
        raise _Refused(status, _phrase(status), asked, self._access)

    def _refuse_excess(self, size: int, ends: float, asked: str) -> None:
        if size > self._max_size:
            raise SourceError(
                f"{shown(asked)!r} answers with more than max_size={self._access.max_size!r}; raise it in ms.Http"
            )
        if time.monotonic() > ends:
            raise _Passing(f"the answer took longer than max_time={self._access.max_time!r}")

    def _followed(self, asked: str, location: str) -> str:
        target = urljoin(asked, location)
        if _origin(target) == self._origin:
            return target
        if not target.lower().startswith(("https://", "http://")) or (
            asked.lower().startswith("https://") and not target.lower().startswith("https://")
        ):
            raise SourceError(
                f"{shown(asked)!r} redirects to {shown(target)!r}, which isn't https; give its own address"
            )
        if _identifies(self._access):
            raise SourceError(
                f"{shown(asked)!r} redirects to another server, {shown(target)!r}, which must not get its credentials; "
                "give the address of the server that answers"
            )
        return target

    def _credentials(self, url: str, headers: dict[str, str]) -> list[tuple[str, str]]:
        """Adds to *headers* who asks, and gives the parameters that say it; nothing beyond the server's own origin."""
        access = self._access
        if not _identifies(access) or _origin(url) != self._origin:
            return []
        if access.bearer is not None:
            headers["Authorization"] = f"Bearer {_in_header(access.bearer)}"
        elif access.basic is not None:
            pair = f"{access.basic[0]}:{secret(access.basic[1])}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        elif access.header is not None:
            headers[access.header[0]] = _in_header(access.header[1])
        elif access.query is not None:
            return [(access.query[0], secret(access.query[1]))]
        elif access.oauth2 is not None:
            self._token = self._token or _token(access, sleep=self._sleep, chance=self._chance)
            headers["Authorization"] = f"Bearer {self._token}"
        return []


class _Refused(SourceNotFound):
    def __init__(self, status: int, phrase: str, url: str, access: Http) -> None:
        self.status = status
        mend = "mend the address" if status in (404, 410) else "mend the address or its parameters"
        if status in (401, 403):
            mend = "check what its credentials refer to" if _identifies(access) else "say who asks: access=ms.Http(...)"
        super().__init__(f"{shown(url)!r} answers {status} {phrase}; {mend}")


def shown(url: str) -> str:
    """An address as messages show it: without password and parameters."""
    head, separator, rest = url.partition("://")
    if not separator:
        return url
    server, slash, path = rest.partition("/")
    return f"{head}://{server.rpartition('@')[2]}{slash}{path.partition('?')[0].partition('#')[0]}"


def _token(access: Http, **how: Any) -> str:
    """A token of OAuth 2 for a client by itself (RFC 6749, 4.4)."""
    url, client, reference = access.oauth2 or ("", "", "")
    asked = Http(timeout=access.timeout, max_time=access.max_time, max_size="1MB", private=access.private)
    form = {"grant_type": "client_credentials", **({"scope": access.scope} if access.scope else {})}
    with Outbound(url, asked, **how) as server:
        content = server.post(url, form, (client, secret(reference)))
    try:
        token = json.loads(content)["access_token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise SourceError(f"{shown(url)!r} gives no access_token; check the token address of ms.Http(oauth2=...)")
    return token


def _identifies(access: Http) -> bool:
    return any(way is not None for way in (access.bearer, access.basic, access.header, access.query, access.oauth2))


def _in_header(reference: str) -> str:
    value = secret(reference)
    if not value.isascii() or not value.isprintable():
        raise SourceError(f"what {reference!r} stands for has characters that no HTTP header may have; check it")
    return value


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise SourceError(f"{shown(url)!r} is no address ({error}); mend it") from None
    return parsed.scheme, parsed.host, parsed.port or {"http": 80, "https": 443}.get(parsed.scheme)


def _phrase(status: int) -> str:
    """What the standard calls *status*: what a server says itself may repeat the token that it was sent."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(no known status)"


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds to wait, told as such or as a date (RFC 9110, 10.2.3), by the server's own clock where it tells it."""
    told = headers.get("retry-after", "").strip()
    if told.isascii() and told.isdigit():
        return float(told)
    try:
        until = parsedate_to_datetime(told)
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _without(text: str, address: httpx.URL) -> str:
    """A library's message, without the address's parameters, which may hold a key."""
    for part in (str(address), address.query.decode("ascii", "replace")):
        text = text.replace(part, "***") if part else text
    return text.strip().partition("\n")[0]


class _Resolver(httpcore.SyncBackend):
    """Connects to an address that was looked up once and is allowed: a name can't mean another one a moment later."""

    def __init__(self, private: bool) -> None:
        self._private = private

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError(f"no address is known for {host!r}") from None
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        for address in addresses:
            self._refuse_private(address, host)
        failure: Exception = httpcore.ConnectError(f"no address is known for {host!r}")
        for address in addresses:
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def _refuse_private(self, text: str, host: str) -> None:
        address = ipaddress.ip_address(text.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            raise SourceError(f"{host!r} is {text}, an address that no server of data has; mend it")
        if not address.is_global and not self._private:
            raise SourceError(
                f"{host!r} is {text}, an address of the own network; if that is meant: access=ms.Http(private=True)"
            )


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        self._stream.close()


class _Transport(httpx.BaseTransport):
    """httpx over a pool that asks `_Resolver` where to connect."""

    def __init__(self, private: bool) -> None:
        context = httpx.create_ssl_context()
        self._pool = httpcore.ConnectionPool(ssl_context=context, network_backend=_Resolver(private))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        made = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        answer = self._pool.handle_request(made)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    def close(self) -> None:
        self._pool.close()
