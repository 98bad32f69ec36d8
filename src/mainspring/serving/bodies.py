"""Request bodies and answers: bounded, strict JSON in; JSON and errors of one shape out."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from starlette.types import Receive, Scope, Send

from mainspring.core.errors import (
    InvalidRequest,
    RequestError,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    WrongFormat,
)

Headers = list[tuple[bytes, bytes]]

_HELD_SECONDS = (0.25, 0.75)

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_MOST_DEPTH = 32
_LONG_BYTES, _COLON = 4_000, ord(":")
_NESTING = frozenset({dict, list})
_GAPS = (b" :", b"\t:", b"\r:", b"\n:")
_NOT_A_NUMBER = re.compile(rb"[:\[,]\s*-?(NaN|Infinity)\b")


class Reply(msgspec.Struct, frozen=True):
    """An answer before it is sent."""

    body: bytes
    status: int = 200
    headers: Headers = []
    content_type: bytes = b"application/json"


Refuse = Callable[[RequestError], Reply]
"""How a protocol tells a refusal."""


class Intake:
    """Reads bodies: each of at most *limit* bytes, all that come in parts at one time of at most *room*."""

    def __init__(self, limit: int, room: int = 0) -> None:
        self.limit, self.room = limit, max(room, 2 * limit)
        self._held = 0

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, unpacked; raises TooLarge, before reading it where its length is announced."""
        packed = None
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                self._bound(int(value), "the body has {:,} bytes")
            elif name == b"content-encoding" and value.strip().lower() != b"identity":
                packed = value.strip().lower()
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest(body, receive)
        self._bound(len(body), "the body has {:,} bytes")
        return body if packed is None else self._unpacked(body, packed)

    async def _rest(self, first: bytes, receive: Receive) -> bytes:
        """The body that comes in parts; what is held for all of them together is bounded too."""
        parts, size = [first], 0
        try:
            while True:
                size += len(parts[-1])
                self._held += len(parts[-1])
                self._bound(size, "the body has more than {:,} bytes")
                if self._held > self.room:
                    raise TooMany("too many large bodies come at once; try again in a second")
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise InvalidRequest("the client went away before its body had come")
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    return b"".join(parts)
        finally:
            self._held -= size

    def _unpacked(self, body: bytes, coding: bytes) -> bytes:
        if coding not in (b"gzip", b"x-gzip", b"deflate"):
            raise WrongFormat(f"content encoding {coding.decode('latin-1')[:40]!r} is not read here; use gzip or none")
        unpack = zlib.decompressobj(wbits=47)
        try:
            unpacked = unpack.decompress(body, self.limit + 1)
        except zlib.error as error:
            raise InvalidRequest(f"the body is not {coding.decode()}: {error}") from None
        self._bound(len(unpacked), "the unpacked body has more than {:,} bytes")
        if not unpack.eof:
            raise InvalidRequest(f"the body ends before its {coding.decode()} does")
        return unpacked

    def _bound(self, size: int, what: str) -> None:
        if size > self.limit:
            said = what.format(size if "more than" not in what else self.limit)
            raise TooLarge(f"{said}, at most {self.limit:,} are taken; send fewer rows at once")


def parse(body: bytes, *, nan: bool = False) -> Any:
    """The JSON value in *body*; NaN, Infinity, duplicate keys and what isn't JSON raise InvalidRequest.

    nan: NaN is a missing value, as clients write it that send frames.

    >>> parse(b'{"rows": [{"age": 41}]}')
    {'rows': [{'age': 41}]}
    >>> parse(b'{"inputs": {"age": [NaN]}}', nan=True)
    {'inputs': {'age': [None]}}
    """
    if not body.strip():
        raise InvalidRequest("the body is empty; send JSON")
    try:
        value = _decode(body)
        if not once(body, _keys(value)):
            json.loads(body, object_pairs_hook=_unique)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        if nan and b"NaN" in body:
            return _with_nan(body)
        if _NOT_A_NUMBER.search(body):
            raise InvalidRequest("the body is not valid JSON, which has no NaN and no Infinity: write null") from None
        raise InvalidRequest(f"the body is not valid JSON: {str(error)[:200]}") from None
    return value


def once(body: bytes, keys: int) -> bool:
    """Whether no object in the JSON *body*, whose objects were read to have so many *keys*, has one twice; False also
    where only a slow reader can tell, for some texts have colons too.

    >>> once(b'{"at": "10:15"}', 1), once(b'{"a": 1, "a" : 2}', 1)
    (True, False)
    """
    if _colons(body) == keys:
        return True
    return body.count(b'":') == keys and not any(gap in body for gap in _GAPS)


def _colons(body: bytes) -> int:
    if len(body) < _LONG_BYTES:
        return body.count(b":")
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == _COLON))  # a fifth of what `count` takes


def _with_nan(body: bytes) -> Any:
    """The value of JSON that has NaN besides; by the slow reader."""
    try:
        value = json.loads(body, object_pairs_hook=_unique, parse_constant=_missing)
        _keys(value)  # not too deep
        json.dumps(value, ensure_ascii=False).encode()  # half a pair of surrogates, which no record could hold
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {str(error)[:200]}") from None
    return value


def _missing(constant: str) -> None:
    if constant != "NaN":
        raise ValueError(f"it has no {constant}: write null")


def text(body: bytes) -> str:
    """*body* as text; what isn't UTF-8 raises InvalidRequest."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8: {error}") from None


def encode(value: Any) -> bytes:
    """*value* as JSON; numbers that JSON can't write become null."""
    return _encode(value)


def header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    """The first value of a header, empty when there is none."""
    for name, value in headers:
        if name == wanted:
            return value
    return b""


def media_type(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """What the body is said to be, without parameters; empty when nothing is said."""
    return _media_type(header(headers, b"content-type"))


@lru_cache(maxsize=64)
def _media_type(said: bytes) -> str:
    return said.partition(b";")[0].strip().lower().decode("latin-1")


def refusal(error: RequestError, *, flat: bool = False) -> Reply:
    """The answer to a refused request. flat: with a text under "error", as V2's clients read it."""
    code, message = type(error).__name__, str(error)
    told = _encode({"error": message, "code": code}) if flat else problem(code, message)
    return Reply(told, error.status, _headers(error))


def held_seconds() -> float:
    """How much later than at once it is told that too many requests come: they would be back at once, and all together,
    and take time from those that are answered."""
    return random.uniform(*_HELD_SECONDS)


def _headers(error: RequestError) -> Headers:
    """What goes with a refusal's status."""
    if isinstance(error, Unavailable | TooMany):
        return [(b"retry-after", b"1")]
    return [(b"www-authenticate", b"Bearer")] if isinstance(error, Unauthorized) else []


def problem(code: str, message: str) -> bytes:
    """The one shape in which errors are told."""
    return _encode({"error": {"code": code, "message": message}})


async def send(send: Send, reply: Reply) -> None:
    """Send a whole answer."""
    fixed = [(b"content-type", reply.content_type), (b"content-length", str(len(reply.body)).encode())]
    await send({"type": "http.response.start", "status": reply.status, "headers": fixed + reply.headers})
    await send({"type": "http.response.body", "body": reply.body})


def _keys(value: Any, depth: int = 0) -> int:
    """How many keys all objects in *value* have."""
    if depth > _MOST_DEPTH:
        raise ValueError(f"nested deeper than {_MOST_DEPTH} levels")
    children, count = (value.values(), len(value)) if type(value) is dict else (value, 0)
    if type(value) not in (dict, list) or _NESTING.isdisjoint(map(type, children)):
        return count
    for child in children:
        if type(child) is dict or type(child) is list:
            count += _keys(child, depth + 1)
    return count


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    keyed = dict(pairs)
    if len(keyed) < len(pairs):
        seen: set[str] = set()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {again!r} stands twice in one object")
    return keyed
