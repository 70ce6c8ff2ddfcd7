"""What is given twice, over an input, or nearly right: one clear line each."""

import json

import pytest

import prunesim as ps
from studies.cli.apart import check_apart
from studies.operator_files import is_operators, read_operators
from studies.predict_operators import predict_operators
from tests.studies.test_inference import CONFIG, ended
from workloads.errors import UserError, meant, unknown

GPUS = ("a100-pcie", "a100-sxm", "h100-pcie", "h100-sxm", "h200")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.json").write_text(json.dumps(CONFIG))
    (tmp_path / "ok.csv").write_text("m,n,k\n16,64,64\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("A100-SXM", "did you mean 'a100-sxm'? "),
        ("H100", "did you mean 'h100-pcie' or 'h100-sxm'? "),
        ("h200x", "did you mean 'h200'? "),
        ("pcie", "did you mean 'a100-pcie' or 'h100-pcie'? "),
        ("h", ""),
        ("tpu", ""),
    ],
)
def test_what_a_name_may_mean(name, said):
    assert meant(name, GPUS) == said
    assert said in str(unknown("GPU", name, GPUS))


def test_models_have_the_same_hints():
    with pytest.raises(UserError, match="did you mean 'llama-3-70b' or 'llama-3-8b' or"):
        ps.inference("LLAMA-3", on="h200")


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "ok.csv", "--on", "h200", "--out", "./ok.csv"],
        ["predict", "ok.csv", "--out=ok.csv"],
        ["simulate", "--mask", "ok.csv", "--trace", "ok.csv"],
    ],
)
def test_an_input_is_not_overwritten(here, arguments):
    with pytest.raises(UserError, match=r"would overwrite the input ok\.csv"):
        check_apart(arguments)
    check_apart(["predict", "ok.csv", "--on", "h200", "--out", "new.csv"])
    check_apart(["predict", "ok.csv", "--format", "csv"])


def test_every_verb_asks_it(here, capsys):
    before = (here / "small.json").read_text()
    code, said = ended(capsys, "small.json", "--on", "h200", "--out", "small.json")
    assert (code, (here / "small.json").read_text()) == (2, before)
    assert "--out small.json would overwrite the input small.json" in said


def test_nothing_is_given_twice(here, capsys):
    for what, arguments in {
        "--on has h200 twice": ["--on", "h200", "--on", "h200"],
        "--batch has 1 twice": ["--on", "h200", "--batch", "1,1"],
    }.items():
        code, said = ended(capsys, "small.json", *arguments)
        assert code == 2
        assert f"{what}; leave one out" in said
    with pytest.raises(UserError, match="`on` has h200 twice"):
        ps.predict("ok.csv", on=["h200", "h200"])
    with pytest.raises(UserError, match="`batch` has 2 twice"):
        ps.inference("small.json", on="h200", batch=[2, 2])


def test_what_cannot_run_ends_alike_with_and_without_operations(here, capsys):
    for more in ([], ["--operations"]):
        code, said = ended(capsys, "small.json", "--on", "h200", "--tensor-parallel", "3", *more)
        assert code == 3
        assert "4 heads cannot be divided among 3 GPUs" in said
        assert ended(capsys, "small.json", "--on", "h200", "--tensor-parallel", "x", *more)[0] == 2


def test_misspelt_operations_are_no_gemms(here):
    path = here / "miss.csv"
    path.write_text("operation,m,n,k\nliner,16,64,64\nlinea,16,64,64\n")
    with pytest.raises(UserError) as error:
        is_operators(path)
    assert f"{path} line 2: unknown operation 'liner'; did you mean 'linear'? known: attention, " in str(error.value)
    path.write_text("operation,m,n,k\n,16,64,64\n")
    assert not is_operators(path)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("operation,tokens,rows,cols\nrmsnorm,16,32,64", "line 2: rmsnorm has both 'rows' and 'tokens'"),
        (
            "operation,m,n,k,weight_bits,group_size\nlinear,16,64,100,4,64",
            "line 2: group_size = 64 does not divide k = 100",
        ),
    ],
)
def test_operators_that_cannot_be(here, lines, said):
    (here / "wrong.csv").write_text(lines + "\n")
    with pytest.raises(UserError, match=said):
        read_operators(here / "wrong.csv")


def test_an_empty_cell_stays_empty(here):
    (here / "norms.csv").write_text("operation,tokens,rows,cols\nrmsnorm,,16,64\nrmsnorm,16,,64\n")
    rows = predict_operators(read_operators(here / "norms.csv"), ["a100-sxm"], "fp16")
    assert list(rows["tokens"]) == ["", 16]
    assert list(rows["rows"]) == [16, 16]


def test_a_section_of_a_machine_is_no_key(here):
    with pytest.raises(UserError, match=r"array=5: array is a section of vitcod; set one of its keys: array\.width, "):
        ps.simulate(model="small.json", pattern="2:4", on="vitcod", set={"array": 5})


def test_a_machine_is_a_gpu_or_none(here):
    (here / "both.toml").write_text('base = ["vitcod", "h200"]\n')
    with pytest.raises(UserError, match="`base` mixes GPUs with vitcod, which is none"):
        ps.simulate(model="small.json", pattern="2:4", on="both.toml")


def test_a_rank_of_zero_is_explained():
    from pruning.config import PruneConfig
    from pruning.run.make_recipe import make_recipe

    with pytest.raises(UserError, match="lowrank: rank = 0 leaves it to the sparsity how much goes"):
        make_recipe(PruneConfig("lowrank", set={"rank": 0}))
