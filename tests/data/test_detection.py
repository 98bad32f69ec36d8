"""Columns that look personal are found, and ids, times, codes and measurements are not."""

from __future__ import annotations

import traceback
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import datasets

import mainspring as ms
from mainspring.core.declarations import FrameSource, Roles
from mainspring.core.errors import MainspringError, PersonalData, SchemaMismatch
from mainspring.core.hiding import hidden, is_iban, luhn
from mainspring.core.privacy import Privacy
from mainspring.data import contract
from mainspring.data.detection import personal
from mainspring.data.ingest import ingest
from mainspring.data.sources import reader
from mainspring.store.home import Home
from mainspring.store.tables import Table

NAMES = ["Ada Marie", "Johannes Schmidt", "García, Carlos", "Mr. John Smith", "Olivia", "Thomas O'Neil", "Anna K. Berg"]


def check_digit(body: str) -> str:
    return next(f"{body}{digit}" for digit in range(10) if luhn(f"{body}{digit}"))


def bsn(body: int) -> str:
    total = sum(int(digit) * weight for digit, weight in zip(f"{body:08}", (9, 8, 7, 6, 5, 4, 3, 2), strict=True))
    return f"{body:08}{total % 11}"


CASES: dict[str, tuple[str, list[Any]]] = {
    "mail": ("e-mail addresses", [f"u{place}@mail.example.org" for place in range(20)]),
    "mail_in_text": ("e-mail addresses", [f"call me at u{n}@example.org" if n < 3 else f"note {n}" for n in range(20)]),
    "phone": ("phone numbers", [f"+49 30 12345{place}" for place in range(20)]),
    "us_phone": ("phone numbers", [f"(212) 555-01{place:02}" for place in range(20)]),
    "french_phone": ("phone numbers", [f"06 12 34 56 {place}" for place in range(10, 20)]),
    "swiss_phone": ("phone numbers", [f"079 123 45 {place}" for place in range(10, 20)]),
    "phone_abroad": ("phone numbers", [f"0049 170 12345{place}" for place in range(20)]),
    "card": ("card numbers", [check_digit(f"4{place:014}") for place in range(20)]),
    "card_as_number": ("card numbers", [int(check_digit(f"51{place:013}")) for place in range(20)]),
    "card_of_pandas": ("card numbers", [float(check_digit(f"51{n:013}")) if n % 3 else None for n in range(20)]),
    "iban": ("IBANs", ["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32", "FR1420041010050500013M02606",
                       "NL91ABNA0417164300", "CH9300762011623852957"]),
    "ip": ("IP addresses", ["10.0.0.1", "192.168.3.4", "2001:db8::1", "8.8.8.8", "172.16.0.9"]),
    "ip_and_port": ("IP addresses", ["10.0.0.1:443", "192.168.3.4:80", "8.8.8.0/24", "172.16.0.9:1", "10.1.1.1:22"]),
    "dni": ("national ids", ["12345678-Z", "12345678z", "00000000T", "87654321-X", "11111111-H"]),
    "ssn": ("national ids", [f"1{place:02}-45-67{place:02}" for place in range(20)]),
    "nino": ("national ids", [f"AB{place:06}C" for place in range(20)]),
    "tax_id": ("national ids", ["86095742719", "47036892816", "65929970489", "57549285017", "25768131411"]),
    "nir": ("national ids", [f"{body}{97 - body % 97:02}" for body in range(2550814168025, 2550814168035)]),
    "bsn": ("national ids", [number for body in range(11122200, 11122260) if len(number := bsn(body)) == 9]),
    "people": ("names of people", NAMES),
    "passengers": ("names of people", [
        "Braund, Mr. Owen Harris", "Cumings, Mrs. John Bradley (Florence Briggs Thayer)", "Heikkinen, Miss. Laina",
        "Futrelle, Mrs. Jacques Heath (Lily May Peel)", "Allen, Mr. William Henry", "McCarthy, Mr. Timothy J"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_personal_column_is_found_by_its_kind(case: str) -> None:
    kind, values = CASES[case]

    (found,) = personal(pl.DataFrame({case: values}))

    assert (found.column, found.kind) == (case, kind) and found.share > 0.04
    assert not any(str(value) in str(found) for value in values)


def test_numbers_codes_times_and_words_are_nobodys() -> None:
    random, start = np.random.default_rng(0), datetime(2013, 1, 1)
    many = 800
    rows = pl.DataFrame({
        "id": range(100_000_000, 100_000_000 + many), "random_id": random.integers(10**8, 10**9, many),
        "order": random.integers(10**15, 10**16, many), "account": random.integers(10**10, 10**11, many),
        "epoch": [1_388_534_400 + 61 * place for place in range(many)],
        "millis": [1_388_534_400_000 + 61_007 * place for place in range(many)],
        "flight": [f"UA{place}" for place in range(many)], "tail": [f"N{100 + place}UA" for place in range(many)],
        "at": [(start + timedelta(hours=place)).isoformat() for place in range(many)],
        "day": [str((start + timedelta(days=place)).date()) for place in range(many)],
        "version": [f"{place}.2.{place % 7}" for place in range(many)], "zip": [f"{place:05}" for place in range(many)],
        "uuid": [f"{random.integers(16**8):08x}-{random.integers(16**4):04x}" for _ in range(many)],
        "price": [f"{place}.99" for place in range(many)], "float_id": random.integers(10**15, 9 * 10**15, many) * 1.0,
        "padded": [f"{place * 1_000_003:014}" for place in range(many)],
        "code": [f"{random.integers(10**9):09}" for _ in range(many)],
    })  # fmt: skip
    words = pl.DataFrame({
        "city": ["Berlin", "Paris", "London", "Charlotte", "Denver", "Rome", "Oslo", "Bern", "Lyon", "Austin"],
        "carrier": ["United Air Lines Inc.", "Delta Air Lines Inc.", "JetBlue Airways", "US Airways Inc.", "Envoy Air",
                    "Southwest Airlines Co.", "American Airlines Inc.", "Virgin America", "SkyWest", "Mesa Airlines"],
        "colour": ["red", "green", "blue", "black", "white", "amber", "grey", "pink", "olive", "teal"],
    })  # fmt: skip

    assert personal(rows) == [] and personal(words) == []


def test_the_flights_and_the_sets_of_scikit_learn_are_nobodys(flights_csv: Path) -> None:
    for name in ("flights", "planes", "weather", "airports", "airlines"):
        file = next(flights_csv.parent.glob(f"{name}.csv*"))
        table, _ = next(reader(ms.csv(str(file))).read(None))
        assert personal(table.head(1_000)) == [], name
    for load in (datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer, datasets.load_diabetes):
        assert personal(pl.from_pandas(load(as_frame=True).frame)) == []


def rows() -> pl.DataFrame:
    return pl.DataFrame({"contact": [f"zqx{place}@example.org" for place in range(60)], "late": [True, False] * 30})


def test_the_run_is_told_and_what_is_declared_is_no_news(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")

    told = ingest(source=ms.frame(rows()), roles=Roles("late"), home=home, loop="a").notes
    masked = ms.Privacy(mask=["contact"])
    quiet = ingest(source=ms.frame(rows()), roles=Roles("late"), home=home, loop="b", privacy=masked).notes

    assert any("column 'contact' holds e-mail addresses (100 % of its distinct values)" in note for note in told)
    assert not any("zqx" in note for note in told) and not any("holds" in note for note in quiet)


def test_a_contract_that_is_made_holds_no_value_of_what_looks_personal(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")
    told = rows().with_columns(fare=pl.int_range(60, eager=True))

    ingest(source=ms.frame(told), roles=Roles("late"), home=home, loop="a")
    ingest(source=ms.frame(told), roles=Roles("late"), home=home, loop="b", privacy=ms.Privacy(detect="off"))

    kept, unasked = contract.load(home, "a"), contract.load(home, "b")
    assert kept is not None and unasked is not None and "zqx" not in str(kept.to_json())
    assert (kept["contact"].personal, kept["fare"].personal, unasked["contact"].personal) == (True, False, False)


def test_where_it_blocks_nothing_is_kept(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")

    with pytest.raises(PersonalData, match=r"column 'contact' holds e-mail.*nothing was kept: .*drop=\['contact'\]"):
        ingest(source=ms.frame(rows()), roles=Roles("late"), home=home, loop="a", privacy=ms.Privacy(detect="block"))

    assert not (home.path / "tables" / "a" / "rows").exists()


@pytest.mark.parametrize(
    ("privacy", "said"),
    [
        (
            {"drop": ["contct"]},
            r"'contct', which the frame lacks \(did you mean 'contact'\?\); nothing was kept",
        ),
        ({"subject": "person"}, r"names column 'person', which the frame lacks \(it has "),
    ],
)
def test_a_name_that_the_source_doesnt_have_is_refused_before_anything_is_kept(
    tmp_path: Path, privacy: dict[str, Any], said: str
) -> None:
    home, declared = Home.open(tmp_path / ".mainspring"), Privacy(**privacy, detect="off")
    rows = pl.DataFrame({"contact": [f"{n}@example.org" for n in range(9)], "late": [True, False, True] * 3})

    with pytest.raises(SchemaMismatch, match=said):
        ingest(source=FrameSource(rows), roles=Roles("late"), home=home, loop="trips", privacy=declared)
    assert Table(home, "trips", "rows").version() is None


def test_only_the_beginning_of_a_long_text_is_searched() -> None:
    texts = [f"{number} " + "x" * 5_000_000 + " anna@example.org" for number in range(6)]

    assert personal(pl.DataFrame({"body": texts})) == []  # searching all of it took minutes


PLANTED = ("anna@planted.example", "+49 170 7654321", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00")


@pytest.mark.parametrize("value", PLANTED)
def test_no_message_note_reason_or_traceback_shows_a_value_that_looks_personal(
    value: str, home: Home, tmp_path: Path
) -> None:
    def told(source: Any, roles: Roles) -> str:
        with pytest.raises(MainspringError) as error:
            ingest(source=source, roles=roles, home=home, loop="loop")
        return "".join(traceback.format_exception(error.value))

    rows = pl.DataFrame({"n": [str(number) for number in range(40)], "y": [0, 1] * 20})
    stray = rows.with_columns(n=pl.when(pl.col("n") == "7").then(pl.lit(value)).otherwise("n"))
    (tmp_path / "cut.csv").write_text(f'n,mail,y\n1,b,0\n2,"{value},1\n')
    dates = ms.csv(str(tmp_path / "days.csv"), dates={"n": "%d.%m.%Y"})
    stray.with_columns(n=pl.lit(value)).write_csv(tmp_path / "days.csv")
    said = [
        told(FrameSource(stray.with_columns(n=pl.lit(value))), Roles("y", time="n")),
        told(ms.csv(str(tmp_path / "cut.csv")), Roles("y")),
        told(dates, Roles("y")),
    ]
    ingest(source=FrameSource(rows.with_columns(pl.col("n").cast(pl.Int64))), roles=Roles("y"), home=home, loop="kept")
    dataset = ingest(source=FrameSource(stray), roles=Roles("y"), home=home, loop="kept")
    reasons = Table(home, "kept", "quarantine").read()["reason"].to_list()

    assert dataset.notes and reasons
    assert not any(value in each for each in (*said, *dataset.notes, *reasons))


@pytest.mark.parametrize(
    "value",
    [
        "anna@mail.example.co.uk", "no.4111111111111111", "4111111111111111.0", "3782 822463 10005", "2720990000000007",
        "3530111333300000", "30569309025904", "6200000000000005",
    ],
)  # fmt: skip
def test_the_whole_of_a_personal_value_is_hidden(value: str) -> None:
    said = hidden(f"row 3: {value} is no date")

    assert said.count("<") == 1 and value[-4:] not in said


@pytest.mark.parametrize(
    "value",
    [
        "git@github.com:house/works.git", "2026-11-24 10:00:00 +1000 2026-11-24", "2730990000000006",
        "ab4111111111111111",
        "0.4111111111111111", "0b39-4111111111111111cd", "41111111-1111-1111-1f00-000000000000",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_personal_value_is_told(value: str) -> None:
    assert hidden(f"'{value}' isn't there") == f"'{value}' isn't there"


def test_an_iban_in_small_letters_is_one() -> None:
    assert is_iban("de89 3704 0044 0532 0130 00")


def test_a_step_that_fails_with_a_personal_value_is_told_without_it(tmp_path: Path) -> None:
    @ms.step
    def ages() -> int:
        return int(PLANTED[0])

    with pytest.raises(MainspringError, match="<e-mail address>"):
        ms.Pipeline("ages", [ages]).run(home=tmp_path / "home")

    kept = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert b"<e-mail address>" in kept and PLANTED[0].encode() not in kept
