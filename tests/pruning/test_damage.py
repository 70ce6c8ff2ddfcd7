"""Files of a run that were damaged between two commands: told, or made again; never used."""

from pathlib import Path

import pytest

from checkpoints.checkpoint import Checkpoint
from pruning.run.driver import prune
from pruning.saving.dense import save_pruned
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import contents, quiet, save
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError

RUNS = {
    "wanda": dict(method="wanda"),
    "sparsegpt": dict(method="sparsegpt"),
    "besa": dict(method="besa", reference="dense"),
    "gblm": dict(method="gblm"),
    "owl": dict(method="magnitude", rule="row", allocation="owl"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"), shard_size="30KB", num_hidden_layers=3)


def kill_at(step: tuple[str, int]):
    def progress(what: str, done: int, of: int) -> None:
        if (what, done) == step:
            raise KeyboardInterrupt

    return progress


def cut(model: Path, run: str, folder: Path, step: tuple[str, int] = ("pruning", 1)) -> None:
    with pytest.raises(KeyboardInterrupt):
        prune(Checkpoint(model), recipe(**RUNS[run]), folder, kill_at(step), quiet)


def zero_half(file: Path) -> None:
    """The second half becomes zeros, as a file system leaves what never reached the disk."""
    content = file.read_bytes()
    half = len(content) // 2
    file.write_bytes(content[:half] + bytes(len(content) - half))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [zero_half, flip])
@pytest.mark.parametrize(
    ("run", "step", "file"),
    [
        ("wanda", ("pruning", 1), "hidden-00001.safetensors"),
        ("besa", ("pruning", 1), "hidden-00001.safetensors"),
        ("wanda", ("pruning", 2), "masks-00000.safetensors"),
        ("sparsegpt", ("pruning", 1), "values-00000.safetensors"),
        ("gblm", ("pruning", 1), "gradients-00002.safetensors"),
        ("gblm", ("gradients", 4), "states-00001.safetensors"),
        ("gblm", ("gradients", 4), "upstream-00002.safetensors"),
        ("gblm", ("pruning", 0), "gradients-00000.safetensors"),
    ],
)
def test_what_cannot_be_made_again_is_refused_in_one_line(run, step, file, damage, model: Path, tmp_path: Path) -> None:
    cut(model, run, tmp_path, step)
    damage(tmp_path / file)
    with pytest.raises(UserError, match=r"cannot .*continue.*delete it and start again") as refusal:
        prune(Checkpoint(model), recipe(**RUNS[run]), tmp_path, quiet, quiet)
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_hidden_states_of_another_block_are_not_taken(model: Path, tmp_path: Path) -> None:
    cut(model, "wanda", tmp_path / "one")
    cut(model, "wanda", tmp_path / "two", ("pruning", 2))
    (tmp_path / "two" / "hidden-00002.safetensors").replace(tmp_path / "one" / "hidden-00001.safetensors")
    with pytest.raises(UserError, match=r"hidden-00001\.safetensors is damaged"):
        prune(Checkpoint(model), recipe("wanda"), tmp_path / "one", quiet, quiet)


@pytest.mark.parametrize(
    "damage", [zero_half, flip, lambda file: file.write_text('{"sparsity": {}, "patterns": null}')]
)
def test_a_damaged_allocation_is_made_again(damage, model: Path, tmp_path: Path) -> None:
    prune(Checkpoint(model), recipe(**RUNS["owl"]), tmp_path / "whole", quiet, quiet)
    cut(model, "owl", tmp_path / "cut")
    damage(tmp_path / "cut" / "allocation.json")
    prune(Checkpoint(model), recipe(**RUNS["owl"]), tmp_path / "cut", quiet, quiet)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_an_edited_progress_file_is_refused(model: Path, tmp_path: Path) -> None:
    cut(model, "wanda", tmp_path)
    file = tmp_path / "progress.json"
    file.write_text(file.read_text().replace('"role": "q"', '"role": "k"'))
    with pytest.raises(UserError, match=r"progress.json was changed"):
        prune(Checkpoint(model), recipe("wanda"), tmp_path, quiet, quiet)


@pytest.mark.parametrize("damage", [zero_half, flip, lambda file: file.write_bytes(b"")])
@pytest.mark.parametrize("finished", [True, False])
def test_damaged_shards_of_a_saved_model_are_written_again(damage, finished, model: Path, tmp_path: Path) -> None:
    masks = prune(Checkpoint(model), recipe("magnitude"), tmp_path / "masks", quiet, quiet)
    save_pruned(model, masks, tmp_path / "whole", quiet)
    if finished:
        save_pruned(model, masks, tmp_path / "cut", quiet)
    else:
        with pytest.raises(KeyboardInterrupt):
            save_pruned(model, masks, tmp_path / "cut", kill_at(("saving", 2)))
    damage(tmp_path / "cut" / "model-00001-of-00004.safetensors")
    save_pruned(model, masks, tmp_path / "cut", quiet)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_shard_that_lay_there_before_is_not_taken_for_ours(model: Path, tmp_path: Path) -> None:
    """Written whole, but the command was killed before it could note its hash."""
    masks = prune(Checkpoint(model), recipe("magnitude"), tmp_path / "masks", quiet, quiet)
    with pytest.raises(KeyboardInterrupt):
        save_pruned(model, masks, tmp_path / "cut", kill_at(("saving", 1)))
    (tmp_path / "cut" / "model-00002-of-00004.safetensors").write_bytes(b"something else")
    save_pruned(model, masks, tmp_path / "cut", quiet)
    save_pruned(model, masks, tmp_path / "whole", quiet)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_blocks_before_the_first_chosen_one_do_not_write_streams_twice(model: Path, tmp_path: Path) -> None:
    """Nothing is pruned yet, so the unpruned model's states are the inputs; and stay so when a killed run goes on."""
    made = recipe("besa", reference="dense", only="blocks:1-")
    prune(Checkpoint(model), made, tmp_path / "whole", quiet, quiet)
    with pytest.raises(KeyboardInterrupt):
        prune(Checkpoint(model), made, tmp_path / "cut", kill_at(("pruning", 1)), quiet)
    prune(Checkpoint(model), made, tmp_path / "cut", quiet, quiet)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_damage_of_an_import_is_told(tmp_path: Path, model: Path) -> None:
    """Any writer of bundles checks what it goes on with."""
    cut(model, "wanda", tmp_path, ("pruning", 2))
    flip(tmp_path / "masks-00001.safetensors")
    with pytest.raises(UserError, match="the unfinished run cannot be continued"):
        BundleWriter(tmp_path, recipe("wanda").header(Checkpoint(model)))
