"""What FILEs were found to come to when they were last loaded, so that they needn't be loaded to tell it again."""

from __future__ import annotations

import json
from typing import Any

from mainspring.store.home import Home

_TABLES = (
    """create table if not exists manifests (
        file text not null, asked text not null, content text not null, primary key (file, asked))""",
)


class Manifests:
    """The manifests of one home: one per FILE and what was asked of it (a name in it, run parameters)."""

    def __init__(self, home: Home) -> None:
        self._database = home.database
        self._database.create(_TABLES)

    def find(self, file: str, asked: str) -> dict[str, Any] | None:
        rows = self._database.query("select content from manifests where file = ? and asked = ?", (file, asked))
        return json.loads(rows[0]["content"]) if rows else None

    def keep(self, file: str, asked: str, content: dict[str, Any] | None) -> None:
        """Replace the manifest of *file*; None takes it away."""
        with self._database.transaction() as connection:
            connection.execute("delete from manifests where file = ? and asked = ?", (file, asked))
            if content is not None:
                connection.execute("insert into manifests values (?, ?, ?)", (file, asked, json.dumps(content)))
