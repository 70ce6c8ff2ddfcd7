"""A whole decoder block or model of Hugging Face on the CPU: what pruned and quantized ones bring end to end.

Each variant is a model of its own, all in turns as kernels are (clock.py): the dense one; its linears in 2:4, which run
dense, as there is no kernel; its linears in 8 bits; bf16; and a structurally pruned one, with a share of its kv groups
and FFN neurons. Attention, norms and the head stay as they are. Weights are random ones of the config's own
initialization: time does not depend on them. Linears are checked against their dense product before anything is timed.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from measurement.blocks import Scenario, build, first_block, linear_error, linears, phase_call
from measurement.cpu.clock import RoundClock
from measurement.cpu.host import free_bytes
from measurement.cpu.kernels import Int8Onednn, Int8X86, pack_int8
from measurement.cpu.measure import SPREAD, refused
from measurement.cpu.numbers import FP32_TOLERANCE, QUANTIZED_INPUTS
from measurement.kernels import float_tolerance
from measurement.measure import quiet
from measurement.noise import noise
from measurement.problem import keep_of_four
from workloads.errors import UserError, one_line

DENSE, SMALLER, AS_DENSE, BF16 = "dense", "smaller", "24-as-dense", "bf16"
VARIANTS = (DENSE, BF16, Int8X86.name, Int8Onednn.name, AS_DENSE, SMALLER)
ENGINES = {kernel.name: kernel.engine for kernel in (Int8X86, Int8Onednn)}
GROUP = 8  # FFN neurons are kept in multiples of it


class Int8Linear(nn.Module):
    """A linear by quantized::linear_dynamic; float32 in and out."""

    def __init__(self, linear: nn.Linear, engine: str):
        super().__init__()
        self._packed, self.weight_used = pack_int8(linear.weight.detach(), engine)
        self._bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        output = torch.ops.quantized.linear_dynamic(x, self._packed, False)
        return output if self._bias is None else output + self._bias


@dataclass(frozen=True)
class EndToEnd:
    """`density`: the share of kv groups and FFN neurons that `smaller` keeps. `spread` as in CpuProcedure."""

    scenario: Scenario
    rounds: int
    density: float = 0.5
    spread: float = SPREAD
    variants: Sequence[str] = VARIANTS


def end_to_end(clock: RoundClock, config: dict[str, Any], asked: EndToEnd) -> Iterator[dict[str, Any]]:
    """Rows: the dense model, then each variant: least times in us, tokens a second, speedups over dense, or why there
    is none. The caller pins threads. Raises UserError where transformers cannot build the model or memory is short."""
    scenario = asked.scenario
    facts = {
        "what": "block" if scenario.blocks else "model", "phase": scenario.phase, "batch": scenario.batch,
        "seq": scenario.seq, "dtype": scenario.dtype,
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    calls: list[tuple[int, Callable[[], Tensor]]] = []
    with torch.inference_mode(), quiet():
        for name in dict.fromkeys((DENSE, *asked.variants)):
            row, call = _prepared(name, config, asked)
            if call is not None:
                calls.append((len(rows), call))
            rows.append({**facts, "kernel": name, **row})
        timed = [call for _, call in calls]
        cold, warm = clock.cold(timed, asked.rounds), clock.warm(timed, asked.rounds)
    tokens = scenario.batch * (scenario.seq if scenario.phase == "prefill" else 1)
    for (place, _), cold_one, warm_one in zip(calls, cold, warm, strict=True):
        spreads = {"cold": cold_one.spread, "warm": warm_one.spread}
        rows[place] |= {"feasible": True, "reason": noise(spreads, asked.spread)}
        for kind, samples in (("cold", cold_one), ("warm", warm_one)):
            rows[place] |= {
                f"{kind}_us": samples.least_us, f"{kind}_spread": samples.spread,
                f"{kind}_tokens_per_s": tokens / samples.least_us * 1e6,
                f"{kind}_samples_us": [round(time, 3) for time in samples.times_us],
            }  # fmt: skip
    yield from (_against(rows[0], row) for row in refused(rows))


def _against(dense: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    if not row["feasible"]:
        return row
    if not dense["feasible"]:
        return {**row, "feasible": False, "reason": f"the dense model beside it: {dense['reason']}"}
    return {**row, **{f"{kind}_speedup": dense[f"{kind}_us"] / row[f"{kind}_us"] for kind in ("cold", "warm")}}


def _prepared(name: str, config: dict[str, Any], asked: EndToEnd) -> tuple[dict[str, Any], Callable[[], Tensor] | None]:
    """What is known of a variant before it is timed, and its call; none where it does not run or is wrong."""
    scenario = asked.scenario
    if name == BF16 and scenario.dtype == "bf16":
        return {"feasible": False, "reason": "the dense model is in bf16 already"}, None
    if name in ENGINES and scenario.dtype != "fp32":
        return {"feasible": False, "reason": "the engines of 8 bits take fp32 inputs; give `dtype` fp32"}, None
    own = replace(scenario, dtype="bf16") if name == BF16 else scenario
    smaller, kept = structured(config, asked.density) if name == SMALLER else (config, {})
    _check_memory(smaller, own)
    model = build(smaller, own, "cpu")
    block = first_block(model)
    try:
        changed, error = _converted(model, name)
        model(input_ids=torch.zeros((1, 2), dtype=torch.long), use_cache=False)
    except (RuntimeError, NotImplementedError) as failure:
        return {"feasible": False, "reason": f"does not run: {one_line(failure)}"}, None
    row = {"linears": changed, "error": error, **kept}
    allowed = QUANTIZED_INPUTS if name in ENGINES else max(FP32_TOLERANCE, float_tolerance(torch.bfloat16))
    if not error <= allowed:
        reason = f"wrong result, not timed: a linear is off by {error:.3g} of its output's root mean square"
        return {**row, "feasible": False, "reason": reason}, None
    return row, phase_call(model, block, own, "cpu")


def _converted(model: Any, name: str) -> tuple[int, float]:
    """(linears that were changed, the largest error of one)."""
    changed, error = 0, 0.0
    for place, linear in list(linears(model, ())) if name in (*ENGINES, AS_DENSE) else ():
        changed += 1
        if name == AS_DENSE:
            linear.weight.copy_(keep_of_four(linear.weight, 2))
            continue
        parent, _, last = place.rpartition(".")
        quantized = Int8Linear(linear, ENGINES[name])
        error = max(error, linear_error(_WithBias(quantized, linear.bias), quantized.weight_used))
        quantized.weight_used = None  # type: ignore[assignment]
        setattr(model.get_submodule(parent), last, quantized)
    return changed, error


@dataclass(frozen=True)
class _WithBias:
    """What linear_error reads of a linear."""

    call: nn.Module
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return self.call(x)


def structured(config: dict[str, Any], density: float) -> tuple[dict[str, Any], dict[str, int]]:
    """(the config with that share of kv groups and FFN neurons, what is left), as structured pruning leaves it; one of
    each at least. Raises UserError for a config that does not say its heads and FFN."""
    names = ("num_attention_heads", "num_key_value_heads", "intermediate_size", "hidden_size")
    heads, kv, ffn, hidden = (int(config.get(name) or 0) for name in names)
    kv = kv or heads
    if not heads or not ffn or not hidden or heads % kv:
        raise UserError(
            f"end to end: a {config.get('model_type')!r} config does not state heads and FFN as {', '.join(names)}; "
            f"leave `{SMALLER}` out"
        )
    left = max(1, round(kv * density))
    neurons = max(GROUP, round(ffn * density / GROUP) * GROUP)
    found = copy.deepcopy(config)
    found |= {
        "head_dim": config.get("head_dim") or hidden // heads, "num_key_value_heads": left,
        "num_attention_heads": heads // kv * left, "intermediate_size": neurons,
    }  # fmt: skip
    return found, {"kv_groups": left, "kv_groups_before": kv, "neurons": neurons, "neurons_before": ffn}


def _check_memory(config: dict[str, Any], scenario: Scenario) -> None:
    """Raises UserError where one more model is larger than what is free."""
    from checkpoints.discovery import meta_model

    cut = {**config, "num_hidden_layers": scenario.blocks} if scenario.blocks else config
    if isinstance(cut.get("layer_types"), list):
        cut = {**cut, "layer_types": cut["layer_types"][: cut["num_hidden_layers"]]}
    size = sum(weight.numel() for weight in meta_model(cut).parameters()) * (4 if scenario.dtype == "fp32" else 2)
    if size > free_bytes():
        raise UserError(
            f"end to end: one more of the variants takes {size / 1e9:.1f} GB, {free_bytes() / 1e9:.1f} GB are free; "
            "measure a block, or fewer `kernels`"
        )
