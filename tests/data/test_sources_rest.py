"""APIs as sources, against a real server: the whole set of rows, or an error; never a part without a word."""

from __future__ import annotations

import base64
import email.utils
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core import sources as ms
from mainspring.core.errors import DeclarationError, SourceError, SourceNotFound
from mainspring.data import outbound
from mainspring.data.outbound import Outbound
from mainspring.data.sources import reader
from tests.data.web import Answer, Asked, Script, answer, serving

ALL = [{"id": n, "at": f"2013-01-{n + 1:02}T00:00:00Z", "from": {"city": f"c{n}"}} for n in range(25)]
OWN = ms.Http(private=True)


def rows_of(source: Any, since: Any = None) -> pl.DataFrame:
    return pl.concat([part for part, _ in reader(source).read(since)], how="diagonal_relaxed")


def ids(source: Any, since: Any = None) -> list[int]:
    found = rows_of(source, since)
    return found["id"].to_list() if found.width else []


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between calls; in the tests nothing is."""
    waited: list[float] = []
    fresh = Outbound.__init__

    def hasty(self: Outbound, url: str, access: ms.Http, **_: Any) -> None:
        fresh(self, url, access, sleep=waited.append, chance=random.Random(0))

    monkeypatch.setattr(Outbound, "__init__", hasty)
    return waited


def by_page(asked: Asked, rows: list[dict[str, Any]] = ALL) -> Answer:
    size, page = int(asked.query.get("per_page", 10)), int(asked.query.get("page", 1))
    return answer({"data": {"items": rows[(page - 1) * size : page * size]}, "total": len(rows)})


def by_offset(asked: Asked) -> Answer:
    offset = int(asked.query["offset"])
    return answer({"data": {"items": ALL[offset : offset + 7]}})


def by_cursor(asked: Asked) -> Answer:
    start = int(asked.query.get("after", 0))
    return answer({"data": {"items": ALL[start : start + 6]}, "meta": {"next": start + 6 if start + 6 < 25 else None}})


def by_link(asked: Asked) -> Answer:
    start = int(asked.query.get("start", 0))
    more = {"Link": f'</rows?start={start + 6}>; rel="next", </rows>; rel="first"'} if start + 6 < 25 else {}
    return answer({"data": {"items": ALL[start : start + 6]}}, headers=more)


WAYS: dict[str, tuple[Callable[[Asked], Answer], ms.Paging]] = {
    "page": (by_page, ms.Paging("page", "page", size="per_page", rows=10)),
    "offset": (by_offset, ms.Paging("offset", "offset")),
    "cursor": (by_cursor, ms.Paging("cursor", "after", next="meta.next")),
    "link": (by_link, ms.Paging("link")),
}


class TestPaging:
    @pytest.mark.parametrize("way", WAYS)
    def test_every_way_of_paging_gives_all_rows_once(self, way: str) -> None:
        say, paging = WAYS[way]
        with serving(say) as server:
            found = rows_of(ms.rest(f"{server.url}/rows", rows="data.items", paging=paging, access=OWN))

        assert found["id"].to_list() == list(range(25)) and found["from_city"][3] == "c3"

    @pytest.mark.parametrize("way", WAYS)
    @given(seed=st.integers(0, 10_000))
    @settings(max_examples=8, deadline=None)
    def test_a_flaky_server_gives_the_same_rows_or_an_error_for_at_most_three_times_the_calls(
        self, way: str, seed: int
    ) -> None:
        say, paging = WAYS[way]
        chance = random.Random(seed)

        def flaky(asked: Asked) -> Answer:
            said = say(asked)
            fault = chance.random()
            if fault < 0.1:
                return Answer(status=chance.choice([429, 500, 502, 503]))
            if fault < 0.2:
                return Answer(said.body, said.headers, cut=chance.randint(0, len(said.body) - 1))
            if fault < 0.25:
                return Answer(said.body[: chance.randint(0, len(said.body) - 1)], said.headers)
            return said

        with serving(say) as server:
            rows_of(ms.rest(f"{server.url}/rows", rows="data.items", paging=paging, access=OWN))
            clean = len(server.asked)
        with serving(flaky) as server:
            try:
                found = ids(ms.rest(f"{server.url}/rows", rows="data.items", paging=paging, access=OWN))
            except SourceError as error:
                assert "failed" in str(error)
            else:
                assert found == list(range(25))
            assert len(server.asked) <= 3 * clean

    @pytest.mark.parametrize(
        "link",
        [
            '<?p=2>; rel="next last"', "<?p=2>; REL=Next", "<?p=2>;rel = 'next'", '<?p=2>; title="a=b, c"; rel="next"',
            '<?p=0>; rel="first"; title="x, <y>; rel=next", <?p=2>; rel="next"; rel="prev"',
        ],
    )  # fmt: skip
    def test_the_next_page_is_found_however_its_link_is_written(self, link: str) -> None:
        def say(asked: Asked) -> Answer:
            return answer([{"id": 2}]) if asked.query.get("p") == "2" else answer([{"id": 1}], headers={"Link": link})

        with serving(say) as server:
            assert ids(ms.rest(server.url, paging=ms.Paging("link"), access=OWN)) == [1, 2]
            with pytest.raises(SourceError, match="has more pages than the one that was asked for"):
                rows_of(ms.rest(server.url, access=OWN))

    def test_the_total_that_a_server_tells_is_held_against_the_rows(self) -> None:
        with serving(by_page) as server:
            paging = ms.Paging("page", "page")
            assert len(ids(ms.rest(server.url, rows="data.items", total="total", paging=paging, access=OWN))) == 25
            assert len(server.asked) == 3
        with serving(lambda asked: answer({"items": ALL[:3], "total": 9})) as server:
            with pytest.raises(SourceError, match="gave 3 rows but says that there are 9"):
                rows_of(ms.rest(server.url, rows="items", total="total", access=OWN))
            with pytest.raises(SourceError, match="has nothing at 'what': no 'what', it has 'items', 'total'"):
                rows_of(ms.rest(server.url, rows="items", total="what", access=OWN))
            with pytest.raises(SourceError, match="at 'items', no number of rows; mend total="):
                rows_of(ms.rest(server.url, rows="items", total="items", access=OWN))

    @pytest.mark.parametrize(
        ("said", "headers"),
        [({"total": 9}, {}), ({"meta": {"pageCount": 3}}, {}), ({}, {"X-Total-Count": "9"}),
         ({}, {"Content-Range": "items 0-2/9"})],
    )  # fmt: skip
    def test_more_rows_than_came_are_found_out_without_total(self, said: Any, headers: dict[str, str]) -> None:
        items = answer({"items": ALL[:3], **said}, headers=headers)
        with serving(lambda asked: items) as server:
            with pytest.raises(SourceError, match=r"gave (3 rows|1 page) but tells of [39] at .* paging=ms.Paging"):
                rows_of(ms.rest(server.url, rows="items", access=OWN))
            assert len(ids(ms.rest(server.url, rows="items", total=None, access=OWN))) == 3

    def test_a_server_that_stops_giving_is_found_out_by_what_it_told(self) -> None:
        def window(asked: Asked) -> Answer:
            offset = int(asked.query["offset"])
            return answer({"items": ALL[offset : offset + 5] if offset < 10 else [], "count": 25})

        with serving(window) as server, pytest.raises(SourceError, match="gave 10 rows but tells of 25 at 'count'"):
            rows_of(ms.rest(server.url, rows="items", paging=ms.Paging("offset", "offset"), access=OWN))

    def test_a_total_of_all_rows_is_no_fault_where_only_the_new_ones_are_asked_for(self) -> None:
        known = ALL[:10]

        def since(asked: Asked) -> Answer:
            rows = [row for row in known if row["at"] >= asked.query.get("after", "")]
            return answer({"items": rows[:10], "total": len(known)})

        with serving(since) as server:
            source = ms.rest(server.url, rows="items", since=("after", "at"), access=OWN)
            cursor = [cursor for _, cursor in reader(source).read(None)][-1]
            known = ALL[:12]
            assert ids(source, cursor) == [10, 11]
            known = ALL
            with pytest.raises(SourceError, match="tells of 25 at 'total'"):
                ids(source, cursor)

    def test_a_page_that_is_not_there_is_the_end_only_where_all_rows_have_come(self) -> None:
        def strict(asked: Asked, told: bool = True) -> Answer:
            page = int(asked.query["page"])
            said = {"items": ALL[(page - 1) * 5 : page * 5], **({"count": 25} if told else {})}
            return answer(said) if said["items"] else Answer(status=404)

        paging = ms.Paging("page", "page")
        with serving(strict) as server:
            assert len(ids(ms.rest(server.url, rows="items", paging=paging, access=OWN))) == 25
        with (
            serving(lambda asked: strict(asked, told=False)) as server,
            pytest.raises(SourceError, match="has no page at page=6; say where an answer has the number of all rows"),
        ):
            ids(ms.rest(server.url, rows="items", paging=paging, access=OWN))

    def test_a_total_that_changes_between_pages_is_an_error(self) -> None:
        pages = [answer({"items": ALL[:10], "total": 25}), answer({"items": ALL[10:20], "total": 24})]
        with (
            serving(Script(pages)) as server,
            pytest.raises(SourceError, match="had 25 rows in all, then 24: they changed while they were read"),
        ):
            rows_of(ms.rest(server.url, rows="items", total="total", paging=ms.Paging("page", "page"), access=OWN))

    @pytest.mark.parametrize(
        ("say", "paging", "said"),
        [
            (lambda asked: answer(ALL[:10]), ms.Paging("page", "p"), "gives the same rows twice"),
            (lambda asked: answer(ALL[:10]), ms.Paging("offset", "p"), "gives the same rows twice"),
            (lambda asked: answer({"rows": ALL[:1], "n": 7}), ms.Paging("cursor", "p", next="n"), "next page twice"),
            (lambda asked: answer(ALL[:3], headers={"Link": '</x>; rel="next"'}), ms.Paging("link"), "same next page"),
            (lambda asked: answer(ALL[:3], headers={"Link": '</x>; rel="next"'}), None, "has more pages than the one"),
            (
                lambda asked: answer(ALL[:3], headers={"Link": '<https://example.com/x>; rel="next"'}),
                ms.Paging("link"), "goes on at another server, 'https://example.com/x'",
            ),
            (lambda asked: answer({"error": "no"}), None, "has no list of rows"),
            (lambda asked: answer([1]), None, "row 1 is a number, not an object"),
            (lambda asked: Answer(b"<html>log in</html>"), None, "isn't JSON"),
            (lambda asked: Answer(b'[{"a": 1, "a": 2}]'), None, "key 'a' comes twice"),
        ],
    )  # fmt: skip
    def test_a_set_that_may_not_be_whole_is_an_error(self, say: Any, paging: Any, said: str) -> None:
        rows = "rows" if paging is not None and paging.by == "cursor" else ""
        with serving(say) as server, pytest.raises(SourceError, match=said):
            rows_of(ms.rest(server.url, rows=rows, paging=paging, access=OWN))

    @pytest.mark.parametrize(
        ("told", "paging"),
        [
            ({"meta": {"next_cursor": "b"}}, ms.Paging("cursor", "after", next="meta.next")),
            ({"next": "/rows?page=2", "count": 25}, None), ({"has_more": True}, None),
            ({"_links": {"next": {"href": "/rows?page=2"}}}, ms.Paging("link")), ({"@odata.nextLink": "/b"}, None),
        ],
    )  # fmt: skip
    def test_an_answer_that_tells_of_more_pages_elsewhere_is_no_whole_set(self, told: Any, paging: Any) -> None:
        with (
            serving(lambda asked: answer({"rows": ALL[:9], **told})) as server,
            pytest.raises(SourceError, match="has more pages than were read: its answer tells of them at '"),
        ):
            rows_of(ms.rest(server.url, rows="rows", paging=paging, access=OWN))
        last = {**told, **dict.fromkeys(told, None), "total": 9, "cursor": "x"}
        with serving(lambda asked: answer({"rows": [{**row, "next": 1} for row in ALL[:9]], **last})) as server:
            assert rows_of(ms.rest(server.url, rows="rows", paging=paging, access=OWN)).height == 9
        with serving(lambda asked: answer({"rows": ALL[:9], **told, "total": 9})) as server:
            assert rows_of(ms.rest(server.url, rows="rows", total="total", paging=paging, access=OWN)).height == 9

    @pytest.mark.parametrize(
        "told", [{"first": False}, {"previous": "/rows?page=0"}, {"_links": {"prev": {"href": "/"}}}]
    )
    def test_an_answer_that_tells_of_a_page_before_the_first_one_asked_is_no_whole_set(self, told: Any) -> None:
        def say(asked: Asked) -> Answer:
            page = int(asked.query["page"])
            return answer(
                {"rows": ALL[page * 10 : page * 10 + 10], **(told if page else {"first": True, "prev": None})}
            )

        with serving(say) as server:
            with pytest.raises(
                SourceError, match=r"has a page before page 1: .* give the number of its first one: start=0"
            ):
                rows_of(ms.rest(server.url, rows="rows", paging=ms.Paging("page", "page"), access=OWN))
            paging = ms.Paging("page", "page", start=0)
            assert rows_of(ms.rest(server.url, rows="rows", paging=paging, access=OWN)).height == 25

    def test_rows_on_a_page_zero_that_nothing_tells_of_are_missed_by_nobody(self) -> None:
        def counted(asked: Asked, from_zero: bool = True) -> Answer:
            page = int(asked.query["page"]) - (0 if from_zero else 1)
            return answer({"rows": ALL[page * 10 : page * 10 + 10] if page >= 0 else ALL[:10]})

        paging = ms.Paging("page", "page")
        with serving(counted) as server, pytest.raises(SourceError, match=r"has rows at page=0, .* start=0"):
            rows_of(ms.rest(server.url, rows="rows", paging=paging, access=OWN))
        with serving(counted) as server:
            assert ids(ms.rest(server.url, rows="rows", paging=replace(paging, start=0), access=OWN)) == [
                row["id"] for row in ALL
            ]
        with serving(partial(counted, from_zero=False)) as server:  # page 0 is page 1 there
            assert ids(ms.rest(server.url, rows="rows", paging=paging, access=OWN)) == [row["id"] for row in ALL]

    def test_pages_whose_size_changes_are_refused_where_pages_are_numbered(self) -> None:
        sizes = {"1": ALL[:10], "2": ALL[10:15], "3": ALL[15:25], "4": []}
        with (
            serving(lambda asked: answer(sizes[asked.query["page"]])) as server,
            pytest.raises(SourceError, match="gives pages of 10, then 5, then 10 rows"),
        ):
            rows_of(ms.rest(server.url, paging=ms.Paging("page", "page"), access=OWN))

    def test_rows_that_move_between_pages_are_noticed_by_their_key(self) -> None:
        pages = {"1": ALL[:10], "2": ALL[9:19], "3": []}
        with (
            serving(lambda asked: answer(pages[asked.query["page"]])) as server,
            pytest.raises(SourceError, match="gives id 9 twice: its rows moved"),
        ):
            rows_of(ms.rest(server.url, paging=ms.Paging("page", "page"), unique="id", access=OWN))


class TestFaults:
    def test_both_forms_of_retry_after_are_honoured(self, waits: list[float]) -> None:
        soon = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
        limits = [Answer(status=429, headers={"Retry-After": "7"}), Answer(status=503, headers={"Retry-After": soon})]
        with serving(Script([*limits, *limits, answer(ALL)])) as server:
            assert len(ids(ms.rest(server.url, access=OWN))) == 25

        assert waits[0] == 7.0 and 30 < waits[1] <= 40

    def test_a_wait_of_odd_digits_counts_as_none(self, waits: list[float]) -> None:
        limited = Answer(status=429, headers={"Retry-After": "\u00b2"})
        with serving(Script([limited, answer(ALL[:1])])) as server:
            assert len(ids(ms.rest(server.url, access=OWN))) == 1 and len(waits) == 1

    def test_a_wait_beyond_max_time_is_an_error(self) -> None:
        with (
            serving(lambda asked: Answer(status=429, headers={"Retry-After": "7200"})) as server,
            pytest.raises(SourceError, match="asks to wait 2 hours, longer than max_time='10m'"),
        ):
            rows_of(ms.rest(server.url, access=OWN))

    def test_waits_without_a_word_grow_and_vary(self, waits: list[float]) -> None:
        with serving(by_cursor) as server, Outbound(server.url, OWN) as client:
            client._answered = 5

            def fail(body: bytes, answered: Any) -> None:
                raise SourceError("not yet")

            with pytest.raises(SourceError, match="failed 6 times, last: not yet"):
                client.ask(server.url, fail)

        assert len(waits) == 5 and len(set(waits)) == 5
        assert all(0.1 <= wait <= 0.5 * 2 ** (at + 1) for at, wait in enumerate(waits))

    @pytest.mark.parametrize(
        ("said", "access", "message"),
        [
            (Answer(status=500), OWN, "failed 3 times, last: 500 Internal Server Error"),
            (Answer(b"[]", cut=1), OWN, "failed 3 times, last: RemoteProtocolError"),
            (Answer(b"[]", late=0.5), ms.Http(private=True, timeout=0.1), "last: no answer within timeout=0.1"),
            (
                Answer(b"[" + b" " * 100 + b"]", trickle=0.05), ms.Http(private=True, max_time=0.3),
                "last: the answer took longer than max_time=0.3",
            ),
            (Answer(b"[" + b" " * 3000 + b"]"), ms.Http(private=True, max_size=1000), "more than max_size=1000"),
            (Answer(status=400), OWN, "answers 400 Bad Request; mend the address or its parameters"),
            (Answer(status=401), OWN, "answers 401 Unauthorized; say who asks"),
        ],
    )  # fmt: skip
    def test_faults_are_named_after_a_few_calls(self, said: Answer, access: ms.Http, message: str) -> None:
        began = time.monotonic()
        with serving(lambda asked: said) as server:
            with pytest.raises(SourceError, match=message) as error:
                rows_of(ms.rest(f"{server.url}/rows?key=hunter22", access=access))
            assert len(server.asked) <= 3
        assert "hunter22" not in str(error.value) and time.monotonic() - began < 8

    def test_a_server_that_isnt_there_is_named(self) -> None:
        with pytest.raises(SourceError, match=r"failed 1 times|failed \d times, last: ConnectError"):
            rows_of(ms.rest("http://127.0.0.1:9/rows", access=OWN))
        with pytest.raises(SourceError, match=r"no address is known for 'nobody.invalid'"):
            rows_of(ms.rest("https://nobody.invalid/rows"))


class TestDoors:
    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "192.168.1.1", "100.64.0.1"]
    )
    def test_the_own_network_is_asked_only_where_that_is_said(self, host: str) -> None:
        with pytest.raises(SourceError, match=r"of the own network; if that is meant: access=ms.Http\(private"):
            rows_of(ms.rest(f"http://{host}/rows"))

    @pytest.mark.parametrize("host", ["169.254.169.254", "0.0.0.0", "[fe80::1]"])
    def test_addresses_of_no_server_of_data_are_never_asked(self, host: str) -> None:
        with pytest.raises(SourceError, match="an address that no server of data has"):
            rows_of(ms.rest(f"http://{host}/latest/meta-data", access=OWN))

    def test_a_redirect_within_the_server_is_followed_and_a_loop_is_not(self) -> None:
        def moved(asked: Asked) -> Answer:
            return Answer(status=302, headers={"Location": "/new"}) if asked.path == "/old" else answer(ALL)

        with serving(moved) as server:
            assert len(ids(ms.rest(f"{server.url}/old", access=OWN))) == 25
        with (
            serving(lambda asked: Answer(status=302, headers={"Location": "/old"})) as server,
            pytest.raises(SourceError, match="redirects more than 5 times"),
        ):
            rows_of(ms.rest(f"{server.url}/old", access=OWN))

    def test_credentials_never_reach_another_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MS_TOKEN", "hunter22")
        with serving(lambda asked: answer(ALL)) as other:
            away = Answer(status=307, headers={"Location": f"{other.url}/take"})
            with serving(lambda asked: away) as server:
                with pytest.raises(SourceError, match=r"redirects to another server, .* must not get its credentials"):
                    rows_of(ms.rest(server.url, access=ms.Http(bearer="env:MS_TOKEN", private=True)))
                assert len(ids(ms.rest(server.url, access=OWN))) == 25
            assert [asked.headers.get("authorization") for asked in other.asked] == [None]

    def test_a_redirect_into_the_own_network_is_refused(self) -> None:
        client = Outbound("https://example.com/", ms.Http())
        with pytest.raises(SourceError, match="which isn't https"):
            client._followed("https://example.com/", "http://127.0.0.1/")
        with pytest.raises(SourceError, match="which isn't https"):
            client._followed("http://example.com/", "file:///etc/passwd")


class TestWhoAsks:
    @pytest.fixture(autouse=True)
    def secrets(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("MS_TOKEN", "hunter22")

    @pytest.mark.parametrize(
        ("access", "header", "value"),
        [
            ({"bearer": "env:MS_TOKEN"}, "authorization", "Bearer hunter22"),
            ({"basic": ("me", "env:MS_TOKEN")}, "authorization", "Basic " + base64.b64encode(b"me:hunter22").decode()),
            ({"header": ("X-Api-Key", "env:MS_TOKEN")}, "x-api-key", "hunter22"),
        ],
    )
    def test_headers_say_who_asks(self, access: Any, header: str, value: str) -> None:
        with serving(lambda asked: answer(ALL)) as server:
            rows_of(ms.rest(server.url, access=ms.Http(**access, private=True)))
            assert [asked.headers[header] for asked in server.asked] == [value]

    def test_a_key_may_be_a_parameter_and_stays_out_of_messages(self) -> None:
        with serving(Script([answer(ALL), Answer(status=500)])) as server:
            access = ms.Http(query=("api_key", "env:MS_TOKEN"), private=True)
            source = ms.rest(f"{server.url}/rows", parameters={"year": 2013}, access=access)
            rows_of(source)
            assert server.asked[0].query == {"year": "2013", "api_key": "hunter22"}
            with pytest.raises(SourceError) as error:
                rows_of(source)
        told = [str(error.value), repr(source), json.dumps(reader(source).identity), reader(source).name]
        assert "hunter22" not in " ".join(told)

    def test_oauth2_asks_for_a_token_once_and_again_when_it_has_expired(self) -> None:
        tokens = iter(["one", "two"])

        def say(asked: Asked) -> Answer:
            if asked.path == "/token":
                assert asked.headers["authorization"] == "Basic " + base64.b64encode(b"client:hunter22").decode()
                assert b"grant_type=client_credentials" in asked.body and b"scope=read" in asked.body
                return answer({"access_token": next(tokens), "token_type": "bearer"})
            late = int(asked.query.get("after", 0)) >= 12
            good = asked.headers["authorization"] == ("Bearer two" if late else "Bearer one")
            return by_cursor(asked) if good else Answer(status=401)

        with serving(say) as server:
            access = ms.Http(oauth2=(f"{server.url}/token", "client", "env:MS_TOKEN"), scope="read", private=True)
            source = ms.rest(
                f"{server.url}/rows", rows="data.items", access=access,
                paging=ms.Paging("cursor", "after", next="meta.next"),
            )  # fmt: skip
            assert ids(source) == list(range(25))
            assert sum(asked.path == "/token" for asked in server.asked) == 2

    def test_a_token_that_is_refused_is_told_without_it(self) -> None:
        with serving(lambda asked: Answer(status=401)) as server:
            access = ms.Http(bearer="env:MS_TOKEN", private=True)
            with pytest.raises(SourceNotFound, match="401 Unauthorized; check what its credentials refer to") as error:
                rows_of(ms.rest(server.url, access=access))
        assert "hunter22" not in str(error.value)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"bearer": "hunter22"}, {"basic": ("me", "hunter22")}, {"header": ("X", "hunter22")}, {"basic": "hunter22"},
            {"bearer": "env:A", "query": ("b", "env:B")}, {"timeout": 0}, {"max_size": "-1"},
        ],
    )  # fmt: skip
    def test_a_declaration_with_a_secret_or_without_sense_is_refused(self, wrong: Any) -> None:
        with pytest.raises(DeclarationError) as error:
            ms.Http(**wrong)
        assert "hunter22" not in str(error.value)

    def test_a_password_in_an_address_is_refused(self) -> None:
        with pytest.raises(DeclarationError) as error:
            ms.rest("https://me:hunter22@example.com/")
        assert "hunter22" not in str(error.value)


class TestOnlyWhatIsNew:
    @pytest.mark.parametrize("inclusive", [True, False])
    def test_the_next_run_asks_for_what_is_beyond_the_last_row(self, inclusive: bool) -> None:
        rows = [*ALL[:10]]

        def say(asked: Asked) -> Answer:
            since = asked.query.get("since", "")
            return answer([row for row in reversed(rows) if row["at"] > since or (inclusive and row["at"] == since)])

        with serving(say) as server:
            source = ms.rest(server.url, since=("since", "at"), access=OWN)
            cursor = [cursor for _, cursor in reader(source).read(None)][-1]
            cursor = json.loads(json.dumps(cursor))
            assert ids(source, cursor) == [] and reader(source).incremental and cursor["value"] == ALL[9]["at"]
            rows += [{**ALL[9], "id": 99}, ALL[10]] if inclusive else [ALL[10]]

            assert sorted(ids(source, cursor)) == ([10, 99] if inclusive else [10])

    def test_a_server_that_takes_only_the_day_gives_each_row_once(self) -> None:
        rows = [{"id": n, "at": f"2013-01-01T{n:02}:00:00Z"} for n in range(5)]
        with serving(lambda asked: answer(rows)) as server:
            source = ms.rest(server.url, since=("day", "at"), access=OWN)
            cursor = [cursor for _, cursor in reader(source).read(None)][-1]
            rows.append({"id": 5, "at": "2013-01-01T06:00:00+01:00"})

            assert ids(source, cursor) == [5]

    def test_the_cursor_moves_only_behind_the_last_page(self) -> None:
        with serving(by_cursor) as server:
            source = ms.rest(
                server.url, rows="data.items", paging=WAYS["cursor"][1], since=("since", "at"), access=OWN
            )  # fmt: skip
            cursors = [cursor for _, cursor in reader(source).read(None)]

        assert cursors[:-1] == [None] * 4 and cursors[-1]["value"] == ALL[-1]["at"]

    def test_rows_without_the_column_or_without_an_order_are_named(self) -> None:
        replies = Script([answer([{"at": 1}, {"id": 2}]), answer([{"at": 1}, {"at": "x"}])])
        with serving(replies) as server:
            source = ms.rest(server.url, since=("since", "at"), access=OWN)
            with pytest.raises(SourceError, match="has None as 'at', by which since= tells what is new"):
                rows_of(source)
            with pytest.raises(SourceError, match="has 1 and 'x' as 'at', which have no order"):
                rows_of(source)

    @pytest.mark.parametrize(
        ("before", "later", "wrong"),
        [
            ("9", "10", ""), ("9.75", "10.25", ""), ("2013-01-01T00:00:00Z", "2013-01-01T00:30:00", ""),
            ("2013-09", "2013-10", ""), ("01ARZ3NDEK", "01ARZ3NDEZ", ""), (9.5, 10, ""),
            ("a9", "a10", "has 'a9' and 'a10' as 'at', which have no order"),
            (9, "10", ""), (9, "x", "has 9 and 'x' as 'at', which have no order"),
            ("12/01/2013", "01/02/2014", "has '12/01/2013' as 'at', text in which nothing tells what is later"),
            ("Mon, 07 Jan 2013 00:00:00 GMT", "", "text in which nothing tells what is later; name a column of"),
        ],
    )  # fmt: skip
    def test_a_later_row_comes_or_is_named_however_its_value_is_written(
        self, before: Any, later: Any, wrong: str
    ) -> None:
        with serving(Script([answer([{"at": before}]), answer([{"at": before}, {"at": later}])])) as server:
            source = ms.rest(server.url, since=("since", "at"), access=OWN)
            try:
                cursor = [cursor for _, cursor in reader(source).read(None)][-1]
                found = rows_of(source, json.loads(json.dumps(cursor)))["at"].to_list()
            except SourceError as error:
                assert wrong and wrong in str(error)
            else:
                assert found == [later] and not wrong


def test_addresses_are_shown_without_what_may_be_secret() -> None:
    assert outbound.shown("https://me:pw@example.com:8443/a/b?key=1#x") == "https://example.com:8443/a/b"
    assert outbound.shown("rows.csv") == "rows.csv"
