"""`mainspring serve FOLDER`: a bundle's signature and files are checked before a port is opened for it."""

from __future__ import annotations

from pathlib import Path

from mainspring.app import supervisor
from mainspring.app.config import Settings
from mainspring.store.bundles import unseal
from mainspring.store.keys import Keys


def serve(settings: Settings, folder: Path) -> int:
    """Serve the bundle in *folder* until a signal. Raises BundleChanged or BundleUntrusted."""
    return supervisor.serve_bundle(settings, folder, unseal(folder, Keys()).manifest.loop)
