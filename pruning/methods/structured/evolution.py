"""Architecture search (methods 9; Shen et al., "Search for Efficient Large Language Models", NeurIPS 2024): how many kv
groups and neurons each block keeps is evolved, by the loss of the whole model.

A candidate is a number of units of every attention and FFN that together hold the share asked for; the units of a group
go in the order of their scores on the dense model: obs, the sweep of obs-sp; wifv, FLAP's fluctuations; wanda. Its
fitness is the loss on `held_out` of the calibration sequences, which score nothing: with the least-squares weights that
the dense model's inputs give (reformed), or with its own (inherited, as published). The uniform candidate and random
ones are the first generation; then the best `elites` are mutated and crossed, `generations` times `population`
candidates in all. Settings of the search: pruning/evolution/evolve.py. At the end o and down are reformed
(pruning/methods/structured/reformed.py).

Published for LLaMA-7B: generations 30, elites 300, population 500, mutations 350, crossovers 100, mutation_rate 0.2,
depth_rate 0.4, fitness on 5 windows of 2,048 tokens, ADMM.

Deviations: the program keeps a contiguous window of units, at a place that is evolved too, and takes any size within
5.0 to 5.5 B parameters; here units are ordered, and every candidate holds the share to half a neuron. Its FFN sizes are
multiples of 512 (`multiple_of`). Mutations draw within `mutation_spread` of the parent, not from one narrower range for
all. Its reformation keeps what the mask removes.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt

from pruning.evidence.needs import Need
from pruning.evolution.evolve import Breeder, Search, evolve
from pruning.evolution.sizes import Candidate, Space, genes_of, masks
from pruning.forward.hidden_states import read_tensors, write_tensors
from pruning.methods.structured.flap import Flap
from pruning.methods.structured.method import UNITS
from pruning.methods.structured.obs_sp import ObsSp
from pruning.methods.structured.reformed import Reformed
from pruning.methods.structured.wanda_sp import WandaSp
from pruning.second_order.groups import filling
from pruning.structured.choice import scored, uniform
from pruning.structured.evidence import BlockEvidence
from pruning.structured.problem import Kept, UnitProblem
from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup
from workloads.errors import UserError


@dataclass(frozen=True)
class Evolution(Search, Reformed):
    name = "evolution"
    trial_settings: ClassVar[Mapping[str, Any]] = {
        "generations": 1,
        "population": 6,
        "elites": 2,
        "mutations": 2,
        "crossovers": 2,
    }

    order: Literal["obs", "wifv", "wanda"] = "obs"
    units: Literal["all", "ffn", "heads"] = "all"
    fitness: Literal["reformed", "inherited"] = "reformed"
    held_out: Annotated[float, Gt(0), Lt(1)] = 0.25
    block: Annotated[int, Ge(1)] = 32

    @property
    def needs(self) -> Set[str]:
        return frozenset({Need.HESSIAN if self.order == "obs" or self.reforms else Need.ENERGY})

    @property
    def kinds(self) -> frozenset[str]:
        return UNITS[self.units]

    @property
    def searches(self) -> bool:
        return True

    @property
    def drops_blocks(self) -> bool:
        return self.depth > 0

    @property
    def fills(self) -> bool:
        return self.reforms and self.fitness == "reformed"

    def held_apart(self, samples: int) -> int:
        return max(1, round(self.held_out * samples))

    def check(self, sparsity: float) -> None:
        if self.mutations + self.crossovers > self.population:
            raise UserError(
                f"evolution: {self.mutations} mutations and {self.crossovers} crossovers are more than a population of "
                f"{self.population}; raise `population`"
            )
        if self.depth and self.units != "all":
            raise UserError("evolution: whole blocks go with all their units; leave `units` at all, or `depth` at 0")

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        if self.order == "obs":
            return ObsSp(damp=self.damp, block=self.block).scores(group, weights, evidence)
        by = Flap(structure="ul-um") if self.order == "wifv" else WandaSp()
        return by.scores(group, weights, evidence)

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        return uniform(scored(blocks), sparsity)

    def search(self, problem: UnitProblem) -> Kept:
        groups = scored(problem.blocks)
        genes = genes_of([group for group, _ in groups], problem.multiple_of)
        space = Space(genes, problem.sparsity)
        ranked = {group.key: score.argsort(descending=True, stable=True).numpy() for group, score in groups}
        order = [block.number for block in sorted(problem.blocks, key=lambda each: (each.influence, each.number))]
        draw = np.random.default_rng(problem.seed)
        if not space.is_legal(Breeder(space, self, order, draw).uniform()):
            raise UserError(
                f"evolution: no sizes come near a sparsity of {problem.sparsity:g} while every attention and FFN keeps "
                "a unit; change `sparsity` or `multiple_of`"
            )
        owners = {group.key: (group, block) for block in problem.blocks for group in block.groups}

        def fill(key: str, kept: np.ndarray) -> torch.Tensor:
            group, block = owners[key]
            stays = torch.from_numpy(kept[group.columns])
            return filling(block.hessians[group.output.layer.name], stays, self.damp)

        losses = read_tensors(problem.state)["losses"].tolist() if problem.state.exists() else []
        told = iter(tuple(losses))

        def loss(candidate: Candidate) -> float:
            """As an interrupted run found it, or anew."""
            value = next(told, None)
            if value is None:
                problem.progress("searching", len(losses), self.evaluations)
                kept = masks(candidate, genes, ranked)
                (value,) = problem.model.losses([kept], problem.ids, fill if self.fills else None)
                losses.append(value)
                write_tensors(problem.state, {"losses": torch.tensor(losses, dtype=torch.float64)})
            return value

        best = evolve(space, self, order, loss, draw)
        if not np.isfinite(losses).any():
            raise UserError("evolution: the loss is NaN or Inf whatever goes; use `dtype=float32`")
        return masks(best, genes, ranked)
