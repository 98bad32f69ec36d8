"""Files behind an address: objects of a store, and files of web servers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, BinaryIO

from mainspring.core.errors import DeclarationError, SourceError, SourceNotFound
from mainspring.core.object_stores import ObjectStore
from mainspring.core.sources import Http
from mainspring.data import buckets
from mainspring.data.buckets import filled
from mainspring.data.outbound import Outbound, shown
from mainspring.data.stored import Stored


def is_address(path: str) -> bool:
    """Whether *path* isn't one of this machine."""
    return re.match(r"[a-z][a-z0-9+.-]*://", path, re.IGNORECASE) is not None


def files(address: str, access: ObjectStore | Http | None, suffixes: Sequence[str]) -> list[Stored]:
    """The files behind *address*, in the order of their names; of a folder those that end with one of *suffixes*."""
    if buckets.is_object(address):
        return buckets.files(address, access, suffixes)
    if not re.match(r"https?://", address, re.IGNORECASE):
        known = "s3://, gs://, az://, abfss://, https:// or http://"
        raise SourceNotFound(f"{shown(address)!r}: addresses of files begin with {known}; mend it")
    if access is not None and not isinstance(access, Http):
        raise DeclarationError(f"{shown(address)!r} is reached by access=ms.Http(...), not by {buckets.call(access)}")
    return [_web_file(address, access or Http())]


def _web_file(url: str, access: Http) -> Stored:
    with Outbound(url, access) as server:
        head = server.head(url)
    tag = _tag(head.headers) if head is not None else None
    return Stored(shown(url), () if tag is None else (tag,), partial(filled, partial(_download, url, access, tag)))


def _download(url: str, access: Http, tag: str | None, file: BinaryIO) -> None:
    with Outbound(url, access) as server:
        answer = server.download(url, file)
    if tag is not None and _tag(answer.headers) not in (tag, None):
        raise SourceError(f"{shown(url)!r} was changed while it was read; run again once it is written")


def _tag(headers: Any) -> str | None:
    """What changes with the file: the server's tag, else when it was changed; None where it says neither."""
    tag: str | None = headers.get("etag") or headers.get("last-modified")
    return tag
