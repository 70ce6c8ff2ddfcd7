"""What a search refuses, in one line each, before anything is made."""

import re

import pytest

from studies.running.study_run import StudyRun
from studies.search import sampling
from studies.study import read_study
from workloads.errors import UserError

TPE = 'sampler = "tpe"\ntrials = 4'


def refused(file) -> str:
    with pytest.raises(UserError) as caught:
        StudyRun(read_study(file), file.parent / "out").check()
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(file))
    assert not (file.parent / "out").exists()
    return text


def test_a_search_that_is_sound_is_not_refused(written):
    file = written()
    StudyRun(read_study(file), file.parent / "out").check()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"machine": "array.widht = [1]"}, r"unknown key of vitcod: 'array.widht'; did you mean 'array.width'"),
        ({"machine": "dram.bandwidth_gbps = []"}, r"\[search.machine\] dram.bandwidth_gbps is empty"),
        ({"machine": "dram.bandwidth_gbps = { from = 9.0, to = 9.0 }"}, "from 9.0 to 9.0, which holds nothing"),
        ({"machine": "dram.bandwidth_gbps = { from = 0, to = 9, log = true }"}, "from 0 in logarithms"),
        ({"machine": "dram.bandwidth_gbps = { from = 1, to = 9, lgo = true }"}, "did you mean 'log'"),
        ({"machine": "dram.bandwidth_gbps = { from = 1 }"}, "`to` is missing"),
        ({"machine": 'clock.mhz = "500:100:100"'}, "goes from a smaller to a larger value"),
        ({"machine": "clock.mhz = [0, 500]"}, r"clock.mhz = 0: .*greater than or equal to 1"),
        ({"machine": "clock.mhz = [500, 500]"}, "names 500 twice"),
        ({"more": "set.array.width = 16"}, "array.width is both in `set` and in"),
        ({"change": ("area_mm2", "aera_mm2")}, "unknown figure 'aera_mm2'; did you mean 'area_mm2'"),
        ({"change": ('"area_mm2"', '"latency_us"')}, "names latency_us twice"),
        ({"change": ('"area_mm2"', '"perplexity"')}, "model 's' needs `path` .weights. and `text`"),
        ({"change": ('"area_mm2"', '"sparsity"')}, "more of it is what is wanted"),
        ({"change": ('"vitcod"', '"h100-sxm"')}, "unknown"),
        ({"change": ('"vitcod"', '"vitcot"')}, "did you mean 'vitcod'"),
        ({"more": 'constraints = ["area < 3"]'}, "expected FIGURE <= NUMBER"),
        ({"more": 'constraints = ["aera <= 3"]'}, "unknown figure 'aera'"),
        ({"more": 'constraints = ["area_mm2 <= 1", "area_mm2 >= 2"]'}, "nothing is both area_mm2 <= 1 and"),
        ({"more": "trials = 5"}, "`trials` are of a sampler"),
        ({"more": 'sampler = "tpe"'}, "`trials` is missing"),
        ({"more": 'sampler = "tep"\ntrials = 4'}, "search.sampler = 'tep'"),
        ({"more": TPE, "change": ("tokens = 16", "tokens = 0")}, "`tokens` is a whole number from 1"),
        ({"change": ("tokens = 16", "tokens = { a = 1 }")}, "`tokens` a = 1"),
        ({"change": ("tokens = 16", "tokens = 1.5")}, r"search.tokens = 1.5 \(float\): expected"),
        ({"more": "constraints = [3]"}, r"search.constraints = 3 \(int\): expected"),
        ({"change": ("[search]", "[[search]]")}, r"search: expected one table, \[search\]"),
        ({"change": ('target = [0.5, "2:4"]', 'sparsity = "0.3:0.9"')}, "sparsity = '0.3:0.9' .*expected a number"),
        ({"change": ('target = [0.5, "2:4"]', "target = [[0.5]]")}, r"target = \[0.5\] .*expected a number"),
        ({"machine": "clock.mhz = { from = 1.5, to = 9.0 }"}, "clock.mhz has no number of values"),
        ({"machine": "clock.mhz = { from = 1, to = 9000 }"}, "there are 216,000 designs, and all are tried up to"),
        ({"pruning": "bits = [4]"}, r"\[search.pruning\] generated .*generated masks come without weights"),
        ({"pruning": "sparsity = [0.5]"}, "gives both target and sparsity"),
        ({"pruning": "sprsity = [0.5]"}, "unknown key 'sprsity'"),
        ({"pruning": "seed = { from = 0, to = 3 }"}, "masks are made once for every value"),
        ({"pruning": 'seed = ["a"]'}, "seed = 'a'"),
        ({"change": ('method = "generated"', "")}, "method is missing"),
        ({"change": ('"generated"', '"wanda"')}, "'s' has shapes only"),
        ({"more": 'model = "t"'}, "unknown model 't'"),
        ({"more": "sampler_seed = 3"}, "unknown key"),
    ],
)  # fmt: skip
def test_refusals(written, given, said):
    assert re.search(said, refused(written(**given)))


def test_a_sampler_without_optuna_says_how_to_get_it(written, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert "pip install 'prunesim[search]'" in refused(written(TPE))


def test_an_old_optuna_is_refused(written, monkeypatch):
    optuna = pytest.importorskip("optuna")
    monkeypatch.setattr(optuna, "__version__", "4.9.0")
    with pytest.raises(UserError, match=r"optuna 5 or later, and 4\.9\.0"):
        sampling.optuna_module()
