"""Damages that files take: byte by byte for any file, and by structure for JSON, TOML, CSV, .npy and safetensors."""

import ast
import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

HUGE = ["9" * 5000, "1e400", "-1", "0", "1e308", str(10**30), str(2**63), str(2**31), "0.5", "-0.0", "NaN", "Infinity"]
TEXTS = ["", "\0", "\udc80".encode("utf-8", "surrogatepass").decode("latin-1"), "é" * 300, "../../etc/passwd", "=1+1",
    "a\nb", "{}", "2:4", "None", "💥", "x" * 100_000]  # fmt: skip
NUMBERS: list[Any] = [0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1e308, 0.5, -0.0, float("nan"), float("inf")]


def flip_bits(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(draw.choice((1, 1, 2, 8, 40))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.choice((0, 1, 7, len(data) // 2, draw.randrange(len(data) + 1), max(0, len(data) - 1)))]


def remove(data: bytes, draw: random.Random) -> bytes:
    first = draw.randrange(len(data) + 1)
    return data[:first] + data[first + draw.choice((1, 8, 100)) :]


def insert(data: bytes, draw: random.Random) -> bytes:
    first = draw.randrange(len(data) + 1)
    piece = draw.choice(
        (
            b"\0",
            b"\xff\xfe",
            b"\xed\xa0\x80",
            b"[" * 3000,
            b"{" * 3000,
            b'"',
            b"\r",
            b"\xef\xbb\xbf",
            bytes(64),
            draw.randbytes(16),
            b"9" * 5000,
        )
    )
    return data[:first] + piece + data[first:]  # fmt: skip


def repeat(data: bytes, draw: random.Random) -> bytes:
    first, length = draw.randrange(len(data) + 1), draw.choice((1, 20, 500))
    return data[: first + length] + data[first:]


def zero(data: bytes, draw: random.Random) -> bytes:
    first, length = draw.randrange(len(data) + 1), draw.choice((1, 8, 64, len(data) // 2))
    return (data[:first] + bytes(length) + data[first + length :])[: len(data)]


BYTES: tuple[Mutation, ...] = (flip_bits, flip_bits, cut, remove, insert, repeat, zero)


def change_json(data: bytes, draw: random.Random) -> bytes:
    """One place of the tree: gone, of another type, huge, deep, renamed or doubled. A hash over the file is taken off
    half the time."""
    return dump_json(mutated_tree(json.loads(data), draw), draw)


def change_json_lines(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines()
    number = draw.randrange(len(lines))
    lines[number] = change_json(lines[number], draw)
    return b"\n".join(lines) + b"\n"


def dump_json(value: Any, draw: random.Random) -> bytes:
    text = json.dumps(value)
    if '"@huge@"' in text:
        text = text.replace('"@huge@"', draw.choice(HUGE))
    if '"@deep@"' in text:
        depth = draw.choice((90, 500, 20_000))
        text = text.replace('"@deep@"', draw.choice(("[", '{"a":')) * depth)
    if draw.random() < 0.1:
        text = text.replace("{", '{"model_type": "gpt2", ', 1)
    return text.encode("utf-8", "surrogatepass")


def mutated_tree(tree: Any, draw: random.Random) -> Any:
    if isinstance(tree, dict) and "sha256" in tree and draw.random() < 0.7:
        tree["sha256"] = ""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        places = list(walk(tree))
        if not places:
            return draw.choice(([], None, 3, "x"))
        holder, key = draw.choice(places)
        kind = draw.choice(("drop", "type", "type", "number", "number", "text", "rename", "nest", "swap"))
        if kind == "drop":
            del holder[key]
        elif kind == "type":
            holder[key] = draw.choice((None, [], {}, "x", 1, True, [1, 2], {"a": 1}, -1.5))
        elif kind == "number":
            holder[key] = draw.choice([*NUMBERS, "@huge@"])
        elif kind == "text":
            holder[key] = draw.choice([*TEXTS, "\ud800", "\udc80"])
        elif kind == "rename" and isinstance(holder, dict):
            holder[draw.choice(("", "é", str(key) + "x", "\ud800"))] = holder.pop(key)
        elif kind == "nest":
            holder[key] = "@deep@"
        else:
            other, there = draw.choice(places)
            if isinstance(other, list | dict) and (there in other if isinstance(other, dict) else there < len(other)):
                holder[key] = json.loads(json.dumps(other[there]))
    return tree


def walk(value: Any) -> Any:
    """Every (holder, key) of a tree."""
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, item in items:
        yield value, key
        yield from walk(item)


def change_toml(data: bytes, draw: random.Random) -> bytes:
    lines = data.decode().splitlines()
    for _ in range(draw.choice((1, 1, 2, 3))):
        number = draw.randrange(len(lines))
        key, sign, _ = lines[number].partition("=")
        kind = draw.choice(("value", "value", "value", "value", "key", "drop", "double", "move", "table"))
        if kind == "value" and sign:
            lines[number] = f"{key}= {draw.choice(TOML_VALUES)}"
        elif kind == "key" and sign:
            lines[number] = (
                draw.choice((f"{key.strip()}x", f"x.{key}", f'"{key.strip()}\\u0000" ', f'"" . {key}'))
                + lines[number][len(key) :]
            )
        elif kind == "drop":
            lines[number] = ""
        elif kind == "double":
            lines.insert(number, lines[number])
        elif kind == "move":
            lines.insert(draw.randrange(len(lines)), lines.pop(number))
        else:
            lines[number] = draw.choice(("[models]", "[[x]]", "[[models]]", "[methods.set]", "[a.b.c]", "]]"))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


TOML_VALUES = [
    "", "1", "-1", "0", "0.5", "1e400", "nan", "inf", "true", '""', '"x"', "[]", "[0.5]", '["2:4", "2:4"]', "[[1]]",
    "{}", "{a = 1}",
    "2020-01-01", "07:32:00", "[2020-01-01T00:00:00Z]", "9" * 5000, str(10**30), str(2**63), "[" * 3000 + "]" * 3000,
    '"\\u0000"',
    '"../../.."', '"/dev/zero"', '"/"', '"."', '"é💥"', "'''\na\nb'''", "[1, 'x']", "['9999999999:4']",
    "[1" + ", 1" * 5000 + "]",
    '"2:4"', '"0:4"', '"' + "x" * 5000 + '"', "{ 'array.width' = [1, 1] }", "{ 'array.width' = [] }", "0x10",
    "1_000_000_000_000",
]  # fmt: skip


def change_csv(data: bytes, draw: random.Random) -> bytes:
    lines = data.decode().split("\n")
    for _ in range(draw.choice((1, 1, 2, 4))):
        number = draw.randrange(max(1, len(lines) - 1)) if draw.random() < 0.7 else 0
        fields = lines[number].split(",")
        place = draw.randrange(len(fields))
        kind = draw.choice(("cell", "cell", "cell", "drop", "add", "line", "double", "header"))
        if kind == "cell":
            fields[place] = draw.choice([*CSV_CELLS, *HUGE])
        elif kind == "drop":
            del fields[place]
        elif kind == "add":
            fields.insert(place, draw.choice(CSV_CELLS))
        elif kind == "line":
            fields = []
        elif kind == "double":
            lines.insert(number, lines[number])
        else:
            number, fields = 0, ["" for _ in fields]
        lines[number] = ",".join(fields)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


CSV_CELLS = ["", "x", '"', '"a', "\0", "nan", "inf", "-inf", "True", "1.5", "é", "=1+1", "a b", "x" * 200_000, "1e5",
    "0x10", "\r", "\u0661"]  # fmt: skip


def change_npy(data: bytes, draw: random.Random) -> bytes:
    """The header says another type, shape or order."""
    length = struct.unpack("<H", data[8:10])[0]
    header = ast.literal_eval(data[10 : 10 + length].decode("latin-1"))
    kind = draw.choice(("descr", "descr", "shape", "shape", "shape", "order", "key", "text"))
    if kind == "descr":
        header["descr"] = draw.choice(
            (
                "<f8",
                "<i8",
                "|O",
                "<U4",
                "|b1",
                "<c16",
                ">f4",
                "|V3",
                [("a", "<i4")],
                "<m8",
                "f2",
                "xx",
                "",
                "<f16",
                "|S0",
            )
        )
    elif kind == "shape":
        shape = header["shape"]
        header["shape"] = draw.choice(
            (
                (10**15,),
                (-1, 3),
                (),
                (0, 4),
                shape[::-1],
                (*shape, 1),
                (1, *shape),
                (2**63, 2),
                (True,),
                (1.5,),
                [2, 3],
                None,
                (10**400,),
            )
        )
    elif kind == "order":
        header["fortran_order"] = draw.choice((True, None, 1))
    elif kind == "key":
        del header[draw.choice(list(header))]
    text = (
        draw.choice(("(" * 200, "{" * 5000, "{'a': 1", "__import__('os')", "\0", "9" * 5000))
        if kind == "text"
        else repr(header)
    )
    body = text.encode("latin-1", "replace")[:60_000]
    return data[:8] + struct.pack("<H", len(body) + 1) + body + b"\n" + data[10 + length :]  # fmt: skip


def change_safetensors(data: bytes, draw: random.Random) -> bytes:
    """The header says another type, shape or place of a tensor, or other names."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    entry = header[draw.choice(names)]
    kind = draw.choice(("dtype", "dtype", "shape", "offsets", "name", "tree", "length"))
    if kind == "dtype":
        entry["dtype"] = draw.choice(
            ("BF16", "F8_E4M3", "F8_E5M2", "F16", "I64", "BOOL", "U8", "F64", "U16", "F4", "X", "C64")
        )
        if draw.random() < 0.7:  # so that the sizes still fit
            size = {"BF16": 2, "F16": 2, "U16": 2, "I64": 8, "F64": 8, "C64": 8}.get(entry["dtype"], 1)
            total = entry["data_offsets"][1] - entry["data_offsets"][0]
            entry["shape"] = (
                [total // size]
                if draw.random() < 0.3 or len(entry["shape"]) < 2
                else [entry["shape"][0], total // size // max(1, entry["shape"][0])]
            )
    elif kind == "shape":
        entry["shape"] = draw.choice((entry["shape"][::-1], [], [0], [2**40, 2**40], [-1], [1, *entry["shape"]], [1.5]))
    elif kind == "offsets":
        entry["data_offsets"] = draw.choice(([0, 10**15], [5, 3], [], [0, 0], [-1, 4]))
    elif kind == "name":
        header[draw.choice(("", "é", "x" * 5000, "\udc80", "model.layers.9.q_proj.weight"))] = header.pop(
            draw.choice(names)
        )
    elif kind == "tree":
        header = mutated_tree(header, draw)
    text = dump_json(header, draw)
    text += b" " * (-len(text) % 8)
    said = len(text) if kind != "length" else draw.choice((0, 1, 10**18, 2**64 - 1, len(text) - 3, len(data)))
    return struct.pack("<Q", said) + text + data[8 + length :]  # fmt: skip


def change_record(data: bytes, draw: random.Random) -> bytes:
    """The JSON header line, or the table below it."""
    from tests.campaigns.record import sealed_again

    first, _, body = data.partition(b"\n")
    if draw.random() < 0.5:
        damaged = b"# " + change_json(first[2:], draw) + b"\n" + body
    else:
        damaged = first + b"\n" + change_csv(body, draw)
    return sealed_again(damaged) if draw.random() < 0.8 else damaged


def change_words(data: bytes, draw: random.Random) -> bytes:
    """For texts: other characters between the words."""
    words = re.split(rb"( )", data)
    words[draw.randrange(len(words))] = draw.choice(
        (b"\0", b"\xff", "\U0001f4a5".encode(), b"x" * 100_000, b"", b"<|endoftext|>")
    )
    return b"".join(words)
