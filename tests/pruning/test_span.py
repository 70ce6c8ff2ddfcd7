"""Blocks that are decided together: which they are, what moves between them, and what has to stay."""

from pathlib import Path

import pytest

from checkpoints.checkpoint import Checkpoint
from pruning.config import CalibrationConfig, PruneConfig
from pruning.run.calibrated import spans
from pruning.run.driver import prune
from pruning.run.estimate import estimate
from studies.prune import open_model, recipe_for
from tests.pruning.contract import masks_of
from tests.pruning.nets import FAMILY
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import build, contents, quiet, save
from workloads.bundle import MaskBundle
from workloads.errors import UserError


def by_block(bundle: MaskBundle) -> dict[int, float]:
    """The sparsity of every block."""
    pruned: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for entry in bundle.layers:
        pruned[entry.block] = pruned.get(entry.block, 0) + entry.layer.n_weights - entry.nnz
        sizes[entry.block] = sizes.get(entry.block, 0) + entry.layer.n_weights
    return {block: pruned[block] / sizes[block] for block in sizes}


def pruned(model: Path, out: Path, sparsity: float = 0.5, **settings) -> MaskBundle:
    return prune(Checkpoint(model), recipe("besa", sparsity, **settings), out, quiet, quiet)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"), num_hidden_layers=4)


def test_spans_are_runs_of_blocks_within_a_stack() -> None:
    assert spans(0, 5, [0], 1) == [range(n, n + 1) for n in range(5)]
    assert spans(0, 5, [0], 2) == [range(0, 2), range(2, 4), range(4, 5)]
    assert spans(2, 5, [0], 2) == [range(2, 4), range(4, 5)]
    assert spans(0, 5, [0], 9) == [range(0, 5)]
    assert spans(0, 5, [0, 3], 2) == [range(0, 2), range(2, 3), range(3, 5)]


def test_a_block_that_hardly_matters_loses_more(tmp_path: Path) -> None:
    """What the second block writes is scaled down, so that its matrices count for next to nothing in what comes out of
    both; together as many weights go as apart."""

    model = build("llama", num_hidden_layers=2)
    for matrix in (model.model.layers[1].self_attn.o_proj, model.model.layers[1].mlp.down_proj):
        matrix.weight.data *= 1e-4
    model.save_pretrained(tmp_path / "model")
    apart, together = (by_block(pruned(tmp_path / "model", tmp_path / str(span), span=span)) for span in (1, 2))
    assert apart[0] == pytest.approx(0.5, abs=1e-3)
    assert together[0] < 0.45
    assert together[1] > 0.55
    assert sum(together.values()) == pytest.approx(sum(apart.values()), abs=1e-9)  # blocks of one size


def test_only_the_sum_of_a_span_is_given(llama: Path, tmp_path: Path) -> None:
    found = by_block(pruned(llama, tmp_path, span=3))
    assert found[0] != found[1]
    assert (found[0] + found[1] + found[2]) / 3 == pytest.approx(0.5, abs=1e-3)
    assert found[3] == pytest.approx(0.5, abs=1e-3)  # by itself


def test_a_span_killed_goes_on_where_it_began(llama: Path, tmp_path: Path) -> None:
    def kill(what: str, done: int, of: int) -> None:
        if what == "pruning" and done == 2:
            raise KeyboardInterrupt

    pruned(llama, tmp_path / "whole", span=2, rounds=1)
    asked = recipe("besa", 0.5, span=2, rounds=1)
    with pytest.raises(KeyboardInterrupt):
        prune(Checkpoint(llama), asked, tmp_path / "killed", kill, quiet)
    assert sorted(path.name for path in (tmp_path / "killed").glob("hidden*")) == ["hidden-00002.safetensors"]
    prune(Checkpoint(llama), asked, tmp_path / "killed", quiet, quiet)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_blocks_of_a_span_that_are_left_dense_say_nothing(llama: Path, tmp_path: Path) -> None:
    """Nor are there gradients of them."""
    masks = pruned(llama, tmp_path, span=2, rounds=1, ranking="gblm", only="blocks:1-2")
    assert by_block(masks) == {0: 0, 1: 0.5, 2: 0.5, 3: 0}
    assert [record.block for record in masks.records] == [1, 2]


def test_a_span_without_choice_is_its_blocks_one_by_one_on_dense_inputs(llama: Path, tmp_path: Path) -> None:
    """At N:M BESA takes its ranking's masks: the first block's are the same, those behind it saw dense inputs."""
    apart, together = (masks_of(pruned(llama, tmp_path / str(span), span=span, pattern="2:4")) for span in (1, 2))
    first = [name for name in apart if ".0." in name]
    assert all((apart[name] == together[name]).all() for name in first)
    assert all(mask.reshape(-1, 4).sum(axis=1).tolist() == [2] * (mask.size // 4) for mask in together.values())


def test_stacks_stay_apart(tmp_path: Path) -> None:
    found = by_block(pruned(save("t5", tmp_path / "model"), tmp_path / "masks", span=9, rounds=1))
    encoder, decoder = [found[0], found[1]], [found[2], found[3], found[4]]
    assert sum(encoder) / 2 == pytest.approx(0.5, abs=1e-3)
    assert sum(decoder) / 3 == pytest.approx(0.5, abs=1e-3)


def test_shared_weights_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = save("zamba2", tmp_path / "model")
    with pytest.raises(UserError, match="its blocks share weights, so each is decided by itself; leave `span` out"):
        pruned(model, tmp_path / "masks", span=2)
    assert not (tmp_path / "masks").exists() or not any((tmp_path / "masks").iterdir())


def test_the_estimate_counts_the_blocks_of_a_span(llama: Path) -> None:
    checkpoint = Checkpoint(llama)
    one, two = (estimate(checkpoint, recipe("besa", 0.5, span=span)) for span in (1, 2))
    assert two.block_bytes == 2 * one.block_bytes
    assert two.activation_bytes == 2 * one.activation_bytes
    assert two.method_bytes > one.method_bytes


def test_units_of_a_network_together(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(FAMILY)
    model = f"{tmp_path / 'tiny.py'}:Tiny"
    opened = open_model(model, "float32")
    asked = PruneConfig("besa", 0.5, set={"span": 9, "rounds": 1})
    made = recipe_for(model, opened, asked, CalibrationConfig(samples=6))
    masks = prune(opened, made, tmp_path / "masks", quiet, quiet)
    assert masks.sparsity == pytest.approx(0.5, abs=1e-3)
    assert len(set(by_block(masks).values())) > 1
