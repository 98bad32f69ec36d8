"""A stand-in for Azure Blob Storage: lists and gives the blobs of one container, as its REST API is documented.

What it answers was compared with Azurite, Microsoft's emulator; signatures by the account's key are checked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from email.utils import formatdate
from urllib.parse import unquote
from xml.sax.saxutils import escape

from tests.data.web import Answer, Asked

ACCOUNT, CONTAINER = "devstoreaccount1", "flights"
KEY = base64.b64encode(b"a key of sixty-four bytes, as accounts have: hunter22 hunter22 hu").decode()
_PAGE = 2
_SIGNED = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip


class Blobs:
    """The answers of an account with one container."""

    def __init__(self, content: dict[str, bytes]) -> None:
        self.content = content

    def __call__(self, asked: Asked) -> Answer:
        if not hmac.compare_digest(asked.headers.get("authorization", ""), _signature(asked)):
            return Answer(b"", {"x-ms-error-code": "AuthenticationFailed"}, 403)
        name = unquote(asked.path.removeprefix(f"/{ACCOUNT}/{CONTAINER}").lstrip("/"))
        if asked.query.get("comp") == "list":
            return self._listed(asked.query)
        blob = self.content.get(name) if f"/{CONTAINER}/" in asked.path else None
        if blob is None:
            return Answer(b"", {"x-ms-error-code": "BlobNotFound"}, 404)
        if asked.headers.get("if-match", f'"{_tag(blob)}"') != f'"{_tag(blob)}"':
            return Answer(b"", {"x-ms-error-code": "ConditionNotMet"}, 412)
        return _given(blob, asked.headers.get("range") or asked.headers.get("x-ms-range", ""))

    def _listed(self, query: dict[str, str]) -> Answer:
        names = [name for name in sorted(self.content) if name.startswith(query.get("prefix", ""))]
        names = [name for name in names if name >= query.get("startFrom", "")]
        start = int(query.get("marker") or 0)
        blobs = "".join(
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{formatdate(0, usegmt=True)}</Last-Modified>"
            f"<Etag>{_tag(blob)}</Etag><Content-Length>{len(blob)}</Content-Length><Content-Type>text/csv</Content-Type>"
            "<BlobType>BlockBlob</BlobType></Properties></Blob>"
            for name in names[start : start + _PAGE]
            for blob in [self.content[name]]
        )
        more = str(start + _PAGE) if start + _PAGE < len(names) else ""
        body = (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Prefix>{query.get("prefix", "")}</Prefix>'
            f"<Blobs>{blobs}</Blobs><NextMarker>{more}</NextMarker></EnumerationResults>"
        )
        return Answer(body.encode(), {"Content-Type": "application/xml"})


def _given(blob: bytes, wanted: str) -> Answer:
    told = {
        "ETag": f'"{_tag(blob)}"', "Last-Modified": formatdate(0, usegmt=True), "x-ms-blob-type": "BlockBlob",
        "Accept-Ranges": "bytes",
    }  # fmt: skip
    if not wanted:
        return Answer(blob, told)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    begin, end = (int(first), int(last or len(blob) - 1)) if first else (max(0, len(blob) - int(last)), len(blob) - 1)
    part = blob[begin : end + 1]
    return Answer(part, told | {"Content-Range": f"bytes {begin}-{begin + len(part) - 1}/{len(blob)}"}, 206)


def _tag(blob: bytes) -> str:
    return f"0x{hashlib.sha256(blob).hexdigest()[:15].upper()}"


def _signature(asked: Asked) -> str:
    """By the account's shared key, of what is asked."""
    sent = [asked.headers.get(name, "") for name in _SIGNED]
    own = sorted(f"{name}:{value}" for name, value in asked.headers.items() if name.startswith("x-ms-"))
    query = sorted(f"{name.lower()}:{value}" for name, value in asked.query.items())
    text = "\n".join(
        [asked.method, *("" if value == "0" else value for value in sent), *own, f"/{ACCOUNT}{asked.path}", *query]
    )
    made = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    return f"SharedKey {ACCOUNT}:{base64.b64encode(made).decode()}"
