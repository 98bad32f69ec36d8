"""A bundle that was touched after signing is refused before anything in it is used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mainspring.core.declarations import Roles
from mainspring.core.errors import BundleChanged, BundleError, BundleUntrusted, NotInStore
from mainspring.core.schema import Column, Schema, Type
from mainspring.store.bundles import CARD, MANIFEST, SIGNATURE, Bundles, Manifest, examine, unseal, write_manifest
from mainspring.store.home import Home
from mainspring.store.keys import Keys

MANIFESTO = Manifest(
    loop="late-flights",
    estimator="RandomForestClassifier",
    parameters={"trees": 100},
    task="binary",
    classes=(False, True),
    codes=(0, 1),
    inputs=Schema((Column("age", Type.INTEGER), Column("carrier", Type.TEXT, levels=("AA", "UA")))),
    roles=Roles("late", key="id", ignore=("name",)),
    metric="roc_auc",
    score=None,
    baseline=0.5,
    unit=None,
    runtime="onnx",
    model_format="skops",
    features=("features:features",),
    code="mainspring_code_0",
    user_types=(),
    libraries={"numpy": "2.0"},
    lineage={"run": "r"},
    notes=("a note",),
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / "home")


@pytest.fixture
def bundles(home: Home, tmp_path: Path) -> Bundles:
    return Bundles(home, Keys(tmp_path / "keys"))


def folder(home: Home, manifest: Manifest = MANIFESTO) -> Path:
    made = home.folder("tmp") / "made"
    (made / "code" / "pkg").mkdir(parents=True)
    (made / "model.onnx").write_bytes(b"graph")
    (made / "code" / "pkg" / "features.py").write_text("def features(rows): return rows\n")
    write_manifest(made, manifest)
    return made


def test_a_bundle_is_kept_whole_under_its_digest(home: Home, bundles: Bundles) -> None:
    digest = bundles.add(folder(home))

    assert bundles.path(digest) == home.folder("bundles") / digest
    assert bundles.manifest(digest) == replace(MANIFESTO, files=bundles.manifest(digest).files)
    assert set(bundles.manifest(digest).files) == {"model.onnx", "code/pkg/features.py"}
    assert bundles.open(digest).read("model.onnx") == b"graph" and "model.onnx" in bundles.open(digest)
    assert not list(home.folder("tmp").iterdir())


def test_the_same_content_is_the_same_bundle(home: Home, bundles: Bundles) -> None:
    first = bundles.add(folder(home))
    second = bundles.add(folder(home))

    assert first == second and not list(home.folder("tmp").iterdir())


def test_a_damaged_bundle_is_healed_by_adding_it_again(home: Home, bundles: Bundles, tmp_path: Path) -> None:
    digest = bundles.add(folder(home))
    (home.folder("bundles") / digest / "model.onnx").write_bytes(b"other")

    assert bundles.add(folder(home)) == digest

    assert Bundles(home, Keys(tmp_path / "keys")).open(digest).read("model.onnx") == b"graph"


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def link(path: Path) -> None:
    target = path.with_name("elsewhere")
    shutil.move(path, target)
    path.symlink_to(target)


def replace_folder(at: Path) -> None:
    shutil.rmtree(at / "code")
    (at / "code").write_text("")


TAMPERING: dict[str, Callable[[Path], object]] = {
    "a model's bit flipped": lambda at: change(at / "model.onnx"),
    "code changed": lambda at: change(at / "code" / "pkg" / "features.py"),
    "the manifest changed": lambda at: change(at / MANIFEST),
    "the manifest's spaces changed": lambda at: (at / MANIFEST).write_text(
        json.dumps(json.loads((at / MANIFEST).read_text()))
    ),
    "the proof changed": lambda at: change(at / SIGNATURE),
    "a model gone": lambda at: (at / "model.onnx").unlink(),
    "the manifest gone": lambda at: (at / MANIFEST).unlink(),
    "the signature gone": lambda at: (at / SIGNATURE).unlink(),
    "a file more": lambda at: (at / "extra.txt").write_text("x"),
    "a module more": lambda at: (at / "code" / "sitecustomize.py").write_text("x = 1"),
    "a file in place of a folder": replace_folder,
    "a link in place of a file": lambda at: link(at / "model.onnx"),
    "a link in place of a folder": lambda at: (at / "code" / "more").symlink_to("/tmp"),
    "a pipe": lambda at: os.mkfifo(at / "pipe"),
    "an empty manifest": lambda at: (at / MANIFEST).write_bytes(b""),
    "a signature that is a list": lambda at: (at / SIGNATURE).write_text("[]"),
    "a signature that isn't JSON": lambda at: (at / SIGNATURE).write_bytes(b"\xff\x00"),
    "a signature without end": lambda at: (at / SIGNATURE).write_text("[" * 100_000),
    "a model cut off": lambda at: (at / "model.onnx").write_bytes(b"gra"),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_noticed(home: Home, bundles: Bundles, tmp_path: Path, how: str) -> None:
    digest = bundles.add(folder(home))
    TAMPERING[how](home.folder("bundles") / digest)

    with pytest.raises((BundleChanged, BundleUntrusted)):
        Bundles(home, Keys(tmp_path / "keys")).path(digest)


def test_what_changes_after_the_check_is_noticed_when_it_is_read(home: Home, bundles: Bundles) -> None:
    digest = bundles.add(folder(home))
    sealed = bundles.open(digest)
    change(sealed.folder / "model.onnx")

    with pytest.raises(BundleChanged, match="isn't what was signed"):
        sealed.read("model.onnx")


def test_a_bundle_under_anothers_name_is_refused(home: Home, bundles: Bundles) -> None:
    digest = bundles.add(folder(home))
    other = bundles.add(folder(home, replace(MANIFESTO, loop="other")))
    shutil.rmtree(home.folder("bundles") / other)
    shutil.copytree(home.folder("bundles") / digest, home.folder("bundles") / other)

    with pytest.raises(BundleChanged, match="another one"):
        bundles.path(other)


def test_an_unknown_signer_is_refused_even_over_a_changed_bundle(home: Home, tmp_path: Path) -> None:
    stranger = Keys(tmp_path / "stranger")
    digest = Bundles(home, stranger).add(folder(home))

    with pytest.raises(BundleUntrusted, match="doesn't trust"):
        Bundles(home, Keys(tmp_path / "keys")).path(digest)
    change(home.folder("bundles") / digest / "model.onnx")
    with pytest.raises(BundleUntrusted):
        Bundles(home, Keys(tmp_path / "keys")).path(digest)


def test_mlflows_own_note_is_no_tampering(home: Home, bundles: Bundles, tmp_path: Path) -> None:
    digest = bundles.add(folder(home))
    (home.folder("bundles") / digest / "registered_model_meta").write_text("model_name: x")

    assert unseal(home.folder("bundles") / digest, Keys(tmp_path / "keys")).digest == digest


@pytest.mark.parametrize("digest", ["0" * 64, "..", "../home", "", "a/b"])
def test_a_digest_that_names_no_bundle_says_so(bundles: Bundles, digest: str) -> None:
    with pytest.raises(NotInStore):
        bundles.path(digest)


def test_a_manifest_of_another_version_is_refused() -> None:
    document = json.loads(MANIFESTO.to_bytes())
    for change in ({"format": "mainspring-bundle/9"}, {"more": 1}):
        with pytest.raises(BundleError):
            Manifest.from_bytes(json.dumps({**document, **change}).encode())


def test_a_manifest_survives_its_journey() -> None:
    assert Manifest.from_bytes(MANIFESTO.to_bytes()) == MANIFESTO


def test_two_processes_adding_the_same_bundle_leave_one_sound_folder(home: Home, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mainspring.store.home import Home\n"
        "from mainspring.store.keys import Keys; from mainspring.store.bundles import Bundles\n"
        "print(Bundles(Home(Path(sys.argv[1])), Keys(Path(sys.argv[2]))).add(Path(sys.argv[3])))"
    )
    first = folder(home)
    copies = [shutil.copytree(first, home.folder("tmp") / f"copy{number}") for number in range(3)]
    arguments = [sys.executable, "-c", code, str(home.path), str(tmp_path / "keys")]

    processes = [subprocess.Popen([*arguments, str(copy)], stdout=subprocess.PIPE, text=True) for copy in copies]
    said = {process.communicate()[0].strip() for process in processes}

    (digest,) = said
    assert Bundles(home, Keys(tmp_path / "keys")).path(digest).is_dir()


# -------------------------------------------------------------------------------------------------- examine, the card


def test_examining_names_everything_that_changed(home: Home, bundles: Bundles) -> None:
    at = bundles.path(bundles.add(folder(home)))
    change(at / "model.onnx")
    (at / "code" / "pkg" / "features.py").unlink()
    (at / "more.txt").write_text("x")
    (at / "empty" / "folder").mkdir(parents=True)

    found = examine(at, bundles.keys)

    assert found.signed_here and found.trusted and found.manifest is not None
    assert found.faults == (
        "code/pkg/features.py is missing since it was signed",
        "empty/folder/ was added since it was signed",
        "more.txt was added since it was signed",
        "model.onnx was changed after signing",
    )


@pytest.mark.parametrize("how", TAMPERING)
def test_examining_refuses_what_loading_refuses(home: Home, bundles: Bundles, how: str) -> None:
    at = bundles.path(bundles.add(folder(home)))
    TAMPERING[how](at)

    with pytest.raises((BundleChanged, BundleUntrusted)):
        unseal(at, bundles.keys)
    assert examine(at, bundles.keys).faults


def test_a_flipped_bit_anywhere_in_any_file_is_named(home: Home, bundles: Bundles) -> None:
    at = bundles.path(bundles.add(folder(home)))
    bundles.add_card(at.name, b"<html>card</html>")

    for path in [each for each in at.rglob("*") if each.is_file()]:
        sound = path.read_bytes()
        for place in {0, len(sound) // 3, len(sound) - 1}:
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
            assert examine(at, bundles.keys).faults, (path, place)
        path.write_bytes(sound)
    assert examine(at, bundles.keys).faults == ()


def test_a_strangers_bundle_is_read_no_further_and_the_signer_is_named(home: Home, tmp_path: Path) -> None:
    theirs = Bundles(home, Keys(tmp_path / "theirs"))
    at = theirs.path(theirs.add(folder(home)))

    found = examine(at, Keys(tmp_path / "ours"))

    assert not found.trusted and found.manifest is None and found.signer in found.faults[0]
    assert "whom this installation doesn't trust" in found.faults[0]


def test_a_card_is_signed_with_its_bundle(home: Home, bundles: Bundles) -> None:
    digest, other = bundles.add(folder(home)), bundles.add(folder(home, replace(MANIFESTO, notes=("another",))))
    bundles.add_card(digest, b"<html>first</html>")
    bundles.add_card(digest, b"<html>second</html>")
    at = bundles.path(digest)

    assert examine(at, bundles.keys).card and unseal(at, bundles.keys).digest == digest
    assert (at / CARD).read_bytes().startswith(b"<html>second</html>")
    shutil.copy(at / CARD, bundles.path(other) / CARD)
    with pytest.raises(BundleChanged, match="model card"):
        unseal(bundles.path(other), bundles.keys)


def test_who_verifies_while_a_card_is_added_finds_nothing_strange(
    home: Home, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = bundles.add(folder(home))
    faults: list[tuple[str, ...]] = []

    def looking(old: object, new: object) -> None:
        faults.append(examine(bundles.path(digest), bundles.keys).faults)
        replaced(old, new)

    replaced: Callable[..., None] = os.replace
    monkeypatch.setattr(os, "replace", looking)
    bundles.add_card(digest, b"<html>card</html>")

    assert faults == [()] and examine(bundles.path(digest), bundles.keys).card


def test_a_card_that_nobody_signed_is_tampering(home: Home, bundles: Bundles) -> None:
    at = bundles.path(bundles.add(folder(home)))
    (at / CARD).write_text("<script>anything</script>")

    with pytest.raises(BundleChanged, match="model card"):
        unseal(at, bundles.keys)


def test_what_is_no_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotInStore, match="no bundle"):
        examine(tmp_path, Keys(tmp_path / "keys"))
