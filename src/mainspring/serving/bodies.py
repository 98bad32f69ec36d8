"""Request bodies and answers: bounded, strict JSON in; JSON and errors of one shape out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from mainspring.core.errors import InvalidRequest, Overloaded, RequestError, TooLarge

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_MOST_DEPTH = 32
_NOT_A_NUMBER = re.compile(rb"[:\[,]\s*-?(NaN|Infinity)\b")


async def read(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body; raises TooLarge, before reading it where its length is announced."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise TooLarge(f"the body has {int(value):,} bytes, at most {limit:,} are taken; send fewer rows at once")
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return _bounded(body, limit)
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("the client went away before its body had come")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge(f"the body is larger than {limit:,} bytes; send fewer rows at once")
    return b"".join(parts)


def parse(body: bytes) -> Any:
    """The JSON value in *body*; NaN, Infinity, duplicate keys and what isn't JSON raise InvalidRequest.

    >>> parse(b'{"rows": [{"age": 41}]}')
    {'rows': [{'age': 41}]}
    """
    if not body.strip():
        raise InvalidRequest("the body is empty; send JSON")
    try:
        value = _decode(body)
        if body.count(b'":') != _keys(value):  # a duplicate, or only a colon in a text: the slow reader knows
            json.loads(body, object_pairs_hook=_unique)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        if _NOT_A_NUMBER.search(body):
            raise InvalidRequest("the body is not valid JSON, which has no NaN and no Infinity: write null") from None
        raise InvalidRequest(f"the body is not valid JSON: {str(error)[:200]}") from None
    return value


def encode(value: Any) -> bytes:
    """*value* as JSON; numbers that JSON can't write become null."""
    return _encode(value)


def failure(error: RequestError) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers of a refused request."""
    headers = [(b"retry-after", b"1")] if isinstance(error, Overloaded) else []
    return error.status, problem(type(error).__name__, str(error)), headers


def problem(code: str, message: str) -> bytes:
    """The one shape in which errors are told."""
    return _encode({"error": {"code": code, "message": message}})


async def send(
    send: Send,
    status: int,
    body: bytes,
    headers: list[tuple[bytes, bytes]] | None = None,
    content_type: bytes = b"application/json",
) -> None:
    """Send a whole answer."""
    fixed = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": fixed + (headers or [])})
    await send({"type": "http.response.body", "body": body})


def _bounded(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise TooLarge(f"the body has {len(body):,} bytes, at most {limit:,} are taken; send fewer rows at once")
    return body


def _keys(value: Any, depth: int = 0) -> int:
    """How many keys all objects in *value* have."""
    if depth > _MOST_DEPTH:
        raise ValueError(f"nested deeper than {_MOST_DEPTH} levels")
    children, count = (value.values(), len(value)) if type(value) is dict else (value, 0)
    for child in children if type(value) in (dict, list) else ():
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
