"""Energies and areas of `simulator.energy` beside published machines and beside tables it does not use.

    python -m validation.sources.energy_tables

Nothing is fitted: a ratio (modelled / published) far from 1 is the model's error, or what it leaves out, or two sources
that disagree; the note says which. Machines are taken at full load, every MAC unit busy every cycle, which their
average power is not.
"""

from typing import Any

from simulator.actions import Actions
from simulator.energy import EnergySpec, area_mm2, layer_energy
from simulator.energy.components import mac_energy_pj, sram_mm2, sram_read_pj

KIB = 1024.0
Row = dict[str, Any]


def published_comparison() -> list[Row]:
    """Rows of machine, quantity, unit, published, modelled, ratio (modelled / published), note."""
    return [*eie(), *cambricon_s(), *bitwave(), *part_energies()]


def row(machine: str, quantity: str, unit: str, published: float, modelled: float, note: str) -> Row:
    return {
        "machine": machine,
        "quantity": quantity,
        "unit": unit,
        "published": published,
        "modelled": modelled,
        "ratio": modelled / published,
        "note": note,
    }


def eie() -> list[Row]:
    """Han et al., ISCA 2016: 45 nm, 64 PEs at 800 MHz, each 128 KB of weights, 32 KB of pointers, 2 KB of activations.

    Power: a PE's MAC takes 8 bits of weight SRAM (4-bit value, 4-bit run) and, at 4096 outputs and 10 % density,
    1/6.4 of a column's two 16-bit pointers and one 16-bit activation.
    """
    spec, bits, entries = EnergySpec(45, "int", "idle", "generic"), (16, 16, 16), 4096 * 0.1 / 64
    pe_bytes = (128 * KIB, 32 * KIB, 2 * KIB, 0.0)
    area = area_mm2(spec, 64, bits, (64 * pe_bytes[0], 64 * pe_bytes[1], 64 * pe_bytes[2], 0.0))
    a_mac = Actions(1, 0, (8, 32 / entries, 16 / entries, 0), (0, 0, 0, 0), 0)
    watts = 64 * 800e6 * layer_energy(spec, a_mac, bits, pe_bytes).total_pj * 1e-12
    array = 64 * 800e6 * layer_energy(spec, Actions(1, 0, (0,) * 4, (0,) * 4, 0), bits, pe_bytes).total_pj * 1e-12
    return [
        row(
            "EIE", "area", "mm2", 40.8, area.total_mm2, "luck: SRAM is overstated, queues, decoder, network are missing"
        ),
        row("EIE", "area from SRAM alone", "mm2", 0.9322 * 40.8, area.buffer_mm2, "the paper gives memory 93.22 %"),
        row("EIE", "power", "W", 0.59, watts, "no clock, control, leakage"),
        row("EIE", "power without memory", "W", 0.4085 * 0.59, array, "the paper gives memory 59.15 %"),
    ]


def cambricon_s() -> list[Row]:
    """Zhou et al., MICRO 2018: 65 nm, 16 PEs of 16 16-bit multipliers at 1 GHz, 8 + 8 + 32 KB."""
    spec, bits, no_traffic = EnergySpec(65, "int", "idle", "generic"), (16, 16, 32), (0.0,) * 4
    buffers = (32 * KIB, 0.0, 8 * KIB, 8 * KIB)
    area = area_mm2(spec, 256, bits, buffers)
    watts = 1e9 * layer_energy(spec, Actions(256, 0, no_traffic, no_traffic, 0), bits, buffers).total_pj * 1e-12
    return [
        row("Cambricon-S", "area", "mm2", 6.73, area.total_mm2, "no selectors, decoders, control, wide ports"),
        row("Cambricon-S", "power", "W", 0.798, watts, "MACs and registers alone; buffer traffic is not published"),
    ]


def bitwave() -> list[Row]:
    """Shi et al., HPCA 2024: 16 nm, 512 multipliers of one weight bit by 8 activation bits at 250 MHz, 512 KB."""
    spec, bits, no_traffic = EnergySpec(16, "int", "idle", "generic"), (1, 8, 24), (0.0,) * 4
    buffers = (256 * KIB, 0.0, 256 * KIB, 0.0)
    area = area_mm2(spec, 512, bits, buffers)
    watts = 250e6 * layer_energy(spec, Actions(512, 0, no_traffic, no_traffic, 0), bits, buffers).total_pj * 1e-12
    note = "1 x 8 bits is far below the published widths; accumulator of 24 bits assumed"
    return [
        row("BitWave", "area", "mm2", 1.14, area.total_mm2, f"{note}; no control, shifters"),
        row("BitWave", "power", "W", 17.6e-3, watts, f"{note}; array alone, at 0.8 V, buffer traffic is not published"),
    ]


def part_energies() -> list[Row]:
    """Parts of other energy tables, none of them used by the model."""
    int8, int32 = mac_energy_pj("int", 8, 8, 8), mac_energy_pj("int", 32, 32, 32)
    return [
        row(
            "Sparseloop's tensor core", "int8 MAC", "pJ", 0.561, int8, "from Aladdin's tables; the model is Horowitz's"
        ),
        row("Aladdin", "32-bit multiplier + adder, 1 ns", "pJ", 12.68 + 0.21, int32, "40 nm, relaxed clocks cost less"),
        row("Aladdin", "32-bit multiplier + adder, 5 ns", "pJ", 8.63 + 0.0857, int32, "40 nm"),
        row("Sparseloop's tensor core", "2 KB register file, a bit", "pJ", 1.66 / 8, sram_read_pj(2048), "8-bit words"),
        row("CACTI by Bit Fusion", "512 B SRAM, a bit read", "pJ", 0.0332, sram_read_pj(512), "32-bit words, 45 nm"),
        row(
            "CACTI by Bit Fusion", "8 KB SRAM, a bit read", "pJ", 0.0347, sram_read_pj(8192, 28), "512-bit words, 28 nm"
        ),
        row("CACTI by Bit Fusion", "8 KB SRAM", "mm2", 0.0556, sram_mm2(8192, 28), "512-bit words, 28 nm"),
    ]


def main() -> None:
    print("| machine | quantity | unit | published | modelled | modelled / published | note |")
    print("|---|---|---|---|---|---|---|")
    for r in published_comparison():
        values = f"{r['published']:.3g} | {r['modelled']:.3g} | {r['ratio']:.2f}"
        print(f"| {r['machine']} | {r['quantity']} | {r['unit']} | {values} | {r['note']} |")


if __name__ == "__main__":
    main()
