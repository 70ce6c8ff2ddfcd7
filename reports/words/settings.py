"""The `settings` of result rows, "array.rows=16 dram.device=HBM2", in the room there is."""

import hashlib
import re

import pandas as pd

QUANTIZED = {
    "int8": "int8",
    "int8-24": "int8",
    "fp8": "fp8",
    "fp8-24": "fp8",
    "int4": "int4",
    "int8-x86": "int8",
    "int8-onednn": "int8",
    "int8-weights": "int8",
    "int4-weights": "int4",
    "bf16": "bf16",
    "openvino-bf16": "bf16",
    "openvino-int8": "int8",
    "openvino-sparse": "int8",
}  # measured kernels: their type


def parts_of(settings: str) -> list[str]:
    """ "array.rows=16 dram.device=HBM2" -> its key=value parts; a value may hold spaces."""
    return re.split(r"\s+(?=[\w.-]+=)", settings.strip()) if settings.strip() else []


def setting(settings: str, key: str) -> str:
    """The value of key=value in settings; "" where it is not there."""
    return next((part.partition("=")[2] for part in parts_of(settings) if part.startswith(f"{key}=")), "")


def others(settings: str, *keys: str) -> str:
    """The settings without those of these keys."""
    return " ".join(part for part in parts_of(settings) if part.partition("=")[0] not in keys)


def type_of(settings: str) -> str:
    """The number type that a GPU's kernel multiplies; "" on accelerators. `dtype` of a measured kernel that quantizes
    is that of its inputs and outputs."""
    return QUANTIZED.get(setting(settings, "kernel"), setting(settings, "dtype"))


def beside_type(settings: str) -> str:
    """The settings but for the part that `type_of` says as well."""
    return " ".join(part for part in parts_of(settings) if part != f"dtype={type_of(settings)}")


def settings_tag(settings: str) -> str:
    """Four letters that stand for settings too long to print, the same in every place of a report."""
    return hashlib.sha256(settings.encode()).hexdigest()[:4]


def settings_text(settings: str, width: int = 60) -> str:
    """Settings in at most about `width` letters: as many parts as fit, then how many more and the tag of all of
    them."""
    parts = parts_of(settings)
    fitting = [n for n in range(1, len(parts) + 1) if len(" ".join(parts[:n])) <= width]
    if len(fitting) == len(parts):
        return " ".join(parts)
    shown = " ".join(parts[: max(fitting, default=0)])
    more = len(parts) - max(fitting, default=0)
    return (
        f"{shown} and {more} more (settings {settings_tag(settings)})"
        if shown
        else f"settings {settings_tag(settings)}"
    )


def common(settings: pd.Series) -> str:
    """The parts that all of them have."""
    each = [parts_of(text) for text in dict.fromkeys(settings)]
    return " ".join(part for part in each[0] if all(part in other for other in each))


def shortened(settings: list[str]) -> dict[str, str]:
    """Each without the parts that all of them have, and without sections of keys where that leaves them different;
    "preset" for nothing."""
    shared = parts_of(common(pd.Series(settings, dtype=object)))
    own = {text: [part for part in parts_of(text) if part not in shared] for text in settings}
    keys = {part.partition("=")[0] for parts in own.values() for part in parts}
    names = {key.rpartition(".")[2] for key in keys}
    if len(names) == len(keys):
        own = {text: [_without_section(part) for part in parts] for text, parts in own.items()}
    return {text: " ".join(parts) or "preset" for text, parts in own.items()}


def swept_keys(settings: pd.Series) -> list[str]:
    """The keys in which they differ, in order of appearance."""
    shared = parts_of(common(settings))
    parts = [part for text in dict.fromkeys(settings) for part in parts_of(text) if part not in shared]
    return list(dict.fromkeys(part.partition("=")[0] for part in parts))


def _without_section(part: str) -> str:
    key, _, value = part.partition("=")
    return f"{key.rpartition('.')[2]}={value}"
