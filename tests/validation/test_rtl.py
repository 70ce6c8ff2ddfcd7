"""The arrays in RTL that runs, beside the models: needs Verilator and g++, builds once and keeps what it built."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studies.cli.main import main
from validation.rtl import toolchain
from validation.rtl.checking import Layer, check_model
from validation.rtl.compare import Pair, Tally, compare, compared
from validation.rtl.designs.join import Join
from validation.rtl.designs.known import DESIGNS, designs_of
from validation.rtl.designs.lanes import Lanes
from validation.rtl.designs.sigma import Sigma
from validation.rtl.designs.systolic import Systolic
from validation.rtl.figure import lanes_at_work, traced, write_figure
from validation.rtl.groups import KINDS, group_of, kept_of, random_groups
from validation.rtl.job import Harness
from validation.rtl.walking import walked, with_pipeline
from workloads.errors import UserError
from workloads.mask import PackedMask

needs_verilator = pytest.mark.skipif(toolchain.why_not() is not None, reason=str(toolchain.why_not()))
CASES = [(model, i) for model, made in DESIGNS.items() for i in range(len(made))]
OWN = f"{Path(__file__).parents[2]}/examples/own_accelerator/lane_skip.py:LaneSkip"
FILES = [("vitcod", 0), ("systolic", 0), ("systolic", 2), ("systolic", 3), ("stc", 0), ("sparten", 0), ("sparten", 3),
         ("eie", 0), ("sigma", 0), ("sigma", 2), ("bitwave", 0), ("stripes", 0), (OWN, 0)]  # fmt: skip
SHORT = (("vitcod", 0), ("systolic", 0))  # in every run of the tests; the rest is slow


@pytest.fixture(scope="module")
def harnesses():
    """The designs that tests drive in one process each."""
    running: dict[str, Harness] = {}

    def of(design):
        if str(design) not in running:
            running[str(design)] = Harness(design.program())
        return running[str(design)]

    yield of
    for harness in running.values():
        harness.process.communicate()


@needs_verilator
@pytest.mark.parametrize(("model", "i"), FILES)
def test_the_rtl_is_clean(model, i):
    design = designs_of(model)[i]
    assert toolchain.lint(design.file, design.name, design.parameters) == ""


@needs_verilator
@pytest.mark.parametrize(
    ("model", "i"), [pytest.param(*case, marks=() if case in SHORT else pytest.mark.slow) for case in CASES]
)
def test_every_difference_from_the_model_has_a_name(model, i):
    design = designs_of(model)[i]
    tally = compare(design, random_groups(160, *design.most, seed=2))
    assert tally.agrees, tally.first_wrong
    assert set(tally.kinds) == set(KINDS) or getattr(design, "choose", None)
    assert set(tally.named) <= set(design.constants)
    assert tally.rtl_cycles > 0


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize(("model", "i"), CASES)
def test_ten_thousand_groups(model, i):
    design = designs_of(model)[i]
    tally = compare(design, random_groups(10_000, *design.most, seed=3))
    assert tally.agrees, tally.first_wrong


@needs_verilator
def test_hypothesis_drives_the_lanes(harnesses):
    design = Lanes()

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def drive(data):
        rows, cols = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 150))
        bits = data.draw(st.binary(min_size=-(-rows * cols // 8), max_size=-(-rows * cols // 8)))
        kept = np.unpackbits(np.frombuffer(bits, np.uint8))[: rows * cols].reshape(rows, cols).astype(bool)
        group = group_of(kept, data.draw(st.integers(1, 4)), np.random.default_rng(0))
        tally = Tally()
        list(compared(design, [group], harnesses(design), tally))
        assert tally.agrees, tally.first_wrong

    drive()


@needs_verilator
@pytest.mark.parametrize("design", [Lanes(), Systolic()], ids=lambda design: design.name)
@pytest.mark.parametrize("double", [True, False])
def test_stalls_are_those_of_the_engine_but_for_the_pipeline(design, double, harnesses):
    groups = list(random_groups(10, 4 * design.most[0], 2 * design.most[1], design.most[2], seed=4))
    stalled = 0
    for beat_cycles in (1, 3, 9):
        walks = [design.walk(group) for group in groups]
        runs = harnesses(design).run(walks, beat_cycles=beat_cycles, double=double)
        for walk, ran in zip(walks, runs, strict=True):
            found = walked(walk, ran, design.pipeline, beat_cycles, double)
            assert found.rtl == found.drained
            assert 0 <= found.rtl - found.engine <= design.pipeline * sum(tile.sums > 0 for tile in walk)
            stalled += found.rtl > sum(tile.busy for tile in ran.tiles) + design.pipeline + walk[0].load_beats
    assert stalled


@pytest.mark.parametrize("double", [True, False])
def test_the_second_walk_is_the_engine_without_a_pipeline(double):
    from simulator.engine import once, run

    rng = np.random.default_rng(0)
    for _ in range(200):
        load, busy = rng.integers(1, 20, (2, rng.integers(1, 9)))
        store = rng.integers(1, 20, len(load)) * (rng.random(len(load)) < 0.5)
        assert with_pipeline(load, busy, store, 0, double) == run(once(load, busy, store), double)


@pytest.mark.slow
@needs_verilator
def test_one_mask_word_at_a_time_costs_what_each_word_rounds_up(harnesses):
    """A lane that sees one word of 64 columns at a time: ceil(kept of the word / height), summed over words."""
    design = Lanes(word_decode=True)
    rng = np.random.default_rng(1)
    kept = kept_of("random", (24, 128), rng)
    (run,) = harnesses(design).run([design.walk(group_of(kept, 1, rng))])
    words = -(-kept.reshape(24, 2, 64).sum(axis=2) // design.height)
    assert run.tiles[0].busy == words.sum(axis=1).reshape(3, 8).sum(axis=0).max()


@pytest.mark.slow
@needs_verilator
def test_a_zero_input_has_no_match(harnesses):
    """Units of sparten join masks of weights and inputs: max(1, matches) a chunk, the slowest unit counts."""
    design, rng = Join(skip_zero_inputs=True), np.random.default_rng(7)
    for density in (0.1, 0.5, 0.9):
        group = group_of(kept_of("random", (4, 128), rng), 2, rng)
        inputs = group.inputs * (rng.random(group.inputs.shape) < density).astype(np.int8)
        group = replace(group, inputs=inputs)
        (run,) = harnesses(design).run([design.walk(group)])
        matches = (group.kept & (inputs[:, None] != 0)).reshape(2, 4, 2, 64).sum(axis=3)
        assert sum(tile.busy for tile in run.tiles) == np.maximum(matches, 1).max(axis=1).sum()
        assert np.array_equal(design.sums(group, run), group.product)


@pytest.mark.slow
@needs_verilator
def test_ports_that_cannot_run_ahead_are_slower(harnesses):
    """sigma's bound of the ports holds where multipliers queue as many products as there are tokens."""
    groups = list(random_groups(40, *Sigma().most, seed=8))
    deep, shallow = (
        [run.tiles[0].busy for run in harnesses(design).run([design.walk(group) for group in groups])]
        for design in (Sigma(), Sigma(queue=1))
    )
    assert all(a <= b for a, b in zip(deep, shallow, strict=True))
    assert sum(deep) < sum(shallow)


@pytest.mark.slow
@needs_verilator
def test_rolled_loops_are_the_same_hardware():
    """Loops that the C++ keeps (toolchain.ROLLED) against loops unrolled by Verilator."""
    groups = list(random_groups(60, *Lanes().most, seed=9))
    found = []
    for rolled in (True, False):
        design = Lanes()
        design.rolled = rolled
        with Harness(design.program()) as harness:
            runs = harness.run([design.walk(group) for group in groups])
            found.append([(tile.busy, tile.macs, tile.sums.tolist()) for run in runs for tile in run.tiles])
    assert found[0] == found[1]


@pytest.mark.slow
@needs_verilator
def test_rtl_of_ones_own():
    (design,) = designs_of(OWN)
    tally = compare(design, random_groups(200, *design.most, seed=2))
    assert tally.agrees, tally.first_wrong


@needs_verilator
def test_a_wrong_model_is_seen(monkeypatch):
    design = Lanes()
    monkeypatch.setattr(Lanes, "model_cycles", lambda self, group: [1] * len(self.walk(group)))
    tally = compare(design, random_groups(8, *design.most, seed=5))
    assert not tally.agrees
    assert "RTL [" in tally.first_wrong


@needs_verilator
def test_wrong_sums_are_seen():
    design = Lanes()
    spoilt = [replace(g, weights=g.weights + (np.arange(g.mask.cols) == 0).astype(np.int8) * g.kept)
              for g in random_groups(3, 4, 4, 1, seed=6)]  # fmt: skip
    assert compare(design, spoilt).agrees  # other weights, other products
    tally = Tally()
    group = spoilt[2]
    tally.add(design, group, [Pair(1, 1, {})], group.product + 1, design.macs(group))
    assert tally.wrong_sums == 1


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(toolchain, "which", lambda name: None)
    monkeypatch.setattr(toolchain, "verilator_root", lambda: None)
    with pytest.raises(UserError, match="g\\+\\+, verilator not found"):
        Lanes().program()


def test_a_model_without_rtl_is_refused(capsys):
    with pytest.raises(UserError, match="has no design in RTL; vitcod"):
        list(check_model("dstc", []))
    with pytest.raises(UserError, match="unknown"):
        list(check_model("tpu-v9", []))
    with pytest.raises(SystemExit):
        main(["check", "vitcod", "--layers", "2"])
    assert "--rtl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--layers", "2"], "counts those of a bundle"),
        (["--group", "1"], "give that"),
        (["--waveform", "w.vcd", "--group", "-1"], "group"),
        (["--figure", "lanes.txt"], "is a picture (.svg, .png, .pdf), not lanes.txt"),
        (["--groups", "0"], "from 1 on"),
        (["--mask", "m.npy", "--groups", "5"], "counts random masks"),
    ],
)
def test_what_does_not_go_together_is_refused(asked, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["check", "vitcod", "--rtl", *asked])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@needs_verilator
def test_the_verb_checks_a_mask_and_writes_its_tiles(tmp_path, capsys):
    np.save(tmp_path / "mask.npy", np.random.default_rng(0).random((70, 200)) < 0.4)
    command = ["check", "bitwave", "--rtl", "--mask", str(tmp_path / "mask.npy"), "--out", str(tmp_path / "t.csv")]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "RTL and model agree" in said
    assert "mask.npy: columns (" in said
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(int(n) for n in re.findall(r"groups, (\d+) compared", said))


@needs_verilator
def test_the_figure_has_the_lanes_and_the_tiles(tmp_path):
    mask = PackedMask.from_dense(np.random.default_rng(0).random((64, 256)) < 0.4)
    design, group, ran = traced("vitcod", Layer("m", mask), 0)
    assert lanes_at_work(ran).sum() == sum(tile.active for tile in ran.tiles)
    assert [tile.busy for tile in ran.tiles] == design.model_cycles(group)
    write_figure("vitcod", Layer("m", mask), 0, tmp_path / "lanes.svg")
    assert "lanes at work" in (tmp_path / "lanes.svg").read_text()
    with pytest.raises(UserError, match="no group 1: it is cut into parts of 64 x 256"):
        traced("vitcod", Layer("m", mask), 1)


@pytest.mark.slow
@needs_verilator
def test_a_waveform_has_every_edge(tmp_path):
    mask = PackedMask.from_dense(np.random.default_rng(0).random((32, 128)) < 0.4)
    actives = lanes_at_work(traced("vitcod", Layer("m", mask), 0, tmp_path / "w.vcd")[2])
    text = (tmp_path / "w.vcd").read_text()
    assert "ev_active" in text
    assert actives.shape[1] == 8
    assert len(re.findall(r"^#", text, re.M)) == 2 * len(actives)
