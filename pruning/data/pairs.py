"""Prompts and their completions: JSON lines, or a JSON array, of objects with a text under each of both words."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pruning.data.texts import LINE_BYTES, MOST_BYTES, decoded, opened, parsed, unpacked
from workloads.errors import UserError, shorten
from workloads.parsing import parse_json

KEYS = ("prompt", "completion")
Pair = tuple[str, str]


def read_pairs(path: Path) -> list[tuple[str, Pair]] | None:
    """(where it stands, (prompt, completion)) of each; None for a file whose first object is something else. Raises
    UserError for a later object that is, and for what is no JSON."""
    with opened(path) as file, unpacked(path, file) as stream:
        head = stream.peek(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
        if head[:1] == b"[":
            content = stream.read(MOST_BYTES + 1)
            if not starts_with_pair(content.lstrip(b"\xef\xbb\xbf \t\r\n[")):
                return None
            items = parsed(path, content.removeprefix(b"\xef\xbb\xbf"))
            return [pair_of(item, f"{path}, item {n}") for n, item in enumerate(items, start=1)]
        if not starts_with_pair(head):
            return None
        return [pair_of(item, where) for where, item in lines_of(path, stream)]


def starts_with_pair(content: bytes) -> bool:
    """Whether the first JSON value of a text is an object with the two keys."""
    text = content[: 1 << 20].decode("utf-8", "ignore")
    try:
        first, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and all(key in first for key in KEYS)


def lines_of(path: Path, stream: Any) -> Iterator[tuple[str, Any]]:
    number = 0
    while line := stream.readline(LINE_BYTES + 1):
        number += 1
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        if len(line) > LINE_BYTES:
            raise UserError(f"{where} is longer than {LINE_BYTES >> 20} MiB; no example is")
        try:
            yield where, parse_json(decoded(path, line.removeprefix(b"\xef\xbb\xbf").strip()))
        except ValueError as error:
            raise UserError(f"{where} is not JSON: {shorten(str(error), 200)}") from None


def pair_of(item: Any, where: str) -> tuple[str, Pair]:
    prompt, completion = [item.get(key) if isinstance(item, dict) else None for key in KEYS]
    if not isinstance(prompt, str) or not isinstance(completion, str):
        raise UserError(f'{where}: expected an object with a text under "prompt" and under "completion"')
    if not completion:
        raise UserError(f"{where}: its completion is empty; there is nothing to learn, leave it out")
    return where, (prompt, completion)
