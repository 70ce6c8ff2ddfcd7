"""The hint that FFNs could keep more neurons: a machine that takes 16 at once by hand, and a systolic array of 32."""

import math
from functools import partial

import numpy as np
import pytest

from simulator.simulate import rows_on
from simulator.targets import find_target
from studies.cli.main import main
from studies.multiples import Ffn, Matrix, best_multiple, multiples_notes
from workloads.bundle import BundleHeader
from workloads.bundle_writer import BundleWriter
from workloads.conditions import Conditions
from workloads.facts import linear_facts
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.operations import Linear, Weights
from workloads.patterns import SMALLER
from workloads.removal import Cut, Removal
from workloads.rows import to_frame

HIDDEN = 64
BLOCKS_OF_32 = ["array.rows=32", "array.cols=32", "array.count=1", "dram.bandwidth_gbps=100000"]


class Sixteens:
    """Takes ceil(rows / 16) ceil(cols / 16) us; more than `most` rows or columns it cannot run."""

    name, settings, source, level, sha256, key = "sixteens", "", "simulated", "paper", "", ()
    executes, columns, table, notes, untraceable = (Linear,), (), (), (), "a formula"

    def __init__(self, most=10**6):
        self.most = most

    def check(self, conditions):
        pass

    def supports(self, operation):
        return None

    def rows(self, header, operation, conditions, gathered):
        sides = operation.out_features, operation.in_features
        facts = {**linear_facts(header, operation), "target": self.name, "settings": "", "source": self.source}
        facts |= {"tokens": conditions.tokens, "activation_density": 1.0, "level": self.level}
        if max(sides) > self.most:
            return [{**facts, "feasible": False, "reason": "too large"}]
        time = float(math.prod(-(-side // 16) for side in sides))
        return [{**facts, "feasible": True, "reason": "", "latency_us": time, "dense_latency_us": time}]


def ffn(width, unpruned=128):
    matrices = (Matrix(True, HIDDEN, 1, None), Matrix(True, HIDDEN, 1, None), Matrix(False, HIDDEN, 1, None))
    return Ffn(unpruned, width, matrices)


def sixteens(rows, cols, bits):
    return float(-(-rows // 16) * -(-cols // 16))


def cut_layers(*widths, unpruned=128):
    """up and down of a block for each width."""
    for block, width in enumerate(widths):
        for role, shape, before in (
            ("up", (width, HIDDEN), (unpruned, HIDDEN)),
            ("down", (HIDDEN, width), (HIDDEN, unpruned)),
        ):
            mask = partial(PackedMask.dense, *shape)
            weights = Weights(SMALLER, math.prod(shape), f"dense {shape}", mask)
            yield Linear(f"{block}.{role}", role, block, *shape, weights, before if before != shape else None)


def sides_of(layer):
    """Before and after."""
    return layer.unpruned, (layer.out_features, layer.in_features)


def frame_of(target, layers, tokens=1):
    header = BundleHeader("m", "cfsp", pattern=SMALLER)
    return to_frame(list(rows_on([target], header, layers, Conditions(tokens))))


def test_the_multiple_that_a_machine_takes_at_once_is_found():
    # 8 is free too but keeps 40 of 33; 32 keeps 64, and takes 4 steps instead of 3.
    assert best_multiple({ffn(33): 1}, sixteens) == 16
    assert best_multiple({ffn(33): 1, ffn(17): 3}, sixteens) == 16
    assert best_multiple({ffn(49): 1}, sixteens) == 16  # of 16, 32 and 64, which all make it 64, the smallest
    assert best_multiple({ffn(33): 1, ffn(50): 1}, sixteens, [8, 32]) == 8


def test_nothing_is_said_where_nothing_is_gained():
    assert best_multiple({ffn(48): 1, ffn(128): 1}, sixteens) is None  # already multiples, or whole
    assert best_multiple({ffn(33): 1}, lambda rows, cols, bits: rows * cols / 7) is None
    assert best_multiple({ffn(33): 1}, lambda rows, cols, bits: None) is None
    assert best_multiple({ffn(1023, 4096): 1}, sixteens) is None  # 0.1 % more
    assert best_multiple({}, sixteens) is None
    # A wider one that costs 0.4 % is as fast; where its width grows by 2 % alone, that is a fifth of the growth.
    slower = {33: 1.0, 40: 1.004, 490: 1.0, 500: 1.004}
    timed = lambda rows, cols, bits: slower.get(rows if cols == HIDDEN else cols)  # noqa: E731
    assert best_multiple({ffn(33): 1}, timed, [8]) == 8
    assert best_multiple({ffn(490, 500): 1}, timed, [100]) is None


def test_a_width_never_grows_beyond_the_unpruned_one():
    assert ffn(33, 40).rounded(16) == 40
    assert best_multiple({ffn(5, 7): 1}, sixteens) is None  # 7 neurons hold no multiple of 8


def test_a_line_says_what_rows_of_a_target_would_gain():
    target = Sixteens()
    frame = frame_of(target, cut_layers(33, 48, 128))
    assert multiples_notes(frame, [target]) == [
        "sixteens, tokens 1: FFN widths that are multiples of 16 would run as fast as these (1 of 2 FFNs would keep up "
        "to 45 % more neurons for nothing); give `multiple_of=16` when pruning."
    ]
    assert multiples_notes(frame, [target, target]) == []  # several designs of one name
    assert multiples_notes(frame, []) == []
    assert multiples_notes(frame.assign(layer_pattern="2:4"), [target]) == []
    assert multiples_notes(frame.assign(role="q"), [target]) == []  # kv groups have no multiples
    assert multiples_notes(frame.assign(feasible=False), [target]) == []
    assert multiples_notes(frame, [Sixteens(most=HIDDEN - 1)]) == []


@pytest.mark.parametrize(("width", "said"), [(33, True), (64, False)])
def test_an_array_of_32_suggests_32(width, said):
    target = find_target("systolic", BLOCKS_OF_32)
    notes = multiples_notes(frame_of(target, cut_layers(width), tokens=4), [target])
    assert [("`multiple_of=32`" in note, "multiples of 32" in note) for note in notes] == [(True, True)] * said


def test_the_command_line_says_it_as_prune_takes_it(tmp_path, capsys):
    writer = BundleWriter(tmp_path / "b", BundleHeader("m", "cfsp", pattern=SMALLER))
    layers = list(cut_layers(33))
    kept = {
        layer.name: [np.arange(most) < left for most, left in zip(*sides_of(layer), strict=True)] for layer in layers
    }
    writer.remove(Removal(cuts={name: Cut(*sides) for name, sides in kept.items()}))
    for layer in layers:
        whole, own = (Layer(layer.name, layer.role, layer.block, *shape) for shape in sides_of(layer))
        writer.add(own, PackedMask.dense(*own.shape), SMALLER, unpruned=whole)
    writer.finish()
    sets = [each for key in BLOCKS_OF_32 for each in ("--set", key)]
    with pytest.raises(SystemExit) as end:
        main(["simulate", str(tmp_path / "b"), "--on", "systolic", "--tokens", "4", *sets])
    assert not end.value.code
    assert "note: systolic, tokens 4: FFN widths" in (said := capsys.readouterr().err)
    assert "; give --multiple-of 32 when pruning.\n" in said
