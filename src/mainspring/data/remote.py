"""Files behind an address: objects of a store that speaks S3, and files of web servers."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from mainspring.core.errors import DeclarationError, SourceError, SourceNotFound
from mainspring.core.sources import S3, Http
from mainspring.core.wording import listed
from mainspring.data.outbound import Outbound, shown
from mainspring.data.stored import Stored
from mainspring.store.secrets import secret

_IN_MEMORY_BYTES = 32 << 20
_PATTERN = re.compile(r"[*?\[]")


def is_address(path: str) -> bool:
    """Whether *path* isn't one of this machine."""
    return re.match(r"[a-z][a-z0-9+.-]*://", path, re.IGNORECASE) is not None


def files(address: str, access: S3 | Http | None, suffixes: Sequence[str]) -> list[Stored]:
    """The files behind *address*, in the order of their names; of a folder those that end with one of *suffixes*."""
    if re.match(r"https?://", address, re.IGNORECASE):
        if isinstance(access, S3):
            raise DeclarationError(f"{shown(address)!r} is reached by access=ms.Http(...), not by ms.S3")
        return [_web_file(address, access or Http())]
    if not address.lower().startswith("s3://"):
        raise SourceNotFound(f"{shown(address)!r}: addresses of files begin with s3://, https:// or http://; mend it")
    if isinstance(access, Http):
        raise DeclarationError(f"{shown(address)!r} is reached by access=ms.S3(...), not by ms.Http")
    bucket, _, key = address[len("s3://") :].partition("/")
    return _Bucket(bucket, access or S3()).files(key, suffixes)


def options(access: S3) -> dict[str, str]:
    """What *access* says, in the words that libraries of object stores share; secrets are looked up now."""
    said = {"endpoint": access.endpoint, "region": access.region or ("us-east-1" if access.endpoint else None)}
    for name, reference in (
        ("access_key_id", access.access_key), ("secret_access_key", access.secret_key), ("session_token", access.token),
    ):  # fmt: skip
        said[name] = None if reference is None else secret(reference)
    found = {name: value for name, value in said.items() if value is not None}
    return {**found, "skip_signature": "true"} if access.anonymous else found


class _Bucket:
    def __init__(self, name: str, access: S3) -> None:
        if importlib.util.find_spec("obstore") is None:
            raise SourceError("s3:// needs the extra 's3': pip install 'mainspring[s3]'")
        import obstore  # the extra's one door
        from obstore.store import S3Store

        self._name, self._obstore = name, obstore
        plain = (access.endpoint or "").lower().startswith("http://")
        self._store = S3Store(name, client_options={"allow_http": plain}, config=cast(Any, options(access)))

    def files(self, key: str, suffixes: Sequence[str]) -> list[Stored]:
        try:
            found = self._found(key, suffixes)
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise self._explained(error, key) from None
        if not found:
            near = self._nearest(key)
            raise SourceNotFound(f"no such file: {self._address(key)!r}{near}; mend the address")
        return [self._stored(meta) for meta in sorted(found, key=lambda meta: meta["path"])]

    def _found(self, key: str, suffixes: Sequence[str]) -> list[Any]:
        if key and not key.endswith("/") and "*" not in key:  # brackets may be part of a name
            try:
                return [self._obstore.head(self._store, key)]
            except FileNotFoundError:
                pass
        if _PATTERN.search(key):
            folder = key[: _PATTERN.search(key).start()].rpartition("/")[0]  # type: ignore[union-attr]
            shape = _pattern(key)
            return [meta for meta in self._listed(folder) if shape.fullmatch(meta["path"])]
        return [meta for meta in self._listed(key.rstrip("/")) if _counts(meta["path"], key, suffixes)]

    def _listed(self, folder: str) -> list[Any]:
        return [meta for part in self._obstore.list(self._store, folder or None) for meta in part]

    def _nearest(self, key: str) -> str:
        folder = key[: (_PATTERN.search(key) or re.search("$", key)).start()].rpartition("/")[0]  # type: ignore[union-attr]
        try:
            names = [PurePosixPath(meta["path"]).name for meta in self._listed(folder)]
        except (self._obstore.exceptions.BaseError, OSError):
            return ""
        return f"; {self._address(folder)!r} has {listed(sorted(names))}" if names else ""

    def _stored(self, meta: Any) -> Stored:
        stamp = (int(meta["size"]), meta["e_tag"] or meta["last_modified"].isoformat())
        return Stored(self._address(meta["path"]), stamp, partial(self._open, meta["path"], meta["e_tag"]))

    def _open(self, key: str, tag: str | None) -> BinaryIO:
        return _filled(partial(self._download, key, tag))

    def _download(self, key: str, tag: str | None, file: BinaryIO) -> None:
        try:
            for part in self._obstore.get(self._store, key, options={"if_match": tag} if tag else {}):
                file.write(bytes(part))
        except (self._obstore.exceptions.BaseError, FileNotFoundError, PermissionError) as error:
            raise self._explained(error, key) from None

    def _address(self, key: str) -> str:
        return f"s3://{self._name}/{key}"

    def _explained(self, error: Exception, key: str) -> SourceError:
        kind, where = type(error).__name__, self._address(key)
        if kind == "PreconditionError":
            return SourceError(f"{where!r} was changed while it was read; run again once it is written")
        if kind in ("PermissionDeniedError", "UnauthenticatedError", "PermissionError"):
            return SourceError(f"{where!r} may not be read ({kind}); check what access=ms.S3(...) refers to")
        if kind in ("NotFoundError", "FileNotFoundError"):
            return SourceNotFound(f"no such file or bucket: {where!r}; mend the address")
        return SourceError(f"{where!r} can't be read ({kind}); check its endpoint, region and credentials: ms.S3(...)")


def _filled(download: Callable[[BinaryIO], None]) -> BinaryIO:
    """A file for what is downloaded; who reads it closes it, and it is gone."""
    with ExitStack() as unless_filled:
        file = unless_filled.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES))
        download(cast(BinaryIO, file))
        file.seek(0)
        unless_filled.pop_all()
    return cast(BinaryIO, file)


def _counts(path: str, folder: str, suffixes: Sequence[str]) -> bool:
    inside = path[len(folder) :].split("/")
    return path.lower().endswith(tuple(suffixes)) and not any(part.startswith((".", "_")) for part in inside)


def _pattern(key: str) -> re.Pattern[str]:
    """A glob of keys: * within a folder, ** over folders.

    >>> bool(_pattern("a/**/*.csv").fullmatch("a/x/y/1.csv")), bool(_pattern("a/*.csv").fullmatch("a/x/1.csv"))
    (True, False)
    """
    marks = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", key)
    return re.compile("".join(marks.get(part, part if part[:1] == "[" else re.escape(part)) for part in parts))


def _web_file(url: str, access: Http) -> Stored:
    with Outbound(url, access) as server:
        head = server.head(url)
    tag = _tag(head.headers) if head is not None else None
    return Stored(shown(url), () if tag is None else (tag,), partial(_filled, partial(_download, url, access, tag)))


def _download(url: str, access: Http, tag: str | None, file: BinaryIO) -> None:
    with Outbound(url, access) as server:
        answer = server.download(url, file)
    if tag is not None and _tag(answer.headers) not in (tag, None):
        raise SourceError(f"{shown(url)!r} was changed while it was read; run again once it is written")


def _tag(headers: Any) -> str | None:
    """What changes with the file: the server's tag, else when it was changed; None where it says neither."""
    tag: str | None = headers.get("etag") or headers.get("last-modified")
    return tag
