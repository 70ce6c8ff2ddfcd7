"""What the rest of the program relies on: refusals in words, `geometry`, the same figures again, notes for reports."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from simulator.cycles import Infeasible
from validation.conformance.design import Case, Design, Layer, attempt, run, statistics_of
from validation.conformance.laws import Broken, at_most, same
from validation.conformance.orders import BUFFERS
from workloads.errors import UserError
from workloads.refusals import Refusal

TINY_KIB = 2.0**-10


def refuses_in_words(design: Design, case: Case) -> None:
    """A machine with next to no buffers runs the layer, or says which key must change, with numbers."""
    machine = design.machine(*case.sets)
    for name in BUFFERS:
        try:
            small = design.machine(*case.sets, f"buffers.{name}={TINY_KIB}")
            attempt(small, case.layer)
        except Infeasible as error:
            says_the_way_out(error.refusal)
        except UserError:  # the spec does not allow it
            continue
    if machine.only_tokens is None:
        run(machine, case.layer)


def says_the_way_out(refusal: Refusal) -> None:
    """Raises Broken unless it says where, what is needed and what there is, and a key of the machine to change."""
    if not re.search(r"[a-z]+\.[a-z_*]+", f"{refusal.resource} {refusal.way_out}"):
        raise Broken(f"a refusal names no key of the machine that would help: {refusal}")
    if not refusal.where:
        raise Broken(f"a refusal does not say where: {refusal}")
    if not isinstance(refusal.need, str) and not isinstance(refusal.bound, str):
        at_most(f"a refusal's bound ({refusal})", refusal.bound, refusal.need, "its need")
        if not refusal.unit:
            raise Broken(f"a refusal has numbers without a unit: {refusal}")


def broken_pattern_is_named(design: Design, case: Case) -> None:
    """A mask off the design's pattern is refused in words, or runs in another arrangement."""
    assert design.twin is not None
    assert design.twin.follows is not None
    machine, kept = design.roomy(*case.sets), case.layer.kept()
    try:
        found = attempt(machine, case.layer, kept)
    except Infeasible as error:
        says_the_way_out(error.refusal)
        return
    followed = attempt(machine, case.layer, design.twin.follows(kept))
    if found.sparse.mapping.split(",")[0] == followed.sparse.mapping.split(",")[0]:
        raise Broken(f"a mask off the pattern is mapped as one that follows it: {found.sparse.mapping}")


def has_pattern(design: Design) -> str:
    return "" if design.twin and design.twin.follows else "it takes any mask, or no twin says which it takes"


def geometry_says_all(design: Design, case: Case) -> None:
    """Settings that leave `geometry` as it is leave what `gather` gives as it is, as it is kept under that alone."""
    machine, kept = design.machine(*case.sets), case.layer.kept()
    arrays = statistics_of(machine, kept).arrays
    for text in other_settings(machine.spec):
        try:
            other = design.machine(*case.sets, text)
        except UserError:
            continue
        if other.geometry() != machine.geometry():
            continue
        again = statistics_of(other, kept).arrays
        same(f"with {text} `geometry` is the same, but names of what `gather` gives", sorted(again), sorted(arrays))
        for name, array in arrays.items():
            if array.dtype != again[name].dtype or not np.array_equal(array, again[name]):
                raise Broken(f"with {text} `geometry` is the same, but {name!r} of what `gather` gives is another")


def other_settings(spec: Any, prefix: str = "") -> Iterator[str]:
    """Each number and switch of a spec changed, one at a time."""
    for each in fields(spec):
        value = getattr(spec, each.name)
        if is_dataclass(value):
            yield from other_settings(value, f"{prefix}{each.name}.")
        elif isinstance(value, bool):
            yield f"{prefix}{each.name}={str(not value).lower()}"
        elif isinstance(value, int | float):
            yield f"{prefix}{each.name}={2 * value}"


def small_layers(design: Design, seed: int, each: int) -> Iterator[Case]:
    for sets in design.machines:
        yield Case(sets, Layer(24, 130, 3, 0.5, 5))


def same_again(design: Design, case: Case) -> None:
    """Two evaluations of one mask by two machines of the same settings."""
    first, again = (run(design.make(*case.sets), case.layer) for _ in range(2))
    same("a second evaluation", again.sparse, first.sparse, "the first")


def notes_are_sentences(design: Design, case: str) -> None:
    machine = design.machine()
    if not machine.documentation.strip():
        raise Broken("neither the class nor its file has a docstring that says what is modelled")
    for note in machine.notes:
        if not note.endswith("."):
            raise Broken(f"a note is no sentence: {note!r}")


def defaults(design: Design, seed: int, each: int) -> Iterator[Case]:
    yield Case((), Layer(96, 192, 3, 0.5, 1))


def pattern_layers(design: Design, seed: int, each: int) -> Iterator[Case]:
    yield Case((), Layer(64, 128, 1, 0.9, 3))


def its_name(design: Design, seed: int, each: int) -> Iterator[str]:
    yield design.name
