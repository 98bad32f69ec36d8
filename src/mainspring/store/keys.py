"""This installation's signing key, and the public keys it trusts beside its own."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mainspring.core.errors import BundleChanged, BundleUntrusted, StoreError
from mainspring.store import durable
from mainspring.store.places import configuration

SECRET = "signing.key"


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signed, and the proof, as base64. key: the public key."""

    key: str
    proof: str

    @property
    def signer(self) -> str:
        """A short name of the signing key, the stem of its file in `trusted/`."""
        return blake3(_decoded(self.key)).hexdigest(length=8)

    def to_json(self) -> dict[str, Any]:
        return {"algorithm": "ed25519", "key": self.key, "proof": self.proof}

    @classmethod
    def from_json(cls, fields: Any) -> Signature:
        """The signature in *fields*. Raises BundleChanged when they aren't one."""
        if not isinstance(fields, dict) or fields.get("algorithm") != "ed25519":
            raise BundleChanged("the signature is not an ed25519 signature; package the model again")
        signature = cls(str(fields.get("key")), str(fields.get("proof")))
        _decoded(signature.key), _decoded(signature.proof)
        return signature


class Keys:
    """The Ed25519 key in *folder*, made on first use and readable by its owner only; `trusted/` beside it.

    folder: the user's configuration folder for mainspring, unless told.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = configuration() if folder is None else folder

    def sign(self, content: bytes) -> Signature:
        """Sign *content*; makes the key when there is none yet."""
        return Signature(self.public, _encoded(self._secret.sign(content)))

    def verify(self, content: bytes, signature: Signature) -> None:
        """Return when someone we trust signed exactly *content*; raises BundleUntrusted or BundleChanged otherwise."""
        if signature.key not in self.trusted():
            raise BundleUntrusted(
                f"signed by {signature.signer}, whom this installation doesn't trust; if you know the signer, "
                f"put their public key {signature.key} into {self.folder / 'trusted' / (signature.signer + '.pub')}"
            )
        try:
            Ed25519PublicKey.from_public_bytes(_decoded(signature.key)).verify(_decoded(signature.proof), content)
        except (InvalidSignature, ValueError) as error:
            raise BundleChanged(
                "the signature doesn't fit the manifest: it was changed after signing; package the model again"
            ) from error

    def signed_here(self, signature: Signature) -> bool:
        """Whether this very installation is the signer: what a pickle needs to be loaded."""
        return (self.folder / SECRET).exists() and signature.key == self.public

    @property
    def public(self) -> str:
        """This installation's public key, to be put into others' `trusted/`."""
        return _encoded(self._secret.public_key().public_bytes_raw())

    def trusted(self) -> frozenset[str]:
        """The public keys whose signature counts: our own and those in `trusted/`."""
        own = {self.public} if (self.folder / SECRET).exists() else set()
        return frozenset(own | {file.read_text().strip() for file in (self.folder / "trusted").glob("*.pub")})

    @cached_property
    def _secret(self) -> Ed25519PrivateKey:
        path = self.folder / SECRET
        if not path.exists():
            _make(path)
        try:
            return Ed25519PrivateKey.from_private_bytes(base64.b64decode(path.read_text(), validate=True))
        except (ValueError, OSError) as error:
            raise StoreError(
                f"{path} is not a signing key ({error}); restore it, or move it away for a new one"
            ) from error


def _make(path: Path) -> None:
    """A new key at *path*; of two processes that come at once one wins and both use its key."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = _encoded(Ed25519PrivateKey.generate().private_bytes_raw())
        durable.claim(path, made.encode(), mode=0o600)
    except OSError as error:
        raise StoreError(
            f"no signing key can be made at {path} ({error.strerror}); make {path.parent} writable"
        ) from error


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise BundleChanged("the signature is not base64; package the model again") from error
