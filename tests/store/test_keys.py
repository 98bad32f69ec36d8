"""The installation's key: made once, private, and the only one trusted until told otherwise."""

from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mainspring.core.errors import BundleChanged, BundleUntrusted, StoreError
from mainspring.store.keys import SECRET, Keys, Signature
from mainspring.store.places import configuration


def test_a_key_is_made_on_first_use_for_its_owner_only(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "config" / "mainspring")

    signature = keys.sign(b"content")

    assert stat.S_IMODE((keys.folder / SECRET).stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    keys.verify(b"content", signature)
    assert Keys(keys.folder).sign(b"content") == signature and keys.signed_here(signature)


def test_those_who_come_at_once_use_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        publics = set(pool.map(lambda _: Keys(tmp_path / "k").public, range(16)))

    code = (
        "import sys; from pathlib import Path; from mainspring.store.keys import Keys\n"
        "print(Keys(Path(sys.argv[1])).public)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "p")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {process.communicate()[0] for process in processes}

    assert len(publics) == 1 and len(said) == 1 and said != {""}
    assert [file.name for file in (tmp_path / "k").iterdir()] == [SECRET]


def test_other_content_doesnt_verify(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    signature = keys.sign(b"content")

    with pytest.raises(BundleChanged, match="changed after signing"):
        keys.verify(b"contents", signature)
    with pytest.raises(BundleChanged):
        keys.verify(b"content", replace(signature, proof=keys.sign(b"other").proof))


def test_a_stranger_is_trusted_once_their_key_is_put_there(tmp_path: Path) -> None:
    ours, theirs = Keys(tmp_path / "ours"), Keys(tmp_path / "theirs")
    signature = theirs.sign(b"content")

    with pytest.raises(BundleUntrusted, match=signature.signer) as refused:
        ours.verify(b"content", signature)
    file = Path(str(refused.value).rpartition("into ")[2])
    file.parent.mkdir(parents=True)
    file.write_text(theirs.public + "\n")

    ours.verify(b"content", signature)
    assert not ours.signed_here(signature)


def test_verifying_makes_no_key(tmp_path: Path) -> None:
    signature = Keys(tmp_path / "theirs").sign(b"content")

    with pytest.raises(BundleUntrusted):
        Keys(tmp_path / "ours").verify(b"content", signature)

    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    "fields", [None, [], {}, {"algorithm": "none"}, {"algorithm": "ed25519", "key": "é", "proof": "="}]
)
def test_what_is_no_signature_is_refused(fields: object) -> None:
    with pytest.raises(BundleChanged):
        Signature.from_json(fields)


def test_a_damaged_key_is_named_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / SECRET).write_text("nonsense")

    with pytest.raises(StoreError, match=r"signing\.key is not a signing key"):
        Keys(tmp_path).sign(b"content")

    assert (tmp_path / SECRET).read_text() == "nonsense"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # root may write anywhere, but not below a file

    with pytest.raises(StoreError, match=r"make .* writable"):
        Keys(tmp_path / "file" / "mainspring").sign(b"content")


def test_the_users_configuration_folder_holds_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert configuration() == tmp_path / "mainspring"

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert configuration() == tmp_path / ".config" / "mainspring"
