"""The contract of a format for a type of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mainspring.store import formats


def check_format(kind: type, values: Sequence[Any], same: Callable[[Any, Any], bool] | None = None) -> None:
    """The format that was registered for *kind* gives each of *values* back, with equal bytes for equal values.

    values: at least two that differ. same: whether two values are equal (`==` unless told). Raises AssertionError.

    >>> from fractions import Fraction
    >>> import mainspring
    >>> def read(content: bytes) -> Fraction:
    ...     return Fraction(content.decode())
    >>> mainspring.register_format(Fraction, "fraction", lambda value: str(value).encode(), read)
    >>> check_format(Fraction, [Fraction(1, 3), Fraction(2)])
    """
    found = formats.registered(kind)
    if found is None:
        raise AssertionError(f"{kind.__name__} has no format; call mainspring.register_format beside the class")
    if len(values) < 2:
        raise AssertionError(f"{len(values)} value shows little; give at least 2 that differ")
    contents = [_written(found, value, same or _equal) for value in values]
    for place, (value, content) in enumerate(zip(values, contents, strict=True)):
        twin = next((other for other in range(place) if contents[other] == content), None)
        if twin is not None and not (same or _equal)(values[twin], value):
            raise AssertionError(f"{found.suffix}: values {twin} and {place} differ but have the same bytes")
    _check_damage(found, max(contents, key=len))


def _written(found: formats.Format, value: Any, same: Callable[[Any, Any], bool]) -> bytes:
    content = found.write(value)
    if not isinstance(content, bytes):
        raise AssertionError(f"{found.suffix}: write= gave {type(content).__name__}; return bytes")
    if found.write(value) != content:
        raise AssertionError(
            f"{found.suffix}: write= gave other bytes for the same value; leave out times and addresses"
        )
    back = found.read(content)
    if not isinstance(back, found.type):
        raise AssertionError(f"{found.suffix}: read= gave {type(back).__name__}, not {found.type.__name__}")
    if not same(back, value):
        raise AssertionError(f"{found.suffix}: read= gave {back!r} for {value!r}")
    if found.write(back) != content:
        raise AssertionError(
            f"{found.suffix}: a value that was read back has other bytes than the fresh one, so every reload would "
            f"count as a change; write the parts in a fixed order"
        )
    return content


def _check_damage(found: formats.Format, content: bytes) -> None:
    """Bytes are checked by their digest before they are read; still nothing but an exception may come of others."""
    for damaged in (b"", content[: len(content) // 2], b"\xff" * len(content)):
        try:
            found.read(damaged)
        except Exception:
            continue


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other)
