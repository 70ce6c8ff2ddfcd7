"""MaskBundle and BundleWriter: what is written is what is read, an interrupted run ends the same."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from workloads.block_record import ways_taken
from workloads.bundle import BundleHeader, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask

HEADER = BundleHeader(
    "tiny", "magnitude", "unstructured", {"rule": "row", "set": (1, 2.5)}, 7, 0.5, {"hidden_size": 70}, {"windows": 2},
    "0.1.0",
)  # fmt: skip
SHAPES = {"q": (6, 70), "k": (3, 70), "down": (70, 128), "up": (1, 1)}
LAYERS = [Layer(f"layers.{b}.{role}_proj", role, b, *shape) for b in range(3) for role, shape in SHAPES.items()]
DENSE = {
    layer.name: np.random.default_rng(i).random(layer.shape) < (0.0, 0.5, 0.2, 1.0)[i % 4]
    for i, layer in enumerate(LAYERS)
}


def write_blocks(writer: BundleWriter, blocks: range = range(3)) -> None:
    for block in blocks:
        for layer in LAYERS:
            if layer.block == block and layer.name not in writer.written:
                writer.add(layer, PackedMask.from_dense(DENSE[layer.name]), "unstructured")
        writer.commit()


def make(folder: Path, header: BundleHeader = HEADER) -> MaskBundle:
    writer = BundleWriter(folder, header)
    write_blocks(writer)
    return writer.finish()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_whole(bundle: MaskBundle) -> None:
    bundle.validate()
    for layer in LAYERS:
        assert np.array_equal(bundle[layer.name].to_dense(), DENSE[layer.name])


def test_round_trip(tmp_path: Path) -> None:
    make(tmp_path / "b")
    bundle = MaskBundle.open(tmp_path / "b")
    check_whole(bundle)
    assert [entry.layer for entry in bundle.layers] == LAYERS
    assert [entry.nnz for entry in bundle.layers] == [int(DENSE[layer.name].sum()) for layer in LAYERS]
    assert [entry.sparsity for entry in bundle.layers] == pytest.approx([1 - DENSE[x.name].mean() for x in LAYERS])
    assert bundle.sparsity == pytest.approx(1 - np.concatenate([d.ravel() for d in DENSE.values()]).mean())
    assert len(bundle) == 12
    assert LAYERS[3].name in bundle
    assert "layers.9.q_proj" not in bundle
    with pytest.raises(UserError, match=r"no layer 'nix'; it has 12, the first is 'layers.0.q_proj'"):
        bundle["nix"]


def test_iteration_streams_in_the_order_of_writing(tmp_path: Path) -> None:
    found = [(entry.name, mask.to_dense()) for entry, mask in make(tmp_path / "b")]
    assert [name for name, _ in found] == [layer.name for layer in LAYERS]
    assert all(np.array_equal(dense, DENSE[name]) for name, dense in found)


def test_iteration_reads_one_layer_ahead_at_most(tmp_path: Path, monkeypatch) -> None:
    bundle = make(tmp_path / "b")
    read: list[str] = []
    original = MaskBundle._read
    monkeypatch.setattr(MaskBundle, "_read", lambda self, entry: (read.append(entry.name), original(self, entry))[1])
    stream = iter(bundle)
    for count in range(1, 4):
        next(stream)
        assert len(read) <= count + 1
    stream.close()
    assert len(read) <= 4


def test_the_files_are_what_the_format_says(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    make(tmp_path / "b")
    raw = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert (raw["format"], raw["version"]) == ("prunesim-mask-bundle", 3)
    assert sorted(contents(tmp_path / "b")) == ["bundle.json", *(f"masks-0000{n}.safetensors" for n in range(3))]
    octets = load_file(tmp_path / "b" / "masks-00001.safetensors")["layers.1.down_proj"]
    assert octets.dtype == np.uint8
    assert np.array_equal(octets, np.packbits(DENSE["layers.1.down_proj"], axis=1, bitorder="little"))


@pytest.mark.parametrize(
    ("version", "unknown"),
    [(1, ("group_size", "values", "values_sha256", "checksum")), (2, ("checksum",))],
)
def test_bundles_of_older_versions_are_still_read(tmp_path: Path, version: int, unknown: tuple[str, ...]) -> None:
    """As they were written: no keys for what they did not know, and a hash over what there is; masks are checked by
    sha256."""
    make(tmp_path / "b")
    file = tmp_path / "b" / "bundle.json"
    raw = json.loads(file.read_text())
    raw["version"] = version
    for layer in raw["layers"]:
        for name in unknown:
            del layer[name]
    raw["sha256"] = ""
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"))
    raw["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps(raw))
    bundle = MaskBundle.open(tmp_path / "b")
    bundle.validate()
    assert bundle.sha256 == raw["sha256"]
    assert not bundle.changes_weights
    raw["layers"][0]["nnz"] -= 1
    file.write_text(json.dumps(raw))
    with pytest.raises(UserError, match="was changed after it was written"):
        MaskBundle.open(tmp_path / "b")


def test_values_come_back_and_their_damage_is_seen(tmp_path: Path) -> None:
    layer = LAYERS[0]
    values = {
        "scale": np.arange(6, dtype=np.float32).reshape(3, 2),
        "codes": np.arange(9, dtype=np.uint8).reshape(3, 3),
    }
    writer = BundleWriter(tmp_path, HEADER)
    writer.add(layer, PackedMask.from_dense(DENSE[layer.name]), "unstructured", 4, 8, values)
    plain = LAYERS[1]
    writer.add(plain, PackedMask.from_dense(DENSE[plain.name]), "unstructured")
    bundle = writer.finish()
    bundle.validate()
    found = bundle.values(layer.name)
    assert found.keys() == values.keys()
    for kind, tensor in values.items():
        assert found[kind].dtype == tensor.dtype
        assert np.array_equal(found[kind], tensor)
    assert bundle.values(plain.name) == {}
    assert bundle.changes_weights
    assert (bundle.entry(layer.name).weight_bits, bundle.entry(layer.name).group_size) == (4, 8)
    shard = tmp_path / bundle.entry(layer.name).values
    octets = bytearray(shard.read_bytes())
    octets[-1] ^= 1
    shard.write_bytes(octets)
    for look in (lambda: bundle.values(layer.name), bundle.validate):
        with pytest.raises(UserError, match="values' hash differs"):
            look()
    shard.unlink()
    with pytest.raises(UserError, match=r"values-00000\.safetensors is missing"):
        MaskBundle.open(tmp_path)


def test_header_comes_back_equal(tmp_path: Path) -> None:
    headers = [
        HEADER,
        BundleHeader("m", "x", target_sparsity=0),
        BundleHeader("m", "x", target_sparsity=1),
        BundleHeader("m", "x", parameters={"tiles": (16, (4, 8)), 3: "three"}),
        BundleHeader("m", "x", model_config={"time_step_limit": [0.0, math.inf]}),
    ]
    for number, header in enumerate(headers):
        bundle = make(tmp_path / str(number), header)
        assert bundle.header == header
        assert bundle.header.sha256() == header.sha256()
        assert BundleWriter(tmp_path / str(number), header).finished
    assert len({header.sha256() for header in headers}) == len(headers)


def test_bundle_hash_follows_masks_and_header(tmp_path: Path) -> None:
    first, again, other = make(tmp_path / "a"), make(tmp_path / "b"), make(tmp_path / "c", BundleHeader("m", "x"))
    assert first.sha256 == again.sha256 != other.sha256
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("done", [1, 2, 3])
@pytest.mark.parametrize("pending", [False, True])
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path: Path, done: int, pending: bool) -> None:
    make(tmp_path / "whole")
    writer = BundleWriter(tmp_path / "cut", HEADER)
    write_blocks(writer, range(done))
    if pending and done < 3:  # added but never committed: lost, to be added again
        layer = LAYERS[4 * done]
        writer.add(layer, PackedMask.from_dense(DENSE[layer.name]), "unstructured")
    with pytest.raises(UserError, match=r"holds no bundle.json \(an unfinished run"):
        MaskBundle.open(tmp_path / "cut")
    writer = BundleWriter(tmp_path / "cut", HEADER)
    assert not writer.finished
    assert writer.written == {layer.name for layer in LAYERS if layer.block < done}
    write_blocks(writer)
    writer.finish()
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_finished_bundle_is_returned_and_left_alone(tmp_path: Path) -> None:
    make(tmp_path / "b")
    before = contents(tmp_path / "b")
    writer = BundleWriter(tmp_path / "b", HEADER)
    assert writer.finished
    assert writer.written == set(DENSE)
    with pytest.raises(UserError, match="added twice"):
        writer.add(LAYERS[0], PackedMask.dense(*LAYERS[0].shape), "unstructured")
    check_whole(writer.finish())
    assert contents(tmp_path / "b") == before


def test_killed_between_bundle_json_and_the_end(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "b", HEADER)
    write_blocks(writer)
    progress = (tmp_path / "b" / "progress.json").read_bytes()
    writer.finish()
    before = contents(tmp_path / "b")
    (tmp_path / "b" / "progress.json").write_bytes(progress)
    check_whole(BundleWriter(tmp_path / "b", HEADER).finish())
    assert contents(tmp_path / "b") == before


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"parameters": {}}, {"target_sparsity": 0.6}, {"calibration": None}, {"model_config": {}}]
)
def test_other_settings_are_refused(tmp_path: Path, finished: bool, change: dict) -> None:
    writer = BundleWriter(tmp_path / "b", HEADER)
    write_blocks(writer)
    if finished:
        writer.finish()
    before = contents(tmp_path / "b")
    other = BundleHeader(**{**vars(HEADER), **change})
    with pytest.raises(UserError, match="another bundle; choose" if finished else "other settings; choose"):
        BundleWriter(tmp_path / "b", other)
    assert contents(tmp_path / "b") == before


@pytest.mark.parametrize("damage", ["shard gone", "not json", "wrong fields"])
def test_unfinished_runs_that_cannot_go_on(tmp_path: Path, damage: str) -> None:
    write_blocks(BundleWriter(tmp_path, HEADER), range(2))
    if damage == "shard gone":
        (tmp_path / "masks-00001.safetensors").unlink()
    else:
        (tmp_path / "progress.json").write_text("{" if damage == "not json" else '{"shards": 1}')
    wanted = {
        "shard gone": r"masks-00001.safetensors of the unfinished run is missing; delete",
        "not json": "unfinished bundle: .* is not valid JSON",
        "wrong fields": "is damaged; delete .* and start again",
    }
    with pytest.raises(UserError, match=wanted[damage]):
        BundleWriter(tmp_path, HEADER)


def test_adding_wrongly(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path, HEADER)
    with pytest.raises(UserError, match=r"nothing to write"):
        writer.finish()
    with pytest.raises(UserError, match=r"layers.0.q_proj: a mask of shape \(2, 70\) does not fit .*\(6, 70\)"):
        writer.add(LAYERS[0], PackedMask.dense(2, 70), "unstructured")
    mask = PackedMask.from_dense(DENSE[LAYERS[0].name])
    writer.add(LAYERS[0], mask, "unstructured")
    for _ in range(2):
        with pytest.raises(UserError, match=r"layers.0.q_proj: added twice"):
            writer.add(LAYERS[0], mask, "unstructured")
        writer.commit()


@pytest.mark.parametrize("sparsity", [-0.1, 1.5, 50, math.nan])
def test_impossible_target(sparsity: float) -> None:
    with pytest.raises(UserError, match=r"fraction in \[0, 1\]"):
        BundleHeader("m", "x", target_sparsity=sparsity)


def test_what_a_method_says_of_blocks_is_kept(tmp_path: Path) -> None:
    """Also by a run that was killed after its first block; bundles without such words stay of version 3."""
    made = []
    for name, killed in (("whole", False), ("killed", True)):
        writer = BundleWriter(tmp_path / name, HEADER)
        for block in range(3):
            writer.record(block, {"budgets": "even" if block == 1 else "learned", "error": 1 / 3} if block else {})
            write_blocks(writer, range(block, block + 1))
            if killed and block == 1:
                writer.record(2, {"budgets": "lost"})
                writer = BundleWriter(tmp_path / name, HEADER)
        writer.finish()
        bundle = MaskBundle.open(tmp_path / name)
        check_whole(bundle)
        assert [record.block for record in bundle.records] == [1, 2]
        assert bundle.records[0].facts == {"budgets": "even", "error": 0.333333}
        made.append(contents(tmp_path / name))
    assert made[0] == made[1]
    raw = json.loads((tmp_path / "whole" / "bundle.json").read_text())
    assert (raw["version"], raw["blocks"][1]) == (7, {"block": 2, "facts": {"budgets": "learned", "error": 0.333333}})
    assert ways_taken(bundle.records) == ["budgets: even in 1 of 2 blocks, learned in 1 of 2 blocks (2)"]
    raw = json.loads((make(tmp_path / "none").folder / "bundle.json").read_text())
    assert (raw["version"], "blocks" in raw) == (3, False)
