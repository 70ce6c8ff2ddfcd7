"""One entry of a study file, many runs."""

import pytest

from studies.entries import overrides
from studies.method_entry import MethodEntry, check_titles
from studies.names import masks_name
from studies.study import StudyModel, read_study
from workloads import UserError

STUDY = 'title = "t"\n[[models]]\nname = "m"\npath = "p"\ntext = "t.txt"\n[[methods]]\nmethod = "wanda"\n'


def test_every_target_with_every_seed():
    runs = MethodEntry("wanda", targets=(0.5, "2:4"), seeds=(3, 1)).runs()
    assert [(run.pattern, run.sparsity, run.seed) for run in runs] == [
        ("unstructured", 0.5, 3), ("unstructured", 0.5, 1), ("2:4", None, 3), ("2:4", None, 1),
    ]  # fmt: skip


def test_without_lists_an_entry_is_one_run():
    (run,) = MethodEntry("wanda", pattern="2:4", seed=7).runs()
    assert (run.pattern, run.sparsity, run.seed) == ("2:4", None, 7)
    (run,) = MethodEntry("wanda", sparsity=0.5).runs()
    assert (run.pattern, run.sparsity, run.seed) == ("unstructured", 0.5, 0)


def test_nothing_pruned_needs_no_target():
    (run,) = MethodEntry("none", bits=4).runs()
    assert (run.pattern, run.sparsity) == ("unstructured", 0.0)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"targets": (0.5,), "sparsity": 0.6}, "both `targets` and `sparsity`"),
        ({"targets": (0.5,), "pattern": "unstructured"}, "both `targets` and `pattern`"),
        ({"seeds": (0, 1), "seed": 0}, "both `seeds` and `seed`"),
        ({"targets": (0.5, "2:4", 0.5)}, "`targets` names 0.5 twice"),
        ({"seeds": (1, 1)}, "`seeds` names 1 twice"),
    ],
)
def test_what_says_a_thing_twice_is_refused(others, said):
    with pytest.raises(UserError, match=said):
        MethodEntry("wanda", **others).runs()


@pytest.mark.parametrize(
    ("others", "title"),
    [
        ({}, "wanda"),
        ({"rule": "layer"}, "wanda (layer)"),
        ({"rule": "layer", "allocation": "owl", "bits": 4}, "wanda (layer, owl, 4 bits)"),
        ({"bits": 4, "group_size": 128, "quantizer": "gptq"}, "wanda (4 bits in groups of 128, gptq)"),
        ({"label": "W", "bits": 4}, "W"),
    ],
)
def test_the_title_names_what_was_asked_but_target_and_seed(others, title):
    runs = MethodEntry("wanda", targets=(0.5, 0.6, "2:4"), seeds=(0, 1), **others).runs()
    assert {run.title for run in runs} == {title}


def test_runs_that_differ_have_mask_folders_that_differ():
    entries = [
        MethodEntry("wanda", targets=(0.5, "2:4"), seeds=(0, 1)),
        MethodEntry("wanda", sparsity=0.5, bits=4),
        MethodEntry("wanda", sparsity=0.5, bits=4, group_size=8),
        MethodEntry("wanda", sparsity=0.5, bits=4, quantizer="gptq"),
        MethodEntry("wanda", sparsity=0.5, allocation="owl"),
        MethodEntry("wanda", sparsity=0.5, set={"variant": True}),
    ]
    names = [masks_name(StudyModel("m"), run) for entry in entries for run in entry.runs()]
    assert len(names) == len(set(names)) == 9


def test_a_title_stands_for_one_method_with_one_set_of_settings():
    def check(*entries: MethodEntry) -> None:
        check_titles([entry.runs() for entry in entries])

    check(
        MethodEntry("wanda", sparsity=0.5),
        MethodEntry("wanda", pattern="2:4"),
        MethodEntry("wanda", targets=(0.6, 0.7)),
    )
    check(MethodEntry("wanda", sparsity=0.5), MethodEntry("wanda", sparsity=0.5, bits=4))
    with pytest.raises(UserError, match="'wanda': give each a `label`"):
        check(MethodEntry("wanda", sparsity=0.5), MethodEntry("wanda", sparsity=0.5, seed=1))
    with pytest.raises(UserError, match="'wanda': give each a `label`"):
        check(MethodEntry("wanda", sparsity=0.5), MethodEntry("wanda", sparsity=0.6, set={"variant": True}))
    with pytest.raises(UserError, match="unpruned"):
        check(MethodEntry("wanda", sparsity=0.5, label="dense"))


def test_nested_settings_become_dotted_keys():
    assert overrides({"quantizer": {"symmetric": True}, "granularity": "row"}) == [
        "quantizer.symmetric=true", 'granularity="row"',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("targets = []", "methods.0.targets is empty; give at least one"),
        ("targets = [true]", "methods.0.targets = True (bool): expected list[float | str]"),
        ("seeds = [0.5]", "methods.0.seeds = 0.5 (float): expected list[int]"),
        ("models = 5", "methods.0.models = 5 (int): expected list[str]"),
        ("only = [5]", "methods.0.only = [5] (list): expected str | list[str]"),
        ("set = [1]", "methods.0.set = [1] (list): expected dict[str, anything]"),
        ("bits = '4'", "methods.0.bits"),
        ("quantiser = 'rtn'", "unknown key of [[methods]] number 1, 'quantiser'; did you mean 'quantizer'?"),
        ("targets = [0.5]\nsparsity = 0.5", "methods.0: wanda gives both"),
    ],
)
def test_wrong_keys_are_named(tmp_path, line, key):
    path = tmp_path / "s.toml"
    path.write_text(STUDY + line)
    with pytest.raises(UserError) as error:
        read_study(path)
    assert f"{path}: {key}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_single_value_is_a_list_of_one(tmp_path):
    path = tmp_path / "s.toml"
    found = []
    for single in (True, False):
        name, seed, tokens = ('"m"', "3", "64") if single else ('["m"]', "[3]", "[64]")
        entry = (
            f"targets = 0.5\nseeds = {seed}\nmodels = {name}\n"
            if single
            else f"targets = [0.5]\nseeds = {seed}\nmodels = {name}\n"
        )
        path.write_text(STUDY + entry + f'[[accelerators]]\nname = "vitcod"\ntokens = {tokens}\n')
        found.append(read_study(path))
    assert found[0] == found[1]
    assert found[0].file.accelerators[-1].tokens == (64,)
