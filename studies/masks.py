"""Where masks come from: a pruning run, a generator, a file, a checkpoint. Shared by the command line and studies."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studies.progress import ProgressLine
from workloads import __version__
from workloads.bundle import BundleHeader, LayerEntry, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.catalog import resolve_config
from workloads.errors import UserError
from workloads.files import sha256_of, sha256_of_file
from workloads.layers import Layer
from workloads.locking import writing
from workloads.mask import PackedMask
from workloads.synthetic import generate

Masks = Iterable[tuple[Layer, PackedMask]]


def generated(
    model: str, pattern: str, density: float, seed: int, role_density: dict[str, float]
) -> tuple[BundleHeader, int, Iterator[tuple[Layer, PackedMask]]]:
    """(header, number of layers, masks) for the shapes of a catalog name, a config file or a model folder."""
    from workloads.discovery import discover_layers

    model_id, config = resolve_config(model)
    layers = discover_layers(config)
    nofm = pattern if ":" in pattern else "unstructured"
    header = BundleHeader(
        model_id=model_id,
        method="generated" if pattern == nofm else f"generated-{pattern}",
        pattern=nofm,
        parameters={"density": density, "role_density": role_density, "generator": pattern},
        seed=seed,
        target_sparsity=1 - density,
        model_config=config,
        tool_version=__version__,
    )
    return header, len(layers), generate(layers, pattern, density, seed, role_density)


def imported(source: Path, model_id: str) -> tuple[BundleHeader, Iterator[tuple[Layer, PackedMask]]]:
    """(header, masks) of a sparse checkpoint, a folder of .npy masks or an .npz file; the header holds their hash."""
    from workloads.importers import read_array_masks

    if not source.exists():
        raise UserError(f"no such file or folder: {source}")
    if source.suffix == ".safetensors":
        raise UserError(f"{source}: give the folder that holds it, so that all shards and its config.json are found")
    arrays = sorted(source.glob("*.npy")) if source.is_dir() else [source]
    if arrays:
        masks, method, files = read_array_masks(source), "imported-arrays", arrays
    else:
        from workloads.checkpoint_masks import read_checkpoint_masks
        from workloads.weight_files import weight_files

        masks, method, files = read_checkpoint_masks(source), "imported-checkpoint", weight_files(source)
    digest = sha256_of([[file.name, sha256_of_file(file)] for file in files])
    name = model_id or source.resolve().stem
    return BundleHeader(name, method, parameters={"source_sha256": digest}, tool_version=__version__), masks


def check_model(folder: Path, model: str) -> None:
    """Raises UserError unless every layer of the bundle is one of the model's (name, config or folder), of the same shape."""
    from workloads.discovery import discover_layers
    from workloads.model_folder import find_model

    masks = MaskBundle.open(folder)
    try:
        _, config = resolve_config(model)
    except UserError:
        _, config = resolve_config(str(find_model(model)))
    shapes = {layer.name: layer.shape for layer in discover_layers(config)}
    for entry in masks.layers:
        made = f"{folder} holds masks of {masks.header.model_id!r}"
        if entry.name not in shapes:
            raise UserError(
                f"{made}, whose layer {entry.name} this model has not; its first layer is {next(iter(shapes))}"
            )
        if entry.layer.shape != shapes[entry.name]:
            raise UserError(
                f"{made}, whose {entry.name} is {entry.out_features} x {entry.in_features} (outputs x inputs); this model's is "
                f"{shapes[entry.name][0]} x {shapes[entry.name][1]}"
            )


def write_bundle(out: Path, header: BundleHeader, count: int, masks: Masks, progress: ProgressLine) -> MaskBundle:
    """Streams masks into a bundle, one shard a decoder block."""
    with writing(out):
        writer = BundleWriter(out, header)
        if writer.finished:
            return writer.finish()
        written = writer.written
        block: int | None = None
        for number, (layer, mask) in enumerate(masks):
            progress("writing masks", number, count)
            if layer.name in written:
                continue
            if block is not None and layer.block != block:
                writer.commit()
            block = layer.block
            writer.add(layer, mask, header.pattern)
        return writer.finish()


def in_memory(header: BundleHeader, masks: Masks) -> Iterator[tuple[LayerEntry, PackedMask]]:
    """Masks as a bundle would yield them, without writing one."""
    for layer, mask in masks:
        yield entry_of(layer, mask, header.pattern), mask


def entry_of(layer: Layer, mask: PackedMask, pattern: str) -> LayerEntry:
    return LayerEntry(**asdict(layer), pattern=pattern, nnz=mask.nnz, weight_bits=None, sha256=mask.sha256(), shard="")


def parse_values(texts: list[str]) -> dict[str, Any]:
    """["a=1", "b=x"] -> {"a": 1, "b": "x"}. Raises UserError for anything without '='."""
    from simulator.spec import parse_override

    return dict(parse_override(text) for text in texts)
