"""Accelerators put together in Python: parts, presets, settings, what is refused, and a stranger's whole design."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.dstc.cycle import Dstc
from simulator.accelerators.named import open_accelerator
from simulator.accelerators.sparten.cycle import Sparten
from simulator.accelerators.systolic.cycle import Systolic
from simulator.accelerators.vitcod.attention.target import open_attention
from simulator.accelerators.vitcod.cycle import Vitcod
from simulator.expected import expected
from simulator.machine import Array, Buffers, Clock, Ddr4, Dram, Hbm3, Number
from simulator.machine.spec import preset_values
from simulator.simulate import simulate_layers
from simulator.statistics import Statistics
from simulator.work import Work
from tests.simulator.skipper import Skipper
from tests.simulator.test_simulate import HEADER, layer_of, random_mask
from workloads.columns.column import Column
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.mask import PackedMask
from workloads.routing import Load
from workloads.rows import to_frame


@pytest.mark.parametrize("name", ACCELERATORS)
def test_a_name_of_the_table_is_a_preset_of_its_class(name):
    made = open_accelerator(name)
    assert made == ACCELERATORS[name](preset=name)
    assert (made.name, made.settings) == (name, "")
    assert made.documentation
    assert eval(repr(made), {type(made).__name__: type(made)}) == made


def test_parts_say_the_same_as_settings():
    parts = Vitcod(array=Array(32, 16), dram=Ddr4(channels=2))
    settings = "array.width=32 array.height=16 dram.device=DDR4-3200 dram.channels=2"
    told = Vitcod(*settings.split())
    assert parts == told
    assert (parts.sha256, parts.settings, hash(parts)) == (told.sha256, settings, hash(told))
    assert repr(parts) == "Vitcod(array=Array(width=32, height=16), dram=Ddr4(channels=2))"
    assert eval(repr(parts), {"Vitcod": Vitcod, "Array": Array, "Ddr4": Ddr4}) == parts


def test_a_mapping_changes_only_its_keys_and_a_part_the_whole_section():
    assert Dstc(array={"otcs": 2}) == Dstc("array.otcs=2")
    whole = Dstc(buffers=Buffers(1, 2, 3, 4)).spec.buffers
    assert whole == Buffers(1.0, 2.0, 3.0, 4.0)
    assert whole.banks != Dstc().spec.buffers.banks


def test_settings_come_after_parts_and_both_after_the_preset():
    made = Systolic("clock.mhz=800", preset="tpu-v4", dram=Hbm3(channels=4), clock=Clock(700))
    assert made.name == "tpu-v4"
    assert made.spec.clock.mhz == 800
    assert made.spec.array == Systolic(preset="tpu-v4").spec.array
    assert made.settings == "clock.mhz=800 dram.device=HBM3 dram.channels=4"


UNHEARD = r"vitcod: dram\.{} has no effect beside dram\.device = {}"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Vitcod("dram.device=HBM2", "dram.bandwidth_gbps=9"), UNHEARD.format("bandwidth_gbps", "HBM2")),
        (lambda: Vitcod("dram.efficiency=.5", "dram.device=HBM2"), UNHEARD.format("efficiency", "HBM2")),
        (lambda: Vitcod("dram.channels=1"), UNHEARD.format("channels", "generic")),
        (lambda: Vitcod(dram=Ddr4()).changed("dram.bandwidth_gbps=9"), UNHEARD.format("bandwidth_gbps", "DDR4-3200")),
        (lambda: Vitcod(dram=Dram(9, device="HBM3")), UNHEARD.format("bandwidth_gbps", "HBM3")),
        (lambda: Vitcod(dram={"channels": 2}), UNHEARD.format("channels", "generic")),
        (lambda: Vitcod(dram=Dram(9, channels=2)), UNHEARD.format("channels", "generic")),
        (
            lambda: Vitcod("energy.dram=HBM2", dram=Hbm3()),
            "vitcod: energy.dram has no effect beside dram.device = HBM3",
        ),
        (
            lambda: open_attention("vitcod-attention", ["dram.channels=2"]),
            r"vitcod-attention: dram\.channels has no effect beside dram\.device = generic, .*, so leave it out",
        ),
    ],
)
def test_a_setting_that_the_dram_does_not_hear_is_refused(make, said):
    with pytest.raises(UserError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_later_device_takes_the_place_of_an_earlier_one():
    """What was set before stays in the spec, as a preset's own does; nobody asked for it beside the new device."""
    named = Vitcod("dram.bandwidth_gbps=9", "dram.efficiency=0.5").changed("dram.device=HBM2", "dram.channels=2")
    assert (named.spec.dram.device, named.spec.dram.channels) == ("HBM2", 2)
    again = named.changed("dram.device=generic")
    assert (again.spec.dram.bandwidth_gbps, again.spec.dram.efficiency) == (9, 0.5)


def test_a_preset_may_be_a_file_or_values(tmp_path: Path):
    values = preset_values("sparten")
    values["array"]["units"] = 16
    file = tmp_path / "mine.toml"
    file.write_text("\n".join(
        f"[{section}]\n" + "\n".join(f"{key} = {value!r}".replace("True", "true").replace("False", "false")
                                     for key, value in part.items())
        for section, part in values.items()
    ))  # fmt: skip
    assert Sparten(preset=file) == Sparten(preset=values, name="mine")
    assert Sparten(preset=file).spec == Sparten("array.units=16").spec
    with pytest.raises(UserError, match="No such file"):
        Sparten(preset=tmp_path / "other.toml")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(arry=Array(1, 1)), r"unknown section of vitcod: 'arry'; did you mean 'array'\?"),
        (dict(array=Array(0, 4)), r"vitcod: array\.width = 0: Input should be greater than 0"),
        (dict(array=Array(np.float32(1.5), 4)), r"vitcod: array\.width = 1\.5"),
        (dict(array=Array("wide", 4)), r"vitcod: array\.width = 'wide'"),
        (dict(array=Array(Path("x"), 4)), r"vitcod: array\.width"),
        (dict(array=Clock(500)), r"vitcod: array\.width is missing"),
        (dict(array=64), r"vitcod: array = 64"),
        (dict(dram=Ddr4(channels=-1)), r"vitcod: dram\.channels = -1"),
        (dict(number=Number(weight_bits=65)), r"vitcod: number\.weight_bits = 65"),
        (dict(preset="vitcot"), "unknown preset 'vitcot'; did you mean 'vitcod'"),
        (dict(preset="sparten"), r"sparten: array\.width is missing"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings, said):
    with pytest.raises(UserError, match=said) as error:
        Vitcod(**settings)
    assert "\n" not in str(error.value)


def test_numbers_of_numpy_are_numbers():
    assert Vitcod(array=Array(np.int64(32), 64), dram=Dram(np.float64(50))) == Vitcod(
        array=Array(32, 64), dram=Dram(50)
    )


def test_designs_of_other_classes_names_or_specs_are_others():
    assert len({Vitcod(), Vitcod(), Vitcod("clock.mhz=1"), Vitcod(name="mine"), Sparten()}) == 4
    assert Vitcod.of(Vitcod("clock.mhz=1").spec) == Vitcod("clock.mhz=1")


# A stranger's design: tests/simulator/skipper.py and skipper.toml beside it.


def test_a_strangers_design_finds_the_preset_beside_it_and_defaults_for_the_rest():
    design = Skipper()
    assert design.name == "skipper"
    assert design.spec.buffers.double
    assert design.spec.mapping.objective == "latency"
    assert design.settings == ""
    assert Skipper("mapping.tile_tokens=3").spec.mapping.tile_tokens == 3  # a key that the preset leaves out
    with pytest.raises(UserError, match=r"unknown key of skipper: 'mapping.tile_token'; did you mean"):
        Skipper("mapping.tile_token=3")
    assert design.source_sha256


@pytest.mark.parametrize("density", [0.0, 0.2, 0.7, 1.0])
def test_a_strangers_design_makes_whole_rows(density):
    kept, tokens = random_mask(37, 150, density), 5
    design = Skipper(array={"lanes": 4, "depth": 32})
    (row,) = simulate_layers([design], HEADER, [layer_of(kept)], Conditions(tokens))
    slowest = [
        max(int(kept[r, c : c + 32].sum()) for r in range(g, min(g + 4, 37)))
        for g in range(0, 37, 4)
        for c in range(0, 150, 32)
    ]
    assert row["compute_cycles"] == tokens * sum(slowest)
    assert row["dense_compute_cycles"] == tokens * 10 * 150
    assert row["settings"] == "array.lanes=4 array.depth=32"
    assert row["energy_pj"] > 0


class Counting(Skipper):
    """With columns of its own."""

    name, preset = "counting", Path(__file__).with_name("skipper.toml")
    columns = (Column("waits", "int", "granules whose lanes wait for one of them"), Column("kind", "text"))

    def layer(self, work, statistics):
        waits = int((statistics["step_cycles"] > 0).sum())
        return replace(super().layer(work, statistics), extra={"waits": waits, "kind": "even"})


def test_columns_of_a_design_are_its_rows_last_and_expected_as_others_are():
    kept = np.ones((64, 256), bool)
    kept[:, 128:] = False
    (row,) = simulate_layers([Counting()], HEADER, [layer_of(kept)], Conditions(2))
    frame = to_frame([row], extra=Counting.columns)
    assert list(frame)[-2:] == ["waits", "kind"]
    assert frame.iloc[0][["waits", "kind"]].tolist() == [1, "even"]
    with pytest.raises(UserError, match="unknown column 'waits'"):
        to_frame([row])
    runs = {
        tokens: Counting().evaluate(Work(64, 256, kept.sum(), tokens), _statistics(kept, tokens)) for tokens in (1, 2)
    }
    found = expected(Load(tokens=1.5), runs.__getitem__).sparse.extra
    assert found == {"waits": 2, "kind": "even"}  # 1 and 2: 1.5, rounded


def _statistics(kept: np.ndarray, granules: int) -> Statistics:
    """With so many granules that keep something."""
    kept = kept.copy()
    kept[:, 128:] = granules == 2
    return Statistics(Counting().gather(PackedMask.from_dense(kept), dict))
