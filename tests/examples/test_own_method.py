"""RIA of examples/own_method: in closed form, on the command line, in a study."""

from pathlib import Path

import pytest
import torch

import prunesim as ps
from prunesim.methods import Evidence
from pruning.methods import find_method
from tests.studies.conftest import tiny_model  # noqa: F401
from validation.conformance.methods import check_method

FILE = Path(__file__).parents[2] / "examples" / "own_method" / "ria.py"
RIA = f"{FILE}:Ria"


def test_the_file_is_short():
    assert len(FILE.read_text().splitlines()) < 100


def test_scores_by_hand():
    """Rows sum to 4 and 2, columns to 3 and 3; the second input counts twice, a = 1."""
    weight = torch.tensor([[1.0, -3.0], [2.0, 0.0]])
    method = find_method(RIA)(a=1.0)
    scores = method.score(weight, Evidence(1, feature_norm=torch.tensor([1.0, 2.0])))
    assert torch.allclose(scores, torch.tensor([[1 / 4 + 1 / 3, 2 * (3 / 4 + 1)], [1 + 2 / 3, 0.0]]))
    unseen = find_method(RIA)(a=1.0).score(torch.zeros(2, 2), Evidence(1))
    assert (unseen == 0).all()


def test_what_ships_scores_the_same():
    """Written twice, apart from each other."""
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    norms = torch.rand(5, generator=torch.Generator().manual_seed(1))
    shipped = find_method("ria")(a=0.7).score(weight, Evidence(1, feature_norm=norms))
    assert torch.allclose(find_method(RIA)(a=0.7).score(weight, Evidence(1, feature_norm=norms)), shipped)


def test_it_obeys_the_laws():
    results = list(check_method(find_method(RIA)))
    assert not [str(result) for result in results if result.failed]


def test_its_settings_and_source_are_recorded(tiny_model, tmp_path):  # noqa: F811
    asked = {"method": RIA, "sparsity": 0.5, "calibration": str(tiny_model / "ids.npy")}
    masks = ps.prune(tiny_model, out=tmp_path / "masks", set={"a": 0.25}, **asked)
    assert masks.header.method == "own-ria"
    assert masks.header.parameters["a"] == 0.25
    assert len(masks.header.parameters["source_sha256"]) == 64
    with pytest.raises(ps.UserError, match="a = 3"):
        ps.prune(tiny_model, out=tmp_path / "other", set={"a": 3}, **asked)


def test_a_study_runs_it_again_when_the_file_changes(tiny_model, tmp_path, capsys):  # noqa: F811
    (tmp_path / "ria.py").write_text(FILE.read_text())
    (tmp_path / "study.toml").write_text(
        f'title = "T"\n[[models]]\nname = "tiny"\npath = "{tiny_model}"\ncalibration = "{tiny_model}/ids.npy"\n'
        '[[methods]]\nmethod = "ria.py:Ria"\nsparsity = 0.5\n[[accelerators]]\nname = "vitcod"\n'
    )
    first = ps.run(tmp_path / "study.toml", out=tmp_path / "out").rows
    assert set(first.frame["method"]) == {"Ria"}
    ps.run(tmp_path / "study.toml", out=tmp_path / "out")
    assert "2 of 2" in capsys.readouterr().err
    (tmp_path / "ria.py").write_text(FILE.read_text().replace("** self.a", "** (self.a + 1)"))
    second = ps.run(tmp_path / "study.toml", out=tmp_path / "out").rows
    assert list(first.frame["mask_sha256"]) != list(second.frame["mask_sha256"])
