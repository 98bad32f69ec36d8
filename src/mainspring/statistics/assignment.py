"""Which units a release takes: sticky, by a salted hash."""

from __future__ import annotations

from hashlib import blake2b


def assigned(salt: str, unit: str, share: float) -> bool:
    """Whether *unit* is among the *share* (0 to 1) of the units that *salt* picks; a growing share keeps every unit.

    >>> [assigned("salt", unit, 0.5) for unit in ("ada", "bob", "eve")]
    [True, False, False]
    """
    return position(salt, unit) < share


def position(salt: str, unit: str) -> float:
    """Where *unit* stands in [0, 1): the same for ever, independent between salts."""
    digest = blake2b(f"{salt}:{unit}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
