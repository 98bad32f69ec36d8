"""Files behind addresses: on this machine an S3 server, which Google's store is asked like, blobs, and web servers."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

import mainspring as ms
from mainspring.core.errors import DeclarationError, SourceError, SourceNotFound
from mainspring.data import remote
from mainspring.data.sources import beyond, reader
from tests.certificates import certificate
from tests.data import blobs
from tests.data.web import Answer, Script, serving

ROWS = pl.DataFrame({"id": [1, 2, 3], "name": ["a", "b", None]})
WEB = ms.Http(private=True)


def rows_of(source: Any, since: Any = None) -> pl.DataFrame:
    return pl.concat([part for part, _ in reader(source).read(since)], how="diagonal_relaxed")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server that speaks S3."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
        server.terminate()


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Writes objects into the bucket "flights", which begins empty."""
    from obstore.store import S3Store

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "secret").write_text("S3CRET-hunter22\n")
    monkeypatch.setenv("MS_TEST_KEY", "PLANTEDKEY")
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/flights", method="PUT")).close()
    store = S3Store(
        "flights", endpoint=endpoint, region="us-east-1", access_key_id="x", secret_access_key="x",
        client_options={"allow_http": True},
    )  # fmt: skip

    def put(key: str, content: bytes) -> None:
        store.put(key, content)

    yield put


@pytest.fixture
def s3(endpoint: str, tmp_path: Path) -> ms.S3:
    return ms.S3(endpoint, access_key="env:MS_TEST_KEY", secret_key=f"file:{tmp_path}/secret")


class TestObjects:
    def test_every_format_is_read_from_an_object_store(
        self, bucket: Callable[..., None], s3: ms.S3, tmp_path: Path
    ) -> None:
        ROWS.write_parquet(tmp_path / "rows.parquet")
        ROWS.write_ipc(tmp_path / "rows.arrow")
        ROWS.write_ndjson(tmp_path / "rows.jsonl")
        ROWS.write_csv(tmp_path / "rows.csv")
        for kind, declare in (("parquet", ms.parquet), ("arrow", ms.arrow), ("jsonl", ms.json), ("csv", ms.csv)):
            bucket(f"raw data/rows.{kind}", (tmp_path / f"rows.{kind}").read_bytes())

            assert rows_of(declare(f"s3://flights/raw data/rows.{kind}", access=s3)).equals(ROWS)
        bucket("packed.csv.gz", gzip.compress((tmp_path / "rows.csv").read_bytes()))
        assert rows_of(ms.csv("s3://flights/packed.csv.gz", access=s3)).equals(ROWS)

    def test_an_iceberg_table_is_followed_by_its_folder(
        self, bucket: Callable[..., None], s3: ms.S3, endpoint: str, tmp_path: Path
    ) -> None:
        how = {"endpoint": endpoint, "access-key-id": "x", "secret-access-key": "x", "region": "us-east-1"}
        catalog = SqlCatalog(
            "own", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse="s3://flights/lake",
            **{f"s3.{name}": value for name, value in how.items()},
        )  # fmt: skip
        catalog.create_namespace("air")
        table = catalog.create_table("air.flights", schema=ROWS.to_arrow().schema)
        table.append(ROWS.to_arrow())
        source = ms.iceberg(f"{table.location()}/", access=s3)
        assert rows_of(source).equals(ROWS)

        table.append(ROWS.to_arrow())

        assert rows_of(source).height == 2 * ROWS.height
        catalog.close()
        with pytest.raises(SourceNotFound, match="'s3://flights/lake' holds no Iceberg table"):
            rows_of(ms.iceberg("s3://flights/lake", access=s3))

    def test_an_iceberg_table_in_a_bucket_opens_no_file_of_this_machine(
        self, bucket: Callable[..., None], s3: ms.S3, tmp_path: Path
    ) -> None:
        catalog = SqlCatalog("own", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=tmp_path.as_uri())
        catalog.create_namespace("air")
        table = catalog.create_table("air.flights", schema=ROWS.to_arrow().schema)
        table.append(ROWS.to_arrow())
        catalog.close()
        bucket("hostile/metadata/v1.metadata.json", Path(table.metadata_location.removeprefix("file://")).read_bytes())

        with pytest.raises(SourceError, match=r"names 'file:///.*avro', which isn't in S3; its files are read from no"):
            rows_of(ms.iceberg("s3://flights/hostile", access=s3))

    def test_globs_and_folders_give_their_files_in_order(self, bucket: Callable[..., None], s3: ms.S3) -> None:
        for key in ("2013/02.csv", "2013/01.csv", "2013/deep/03.csv", "2013/_tmp/04.csv", "2014/05.csv", "2013/x.txt"):
            bucket(key, f"file\n{key}\n".encode())

        def found(path: str) -> list[Any]:
            return rows_of(ms.csv(f"s3://flights/{path}", access=s3))["file"].to_list()

        bucket("2015/a[1].csv", b"file\n2015\n")
        assert found("2015/a[1].csv") == [2015]
        assert found("2013/*.csv") == ["2013/01.csv", "2013/02.csv"]
        assert found("*/0[1-4].csv") == ["2013/01.csv", "2013/02.csv"]
        assert found("2013/**/*.csv") == ["2013/01.csv", "2013/02.csv", "2013/_tmp/04.csv", "2013/deep/03.csv"]
        assert found("2013/") == found("2013") == ["2013/01.csv", "2013/02.csv", "2013/deep/03.csv"]

    def test_only_new_objects_are_read_and_a_changed_one_has_all_read_again(
        self, bucket: Callable[..., None], s3: ms.S3
    ) -> None:
        source = ms.csv("s3://flights/*.csv", access=s3)
        bucket("1.csv", b"n\n1\n")
        ((_, cursor),) = reader(source).read(None)
        cursor = json.loads(json.dumps(cursor))
        bucket("2.csv", b"n\n2\n")

        assert beyond(reader(source), cursor) == cursor and rows_of(source, cursor)["n"].to_list() == [2]
        bucket("1.csv", b"n\n9\n")
        assert beyond(reader(source), cursor) is None

    def test_delta_tables_are_read_from_an_object_store(
        self, bucket: Callable[..., None], s3: ms.S3, endpoint: str
    ) -> None:
        how = {"endpoint": endpoint, "region": "us-east-1", "access_key_id": "x", "secret_access_key": "x"}
        write_deltalake("s3://flights/table", ROWS, storage_options={**how, "allow_http": "true"})

        source = ms.delta("s3://flights/table", access=s3)

        assert rows_of(source).equals(ROWS) and reader(source).position()[1] == 0
        with pytest.raises(SourceNotFound, match="'s3://flights/none' holds no Delta table"):
            reader(ms.delta("s3://flights/none", access=s3)).position()

    def test_what_is_missing_or_refused_is_named_without_secrets(
        self, bucket: Callable[..., None], s3: ms.S3, tmp_path: Path
    ) -> None:
        bucket("rows.csv", b"n\n1\n")
        with pytest.raises(SourceNotFound, match=r"no such file: 's3://flights/row.csv'; 's3://flights/' has rows.csv"):
            rows_of(ms.csv("s3://flights/row.csv", access=s3))
        with pytest.raises(SourceError, match=r"'s3://nobody-has-this/rows.csv'"):
            rows_of(ms.csv("s3://nobody-has-this/rows.csv", access=s3))
        for path in ("2013//rows.csv", "./rows.csv", "2013//*.csv"):
            with pytest.raises(SourceError, match=f"'s3://flights/{re.escape(path)}'"):
                rows_of(ms.csv(f"s3://flights/{path}", access=s3))
        with pytest.raises(SourceNotFound, match="'MS_NOT_SET' of 'env:MS_NOT_SET' isn't set"):
            rows_of(ms.csv("s3://flights/rows.csv", access=ms.S3(access_key="env:MS_NOT_SET")))
        source = ms.csv("s3://flights/rows.csv", access=s3)
        told = json.dumps([reader(source).identity, reader(source).position(), reader(source).name]) + repr(source)
        assert "hunter22" not in told and "PLANTEDKEY" not in told

    def test_without_the_extra_the_message_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "obstore", None)

        with pytest.raises(SourceError, match=r"pip install 'mainspring\[s3\]'"):
            rows_of(ms.csv("s3://flights/rows.csv"))

    def test_a_secret_in_the_declaration_is_refused_and_not_repeated(self) -> None:
        with pytest.raises(DeclarationError, match=r"secret_key=...\) must be a reference") as error:
            ms.S3(secret_key="hunter22")
        assert "hunter22" not in str(error.value)
        with pytest.raises(DeclarationError, match=r"reached by access=ms\.S3"):
            rows_of(ms.csv("s3://flights/rows.csv", access=WEB))


Put = Callable[[str, bytes], None]


def _public(endpoint: str, key: str, content: bytes) -> None:
    """An object that whoever says nothing of themselves may read, as the emulators of Google's store are asked."""
    where = f"{endpoint}/flights/{urllib.parse.quote(key)}"
    told = {"x-amz-acl": "public-read", "Content-Type": "text/csv"}
    asking = urllib.request.Request(where, content, told, method="PUT")
    urllib.request.urlopen(asking).close()


class TestOtherStores:
    @pytest.fixture(params=["gs", "az", "abfss"])
    def place(
        self, request: pytest.FixtureRequest, endpoint: str, bucket: Put, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[tuple[str, Any, Put]]:
        """The address of a store, how it is reached, and what writes objects into it."""
        if request.param == "gs":
            yield "gs://flights", ms.Gcs(endpoint=endpoint), partial(_public, endpoint)
            return
        monkeypatch.setenv("MS_TEST_BLOBS", blobs.KEY)
        account = blobs.Blobs({})
        host = "flights" if request.param == "az" else f"flights@{blobs.ACCOUNT}.dfs.core.windows.net"
        with serving(account) as server:
            access = ms.Azure(blobs.ACCOUNT, key="env:MS_TEST_BLOBS", endpoint=f"{server.url}/{blobs.ACCOUNT}")
            if request.param == "abfss":
                access = replace(access, account=None)
            yield f"{request.param}://{host}", access, account.content.__setitem__

    def test_globs_folders_new_and_changed_objects_are_as_with_s3(self, place: tuple[str, Any, Put]) -> None:
        base, access, put = place
        for key in ("2013/02.csv", "2013/01 ä.csv", "2013/deep/03.csv", "2013/_tmp/04.csv", "2014/05.csv"):
            put(key, f"file\n{key}\n".encode())

        def found(path: str, since: Any = None) -> list[Any]:
            return rows_of(ms.csv(f"{base}/{path}", access=access), since)["file"].to_list()

        assert found("2013/*.csv") == ["2013/01 ä.csv", "2013/02.csv"]
        assert found("2013/01 ä.csv") == ["2013/01 ä.csv"]
        assert found("2013/") == found("2013") == ["2013/01 ä.csv", "2013/02.csv", "2013/deep/03.csv"]
        source = ms.csv(f"{base}/2014/*.csv", access=access)
        ((_, cursor),) = reader(source).read(None)
        put("2014/06.csv", b"file\nnew\n")
        assert beyond(reader(source), cursor) == cursor and found("2014/*.csv", cursor) == ["new"]
        put("2014/05.csv", b"file\nother\n")
        assert beyond(reader(source), cursor) is None

    def test_a_delta_table_is_read(self, place: tuple[str, Any, Put], tmp_path: Path) -> None:
        base, access, put = place
        write_deltalake(str(tmp_path / "table"), ROWS)
        for path in (tmp_path / "table").rglob("*"):
            if path.is_file():
                put(f"lake/{path.relative_to(tmp_path)}", path.read_bytes())

        assert rows_of(ms.delta(f"{base}/lake/table", access=access)).equals(ROWS)

    def test_what_is_missing_refused_or_changes_is_named(self, place: tuple[str, Any, Put]) -> None:
        base, access, put = place
        put("rows.csv", b"n\n1\n")
        with pytest.raises(SourceNotFound, match=rf"no such file: '{base}/row.csv'; '{base}/' has rows.csv"):
            rows_of(ms.csv(f"{base}/row.csv", access=access))
        with pytest.raises(DeclarationError, match=r"is reached by access=ms\.(Gcs|Azure)\(\.\.\.\), not by ms\.S3"):
            rows_of(ms.csv(f"{base}/rows.csv", access=ms.S3()))
        (stored,) = remote.files(f"{base}/rows.csv", access, [".csv"])
        put("rows.csv", b"n\n2\n")
        with pytest.raises(SourceError, match="was changed while it was read"):
            stored.open()

    def test_who_may_not_read_is_told_which_access_to_check(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MS_TEST_BLOBS", base64.b64encode(b"hunter22").decode())
        with serving(blobs.Blobs({"rows.csv": b"n\n1\n"})) as server:
            access = ms.Azure(blobs.ACCOUNT, key="env:MS_TEST_BLOBS", endpoint=f"{server.url}/{blobs.ACCOUNT}")
            with pytest.raises(SourceError, match=r"may not be read \(.+\); check what access=ms.Azure\(...\)"):
                rows_of(ms.csv("az://flights/rows.csv", access=access))
        monkeypatch.setenv("MS_TEST_BLOBS", "hunter22!")
        for how in (ms.Azure("me", key="env:MS_TEST_BLOBS"), ms.Gcs("env:MS_TEST_BLOBS")):
            address = "az://flights/rows.csv" if isinstance(how, ms.Azure) else "gs://flights/rows.csv"
            with pytest.raises(SourceError) as error:
                rows_of(ms.csv(address, access=how))
            assert "hunter22" not in str(error.value) and "ms." in str(error.value)

    def test_a_secret_in_the_declaration_is_refused_and_so_are_two_ways(self) -> None:
        for made in (
            lambda: ms.Azure(key="hunter22"), lambda: ms.Azure(sas="hunter22"), lambda: ms.Gcs("hunter22"),
            lambda: ms.Azure(client=("tenant", "client", "hunter22")),
        ):  # fmt: skip
            with pytest.raises(DeclarationError, match="must be a reference") as error:
                made()
            assert "hunter22" not in str(error.value)
        with pytest.raises(DeclarationError, match="Azure has key and sas; a store is told in one way who asks"):
            ms.Azure(key="env:A", sas="env:B")
        with pytest.raises(DeclarationError, match="Gcs has service_account and anonymous"):
            ms.Gcs("env:A", anonymous=True)


class TestWebFiles:
    def test_a_file_is_read_and_its_tag_is_its_position(self) -> None:
        content = ROWS.write_csv().encode()
        with serving(lambda asked: Answer(content, {"ETag": '"one"'})) as server:
            source = ms.csv(f"{server.url}/rows.csv?key=1", access=WEB)

            assert rows_of(source).equals(ROWS)
            assert reader(source).position() == [[f"{server.url}/rows.csv", '"one"']]
            assert beyond(reader(source), reader(source).position()) is not None

    def test_a_certificate_of_an_own_authority_is_taken_where_the_environment_names_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = certificate(tmp_path)
        with serving(lambda asked: Answer(b"n\n1\n"), own) as server:
            source = ms.csv(f"{server.url}/rows.csv", access=WEB)
            with pytest.raises(SourceError, match=r"a certificate that isn't trusted.* SSL_CERT_FILE=FILE"):
                rows_of(source)
            monkeypatch.setenv("SSL_CERT_FILE", str(own[0]))
            assert rows_of(source)["n"].to_list() == [1]

    def test_without_a_tag_only_reading_tells(self) -> None:
        with serving(lambda asked: Answer(b"n\n1\n")) as server:
            source = ms.csv(f"{server.url}/rows.csv", access=WEB)
            cursors = [cursor for _, cursor in reader(source).read(None)]

            assert reader(source).position() is None and beyond(reader(source), cursors[-1]) is None

    def test_a_server_without_head_is_asked_for_the_file(self) -> None:
        with serving(lambda asked: Answer(status=405) if asked.method == "HEAD" else Answer(b"n\n1\n")) as server:
            assert rows_of(ms.csv(f"{server.url}/rows.csv", access=WEB))["n"].to_list() == [1]

    def test_a_body_that_is_cut_off_is_asked_for_again_and_never_taken(self) -> None:
        script = Script([Answer(b""), Answer(b"n\n1\n2\n", cut=4), Answer(b"n\n1\n2\n")])
        with serving(script) as server:
            assert rows_of(ms.csv(f"{server.url}/rows.csv", access=WEB))["n"].to_list() == [1, 2]
        with serving(lambda asked: Answer(b"n\n1\n2\n", cut=4)) as server, pytest.raises(SourceError, match="failed"):
            rows_of(ms.csv(f"{server.url}/rows.csv", access=WEB))

    def test_a_body_of_untold_length_is_refused(self) -> None:
        with (
            serving(lambda asked: Answer(b"n\n1\n", length=False)) as server,
            pytest.raises(SourceError, match="doesn't say how long it is, so a cut would go unseen"),
        ):
            rows_of(ms.csv(f"{server.url}/rows.csv", access=WEB))

    def test_a_file_that_changes_between_asking_and_reading_is_refused(self) -> None:
        script = Script([Answer(b"", {"ETag": '"one"'}), Answer(b"n\n1\n", {"ETag": '"two"'})])
        with serving(script) as server, pytest.raises(SourceError, match="was changed while it was read"):
            rows_of(ms.csv(f"{server.url}/rows.csv", access=WEB))

    def test_a_missing_file_and_too_large_ones_are_named(self) -> None:
        with serving(lambda asked: Answer(status=404)) as server, pytest.raises(SourceNotFound, match="404 Not Found"):
            rows_of(ms.csv(f"{server.url}/rows.csv", access=WEB))
        small = ms.Http(private=True, max_size="1KB")
        with serving(lambda asked: Answer(b"n\n" * 900)) as server, pytest.raises(SourceError, match="max_size='1KB'"):
            rows_of(ms.csv(f"{server.url}/rows.csv", access=small))
