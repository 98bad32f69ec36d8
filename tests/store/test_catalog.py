"""Values as artifacts and back: as they were, with equal digests for equal values, and never run from a file."""

from __future__ import annotations

import json
import pickle
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from mainspring.core.declarations import Roles
from mainspring.core.errors import HomeDamaged, NotInStore, StoreError
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.values import Bundle as BundleValue
from mainspring.core.values import Check, Frame, Split, Trial, Verdict
from mainspring.statistics.metrics import Predictions
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.home import Home

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.just("$"), inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(st.text(max_size=2) | st.integers(), max_size=3)
    ),
    max_leaves=12,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


@pytest.fixture
def catalog(home: Home) -> Catalog:
    return Catalog(home)


def rows() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "number": [1.5, None, float("nan"), -0.0],
            "text": ["a", None, "ü" * 40, ""],
            "level": pl.Series(["x", "y", None, "x"], dtype=pl.Enum(["y", "x"])),
            "at": pl.Series([datetime(2020, 1, 1, tzinfo=UTC)] * 4).dt.convert_time_zone("Europe/Berlin"),
            "list": [[1, None], [], None, [2]],
        }
    )


def frame() -> Frame:
    schema = Schema((Column("number", Type.FLOAT, low=0.5), Column("text", Type.TEXT, levels=("a", "b"))))
    return Frame(rows(), Roles("text", key="number", positive=1), "binary", ("a", "b"), schema, 3, ("a note",))


def verdict() -> Verdict:
    bundle = BundleValue(
        "d" * 64, "flights", "Forest", "onnx", "binary", (np.int64(0), np.int64(1)), "roc_auc", 12, ("n",)
    )
    return Verdict(
        "promote", "canary", ("better",), (Check("floor", None, "r"),), bundle, None, {"auc": np.float64(0.5)}
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(value=plain)
def test_plain_values_come_back_with_their_types(catalog: Catalog, value: Any) -> None:
    artifact = catalog.write(value)[0]
    loaded = catalog.load(artifact)

    assert loaded == value and repr_sorted(loaded) == repr_sorted(value)
    assert catalog.digest(loaded) == artifact.digest


def repr_sorted(value: Any) -> str:
    """Types included; sets in a fixed order."""
    if isinstance(value, dict):
        return f"dict{[(repr_sorted(key), repr_sorted(item)) for key, item in value.items()]}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[repr_sorted(item) for item in value]}"
    if isinstance(value, frozenset):
        return f"frozenset{sorted(map(repr, value))}"
    return repr(value)


OTHERS = [
    date(2020, 1, 2), time(1, 2, 3), timedelta(days=-1, microseconds=3), Decimal("1.20"), 1 - 2j, Path("a b/ü"),
    datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=5))), Type.FLOAT,
    datetime(2020, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1), {(1, 2): [3]}, float("inf"),
    pytest.param({1, "a"}, id="set"),
]  # fmt: skip


@pytest.mark.parametrize("value", OTHERS, ids=repr)
def test_other_plain_values_come_back_too(catalog: Catalog, value: Any) -> None:
    loaded = catalog.load(catalog.write(value)[0])

    assert loaded == value and type(loaded) is type(value)
    assert getattr(loaded, "fold", 0) == getattr(value, "fold", 0)


def test_a_frame_comes_back_with_its_types_and_nulls(catalog: Catalog) -> None:
    artifact = catalog.write(rows())[0]
    loaded = catalog.load(artifact)

    assert loaded.equals(rows()) and loaded.schema == rows().schema
    assert catalog.load(catalog.write(rows()["text"])[0]).equals(rows()["text"])


def test_equal_frames_have_equal_digests_however_they_were_made(catalog: Catalog) -> None:
    artifact = catalog.write(rows())[0]
    chunked = pl.concat([rows()[:1], rows()[1:]], rechunk=False)
    sliced = pl.concat([rows().reverse(), rows()], rechunk=False).slice(4)
    shuffled = rows()[[3, 2, 1, 0]][[3, 2, 1, 0]]

    for same in (chunked, sliced, shuffled, catalog.load(artifact)):
        assert catalog.digest(same) == artifact.digest
    assert catalog.digest(rows().reverse()) != artifact.digest
    assert catalog.digest(rows().select(reversed(rows().columns))) != artifact.digest


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3), np.array(["yes", "no"]), np.zeros((0, 3)), np.arange(5000),
        np.array(["yes", None, 1.5], dtype=object), np.array([[True], [False]]),
        np.array("2020-01-01", dtype="datetime64[ns]"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ],
    ids=str,
)  # fmt: skip
def test_arrays_come_back(catalog: Catalog, value: np.ndarray[Any, Any]) -> None:
    loaded = catalog.load(catalog.write(value)[0])

    assert loaded.dtype == value.dtype and loaded.shape == value.shape
    assert np.array_equal(loaded, value)


def test_equal_arrays_have_equal_digests_whatever_their_memory_order(catalog: Catalog) -> None:
    array = np.arange(6.0).reshape(2, 3)

    assert catalog.digest(array) == catalog.digest(np.asfortranarray(array)) == catalog.digest(array[::-1][::-1])
    labels = ["".join(["y", "es"]), "".join(["y", "es"])]
    assert catalog.digest(np.array(labels, dtype=object)) == catalog.digest(np.array([labels[0]] * 2, dtype=object))


def test_numbers_of_numpy_stay_what_they_are(catalog: Catalog) -> None:
    loaded = catalog.load(catalog.write({"a": np.float64(0.1), np.int64(3): np.bool_(True)})[0])

    assert [type(item) for item in (*loaded.keys(), *loaded.values())] == [str, np.int64, np.float64, np.bool_]


def test_our_dataclasses_come_back_with_all_that_is_in_them(catalog: Catalog) -> None:
    split = Split(frame(), frame(), "time", "h1")
    loaded = catalog.load(catalog.write(split)[0])

    assert loaded.train.data.equals(rows()) and loaded.train.roles == frame().roles
    assert loaded.train.inputs == frame().inputs and type(loaded.train.inputs["number"].type) is Type
    assert (loaded.train.classes, loaded.train.notes, loaded.holdout_id) == (("a", "b"), ("a note",), "h1")
    assert catalog.digest(loaded) == catalog.digest(split)


def test_equal_records_are_equal_after_loading(catalog: Catalog) -> None:
    for value in (verdict(), Trial(1, "Forest", {"depth": 3}, 0.5, (0.4, 0.6), 1.5)):
        loaded = catalog.load(catalog.write(value)[0])
        assert loaded == value
        assert catalog.digest(loaded) == catalog.digest(value)


def test_predictions_come_back(catalog: Catalog) -> None:
    value = Predictions(
        labels=np.array(["no", "yes"], dtype=object), probabilities=np.array([[0.9, 0.1], [0.2, 0.8]]), values=None,
        classes=("no", "yes"),
    )  # fmt: skip
    loaded = catalog.load(catalog.write(value)[0])

    assert loaded.labels.tolist() == ["no", "yes"] and loaded.classes == ("no", "yes") and loaded.values is None
    assert np.array_equal(loaded.probabilities, value.probabilities)


@pytest.mark.filterwarnings("ignore:fractions.*is kept as a pickle")
def test_an_object_without_a_format_comes_back_by_a_pickle_that_the_home_signed(catalog: Catalog, home: Home) -> None:
    assert catalog.load(catalog.write({"part": Fraction(1, 3)})[0]) == {"part": Fraction(1, 3)}
    assert stat.S_IMODE((home.path / "pickle.key").stat().st_mode) == 0o600


def test_the_same_fit_has_the_same_digest(catalog: Catalog) -> None:
    table = np.random.default_rng(0).normal(size=(50, 3))
    fits = [RandomForestClassifier(5, random_state=0).fit(table, table[:, 0] > 0) for _ in range(2)]

    assert catalog.digest(fits[0]) == catalog.digest(fits[1])


class Trap:
    sprung = False

    def __reduce__(self) -> Any:
        return setattr, (Trap, "sprung", True)


def test_a_pickle_that_isnt_signed_is_refused_before_it_is_read(catalog: Catalog) -> None:
    forged = pickle.dumps(Trap())
    digest = catalog.files.write(b"\0" * 32 + forged)

    for artifact in (Artifact(digest, "pickle"), catalog.gather([Artifact(digest, "pickle")])[0]):
        with pytest.raises(HomeDamaged, match="isn't signed by this home"):
            catalog.load(artifact)
    with pytest.raises(HomeDamaged):
        catalog.load(Artifact(digest, "array"))
    assert not Trap.sprung


@pytest.mark.filterwarnings("ignore:builtins.RuntimeError is kept as a pickle")
def test_a_signature_of_another_home_doesnt_count(catalog: Catalog, tmp_path: Path) -> None:
    other = Catalog(Home.open(tmp_path / "other" / ".mainspring"))
    signed = other.write(threading.ThreadError(*["x" * 2000]))[0]
    digest = catalog.files.write(other.files.path(signed.digest))

    with pytest.raises(HomeDamaged, match="isn't signed"):
        catalog.load(Artifact(digest, signed.format))


@pytest.mark.parametrize(
    "document",
    [
        {"$": "record", "class": "subprocess:Popen", "fields": {"args": "true"}},
        {"$": "record", "class": "mainspring.store.home:os", "fields": {}},
        {"$": "record", "class": "mainspring.store.home:Home", "fields": {}},
        {"$": "record", "class": "mainspring.core.values:Trial", "fields": {"number": 1}},
        {"$": "enum", "class": "mainspring.core.schema:Type", "name": "NO_SUCH"},
        {"$": "enum", "class": "mainspring.core.schema:Schema", "name": "columns"},
        {"$": "from_the_future"},
        {"$": "object", "format": "array", "digest": "../id"},
    ],
    ids=str,
)
def test_a_document_names_nothing_but_our_own_dataclasses(catalog: Catalog, document: Any) -> None:
    text = json.dumps(document)
    with pytest.raises((HomeDamaged, NotInStore)):
        catalog.load(Artifact(catalog.files.write(text.encode()), "json"))


def test_damage_to_any_part_is_seen(catalog: Catalog) -> None:
    artifact = catalog.write({"rows": pl.DataFrame({"n": range(1000)}), "more": list(range(10_000))})[0]
    assert artifact.content is None and catalog.sound(artifact)

    for digest in catalog.objects(artifact):
        kept = catalog.files.path(digest).read_bytes()
        catalog.files.path(digest).write_bytes(kept[:-1] + b"?")
        assert not catalog.sound(artifact)
        with pytest.raises(HomeDamaged):
            catalog.load(artifact)
        catalog.files.path(digest).write_bytes(kept)
    assert catalog.sound(artifact)

    small = catalog.write([1, 2])[0]
    assert small.content is not None
    assert not catalog.sound(Artifact(small.digest, small.format, "[1,3]"))


def test_lists_of_artifacts_are_gathered_without_loading_them(catalog: Catalog) -> None:
    values = [[1, 2], rows(), (3,)]
    gathered = catalog.load(catalog.gather([catalog.write(value)[0] for value in values])[0])

    assert gathered[0] == [1, 2] and gathered[1].equals(rows()) and gathered[2] == (3,)
    assert catalog.gather([catalog.write(value)[0] for value in values])[0] == catalog.write(values)[0]


def counted() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (counted(), "gives its content only once"),
        (iter([1]), "gives its content only once"),
        (threading.Lock(), "can't be kept"),
        (lambda: 1, "can't be kept"),
        (pl.LazyFrame({"a": [1]}), r"return \.collect\(\)"),
    ],
)
def test_what_cant_be_kept_is_said_so(catalog: Catalog, value: Any, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        catalog.write(value)[0]


@pytest.mark.filterwarnings("ignore:fractions.*is kept as a pickle")
@pytest.mark.parametrize("damage", [b"", b"short"])
def test_a_damaged_key_is_put_aside_and_what_it_signed_is_made_again(
    catalog: Catalog, home: Home, damage: bytes
) -> None:
    artifact = catalog.write([Fraction(1, 3), "x" * 30_000])[0]
    (home.path / "pickle.key").write_bytes(damage)
    fresh = Catalog(home)

    with pytest.raises(HomeDamaged, match="isn't signed by this home"):
        fresh.load(artifact)
    assert fresh.load(fresh.write([Fraction(1, 3)])[0]) == [Fraction(1, 3)]
    assert (home.path / "pickle.key.damaged").read_bytes() == damage


def test_a_path_to_a_file_that_was_written_anew_is_another_value(home: Home, tmp_path: Path) -> None:
    catalog, path = Catalog(home), tmp_path / "out.txt"
    path.write_text("one")
    before = catalog.write(path)[0]
    path.write_text("two")

    assert catalog.write(path)[0].digest != before.digest and catalog.load(before) == path
