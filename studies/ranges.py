"""Ranges of a sweep: 16:128:16 counts up by 16, 16:256:x2 doubles. The last value is swept too, where a step meets
it."""

import re
from decimal import Decimal

from workloads.errors import UserError

NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
RANGE = re.compile(rf"({NUMBER}):({NUMBER}):(x?)({NUMBER})")
MOST = 100_000  # values of one range


def spread(text: str) -> list[str]:
    """The values of a range as texts; anything else is a value of its own. Raises UserError for a range that never
    ends, or holds nothing."""
    match = RANGE.fullmatch(text.strip())
    if match is None:
        if re.fullmatch(r"[^:\"\[{]+:[^:]+:[^:]+(:.*)?", text.strip()):
            raise UserError(f"range {text}: is written from:to:step, as 16:128:16, or from:to:xfactor, as 16:256:x2")
        return [text]
    value, last, step = Decimal(match[1]), Decimal(match[2]), Decimal(match[4])
    grows = step > 1 and value > 0 if match[3] else step > 0
    if not grows or value > last:
        raise UserError(
            f"range {text}: goes from a smaller to a larger value, by steps above 0, or by factors above 1 such as x2"
        )
    values: list[str] = []
    while value <= last:
        if len(values) == MOST:
            raise UserError(f"range {text}: has more than {MOST:,} values; take larger steps")
        values.append(f"{value.normalize():f}" if {".", "e"} & set(text) else str(value))
        value = value * step if match[3] else value + step
    return values
