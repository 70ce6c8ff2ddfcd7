"""Policy-gradient structural pruning (methods 10): every kv group and neuron is kept with a probability of its own,
learned from the losses of the whole model under masks drawn from them. Forward passes alone; no weight changes.

A step draws `masks` masks, runs the same `batch` sequences under each, moves the probabilities by `lr` (which falls
to 0 along half a cosine) along the estimated gradient of the expected loss, and brings them back to the budget, that of
each kind of unit over the whole model (scope=global) or in every block (scope=block). After `steps` steps the most
probable units stay. init: the standardised scores of Wanda-sp, through the logistic function; `constant`, 0.9 for what
Wanda-sp would keep and 0.1 for the rest; `random`. baseline: leave-one-out, the mean loss of the step's other masks;
`moving`, an average over about `window` steps. precond: `sqrt` multiplies a unit's gradient with sqrt(theta (1 -
theta)), `none` leaves it.

Published: steps=15000 masks=2 batch=8 lr=0.002 baseline=moving window=5, on sequences of 128 tokens. Deviations:
probabilities stay within [0.01, 0.99], as one at 0 or 1 would never move again; the budget is met from below too; a
block keeps a kv group and a neuron; where Wanda-sp's own choice has the lower loss on the calibration set, it stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge
from pydantic import Field

from pruning.data.calibration import in_own_order
from pruning.evidence.needs import Need
from pruning.forward.hidden_states import read_tensors, write_tensors
from pruning.methods.structured.method import UNITS, StructuredMethod
from pruning.methods.structured.wanda_sp import WandaSp
from pruning.recovery.schedule import Schedule
from pruning.structured.choice import Scored, cheapest, kept_units, scored, split, standardized, uniform
from pruning.structured.evidence import BlockEvidence
from pruning.structured.policy import Precond, draw, gradient, moved, projected
from pruning.structured.problem import Kept, UnitProblem, is_saved
from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup
from workloads.errors import UserError

SURE = 0.9  # init=constant


@dataclass
class State:
    """After `step` steps: theta (units,) float64, the moving average of the losses, the step's mean loss."""

    theta: torch.Tensor
    draws: torch.Generator
    step: int = 0
    average: float = float("nan")
    loss: float = float("nan")

    def write(self, path: Path) -> None:
        losses = torch.tensor([self.average, self.loss], dtype=torch.float64)
        step = torch.tensor([self.step])
        write_tensors(path, {"theta": self.theta, "draws": self.draws.get_state(), "step": step, "losses": losses})

    def read(self, path: Path) -> None:
        """Raises UserError for a damaged file."""
        found = read_tensors(path)
        self.theta, self.step = found["theta"], int(found["step"])
        self.draws.set_state(found["draws"])
        self.average, self.loss = found["losses"].tolist()


@dataclass(frozen=True)
class PolicyGradient(StructuredMethod):
    name = "policy-gradient"
    needs = frozenset({Need.ENERGY})
    trial_settings: ClassVar[Mapping[str, Any]] = {"steps": 4, "masks": 2}

    steps: Annotated[int, Ge(1)] = 500
    masks: Annotated[int, Ge(1)] = 8
    batch: Annotated[int, Ge(1)] = 1
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    baseline: Literal["leave-one-out", "moving"] = "leave-one-out"
    window: Annotated[int, Ge(1)] = 5
    precond: Precond = "sqrt"
    init: Literal["wanda-sp", "constant", "random"] = "wanda-sp"
    scope: Literal["global", "block"] = "global"
    units: Literal["all", "ffn", "heads"] = "all"

    @property
    def kinds(self) -> frozenset[str]:
        return UNITS[self.units]

    @property
    def propagates(self) -> bool:
        return True

    @property
    def searches(self) -> bool:
        return True

    def check(self, sparsity: float) -> None:
        if self.baseline == "leave-one-out" and self.masks < 2:
            raise UserError(
                "policy-gradient: with `set` masks=1 a step has no other loss for baseline=leave-one-out; raise masks, "
                "or set baseline=moving"
            )

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        return WandaSp().scores(group, weights, evidence)

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        return uniform(scored(blocks), sparsity)

    def search(self, problem: UnitProblem) -> Kept:
        groups, ids = scored(problem.blocks), in_own_order(problem.ids)
        plan = Schedule(self.steps, self.lr, 0, self.batch, problem.seed)
        state = self.first(problem, groups)
        if problem.state.exists():
            state.read(problem.state)
        while state.step < self.steps:
            told = f", loss {state.loss:.4f}" if state.step else ""
            problem.progress(f"policy gradient{told}", state.step, self.steps)
            self.one_step(problem, groups, state, ids[plan.sequences_at(state.step, len(ids))], plan)
            if is_saved(state.step, self.steps):
                state.write(problem.state)
        found = self.most_probable(problem, groups, state.theta)
        return problem.unless_worse(found, self.name, self.steps)

    def first(self, problem: UnitProblem, groups: Scored) -> State:
        draws = torch.Generator().manual_seed(problem.seed)
        if self.init == "wanda-sp":
            theta = torch.sigmoid(ranking_scores(groups))
        elif self.init == "constant":
            stays = np.concatenate([problem.start[group.key] for group, _ in groups])
            theta = torch.from_numpy(np.where(stays, SURE, 1 - SURE))
        else:
            theta = torch.rand(sum(group.count for group, _ in groups), generator=draws, dtype=torch.float64)
        return State(self.within_budget(theta, groups, problem.sparsity), draws)

    def one_step(self, problem: UnitProblem, groups: Scored, state: State, batch: torch.Tensor, plan: Schedule) -> None:
        masks = draw(state.theta, self.masks, state.draws)
        sets = [by_group(groups, mask.numpy()) for mask in masks]
        losses = torch.tensor(problem.model.losses(sets, batch), dtype=torch.float64)
        finite = losses.isfinite()
        if not bool(finite.any()):
            raise UserError(f"policy-gradient: at step {state.step + 1} no loss is finite; use `dtype=float32`")
        losses, masks = losses[finite], masks[finite]
        state.loss = float(losses.mean())
        state.average = moved(state.average, state.loss, self.window)
        baseline = state.average if self.baseline == "moving" else None
        slope = gradient(losses, masks, state.theta, baseline, self.precond)
        theta = state.theta - plan.lr_at(state.step) * slope
        state.theta = self.within_budget(theta, groups, problem.sparsity)
        state.step += 1

    def within_budget(self, theta: torch.Tensor, groups: Scored, sparsity: float) -> torch.Tensor:
        names = [group.key if self.scope == "block" else group.kind for group, _ in groups]
        owner = np.repeat(names, [group.count for group, _ in groups])
        theta = theta.clone()
        for name in dict.fromkeys(names):
            own = torch.from_numpy(owner == name)
            theta[own] = projected(theta[own], 1 - sparsity)
        return theta

    def most_probable(self, problem: UnitProblem, groups: Scored, theta: torch.Tensor) -> Kept:
        """Of equally probable units those with the higher standardised score."""
        order = np.lexsort((ranking_scores(groups).numpy(), theta.numpy()))
        places = np.empty(len(order))
        places[order] = np.arange(len(order))
        ranked = [(group, torch.from_numpy(own)) for (group, _), own in zip(groups, split(groups, places), strict=True)]
        if self.scope == "block":
            wanted = uniform(ranked, problem.sparsity)
        else:
            kinds = [[pair for pair in ranked if pair[0].kind == kind] for kind in sorted({g.kind for g, _ in groups})]
            wanted = {key: count for own in kinds for key, count in cheapest(own, problem.sparsity).items()}
        return kept_units(ranked, wanted, problem.multiple_of)


def ranking_scores(groups: Scored) -> torch.Tensor:
    """(units,) standardised in their group."""
    return torch.cat([standardized(score) for _, score in groups])


def by_group(groups: Scored, mask: np.ndarray) -> Kept:
    return {group.key: own for (group, _), own in zip(groups, split(groups, mask), strict=True)}
