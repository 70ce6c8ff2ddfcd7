"""Every accelerator obeys the laws of validation/conformance, on random layers that differ from run to run."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.accelerators import ACCELERATORS
from validation.conformance.accelerators import LAWS
from validation.conformance.design import Design, design_of
from validation.conformance.laws import Law, Skipped

PRESETS = ("tpu-v4", "tpu-v5e")  # of systolic: the same code on another preset
DESIGNS = [design_of(name) for name in ACCELERATORS]
ON_PRESETS = ("whole rows", "notes are sentences")
CHECKED = [
    (law, design)
    for design in DESIGNS
    for law in LAWS
    if law.name not in design.not_promised
    and not law.applies(design)
    and (design.name not in PRESETS or law.name in ON_PRESETS)
]


def holds_for_random_layers(law: Law, design: Design) -> None:
    """As many as the shipped check draws, but others every time."""

    @settings(max_examples=law.each, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def holds(seed: int) -> None:
        for case in law.cases(design, seed, 1):
            with suppress(Skipped):
                law.check(design, case)

    holds()


@pytest.mark.parametrize(("law", "design"), CHECKED, ids=[f"{design.name}-{law.name}" for law, design in CHECKED])
def test_laws(law: Law, design: Design) -> None:
    if law.each > 1:
        holds_for_random_layers(law, design)
    for case in law.cases(design, law.seed, 1):
        with suppress(Skipped):
            law.check(design, case)


def test_every_cycle_model_has_a_twin():
    missing = {design.name for design in DESIGNS if design.twin is None}
    assert missing == set()
    assert all(design.twin.full_mask_cycles for design in DESIGNS if design.machine().level == "cycle")


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.name)
def test_one_address_one_line_of_documentation(design):
    machine = design.machine()
    assert machine.level == "paper" or "Deviations and approximations:" in machine.documentation
    assert machine.notes


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.name)
def test_what_is_not_promised_names_laws_and_gives_reasons(design):
    assert set(design.not_promised) <= {law.name for law in LAWS}
    assert all(design.not_promised.values())
