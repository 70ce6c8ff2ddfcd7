"""Published energies and areas of parts, each with its source. Curves are keyed by width in bits or capacity in bytes.

The sources disagree: an 8-bit integer multiply-accumulate is 0.23 pJ by Horowitz's figures and 0.561 pJ in
Sparseloop's, a 32-bit multiplier 3.1 pJ there and 8.6 to 12.7 pJ in Aladdin's tables. Arithmetic here follows
Horowitz; where it is wrong, absolute energies are wrong by that factor, and ratios between designs usually by less.
"""

from dataclasses import dataclass

HOROWITZ = "Horowitz, Computing's energy problem, ISSCC 2014 (0.9 V)"
DALLY = "Dally, tutorial at NIPS 2015: synthesis for a 45 nm library"
ALADDIN = "Aladdin (Shao et al., ISCA 2014), 40 nm, as Accelergy's library lists it for 45 nm"
SPARSELOOP = "Sparseloop (Wu et al., MICRO 2022), artifact, energy table of the sparse tensor core"
CACTI_HBM = "hwcomponents-cacti (Accelergy project), table of DRAM devices"
NO_SOURCE = "assumption"  # begins the source of every value that no publication states


@dataclass(frozen=True)
class Constant:
    """`node_nm` is None where the value has no node: DRAM devices, shares."""

    name: str
    value: float
    unit: str
    node_nm: int | None
    source: str


Curve = dict[int, Constant]

MULTIPLIER_PJ: dict[str, Curve] = {
    "int": {
        8: Constant("int8 multiplier energy", 0.2, "pJ", 45, HOROWITZ),
        32: Constant("int32 multiplier energy", 3.1, "pJ", 45, HOROWITZ),
    },
    "float": {
        16: Constant("fp16 multiplier energy", 1.1, "pJ", 45, HOROWITZ),
        32: Constant("fp32 multiplier energy", 3.7, "pJ", 45, HOROWITZ),
    },
}
ADDER_PJ: dict[str, Curve] = {
    "int": {
        8: Constant("int8 adder energy", 0.03, "pJ", 45, HOROWITZ),
        16: Constant("int16 adder energy", 0.05, "pJ", 45, HOROWITZ),
        32: Constant("int32 adder energy", 0.1, "pJ", 45, HOROWITZ),
    },
    "float": {
        16: Constant("fp16 adder energy", 0.4, "pJ", 45, HOROWITZ),
        32: Constant("fp32 adder energy", 0.9, "pJ", 45, HOROWITZ),
    },
}
MULTIPLIER_UM2: dict[str, Curve] = {
    "int": {
        8: Constant("int8 multiplier area", 282, "um2", 45, DALLY),
        32: Constant("int32 multiplier area", 3495, "um2", 45, DALLY),
    },
    "float": {
        16: Constant("fp16 multiplier area", 1640, "um2", 45, DALLY),
        32: Constant("fp32 multiplier area", 7700, "um2", 45, DALLY),
    },
}
ADDER_UM2: dict[str, Curve] = {
    "int": {
        8: Constant("int8 adder area", 36, "um2", 45, DALLY),
        16: Constant("int16 adder area", 67, "um2", 45, DALLY),
        32: Constant("int32 adder area", 137, "um2", 45, DALLY),
    },
    "float": {
        16: Constant("fp16 adder area", 1360, "um2", 45, DALLY),
        32: Constant("fp32 adder area", 4184, "um2", 45, DALLY),
    },
}

REGISTER_PJ = Constant("register bit, one write or one read", 0.009, "pJ", 45, ALADDIN)
REGISTER_UM2 = Constant("register bit area", 5.98, "um2", 45, ALADDIN)

MAC_PJ = Constant("int8 MAC (only the denominator of the gated share)", 0.561, "pJ", 45, SPARSELOOP)
GATED_MAC_PJ = Constant("gated int8 MAC", 0.018, "pJ", 45, SPARSELOOP)
LATCH_PJ = Constant("8-bit latch access (only the denominator of the gated share)", 0.072, "pJ", 45, SPARSELOOP)
GATED_LATCH_PJ = Constant("gated 8-bit latch access", 0.003, "pJ", 45, SPARSELOOP)

SRAM_READ_PJ_PER_BIT: Curve = {
    8 * 1024: Constant("SRAM read, 8 KB", 10 / 64, "pJ/bit", 45, f"{HOROWITZ}: 10 pJ for 64 bits"),
    32 * 1024: Constant("SRAM read, 32 KB", 20 / 64, "pJ/bit", 45, f"{HOROWITZ}: 20 pJ for 64 bits"),
    256 * 1024: Constant("SRAM read, 256 KB", 285.7 / 512, "pJ/bit", 45, f"{SPARSELOOP}: 285.7 pJ for 512 bits"),
    1024 * 1024: Constant("SRAM read, 1 MB", 100 / 64, "pJ/bit", 45, f"{HOROWITZ}: 100 pJ for 64 bits"),
}
SRAM_WRITE_RATIO = Constant(
    "SRAM write / read", 317.0 / 285.7, "ratio", None, f"{SPARSELOOP}: 317.0 and 285.7 pJ at 256 KB"
)
SRAM_SLOPE = Constant(
    "SRAM energy beyond 1 MB, power of the capacity",
    0.5,
    "exponent",
    None,
    f"{NO_SOURCE}: wires as long as the side of the array (between 8 and 32 KB Horowitz's figures give the same 0.5)",
)
SRAM_CELL_UM2 = Constant("SRAM cell area, 6T", 0.346, "um2", 45, "Mistry et al., IEDM 2007: Intel's 45 nm process")
SRAM_ARRAY_SHARE = Constant(
    "SRAM cells / area of the SRAM",
    0.7,
    "share",
    None,
    f"{NO_SOURCE}; Karl et al., ISSCC 2015 have 14.5 Mb/mm2 of 0.050 um2 cells, 0.73; small buffers have less",
)

DRAM_PJ_PER_BIT: dict[str, Constant] = {
    "DDR4-3200": Constant("DDR4-3200", 15, "pJ/bit", None, f"{NO_SOURCE}: 15 to 20 is the range usually given"),
    "LPDDR5-6400": Constant("LPDDR5-6400", 5, "pJ/bit", None, f"{NO_SOURCE}: 4 to 6 is the range usually given"),
    "GDDR6": Constant("GDDR6", 7, "pJ/bit", None, f"{NO_SOURCE}: about 7 is usually given"),
    "HBM2": Constant("HBM2", 6.25, "pJ/bit", None, f"{CACTI_HBM}; O'Connor et al., MICRO 2017 have 3.9"),
    "HBM3": Constant("HBM3", 4.05, "pJ/bit", None, CACTI_HBM),
    "generic": Constant("generic DRAM", 1300 / 64, "pJ/bit", None, f"{HOROWITZ}: 1.3 to 2.6 nJ for 64 bits, lower end"),
}


def all_constants() -> list[Constant]:
    curves = [curve for table in (MULTIPLIER_PJ, ADDER_PJ, MULTIPLIER_UM2, ADDER_UM2) for curve in table.values()]
    return [
        *(constant for curve in curves for constant in curve.values()),
        *(REGISTER_PJ, REGISTER_UM2, MAC_PJ, GATED_MAC_PJ, LATCH_PJ, GATED_LATCH_PJ),
        *SRAM_READ_PJ_PER_BIT.values(),
        *(SRAM_WRITE_RATIO, SRAM_SLOPE, SRAM_CELL_UM2, SRAM_ARRAY_SHARE),
        *DRAM_PJ_PER_BIT.values(),
    ]
