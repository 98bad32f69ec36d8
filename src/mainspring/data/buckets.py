"""Objects of a store: in buckets of S3 and Google Cloud Storage, in containers of Azure Blob Storage."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import PurePosixPath
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from mainspring.core.errors import DeclarationError, SourceError, SourceNotFound
from mainspring.core.object_stores import S3, Azure, Gcs, ObjectStore
from mainspring.core.wording import listed
from mainspring.data.stored import Stored
from mainspring.store.secrets import secret

_IN_MEMORY_BYTES = 32 << 20
_PATTERN = re.compile(r"[*?\[]")
_ACCESS: dict[str, type[ObjectStore]] = {"s3": S3, "gs": Gcs, "az": Azure, "abfs": Azure, "abfss": Azure}
_NO_ACCOUNT = {
    "gcs_base_url": "", "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": "",
}  # fmt: skip
"""The key of an emulator of Google Cloud Storage, which asks nobody who they are."""


def is_object(address: str) -> bool:
    """Whether *address* is one of an object store."""
    return _scheme(address) in _ACCESS


def files(address: str, access: Any, suffixes: Sequence[str]) -> list[Stored]:
    """The objects behind *address*, in the order of their names; of a folder those that end with one of *suffixes*."""
    return _Bucket(address, _access(address, access)).files(suffixes)


def options(address: str, access: Any) -> dict[str, str]:
    """How the store of *address* is reached, in the words that libraries of object stores share; secrets are looked up
    now."""
    how = _access(address, access)
    found = {name: value for name, value in _said(how, address).items() if value is not None}
    if how.anonymous:
        found["skip_signature"] = "true"
    return found


def plain(access: ObjectStore | None) -> bool:
    """Whether the store is asked without encryption, as emulators are."""
    return access is not None and (access.endpoint or "").lower().startswith("http://")


def call(access: ObjectStore) -> str:
    """What *access* is called where it is declared."""
    return f"ms.{type(access).__name__}(...)"


def _scheme(address: str) -> str:
    return address.partition("://")[0].lower()


def _access(address: str, access: Any) -> ObjectStore:
    kind = _ACCESS[_scheme(address)]
    if access is not None and not isinstance(access, kind):
        raise DeclarationError(f"{address!r} is reached by access={call(kind())}, not by ms.{type(access).__name__}")
    return access or kind()


def _said(how: ObjectStore, address: str) -> dict[str, str | None]:
    if isinstance(how, S3):
        return {
            "endpoint": how.endpoint,
            "region": how.region or ("us-east-1" if how.endpoint else None),
            "access_key_id": _secret(how.access_key),
            "secret_access_key": _secret(how.secret_key),
            "session_token": _secret(how.token),
        }
    if isinstance(how, Gcs):
        return {"google_service_account_key": _account(how)}
    tenant, client, reference = how.client or (None, None, None)
    return {
        "azure_storage_account_name": how.account or _place(address)[1],
        "azure_endpoint": how.endpoint,
        "azure_storage_account_key": _secret(how.key),
        "azure_storage_sas_key": _secret(how.sas),
        "azure_storage_tenant_id": tenant,
        "azure_storage_client_id": client,
        "azure_storage_client_secret": _secret(reference),
    }


def _secret(reference: str | None) -> str | None:
    return None if reference is None else secret(reference)


def _account(how: Gcs) -> str | None:
    """The JSON of the account's key, which names the endpoint too."""
    if how.service_account is None and how.endpoint is None:
        return None
    try:
        told = _NO_ACCOUNT if how.service_account is None else json.loads(secret(how.service_account))
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise SourceError(f"{how.service_account!r} of ms.Gcs isn't the JSON of a service account's key; mend it")
    return json.dumps(told | ({"gcs_base_url": how.endpoint.rstrip("/")} if how.endpoint else {}))


def _place(address: str) -> tuple[str, str | None, str]:
    """Bucket, account and key of gs://BUCKET/KEY, or abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/KEY."""
    where, _, key = address.partition("://")[2].partition("/")
    bucket, _, host = where.partition("@")
    return bucket, host.partition(".")[0] or None, key


class _Bucket:
    def __init__(self, address: str, access: ObjectStore) -> None:
        scheme = _scheme(address)
        self._name, _, self._key = _place(address)
        self._root, self._call = address[: len(address) - len(self._key)].rstrip("/"), call(access)
        if importlib.util.find_spec("obstore") is None:
            extra = {S3: "s3", Gcs: "gcs", Azure: "azure"}[type(access)]
            raise SourceError(f"{scheme}:// needs the extra {extra!r}: pip install 'mainspring[{extra}]'")
        import obstore  # the extra's one door
        from obstore.store import AzureStore, GCSStore, S3Store

        self._obstore = obstore
        kind: Any = {S3: S3Store, Gcs: GCSStore, Azure: AzureStore}[type(access)]
        said = options(address, access)
        try:
            self._store = kind(self._name, client_options={"allow_http": plain(access)}, config=said)
        except (obstore.exceptions.BaseError, ValueError) as error:
            reason = "its account isn't named" if "ccount must be" in str(error) else type(error).__name__
            raise SourceError(f"{self._root!r} can't be reached: {reason}; check access={self._call}") from None

    def files(self, suffixes: Sequence[str]) -> list[Stored]:
        try:
            found = self._found(self._key, suffixes)
        except (self._obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise self._explained(error, self._key) from None
        if not found:
            near = self._nearest(self._key)
            raise SourceNotFound(f"no such file: {self._address(self._key)!r}{near}; mend the address")
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
        except (self._obstore.exceptions.BaseError, OSError, ValueError):
            return ""
        return f"; {self._address(folder)!r} has {listed(sorted(names))}" if names else ""

    def _stored(self, meta: Any) -> Stored:
        tag = _quoted(meta["e_tag"])
        stamp = (int(meta["size"]), tag or meta["last_modified"].isoformat())
        return Stored(self._address(meta["path"]), stamp, partial(filled, partial(self._download, meta["path"], tag)))

    def _download(self, key: str, tag: str | None, file: BinaryIO) -> None:
        try:
            for part in self._obstore.get(self._store, key, options={"if_match": tag} if tag else {}):
                file.write(bytes(part))
        except (self._obstore.exceptions.BaseError, FileNotFoundError, PermissionError) as error:
            raise self._explained(error, key) from None

    def _address(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _explained(self, error: Exception, key: str) -> SourceError:
        kind, where = type(error).__name__, self._address(key)
        if kind == "PreconditionError":
            return SourceError(f"{where!r} was changed while it was read; run again once it is written")
        if kind in ("PermissionDeniedError", "UnauthenticatedError", "PermissionError"):
            return SourceError(f"{where!r} may not be read ({kind}); check what access={self._call} refers to")
        if kind in ("NotFoundError", "FileNotFoundError"):
            return SourceNotFound(f"no such file or bucket: {where!r}; mend the address")
        if kind in ("ValueError", "InvalidPathError"):
            return SourceError(
                f"{where!r} can't be read: it, or an object in it, has an empty part, '.' or '..' in its name, such as "
                "a//b; rename it"
            )
        return SourceError(
            f"{where!r} can't be read ({kind}); check bucket, endpoint and credentials: access={self._call}"
        )


def filled(download: Callable[[BinaryIO], None]) -> BinaryIO:
    """A file for what is downloaded; who reads it closes it, and it is gone."""
    with ExitStack() as unless_filled:
        file = unless_filled.enter_context(SpooledTemporaryFile(_IN_MEMORY_BYTES))
        download(cast(BinaryIO, file))
        file.seek(0)
        unless_filled.pop_all()
    return cast(BinaryIO, file)


def _quoted(tag: str | None) -> str | None:
    """*tag* as headers write it: Azure's lists leave the quotes out."""
    return tag if not tag or tag.endswith('"') else f'"{tag}"'


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
