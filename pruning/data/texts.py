"""Texts of any kind of file, told by their content and never read further than needed.

A file is unpacked by its first bytes (gzip, zstd, bzip2) and is then, by what it holds: Parquet, JSON lines or a JSON
array of documents, or one plain text. Unpacking streams and stops, so an archive that unpacks to any size takes bounded
memory.
"""

import bz2
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from workloads.errors import UserError, one_line, shorten
from workloads.parsing import parse_json

PLAIN_BYTES = 64 << 20  # of one plain text: about 16 M tokens
MOST_BYTES = 1 << 30  # of anything that has to be held as a whole
LINE_BYTES = 64 << 20  # of one document
MOST_DOCUMENTS = 1_000_000  # of one file; a shard of C4 has 356,317
MOST_DOCUMENT_BYTES = 4 << 30  # of all documents of one file; a shard of C4 has about 0.8 GB

NPY = b"\x93NUMPY"
C4_FIELDS = {"text", "timestamp", "url"}
# What is told apart by its first bytes and holds no text that is read here.
NO_TEXT = {
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\xfd7zXZ\0": "an xz archive; unpack it first",
    b"%PDF": "a PDF; save its text",
    b"GGUF": "a GGUF model",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"ARROW1": "an Arrow file; save its texts as JSON lines",
}
_DAMAGED = (OSError, EOFError, zlib.error)  # what the unpackers raise
_OBJECT = re.compile(rb'\{\s*("([^"\\]|\\.)*"\s*:|\})')
_ARRAY = re.compile(rb'\[\s*["{\]]')


@dataclass
class Documents:
    """Texts one after the other, to be iterated once; one alone where `plain`, whose crops may start anywhere.

    `note` says, once they are read, that only the first were; `is_c4` that the documents have C4's fields.
    """

    stream: Iterator[str]
    plain: bool = False
    note: str = ""
    is_c4: bool = False
    _size: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[str]:
        for number, text in enumerate(self.stream):
            self._size += len(text)
            if number == MOST_DOCUMENTS or (self._size > MOST_DOCUMENT_BYTES and not self.plain):
                self.note = f"first {number:,} documents"
                return
            yield text


def holds_ids(path: Path) -> bool:
    """Whether a file holds numpy's token ids, or has the name of one that does."""
    if path.suffix == ".npy":
        return True
    with opened(path) as stream:
        return stream.read(len(NPY)) == NPY


@contextmanager
def read_documents(path: Path, plain_bytes: int = PLAIN_BYTES) -> Iterator[Documents]:
    """What a file holds; of a plain text at most `plain_bytes`.

    Raises UserError, then or while the documents are read, for what is no text, damaged, empty or not what its name
    says.
    """
    with opened(path) as file:
        try:
            with unpacked(path, file) as stream:
                yield _told_apart(path, stream, plain_bytes)
        except _DAMAGED as error:
            raise UserError(f"{path} is damaged: {one_line(error)}; download it again") from None


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    with file:
        yield file


@contextmanager
def unpacked(path: Path, file: io.BufferedReader) -> Iterator[io.BufferedReader]:
    """The bytes behind gzip, bzip2 or zstd, or the file itself."""
    head = file.peek(8)[:8]
    stream: Any = file
    if head[:2] == b"\x1f\x8b":
        stream = gzip.GzipFile(fileobj=file)
    elif head[:3] == b"BZh":
        stream = bz2.BZ2File(file)
    elif head[:4] == b"\x28\xb5\x2f\xfd":
        stream = _Zstd(path, file)
    if stream is file:
        yield file
        return
    with io.BufferedReader(cast(Any, stream), 1 << 20) as buffered:
        yield buffered


class _Zstd(io.RawIOBase):
    """The bytes of zstd frames, one after the other. A file that ends within a frame is damaged."""

    def __init__(self, path: Path, file: BinaryIO):
        try:
            import zstandard
        except ImportError:
            raise UserError(
                f"{path} is packed with zstd; to read it: pip install 'prunesim[zstd]', or unpack it first"
            ) from None
        self._file, self._error = file, zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 28)
        self._frame: Any = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._packed or self._file.read(512)  # of which the most that can come is 16 MiB
            if not packed:
                if self._frame is not None:
                    raise OSError("it ends in the middle")
                return 0
            self._frame = self._frame or self._decompressor.decompressobj()
            try:
                self._ready = memoryview(self._frame.decompress(packed))
            except self._error as error:
                raise OSError(str(error)) from None
            self._packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def _told_apart(path: Path, stream: io.BufferedReader, plain_bytes: int) -> Documents:
    head = stream.peek(1 << 16)
    if head[:4] == b"PAR1":
        return Documents(_parquet(path))
    for magic, what in NO_TEXT.items():
        if head.startswith(magic):
            raise UserError(f"{path} is {what}")
    if head.startswith(b"\xef\xbb\xbf"):  # the mark of UTF-8
        stream.read(3)
        head = head[3:]
    start = head.lstrip()
    named = any(suffix in (".json", ".jsonl", ".ndjson") for suffix in path.suffixes[-2:])
    if start and (_OBJECT.match(start) or (named and not start.startswith(b"["))):
        return _lines(path, stream, head)
    if _ARRAY.match(start) or (named and start.startswith(b"[")):
        return _array(path, stream, named)
    return _plain(path, stream.read(plain_bytes + 1), plain_bytes)


def _plain(path: Path, content: bytes, limit: int) -> Documents:
    note = ""
    if len(content) > limit:
        content = content[:limit]
        end = max(content.rfind(b" "), content.rfind(b"\n"))
        content = content[: end if end > 0 else limit]
        note = f"first {len(content):,} bytes"
    text = decoded(path, content, "" if not note else "ignore")
    if not text.strip():
        raise UserError(f"{path} is empty: it holds no text")
    return Documents(iter([text]), plain=True, note=note)


def decoded(path: Path, content: bytes, errors: str = "") -> str:
    """UTF-8 text. Raises UserError for other encodings and binary content; errors "ignore": the last character may be
    cut."""
    if (place := content.find(b"\0")) >= 0:
        raise UserError(f"{path} is a binary file, not text: byte {place} is 0")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if errors and error.start >= len(content) - 4:
            return content[: error.start].decode("utf-8")
        raise UserError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8") from None


def _lines(path: Path, stream: io.BufferedReader, head: bytes) -> Documents:
    """JSON lines, or one JSON object over several lines."""
    first = head.lstrip().split(b"\n", 1)[0].strip()
    if first in (b"{", b"[") or (first.startswith(b"{") and first.endswith((b",", b":", b"["))):
        content = parsed(path, _whole(path, stream))
        return Documents(iter([document_text(content, f"{path}, a single JSON object")]))
    is_c4 = False
    if b"\n" in head:
        try:
            fields = parse_json(decoded(path, first))
            is_c4 = isinstance(fields, dict) and fields.keys() >= C4_FIELDS
        except ValueError:
            pass
    return Documents(_each_line(path, stream), is_c4=is_c4)


def _each_line(path: Path, stream: io.BufferedReader) -> Iterator[str]:
    number = found = 0
    while line := stream.readline(LINE_BYTES + 1):
        number += 1
        if len(line) > LINE_BYTES:
            raise UserError(f"{path}, line {number} is longer than {LINE_BYTES >> 20} MiB; no document is")
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            document = parse_json(decoded(path, line.strip()))
        except ValueError as error:
            raise UserError(f"{where} is not JSON: {shorten(str(error), 200)}") from None
        found += 1
        yield document_text(document, where)
    if not found:
        raise UserError(f"{path} holds no documents")


def _array(path: Path, stream: io.BufferedReader, named: bool) -> Documents:
    """A JSON array of texts or documents; else, unless the file is named as JSON, a text that starts with a bracket."""
    content = _whole(path, stream)
    try:
        array = parse_json(decoded(path, content))
    except ValueError as error:
        if named:
            raise UserError(f"{path} is not JSON: {shorten(str(error), 200)}") from None
        return _plain(path, content, MOST_BYTES)
    if not isinstance(array, list) or not array:
        raise UserError(f"{path} holds no documents")
    texts = [document_text(item, f"{path}, item {number}") for number, item in enumerate(array, start=1)]
    return Documents(iter(texts))


def _whole(path: Path, stream: io.BufferedReader) -> bytes:
    content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: a JSON array or object of more than {MOST_BYTES >> 30} GiB; save it as JSON lines")
    return content


def parsed(path: Path, content: bytes) -> Any:
    try:
        return parse_json(decoded(path, content))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {shorten(str(error), 200)}") from None


def document_text(document: Any, where: str) -> str:
    """The text of one item: itself, or what an object has under "text"."""
    text = document.get("text") if isinstance(document, dict) else document
    if not isinstance(text, str) or (isinstance(document, str) and "line" in where.rpartition(", ")[2]):
        keys = f" ({shorten(', '.join(map(str, document)), 80)})" if isinstance(document, dict) else ""
        raise UserError(f'{where}: expected a JSON object with a string under "text"{keys}')
    return text


def _parquet(path: Path) -> Iterator[str]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError(f"{path} is a Parquet file; to read it: pip install 'prunesim[parquet]'") from None
    try:
        file = ParquetFile(path)
        if "text" not in file.schema_arrow.names:
            raise UserError(f'{path} has no column "text", only {shorten(", ".join(file.schema_arrow.names), 80)}')
        for batch in file.iter_batches(batch_size=1000, columns=["text"]):
            for number, text in enumerate(batch.column(0).to_pylist()):
                yield document_text({"text": text}, f"{path}, row {number}")
    except (ArrowException, OSError) as error:
        raise UserError(f"{path} is a damaged Parquet file: {one_line(error)}; download it again") from None
