"""How a bundle came to be, step by step: what was taken out, then masked, then quantized."""

from collections.abc import Iterator, Mapping
from typing import Any

from workloads.bundle import BundleHeader

AFTER = "after"  # in a header's parameters: the bundle that a run went on from, as `as_step` has it
SETTINGS = ("method", "pattern", "parameters", "seed", "target_sparsity", "calibration", "tool_version")


def as_step(header: BundleHeader) -> dict[str, Any]:
    """What the header of the next step records of this one: all but the model, which is the same."""
    return {name: getattr(header, name) for name in SETTINGS}


def steps(header: BundleHeader) -> list[str]:
    """In order, one text each: ["obs-sp 20 %", "wanda 2:4", "4 bits (rtn)"]."""
    return list(_steps(as_step(header)))


def _steps(step: Mapping[str, Any]) -> Iterator[str]:
    method, parameters = step["method"], step["parameters"]
    before = parameters.get(AFTER)
    if before is not None:
        yield from _steps(before)
        method = method.removeprefix(f"{before['method']}+")
    own, *later = method.split("+")
    quantization = parameters.get("quantization") or {}
    bits, quantizer = quantization.get("bits"), quantization.get("quantizer")
    if bits is None:
        yield f"{own} {_target(step)}".strip()
    elif own in ("none", quantizer):
        yield f"{bits} bits ({quantizer})"
    else:
        yield f"{own} {_target(step)}, {bits} bits ({quantizer})"
    yield from later


def _target(step: Mapping[str, Any]) -> str:
    if ":" in step["pattern"]:
        return str(step["pattern"])
    asked = step["target_sparsity"]
    return "" if asked is None else f"{100 * asked:g} %"
