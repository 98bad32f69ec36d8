"""How far a long suite has got, kept in `out/soak/`, so that one that was interrupted goes on; new code begins anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from blake3 import blake3

ROOT = Path(__file__).parents[2]


class Soak:
    """The points of the suite *name* that were got through, and those that failed; a *short* suite keeps nothing."""

    def __init__(self, name: str, *, short: bool = False) -> None:
        code = blake3()
        for path in sorted((ROOT / "src").rglob("*.py")):
            code.update(path.read_bytes())
        self._path = None if short else ROOT / "out" / "soak" / f"{name}-{code.hexdigest()[:12]}.txt"
        self._failed: list[str] = []
        self._points = 0

    def points(self, every: Iterable[str]) -> Iterator[str]:
        """Those of *every* that haven't been got through yet; one is when the next is asked for."""
        before = self._before()
        for point in every:
            self._points += 1
            if point not in before:
                failed = len(self._failed)
                yield point
                if len(self._failed) == failed:
                    self._keep(point)

    def failed(self, point: str, error: BaseException) -> None:
        """The point that was given last failed; the next start tries it again."""
        said = " ".join(str(error).split())[:400]
        self._failed.append(f"{point}: {said}")
        self._keep(f"failed {point}: {said}")

    def assert_passed(self) -> None:
        """All points were got through, now or earlier; AssertionError names those that failed."""
        assert self._points > 0
        assert not self._failed, f"{len(self._failed)} of {self._points} points failed:\n" + "\n".join(self._failed)

    def _before(self) -> set[str]:
        return set(self._path.read_text().splitlines()) if self._path is not None and self._path.exists() else set()

    def _keep(self, line: str) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(f"{line}\n")
