"""What a record has of the layers of a model: exactly these shapes, or what was measured nearest to them, marked so.

Nothing is interpolated. Where q, k and v (gate and up) were measured as the one matrix that inference engines make of
them, and not each alone, that matrix stands in their place. A layer that was not measured is a row that is not
feasible, so that it enters no sum, and its reason holds the figures of the nearest GEMM. Needs no torch."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from measurement.layer_facts import Case, Row, density_of
from measurement.layer_uses import samples_in, tokens_of
from measurement.rows import RecordTarget
from measurement.shapes import ANY
from workloads.errors import UserError

FUSED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}
Layer = dict[str, Any]  # as a record's header keeps it


def rows_for(target: RecordTarget, layers: Sequence[tuple[Layer, Sequence[int]]], dtype: str = "") -> list[Row]:
    """Of each layer at its token counts ([]: those of the record), of the `dtype` of its dense kernel ("": all there
    are). Raises UserError for a dtype that the record does not have."""
    cases = target.every_case
    dtypes = list(dict.fromkeys(case["dtype"] for case in cases))
    if dtype and dtype not in dtypes:
        raise UserError(f"the record of {target.name} has no {dtype}; it has {', '.join(dtypes)}")
    every = samples_in(target.record.header["layers"]) or sorted({case["tokens"] for case in cases})
    rows = []
    for layer, tokens in as_measured(target, layers):
        for each in [dtype] if dtype else dtypes:
            own = [case for case in target.of_layer(*shape_of(layer)) if case["dtype"] == each]
            for count in tokens_of(layer, tokens or every):
                found = [case for case in own if case["tokens"] == count]
                rows += target.layer_rows(layer, found) or [_nearest_row(target, layer, count, each)]
    return rows


def as_measured(
    target: RecordTarget, layers: Sequence[tuple[Layer, Sequence[int]]]
) -> list[tuple[Layer, Sequence[int]]]:
    """The layers, with fused ones in the place of those that were measured together alone."""
    gone: set[int] = set()
    put: dict[int, tuple[Layer, Sequence[int]]] = {}
    for role, parts in FUSED.items():
        of_block: dict[tuple[Any, ...], list[int]] = {}
        for place, (layer, _) in enumerate(layers):
            if layer["role"] in parts:
                key = layer["block"], layer["in_features"], layer["pattern"], layer["name"].rpartition(".")[0]
                of_block.setdefault(key, []).append(place)
        for places in of_block.values():
            some = [layers[place][0] for place in places]
            whole = fused(some, role)
            alone = all(target.of_layer(*shape_of(layer)) for layer in some)
            if [layer["role"] for layer in some] == list(parts) and not alone and target.of_layer(*shape_of(whole)):
                gone |= set(places)
                put[places[0]] = whole, layers[places[0]][1]
    return [put.get(place, pair) for place, pair in enumerate(layers) if place in put or place not in gone]


def fused(parts: Sequence[Layer], role: str) -> Layer:
    """One matrix of the outputs of all."""
    kept = [layer.get("nnz") for layer in parts]
    return {
        **parts[0], "role": role, "name": f"{parts[0]['name'].rpartition('.')[0]}.{role}_proj",
        "out_features": sum(layer["out_features"] for layer in parts),
        "nnz": None if None in kept else sum(kept),  # type: ignore[arg-type]
        "mask_sha256": "",
    }  # fmt: skip


def shape_of(layer: Layer) -> tuple[int, int, str, float]:
    return layer["out_features"], layer["in_features"], layer["pattern"], density_of(layer)


def _nearest_row(target: RecordTarget, layer: Layer, tokens: int, dtype: str) -> Row:
    rows, cols, pattern, density = shape_of(layer)
    masked = "" if pattern == ANY else f", {pattern}"
    asked = f"{rows} x {cols}{masked}, {tokens:,} tokens, {dtype}"
    near = nearest(target.every_case, rows, cols, tokens, pattern, density, dtype)
    reason = f"not measured on {target.name}: {asked}"
    if near:
        reason += f"; nearest: {described(target, near)}"
    return target.missing_row(layer, tokens, dtype, reason)


def nearest(
    cases: Iterable[Case], rows: int, cols: int, tokens: int, pattern: str, density: float, dtype: str
) -> list[Case]:
    """All kernels of the GEMM whose sides differ least: the sum of their octaves, and of the density's; of masks of the
    pattern, where there are some."""
    same = [case for case in cases if case["dtype"] == dtype and case["feasible"]]
    same = [case for case in same if case["pattern"] == pattern] or same
    if not same:
        return []

    def octaves(case: Case) -> float:
        sides = (case["out_features"], rows), (case["in_features"], cols), (case["tokens"], tokens)
        return sum(abs(math.log2(a / b)) for a, b in (*sides, (case["density"], density if case["density"] < 1 else 1)))

    def gemm(case: Case) -> tuple[Any, ...]:
        return tuple(case[name] for name in ("out_features", "in_features", "tokens", "pattern", "density"))

    best = gemm(min(same, key=octaves))
    return [case for case in same if gemm(case) == best]


def described(target: RecordTarget, cases: Sequence[Case]) -> str:
    """ "2048 x 8192, 64 tokens: dense 36 us, cusparselt24 24.4 us (1.47x)"."""
    first = cases[0]
    parts = []
    for case in cases:
        speedup = target.speedup(case)
        gain = f" ({speedup:.2f}x)" if speedup and case["kernel"] != "dense" else ""
        parts.append(f"{case['kernel']} {target.us(case):.4g} us{gain}")
    kept = f", {first['density']:g} kept" if first["density"] < 1 else ""
    shape = f"{first['out_features']} x {first['in_features']}, {first['tokens']:,} tokens{kept}"
    return f"{shape}: {', '.join(parts)}"
