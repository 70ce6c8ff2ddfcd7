"""The shape of small blocks that a matrix is cut into, OUTPUTSxINPUTS: "1x8", "4x4"."""

import re

from workloads.errors import UserError

SHAPE = re.compile(r"([1-9]\d{0,8})x([1-9]\d{0,8})")


def block_shape(text: str) -> tuple[int, int]:
    """(outputs, inputs). Raises UserError for anything that is no such shape."""
    match = SHAPE.fullmatch(text)
    if not match:
        raise UserError(f"{text!r} is no block: expected OUTPUTSxINPUTS, each at least 1, such as 4x4")
    return int(match[1]), int(match[2])


def known_shape(text: str) -> str:
    """The text itself. Raises ValueError, as settings are checked, for anything that is no such shape."""
    try:
        block_shape(text)
    except UserError as error:
        raise ValueError(str(error)) from None
    return text
