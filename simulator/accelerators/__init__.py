"""The table of accelerators: the class of every name; some names are presets of one class."""

from simulator.accelerators.accelerator import Accelerator
from simulator.accelerators.bitserial.bitwave import BitWave
from simulator.accelerators.bitserial.stripes import Stripes
from simulator.accelerators.dstc.cycle import Dstc
from simulator.accelerators.eie import Eie
from simulator.accelerators.nm.highlight import Highlight
from simulator.accelerators.nm.stc import Stc
from simulator.accelerators.nm.vegeta import Vegeta
from simulator.accelerators.sigma.cycle import Sigma
from simulator.accelerators.sparten.cycle import Sparten
from simulator.accelerators.systolic.cycle import Systolic
from simulator.accelerators.vitcod.cycle import Vitcod
from simulator.accelerators.vitcod.paper import VitcodPaper

__all__ = ["ACCELERATORS", "Accelerator"]

ACCELERATORS: dict[str, type[Accelerator]] = {
    "vitcod-paper": VitcodPaper,
    "vitcod": Vitcod,
    "systolic": Systolic,
    "tpu-v4": Systolic,
    "tpu-v5e": Systolic,
    "stc": Stc,
    "sparten": Sparten,
    "eie": Eie,
    "sigma": Sigma,
    "dstc": Dstc,
    "highlight": Highlight,
    "vegeta": Vegeta,
    "bitwave": BitWave,
    "stripes": Stripes,
}
