"""A setting is one line of PruneConfig: the command line, study files, Python and bundles take it from there."""

import dataclasses

import pytest

from checkpoints.checkpoint import Checkpoint
from pruning.config import CalibrationConfig, PruneConfig, flat, split_settings
from pruning.run.make_recipe import make_recipe
from studies.cli.settings import options
from studies.method_entry import MethodEntry, StudyMethod
from validation.conformance.tiny_models import save
from workloads.errors import UserError


@dataclasses.dataclass(frozen=True)
class Wider(PruneConfig):
    """With an eleventh setting."""

    temperature: float | None = dataclasses.field(default=None, metadata={"help": "A new one."})


def test_not_given_is_none_everywhere() -> None:
    for kind in (PruneConfig, CalibrationConfig, options(PruneConfig)):
        assert set(dataclasses.asdict(kind()).values()) == {None}


def test_the_command_line_and_python_take_every_setting_from_the_class() -> None:
    made, data = split_settings({"method": "wanda", "temperature": 2.0, "samples": 3}, Wider, CalibrationConfig)
    assert (made.method, made.temperature, data.samples) == ("wanda", 2.0, 3)
    assert options(Wider)(temperature=0.5, set=("alpha=2", "norm=l2")).set == {"alpha": 2, "norm": "l2"}
    with pytest.raises(UserError, match="unknown setting 'temprature'; did you mean 'temperature'"):
        split_settings({"temprature": 1}, Wider, CalibrationConfig)


def test_study_entries_have_every_setting_and_hand_each_on() -> None:
    names = {each.name for each in dataclasses.fields(PruneConfig)}
    assert names <= {each.name for each in dataclasses.fields(MethodEntry)}
    assert names <= {each.name for each in dataclasses.fields(StudyMethod)}
    given = dict(
        method="wanda", sparsity=0.5, rule="layer", set={"a": 1}, bits=4, group_size=8, quantizer="gptq",
        allocation="owl",
        only=("q",), skip=("o",), fallback="skip", seed=3,
    )  # fmt: skip
    (run,) = MethodEntry(**given).runs()
    assert {name: getattr(run, name) for name in given} == given


def test_a_bundle_records_a_setting_it_does_not_know(tmp_path) -> None:
    """Given, as it was given; not given, not at all: old headers stay as they are."""
    checkpoint = Checkpoint(save("llama", tmp_path))
    plain = make_recipe(PruneConfig("magnitude", 0.5)).header(checkpoint)
    assert make_recipe(Wider("magnitude", 0.5)).header(checkpoint) == plain
    for kind in (Wider, options(Wider)):
        header = make_recipe(kind(method="magnitude", sparsity=0.5, temperature=2.0)).header(checkpoint)
        assert header.parameters == plain.parameters | {"temperature": 2.0}


def test_settings_of_the_parts_are_told_apart() -> None:
    asked = PruneConfig("besa", set={"alpha": 2, "quantizer": {"order": "prune-first"}, "allocation.lam": 0.1})
    assert asked.set_of() == {"alpha": 2}
    assert asked.set_of("quantizer") == {"order": "prune-first"}
    assert asked.set_of("allocation") == {"lam": 0.1}
    with pytest.raises(UserError, match=r"`set` gives quantizer\.order twice"):
        flat({"quantizer": {"order": 1}, "quantizer.order": 2})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (PruneConfig(sparsity=0.5), "say how to prune: `method=wanda`"),
        (PruneConfig("wanda"), "say how much to prune: `sparsity=0.5`"),
        (PruneConfig("lowrank"), "say how much goes: `sparsity=0.5`, or a setting of lowrank"),
        (PruneConfig("wanda", 0.5, group_size=0), "`group_size` has no meaning without `bits`"),
        (PruneConfig("wanda", 0.5, set={"quantizer.order": "x"}), "`set` quantizer.KEY has no meaning without `bits`"),
        (
            PruneConfig("wanda", 0.5, set={"allocation.m": 3}),
            "`set` allocation.KEY has no meaning without `allocation`",
        ),
    ],
)
def test_what_is_missing_is_asked_for_in_pythons_words(asked: PruneConfig, said: str) -> None:
    with pytest.raises(UserError) as error:
        make_recipe(asked)
    assert said in str(error.value)
