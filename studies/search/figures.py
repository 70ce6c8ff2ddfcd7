"""What designs have that can be minimised or bounded, and what must be there for it."""

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulator.machine.parts import Machine
from simulator.simulate import AcceleratorTarget
from workloads.columns.search import FIGURES
from workloads.errors import UserError, unknown
from workloads.targets import Target

NAMES = FIGURES
SUMMED = {  # of rows, over layers and passes -> the columns of rows that make it
    "latency_us": ("latency_us",),
    "cycles": ("cycles",),
    "energy_pj": ("energy_pj",),
    "dram_bytes": ("weight_bytes", "metadata_bytes", "scale_bytes", "activation_bytes", "output_bytes"),
}
OF_MACHINES = ("energy_pj", "edp_pj_us", "area_mm2", "macs", "buffer_kib")  # that count actions, MACs and buffers
OF_ACCELERATORS = ("cycles", "dram_bytes")
NOT_LESS = {"sparsity": "more of it is what is wanted, so it is for constraints"}
_CONSTRAINT = re.compile(r"\s*([a-z_0-9]+)\s*(<=|>=)\s*([-+]?[0-9.]+(?:e[-+]?\d+)?)\s*", re.IGNORECASE)
_HOLDS = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Constraint:
    figure: str
    sign: str
    bound: float

    @property
    def text(self) -> str:
        return f"{self.figure} {self.sign} {self.bound:g}"

    def holds(self, value: float) -> bool:
        return bool(_HOLDS[self.sign](value, self.bound))

    def excess(self, value: float) -> float:
        """By which share of the bound it is broken; 0 or less where it holds."""
        over = value - self.bound if self.sign == "<=" else self.bound - value
        return over / (abs(self.bound) or 1.0)


def parse_constraint(text: str) -> Constraint:
    """ "area_mm2 <= 1.5". Raises UserError."""
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        raise UserError(f"`constraints` {text!r}: expected FIGURE <= NUMBER or >=, such as area_mm2 <= 2.5")
    if match[1] not in NAMES:
        raise UserError(f"`constraints` {text!r}: {unknown('figure', match[1], NAMES)}")
    try:
        return Constraint(match[1], match[2], float(match[3]))
    except ValueError:
        raise UserError(f"`constraints` {text!r}: {match[3]} is no number") from None


def check_constraints(constraints: Sequence[Constraint]) -> None:
    """Raises UserError for two that no number meets together."""
    for one in constraints:
        for other in constraints:
            if one.figure == other.figure and (one.sign, other.sign) == ("<=", ">=") and one.bound < other.bound:
                raise UserError(f"`constraints`: nothing is both {one.text} and {other.text}; move one of them")


def check_figures(
    objectives: Sequence[str], constraints: Sequence[Constraint], target: Target, evaluated: bool, model: str
) -> None:
    """Raises UserError for an objective that is no figure, or named twice, and for figures that the machine or the
    model has not."""
    for name in objectives:
        if name not in NAMES:
            raise UserError(f"`objectives`: {unknown('figure', name, NAMES)}")
        if name in NOT_LESS:
            raise UserError(f"`objectives`: {name} would be minimised, and {NOT_LESS[name]}")
    if twice := next((name for name in objectives if list(objectives).count(name) > 1), None):
        raise UserError(f"`objectives` names {twice} twice")
    had = figures_of(target, evaluated)
    for name in (*objectives, *(each.figure for each in constraints)):
        if name in had:
            continue
        if name == "perplexity":
            raise UserError(f"perplexity: model {model!r} needs `path` (weights) and `text` for it")
        raise UserError(
            f"{target.name} has no {name}; it has {', '.join(each for each in had if each != 'perplexity')}"
        )


def figures_of(target: Target, evaluated: bool) -> tuple[str, ...]:
    """Those that a design on this target has."""
    accelerator = isinstance(target, AcceleratorTarget)
    machine = accelerator and isinstance(target.accelerator.spec, Machine)  # type: ignore[attr-defined]
    lacks = (*(() if machine else OF_MACHINES), *(() if accelerator else OF_ACCELERATORS))
    return tuple(name for name in NAMES if name not in lacks and (evaluated or name != "perplexity"))


def of_machine(target: Target) -> dict[str, float]:
    """Figures that no layer decides."""
    spec = getattr(getattr(target, "accelerator", None), "spec", None)
    if not isinstance(spec, Machine):
        return {}
    return {"macs": float(spec.macs), "buffer_kib": sum(spec.buffers.capacities) / 1024}


def broken(constraints: Sequence[Constraint], figures: Mapping[str, float]) -> list[Constraint]:
    """The constraints that these figures do not meet; one without a figure is not met."""
    return [each for each in constraints if each.figure not in figures or not each.holds(figures[each.figure])]
