"""What goes of each block for a speed: costs are those of the smaller model, errors those of obs-sp's sweeps."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from checkpoints.checkpoint import Checkpoint
from checkpoints.decoders import decoder_of
from checkpoints.prunable import all_refs
from pruning.data.calibration import Calibration
from pruning.evaluation.against_dense import against_dense
from pruning.methods.structured.given import CountedObsSp, GivenBlocks
from pruning.run.driver import prune
from pruning.run.structure_errors import StructureErrors, structure_errors
from simulator.inference.steps import times_of
from studies.speed.costs import Machine
from studies.speed.structures import Structure, Structures, counts_of
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import quiet, save, token_ids
from workloads.bundle import MaskBundle
from workloads.choices import UNTOUCHED, choices_of
from workloads.decoder.bundled import bundled
from workloads.decoder.narrowed import narrowed, neurons_of
from workloads.errors import UserError
from workloads.phases import decode
from workloads.removal import KV_GROUP, NEURON

UNITS = frozenset({KV_GROUP, NEURON})


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"), shard_size="30KB")


@pytest.fixture(scope="module")
def errors(llama: Path) -> StructureErrors:
    return structure_errors(partial(Checkpoint, llama), Calibration(token_ids(5, 12), "test"), UNITS, quiet)


def smaller(llama: Path, folder: Path, method, sparsity: float) -> MaskBundle:
    made = replace(recipe("obs-sp", sparsity), method=method)
    return prune(Checkpoint(llama), made, folder, quiet, quiet)


def test_errors_fall_with_what_is_kept_and_half_is_what_it_does_alone(llama: Path, errors, tmp_path: Path) -> None:
    assert {group.kind for group in errors.groups} == UNITS
    for group in errors.groups:
        assert group.errors[-1] == 0
        assert (np.diff(group.errors) <= 1e-9 + 1e-3 * group.errors[:-1]).all()
    last = max(group.block for group in errors.groups)  # what the blocks before it produce is the dense model's
    for kind in (KV_GROUP, NEURON):
        group = errors.group(kind, last)
        half = group.count // 2
        bundle = smaller(llama, tmp_path / kind, CountedObsSp(counts={group.key: half}), 0.01)
        apart = against_dense(Checkpoint(llama), token_ids(5, 12), bundle, quiet).kl
        assert group.errors[half] == pytest.approx(apart, rel=0.02)
    bundle = smaller(llama, tmp_path / "gone", GivenBlocks(blocks=(0,)), 0.0)
    assert bundle.removal.blocks == {0}
    apart = against_dense(Checkpoint(llama), token_ids(5, 12), bundle, quiet).kl
    assert errors.gone[0] == pytest.approx(apart, rel=1e-3)


def test_a_narrowed_block_is_that_of_a_bundle(llama: Path, errors, tmp_path: Path) -> None:
    decoder = decoder_of(Checkpoint(llama).config.to_dict())
    counts = {}
    for group in errors.groups:
        if group.block == 1:
            counts[group.key] = group.count // 2
    bundle = smaller(llama, tmp_path / "masks", CountedObsSp(counts=counts), 0.2)
    left = bundled(decoder, bundle)
    block = decoder.blocks[1]
    small = narrowed(block, kv_groups=block.attention.kv_heads // 2, neurons=neurons_of(block) // 2)
    assert small == left.blocks[1]
    assert left.blocks[0] == block
    assert narrowed(block, block.attention.kv_heads, neurons_of(block)) == block


def structures(llama: Path, errors: StructureErrors, masks, mask_errors=None, kinds=UNITS) -> Structures:
    decoder = decoder_of(Checkpoint(llama).config.to_dict())
    names = [ref.layer.name for block in all_refs(Checkpoint(llama)) for ref in block]
    none = {name: np.zeros(len(masks)) for name in names}
    return Structures(decoder, Machine.open("vitcod"), decode(1, 16), kinds, masks, errors, mask_errors or none, quiet)


def test_the_plan_is_as_fast_as_asked_and_the_cheapest_of_all(llama: Path, errors, tmp_path: Path) -> None:
    """Without masks: by running each smaller model whole, all plans there are being too many the uniform ones."""
    made = structures(llama, errors, [UNTOUCHED])
    machine, decoder, phase = made.machine, made.decoder, made.phase

    def us(one) -> float:
        return times_of(machine.runner, one, phase, machine.numbers, machine.stack).us()

    def of(structure: Structure):
        blocks = []
        for number, block in zip(decoder.numbers, decoder.blocks, strict=True):
            left = {}
            for kind, name in ((KV_GROUP, "kv_groups"), (NEURON, "neurons")):
                group = errors.group(kind, number)
                left[name] = structure.kept.get(group.key, group.count)
            blocks.append(narrowed(block, **left))
        return replace(decoder, blocks=tuple(blocks))

    def error(structure: Structure) -> float:
        return sum(float(g.errors[structure.kept.get(g.key, g.count)]) for g in errors.groups)

    for speedup in (1.02, 1.08):
        found = made.plan(speedup, with_blocks=False)
        assert not found.gone
        assert us(decoder) / us(of(found)) >= speedup * (1 - 1e-6)
        for n in range(len(counts_of(errors.groups[0]))):
            for m in range(len(counts_of(errors.groups[1]))):
                kept = {g.key: counts_of(g)[n if g.kind == errors.groups[0].kind else m] for g in errors.groups}
                even = Structure(kept, (), 0.0)
                if us(decoder) / us(of(even)) >= speedup:
                    assert error(found) <= error(even) + 1e-9
    assert made.plan(1.0, with_blocks=True).takes_nothing
    with pytest.raises(UserError, match="more than structures and masks give together"):
        made.plan(1e6, with_blocks=False)


def test_masks_without_error_leave_the_structure_alone(llama: Path, errors) -> None:
    masks = choices_of(["unstructured"], levels=3)
    assert structures(llama, errors, masks).plan(1.05, with_blocks=True).takes_nothing
    dear = {name: np.array([0.0, 1e6, 1e6]) for name in structures(llama, errors, masks).mask_errors}
    assert not structures(llama, errors, masks, dear).plan(1.05, with_blocks=True).takes_nothing


def test_only_what_may_go_goes_and_a_block_that_adds_nothing_goes_first(llama: Path, errors) -> None:
    found = structures(llama, errors, [UNTOUCHED], kinds=frozenset({NEURON})).plan(1.05, with_blocks=False)
    kinds = {group.kind for group in errors.groups if group.key in found.kept}
    assert kinds == {NEURON}
    free = StructureErrors(errors.groups, dict.fromkeys(errors.gone, 1e9) | {1: 0.0})
    assert structures(llama, free, [UNTOUCHED]).plan(1.05, with_blocks=True).gone == (1,)
