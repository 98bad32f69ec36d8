"""A file wherever it lies, and its bytes: unpacked, in UTF-8, cut at the ends of rows."""

from __future__ import annotations

import bz2
import codecs
import gzip
import itertools
import lzma
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import pyarrow as pa

from mainspring.core.errors import SourceError
from mainspring.core.wording import listed

BLOCK_BYTES = 16 << 20
MOST_BYTES_OF_A_ROW = 256 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """One file. stamp: JSON that changes with its content; open: gives a seekable stream of its bytes."""

    name: str
    stamp: tuple[Any, ...]
    open: Callable[[], BinaryIO]


def blocks(stored: Stored, encoding: str, size: int | None = None) -> Iterator[bytes]:
    """The file's text as UTF-8, in blocks; a mark of the byte order counts more than *encoding*."""
    with stored.open() as file, _unpacked(file, stored.name) as stream:
        head = _filled(stream, size or BLOCK_BYTES)
        mark, code = next(((mark, code) for mark, code in _MARKS if head.startswith(mark)), (b"", encoding))
        raw = _blocks(head[len(mark) :], stream, size or BLOCK_BYTES)
        if code.lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig"):
            yield from _with_line_feeds(raw)
        else:
            yield from _with_line_feeds(_recoded(raw, code, stored.name))


Pieces = list[bytes | memoryview]


def rows(blocks: Iterator[bytes], quote: str, name: str) -> Iterator[Pieces]:
    """The same bytes, cut only where a row ends, at a line feed that no quotes enclose; each cut in pieces to join."""
    held: Pieces = []
    odd, mark, size = False, quote.encode(), 0
    for block in blocks:
        odd ^= bool(mark) and block.count(mark) % 2 == 1
        end = row_end(block, mark, odd)
        size += len(block)
        if end:
            yield [*held, memoryview(block)[:end]]
            held, size = [], len(block) - end
        held.append(memoryview(block)[end:])
        if size > MOST_BYTES_OF_A_ROW:
            raise SourceError(
                f"{name!r} has a row of more than {MOST_BYTES_OF_A_ROW >> 20} MB; a quote seems never to be closed: "
                "mend it, or say quote='' where nothing is quoted"
            )
    if size:
        yield held


def header_end(part: bytes, quote: str) -> int:
    """Just behind the first line feed that no quotes enclose; the whole *part* where there is none."""
    end, odd, mark = 0, False, quote.encode()
    while (place := part.find(b"\n", end)) >= 0:
        odd ^= bool(mark) and part.count(mark, end, place) % 2 == 1
        end = place + 1
        if not odd:
            return end
    return len(part)


def _unpacked(file: BinaryIO, name: str) -> BinaryIO:
    """By the first bytes, whatever the name says."""
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb"))
    if head.startswith(b"BZh"):
        return cast(BinaryIO, bz2.BZ2File(file))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast(BinaryIO, lzma.LZMAFile(file))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return cast(BinaryIO, pa.CompressedInputStream(file, "zstd"))
    if head.startswith(b"PK\x03\x04") or name.lower().endswith(".zip"):
        return _only_member(zipfile.ZipFile(file), name)
    return file


def _only_member(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    members = [each for each in archive.namelist() if not each.endswith("/") and not each.startswith("__MACOSX")]
    if len(members) != 1:
        raise SourceError(f"{name!r} holds {len(members)} files ({listed(members)}); it must hold one")
    return cast(BinaryIO, archive.open(members[0]))


def _filled(stream: BinaryIO, size: int) -> bytes:
    """*size* bytes, fewer only at the end: a decompressor gives fewer at once."""
    block = stream.read(size)
    if len(block) == size or not block:
        return bytes(block)
    parts, missing = [block], size - len(block)
    while missing > 0 and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _blocks(first: bytes, stream: BinaryIO, size: int) -> Iterator[bytes]:
    block = first
    while block:
        yield block
        block = _filled(stream, size)


def _with_line_feeds(text: Iterator[bytes]) -> Iterator[bytes]:
    """*text*, also where its lines end with carriage returns alone."""
    first = next(text, b"")
    old = b"\r" in first[:-1] and b"\n" not in first
    for block in itertools.chain([first] if first else [], text):
        yield block.replace(b"\r", b"\n") if old else block


def _recoded(raw: Iterator[bytes], encoding: str, name: str) -> Iterator[bytes]:
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        for block in raw:
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", final=True).encode()
    except (LookupError, UnicodeError) as error:
        raise SourceError(f"{name!r} isn't {encoding!r} text ({error}); give another encoding=") from error


def row_end(block: bytes, quote: bytes, odd: bool) -> int:
    """Just behind the last line feed that no quotes enclose; 0 where there is none. *odd*: one is open at the end."""
    end = len(block)
    while (place := block.rfind(b"\n", 0, end)) >= 0:
        if quote:
            odd ^= block.count(quote, place, end) % 2 == 1
        if not odd:
            return place + 1
        end = place
    return 0
