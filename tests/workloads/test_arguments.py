"""Arguments of a wrong type are one line; numpy's numbers and arrays are as good as Python's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from workloads.arguments import hold_fields, taken, typed
from workloads.errors import UserError
from workloads.mask import PackedMask

MASK = PackedMask.dense(2, 2)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 5),
        (float, 1),
        (str | Path, Path("x")),
        (PackedMask | str, MASK),
        (int | None, None),
        (Sequence[str], ("a", "b")),
        (str | tuple[str, ...], ["a", "b"]),
        (Sequence[tuple[int, int, int]], [[1, 2, 3]]),
        (Mapping[str, Any], {"a": {"b": [1, 2]}}),
        (Literal["full", "lora"] | None, "lora"),
    ],
)
def test_what_fits_stays_as_it_is(annotation, value):
    assert taken("x", annotation, value) == value


@pytest.mark.parametrize(
    ("annotation", "value", "same"),
    [
        (int, np.int64(5), 5),
        (float, np.float32(0.5), 0.5),
        (Sequence[int], np.array([1, 2]), [1, 2]),
        (Sequence[int], range(3), [0, 1, 2]),
        (Mapping[str, Any], {"a": np.array([1, 2]), "b": {"c": np.int8(1)}}, {"a": [1, 2], "b": {"c": 1}}),
    ],
)
def test_numpy_is_as_good_as_python(annotation, value, same):
    found = taken("x", annotation, value)
    assert found == same
    assert type(found) is type(same)


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (int, "5", "`x` takes int, not '5' (str)"),
        (int, 5.0, "`x` takes int, not 5.0 (float)"),
        (int | None, True, "`x` takes int, not True (bool)"),
        (float, None, "`x` takes float, not None (NoneType)"),
        (bool, "yes", "`x` takes bool, not 'yes' (str)"),
        (PackedMask | str | Path, 5, "`x` takes PackedMask | str | Path, not 5 (int)"),
        (PackedMask, PackedMask, "`x` takes PackedMask, not the class PackedMask"),
        (str | Sequence[str], ["a", 5], "`x` takes str | list[str], not ['a', 5] (list)"),
        (str | tuple[str, ...], 5, "`x` takes str | list[str], not 5 (int)"),
        (Sequence[tuple[int, int, int]], [(1, 2)], "`x` takes list[tuple[int, int, int]], not [(1, 2)] (list)"),
        (Mapping[str, Any] | None, ["a"], "`x` takes dict[str, anything], not ['a'] (list)"),
        (Mapping[str, Any], {5: 1}, "`x` takes dict[str, anything], not {5: 1} (dict)"),
        (Literal["full", "lora"] | None, "half", "`x` takes 'full' | 'lora', not 'half' (str)"),
        (str, np.ones((2, 2)), "`x` takes str, not a value of type ndarray"),
    ],
)
def test_what_does_not_fit_is_one_line(annotation, value, said):
    with pytest.raises(UserError) as error:
        taken("x", annotation, value)
    assert str(error.value) == said


def test_long_values_are_cut():
    with pytest.raises(UserError) as error:
        taken("x", int, "long " * 1000)
    assert len(str(error.value)) < 200


@typed
def joined(first: str, *rest: int, sep: str = ",", **others: Any) -> str:
    """What it does."""
    return sep.join([first, *map(str, rest), *others])


def test_a_function_is_held_to_its_annotations():
    assert joined("a", 1, np.int64(2), sep="-", b=object()) == "a-1-2-b"
    assert joined.__doc__ == "What it does."
    with pytest.raises(UserError, match="`rest` takes int, not 'b'"):
        joined("a", 1, "b")
    with pytest.raises(UserError, match="`sep` takes str, not 5"):
        joined("a", sep=5)
    with pytest.raises(TypeError, match="first"):
        joined()


@dataclass(frozen=True)
class Noun:
    name: str
    size: int = 1

    def __post_init__(self) -> None:
        hold_fields(self)


def test_a_noun_is_held_to_its_fields():
    assert Noun("a", np.int64(3)) == Noun("a", 3)
    with pytest.raises(UserError, match="`size` takes int, not '3'"):
        Noun("a", "3")
