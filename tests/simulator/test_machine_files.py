"""Machines in TOML files: what they are based on, and only what differs."""

import dataclasses

import pytest

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.named import open_accelerator
from simulator.gpu.named import find_gpu, is_gpu
from simulator.gpu.spec import GPUS
from simulator.machine.files import keys_of, toml_text
from simulator.machine.spec import flat, preset_values
from studies.cli.machines import toml_of
from workloads.errors import UserError
from workloads.parsing import parse_toml


def write(folder, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_only_what_differs_is_stated(tmp_path):
    made = open_accelerator(write(tmp_path, "mine.toml", 'base = "sparten"\n[array]\nclusters = 16\n'))
    ours = open_accelerator("sparten")
    assert made.name == "mine"
    assert made.settings == ""
    assert made.spec == dataclasses.replace(ours.spec, array=dataclasses.replace(ours.spec.array, clusters=16))
    assert made.sha256 != ours.sha256


def test_later_files_win(tmp_path):
    write(tmp_path, "one.toml", '[clock]\nmhz = 100\n[array]\nclusters = 2\n[dram]\ndevice = "HBM2"\n')
    write(tmp_path, "two.toml", "[clock]\nmhz = 200\n")
    made = open_accelerator(
        write(
            tmp_path, "both.toml", 'base = ["sparten", "one.toml", "two.toml"]\nname = "named"\n[dram]\nchannels = 3\n'
        ),
        ["dram.channels=5"],
    )
    assert (made.name, made.settings) == ("named", "dram.channels=5")
    assert (made.spec.clock.mhz, made.spec.array.clusters, made.spec.dram.channels) == (200, 2, 5)


def test_a_file_may_be_based_on_a_file(tmp_path):
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", "one.toml", 'base = "tpu-v4"\n[clock]\nmhz = 100\n')
    made = open_accelerator(write(tmp_path, "two.toml", 'base = "below/one.toml"\n'))
    assert made.spec == open_accelerator("tpu-v4", ["clock.mhz=100"]).spec


def test_a_file_may_be_based_on_a_class_or_a_design_of_a_file(tmp_path):
    write(
        tmp_path,
        "chips.py",
        "from simulator.accelerators.vitcod.cycle import Vitcod\nfrom simulator.machine.parts import Array\n"
        "small = Vitcod(array=Array(16, 8))\n"
        "class Mine(Vitcod):\n    name = 'mine'\n    preset = 'vitcod'\n",
    )
    small = open_accelerator(write(tmp_path, "s.toml", 'base = "chips.py:small"\n[clock]\nmhz = 9\n'))
    assert (small.spec.array.height, small.spec.clock.mhz) == (8, 9)
    mine = open_accelerator(write(tmp_path, "m.toml", 'base = "chips.py:Mine"\n'))
    assert (type(mine).__name__, mine.name) == ("Mine", "m")
    design = open_accelerator(f"{tmp_path}/chips.py:small", ["array.height=4"])
    assert (design.spec.array.height, design.settings) == (4, "array.width=16 array.height=4")


def test_the_source_of_a_foreign_class_is_in_the_hash(tmp_path):
    text = "from simulator.accelerators.vitcod.cycle import Vitcod\nclass Mine(Vitcod):\n"
    text += "    name = 'vitcod2'\n    preset = 'vitcod'\n"
    one = open_accelerator(write(tmp_path, "chip.py", text) + ":Mine")
    other = open_accelerator(write(tmp_path, "chip.py", text + "# other\n") + ":Mine")
    assert one.spec == other.spec
    assert one.sha256 != other.sha256
    write(tmp_path, "elsewhere.py", text)
    assert one.source_sha256
    assert open_accelerator(write(tmp_path, "chip.py", text) + ":Mine").sha256 == one.sha256


DRAM = {
    "device": '[dram]\ndevice = "HBM2"\n',
    "bandwidth": "[dram]\nbandwidth_gbps = 99\n",
    "efficiency": "[dram]\nefficiency = 0.123\n",
    "channels": "[dram]\nchannels = 3\n",
    "energy": '[energy]\ndram = "HBM3"\n',
}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["device", "bandwidth"], "bandwidth.toml: dram.bandwidth_gbps has no effect beside dram.device = HBM2"),
        (["device", "efficiency"], "efficiency.toml: dram.efficiency has no effect beside dram.device = HBM2"),
        (["device", "energy"], "energy.toml: energy.dram has no effect beside dram.device = HBM2"),
        (["channels"], "channels.toml: dram.channels has no effect beside dram.device = generic"),
        (["channels", "device"], "channels.toml: dram.channels has no effect"),
        (["device", "channels"], ""),
        (["bandwidth", "efficiency", "energy", "device"], ""),
    ],
)
def test_a_file_says_nothing_of_a_dram_that_is_not_there(tmp_path, files, said):
    for name in files:
        write(tmp_path, f"{name}.toml", DRAM[name])
    both = write(tmp_path, "both.toml", f"base = {['sparten', *(f'{name}.toml' for name in files)]}\n")
    if said:
        with pytest.raises(UserError) as refused:
            open_accelerator(both)
        assert said in str(refused.value)
        return
    made = open_accelerator(both)
    assert made.spec.dram.device == "HBM2"
    shown = write(tmp_path, "shown.toml", toml_of(both).replace('"both"', '"shown"'))
    again = open_accelerator(shown)  # what `show --toml` prints can be read again
    assert (again.spec.dram.device, again.spec.dram.channels) == ("HBM2", made.spec.dram.channels)
    assert again.spec.array == made.spec.array


def test_a_whole_preset_over_itself_says_nothing_new(tmp_path):
    assert open_accelerator(write(tmp_path, "all.toml", toml_of("sparten"))).spec == open_accelerator("sparten").spec


def test_gpus_too(tmp_path):
    file = write(tmp_path, "card.toml", 'base = "h100-sxm"\n[power]\nlimit_w = 350\n')
    assert is_gpu(file)
    label, spec = find_gpu(file)
    assert (label, spec.power.limit_w) == ("card", 350)
    assert "of the preset, which power.limit_w=350 changed: no data covers that" in spec.fp16.error.basis
    assert not is_gpu(write(tmp_path, "chip.toml", 'base = "vitcod"\n'))


def test_a_gpu_restated_is_ours(tmp_path):
    assert find_gpu(write(tmp_path, "h200.toml", 'base = "h200"\n')) == find_gpu("h200")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('base = "sparten"\n[array]\nclusterz = 1\n', "unknown key 'array.clusterz'; did you mean 'array.clusters'?"),
        ('base = "sparten"\nclock = 3\n', "clock = 3: expected a section of keys, [clock]"),
        ('base = "sparten"\n[array]\nclusters = "many"\n', "array.clusters = 'many'"),
        ('base = "spartan"\n', "/bad.toml: `base`: unknown accelerator 'spartan'; did you mean 'sparten'?"),
        ('base = "sparten"\nname = "a/b"\n', "/bad.toml: name = 'a/b': a name has up to 100 printable"),
        ("[array]\nclusters = 1\n", "`base` is missing"),
        ('title = "t"\n[[models]]\npath = "m"\n', "[[models]] is of a study, not of a machine"),
        ("base = 3\n", "base = 3: expected a name or a list of names"),
        ('base = "sparten"\nname = 3\n', "name = 3: expected a text"),
        ('base = ["sparten", "vitcod"]\n', "`base` mixes machines of different kinds; vitcod"),
        ('base = "bad.toml"\n', "is based on itself"),
        ('base = "nowhere.toml"\n', "No such file"),
        ("base =\n", "is not a readable TOML file"),
    ],
)
def test_each_mistake_is_named(tmp_path, text, said):
    with pytest.raises(UserError) as refused:
        open_accelerator(write(tmp_path, "bad.toml", text))
    assert said in str(refused.value)


def test_another_machine_may_not_pass_for_one_of_ours(tmp_path):
    file = write(tmp_path, "sparten.toml", 'base = "sparten"\n[array]\nclusters = 1\n')
    with pytest.raises(UserError, match="another 'sparten' than ours"):
        open_accelerator(file)
    (tmp_path / "sparten.toml").write_text('base = "sparten"\n')
    assert open_accelerator(file, ["clock.mhz=1"]).sha256 == open_accelerator("sparten", ["clock.mhz=1"]).sha256


@pytest.mark.parametrize("name", [*ACCELERATORS, *GPUS])
def test_values_come_back_from_toml(name):
    values = preset_values(name)
    assert parse_toml(toml_text(values)) == values


def test_texts_come_back_from_toml():
    values = {"a": 'quoted "\\ and \t tab', "b": {"c": [1, 2.5, True, "ü\U0001f600"], "d": {"e": 1e-6}}}
    assert parse_toml(toml_text(values)) == values


@pytest.mark.parametrize("name", ACCELERATORS)
def test_every_key_of_a_preset_is_a_key_of_its_type(name):
    assert set(flat(preset_values(name))) <= set(keys_of(ACCELERATORS[name].spec_type))
