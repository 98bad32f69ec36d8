"""MLflow's SQLite database, made from a template: its schema takes seconds of migrations the first time, then none."""

from __future__ import annotations

import os
import sqlite3
import uuid
from pathlib import Path

from mainspring.store import durable, places


def prepare(database: Path, cache: Path | None = None) -> None:
    """Put an empty database with MLflow's schema at *database* unless there is one (or this fails: MLflow makes it).

    cache: where the template of this MLflow version is kept; the user's cache folder unless told.
    """
    if database.exists():
        return
    from importlib import metadata  # only a new database needs it

    template = (cache or places.cache()) / f"mlflow-{metadata.version('mlflow-skinny')}.db"
    try:
        if not template.exists():
            _make(template)
        database.parent.mkdir(parents=True, exist_ok=True)
        durable.claim(database, template.read_bytes())
    except (OSError, ImportError, AttributeError, sqlite3.Error):
        database.with_name(f"{database.name}-wal").unlink(missing_ok=True)


def _make(template: Path) -> None:
    """Run MLflow's own migrations on an empty file; no experiment yet, for that would name this home's folder."""
    from mlflow.store.db import utils

    template.parent.mkdir(parents=True, exist_ok=True)
    temporary = template.with_name(f".{template.name}.{uuid.uuid4().hex}")
    try:
        engine = utils.create_sqlalchemy_engine(f"sqlite:///{temporary}")
        utils._initialize_tables(engine)
        engine.dispose()
        connection = sqlite3.connect(temporary)
        connection.execute("pragma journal_mode=wal")  # kept in the file: one fsync a commit instead of four
        connection.execute("pragma wal_checkpoint(truncate)")
        connection.close()
        os.replace(temporary, template)
    finally:
        for suffix in ("", "-wal", "-shm"):
            temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
