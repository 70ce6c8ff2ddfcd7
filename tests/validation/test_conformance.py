"""Planted faults: each breaks the law that is there for it, which says what, where and the numbers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from prunesim import check
from prunesim.machines import Accelerator, Infeasible
from prunesim.methods import Decision, PruningMethod
from simulator.accelerators.named import find_accelerator
from studies.cli.main import main
from validation.conformance import accelerators, methods
from validation.conformance.design import design_of
from validation.conformance.laws import Law, Result, hold, hold_all
from validation.conformance.trial import subject_of
from validation.twins.twin import Twin
from workloads.errors import UserError
from workloads.refusals import Refusal

FOLDER = Path(__file__).parents[2] / "examples" / "own_accelerator"
LaneSkip = find_accelerator(f"{FOLDER / 'lane_skip.py'}:LaneSkip")


class Faulty(LaneSkip):
    name = "faulty"
    preset = FOLDER / "lane-skip.toml"


def changed(**more):
    """A design whose figures are another function of the true ones."""

    class Changed(Faulty):
        def layer(self, work, statistics):
            found = super().layer(work, statistics)
            return dataclasses.replace(found, **{name: value(found, work, self.spec) for name, value in more.items()})

    return Changed


class LeavesOutDepth(Faulty):
    def geometry(self):
        return [self.spec.array.lanes]


class RefusesWithoutReason(Faulty):
    def layer(self, work, statistics):
        if self.spec.buffers.weight_kib < 1:
            raise Infeasible(Refusal("the buffer", 5, 3, "B", "buy a larger one", "it"))
        return super().layer(work, statistics)


class Raises(Faulty):
    def layer(self, work, statistics):
        raise ZeroDivisionError("division by zero")


class NotTheSameTwice(Faulty):
    drawn = np.random.default_rng(0)

    def layer(self, work, statistics):
        found = super().layer(work, statistics)
        return dataclasses.replace(found, stall_cycles=found.stall_cycles + int(self.drawn.integers(1000)))


class SaysNothing(Faulty):
    notes = ("no sentence",)


def wrong_twin(spec, weights, kept, inputs):
    return 7


class OtherTwin(Faulty):
    twin = wrong_twin


SLOWER = changed(compute_cycles=lambda found, work, spec: found.compute_cycles + 1)
FAULTS = [
    (SLOWER, "the twin agrees", "of the twin"),
    (SLOWER, "parts sum to the whole", "its stream of tiles"),
    (changed(scale_bytes=lambda found, work, spec: 5), "parts sum to the whole", "8 x bytes"),
    (changed(stall_cycles=lambda found, work, spec: -1), "parts sum to the whole", "stall_cycles = -1"),
    (changed(buffer_cycles=lambda f, w, s: f.stall_cycles + 1), "parts sum to the whole", "buffer cycles"),
    (changed(compute_cycles=lambda f, work, s: work.rows * work.cols * 9 - work.nnz), "more zeros", "with"),
    (changed(stall_cycles=lambda f, w, spec: int(spec.dram.channels * 1000)), "more bandwidth", "dram.channels"),
    (changed(stall_cycles=lambda f, w, spec: int(spec.buffers.output_kib * 9999)), "larger buffers", "output_kib"),
    (changed(compute_cycles=lambda f, w, s: f.compute_cycles // 2), "full mask is the baseline", ""),
    (LeavesOutDepth, "geometry says all", "array.depth"),
    (RefusesWithoutReason, "refusals say the way out", "names no key"),
    (Raises, "every mask runs", "raises ZeroDivisionError: division by zero"),
    (NotTheSameTwice, "the same again", "a second evaluation"),
    (SaysNothing, "notes are sentences", "no sentence"),
    (OtherTwin, "the twin agrees", "of the twin 7"),
]  # fmt: skip


def law_of(laws: tuple[Law, ...], name: str) -> Law:
    return next(law for law in laws if law.name == name)


@pytest.mark.parametrize(("design", "law", "said"), FAULTS, ids=[f"{fault[1]}-{i}" for i, fault in enumerate(FAULTS)])
def test_a_fault_breaks_its_law(design, law, said):
    if law == "full mask is the baseline":
        design.evaluate = lambda self, work, statistics: dataclasses.replace(
            LaneSkip.evaluate(Faulty(), work, statistics), sparse=self.layer(work, statistics)
        )
    found = hold(law_of(accelerators.LAWS, law), design_of(design))
    assert found.failed, found
    assert said in found.detail


def test_a_law_that_is_not_promised_is_not_held_and_says_why():
    design = design_of(SLOWER)
    found = {each.law: each for each in hold_all(accelerators.LAWS[5:6], design, {"the twin agrees": "it drains"})}
    assert found["the twin agrees"] == Result("the twin agrees", "not promised", "it drains")


def test_a_promise_taken_back_must_name_a_law():
    (found,) = hold_all((), design_of(Faulty), {"more zeroes": "a typing error"})
    assert found.failed
    assert "names no law" in found.detail


def test_what_a_class_takes_back_counts_beside_what_its_twin_does():
    class Takes(Faulty):
        twin = Twin(wrong_twin, not_promised={"more zeros": "one"})
        not_promised = {"more bandwidth": "two"}  # noqa: RUF012

    assert design_of(Takes).not_promised == {"more zeros": "one", "more bandwidth": "two"}


def test_an_object_is_checked_with_its_settings():
    design = design_of(Faulty("array.lanes=3"))
    assert design.machine("clock.mhz=7").spec.array.lanes == 3


# Methods.


@dataclasses.dataclass(frozen=True)
class Random(PruningMethod):
    name = "random"

    def score(self, weight, evidence):
        return torch.rand_like(weight)


@dataclasses.dataclass(frozen=True)
class OneMore(PruningMethod):
    name = "one-more"

    def score(self, weight, evidence):
        return weight.abs()

    def decide(self, job):
        made = super().decide(job)
        for decision in made.values():
            decision.keep[0, decision.keep[0].nonzero()[0]] = False
        return made


@dataclasses.dataclass(frozen=True)
class LeavesHooks(PruningMethod):
    name = "leaves-hooks"

    def decide(self, job):
        job.block.register_forward_hook(lambda *_: None)
        return {ref.layer.name: Decision(job.choose(ref, job.weight(ref).abs())) for ref in job.refs}


@pytest.mark.parametrize(
    ("method", "law", "said"),
    [
        (Random, "the same again", "writes another"),
        (OneMore, "counts are exact", "due"),
        (OneMore, "sparsity 0 prunes nothing", "pruned at sparsity 0"),
        (LeavesHooks, "leaves the model alone", "hooks"),
    ],
)
def test_a_fault_of_a_method_breaks_its_law(method, law, said):
    found = hold(law_of(methods.LAWS, law), subject_of(method))
    assert found.failed, found
    assert said in found.detail


# The verb and the function.


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_chip.py"
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(FOLDER)!r})\n"
        "from lane_skip import LaneSkip\nfrom pathlib import Path\n"
        "class Chip(LaneSkip):\n"
        '    "Skips."\n'
        '    name = "chip"\n'
        f"    preset = Path({str(FOLDER)!r}) / 'lane-skip.toml'\n"
        "    notes = ('no sentence',)\n"
        "class Other:\n    pass\n"
    )
    return path


def test_the_verb_prints_a_line_a_law_and_fails_where_one_is_broken(file, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["check", f"{file}:Chip"])
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 1
    assert len(lines) == len(accelerators.LAWS) + 1
    assert sum(line.startswith("FAILED") for line in lines) == 1
    assert "a note is no sentence: 'no sentence'" in next(line for line in lines if line.startswith("FAILED"))
    assert "1 FAILED" in lines[-1]


@pytest.mark.parametrize(
    ("what", "said"),
    [("", "say what to check"), ("a100-sxm", "have no laws"), ("vitcot", "vitcod"), ("no/bundle", "no such folder")],
)
def test_what_cannot_be_checked_is_one_line(what, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["check", what] if what else ["check"])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_class_of_neither_kind_is_refused(file, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["check", f"{file}:Other"])
    assert ended.value.code == 2
    assert "no Accelerator" in capsys.readouterr().err
    with pytest.raises(UserError, match="no Accelerator"):
        check(Accelerator.__base__)


def test_the_function_gives_results_that_show_themselves():
    found = check(Faulty)
    assert found.passed
    assert repr(found).splitlines()[0] == str(found[0])
