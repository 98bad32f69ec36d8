"""How object stores are reached, as a user declares it: those that speak S3, Google Cloud Storage, Azure's blobs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mainspring.core.errors import DeclarationError


def check_reference(argument: str, value: str | None) -> None:
    """A secret stands in a declaration only by reference; the message never repeats what was given instead."""
    if value is not None and not re.match(r"(env|file):.", str(value)):
        raise DeclarationError(
            f"{argument} must be a reference, such as 'env:NAME' or 'file:PATH', not the value itself"
        )


@dataclass(frozen=True, slots=True)
class S3:
    """How an object store that speaks S3 is reached; what is left out comes from the usual AWS_ variables.

    endpoint: of a store that isn't Amazon's, such as "http://localhost:9000". access_key, secret_key, token:
    references, "env:NAME" or "file:PATH". anonymous: read a public bucket without a signature.
    """

    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    token: str | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        for name in ("access_key", "secret_key", "token"):
            check_reference(f"S3({name}=...)", getattr(self, name))


@dataclass(frozen=True, slots=True)
class Gcs:
    """How Google Cloud Storage is reached; what is left out comes from the usual GOOGLE_ variables, or the machine's
    own account.

    service_account: a reference to the JSON of its key, "env:NAME" or "file:PATH". anonymous: read a public bucket
    without a signature. endpoint: of an emulator, such as "http://localhost:4443".
    """

    service_account: str | None = None
    anonymous: bool = False
    endpoint: str | None = None

    def __post_init__(self) -> None:
        check_reference("Gcs(service_account=...)", self.service_account)
        if self.anonymous and self.service_account is not None:
            raise DeclarationError("Gcs has service_account and anonymous; a store is told in one way who asks")


@dataclass(frozen=True, slots=True)
class Azure:
    """How containers of Azure Blob Storage are reached, by at most one way to say who asks; what is left out comes from
    the usual AZURE_ variables, or the machine's own identity.

    account: the storage account. key: its access key; sas: a shared access signature; client: (tenant, client id,
    client secret). Keys, signatures and client secrets are references, "env:NAME" or "file:PATH". anonymous: read a
    public container. endpoint: of an emulator or another cloud, such as "http://localhost:10000/devstoreaccount1".
    """

    account: str | None = None
    key: str | None = None
    sas: str | None = None
    client: tuple[str, str, str] | None = None
    anonymous: bool = False
    endpoint: str | None = None

    def __post_init__(self) -> None:
        ways = [name for name in ("key", "sas", "client", "anonymous") if getattr(self, name)]
        if len(ways) > 1:
            raise DeclarationError(f"Azure has {' and '.join(ways)}; a store is told in one way who asks")
        check_reference("Azure(key=...)", self.key)
        check_reference("Azure(sas=...)", self.sas)
        if self.client is not None and (not isinstance(self.client, tuple) or len(self.client) != 3):
            raise DeclarationError("Azure(client=...) must be (tenant, client id, client secret), the last a reference")
        check_reference("Azure(client=...)", None if self.client is None else self.client[-1])


ObjectStore = S3 | Gcs | Azure
