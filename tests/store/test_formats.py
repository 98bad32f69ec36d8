"""Every kind of value in its format: back as it was, by the same digest, mapped when big, a pickle only with a word."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from mainspring.core.errors import DeclarationError, HomeDamaged, StoreError
from mainspring.store import catalog as catalogs
from mainspring.store import formats
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.formats import register_format
from mainspring.store.frames import MAPPED_CELLS
from mainspring.store.home import Home

BIG = MAPPED_CELLS // 4


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(Home.open(tmp_path / ".mainspring"))


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    catalogs._warned.clear()
    yield
    formats._registered.clear(), formats._by_name.clear()


def format_of(catalog: Catalog, value: Any) -> str:
    return formats.write(value, catalog._key).format


# ------------------------------------------------------------------------------------------------------- polars

KEPT_TYPES = [pl.Binary, pl.Boolean, pl.Date, pl.Datetime, pl.Decimal, pl.Duration, pl.Enum, pl.Float32, pl.Float64,
              pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.List, pl.Null, pl.String, pl.Struct, pl.Time,
              pl.UInt8, pl.UInt64]  # fmt: skip


@settings(suppress_health_check=list(HealthCheck), max_examples=60, deadline=None)
@given(frame=dataframes(allowed_dtypes=KEPT_TYPES, max_size=6, max_cols=3))
def test_any_frame_comes_back_as_it_was_by_the_same_digest(catalog: Catalog, frame: pl.DataFrame) -> None:
    artifact = catalog.write(frame)[0]
    loaded = catalog.load(artifact)

    assert_frame_equal(loaded, frame)
    assert catalog.digest(loaded) == artifact.digest == catalog.digest(pl.concat([frame[:2], frame[2:]], rechunk=False))


def test_integers_of_128_bits_come_back(catalog: Catalog) -> None:  # of which polars makes no frames by chance
    frame = pl.DataFrame({"n": [2**100, -(2**90), None, 0]}, schema={"n": pl.Int128})
    assert_frame_equal(catalog.load(catalog.write(frame)[0]), frame)


def big_frame() -> pl.DataFrame:
    numbers = pl.int_range(BIG, eager=True)
    return pl.DataFrame(
        {
            "number": numbers.cast(pl.Float64) / 7,
            "flag": numbers % 3 == 0,
            "text": (numbers % 1000).cast(pl.String) + " a longer piece of text",
            "at": numbers.cast(pl.Datetime("us", "Europe/Berlin")),
            "day": pl.select(pl.when(numbers % 5 > 0).then(numbers.cast(pl.Int32).cast(pl.Date))).to_series(),
        }
    )


def test_a_big_frame_is_mapped_and_has_one_digest_however_it_was_made(catalog: Catalog) -> None:
    frame = big_frame()
    artifact = catalog.write(frame)[0]
    loaded = catalog.load(artifact)

    assert artifact.format == "arrow-frame" and loaded.equals(frame) and loaded.schema == frame.schema
    hidden = frame.with_columns(pl.when(pl.col("day").is_not_null()).then(pl.col("day")).otherwise(None))
    twice = pl.concat([frame.reverse(), frame])
    for same in (loaded, hidden, pl.concat([frame[:777], frame[777:]], rechunk=False), twice.slice(BIG)):
        assert catalog.digest(same) == artifact.digest
    assert catalog.digest(frame.reverse()) != artifact.digest
    assert catalog.digest(frame.rename({"day": "date"})) != artifact.digest


@settings(suppress_health_check=list(HealthCheck), max_examples=40, deadline=None)
@given(frame=dataframes(
    allowed_dtypes=[pl.Boolean, pl.Int16, pl.Float64, pl.String, pl.Binary, pl.Date, pl.Time, pl.Datetime, pl.Duration],
    min_size=1, max_size=20, min_cols=1, max_cols=3, allow_chunks=True,
))  # fmt: skip
def test_arrow_has_the_same_bytes_for_equal_frames(frame: pl.DataFrame) -> None:
    from mainspring.store import frames

    content = frames.write("arrow-frame", frame)
    padded = pl.concat([frame.reverse(), frame]).slice(frame.height)

    loaded = frames.read("arrow-frame", content)
    assert_frame_equal(loaded, frame)
    assert frames.write("arrow-frame", padded) == content == frames.write("arrow-frame", loaded)


def test_a_mapped_frame_outlives_its_file(catalog: Catalog) -> None:
    artifact = catalog.write(big_frame())[0]
    loaded = catalog.load(artifact)
    catalog.files.remove(artifact.digest)

    assert loaded.equals(big_frame())


def test_a_big_series_keeps_its_name(catalog: Catalog) -> None:
    series = pl.Series("n", range(MAPPED_CELLS))
    artifact = catalog.write(series)[0]

    assert artifact.format == "arrow-series" and catalog.load(artifact).equals(series, check_names=True)


def test_a_frame_without_columns_needs_no_pickle(catalog: Catalog) -> None:
    assert catalog.load(catalog.write(pl.DataFrame())[0]).equals(pl.DataFrame())


# -------------------------------------------------------------------------------------------------------- numpy


def test_a_big_array_is_mapped_and_what_is_written_into_it_stays_here(catalog: Catalog) -> None:
    array = np.arange(300_000, dtype=np.float64).reshape(3, -1)
    artifact = catalog.write(array)[0]
    loaded = catalog.load(artifact)

    assert np.array_equal(loaded, array) and catalog.digest(loaded) == artifact.digest
    assert not loaded.flags.owndata and loaded.flags.writeable
    loaded[0, 0] = -1.0
    assert catalog.load(artifact)[0, 0] == 0.0 and catalog.sound(artifact)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 3), dtype=[("a", "i4"), ("b", "f8")]), np.array([1, 2], dtype=">i4"), np.float16(1.5),
        np.datetime64("2020-01-01", "ns"), np.array([b"x", b"yz"]), np.array(5), np.arange(2_000_000, dtype=np.int8),
        np.zeros((500_000, 2), order="F"),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)  # fmt: skip
def test_arrays_of_any_dtype_come_back(catalog: Catalog, value: Any) -> None:
    artifact = catalog.write(value)[0]
    loaded = catalog.load(artifact)

    assert loaded.dtype == value.dtype and np.array_equal(loaded, value) and type(loaded) is type(value)
    assert catalog.digest(loaded) == artifact.digest


@pytest.mark.parametrize("value", [np.array([[1]]).view(np.matrix), np.ma.array([1, 2], mask=[0, 1])], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_relatives_of_arrays_are_never_taken_for_plain_ones(catalog: Catalog, value: Any) -> None:
    loaded = catalog.load(catalog.write(value)[0])

    assert type(loaded) is type(value) and str(loaded)[:3] == str(value)[:3]


# ------------------------------------------------------------------------------------------------ pandas, pyarrow


def pandas_frames() -> dict[str, pd.DataFrame]:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [1.5, float("nan"), -0.0], "c": ["x", None, "z"]})
    noted = frame.copy()
    noted.attrs = {"source": "here", "version": 3}
    return {
        "plain": frame,
        "attrs": noted,
        "index": frame.set_index("c"),
        "levels": frame.set_index(["a", "c"]),
        "categories": pd.DataFrame({"k": pd.Categorical(["u", "v"], categories=["w", "v", "u"], ordered=True)}),
        "times": pd.DataFrame({"t": [1, 2]}, pd.date_range("2020-03-28", periods=2, tz="Europe/Berlin", freq="D")),
        "wide": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")], names=["p", "q"])),
        "nullable": pd.DataFrame({"i": pd.array([1, None], dtype="Int64"), "f": pd.array([True, None], "boolean")}),
        "objects": pd.DataFrame({"o": pd.Series(["a", None], dtype=object)}),
        "numbered": pd.DataFrame({0: [1], 7: [2.0]}),
        "empty": pd.DataFrame({"a": pd.Series([], dtype="float32")}),
        "period": pd.DataFrame({"m": pd.period_range("2020-01", periods=2, freq="M")}),
        "mixed": pd.DataFrame({"o": pd.Series([1, "a", None], dtype=object)}),
        "twins": pd.DataFrame([[1, 2]], columns=["a", "a"]),
        "gapped": frame.iloc[[2, 0]],
    }


@pytest.mark.filterwarnings("ignore:pandas.*is kept as a pickle")
@pytest.mark.parametrize("name", pandas_frames())
def test_pandas_frames_come_back_with_index_dtypes_and_attrs(catalog: Catalog, name: str) -> None:
    frame = pandas_frames()[name]
    artifact = catalog.write({"frame": frame})[0]
    loaded = catalog.load(artifact)["frame"]

    pd.testing.assert_frame_equal(loaded, frame, check_exact=True, check_freq=True)
    assert loaded.attrs == frame.attrs and type(loaded.index) is type(frame.index)
    assert catalog.digest({"frame": loaded}) == artifact.digest
    expected = "pickle" if name in ("mixed", "twins") else "pandas-frame"
    assert format_of(catalog, frame) == expected


@pytest.mark.parametrize("name", [None, "n", 3])
def test_a_pandas_series_keeps_its_name(catalog: Catalog, name: Any) -> None:
    series = pd.Series([1.5, None], index=["a", "b"], name=name)
    series.attrs = {"unit": "m"}
    loaded = catalog.load(catalog.write(series)[0])

    pd.testing.assert_series_equal(loaded, series)
    assert loaded.name == name and loaded.attrs == {"unit": "m"} and format_of(catalog, series) == "pandas-series"


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_computed_nan_has_the_digest_of_a_loaded_one(catalog: Catalog) -> None:
    frame = pd.DataFrame({"n": np.array([np.inf, 1.0]) - np.array([np.inf, 0.0])})

    assert catalog.digest(catalog.load(catalog.write([frame])[0])) == catalog.digest([frame])


def arrow_table() -> pa.Table:
    schema = pa.schema(
        [
            pa.field("n", pa.int32(), nullable=True, metadata={"unit": "m"}), pa.field("s", pa.string()),
            pa.field("d", pa.dictionary(pa.int8(), pa.string())), pa.field("l", pa.list_(pa.int64())),
            pa.field("u", pa.timestamp("ns", "UTC")),
        ],
        metadata={"made": "here"},
    )  # fmt: skip
    rows = {"n": [1, None, 3], "s": ["a", None, ""], "d": ["x", "y", "x"], "l": [[1], None, []], "u": [0, 1, None]}
    return pa.table(rows, schema=schema)


def test_pyarrow_tables_come_back_with_schema_and_metadata(catalog: Catalog) -> None:
    table = arrow_table()
    artifact = catalog.write(table)[0]
    chunked = pa.concat_tables([table[:1], table[1:]])

    assert artifact.format == "arrow-table" and catalog.load(artifact).equals(table, check_metadata=True)
    assert catalog.digest(chunked) == catalog.digest(catalog.load(artifact)) == artifact.digest
    batch = table.to_batches()[0]
    assert catalog.load(catalog.write([batch])[0])[0].equals(batch)
    assert format_of(catalog, batch) == "arrow-batch" and catalog.load(catalog.write([batch[:0]])[0])[0].num_rows == 0


# --------------------------------------------------------------------------------------------------- estimators


def fitted() -> dict[str, Any]:
    table = np.random.default_rng(0).normal(size=(120, 3))
    target = table[:, 0] > 0
    frame = pd.DataFrame({"a": ["x", "y"] * 60, "b": table[:, 0]})
    columns = ColumnTransformer([("a", OneHotEncoder(), ["a"]), ("b", StandardScaler(), ["b"])])
    return {
        "forest": RandomForestClassifier(5, random_state=0).fit(table, target),
        "boosting": HistGradientBoostingClassifier(max_iter=3, random_state=0).fit(table, target),
        "pipeline": make_pipeline(StandardScaler(), LogisticRegression()).fit(table, target),
        "columns": make_pipeline(columns, LogisticRegression()).fit(frame, target),
        "unfitted": RandomForestClassifier(7),
    }


@pytest.mark.parametrize("name", fitted())
def test_estimators_are_kept_by_skops_and_reloaded_ones_have_the_digest_of_fresh_ones(
    catalog: Catalog, name: str
) -> None:
    model, again = fitted()[name], fitted()[name]
    artifact = catalog.write({"model": model})[0]
    loaded = catalog.load(artifact)["model"]

    assert format_of(catalog, model) == "skops" and type(loaded) is type(model)
    assert catalog.digest({"model": loaded}) == catalog.digest({"model": again}) == artifact.digest


def half(values: Any) -> Any:
    return values / 2


def test_an_estimator_that_skops_cant_hold_is_a_pickle_with_a_word(catalog: Catalog) -> None:
    model = make_pipeline(FunctionTransformer(half), LogisticRegression())
    with pytest.warns(UserWarning, match=r"Pipeline is kept as a pickle .*half.* trusted .*register_format"):
        artifact = catalog.write(model)[0]

    assert (catalog.load([artifact][0])["functiontransformer"].func) is half


# ------------------------------------------------------------------------------------- other objects, the user's own


class Odd:
    def __init__(self, size: int) -> None:
        self.size = size


def test_other_objects_are_signed_pickles_and_each_type_is_named_once(catalog: Catalog) -> None:
    with pytest.warns(UserWarning) as said:
        artifact = catalog.write([Odd(1), Odd(2)])[0]
        catalog.write(Odd(3))[0]

    assert len(said) == 1 and "Odd is kept as a pickle" in str(said[0].message)
    assert [each.size for each in catalog.load(artifact)] == [1, 2]


def test_asking_for_a_digest_says_nothing(catalog: Catalog) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert catalog.digest(Odd(1)) == catalog.digest(Odd(1))


class Colour:
    def __init__(self, code: str) -> None:
        self.code = code

    def to_bytes(self) -> bytes:
        return self.code.encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Colour:
        return cls(content.decode())


class Shade(Colour):
    pass


def test_a_users_type_is_kept_in_its_own_format(catalog: Catalog) -> None:
    register_format(Colour, "colour", Colour.to_bytes, Colour.from_bytes)
    long = "red" * 1000
    artifact = catalog.write([Colour("red"), Shade(long)])[0]

    small, large = catalog.load(artifact)
    assert (small.code, large.code) == ("red", long) and type(large) is Colour
    assert format_of(catalog, Colour("a")) == "user:colour"
    assert catalog.digest(Colour(long)) == catalog.digest(catalog.load(catalog.write(Colour(long))[0]))


def test_a_format_that_isnt_registered_here_is_named_with_what_to_do(catalog: Catalog) -> None:
    register_format(Colour, "colour", Colour.to_bytes, Colour.from_bytes)
    artifact = catalog.write(Colour("red" * 1000))[0]
    formats._by_name.clear()

    with pytest.raises(HomeDamaged, match="format 'colour' isn't registered in this process; import the module"):
        catalog.load(artifact)


def test_a_format_is_found_in_another_process_that_imports_its_module(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "images.py").write_text(
        "import mainspring\n"
        "class Image:\n    def __init__(self, pixels): self.pixels = pixels\n"
        "mainspring.register_format(Image, 'image', lambda image: image.pixels, Image)\n"
    )
    write = "import sys; from images import Image; from mainspring.store.catalog import *; from pathlib import Path\n"
    write += f"catalog = Catalog(Home.open(Path({str(catalog.files.folder.parent)!r})))\n"
    saved = _python(tmp_path, write + "print(catalog.write(Image(b'p' * 2000))[0].digest)")
    read = f"print(len(catalog.load(Artifact({saved!r}, 'user:image')).pixels))"

    assert _python(tmp_path, write + read) == "2000"


def _python(folder: Path, code: str) -> str:
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(folder), *sys.path]!r}\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_name_has_one_type(catalog: Catalog) -> None:
    register_format(Colour, "colour", Colour.to_bytes, Colour.from_bytes)
    register_format(Colour, "colour", Colour.to_bytes, Colour.from_bytes)

    with pytest.raises(DeclarationError, match="has that name"):
        register_format(Odd, "colour", bytes, Odd)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="must match"):
        register_format(Odd, "no good", bytes, Odd)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="must be a class"):
        register_format(Odd(1), "odd", bytes, Odd)  # type: ignore[arg-type]


def test_a_format_that_fails_is_named(catalog: Catalog) -> None:
    register_format(Odd, "odd", lambda odd: odd.size, lambda content: 1 / 0)  # type: ignore[arg-type, return-value]

    with pytest.raises(StoreError, match=r"'odd': write= gave int for a Odd; return bytes"):
        catalog.write(Odd(1))[0]
    register_format(Odd, "odd", lambda odd: odd.no_such, lambda content: 1 / 0)
    with pytest.raises(StoreError, match="'odd' can't write a Odd"):
        catalog.write(Odd(1))[0]
    digest = catalog.files.write(b"x")
    with pytest.raises(HomeDamaged, match="can't be read any more"):
        catalog.load(Artifact(digest, "user:odd"))


@pytest.mark.parametrize("format", ["arrow-frame", "arrow-table", "pandas-frame", "skops", "frame", "array", "objects"])
@pytest.mark.parametrize(
    "content", [b"", b"x", pickle.dumps([1]), b"PK\x03\x04" + b"\0" * 50, b"ARROW1\0\0" + b"\xff" * 99]
)
def test_bytes_of_another_kind_are_named_and_never_run(catalog: Catalog, format: str, content: bytes) -> None:
    with pytest.raises(HomeDamaged):
        catalog.load(Artifact(catalog.files.write(content), format))
