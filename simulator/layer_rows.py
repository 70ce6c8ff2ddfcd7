"""The result row of one layer on one accelerator: its mask's statistics, what the model makes of them, and what
follows."""

from dataclasses import replace
from typing import Any

from simulator.accelerators import Accelerator
from simulator.answers import arrays_of, geometry_of, outcome_of
from simulator.cycles import Infeasible, LayerCycles, Outcome
from simulator.energy import Energy, area_mm2, layer_energy
from simulator.expected import expected
from simulator.machine.parts import Machine
from simulator.statistics import Statistics
from simulator.tiling.search import MOST_CYCLES
from simulator.work import Work
from workloads.bundle import BundleHeader
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.facts import linear_facts, load_facts
from workloads.operations import Linear
from workloads.patterns import DENSE, SMALLER, WHOLE
from workloads.targets import Gathered


def evaluate(target: Accelerator, layer: Linear, conditions: Conditions, store: Gathered) -> Outcome:
    """Raises Infeasible where the target cannot run the layer."""
    weights = layer.weights
    left = weights.pattern in WHOLE
    content = weights.sha256 + (weights.values_sha256 if target.reads_values else "")
    key = [*target.statistics_key, geometry_of(target)]
    if left and target.reads_values:  # it has none, and needs none
        statistics = Statistics({})
    else:
        statistics = store.get(
            content,
            key,
            lambda: arrays_of(target, target.gather(weights.mask(), weights.values)),
            keep=target.source_sha256 is not None,
        )
    work = Work(
        layer.out_features,
        layer.in_features,
        weights.nnz,
        conditions.tokens,
        weights.weight_bits,
        weights.group_size,
        conditions.activation_density if target.skips_zero_inputs else 1.0,
        left,
        layer.use.distinct if conditions.halo_reuse else 1.0,
    )
    outcome = outcome_of(target, work, statistics)
    return dense_outcome(outcome, weights.pattern) if left else outcome


def dense_outcome(outcome: Outcome, pattern: str) -> Outcome:
    """Of a layer without zeros: it runs as a dense one does, so that a whole model's figures count it as it is."""
    how = {DENSE: "left dense, ", SMALLER: "dense, smaller, "}.get(pattern, "")
    dense = replace(outcome.dense, mapping=f"{how}{outcome.dense.mapping}".rstrip(", "))
    return replace(outcome, sparse=dense)


def layer_row(
    target: Accelerator, header: BundleHeader, layer: Linear, conditions: Conditions, store: Gathered
) -> dict[str, Any]:
    load = conditions.routing.load(header, layer, conditions.tokens)
    facts = {
        **linear_facts(header, layer),
        **load_facts(load),
        "target": target.name,
        "settings": f"{target.settings} {conditions.settings(header)}".strip(),
        "level": target.level,
        "source": "simulated",
        "tokens": conditions.tokens,
        "activation_density": conditions.activation_density,
        "clock_mhz": target.spec.clock.mhz,
        "spec_sha256": target.sha256,
    }
    try:
        outcome = expected(load, lambda tokens: evaluate(target, layer, replace(conditions, tokens=tokens), store))
    except Infeasible as error:
        return {**facts, "feasible": False, "reason": str(error)}
    most = max(each.cycles for each in (outcome.sparse, outcome.unpruned) if each)
    if most >= MOST_CYCLES:
        raise UserError(
            f"{target.name} takes {most:.3g} cycles, and there is room for {MOST_CYCLES:.0e}; give fewer tokens, or "
            f"look at clock.mhz and dram.*"
        )
    return {
        **facts,
        **_figures(target, outcome),
        **_energies(target, outcome),
        "mapping": layer.use.words(outcome.sparse.mapping, conditions.halo_reuse),
        "feasible": True,
        "reason": outcome.no_baseline,
    }


def _figures(target: Accelerator, outcome: Outcome) -> dict[str, Any]:
    """The columns that hold cycles, bytes and what follows from them."""
    sparse, published = outcome.sparse, outcome.published_dense_cycles
    return {
        "weight_bits": outcome.weight_bits,
        "cycles": sparse.cycles,
        "compute_cycles": sparse.compute_cycles,
        "ideal_cycles": sparse.ideal_cycles,
        "imbalance_cycles": sparse.imbalance_cycles,
        "stall_cycles": sparse.stall_cycles,
        "buffer_stall_cycles": sparse.buffer_cycles,
        "transfer_cycles": sparse.transfer_cycles,
        **sparse.extra,
        "published_dense_cycles": published,
        "published_speedup": _ratio(published, sparse.cycles),
        "weight_bytes": sparse.weight_bytes,
        "metadata_bytes": sparse.metadata_bytes,
        "scale_bytes": sparse.scale_bytes,
        "activation_bytes": sparse.activation_bytes,
        "output_bytes": sparse.output_bytes,
        "utilisation": _ratio(sparse.ideal_cycles, sparse.cycles),
        "bound": sparse.bound,
        "mapping": sparse.mapping,
        "latency_us": sparse.cycles / target.spec.clock.mhz,
        **_against_dense(target, sparse, outcome.unpruned),
    }


def _against_dense(target: Accelerator, sparse: LayerCycles, dense: LayerCycles | None) -> dict[str, Any]:
    """Nothing where there is no baseline."""
    if dense is None:
        return {}
    return {
        "dense_cycles": dense.cycles,
        "dense_compute_cycles": dense.compute_cycles,
        "speedup": _ratio(dense.cycles, sparse.cycles),
        "compute_speedup": _ratio(dense.compute_cycles, sparse.compute_cycles),
        "dense_bytes": dense.total_bytes,
        "dense_latency_us": dense.cycles / target.spec.clock.mhz,
    }


def _energies(target: Accelerator, outcome: Outcome) -> dict[str, Any]:
    """Energy, energy-delay product and area; nothing where the level counts no actions."""
    spec = target.spec
    if not isinstance(spec, Machine) or outcome.sparse.actions is None:
        return {}
    width = outcome.weight_bits or spec.number.weight_bits
    area = area_mm2(spec.energy, spec.macs, spec.bits(spec.number.weight_bits), spec.buffers.capacities)
    energy = energy_of(spec, outcome.sparse, width)
    return {
        "energy_pj": energy.total_pj,
        "mac_pj": energy.mac_pj,
        "idle_pj": energy.idle_pj,
        "register_pj": energy.register_pj,
        "buffer_pj": energy.buffer_pj,
        "dram_pj": energy.dram_pj,
        "edp_pj_us": energy.total_pj * outcome.sparse.cycles / spec.clock.mhz,
        "area_mm2": area.total_mm2,
        **_dense_energies(spec, energy, outcome.unpruned, width),
    }


def _dense_energies(spec: Machine, energy: Energy, dense: LayerCycles | None, width: int) -> dict[str, Any]:
    if dense is None or dense.actions is None:
        return {}
    of_dense = energy_of(spec, dense, width)
    dense_pj = of_dense.total_pj
    return {
        "dense_energy_pj": dense_pj,
        **{f"dense_{name}": value for name, value in vars(of_dense).items()},
        "energy_ratio": _ratio(dense_pj, energy.total_pj),
        "dense_edp_pj_us": dense_pj * dense.cycles / spec.clock.mhz,
    }


def energy_of(spec: Machine, layer: LayerCycles, weight_bits: int) -> Energy:
    assert layer.actions is not None
    return layer_energy(spec.energy_spec, layer.actions, spec.bits(weight_bits), spec.buffers.bank_bytes)


def _ratio(over: float | None, under: float) -> float | None:
    """None where there is nothing to divide by: a layer with no kept weight takes no cycles."""
    return over / under if over is not None and under else None
