"""Where a row of a reading stands in its source: in which of its files, and which row of that it is."""

from __future__ import annotations

from bisect import bisect_right


class Places:
    """Of rows counted from 0 over all of a reading.

    >>> places = Places("trips/*.csv")
    >>> places.add("trips/may.csv", 0), places.add("trips/june.csv", 100)
    (None, None)
    >>> places.of(107), places.told(107)
    (('trips/june.csv', 8), 'row 8 of trips/june.csv')
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._files: list[str] = []
        self._firsts: list[int] = []

    def add(self, file: str, first: int) -> None:
        """The rows from number *first* on, behind those of the files before, are those of *file*."""
        self._files.append(file)
        self._firsts.append(first)

    def of(self, row: int) -> tuple[str, int]:
        """The file, or else the source, that has the row of this number, and which row of it that is, from 1 on."""
        place = bisect_right(self._firsts, row) - 1
        return (self._source, row + 1) if place < 0 else (self._files[place], row - self._firsts[place] + 1)

    def told(self, row: int) -> str:
        """The place for a sentence that names the source."""
        file, number = self.of(row)
        return f"row {number:,}" + ("" if file == self._source else f" of {file}")
