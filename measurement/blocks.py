"""A whole decoder block or model of Hugging Face, dense against 2:4: what is left of a kernel's gain end to end.

Linears become PyTorch's semi-structured tensors, as its tutorial does it; attention, norms and everything else stay.
Two phases: prefill (all tokens of a batch at once) and decode (one token a sequence, after `seq` tokens in a static KV
cache). Weights are the model's initial random ones, pruned by magnitude: time does not depend on which two of four are
kept. Every 2:4 linear is checked against float32 before anything is timed. Each phase is timed twice:
`eager`, as it runs when called (launches from the host included where they are slower than the GPU), and in a CUDA
graph where it can be captured. In decode, setting back the cache's position is one small kernel a layer, included.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from measurement.kernels import float_tolerance
from measurement.measure import Device, quiet
from measurement.problem import DTYPES, keep_of_four
from measurement.timing import RUNS, Samples
from workloads.errors import UserError, one_line

PHASES = ("prefill", "decode")
BACKENDS = ("cusparselt24", "cutlass24")
Convert = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Scenario:
    """`blocks` 0: the whole model; else so many blocks are built, and one of them is timed. `roles`: linears made 2:4,
    () all."""

    dtype: str
    phase: str
    batch: int
    seq: int
    blocks: int = 1
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.phase not in PHASES or self.batch < 1 or self.seq < 2:
            raise UserError(f"end to end: phase prefill or decode, batch 1 and seq 2 at least; got {self}")


def converter(backend: str) -> Convert:
    """A 2:4 weight (out_features, in_features) as PyTorch's semi-structured tensor."""
    from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, SparseSemiStructuredTensorCUTLASS

    return {
        "cusparselt24": SparseSemiStructuredTensorCUSPARSELT.from_dense,
        "cutlass24": SparseSemiStructuredTensorCUTLASS.from_dense,
    }[backend]


def end_to_end(
    device: Device, config: dict[str, Any], scenario: Scenario, backends: dict[str, Convert], runs: int = RUNS
) -> Iterator[dict[str, Any]]:
    """Rows: the dense model, then each backend: times in us, speedups over dense, error, or why it did not run.

    Raises UserError when transformers cannot build the model or it does not fit the device.
    """
    facts = {
        "what": "block" if scenario.blocks else "model",
        "phase": scenario.phase,
        "batch": scenario.batch,
        "seq": scenario.seq,
        "dtype": scenario.dtype,
        "roles": list(scenario.roles),
    }
    with torch.inference_mode(), quiet():
        model = build(config, scenario, device.name)
        dense = _timed(device, phase_call(model, first_block(model), scenario, device.name), runs)
        yield {**facts, "kernel": "dense", "feasible": True, "reason": "", **dense}
        pruned = {name: keep_of_four(linear.weight, 2) for name, linear in linears(model, scenario.roles)}
        if not pruned:
            raise UserError(f"end to end: no linear of the roles {' '.join(scenario.roles)} is left to make 2:4")
        for backend, convert in backends.items():
            row = {**facts, "kernel": backend, "linears": len(pruned)}
            try:
                error = 0.0
                for name, weight in pruned.items():
                    sparse = nn.Parameter(convert(weight.contiguous()), requires_grad=False)
                    model.get_submodule(name).weight = sparse
                    error = max(error, linear_error(model.get_submodule(name), weight))
                device.settle()
                if not error <= float_tolerance(DTYPES[scenario.dtype]):
                    reason = f"wrong result, not timed: a linear is off by {error:.3g} of its output's root mean square"
                    yield {**row, "feasible": False, "reason": reason}
                    continue
                times = _timed(device, phase_call(model, first_block(model), scenario, device.name), runs)
            except (RuntimeError, NotImplementedError) as failure:
                device.settle()
                yield {**row, "feasible": False, "reason": f"does not run: {one_line(failure)}"}
                continue
            gains = {f"{kind}_speedup": dense[f"{kind}_us"] / times[f"{kind}_us"] for kind in ("eager", "graph")}
            yield {**row, "feasible": True, "reason": "", "error": error, **times, **gains}


def build(config: dict[str, Any], scenario: Scenario, device: str) -> Any:
    """The causal LM of a config with random weights on the device, cut to `scenario.blocks` blocks. Raises
    UserError."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from checkpoints.discovery import BAD_CONFIG

    settings = {
        key: value for key, value in copy.deepcopy(config).items() if key not in ("auto_map", "quantization_config")
    }
    kind = settings.pop("model_type")
    if scenario.blocks:
        settings["num_hidden_layers"] = scenario.blocks
        if isinstance(settings.get("layer_types"), list):
            settings["layer_types"] = settings["layer_types"][: scenario.blocks]
    try:
        with torch.device(device):
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(
                AutoConfig.for_model(kind, **settings), dtype=DTYPES[scenario.dtype]
            )
    except torch.OutOfMemoryError as error:
        raise UserError(f"end to end: the model does not fit the GPU ({one_line(error)}); measure a block") from None
    except BAD_CONFIG as error:
        raise UserError(f"transformers cannot build a {kind!r} model: {one_line(error)}; correct its config") from None
    return model.to(device).eval()


def linears(model: Any, roles: tuple[str, ...]) -> Iterator[tuple[str, nn.Linear]]:
    """(name, linear) of the decoder blocks' linears of these roles, () all; stacked experts are left out."""
    from checkpoints.discovery import block_linears, find_blocks

    path, blocks = find_blocks(model)
    for number, block in enumerate(blocks):
        for ref in block_linears(block, f"{path}.{number}", number):
            module = block.get_submodule(ref.module_path)
            if isinstance(module, nn.Linear) and (not roles or ref.layer.role in roles):
                yield ref.layer.name, module


def linear_error(linear: Any, weight: Tensor, tokens: int = 32) -> float:
    """Largest deviation of the 2:4 linear from float32 arithmetic on `weight`, over its root mean square."""
    x = torch.randn((tokens, weight.shape[1]), device=weight.device, dtype=weight.dtype)
    expected = x.float() @ weight.float().t()
    if linear.bias is not None:
        expected = expected + linear.bias.float()
    worst = (linear(x).float() - expected).abs().max() / expected.square().mean().sqrt()
    return float(torch.nan_to_num(worst, nan=float("inf")))


def first_block(model: Any) -> Any:
    """Of a model whose linears still are linears."""
    from checkpoints.discovery import find_blocks

    return find_blocks(model)[1][0]


def phase_call(model: Any, block: Any, scenario: Scenario, device: str) -> Callable[[], Tensor]:
    """One phase of the model, or of its first block with the arguments the model gives it."""
    ids = torch.randint(0, model.config.get_text_config().vocab_size, (scenario.batch, scenario.seq + 1), device=device)
    reset, arguments = _phase(model, scenario, ids)

    def whole() -> Tensor:
        reset()
        return model(**arguments).logits

    if not scenario.blocks:
        return whole
    seen: list[tuple[Any, Any]] = []
    handle = block.register_forward_pre_hook(lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True)
    try:
        whole()
    finally:
        handle.remove()
    args, kwargs = seen[0]

    def one_block() -> Tensor:
        reset()
        output = block(*args, **kwargs)
        return output if isinstance(output, Tensor) else output[0]

    return one_block


def _phase(model: Any, scenario: Scenario, ids: Tensor) -> tuple[Callable[[], None], dict[str, Any]]:
    """(what to do before each call, the model's arguments)."""
    if scenario.phase == "prefill":
        return lambda: None, {"input_ids": ids[:, : scenario.seq], "use_cache": False, "logits_to_keep": 1}
    from transformers import StaticCache

    cache = StaticCache(config=model.config, max_cache_len=scenario.seq + 1)
    model(input_ids=ids[:, : scenario.seq], past_key_values=cache, use_cache=True, logits_to_keep=1)
    lengths: list[Any] = [getattr(layer, "cumulative_length", None) for layer in cache.layers]
    positions = [length for length in lengths if isinstance(length, Tensor)]

    def reset() -> None:
        for position in positions:
            position.fill_(scenario.seq)

    return reset, {
        "input_ids": ids[:, scenario.seq :],
        "past_key_values": cache,
        "use_cache": True,
        "logits_to_keep": 1,
    }


def _timed(device: Device, call: Callable[[], Tensor], runs: int) -> dict[str, Any]:
    eager, graph = device.clock.cold(call, runs), device.clock.warm(call, runs)
    return {**_columns("eager", eager), **_columns("graph", graph), "graph_how": graph.how}


def _columns(kind: str, samples: Samples) -> dict[str, Any]:
    return {
        f"{kind}_us": samples.median_us,
        f"{kind}_p10_us": samples.p10_us,
        f"{kind}_p90_us": samples.p90_us,
        f"{kind}_samples_us": [round(time, 3) for time in samples.times_us],
    }
