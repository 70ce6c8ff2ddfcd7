"""Every function of `import prunesim` refuses a wrong type in one line that names the argument and what it takes."""

import inspect
from types import FunctionType

import pandas as pd
import pytest

import prunesim as ps
from prunesim.machines import Vitcod

FUNCTIONS = [name for name in ps.__all__ if isinstance(getattr(ps, name), FunctionType)]
FREE = {"check": ("what",)}  # takes anything and says of what it cannot check what that is
NEEDED = {
    "evaluate": {"model": "m", "text": "t"},
    "finetune": {"model": "m", "masks": "b", "out": "o"},
    "generate": {"model": "m", "out": "o"},
    "inference": {"model": "m", "on": "h200"},
    "load": {"path": "p"},
    "load_pruned": {"folder": "f"},
    "predict": {"gemms": [(1, 1, 1)], "on": "h200"},
    "prune": {"model": "m", "out": "o"},
    "report": {"out": "o"},
    "run": {"study": "s"},
    "simulate": {"on": "vitcod"},
}


class Stranger:
    """Nothing that any argument takes."""


def arguments():
    for name in FUNCTIONS:
        for argument, parameter in inspect.signature(getattr(ps, name)).parameters.items():
            if argument not in FREE.get(name, ()) and parameter.kind not in (
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            ):
                yield name, argument


@pytest.mark.parametrize(("name", "argument"), list(arguments()))
@pytest.mark.parametrize("wrong", [Stranger(), Stranger, {1, 2}], ids=["object", "class", "set"])
def test_every_argument(name, argument, wrong):
    with pytest.raises(ps.UserError) as error:
        getattr(ps, name)(**{**NEEDED.get(name, {}), argument: wrong})
    assert str(error.value).startswith(f"`{argument}` takes ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ps.prune("m", out="o", sparsity="half"), "`sparsity` takes float, not 'half'"),
        (lambda: ps.prune("m", out="o", only=[5]), "`only` takes str | list[str], not [5]"),
        (lambda: ps.prune("m", out="o", set=["a=1"]), "`set` takes dict[str, anything], not ['a=1']"),
        (lambda: ps.prune("m", out="o", samples="4"), "`samples` takes int, not '4'"),
        (lambda: ps.finetune("m", masks="b", out="o", mode=5), "`mode` takes 'full' | 'lora', not 5"),
        (lambda: ps.report(5, out="o"), "`rows` takes Result | str | Path, not 5"),
        (lambda: ps.report(out="o", quality=pd.DataFrame({"a": [1]})), "`quality`: it lacks the column 'model'"),
        (lambda: ps.predict([(1.5, 2, 3)], on="h200"), "`gemms` takes DataFrame"),
        (lambda: ps.predict(pd.DataFrame({"m": [1.5], "n": [2], "k": [3]}), on="h200"), "row 1: m = "),
        (lambda: ps.predict(pd.DataFrame({"m": ["a"], "n": [2], "k": [3]}), on="h200"), "row 1: m = 'a'"),
        (lambda: ps.predict([(1, 2, 3)], on=[]), "say which GPU to predict `on`"),
        (
            lambda: ps.simulate("b", on="vitcod", sweep={"array.height": {16}}),
            "`sweep` array.height = {16}: expected",
        ),
        (lambda: ps.simulate("b", on="vitcod", set={"array.height": None}), "`set` array.height = None: expected"),
        (lambda: ps.simulate("b", on="vitcod", set={"clock.mhz": float("nan")}), "`set` clock.mhz = nan: expected"),
        (lambda: ps.simulate("b", on="vitcod", sweep={"array.height": [object]}), "`sweep` array.height = <class"),
        (lambda: ps.simulate("b", on=[]), "say what to run `on`"),
        (lambda: ps.MaskBundle.open(5), "`folder` takes str | Path, not 5"),
        (lambda: ps.BundleWriter("o", 5), "`header` takes BundleHeader, not 5"),
        (lambda: ps.BundleHeader(5, "hand-made"), "`model_id` takes str, not 5"),
        (lambda: ps.Layer("a", "q", 0, "4", 4), "`out_features` takes int, not '4'"),
        (lambda: Vitcod(16), "`overrides` takes str, not 16"),
        (lambda: Vitcod(preset=5), "`preset` takes str | Path | dict[str, anything], not 5"),
        (lambda: Vitcod(name=5), "`name` takes str, not 5"),
    ],
)
def test_settings_and_nouns(call, said):
    with pytest.raises(ps.UserError) as error:
        call()
    assert said in str(error.value)


def test_rows_of_something_else_are_not_added():
    rows = ps.Rows(pd.DataFrame(), ())
    with pytest.raises(TypeError, match="unsupported operand"):
        rows + 5
    with pytest.raises(ps.UserError, match="`path` takes str"):
        rows.save(5)
