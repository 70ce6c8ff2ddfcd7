"""A part of one design goes into another, and settings that are set twice are said once."""

import dataclasses

import pytest

from prunesim.machines import Dram, Sparten, Vitcod
from simulator.targets import find_target
from workloads.errors import UserError


@pytest.mark.parametrize("sets", [(), ("dram.device=HBM2",), ("dram.device=HBM2", "dram.channels=2")])
def test_the_dram_of_another_preset(sets):
    giver = Vitcod(*sets)
    taker = Sparten(dram=giver.spec.dram, energy=giver.spec.energy)
    assert (taker.spec.dram, taker.spec.energy) == (giver.spec.dram, giver.spec.energy)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sparten(dram=Dram(100.0, channels=4)),
        lambda: Sparten(dram={"channels": 4}),
        lambda: Sparten("dram.channels=4", dram=Vitcod().spec.dram),
        lambda: Sparten(dram=Vitcod().spec.dram).changed("dram.channels=4"),
        lambda: Sparten(dram=dataclasses.replace(Vitcod().spec.dram, channels=4)),
    ],
)
def test_what_a_user_states_and_no_dram_hears_is_still_refused(make):
    with pytest.raises(UserError, match=r"dram.channels has no effect beside dram.device = generic"):
        make()


def test_a_key_that_is_set_again_is_said_once():
    changed = Vitcod("array.height=16", "clock.mhz=400").changed("array.height=8").changed("clock.mhz=300")
    assert changed.settings == "array.height=8 clock.mhz=300"
    assert find_target("h200", ["chip.sms=3", "chip.sms=4"]).settings == "dtype=fp16 chip.sms=4"
    assert find_target("vitcod-attention", ["array.height=3", "array.height=4"]).settings == "array.height=4"
    assert "which chip.sms=4 changed" in find_target("h200", ["chip.sms=3", "chip.sms=4"]).notes[-1]
