"""What `mainspring verify` says of a bundle: who signed it, and what isn't as it was signed."""

from __future__ import annotations

from pathlib import Path

from mainspring.app import config, document
from mainspring.core.errors import NotInStore, UsageError
from mainspring.loop.champion import current
from mainspring.store.bundles import Examined, examine
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.keys import Keys


def verify(home: str | None, *, bundle: str, as_json: bool) -> int:
    """Print what is known of *bundle*, a version or a folder. The exit code: 0 where all is as it was signed."""
    found = examine(_folder(home, bundle), Keys())
    if as_json:
        told = {name: getattr(found, name) for name in ("digest", "signer", "trusted", "signed_here", "card", "faults")}
        loop = None if found.manifest is None else found.manifest.loop
        files = None if found.manifest is None else len(found.manifest.files)
        document.one(
            "verify", "failed" if found.faults else "done", folder=found.folder, loop=loop, files=files, **told
        )
    else:
        print(*_lines(found), sep="\n")
    return 1 if found.faults else 0


def _lines(found: Examined) -> list[str]:
    if found.manifest is None:
        return [f"{found.folder} is refused, and nothing more of it was read", *(f"- {why}" for why in found.faults)]
    whose = "this installation" if found.signed_here else f"{found.signer}, whom this installation trusts"
    card = "with its model card" if found.card else "without a model card"
    if not found.faults:
        count = len(found.manifest.files)
        return [f"ok: {found.folder} holds {found.manifest.loop}, {count} files {card}, as signed by {whose}"]
    return [f"{found.folder} isn't what {whose} signed; package the model again", *(f"- {why}" for why in found.faults)]


def _folder(home: str | None, bundle: str) -> Path:
    """The folder that *bundle* names: itself, or that of a loop's champion or version."""
    if Path(bundle).is_dir():
        return Path(bundle)
    name, _, number = bundle.partition("@")
    path = config.read(home=home).home
    if "/" in bundle or not path.is_dir():
        raise NotInStore(f"{bundle!r} is no folder, and {path} is no home that could have a loop of that name")
    if number and not number.isdigit():
        raise UsageError(f"{bundle!r}: the version after @ must be a number, such as {name}@3")
    store = Home.open(path)
    version = Deployments(store).version(name, int(number)) if number else current(store, name)
    return store.folder("bundles") / version.digest
