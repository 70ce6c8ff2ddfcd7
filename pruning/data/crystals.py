"""Crystals of the rock-salt structure with any elements on both sites, stretched and rattled, as graphs of atoms, bonds
and angles. Sizes are kept where no bond crosses a cutoff, so that all have one graph, and only lengths and angles
differ.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

SIDE_A = (5.0, 5.24)  # of the cell of 8 atoms
RATTLE_A = 0.05  # at most
BOND_A, SHORT_A = 6.0, 3.0  # bonds; those that angles are between
CATIONS = (3, 11, 12, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 38, 39, 40)
ANIONS = (6, 7, 8, 9, 15, 16, 17, 34, 35)
SITES = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) / 2
ATOMS = len(SITES)


@dataclass(frozen=True)
class Graph:
    """Directed bonds: center, neighbour, image (cells from the center's), and the undirected bond of each; angles:
    their atom, and the directed and the undirected bonds on both sides."""

    center: np.ndarray
    neighbour: np.ndarray
    image: np.ndarray
    undirected: np.ndarray
    angle_atom: np.ndarray
    angle_bonds: np.ndarray  # (angles, 2), directed

    @property
    def bonds(self) -> int:
        return int(self.undirected.max()) + 1

    @property
    def angle_undirected(self) -> np.ndarray:
        return self.undirected[self.angle_bonds]


@lru_cache
def graph() -> Graph:
    """Of the middle of the sizes."""
    side = sum(SIDE_A) / 2
    found = []
    for i, j, *cells in product(range(ATOMS), range(ATOMS), *[range(-2, 3)] * 3):
        length = np.linalg.norm(SITES[i] - SITES[j] - np.array(cells)) * side
        if 0 < length < BOND_A:
            found.append((i, j, tuple(cells), length))
    of = {(i, j, image): number for number, (i, j, image, _) in enumerate(found)}
    undirected, count = np.full(len(found), -1), 0
    for number, (i, j, cell, _) in enumerate(found):
        if undirected[number] < 0:
            other = of[j, i, (-cell[0], -cell[1], -cell[2])]
            undirected[[number, other]] = count
            count += 1
    short = [number for number, each in enumerate(found) if each[3] < SHORT_A]
    angles = [(a, b) for a in short for b in short if a != b and found[a][0] == found[b][0]]
    center, neighbour, image, _ = (np.array(column) for column in zip(*found, strict=True))
    pairs = np.array(angles)
    return Graph(center, neighbour, image, undirected, center[pairs[:, 0]], pairs)


def crystals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(atomic numbers (count, 8), cell sides in A (count,), positions in A (count, 8, 3))."""
    draw = np.random.default_rng([seed, ATOMS])
    cations = draw.choice(CATIONS, (count, 2))[:, draw.integers(2, size=(count, 4))[0]]
    numbers = np.concatenate([cations, np.repeat(draw.choice(ANIONS, (count, 1)), 4, axis=1)], axis=1)
    side = draw.uniform(*SIDE_A, count)
    step = draw.standard_normal((count, ATOMS, 3))
    step *= RATTLE_A * draw.random((count, ATOMS, 1)) / np.linalg.norm(step, axis=2, keepdims=True)
    return numbers, side, SITES * side[:, None, None] + step


def described(numbers: np.ndarray, side: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(count, atoms + bonds + angles) float32: atomic numbers, lengths in A, angles in radians, as the graph has
    them."""
    own = graph()
    away = positions[:, own.center] - positions[:, own.neighbour] - own.image * side[:, None, None]
    lengths = np.linalg.norm(away, axis=2)
    unit = away / lengths[:, :, None]
    cosine = (unit[:, own.angle_bonds[:, 0]] * unit[:, own.angle_bonds[:, 1]]).sum(axis=2)
    first = np.unique(own.undirected, return_index=True)[1]
    parts = [numbers, lengths[:, first], np.arccos(cosine * (1 - 1e-6))]
    return np.concatenate(parts, axis=1).astype(np.float32)
