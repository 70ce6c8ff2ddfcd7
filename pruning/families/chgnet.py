"""CHGNet: a graph network that gives the energy of a crystal from its atoms, bonds and angles.

Deng et al., "CHGNet as a pretrained universal neural network potential for charge-informed atomistic modelling", Nature
Machine Intelligence 5, 2023. Weights are those of version 0.3.0 in the package chgnet; none of its code is run.

A sample is a crystal of 8 atoms, 224 bonds and 240 angles, and quality the mean difference of the energy from that of
the unpruned network, in meV an atom, over crystals that pruning never sees: there are no labels, so that dense is 0.
What the network adds for the elements alone, which no pruning changes, is left out. Its linears are over nodes and
edges: a sample brings them as many tokens as it has atoms, bonds (in both directions) or angles. Gathering what the
ends of an edge know, and adding up messages, is no matrix: `simulate --include moves` has rows of it.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn.functional import silu

from pruning.data.crystals import ATOMS, BOND_A, SHORT_A, crystals, described, graph
from pruning.families.family import Better
from pruning.families.network import NetworkFamily, Run, package_folder
from workloads.errors import UserError, unknown

WIDTH, WAVES, LAYERS, SMOOTH = 64, 31, 4, 8
FILE = Path("pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar")
EVALUATED, EVALUATION_SEED = 256, 20230914


class Mlp(nn.Module):
    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.layers(states)


class GatedMlp(nn.Module):
    """silu(norm(core)) sigmoid(norm(gate)), each a linear or, `deep`, two."""

    def __init__(self, inputs: int, deep: bool):
        super().__init__()
        self.mlp_core, self.mlp_gate = _mlp(inputs, deep), _mlp(inputs, deep)
        self.bn1, self.bn2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return silu(self.bn1(self.mlp_core(states))) * torch.sigmoid(self.bn2(self.mlp_gate(states)))


def _mlp(inputs: int, deep: bool) -> Mlp:
    first = [nn.Linear(inputs, WIDTH), nn.SiLU(), nn.Identity()] if deep else [nn.Identity()]
    return Mlp(*first, nn.Linear(WIDTH if deep else inputs, WIDTH))


class Layer(nn.Module):
    """Works on all that a crystal is, one behind the other: atoms, bonds, angles, weights of bonds and of short bonds,
    (samples, 920, 64)."""

    def __init__(self) -> None:
        super().__init__()
        own = graph()
        sizes = (ATOMS, own.bonds, len(own.angle_atom), own.bonds, own.bonds)
        self.ends = np.cumsum((0, *sizes)).tolist()
        kinds = {"center": own.center, "neighbour": own.neighbour, "bond": own.undirected, "angle_atom": own.angle_atom,
                 "left": own.angle_undirected[:, 0], "right": own.angle_undirected[:, 1]}  # fmt: skip
        for name, places in kinds.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(places)))

    def part(self, states: torch.Tensor, number: int) -> torch.Tensor:
        return states[:, self.ends[number] : self.ends[number + 1]]

    def put(self, states: torch.Tensor, number: int, part: torch.Tensor) -> torch.Tensor:
        return torch.cat([states[:, : self.ends[number]], part, states[:, self.ends[number + 1] :]], dim=1)

    def around_angles(self, states: torch.Tensor) -> torch.Tensor:
        bonds = self.part(states, 1)
        return torch.cat([at(bonds, self.left), at(bonds, self.right), self.part(states, 2),
                          at(self.part(states, 0), self.angle_atom)], dim=2)  # fmt: skip


def at(states: torch.Tensor, places: Any) -> torch.Tensor:
    return states.index_select(1, places)


class AtomConv(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.twoBody_atom = GatedMlp(3 * WIDTH, True)
        self.mlp_out = Mlp(nn.Identity(), nn.Linear(WIDTH, WIDTH, bias=False))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        atoms = self.part(states, 0)
        around = torch.cat(
            [at(atoms, self.center), at(self.part(states, 1), self.bond), at(atoms, self.neighbour)], dim=2
        )
        messages = self.twoBody_atom(around) * at(self.part(states, 3), self.bond)
        summed = torch.zeros_like(atoms).index_add(1, self.center, messages)  # type: ignore[arg-type]
        return self.put(states, 0, self.mlp_out(summed) + atoms)


class BondConv(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.twoBody_bond = GatedMlp(4 * WIDTH, True)
        self.mlp_out = Mlp(nn.Identity(), nn.Linear(WIDTH, WIDTH, bias=False))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        bonds, weights = self.part(states, 1), self.part(states, 4)
        messages = self.twoBody_bond(self.around_angles(states)) * at(weights, self.left) * at(weights, self.right)
        summed = torch.zeros_like(bonds).index_add(1, self.left, messages)  # type: ignore[arg-type]
        return self.put(states, 1, self.mlp_out(summed) + bonds)


class AngleUpdate(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.twoBody_bond = GatedMlp(4 * WIDTH, False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.put(states, 2, self.twoBody_bond(self.around_angles(states)) + self.part(states, 2))


class Chgnet(nn.Module):
    """(samples, 472), as pruning.data.crystals.described, -> (samples,) eV an atom."""

    def __init__(self) -> None:
        super().__init__()
        self.bonds = ATOMS + graph().bonds
        self.atom_embedding = nn.Embedding(94, WIDTH)
        self.bond_embedding, self.angle_embedding = (nn.Linear(WAVES, WIDTH, bias=False) for _ in range(2))
        self.bond_weights_ag, self.bond_weights_bg = (nn.Linear(WAVES, WIDTH, bias=False) for _ in range(2))
        for name, count in (("waves", WAVES), ("short_waves", WAVES), ("turns", WAVES // 2)):
            self.register_buffer(name, torch.zeros(count))
        self.atom_conv_layers = nn.ModuleList(AtomConv() for _ in range(LAYERS))
        self.bond_conv_layers = nn.ModuleList(BondConv() for _ in range(LAYERS - 1))
        self.angle_layers = nn.ModuleList(AngleUpdate() for _ in range(LAYERS - 1))
        self.readout_norm = nn.LayerNorm(WIDTH)
        hidden = [layer for _ in range(3) for layer in (nn.Linear(WIDTH, WIDTH), nn.SiLU())]
        self.mlp = Mlp(*hidden, nn.Identity(), nn.Linear(WIDTH, 1))

    def forward(self, crystal: torch.Tensor) -> torch.Tensor:
        atoms = self.atom_embedding(crystal[:, :ATOMS].long() - 1)
        lengths = crystal[:, ATOMS : self.bonds, None]
        near, short = radial(lengths, self.waves, BOND_A), radial(lengths, self.short_waves, SHORT_A)
        turned = crystal[:, self.bonds :, None] * self.turns  # type: ignore[operator]
        level = torch.full_like(turned[..., :1], 0.5**0.5)
        angles = torch.cat([level, torch.sin(turned), torch.cos(turned)], dim=2) / torch.pi**0.5
        states = torch.cat([atoms, self.bond_embedding(near), self.angle_embedding(angles),
                            self.bond_weights_ag(near), self.bond_weights_bg(short)], dim=1)  # fmt: skip
        for number in range(LAYERS - 1):
            states = self.atom_conv_layers[number](states)
            states = self.bond_conv_layers[number](states)
            states = self.angle_layers[number](states)
        states = self.atom_conv_layers[LAYERS - 1](states)
        return self.mlp(self.readout_norm(states[:, :ATOMS])).mean(dim=1).squeeze(-1)


def radial(lengths: torch.Tensor, waves: Any, cutoff_a: float) -> torch.Tensor:
    """Bessel functions that fade to 0 at the cutoff, (samples, bonds, waves)."""
    share, p = lengths / cutoff_a, SMOOTH
    fade = 1 - (p + 1) * (p + 2) / 2 * share**p + p * (p + 2) * share ** (p + 1) - p * (p + 1) / 2 * share ** (p + 2)
    return torch.where(share < 1, fade, 0.0) * (2 / cutoff_a) ** 0.5 * torch.sin(waves * share) / lengths


class ChgnetFamily(NetworkFamily):
    __doc__ = __doc__
    name = "chgnet"
    metric: ClassVar[str] = "energy apart from the unpruned network's (meV an atom)"
    better: ClassVar[Better] = "lower"
    sample: ClassVar[str] = "crystal"

    def build(self, variant: str) -> nn.Module:
        if variant:
            raise unknown(f"variant of {self.name}", variant, [""])
        file = package_folder("chgnet") / FILE
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)["model"]["state_dict"]
        except (OSError, RuntimeError, KeyError) as error:
            raise UserError(f"{file} cannot be read ({error}); install chgnet again") from None
        model = Chgnet()
        model.load_state_dict(own_names(found), strict=False)
        return model

    def files(self, model: str) -> list[Path]:
        return [*super().files(model), package_folder("chgnet") / FILE]

    def samples(self, count: int, seed: int) -> torch.Tensor:
        return torch.from_numpy(described(*crystals(count, seed)))

    def measure(self, run: Run) -> tuple[float, int]:
        data = self.samples(EVALUATED, EVALUATION_SEED)
        with torch.no_grad():
            whole = self.build("").eval()(data)
        own = torch.cat([run(batch) for batch in data.split(32)]).float().cpu()
        return 1000 * float((own - whole).abs().double().mean()), EVALUATED


RENAMED = {
    "atom_embedding.embedding.weight": "atom_embedding.weight",
    "bond_basis_expansion.rbf_expansion_ag.frequencies": "waves",
    "bond_basis_expansion.rbf_expansion_bg.frequencies": "short_waves",
    "angle_basis_expansion.fourier_expansion.frequencies": "turns",
}


def own_names(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {RENAMED.get(name, name): tensor for name, tensor in found.items()}
