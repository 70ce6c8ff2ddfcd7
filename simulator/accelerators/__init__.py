"""The table of accelerators: where the class of every name is, which is imported when it is asked for; some names are
presets of one class."""

from simulator.accelerators.accelerator import Accelerator
from workloads.lazily import Lazily

__all__ = ["ACCELERATORS", "Accelerator"]

ACCELERATORS: Lazily[type[Accelerator]] = Lazily(
    {
        "vitcod-paper": "simulator.accelerators.vitcod.paper:VitcodPaper",
        "vitcod": "simulator.accelerators.vitcod.cycle:Vitcod",
        "systolic": "simulator.accelerators.systolic.cycle:Systolic",
        "tpu-v4": "simulator.accelerators.systolic.cycle:Systolic",
        "tpu-v5e": "simulator.accelerators.systolic.cycle:Systolic",
        "stc": "simulator.accelerators.nm.stc:Stc",
        "sparten": "simulator.accelerators.sparten.cycle:Sparten",
        "eie": "simulator.accelerators.eie:Eie",
        "sigma": "simulator.accelerators.sigma.cycle:Sigma",
        "dstc": "simulator.accelerators.dstc.cycle:Dstc",
        "highlight": "simulator.accelerators.nm.highlight:Highlight",
        "vegeta": "simulator.accelerators.nm.vegeta:Vegeta",
        "bitwave": "simulator.accelerators.bitserial.bitwave:BitWave",
        "stripes": "simulator.accelerators.bitserial.stripes:Stripes",
    }
)
