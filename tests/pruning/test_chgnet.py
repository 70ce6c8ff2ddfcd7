"""The graph network against the package's own program on one graph; skipped where the package is not installed."""

import sys
from importlib.util import find_spec
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from pruning.data.crystals import ATOMS, BOND_A, SHORT_A, SITES, crystals, described, graph
from pruning.families.chgnet import FILE, ChgnetFamily
from pruning.families.network import package_folder
from studies.prune import open_model

present = pytest.mark.skipif(find_spec("chgnet") is None, reason="needs the package chgnet, for its weights")
# What the package imports for the structures it reads, and its network does not use.
FOREIGN = (
    "ase", "ase.units", "ase.calculators", "ase.calculators.calculator", "ase.md", "ase.md.npt", "ase.md.nptberendsen",
    "ase.md.nvtberendsen", "ase.md.verlet", "ase.md.velocitydistribution", "ase.md.langevin", "ase.optimize",
    "ase.optimize.bfgs", "ase.optimize.bfgslinesearch", "ase.optimize.fire", "ase.optimize.lbfgs", "ase.optimize.mdmin",
    "ase.optimize.sciopt", "ase.optimize.optimize", "ase.io", "ase.io.trajectory", "ase.thermochemistry",
    "ase.vibrations", "ase.eos", "ase.filters", "ase.constraints", "ase.phonons",
    "pymatgen", "pymatgen.core", "pymatgen.core.structure", "pymatgen.analysis", "pymatgen.analysis.eos", "pymatgen.io",
    "pymatgen.io.ase", "pymatgen.io.vasp", "pymatgen.io.vasp.outputs", "pymatgen.analysis.structure_matcher",
    "pymatgen.util", "pymatgen.util.due", "pynvml", "nvidia_smi", "monty",
    "monty.io", "monty.os", "monty.os.path", "monty.json", "monty.dev", "monty.serialization",
)  # fmt: skip


def test_the_graph_has_the_shells_of_rock_salt():
    own = graph()
    assert len(own.center) == ATOMS * (6 + 12 + 8 + 6 + 24)  # neighbours at 1, sqrt 2, sqrt 3, 2 and sqrt 5 half cells
    assert (np.bincount(own.undirected) == 2).all()
    assert len(own.angle_atom) == ATOMS * 6 * 5


def test_no_bond_of_any_crystal_crosses_a_cutoff():
    numbers, side, positions = crystals(200, 3)
    rows = described(numbers, side, positions)
    lengths = rows[:, ATOMS : ATOMS + graph().bonds]
    assert lengths.max() < BOND_A
    short = lengths < SHORT_A
    assert (short == short[0]).all()
    assert short[0].sum() == ATOMS * 6 // 2
    images = np.array([(x, y, z) for x in range(-2, 3) for y in range(-2, 3) for z in range(-2, 3)])
    for own, at in zip(side[:20], positions[:20], strict=True):  # every pair within the cutoff is a bond
        away = at[:, None, None] - at[None, :, None] - images * own
        near = np.linalg.norm(away, axis=-1)
        assert ((near > 0) & (near < BOND_A)).sum() == len(graph().center)
    assert SITES.shape == (ATOMS, 3)


@present
def test_energies_are_those_of_the_packages_program(monkeypatch):
    for name in FOREIGN:
        monkeypatch.setitem(sys.modules, name, MagicMock())
    before = set(sys.modules)
    try:
        from chgnet.model.model import BatchedGraph, CHGNet

        content = torch.load(package_folder("chgnet") / FILE, map_location="cpu", weights_only=True)["model"]
        theirs = CHGNet(**content["model_args"], version="0.3.0")
        theirs.load_state_dict(content["state_dict"], strict=False)
        theirs.eval()
        numbers, side, positions = crystals(3, 11)
        own = graph()
        wanted = []
        first = np.unique(own.undirected, return_index=True)[1]
        for kinds, a, at in zip(numbers, side, positions, strict=True):
            given = [torch.from_numpy(each) for each in (at[own.center], at[own.neighbour], own.image)]
            ag, bg, away = theirs.bond_basis_expansion(
                center=given[0].float(), neighbor=given[1].float(), undirected2directed=torch.from_numpy(first),
                image=given[2].float(), lattice=float(a) * torch.eye(3),
            )  # fmt: skip
            sides = torch.from_numpy(own.angle_bonds)
            made = BatchedGraph(
                atomic_numbers=torch.from_numpy(kinds), bond_bases_ag=ag, bond_bases_bg=bg,
                angle_bases=theirs.angle_basis_expansion(away[sides[:, 0]], away[sides[:, 1]]),
                batched_atom_graph=torch.from_numpy(np.stack([own.center, own.neighbour], axis=1)),
                batched_bond_graph=torch.from_numpy(np.column_stack([own.angle_atom, own.angle_undirected])),
                atom_owners=torch.zeros(ATOMS, dtype=torch.int32), directed2undirected=torch.from_numpy(own.undirected),
                atom_positions=[torch.from_numpy(at)], strains=[None], volumes=torch.tensor([float(a) ** 3]),
            )  # fmt: skip
            with torch.no_grad():
                wanted.append(theirs._compute(made)["e"])
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]
    network = open_model("chgnet", "float32")
    network.load_all()
    energies = network.run(ChgnetFamily().samples(3, 11))
    torch.testing.assert_close(energies, torch.cat(wanted).float(), atol=2e-5, rtol=1e-4)
    assert energies.std() > 0.01
