"""The object store: whole or not there, and damage is seen."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core.errors import HomeDamaged, NotInStore, StoreError
from mainspring.store.files import Files
from mainspring.store.home import Home


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(Home.open(tmp_path / ".mainspring"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(content=st.binary(max_size=300))
def test_content_comes_back_by_its_digest(files: Files, content: bytes) -> None:
    digest = files.write(content)

    assert digest == blake3(content).hexdigest()
    assert files.read(digest) == content and files.path(digest).read_bytes() == content
    assert files.sound(digest)


def test_a_file_is_copied_and_stays(files: Files, tmp_path: Path) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(os.urandom(3_000_000))

    digest = files.write(source)

    assert files.read(digest) == source.read_bytes()
    assert list((tmp_path / ".mainspring" / "tmp").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"other", b"0" * 5])
def test_damage_is_noticed_and_healed_by_putting_again(files: Files, damage: bytes) -> None:
    digest = files.write(b"value")
    files.path(digest).write_bytes(damage)

    assert not files.sound(digest)
    with pytest.raises(HomeDamaged, match="changed or damaged; run the step"):
        files.read(digest)
    assert files.write(b"value") == digest and files.read(digest) == b"value"


def test_what_isnt_there_is_said_so(files: Files) -> None:
    with pytest.raises(NotInStore, match="isn't in"):
        files.read(blake3(b"nowhere").hexdigest())
    assert not files.sound(blake3(b"nowhere").hexdigest())


@pytest.mark.parametrize("name", ["../id", "", "x" * 64, "A" * 64, "abc"])
def test_a_name_that_is_no_digest_reaches_no_file(files: Files, name: str) -> None:
    with pytest.raises(NotInStore, match="no digest"):
        files.path(name)


def test_a_source_that_fails_leaves_nothing_behind(files: Files, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't be written"):
        files.write(tmp_path / "missing")
    assert list(files.folder.iterdir()) == [] and list((tmp_path / ".mainspring" / "tmp").iterdir()) == []


def test_only_old_leftovers_are_swept(files: Files, tmp_path: Path) -> None:
    old, young = (tmp_path / ".mainspring" / "tmp" / name for name in ("object-old", "object-young"))
    old.write_bytes(b""), young.write_bytes(b"")
    os.utime(old, (time.time() - 200_000,) * 2)

    files.sweep()

    assert not old.exists() and young.exists()


def test_sweeping_and_writing_at_once_disturb_nobody(files: Files) -> None:
    contents = [number.to_bytes(4, "big") * 500 for number in range(1500)]
    errors: list[BaseException] = []

    def write(part: list[bytes]) -> None:
        try:
            assert all(files.write(content) == blake3(content).hexdigest() for content in part)
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(contents[first::2],)) for first in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        files.sweep()
    for writer in writers:
        writer.join()

    assert not errors and all(files.sound(blake3(content).hexdigest()) for content in contents)
