"""The table of accelerators: one line each."""

from types import ModuleType

from simulator.accelerators import eie
from simulator.accelerators.bitserial import bitwave, stripes
from simulator.accelerators.dstc import cycle as dstc
from simulator.accelerators.model import Model
from simulator.accelerators.nm import highlight, stc, vegeta
from simulator.accelerators.sigma import cycle as sigma
from simulator.accelerators.sparten import cycle as sparten
from simulator.accelerators.systolic import cycle as systolic
from simulator.accelerators.vitcod import cycle as vitcod
from simulator.accelerators.vitcod import paper as vitcod_paper

__all__ = ["ACCELERATORS", "Model"]


def _cycle(
    module: ModuleType,
    spec_type: type,
    reads_values: bool = False,
    skips_zero_inputs: bool = False,
    statistics_name: str = "",
    statistics_version: int = 1,
) -> Model:
    """A cycle model by the names its file has."""
    return Model(
        "cycle",
        spec_type,
        module.geometry,
        module.gather,
        module.evaluate,
        module.__doc__ or "",
        module.NOTES,
        reads_values,
        skips_zero_inputs,
        statistics_name=statistics_name,
        statistics_version=statistics_version,
    )


ACCELERATORS = {
    "vitcod-paper": Model("paper", vitcod_paper.VitcodPaperSpec, vitcod_paper.geometry, vitcod_paper.gather, vitcod_paper.evaluate,
                          vitcod_paper.__doc__ or "", vitcod_paper.NOTES, tokens=vitcod_paper.TOKENS),
    "vitcod": _cycle(vitcod, vitcod.VitcodSpec),
    "systolic": _cycle(systolic, systolic.SystolicSpec),
    "tpu-v4": _cycle(systolic, systolic.SystolicSpec, statistics_name="systolic"),
    "tpu-v5e": _cycle(systolic, systolic.SystolicSpec, statistics_name="systolic"),
    "stc": _cycle(stc, stc.StcSpec),
    "sparten": _cycle(sparten, sparten.SpartenSpec, skips_zero_inputs=True),
    "eie": _cycle(eie, eie.EieSpec, skips_zero_inputs=True),
    "sigma": _cycle(sigma, sigma.SigmaSpec),
    "dstc": _cycle(dstc, dstc.DstcSpec, skips_zero_inputs=True),
    "highlight": _cycle(highlight, highlight.HighlightSpec),
    "vegeta": _cycle(vegeta, vegeta.VegetaSpec),
    "bitwave": _cycle(bitwave, bitwave.BitWaveSpec, reads_values=True),
    "stripes": _cycle(stripes, stripes.StripesSpec),
}  # fmt: skip
