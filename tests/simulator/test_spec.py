"""Presets and --set overrides: what is accepted, what is refused, and in which words."""

import pytest

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.named import open_accelerator
from simulator.accelerators.vitcod.cycle import Vitcod
from simulator.machine import Vector
from simulator.machine.spec import parse_override, spec_sha256
from workloads import UserError


@pytest.mark.parametrize("name", ACCELERATORS)
def test_presets_load_and_hash(name):
    assert open_accelerator(name).sha256 == open_accelerator(name).sha256
    assert open_accelerator(name, ["clock.mhz=16"]).sha256 != open_accelerator(name).sha256
    assert open_accelerator(name, ["clock.mhz=16"]).spec.clock.mhz == 16


def test_what_whole_models_alone_depend_on_is_no_part_of_a_layers_hash():
    plain = open_accelerator("vitcod")
    for key in ("vector.lanes=7", "vector.mhz=800", "memory.capacity_gib=16", "link.latency_us=3"):
        other = open_accelerator("vitcod", [key])
        assert other.sha256 == plain.sha256
        assert spec_sha256("vitcod", other.spec, of_models=True) != spec_sha256("vitcod", plain.spec, of_models=True)
    assert Vitcod(vector=Vector(lanes=7)).spec == open_accelerator("vitcod", ["vector.lanes=7"]).spec


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("clock.depth=3", "clock.depth"),
        ("mhz=3", "mhz"),
        ("clock.mhz=0", "clock.mhz"),
        ("clock.mhz=-4", "clock.mhz"),
        ('clock.mhz="16"', "clock.mhz"),
        ("clock.mhz=many", "clock.mhz"),
        ("clock.mhz=nan", "clock.mhz"),
        ("clock.mhz=inf", "clock.mhz"),
        ("clock=3", "clock"),
        ("clock.mhz", "key=value"),
        ("clock.mhz=", "key=value"),
    ],
)
def test_bad_overrides_name_the_key(name, override, said):
    assert_refused(name, override, said)


@pytest.mark.parametrize("name", ["vitcod-paper", "vitcod"])
@pytest.mark.parametrize("value", ["0", "-4", "2.5", '"16"', "many", "65537"])
def test_sides_of_the_array_are_whole_numbers(name, value):
    assert_refused(name, f"array.height={value}", "array.height")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("engines.metadata=csr", "engines.metadata"),
        ("engines.dense_thresholds=[]", "engines.dense_thresholds"),
        ("engines.dense_thresholds=[0.0]", "engines.dense_thresholds"),
        ("buffers.weight_kib=0", "buffers.weight_kib"),
        ("buffers.weight_bytes_per_cycle=-1", "buffers.weight_bytes_per_cycle"),
        ("buffers.ports=3", "buffers.ports"),
        ("buffers.double=2", "buffers.double"),
        ("dram.efficiency=1.1", "dram.efficiency"),
        ("dram.device=DDR9", "dram.device"),
        ("number.weight_bits=65", "number.weight_bits"),
        ("mapping.tile_rows=-64", "mapping.tile_rows"),
        ("mapping.order=columns", "mapping.order"),
        ("vector.lanes=-1", "vector.lanes"),
        ("link.bandwidth_gbps=0", "link.bandwidth_gbps"),
        ("memory.capacity_gib=-2", "memory.capacity_gib"),
    ],
)
def test_values_of_a_cycle_model_have_ranges(override, said):
    assert_refused("vitcod", override, said)


def assert_refused(name, override, said):
    with pytest.raises(UserError, match=said.replace(".", r"\.")) as error:
        open_accelerator(name, [override])
    assert "\n" not in str(error.value)


def test_unknown_accelerator_suggests():
    with pytest.raises(UserError, match="did you mean 'vitcod'"):
        open_accelerator("vitcot")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.b=3", ("a.b", 3)), ("a=[1.0, 0.5]", ("a", [1.0, 0.5])), ("a=word", ("a", "word")), ("a=.5", ("a", 0.5)),
    ("a=2:4", ("a", "2:4")),
     ("a=true", ("a", True))],
)  # fmt: skip
def test_overrides_are_toml_values_or_words(text, expected):
    assert parse_override(text) == expected
