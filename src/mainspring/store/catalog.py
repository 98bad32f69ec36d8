"""The catalog: values as artifacts, in the format that follows their type, and back.

Plain values and mainspring's own dataclasses become a JSON document; frames, arrays and foreign objects in it become
objects of their own that the document names. Nothing here runs code from a file: an object without a format is a
pickle that this home has signed, and a signature is checked before anything is unpickled.
"""

from __future__ import annotations

import json
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from mainspring.core.errors import HomeDamaged, MainspringError
from mainspring.store import documents, formats
from mainspring.store.files import Files
from mainspring.store.formats import Written
from mainspring.store.home import Home
from mainspring.store.pickles import Key

DOCUMENT = "json"
_INLINE_BYTES = 1024
_KEPT_BYTES = 16 * 1024
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
_warned: set[type] = set()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A kept value. content: a small document, kept by whoever keeps the artifact; else the object store has it.
    names: the classes and functions that it holds, whose code isn't in it; see `contents`."""

    digest: str
    format: str
    content: str | None = None
    names: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        kept: dict[str, Any] = {"digest": self.digest, "format": self.format}
        if self.content is not None:
            kept["content"] = self.content
        if self.names:
            kept["names"] = self.names
        return kept

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Artifact:
        return cls(kept["digest"], kept["format"], kept.get("content"), tuple(kept.get("names", ())))


class Catalog:
    """Saves and loads the values of one home.

    Equal values of the same types have equal digests. A value comes back as it was: tuples as tuples, dates as dates.
    """

    def __init__(self, home: Home) -> None:
        self.files = Files(home)
        self._key = Key(home)

    def write(self, value: Any, *, warn: bool = True) -> tuple[Artifact, list[str]]:
        """Keep *value* for every reader; also gives the digests of its objects: `Files.sync` makes them durable. Raises
        StoreError for one that can't be kept.

        warn: tell of a type that is kept as a pickle.
        """
        artifact, blobs = self._encode(value, _warn if warn else None)
        return artifact, [self.files.write(blob) for blob in blobs]

    def artifact(self, value: Any) -> Artifact:
        """What *value* would be kept as; nothing is written."""
        return self._encode(value)[0]

    def digest(self, value: Any) -> str:
        """The digest that *value* would be kept under."""
        return self.artifact(value).digest

    def load(self, artifact: Artifact) -> Any:
        """The value of *artifact*, checked. Raises HomeDamaged or NotInStore when it must be made again."""
        if artifact.format != DOCUMENT:
            return self._foreign(artifact.format, self.files.view(artifact.digest))
        node = self._document(artifact)
        try:
            return documents.decode(node, self._leaf)
        except MainspringError:
            raise
        except Exception as error:
            raise _unreadable(artifact, error) from error

    def sound(self, artifact: Artifact) -> bool:
        """Whether *artifact* and all that it names are there and undamaged."""
        if artifact.format != DOCUMENT:
            return self.files.sound(artifact.digest)
        try:
            node = self._document(artifact)
        except MainspringError:
            return False
        return all(self.files.sound(digest) for digest in _objects(node))

    def objects(self, artifact: Artifact) -> frozenset[str]:
        """The digests of the objects that *artifact* needs."""
        if artifact.format != DOCUMENT:
            return frozenset([artifact.digest])
        own = [] if artifact.content is not None else [artifact.digest]
        return frozenset([*own, *_objects(self._document(artifact))])

    def gather(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, list[str]]:
        """The artifact of the list of these artifacts' values; what `write` gives for the list."""
        nodes = [
            self._document(artifact) if artifact.format == DOCUMENT else _named(artifact.format, artifact.digest)
            for artifact in artifacts
        ]
        artifact, blobs = _document_artifact(nodes, {name for artifact in artifacts for name in artifact.names})
        return artifact, [self.files.write(blob) for blob in blobs]

    def _encode(self, value: Any, pickled: Callable[[Any, str], None] | None = None) -> tuple[Artifact, list[bytes]]:
        """The artifact of *value* and its objects. pickled: is told what has no format, and why."""
        leaves: list[Written] = []
        node = documents.encode(value, lambda leaf: self._reference(leaf, leaves, pickled))
        if not leaves:
            return _document_artifact(node)
        names = {name for leaf in leaves for name in leaf.names}
        blobs = [leaf.content for leaf in leaves if len(leaf.content) > _INLINE_BYTES]
        if _is_object(node):
            return Artifact(node["digest"], node["format"], names=tuple(sorted(names))), blobs
        artifact, own = _document_artifact(node, names)
        return artifact, [*blobs, *own]

    def _reference(
        self, value: Any, leaves: list[Written], pickled: Callable[[Any, str], None] | None
    ) -> documents.Node:
        leaf = formats.write(value, self._key)
        leaves.append(leaf)
        if leaf.why and pickled is not None:
            pickled(value, leaf.why)
        if len(leaf.content) <= _INLINE_BYTES:
            return {"$": "bytes", "format": leaf.format, "content": b64encode(leaf.content).decode()}
        return _named(leaf.format, blake3(leaf.content).hexdigest())

    def _document(self, artifact: Artifact) -> documents.Node:
        if artifact.content is None:
            text: str | bytes = self.files.read(artifact.digest)
        else:
            text = artifact.content
            if blake3(text.encode()).hexdigest() != artifact.digest:
                raise HomeDamaged(
                    f"artifact {artifact.digest[:12]} was changed or damaged; run the step that made it again"
                )
        try:
            return json.loads(text)
        except ValueError as error:
            raise _unreadable(artifact, error) from error

    def _leaf(self, node: dict[str, Any]) -> Any:
        content = documents.embedded(node) if node["$"] == "bytes" else self.files.view(node["digest"])
        return self._foreign(node["format"], content)

    def _foreign(self, format: str, content: formats.Buffer) -> Any:
        return formats.read(format, content, self._key)


def _document_artifact(node: documents.Node, names: Iterable[str] = ()) -> tuple[Artifact, list[bytes]]:
    text = _ENCODE(node)
    content = text.encode()
    digest = blake3(content).hexdigest()
    if len(content) <= _KEPT_BYTES:
        return Artifact(digest, DOCUMENT, text, tuple(sorted(names))), []
    return Artifact(digest, DOCUMENT, None, tuple(sorted(names))), [content]


def _warn(value: Any, reason: str) -> None:
    """Once per type: a pickle is for this home and this version of its class only."""
    kind = type(value)
    if kind in _warned:
        return
    _warned.add(kind)
    warnings.warn(
        f"{kind.__module__}.{kind.__qualname__} is kept as a pickle that only this home reads, while its class stays "
        f"as it is ({reason}); return plain values, frames or arrays, or give the type a format: "
        f"mainspring.register_format({kind.__name__}, ...)",
        stacklevel=4,
    )


def _named(format: str, digest: str) -> dict[str, Any]:
    return {"$": "object", "format": format, "digest": digest}


def _is_object(node: documents.Node) -> bool:
    return isinstance(node, dict) and node.get("$") == "object"


def _objects(node: documents.Node) -> Iterator[str]:
    """The digests of all objects that a document names."""
    ahead: list[Any] = [node]
    while ahead:
        at = ahead.pop()
        if isinstance(at, dict) and at.get("$") == "object":
            yield at["digest"]
        elif isinstance(at, dict | list):
            inner: Iterable[Any] = at.values() if isinstance(at, dict) else at
            ahead.extend(part for part in inner if isinstance(part, dict | list))


def _unreadable(artifact: Artifact, error: Exception) -> HomeDamaged:
    return HomeDamaged(
        f"artifact {artifact.digest[:12]} can't be read by this version ({type(error).__name__}: {error}); "
        f"run the step that made it again"
    )
