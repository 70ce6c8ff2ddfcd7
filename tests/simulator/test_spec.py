"""Presets and --set overrides: what is accepted, what is refused, and in which words."""

import pytest

from simulator.accelerators import ACCELERATORS
from simulator.simulate import open_target
from simulator.spec import parse_override
from workloads import UserError


@pytest.mark.parametrize("name", ACCELERATORS)
def test_presets_load_and_hash(name):
    assert open_target(name).sha256 == open_target(name).sha256
    assert open_target(name, ["array.height=16"]).sha256 != open_target(name).sha256
    assert open_target(name, ["array.height=16"]).spec.array.height == 16


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("array.depth=3", "array.depth"),
        ("height=3", "height"),
        ("array.height=0", "array.height"),
        ("array.height=-4", "array.height"),
        ("array.height=2.5", "array.height"),
        ('array.height="16"', "array.height"),
        ("array.height=many", "array.height"),
        ("array=3", "array"),
        ("array.height", "key=value"),
        ("array.height=", "key=value"),
        ("clock.mhz=0", "clock.mhz"),
        ("clock.mhz=nan", "clock.mhz"),
        ("clock.mhz=inf", "clock.mhz"),
    ],
)
def test_bad_overrides_name_the_key(name, override, said):
    with pytest.raises(UserError, match=said.replace(".", r"\.")) as error:
        open_target(name, [override])
    assert "\n" not in str(error.value)


def test_unknown_accelerator_suggests():
    with pytest.raises(UserError, match="did you mean 'vitcod'"):
        open_target("vitcot")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.b=3", ("a.b", 3)), ("a=[1.0, 0.5]", ("a", [1.0, 0.5])), ("a=word", ("a", "word")), ("a=.5", ("a", 0.5)), ("a=2:4", ("a", "2:4")),
     ("a=true", ("a", True))],
)  # fmt: skip
def test_overrides_are_toml_values_or_words(text, expected):
    assert parse_override(text) == expected


def test_metadata_kinds_are_closed():
    with pytest.raises(UserError, match=r"engines\.metadata"):
        open_target("vitcod", ["engines.metadata=csr"])
