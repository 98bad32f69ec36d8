"""The endpoint's page for people, /docs: made here from the OpenAPI document, without scripts and without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

HEADERS = [
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
]
_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mainspring endpoint</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430 }
h2 { font: 600 1.05rem ui-monospace, monospace; margin: 2.2rem 0 .3rem; overflow-wrap: anywhere }
h2 b { display: inline-block; min-width: 3.5rem; color: #175ea8 }
pre { background: #f3f5f8; padding: .8rem; overflow-x: auto; border-radius: 6px; font-size: .85rem }
table { border-collapse: collapse; font-size: .9rem } td, th { text-align: left; padding: .2rem 1.2rem .2rem 0 }
</style></head><body><h1>mainspring endpoint</h1>
<p>Made from <a href="openapi.json">openapi.json</a>, which describes every path and schema.</p>
"""


def made(document: dict[str, Any]) -> str:
    """The page for an OpenAPI *document*."""
    return _HEAD + "".join(_parts(document)) + "</body></html>"


def _parts(document: dict[str, Any]) -> Iterator[str]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"<h2><b>{method.upper()}</b> {escape(path)}</h2><p>{escape(operation['summary'])}</p>"
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            yield _columns(content.get("schema", {}).get("oneOf", [{}])[-1])
            if "example" in content:
                yield _example(path, content["example"])


def _columns(row: dict[str, Any]) -> str:
    """The table of a row's columns."""
    if "properties" not in row or row.get("additionalProperties") is not True:
        return ""
    lines = []
    for name, schema in row["properties"].items():
        kind = schema.get("format") or schema["type"]
        needed = "required" if name in row["required"] else "optional"
        shown = kind if isinstance(kind, str) else " or ".join(kind)
        lines.append(f"<tr><td>{escape(name)}</td><td>{escape(shown)}</td><td>{needed}</td></tr>")
    return f"<table><tr><th>column</th><th>holds</th><th></th></tr>{''.join(lines)}</table>"


def _example(path: str, example: Any) -> str:
    body = json.dumps(example, ensure_ascii=False, indent=1)
    quoted = body.replace("'", "'\\''")
    return (
        f"<pre>curl http://127.0.0.1:8700{escape(path)} -H 'content-type: application/json' -d '{escape(quoted)}'</pre>"
    )
