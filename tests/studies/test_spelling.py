"""Settings that library messages name, as the command line spells them."""

import pytest

from studies.cli.ending import ending
from studies.cli.spelling import respelled
from studies.progress import warn

SIMULATE = ["simulate", "masks", "--on", "vitcod"]


@pytest.mark.parametrize(
    ("verb", "said", "spelled"),
    [
        ("prune", "give `group_size`", "give --group-size"),
        ("prune", "say how, for example `bits=4`", "say how, for example --bits 4"),
        ("simulate", "leave `sweep` out", "leave --sweep out"),
        ("simulate", "`set` names it twice", "--set names it twice"),
        ("simulate", "give `bundle` or `mask`", "give BUNDLE or --mask"),
        ("simulate", "`generate` makes them", "prunesim generate makes them"),
        ("import", "say `pruned_is_one=True` or `pruned_is_one=False`", "say --pruned-is-one or --kept-is-one"),
        ("simulate", "say `fresh=True`", "say --fresh"),
        ("run", "`group_size` is of no use", "`group_size` is of no use"),
        ("run", "a GPU has no `trace`", "a GPU has no `trace`"),
        ("simulate", "`array.height` and ``", "`array.height` and ``"),
        ("simulate", "no `Simulate` or `rows.csv`", "no `Simulate` or `rows.csv`"),
    ],
)
def test_respelled(verb, said, spelled):
    assert respelled(said, [verb, "x"]) == spelled


def test_before_a_verb_is_known_nothing_is_respelled():
    assert respelled("`bits` of what?", ["prun"]) == "`bits` of what?"
    assert respelled("plain", []) == "plain"


def test_warnings_are_spelled_as_the_command_line_does_and_only_there(capsys):
    with ending(["prune", "m"]):
        warn("more `samples` are better")
    warn("more `samples` are better")
    assert capsys.readouterr().err == "warning: more --samples are better\nwarning: more `samples` are better\n"
