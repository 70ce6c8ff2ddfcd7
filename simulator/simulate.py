"""Masks in, result rows out: any accelerator of the table over a bundle or single masks."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from simulator.accelerators import ACCELERATORS, Model
from simulator.cycles import Infeasible, Outcome
from simulator.spec import load_spec, spec_sha256
from workloads import __version__
from workloads.bundle import BundleHeader, LayerEntry
from workloads.errors import UserError, unknown
from workloads.mask import PackedMask

MOST_TOKENS = 10**9  # cycles of the largest layers still fit 64-bit integers


@dataclass(frozen=True)
class Target:
    """An accelerator with its settings, ready to run layers."""

    name: str
    model: Model
    spec: Any

    @property
    def sha256(self) -> str:
        return spec_sha256(self.name, self.spec)


def find_model(name: str) -> Model:
    """Raises UserError with the nearest known name for an unknown accelerator."""
    if name not in ACCELERATORS:
        raise unknown("accelerator", name, ACCELERATORS)
    return ACCELERATORS[name]


def open_target(name: str, overrides: Sequence[str] = ()) -> Target:
    """The accelerator `name` with "key=value" overrides. Raises UserError for unknown names and keys."""
    model = find_model(name)
    return Target(name, model, load_spec(name, model.spec_type, overrides))


def simulate_layers(
    target: Target, header: BundleHeader, layers: Iterable[tuple[LayerEntry, PackedMask]], tokens: int, threads: int = 2
) -> Iterator[dict[str, Any]]:
    """One result row per layer, in order; a layer the target cannot run is a row with its reason. At most `threads` + 1 masks are in memory; rows do not depend on `threads`."""
    if not 1 <= tokens <= MOST_TOKENS:
        raise UserError(f"tokens must be 1 to {MOST_TOKENS:,}, not {tokens:,}")
    with ThreadPoolExecutor(max_workers=threads) as pool:
        pending: list[tuple[LayerEntry, Future[Outcome]]] = []
        for entry, mask in layers:
            pending.append((entry, pool.submit(target.model.simulate, target.spec, mask, tokens, entry.weight_bits)))
            if len(pending) > threads:
                yield _row(target, header, tokens, *pending.pop(0))
        for entry, outcome in pending:
            yield _row(target, header, tokens, entry, outcome)


def _row(
    target: Target, header: BundleHeader, tokens: int, entry: LayerEntry, future: "Future[Outcome]"
) -> dict[str, Any]:
    facts = {
        "model": header.model_id,
        "method": header.method,
        "pattern": entry.pattern,
        "target_sparsity": header.target_sparsity,
        "layer": entry.name,
        "block": entry.block,
        "role": entry.role,
        "out_features": entry.out_features,
        "in_features": entry.in_features,
        "nnz": entry.nnz,
        "sparsity": entry.sparsity,
        "target": target.name,
        "level": target.model.level,
        "source": "simulated",
        "tokens": tokens,
        "clock_mhz": target.spec.clock.mhz,
        "mask_sha256": entry.sha256,
        "spec_sha256": target.sha256,
        "seed": header.seed,
        "tool_version": __version__,
    }
    try:
        return {**facts, **_figures(target, entry.nnz * tokens, future.result()), "feasible": True, "reason": ""}
    except Infeasible as error:
        return {**facts, "feasible": False, "reason": str(error)}
    except UserError as error:
        raise UserError(f"{entry.name}: {error}") from None


def _figures(target: Target, macs: int, outcome: Outcome) -> dict[str, Any]:
    """The columns that hold cycles, bytes and what follows from them; `macs` are useful multiplications."""
    sparse, dense, published = outcome.sparse, outcome.dense, outcome.published_dense_cycles
    return {
        "weight_bits": outcome.weight_bits,
        "cycles": sparse.cycles,
        "compute_cycles": sparse.compute_cycles,
        "ideal_cycles": sparse.ideal_cycles,
        "imbalance_cycles": sparse.imbalance_cycles,
        "stall_cycles": sparse.stall_cycles,
        "transfer_cycles": sparse.transfer_cycles,
        "dense_cycles": dense.cycles,
        "dense_compute_cycles": dense.compute_cycles,
        "published_dense_cycles": published,
        "speedup": _ratio(dense.cycles, sparse.cycles),
        "compute_speedup": _ratio(dense.compute_cycles, sparse.compute_cycles),
        "published_speedup": _ratio(published, sparse.cycles),
        "weight_bytes": sparse.weight_bytes,
        "metadata_bytes": sparse.metadata_bytes,
        "activation_bytes": sparse.activation_bytes,
        "output_bytes": sparse.output_bytes,
        "dense_bytes": dense.total_bytes,
        "utilisation": _ratio(macs, sparse.cycles * target.spec.array.width * target.spec.array.height),
        "bound": sparse.bound,
        "mapping": sparse.mapping,
        "latency_us": sparse.cycles / target.spec.clock.mhz,
    }


def _ratio(over: float | None, under: float) -> float | None:
    """None where there is nothing to divide by: a layer with no kept weight takes no cycles."""
    return over / under if over is not None and under else None
