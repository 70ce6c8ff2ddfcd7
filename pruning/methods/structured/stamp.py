"""STAMP-like structured pruning, experimental (methods 16; after Song, Yoon, Yang, Hwang, "Rapid Structural Pruning of
Neural Networks with Set-based Task-Adaptive Meta-Pruning", 2020): a small network says from what a *set* of sequences
does to kv groups and FFN neurons, or channels of other networks, which of them stay for that set. The paper's is of
image classifiers; everything about language models here is ours.

A task is a random half of the calibration sequences, or `set_size` of them; half of those describe it (the generator's
inputs), the others judge: mean KL(dense || masked) of the next token's distribution (of other networks the distance of
outputs, pruning/structured/masked_network.py) + 0.001 KL(Bernoulli(pi) || Bernoulli(keep)). `steps` tasks, `batch`
judging sequences each, AdamW with `lr`; masks are hard-concrete gates, the budget of each kind of unit is met by moving
all its logits alike. Then `adapt` steps on the whole set move one number a group. The most probable units stay. At
first the generator gives Wanda-sp's standardised scores; where Wanda-sp's own choice has the lower loss on the
calibration set, it stays, and a warning says so.

Only one text calibrates a run, so tasks are subsets of one domain and the generator is no more than a learned metric of
it: nothing is carried over to other tasks, models or weights, which is what the paper is about. Weights stay.
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
from pruning.recovery.state import adam_tensors, take_adam
from pruning.structured.choice import Scored, cheapest, kept_units, scored, split, uniform
from pruning.structured.evidence import BlockEvidence
from pruning.structured.generator import Features, Generator, bernoulli_kl, gates, within_budget
from pruning.structured.problem import Kept, UnitProblem, is_saved
from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup
from workloads.errors import UserError

Whole = Annotated[int, Ge(1)]
PRIOR = 1e-3
ADAPT_LR = 0.1


@dataclass
class State:
    """After `step` steps, the last with this loss. outer moves the generator on subsets, inner its betas on all."""

    generator: Generator
    outer: torch.optim.AdamW
    inner: torch.optim.AdamW
    draws: torch.Generator
    step: int = 0
    loss: float = float("nan")

    def write(self, path: Path) -> None:
        tensors = {"draws": self.draws.get_state(), "step": torch.tensor([self.step])}
        tensors["loss"] = torch.tensor([self.loss], dtype=torch.float64)
        for name, optimizer in (("outer", self.outer), ("inner", self.inner)):
            own = adam_tensors(optimizer.param_groups[0]["params"], optimizer)
            tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}
        write_tensors(path, tensors)

    def read(self, path: Path, outer_steps: int) -> None:
        """Raises UserError for a damaged file."""
        found = read_tensors(path)
        self.step, self.loss = int(found["step"]), float(found["loss"])
        self.draws.set_state(found["draws"])
        done = min(self.step, outer_steps)
        for name, optimizer, steps in (("outer.", self.outer, done), ("inner.", self.inner, self.step - done)):
            own = {key.removeprefix(name): tensor for key, tensor in found.items() if key.startswith(name)}
            take_adam(own, optimizer.param_groups[0]["params"], optimizer, steps)


@dataclass(frozen=True)
class Stamp(StructuredMethod):
    name = "stamp"
    needs = frozenset({Need.ENERGY})
    trial_settings: ClassVar[Mapping[str, Any]] = {"steps": 3, "adapt": 1, "hidden": 8}

    steps: Whole = 200
    batch: Whole = 1
    set_size: Annotated[int, Ge(0)] = 0
    hidden: Whole = 64
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    adapt: Annotated[int, Ge(0)] = 5
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

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        return WandaSp().scores(group, weights, evidence)

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        return uniform(scored(blocks), sparsity)

    def search(self, problem: UnitProblem) -> Kept:
        groups, ids = scored(problem.blocks), in_own_order(problem.ids)
        angular = {block.number: block.importance["angular"] / block.tokens for block in problem.blocks}
        features = Features(problem.model, groups, angular, ids)
        state = self.first(groups, problem.seed)
        if problem.state.exists():
            state.read(problem.state, self.steps)
        with torch.enable_grad():
            self.train(problem, groups, ids, features, state)
        with torch.no_grad():
            logits = state.generator(features.of(range(len(ids)))).double().numpy()
        found = most_probable(problem, groups, logits)
        return problem.unless_worse(found, self.name, self.steps)

    def first(self, groups: Scored, seed: int) -> State:
        draws = torch.Generator().manual_seed(seed)
        generator = Generator(groups, self.hidden, draws)
        outer = torch.optim.AdamW([p for name, p in generator.named_parameters() if name != "beta"], lr=self.lr)
        inner = torch.optim.AdamW([generator.beta], lr=ADAPT_LR, weight_decay=0.0)
        return State(generator, outer, inner, draws)

    def train(self, problem: UnitProblem, groups: Scored, ids: torch.Tensor, features: Features, state: State) -> None:
        """First the generator on subsets, then its betas on all."""
        kinds, steps = kinds_of(groups), self.steps + self.adapt
        size = min(self.set_size or max(2, len(ids) // 2), len(ids))
        while state.step < steps:
            told = f", loss {state.loss:.4f}" if state.step else ""
            problem.progress(f"learning masks{told}", state.step, steps)
            order = torch.randperm(len(ids), generator=state.draws).tolist()
            if state.step < self.steps:
                describe, judge, optimizer = order[: (size + 1) // 2], order[(size + 1) // 2 : size], state.outer
            else:
                describe, judge, optimizer = list(range(len(ids))), order, state.inner
            logits = within_budget(state.generator(features.of(describe)), kinds, 1 - problem.sparsity)
            own = by_group(groups, gates(logits, state.draws))
            found = problem.model.apart(ids[(judge or describe)[: self.batch]], own)
            total = found + PRIOR * bernoulli_kl(logits, 1 - problem.sparsity)
            if not bool(total.isfinite()):
                raise UserError(f"stamp: at step {state.step + 1} the loss is not finite; use `dtype=float32`")
            state.generator.zero_grad()
            total.backward()
            optimizer.step()
            state.loss = float(total.detach())
            state.step += 1
            if is_saved(state.step, steps):
                state.write(problem.state)


def by_group(groups: Scored, gate: torch.Tensor) -> dict[str, torch.Tensor]:
    """gate (units,)"""
    return dict(zip([group.key for group, _ in groups], gate.split([group.count for group, _ in groups]), strict=True))


def kinds_of(groups: Scored) -> torch.Tensor:
    """(units,) the number of each one's kind."""
    names = sorted({group.kind for group, _ in groups})
    return torch.repeat_interleave(
        torch.tensor([names.index(group.kind) for group, _ in groups]),
        torch.tensor([group.count for group, _ in groups]),
    )


def most_probable(problem: UnitProblem, groups: Scored, logits: np.ndarray) -> Kept:
    """(1 - sparsity) of the weights of each kind, the highest logits of the model."""
    ranked = [(group, torch.from_numpy(own)) for (group, _), own in zip(groups, split(groups, logits), strict=True)]
    wanted: dict[str, float] = {}
    for kind in sorted({group.kind for group, _ in groups}):
        wanted |= cheapest([pair for pair in ranked if pair[0].kind == kind], problem.sparsity)
    return kept_units(ranked, wanted, problem.multiple_of)
