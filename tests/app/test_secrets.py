"""Planted secrets, at every door that takes one: afterwards no byte of the home and no word that was said has them."""

from __future__ import annotations

import base64
import io
import json
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import polars as pl
import pytest
from sklearn.tree import DecisionTreeClassifier

import mainspring as ms
from mainspring.core.errors import MainspringError
from mainspring.store.home import Home

SECRET = 'hunter22/"Pä&ss+w%örd\\Zq'
"""One that JSON and addresses must write otherwise."""
PLAIN = "hunter22Zq7"
"""One that a header can carry."""


class _Server(BaseHTTPRequestHandler):
    """Rows for who has the token; everything else is refused, with all that was asked said back."""

    def do_GET(self) -> None:
        good = self.path == "/good" and self.headers["Authorization"] == f"Bearer {PLAIN}"
        rows = [{"who": f"p{n}", "minutes": n % 17, "buys": int(n % 17 > 8)} for n in range(60)]
        content = json.dumps(rows if good else {"error": f"{self.path} {dict(self.headers)}"}).encode()
        self.send_response(200 if good else 403, None if good else f"no {self.headers['Authorization']}")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    serving = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


def loop(name: str, data: Any, **more: Any) -> ms.Loop:
    return ms.Loop(name, data=data, target="buys", model=DecisionTreeClassifier(max_depth=2), **more)


def test_no_secret_is_in_the_home_or_in_what_is_said_even_with_tracebacks(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (tmp_path / "address").write_text(f"mysql+pymysql://me:{quote_plus(SECRET)}@127.0.0.1:9/{PLAIN}")
    planted = {
        "MS_TOKEN": PLAIN, "MS_KEY": SECRET * 2, "MS_S3_KEY": f"key-{PLAIN}", "MS_S3_SECRET": SECRET,
        "MS_DB": f"postgresql://me:{quote(SECRET, safe='')}@127.0.0.1:9/shop?connect_timeout=1",
    }  # fmt: skip
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    home, api = Home.open(tmp_path / ".mainspring"), ms.Http(bearer="env:MS_TOKEN", private=True)
    hidden = ms.Privacy(pseudonymize=["who"], key="env:MS_KEY", subject="who")
    s3 = ms.S3(server, region="x", access_key="env:MS_S3_KEY", secret_key="env:MS_S3_SECRET")
    refused = {
        "echoes": ms.rest(f"{server}/echo", access=api),
        "asked": ms.csv(f"{server}/echo.csv", access=ms.Http(query=("key", "env:MS_TOKEN"), private=True)),
        "signed": ms.csv("s3://bucket/rows.csv", access=s3),
        "database": ms.sql("env:MS_DB", "visits"),
        "kept": ms.sql(f"file:{tmp_path}/address", "visits"),
    }

    good = loop("good", ms.rest(f"{server}/good", access=api), release=ms.Immediate(), privacy=hidden).run(home=home)
    told = [_refusal(loop(name, source), home) for name, source in refused.items()]

    said = "\n".join([*capfd.readouterr(), caplog.text, *told])
    assert good.model == "good@1" and len(told) == 5 and leaks(said.encode()) == [], said
    assert (home.path / "cards").is_dir() and (home.path / "mlflow.db").is_file()
    found = {str(path.relative_to(home.path)) for path in home.path.rglob("*") if path.is_file()
             for content in contents(path) if leaks(content)}  # fmt: skip
    assert found == set()


def _refusal(refused: ms.Loop, home: Home) -> str:
    """The traceback, with what the frames' own errors say."""
    with pytest.raises(MainspringError) as error:
        refused.run(home=home)
    return "".join(traceback.format_exception(error.value))


def leaks(content: bytes) -> list[str]:
    """The planted secrets in *content*, in any of the ways in which text is written."""
    text = content.decode("utf-8", "replace")
    return [form for form in _forms() if form in text]


def _forms() -> list[str]:
    found = {SECRET, PLAIN, quote(SECRET), quote(SECRET, safe=""), quote_plus(SECRET)}
    found |= {json.dumps(SECRET)[1:-1], json.dumps(SECRET, ensure_ascii=False)[1:-1], repr(SECRET)[1:-1]}
    for secret in (SECRET, PLAIN):
        for shift in range(3):  # base64 of a text that the secret stands in
            encoded = base64.b64encode(b"x" * shift + secret.encode() + b"y" * ((-shift - len(secret.encode())) % 3))
            found.add(encoded.decode()[4 if shift else 0 : -4].rstrip("="))
    return sorted(found)


def contents(path: Path) -> list[bytes]:
    content = path.read_bytes()
    if content[:4] == b"PAR1":
        return [content, pl.read_parquet(io.BytesIO(content)).write_json().encode()]
    return [content]
