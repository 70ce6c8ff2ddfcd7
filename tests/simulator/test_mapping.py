"""One rule chooses among mappings: the search against brute force, every design's tables against its walks, laws."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.accelerators import Accelerator
from simulator.accelerators.named import open_accelerator
from simulator.accelerators.sigma import cycle as sigma
from simulator.accelerators.systolic import cycle as systolic
from simulator.accelerators.systolic import mapper as systolic_mapper
from simulator.accelerators.systolic.mapper import Found
from simulator.accelerators.systolic.stream import Gemm
from simulator.accelerators.vitcod import cycle as vitcod
from simulator.accelerators.vitcod.tiling import Schedule
from simulator.cycles import Infeasible, LayerCycles
from simulator.layer_rows import energy_of
from simulator.tiling import mapper
from simulator.tiling.search import NEAR, Choices, best
from simulator.work import Work
from validation.conformance.design import Layer, attempt, design_of

# not eie, where a layer runs whole
MAPPED = [
    "vitcod", "systolic", "stc", "sparten", "sigma", "dstc", "highlight", "vegeta", "bitwave", "stripes",
]  # fmt: skip


@dataclass(frozen=True)
class Walked:
    number: int
    cycles: int


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 3), st.sampled_from(["latency", "energy", "edp"]))
def test_the_search_is_brute_force(data, n_tables, objective):
    """Any bounds, costs and cycles, in any number of tables."""
    tables, everything = [], []
    for _ in range(n_tables):
        cells = data.draw(
            st.lists(st.tuples(st.integers(1000, 1060), st.integers(0, 30), st.integers(1, 9)), min_size=1)
        )
        start = len(everything)
        everything += [(bound + slack, float(cost)) for bound, slack, cost in cells]

        def walk(i: int, start: int = start) -> Walked:
            return Walked(start + i, everything[start + i][0])  # noqa: B023

        tables.append(Choices(np.array([c[0] for c in cells], float), np.array([c[2] for c in cells], float), walk))
    found = best(tables, objective)
    cycles, cost = everything[found.number]
    fewest = min(cycles for cycles, _ in everything)
    if objective == "latency":
        assert cycles <= fewest * (1 + NEAR)
        assert cost == min(cost for cycles, cost in everything if cycles <= fewest * (1 + NEAR))
    elif objective == "energy":
        assert (cost, cycles) == min((cost, cycles) for cycles, cost in everything)
    else:
        assert cycles * cost == min(cycles * cost for cycles, cost in everything)


def random_mask(seed: int, rows: int, cols: int, density: float) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, cols)) < density


@pytest.fixture
def spied(monkeypatch) -> list:
    """Every call of the search, with what it was given and what it gave back."""
    calls: list[tuple] = []

    def spying(tables, objective):
        calls.append((tables, objective, best(tables, objective)))
        return calls[-1][2]

    for module in (mapper, vitcod, systolic_mapper, sigma):
        monkeypatch.setattr(module, "best", spying)
    systolic.mapped.cache_clear()
    return calls


def layer_cycles(target: Accelerator, walked) -> LayerCycles:
    return walked.layer() if isinstance(walked, Schedule) else walked


@pytest.mark.parametrize("name", MAPPED)
@pytest.mark.parametrize("gbps", [0.4, 6.0])
@pytest.mark.parametrize("tokens", [1, 19])
def test_tables_bound_the_cycles_and_have_the_energy(name, gbps, tokens, spied):
    """Every mapping of every table, masked and dense: no walk takes fewer cycles than the bound, and energies are those
    of the walked layer (bytes of single tiles are whole there); what is chosen is what brute force chooses."""
    twin = design_of(name).twin
    for sets in twin.machines:
        target = open_accelerator(name, [*sets, f"dram.bandwidth_gbps={gbps}", "dram.device=generic"])
        kept = random_mask(3, 40, 200, 0.4)
        kept = twin.follows(kept) if twin.follows else kept
        spied.clear()
        try:
            attempt(target, Layer(*kept.shape, tokens), kept)
        except Infeasible:
            continue
        assert spied
        for tables, _, chosen in spied:
            check_tables(target, tables, chosen)


def check_tables(target: Accelerator, tables: list[Choices], chosen) -> None:
    cycles, costs, energies = [], [], []
    for table in tables:
        for i in range(len(table.cost)):
            walked = table.walk(i)
            assert walked.cycles >= table.bound_cycles[i] - 1e-6
            cycles.append(walked.cycles)
            costs.append(float(table.cost[i]))
            if not isinstance(walked, Found):  # what systolic takes it to be is tested below
                energies.append((layer_cycles(target, walked), costs[-1]))
    limit = min(cycles) * (1 + NEAR)
    found = costs[cycles.index(chosen.cycles)]
    assert chosen.cycles <= limit
    best_cost = min(cost for cost, taken in zip(costs, cycles, strict=True) if taken <= limit)
    assert any(taken == chosen.cycles and cost == best_cost for cost, taken in zip(costs, cycles, strict=True)), found
    width = target.spec.number.weight_bits
    for layer, cost in energies[:40]:
        bits = 8 if target.reads_values else width
        assert energy_of(target.spec, layer, bits).total_pj == pytest.approx(cost, rel=2e-3)


BANDWIDTHS_GBPS = (12.8, 51.2, 204.8, 1024.0, 4096.0)


@pytest.mark.parametrize("name", MAPPED)
@pytest.mark.parametrize("tokens", [1, 64, 512])
def test_more_bandwidth_costs_energy_only_where_it_saves_cycles(name, tokens):
    """Presets, sparse run and dense baseline: cycles never grow beyond the band; energy only where they fall by more
    than 1/64."""
    kept = random_mask(1, 256, 512, 0.5)
    seen: dict[str, list[tuple[int, float]]] = {"sparse": [], "dense": []}
    for gbps in BANDWIDTHS_GBPS:
        target = open_accelerator(name, [f"dram.bandwidth_gbps={gbps}"])
        found = attempt(target, Layer(*kept.shape, tokens), kept)
        for side, layer in (("sparse", found.sparse), ("dense", found.dense)):
            energy_pj = energy_of(target.spec, layer, found.weight_bits or 8).total_pj
            for cycles, before_pj in seen[side]:
                assert layer.cycles <= cycles * (1 + NEAR)
                assert energy_pj <= before_pj * (1 + 1e-3) or layer.cycles < cycles * (1 - NEAR)
            seen[side].append((layer.cycles, energy_pj))


@pytest.mark.parametrize("name", MAPPED)
def test_objectives_do_what_they_say(name):
    kept = random_mask(2, 96, 700, 0.5)
    found = {}
    for objective in ("latency", "energy", "edp"):
        target = open_accelerator(
            name, [f"mapping.objective={objective}", "dram.bandwidth_gbps=9", *design_of(name).machines[0]]
        )
        layer = attempt(target, Layer(*kept.shape, 40), kept).sparse
        found[objective] = layer.cycles, energy_of(target.spec, layer, 8).total_pj
    assert found["latency"][0] <= min(cycles for cycles, _ in found.values()) * (1 + NEAR)
    assert found["energy"][1] <= min(energy_pj for _, energy_pj in found.values()) * (1 + 1e-3)
    products = {objective: cycles * energy_pj for objective, (cycles, energy_pj) in found.items()}
    assert products["edp"] <= min(products.values()) * (1 + 1e-3)


def test_no_cheaper_tile_is_near():
    """A 16 x 16 ViTCoD array at 512 tokens: no token tile that a user may ask for instead takes within 1/64 of the
    cycles and less energy."""
    kept, base = random_mask(4, 688, 256, 0.5), ["array.width=16", "array.height=16", "dram.bandwidth_gbps=204.8"]

    def run(*extra: str) -> tuple[int, float]:
        target = open_accelerator("vitcod", [*base, *extra])
        layer = attempt(target, Layer(*kept.shape, 512), kept).sparse
        return layer.cycles, energy_of(target.spec, layer, 8).total_pj

    cycles, energy_pj = run()
    fewest = min(run(f"mapping.tile_tokens={1 << i}")[0] for i in range(9))
    for tile in (1 << i for i in range(9)):
        other_cycles, other_pj = run(f"mapping.tile_tokens={tile}")
        assert other_pj >= energy_pj * (1 - 1e-3) or other_cycles > min(fewest, cycles) * (1 + NEAR)


@pytest.mark.parametrize("sets", design_of("systolic").machines)
def test_plans_of_systolic_arrays_have_the_energy_of_a_full_mask(sets, spied):
    target = open_accelerator("systolic", [*sets, "dram.bandwidth_gbps=3", "array.nm=dense"])
    spec, kept = target.spec, np.ones((50, 130), dtype=bool)
    attempt(target, Layer(*kept.shape, 23), kept)
    (tables, _, _) = spied[0]
    work = Work(50, 130, kept.size, 23)
    gemm = Gemm(
        50, 130, 23, 1, 1, spec.number.weight_bits, 0, None, spec.number.activation_bits, spec.number.accumulator_bits
    )
    for i, cost in enumerate(tables[0].cost):
        layer = systolic.assembled(spec, work, gemm, tables[0].walk(i), "dense")
        assert energy_of(spec, layer, spec.number.weight_bits).total_pj == pytest.approx(cost, rel=2e-3)
