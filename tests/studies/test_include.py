"""`phase` and `include` of a study: the rows that the verb gives, in sums, steps and pieces."""

import re

import pandas as pd
import pytest

import prunesim as ps
from studies.entries import key_of
from studies.report import read_rows
from studies.running.accelerator_checks import check_accelerators
from studies.running.code import SIMULATING, code_sha256
from studies.running.plan import Plan
from studies.running.rows_tasks import LayersTask
from studies.running.study_run import StudyRun, run_study
from studies.study import read_study
from tests.pruning.nets import FAMILY, GRAPH
from workloads.errors import UserError
from workloads.files import sha256_of

DECODER = """
title = "Tiny"
[[models]]
name = "tiny"
path = "{model}"
[[methods]]
method = "magnitude"
sparsity = 0.5
"""
BOTH = """
[[accelerators]]
name = "vitcod"
phase = "prefill"
batch = [1, 3]
prompt = 8
include = ["head", "attention"]
sweep = { "array.height" = [8, 16] }
[[accelerators]]
name = "h100-sxm"
phase = "decode"
batch = 2
context = 16
include = "attention"
"""
NETWORKS = """
title = "Networks"
[[models]]
name = "graph"
path = "graph.py:Small"
samples = 6
[[models]]
name = "net"
path = "tiny.py:Tiny"
samples = 6
[[methods]]
method = "magnitude"
sparsity = 0.5
[[accelerators]]
name = "stc"
tokens = [2, 16]
activation_density = 0.5
include = "moves"
[[accelerators]]
name = "vitcod"
tokens = 3
halo_reuse = true
"""


def decoder_study(folder, model, text=BOTH):
    (folder / "study.toml").write_text(DECODER.format(model=model) + text)
    return read_study(folder / "study.toml")


def checked(folder, model, text):
    check_accelerators(Plan(decoder_study(folder, model, text)))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory, tiny_model):
    """(folder, its report's files)."""
    folder = tmp_path_factory.mktemp("decoder")
    return folder, run_study(decoder_study(folder, tiny_model), folder / "out")


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    (folder / "graph.py").write_text(GRAPH)
    (folder / "tiny.py").write_text(FAMILY)
    (folder / "study.toml").write_text(NETWORKS)
    return folder, run_study(read_study(folder / "study.toml"), folder / "out")


def as_of_study(frame: pd.DataFrame, model: str) -> pd.DataFrame:
    """The verb's rows under the names that a study gives model and method."""
    return frame.assign(model=model, method="magnitude")


def by_verb(folder, model: str, **asked) -> pd.DataFrame:
    masks = folder / "out" / "masks" / f"{model}--magnitude--unstructured--0.5--0"
    return as_of_study(ps.simulate(masks, **asked).frame, model)


def rows_of(files) -> pd.DataFrame:
    return read_rows(files["rows.csv"])


def same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """In any order, as a report sorts its rows."""
    order = ["settings", "layer"]
    pd.testing.assert_frame_equal(
        *(each.sort_values(order).reset_index(drop=True) for each in (ours, theirs[list(ours)])), check_dtype=False
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_a_prefill_has_the_rows_of_the_verb(decoder, batch):
    folder, files = decoder
    rows = rows_of(files)
    ours = rows[(rows["target"] == "vitcod") & (rows["tokens"] == 8 * batch)]
    include, sweep = ("attention", "head"), {"array.height": [8, 16]}
    theirs = by_verb(folder, "tiny", on="vitcod", phase="prefill", batch=batch, prompt=8, include=include, sweep=sweep)
    assert ours["role"].value_counts()[["attention", "head"]].tolist() == [2 * 2, 2]
    same(ours, theirs)


def test_a_decode_step_on_a_gpu_has_the_rows_of_the_verb(decoder):
    folder, files = decoder
    rows = rows_of(files)
    theirs = by_verb(folder, "tiny", on="h100-sxm", phase="decode", batch=2, context=16, include="attention")
    assert "head" not in theirs["role"].tolist()
    same(rows[rows["target"] == "h100-sxm"], theirs)


@pytest.mark.parametrize("samples", [2, 16])
def test_a_network_has_the_moves_of_the_verb(networks, samples):
    folder, files = networks
    rows = rows_of(files)
    ours = rows[(rows["model"] == "graph") & (rows["tokens"] == samples)]
    theirs = by_verb(folder, "graph", on="stc", tokens=samples, activation_density=0.5, include="moves")
    assert ours["role"].value_counts()[["gather", "scatter"]].tolist() == [3, 1]
    same(ours, theirs)


def test_a_network_without_moves_is_told_and_has_its_layers(networks):
    _, files = networks
    rows = rows_of(files)
    assert not rows.loc[rows["model"] == "net", "role"].isin(["gather", "scatter"]).any()
    page = files["report.md"].read_text().replace("\\", "")
    assert "Left out: moves of net: the masks of " in page
    assert "Left out: halo_reuse of graph: none of its windows overlap" in page
    assert "halo_reuse of net" not in page


def test_sums_hold_what_is_included_and_sparsity_does_not(decoder):
    _, files = decoder
    rows, whole = rows_of(files), pd.read_csv(files["whole-model.csv"])
    assert (whole["sparsity"] - 0.5).abs().max() < 0.01
    for line in whole[whole["target"] == "vitcod"].to_dict("records"):
        part = rows[(rows["settings"] == line["settings"]) & (rows["tokens"] == line["tokens"])]
        assert line["speedup"] == pytest.approx(part["dense_cycles"].sum() / part["cycles"].sum())
        layers = part[~part["role"].isin(["attention", "head"])]
        assert line["speedup"] < layers["dense_cycles"].sum() / layers["cycles"].sum()


def test_the_report_says_what_is_timed(decoder, networks):
    page = decoder[1]["report.md"].read_text()
    assert "; the pruned linear layers with attention and head." in page
    assert "- Only the pruned linear layers, attention and output head are timed: no norms or embeddings." in page
    assert "left dense" not in page
    assert re.search(r"magnitude 50 %: ideal [0-9.]+x, .*real [0-9.]+x", page)
    short = networks[1]["report.md"].read_text()
    assert "; the pruned linear layers with gather and scatter." in short
    assert "the pruned linear layers and gathers and scatters are timed" in short


def test_pieces_of_a_sweep_are_the_rows_of_one_go(decoder, tiny_model, tmp_path):
    _, files = decoder
    study = decoder_study(tmp_path, tiny_model, BOTH + "\n[executor]\njob_rows = 5\n")
    rows, _ = StudyRun(study, tmp_path / "out").run()
    assert list((tmp_path / "out" / "steps").rglob("*0001.*"))
    for target in ("vitcod", "h100-sxm"):
        for tokens, part in (whole := rows_of(files))[whole["target"] == target].groupby("tokens"):
            same(rows[(rows["target"] == target) & (rows["tokens"] == tokens)], part)


def test_steps_without_it_keep_their_hashes_and_with_it_have_their_own(tiny_model, tmp_path):
    class Made:
        sha256 = "0" * 64

    def key(text: str) -> str:
        [task] = [
            each for each in Plan(decoder_study(tmp_path, tiny_model, text)).tasks() if isinstance(each, LayersTask)
        ]
        own.append(task)
        return task.key([Made])

    own: list[LayersTask] = []
    name = '[[accelerators]]\nname = "vitcod"\n'
    plain = key(f"{name}tokens = 2")
    asked = [2, 1.0, "uniform"]
    parts = ["0" * 64, key_of(own[0].accelerator), asked, ["tiny", "magnitude"], code_sha256(SIMULATING)]
    assert plain == sha256_of(parts)
    phase = f'{name}phase = "decode"\nbatch = 2\ncontext = 16\n'
    assert key(phase) == plain  # its layers are those of the tokens
    found = [key(f"{phase}{more}") for more in ('include = "head"', 'include = "attention"')]
    found.append(key(f'{phase}include = "attention"'.replace("16", "17")))
    assert len({plain, *found}) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('include = "norms"', "vitcod: unknown operation to `include` 'norms'"),
        ('include = "head"', "vitcod: `include` needs a `phase`"),
        ("include = []", "accelerators.0.include is empty"),
        ("include = 3", "accelerators.0.include"),
        ('includes = "head"', "did you mean 'include'"),
        ("batch = 2", "vitcod: `batch` is of a phase"),
        ('phase = "decod"', "did you mean 'decode'"),
        ('phase = "decode"\nprompt = 8', "vitcod: decode has no `prompt`"),
        ('phase = "decode"\ntokens = 8', "vitcod: `tokens` follow from the decode, 1 of them"),
        ('phase = "decode"\nbatch = 0', "vitcod: `batch` 0: at least 1"),
        ('phase = "decode"\nbatch = [2, 2]', "vitcod: `batch` has 2 twice"),
        ("tokens = [2, 2]", "vitcod: `tokens` has 2 twice"),
        ('phase = "decode"\ninclude = "moves"', "vitcod: `include` moves is of networks"),
        ('include = "moves"', "vitcod: `include` moves: tiny is no network"),
        ("halo_reuse = true", "vitcod: `halo_reuse` is of convolutions whose windows overlap"),
        ('phase = "decode"\ncontext = [8, 9]', "decode of 1 x 1, context 9 would give rows that nothing tells apart"),
        (
            'tokens = 1\n[[accelerators]]\nname = "vitcod"',
            "accelerators.0, vitcod, tokens 1 and accelerators.1, vitcod",
        ),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(tiny_model, tmp_path, text, said):
    with pytest.raises(UserError) as told:
        checked(tmp_path, tiny_model, f'[[accelerators]]\nname = "vitcod"\n{text}\n')
    assert str(told.value).startswith(f"{tmp_path / 'study.toml'}: ")
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_machines_of_layers_alone_are_told_too(tiny_model, tmp_path):
    text = '[[accelerators]]\nname = "vitcod-paper"\nphase = "decode"\ninclude = "attention"\n'
    with pytest.raises(UserError, match="vitcod-paper is of level 'paper'"):
        checked(tmp_path, tiny_model, text)
