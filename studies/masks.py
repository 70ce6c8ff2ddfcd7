"""Where masks come from: a pruning run, a generator, a file, a checkpoint. Shared by the command line and studies."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from checkpoints.catalog import resolve_config
from checkpoints.catalog_layers import linears_of
from studies.progress import ProgressLine
from workloads import __version__
from workloads.block_record import ways_taken
from workloads.bundle import BundleHeader, LayerEntry, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.locking import writing
from workloads.mask import PackedMask
from workloads.patterns import DENSE, SMALLER
from workloads.selectors import EVERYTHING, Selection
from workloads.steps import steps
from workloads.synthetic import generate, parse_generator
from workloads.treatment import check_fallback, treatment_of

Masks = Iterable[tuple[Layer, PackedMask]]
Grid = tuple[int, int]


@dataclass(frozen=True)
class Generated:
    """Masks to come, of `count` layers; `patterns` of the layers whose pattern is not the header's."""

    header: BundleHeader
    count: int
    masks: Iterator[tuple[Layer, PackedMask]]
    patterns: dict[str, str]


def generated(
    model: str,
    pattern: str,
    density: float,
    seed: int,
    role_density: dict[str, float],
    selection: Selection = EVERYTHING,
    fallback: str = "refuse",
) -> Generated:
    """For the shapes of a catalog name, a config file or a model folder; layers that are not selected keep every
    weight."""
    model_id, config = resolve_config(model)
    layers = linears_of(config)
    runs = parse_generator(pattern) if ":" in pattern else None
    check_fallback(fallback, runs is not None)
    treatment = treatment_of(layers, selection, runs, 0, fallback)
    patterns = {layer.name: DENSE for layer in layers if layer.name not in treatment.treated}
    patterns |= dict.fromkeys(treatment.loose, "unstructured")
    nofm = pattern if runs else "unstructured"
    parameters: dict[str, Any] = {"density": density, "role_density": role_density, "generator": pattern}
    if not selection.everything:
        parameters |= {"only": selection.only, "skip": selection.skip}
    if fallback != "refuse":
        parameters["fallback"] = fallback
    header = BundleHeader(
        model_id=model_id,
        method="generated" if pattern == nofm else f"generated-{pattern}",
        pattern=nofm,
        parameters=parameters,
        seed=seed,
        target_sparsity=1 - density,
        model_config=config,
        tool_version=__version__,
    )
    masks = generate(layers, pattern, density, seed, role_density, patterns)
    return Generated(header, len(layers), masks, patterns)


def contents_text(bundle: MaskBundle) -> str:
    """ "14 layers, sparsity 0.2500 (0.5000 in the 7 pruned, 7 left dense)"; of structured pruning what went, "14 layers
    without 2 of 8 kv groups, sparsity 0.2500"; what the method says of blocks, and of several steps these
    too."""
    masked = [entry for entry in bundle.layers if entry.pattern not in (DENSE, SMALLER)]
    left = len(bundle) - len(masked)
    went = bundle.removal.words if bundle.is_smaller else ""
    went = {"": "", "nothing": ", nothing taken out"}.get(went, f" without {went}")
    text = f"{len(bundle)} layers{went}, sparsity {bundle.sparsity:.4f}"
    if masked and left:
        share = 1 - sum(entry.nnz for entry in masked) / sum(entry.layer.n_weights for entry in masked)
        text += f" ({share:.4f} in the {len(masked)} chosen, {left} left dense)"
    text += "".join(f"; {sentence}" for sentence in ways_taken(bundle.records))
    done = steps(bundle.header)
    return text + (f"; steps: {', then '.join(done)}" if len(done) > 1 else "")


def totals_text(bundle: MaskBundle) -> str:
    """ "3,407,872 weights, 1,703,936 kept; 426,496 B on disk", all files of the folder."""
    weights = sum(entry.layer.n_weights for entry in bundle.layers)
    kept = sum(entry.nnz for entry in bundle.layers)
    size = sum(file.stat().st_size for file in bundle.folder.iterdir() if file.is_file())
    return f"{weights:,} weights, {kept:,} kept; {size:,} B on disk"


def bundle_text(bundle: MaskBundle) -> str:
    """Everything that `show` says of a bundle: what it is of, what it holds, and a line a block of what its method says
    of them."""
    header = bundle.header
    lines = [
        f"masks of {header.model_id}: {header.method}, {header.pattern}, seed {header.seed}",
        contents_text(bundle),
        totals_text(bundle),
        f"parameters: {', '.join(f'{name}={value}' for name, value in header.parameters.items())}",
    ]
    for record in bundle.records:
        lines.append(f"block {record.block}: {', '.join(f'{name} {fact}' for name, fact in record.facts.items())}")
    return "\n".join(lines)


def model_layers(model: str) -> list[Layer]:
    """Of a catalog name, a config, a folder, a hub id or a network."""
    from pruning.networks import is_network

    if is_network(model):
        from studies.prune import open_model

        return [ref.layer for unit in open_model(model, "float32").found_refs() for ref in unit]
    return linears_of(model_config(model))


def model_config(model: str) -> dict[str, Any]:
    """Of a catalog name, a config, a folder or a hub id. Raises UserError."""
    from checkpoints.model_folder import find_model

    try:
        _, config = resolve_config(model)
    except UserError as strange:
        try:
            _, config = resolve_config(str(find_model(model)))
        except UserError:
            if "/" in model:  # as ids of the hub have it
                raise
            raise strange from None
    return config


def check_model(folder: Path, model: str) -> None:
    """Raises UserError unless every layer of the bundle is one of the model's (name, config or folder), of the same
    shape."""
    masks = MaskBundle.open(folder)
    shapes = {layer.name: layer.shape for layer in model_layers(model)}
    for entry in masks.layers:
        made = f"{folder} holds masks of {masks.header.model_id!r}"
        if entry.name not in shapes:
            raise UserError(
                f"{made}, whose layer {entry.name} this model has not; its first layer is {next(iter(shapes))}: import "
                f"masks with `model`"
            )
        if entry.layer.shape != shapes[entry.name]:
            raise UserError(
                f"{made}, whose {entry.name} is {entry.out_features} x {entry.in_features} (outputs x inputs); this "
                f"model's is {shapes[entry.name][0]} x {shapes[entry.name][1]}"
            )


def write_bundle(
    out: Path,
    header: BundleHeader,
    count: int,
    masks: Masks,
    progress: ProgressLine,
    patterns: Mapping[str, str] | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> MaskBundle:
    """Streams masks into a bundle, one shard a decoder block. `patterns`: of layers whose pattern is not the header's;
    `grids`: of layers that are stored in codes, (bits, inputs that share a scale)."""
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
            pattern = (patterns or {}).get(layer.name, header.pattern)
            writer.add(layer, mask, pattern, *(grids or {}).get(layer.name, (None, None)))
        return writer.finish()


def in_memory(
    header: BundleHeader, masks: Masks, patterns: Mapping[str, str] | None = None
) -> Iterator[tuple[LayerEntry, PackedMask]]:
    """Masks as a bundle would yield them, without writing one."""
    for layer, mask in masks:
        yield entry_of(layer, mask, (patterns or {}).get(layer.name, header.pattern)), mask


def entry_of(layer: Layer, mask: PackedMask, pattern: str) -> LayerEntry:
    return LayerEntry(**asdict(layer), pattern=pattern, nnz=mask.nnz, weight_bits=None, sha256=mask.sha256(), shard="")


def parse_values(texts: list[str], such_as: str = "array.height=16") -> dict[str, Any]:
    """["a=1", "b=x"] -> {"a": 1, "b": "x"}. Raises UserError for anything without '='."""
    from simulator.machine.spec import parse_override

    return dict(parse_override(text, such_as) for text in texts)
