"""A method of somebody else's file: beside the study, under its own name, and made again when its code changes."""

import numpy as np
import pytest

from studies.cli.main import main
from studies.method_entry import MethodEntry
from studies.names import masks_name
from studies.running.masks_tasks import foreign_code
from studies.study import StudyModel
from workloads import MaskBundle

SOURCE = """
from prunesim.methods import PruningMethod

class Last(PruningMethod):
    name = "last"

    def score(self, weight, evidence):
        return {sign}weight[:1].new_tensor(range(weight.shape[1])).expand_as(weight)
"""


def test_a_file_lies_beside_the_study_and_shows_its_class(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE.format(sign=""))
    (run,) = MethodEntry("mine.py:Last", sparsity=0.5).runs(tmp_path)
    assert run.method == f"{tmp_path / 'mine.py'}:Last"
    assert run.title == "Last"
    assert masks_name(StudyModel("m"), run) == "m--Last--unstructured--0.5--0"


def test_other_code_is_another_key(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE.format(sign=""))
    (run,) = MethodEntry("mine.py:Last", sparsity=0.5).runs(tmp_path)
    before = foreign_code(run)
    (tmp_path / "mine.py").write_text(SOURCE.format(sign="-"))
    assert foreign_code(run) != before
    assert foreign_code(MethodEntry("magnitude", sparsity=0.5).runs()[0]) == []


def prune(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["prune", *map(str, arguments)])
    return int(stop.value.code or 0)


def test_a_run_is_not_continued_by_other_code(tmp_path, tiny_model, capsys):
    asked = (tiny_model, "--method", f"{tmp_path / 'mine.py'}:Last", "--sparsity", 0.5, "--out", tmp_path / "b")
    (tmp_path / "mine.py").write_text(SOURCE.format(sign=""))
    assert prune(*asked) == 0
    for _, mask in MaskBundle.open(tmp_path / "b"):
        kept = mask.to_dense()
        assert (kept == (np.arange(kept.shape[1]) >= kept.shape[1] // 2)).all()
    (tmp_path / "mine.py").write_text(SOURCE.format(sign="-"))
    assert prune(*asked) == 2
    assert "already holds another bundle" in capsys.readouterr().err
