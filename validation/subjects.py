"""What there is a page of: every model, and what is known to be wrong with it."""

from dataclasses import dataclass

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
from simulator.gpu.layers import NOTES as GPU_NOTES

OPERATOR_NOTES = (
    "One kernel at a time, back to back, as it was measured: no gaps between kernels, no host, nothing that overlaps.",
    "Kernels of other libraries and versions differ by 10 to 50 %, which no error here covers: name the one meant.",
    "softmax, layernorm and gelu were timed by the clock of the host, 45 us of launching inside for the last two; "
    "Vidur's times are rounded to 1 us.",
    "fp8 keys and values halve the bytes and nothing else; 4-bit and 8-bit weights rest on six decode rates of "
    "whole models.",
    "spmv is the RTX 4090's alone, as its loop measured it: the L2 full of other writes before each call, which is not "
    "so in a model.",
    "Cards without data of an operator take over another card's kernel with twice its error, the RTX 4090 the A100's "
    "norms and activations and the RTX PRO 6000's experts.",
)
DRAM_NOTES = (
    "Forwarding of written data, ranks, power-down, per-bank and postponed refresh are left out.",
    "Layers move their bytes at the efficiency of long streams: tiles that begin in the middle of a row and several "
    "streams at a time are not told apart.",
)
ENERGY_NOTES = (
    "Leakage, clock tree, interconnect, control, decoders and sorters of sparse formats and DRAM's background energy "
    "are left out, so absolute values are mostly below a chip's and sparse designs are flattered by what their control "
    "costs.",
    "Constants are from several sources at 45 nm, scaled to other nodes; below 8 (int) and 16 bits (float) they are "
    "extrapolated.",
)
PRUNING_NOTES = (
    "Perplexities of pruned models are held against no publication here: calibration data, sequence lengths and model "
    "versions of papers differ; what they are on small models is in quality.md.",
)


@dataclass(frozen=True)
class Subject:
    """`about` is one paragraph; `deviations` are sentences."""

    name: str
    about: str
    deviations: tuple[str, ...]

    @property
    def file(self) -> str:
        return f"{self.name.lower().replace(' ', '-')}.md"


def subjects() -> list[Subject]:
    """In the order of the index."""
    found = []
    for name, model in ACCELERATORS.items():
        found.append(of_model(name, model.level, model().documentation, model.notes))
        if name == "vitcod":
            found += [of_model(n, m.level, m.documentation, m.notes) for n, m in ATTENTION_MODELS.items()]
    return [*found, *OTHERS]


def of_model(name: str, level: str, documentation: str, notes: tuple[str, ...]) -> Subject:
    first = documentation.strip().splitlines()[0]
    return Subject(name, f'Level "{level}". {first} (`prunesim show {name}`)', notes)


OTHERS = (
    Subject(
        "GPUs",
        "Predicted times of dense and 2:4 GEMMs, fitted to measurements of four cards (`prunesim show h100-pcie`); how "
        "they were fitted and left out is in [gpu.md](../gpu.md).",
        GPU_NOTES,
    ),
    Subject(
        "GPU operators",
        "Predicted times of attention, norms, activations, linears, experts and all-reduce, one kernel at a time; what "
        "a file of them looks like is in [gpu.md](../gpu.md).",
        OPERATOR_NOTES,
    ),
    Subject(
        "DRAM",
        "The channel model behind dram.device = DDR4-3200, LPDDR5-6400, GDDR6, HBM2, HBM3; with dram.device = generic, "
        "the default, bandwidth x efficiency stands for it.",
        DRAM_NOTES,
    ),
    Subject(
        "energy",
        "Energy from counts of actions, area from parts; constants and their sources: `prunesim show energy`.",
        ENERGY_NOTES,
    ),
    Subject(
        "pruning methods",
        "Masks and weights of every pruning method, and of quantization after them or within; "
        "units and blocks that structured methods take out; factors (`prunesim show wanda`).",
        PRUNING_NOTES,
    ),
)
