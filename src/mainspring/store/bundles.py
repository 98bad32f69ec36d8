"""Bundles: signed folders, each named by its digest. Nothing in one is used before its signature and bytes hold."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from blake3 import blake3

from mainspring.core.declarations import Roles
from mainspring.core.errors import BundleChanged, BundleError, NotInStore
from mainspring.core.schema import Schema
from mainspring.core.values import Task
from mainspring.store import durable
from mainspring.store.home import Home
from mainspring.store.keys import Keys, Signature

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
CARD = "card.html"
"""The model card. It is made from the finished bundle: its last line is a signature of its own over bundle and card."""
FORMAT = "mainspring-bundle/1"
_UNSIGNED = frozenset({MANIFEST, SIGNATURE})
_ADDED_BY_MLFLOW = frozenset({"registered_model_meta"})
"""MLflow notes a registered version's name in the folder that it downloads; nobody reads it here."""
_SMALL = 4_000_000
_CARD_SIGNED = b"\n<!-- mainspring signature "


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle is and holds. Deterministic: no times, no paths of the machine that made it.

    classes: the target's classes, positive last (empty for regression). codes: the model's own classes in the order of
    its probabilities, as positions in *classes*. features: "module:qualname" of each features function in `code/`, in
    order. code: the package under which `code/` is imported. model_format: how the Python model is kept. user_types:
    types of the user's own code inside it. files: path -> BLAKE3 digest.
    """

    loop: str
    estimator: str
    parameters: Mapping[str, Any]
    task: Task
    classes: tuple[Any, ...]
    inputs: Schema
    roles: Roles
    metric: str
    score: float | None
    baseline: float | None
    codes: tuple[int, ...]
    unit: str | None
    runtime: Literal["onnx", "scikit-learn"]
    model_format: Literal["skops", "pickle", "onnx"]
    features: tuple[str, ...]
    code: str
    user_types: tuple[str, ...]
    libraries: Mapping[str, str]
    lineage: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def optional(self) -> frozenset[str]:
        """The inputs that no model reads where no features function does: key, time and group."""
        roles = (self.roles.key, self.roles.time, self.roles.group, self.roles.subject)
        return frozenset() if self.features else frozenset(name for name in roles if name)

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same manifest always gives the same bytes, whose digest names the bundle."""
        document = {"format": FORMAT, **asdict(self), "inputs": self.inputs.to_json()}
        return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """The manifest in *content*; raises BundleError when a newer mainspring wrote it."""
        document = json.loads(content)
        if document.pop("format", None) != FORMAT:
            raise BundleError("the bundle was written by another version of mainspring; package the model again")
        known = {entry.name for entry in fields(cls)}
        if set(document) != known:
            raise BundleError(
                f"the manifest has unknown or missing fields ({', '.join(sorted(known ^ set(document)))})"
            )
        roles = document["roles"]
        document["roles"] = Roles(**{**roles, "ignore": tuple(roles["ignore"])})
        document["inputs"] = Schema.from_json(document["inputs"])
        for name in ("classes", "codes", "features", "user_types", "notes"):
            document[name] = tuple(document[name])
        return cls(**document)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A bundle's folder whose signature and files have been verified; each read is verified again."""

    folder: Path
    digest: str
    manifest: Manifest
    signed_here: bool

    def read(self, name: str) -> bytes:
        """The bytes of file *name*, exactly those that were signed."""
        content = _content(self.folder, name)
        if blake3(content).hexdigest() != self.manifest.files.get(name):
            raise BundleChanged(f"{self.folder / name} isn't what was signed; package the model again")
        return content

    def __contains__(self, name: object) -> bool:
        return name in self.manifest.files


class Bundles:
    """The bundles of a home.

    >>> Bundles(home).manifest(digest).runtime                                                  # doctest: +SKIP
    'onnx'
    """

    def __init__(self, home: Home, keys: Keys | None = None) -> None:
        self.home = home
        self.keys = Keys() if keys is None else keys
        self._opened: dict[str, Sealed] = {}

    def add(self, folder: Path) -> str:
        """Sign the folder that `write_manifest` closed and move it, whole or not at all, to its digest's name."""
        content = _content(folder, MANIFEST)
        digest = blake3(content).hexdigest()
        (folder / SIGNATURE).write_text(json.dumps(self.keys.sign(content).to_json(), sort_keys=True, indent=1) + "\n")
        unseal(folder, self.keys)
        target = self._folder(digest)
        if target.exists():
            self._replace_damaged(target)
        if target.exists():
            shutil.rmtree(folder)
            return digest
        _sync(folder)
        _rename(folder, target)
        return digest

    def add_card(self, digest: str, page: bytes) -> None:
        """Put the model card *page* (HTML) into bundle *digest*; another one takes its place.

        It may be served already: whoever verifies it meanwhile, or after a crash, finds no unfinished file in it."""
        signature = json.dumps(self.keys.sign(_card_statement(digest, page)).to_json(), sort_keys=True)
        content = page + _CARD_SIGNED + signature.encode() + b" -->\n"
        durable.write(self.path(digest) / CARD, content, staging=self.home.folder("tmp"))

    def path(self, digest: str) -> Path:
        """The folder of bundle *digest*, verified (once in this process). Raises BundleChanged or BundleUntrusted."""
        return self.open(digest).folder

    def manifest(self, digest: str) -> Manifest:
        """What the bundle's manifest says, verified as `path` does."""
        return self.open(digest).manifest

    def open(self, digest: str) -> Sealed:
        """The verified bundle *digest*. Raises NotInStore, BundleChanged or BundleUntrusted."""
        if digest not in self._opened:
            folder = self._folder(digest)
            if not folder.is_dir():
                raise NotInStore(f"no bundle {digest} in {self.home.path}; run the loop again to make it")
            sealed = unseal(folder, self.keys)
            if sealed.digest != digest:
                raise BundleChanged(f"{folder} holds bundle {sealed.digest}, another one; put the right folder back")
            self._opened[digest] = sealed
        return self._opened[digest]

    def size_bytes(self, digest: str) -> int:
        """What the bundle's files take on disk."""
        return sum(entry.stat().st_size for entry in self.path(digest).rglob("*") if entry.is_file())

    def _folder(self, digest: str) -> Path:
        if not digest.isalnum():
            raise NotInStore(f"{digest!r} is no digest of a bundle; see `mainspring models`")
        return self.home.folder("bundles") / digest

    def _replace_damaged(self, target: Path) -> None:
        """A folder of this name that doesn't verify any more makes room for the sound one."""
        try:
            unseal(target, self.keys)
        except BundleError:
            shutil.rmtree(target)


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Close *folder*: write *manifest* with the digest of every file in it. The result is the bundle's digest."""
    files = {name: blake3(_content(folder, name)).hexdigest() for name in sorted(_listing(folder) - _UNSIGNED)}
    complete = Manifest(**{**{entry.name: getattr(manifest, entry.name) for entry in fields(manifest)}, "files": files})
    content = complete.to_bytes()
    (folder / MANIFEST).write_bytes(content)
    return blake3(content).hexdigest()


def unseal(folder: Path, keys: Keys) -> Sealed:
    """Verify the folder: first who signed, then which files lie there, then every byte. Nothing else is read before.

    Raises BundleUntrusted when nobody we trust signed it, BundleChanged when anything was changed, added or taken away.
    """
    signature, content = _signed(folder)
    try:
        keys.verify(content, signature)
    except BundleError as error:
        raise type(error)(f"bundle {folder}: {error}") from error
    manifest = Manifest.from_bytes(content)
    for fault in _faults(folder, manifest, blake3(content).hexdigest(), keys):
        raise BundleChanged(f"bundle {folder}: {fault}; package the model again")
    return Sealed(folder, blake3(content).hexdigest(), manifest, keys.signed_here(signature))


@dataclass(frozen=True, slots=True)
class Examined:
    """What is known of a bundle's folder. faults: what isn't as it was signed; empty where the bundle is sound.

    signer: the short name of the key that signed, `trusted`: whether it counts here. manifest: None where the signature
    doesn't hold, for then nothing more of the folder is read.
    """

    folder: Path
    signer: str
    trusted: bool
    signed_here: bool
    manifest: Manifest | None
    digest: str
    card: bool
    faults: tuple[str, ...]


def examine(folder: Path, keys: Keys) -> Examined:
    """Everything that isn't as it was signed, where `unseal` stops at the first. Raises NotInStore for no bundle."""
    if not (folder / MANIFEST).is_file() and not (folder / SIGNATURE).is_file():
        raise NotInStore(f"{folder} is no bundle: it has neither {MANIFEST} nor {SIGNATURE}")
    try:
        signature, content = _signed(folder)
    except BundleChanged as error:
        return Examined(folder, "", False, False, None, "", False, (str(error),))
    signer, digest = signature.signer, blake3(content).hexdigest()
    trusted, here = signature.key in keys.trusted(), keys.signed_here(signature)
    try:
        keys.verify(content, signature)
        manifest = Manifest.from_bytes(content)
    except BundleError as error:
        return Examined(folder, signer, trusted, here, None, digest, False, (str(error),))
    faults: tuple[str, ...] = ()
    try:
        for fault in _faults(folder, manifest, digest, keys):
            faults += (fault,)
    except BundleChanged as error:  # a link or a pipe: the rest isn't looked at
        faults += (str(error),)
    return Examined(folder, signer, trusted, here, manifest, digest, (folder / CARD).is_file(), faults)


def _signed(folder: Path) -> tuple[Signature, bytes]:
    signature = Signature.from_json(_parsed(folder / SIGNATURE, _content(folder, SIGNATURE, limit=_SMALL)))
    return signature, _content(folder, MANIFEST, limit=_SMALL)


def _faults(folder: Path, manifest: Manifest, digest: str, keys: Keys) -> Iterator[str]:
    """What of the folder isn't as it was signed, names before contents."""
    there = _listing(folder) - _UNSIGNED - _ADDED_BY_MLFLOW
    card, listed = there & {CARD}, set(manifest.files)
    there = {name for name in there if not (name.endswith("/") and any(each.startswith(name) for each in listed))}
    yield from (f"{name} is missing since it was signed" for name in sorted(listed - there))
    yield from (f"{name} was added since it was signed" for name in sorted(there - listed - card))
    if card and not _card_holds(_content(folder, CARD), digest, keys):
        yield f"the model card {CARD} was changed or added after signing"
    for name in sorted(listed & there):
        if blake3(_content(folder, name)).hexdigest() != manifest.files[name]:
            yield f"{name} was changed after signing"


def _card_holds(content: bytes, digest: str, keys: Keys) -> bool:
    """Whether somebody we trust signed exactly this card, as one of bundle *digest*."""
    page, _, last = content.rpartition(_CARD_SIGNED)
    try:
        keys.verify(_card_statement(digest, page), Signature.from_json(json.loads(last.removesuffix(b" -->\n"))))
    except (BundleError, ValueError, RecursionError):
        return False
    return last.endswith(b" -->\n")


def _card_statement(digest: str, page: bytes) -> bytes:
    return f"card of {digest}: {blake3(page).hexdigest()}".encode()


def _listing(folder: Path) -> set[str]:
    """The files below *folder*, and with a / behind them the empty folders; anything that is neither a plain file nor a
    folder (a link, a pipe) is refused."""
    names = set()
    for place, folders, files in os.walk(folder):
        if not folders and not files:
            names.add(f"{Path(place).relative_to(folder).as_posix()}/")
        for name in (*folders, *files):
            path = Path(place, name)
            kind = path.lstat().st_mode
            if stat.S_ISREG(kind):
                names.add(path.relative_to(folder).as_posix())
            elif not stat.S_ISDIR(kind):
                raise BundleChanged(f"{path} is a link or a device; a bundle holds plain files only")
    return names


def _content(folder: Path, name: str, limit: int | None = None) -> bytes:
    path = folder / name
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or (limit and path.lstat().st_size > limit):
            raise BundleChanged(f"{path} isn't a plain file of a bundle; package the model again")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleChanged(f"bundle {folder}: {name} is missing; package the model again") from error


def _parsed(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleChanged(f"{path} isn't JSON any more; package the model again") from error


def _sync(folder: Path) -> None:
    """Make every file and name below *folder* durable."""
    for place, _, files in os.walk(folder):
        for name in files:
            durable.sync(Path(place, name))
        durable.sync(Path(place))


def _rename(folder: Path, target: Path) -> None:
    """Move *folder* to *target*; when another process was first with the same bundle, its folder stays."""
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(folder)
    durable.sync(target.parent)
