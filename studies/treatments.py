"""What may be done to a model of which only the shapes are at hand, in words: "int4+2:4", "structured-25"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from simulator.inference.kernels import DTYPES
from workloads.decoder.dimensions import Decoder
from workloads.decoder.treated import Change, treated
from workloads.errors import NotForThisModel, UserError, unknown
from workloads.patterns import parse_pattern

DENSE = "dense"
# What a part may be about, in the order in which a name tells it, and how Change calls it.
KINDS = {"type": "", "mask": "zeros", "kv groups": "kv_share", "neurons": "ffn_share"}
SHARES = {
    "structured": ("kv groups", "neurons"), "kv": ("kv groups",), "ffn": ("neurons",), "unstructured": ("mask",),
}  # fmt: skip
WORDS = (DENSE, *DTYPES, "2:4", *(f"{name}-{share}" for name, share in zip(SHARES, (25, 25, 25, 50), strict=True)))


@dataclass(frozen=True)
class Treatment:
    """`name`: as rows have it. `dtype`: the type of weights and products where it says one."""

    name: str
    dtype: str = ""
    change: Change = field(default_factory=Change)

    def of(self, decoder: Decoder) -> Decoder:
        """Where types are the machine's to choose. Raises NotForThisModel."""
        return _treated(decoder, self.change)

    def in_bits(self, decoder: Decoder, machine: str, own_bits: int) -> Decoder:
        """Where a machine multiplies in a type of its own, and reads weights of fewer bits; its own ones stay as they
        are, without scales. Raises NotForThisModel."""
        _, bits, group = DTYPES[self.dtype]
        if not self.dtype.startswith("int"):
            raise NotForThisModel(f"{machine} multiplies in its own type, not in {self.dtype}")
        if bits >= own_bits:
            return _treated(decoder, self.change)
        return _treated(decoder, replace(self.change, weight_bits=bits, group_size=group))


def _treated(decoder: Decoder, change: Change) -> Decoder:
    """Once for all machines, as what its blocks execute is kept with it."""
    if change not in decoder.memo:
        decoder.memo[change] = treated(decoder, change)
    found: Decoder = decoder.memo[change]
    return found


def parse_treatment(text: str) -> Treatment:
    """Parts joined by "+", each kind once: a type of `dtype` (int4), a mask (N:M, or unstructured-50: 50 % zeros),
    what is taken out (structured-25: 25 % of kv groups and of FFN neurons; kv-25, ffn-25). "dense" stands alone. Raises
    UserError."""
    parts = [part.strip() for part in text.split("+")]
    if parts == [DENSE]:
        return Treatment(DENSE)
    found = Treatment("")
    named: dict[str, str] = {}  # by what a part is about
    for part in parts:
        if part == DENSE:
            raise UserError(f"treatment {text!r}: {DENSE!r} stands alone")
        about, found = _with(found, part)
        if twice := next((each for each in about if each in named), ""):
            raise UserError(f"treatment {text!r} names its {twice} twice; leave one out")
        named |= dict.fromkeys(about, part)
    ordered = sorted(named, key=list(KINDS).index)
    return replace(found, name="+".join(dict.fromkeys(named[each] for each in ordered)))


def parse_treatments(texts: Sequence[str]) -> list[Treatment]:
    """Raises UserError for two that say the same."""
    found = [parse_treatment(text) for text in texts]
    names = [each.name for each in found]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UserError(f"treatment {twice!r} is given twice; leave one out")
    return found


def _with(found: Treatment, part: str) -> tuple[tuple[str, ...], Treatment]:
    """(what the part is about, the treatment with it)."""
    if part in DTYPES:
        return ("type",), replace(found, dtype=part)
    if ":" in part:
        return ("mask",), replace(found, change=replace(found.change, pattern=parse_pattern(part)))
    match = re.fullmatch(r"([a-z]+)-([0-9]{1,2}(?:\.[0-9]{1,6})?)", part)
    if match is None or match[1] not in SHARES or not float(match[2]):
        raise unknown("treatment", part, WORDS)
    about = SHARES[match[1]]
    values: dict[str, Any] = {KINDS[each]: float(match[2]) / 100 for each in about}
    return about, replace(found, change=replace(found.change, **values))
