"""JSON and TOML that somebody else wrote: whatever is wrong with the text is a ValueError of one line.

Beside syntax that is: lone surrogates, which no file can hold; numbers of more digits than Python turns into an int;
and brackets nested deeper than the parsers go."""

import json
import re
import tomllib
from typing import Any

MAX_DEPTH = 100
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str) -> Any:
    """Raises ValueError."""
    value = _parsed(json.loads, text)
    if _ESCAPED_SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a text in it holds half of a surrogate pair, which is no character") from None
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Raises ValueError."""
    return _parsed(tomllib.loads, text)


def _parsed(loads: Any, text: str) -> Any:
    try:
        value = loads(text)
        if nested_beyond(value, MAX_DEPTH):
            raise RecursionError
        return value
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise ValueError("a number has thousands of digits") from None
        raise


def nested_beyond(value: Any, depth: int) -> bool:
    """Whether objects and arrays lie more than `depth` deep in each other."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(depth):
        children = (item for outer in level for item in (outer.values() if isinstance(outer, dict) else outer))
        level = [item for item in children if isinstance(item, dict | list)]
        if not level:
            return False
    return bool(level)
