"""One column of rows: its name, type and meaning, and how a person reads it."""

from dataclasses import dataclass
from typing import Literal

Printed = Literal[
    "text", "settings", "yes", "count", "amount", "number", "quantity", "share", "error", "perplexity",
    "speedup", "energy_ratio", "edp_ratio", "ratio",
]  # fmt: skip
# Longest first: a name has the unit of the first of these that it ends in.
UNITS = {
    "_pj_us": "pJ µs", "_gbps": "GB/s", "_mhz": "MHz", "_mm2": "mm²", "_gib": "GiB", "_pj": "pJ", "_us": "µs",
    "_ms": "ms", "_ns": "ns", "_nm": "nm",
}  # fmt: skip
_AMOUNTS = ("cycles", "bytes")  # a name that ends in these is called so, and printed with all its digits


@dataclass(frozen=True)
class Column:
    """`heading`: without the unit; from the name where it is not given. `short`: instead of it, below the name of a
    group. `narrow`: instead of it, where all columns are narrow. `printed`: how a value is told to a person; from the
    name and the type where it is not given. `nothing`: the value that needs no telling, as missing ones. `wraps`: long
    texts, which may take several lines. `kind` maybe: yes, no, or not known; a missing bool is yes."""

    name: str
    kind: Literal["text", "int", "float", "bool", "maybe"]
    meaning: str = ""
    heading: str | None = None
    short: str = ""
    printed: Printed | None = None
    nothing: float | str | None = None
    narrow: str = ""
    wraps: bool = False

    @property
    def unit(self) -> str:
        """ "µs" of latency_us, "%" of a share; "" for none."""
        if self.shown == "share":
            return "%"
        return next((text for suffix, text in UNITS.items() if self.name.endswith(suffix)), "")

    @property
    def shown(self) -> Printed:
        """How a value is printed."""
        if self.printed is not None:
            return self.printed
        if self.kind in ("text", "bool", "maybe"):
            return "text" if self.kind == "text" else "yes"
        if self.name.endswith(_AMOUNTS):
            return "amount"
        if any(self.name.endswith(suffix) for suffix in UNITS):
            return "quantity"
        return "count" if self.kind == "int" else "number"

    @property
    def title(self) -> str:
        """The heading without its unit."""
        if self.heading is not None:
            return self.heading
        suffix = next((suffix for suffix in UNITS if self.name.endswith(suffix)), "")
        words = self.name.removesuffix(suffix).replace("_", " ").strip()
        return words[:1].upper() + words[1:]
