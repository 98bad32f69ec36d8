"""Documents: plain values and mainspring's dataclasses as canonical JSON. What isn't plain becomes a named leaf.

A JSON object with a "$" is no dict: its "$" says what it stands for (tuple, set, time, enum, record ...).
"""

from __future__ import annotations

import importlib
import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from blake3 import blake3

from mainspring.core.errors import HomeDamaged

Node = Any
"""What `json` reads and writes."""

_PLAIN = frozenset([type(None), bool, int, float, str])
_OURS = "mainspring."
_TEXTS: dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    date: ("date", date.isoformat, date.fromisoformat),
    time: ("time", time.isoformat, time.fromisoformat),
    Decimal: ("decimal", str, Decimal),
    complex: ("complex", repr, complex),
    bytes: ("raw", bytes.hex, bytes.fromhex),
}
_PARSERS: dict[str, Callable[[str], Any]] = {tag: parse for tag, _, parse in _TEXTS.values()}
_COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}


def encode(value: Any, leaf: Callable[[Any], Node]) -> Node:
    """*value* as a document; *leaf* gives the node of what is neither plain nor a dataclass of mainspring's."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return value if _PLAIN.issuperset(map(type, value)) else [encode(item, leaf) for item in value]
    if kind is dict:
        return _encode_dict(value, leaf)
    if kind is tuple:
        return {"$": "tuple", "items": encode(list(value), leaf)}
    if kind in (set, frozenset):
        return {"$": kind.__name__, "items": sorted((encode(item, leaf) for item in value), key=json.dumps)}
    if kind in _TEXTS:
        tag, write, _ = _TEXTS[kind]
        return {"$": tag, "text": write(value)}
    return _encode_other(value, kind, leaf)


def decode(node: Node, leaf: Callable[[dict[str, Any]], Any]) -> Any:
    """The value of a document; *leaf* gives the value of a node that `encode`'s leaf gave."""
    kind = type(node)
    if kind is list:
        return node if _PLAIN.issuperset(map(type, node)) else [decode(item, leaf) for item in node]
    if kind is not dict:
        return node
    tag = node.get("$")
    if tag is None:
        return {key: decode(item, leaf) for key, item in node.items()}
    if tag == "dict":
        return {decode(key, leaf): decode(item, leaf) for key, item in node["items"]}
    if tag in _COLLECTIONS:
        return _COLLECTIONS[tag](decode(node["items"], leaf))
    if tag in _PARSERS:
        return _PARSERS[tag](node["text"])
    if tag in ("bytes", "object"):
        return leaf(node)
    return _decode_other(tag, node, leaf)


def embedded(node: dict[str, Any]) -> bytes:
    """The bytes that stand in the document itself."""
    return b64decode(node["content"])


def _encode_dict(value: dict[Any, Any], leaf: Callable[[Any], Node]) -> Node:
    if "$" not in value and all(type(key) is str for key in value):
        return {key: encode(item, leaf) for key, item in value.items()}
    return {"$": "dict", "items": [[encode(key, leaf), encode(item, leaf)] for key, item in value.items()]}


def _encode_other(value: Any, kind: type, leaf: Callable[[Any], Node]) -> Node:
    if kind is datetime:
        return _encode_datetime(value, leaf)
    if kind is timedelta:
        return {"$": "timedelta", "parts": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, Path) and kind is type(Path()):
        return {"$": "path", "text": str(value), **_behind(value)}
    if not kind.__module__.startswith(_OURS) or "." in kind.__qualname__:
        return leaf(value)
    if isinstance(value, Enum):
        return {"$": "enum", "class": _path(kind), "name": value.name}
    if is_dataclass(value):
        kept = {each.name: encode(getattr(value, each.name), leaf) for each in fields(value)}
        return {"$": "record", "class": _path(kind), "fields": kept}
    return leaf(value)


def _behind(path: Path) -> dict[str, str]:
    """What tells a file from the same path with another content; nothing of a folder, or of what isn't there."""
    try:
        return {"file": blake3().update_mmap(path).hexdigest()} if path.is_file() else {}
    except OSError:
        return {}


def _encode_datetime(value: datetime, leaf: Callable[[Any], Node]) -> Node:
    if value.tzinfo is not None:
        from zoneinfo import ZoneInfo  # here and below: most values have none

        if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key:
            zone = value.tzinfo.key
            return {"$": "datetime", "text": value.replace(tzinfo=None).isoformat(), "zone": zone, "fold": value.fold}
    return {"$": "datetime", "text": value.isoformat()} if value.fold == 0 else leaf(value)


def _decode_other(tag: str, node: dict[str, Any], leaf: Callable[[dict[str, Any]], Any]) -> Any:
    if tag == "datetime":
        moment = datetime.fromisoformat(node["text"])
        if "zone" not in node:
            return moment
        from zoneinfo import ZoneInfo

        return moment.replace(tzinfo=ZoneInfo(node["zone"]), fold=node["fold"])
    if tag == "timedelta":
        return timedelta(*node["parts"])
    if tag == "path":
        return Path(node["text"])
    if tag == "enum":
        return _class(node["class"], Enum)[node["name"]]
    if tag == "record":
        return _record(node, leaf)
    raise HomeDamaged(f"a document holds {tag!r}, which this version doesn't know; upgrade, or run the step again")


def _record(node: dict[str, Any], leaf: Callable[[dict[str, Any]], Any]) -> Any:
    """The dataclass as it was: its fields are set, its checks at construction have been passed before."""
    kind: Any = _class(node["class"], object)
    names = [each.name for each in fields(kind)] if is_dataclass(kind) else None
    if names != list(node["fields"]):
        raise HomeDamaged(f"{node['class']} has other fields than when it was kept; run the step that made it again")
    value = object.__new__(kind)
    for name, kept in node["fields"].items():
        object.__setattr__(value, name, decode(kept, leaf))
    return value


def _class(path: str, parent: type) -> Any:
    """A class of mainspring's own; no document can name another."""
    module, _, name = path.partition(":")
    if not module.startswith(_OURS) or not name.isidentifier():
        raise HomeDamaged(f"a document names the class {path!r}, which is not mainspring's; it isn't loaded")
    kind = getattr(importlib.import_module(module), name, None)
    if not isinstance(kind, type) or not issubclass(kind, parent) or kind.__module__ != module:
        raise HomeDamaged(
            f"a document names {path!r}, which this version doesn't have; run the step that made it again"
        )
    return kind


def _path(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"
