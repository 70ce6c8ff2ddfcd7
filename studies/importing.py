"""Masks from elsewhere, checked: named, turned and read as they are meant, and refused where they hold nothing or fit
nothing."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from checkpoints.catalog import resolve_config
from checkpoints.catalog_layers import linears_of
from checkpoints.mask_sources import MaskSource, open_masks
from checkpoints.weight_files import weight_files
from studies.masks import Grid
from studies.progress import ProgressLine, counted
from workloads import __version__
from workloads.bundle import BundleHeader
from workloads.errors import UserError
from workloads.files import sha256_of, sha256_of_file
from workloads.importers import Matrix
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.mask_names import ModelLayers, NameRule, named, read_rules
from workloads.patterns import DENSE, NofM, parse_pattern
from workloads.survey import Survey, check_pruned, polarity

_LOOKED_AT = 4  # masks that are held against the weights of their model
_CLEAR = 1.25  # times as large, which weights at random places are not
_NEAR = 0.002  # of a whole percentage: floors of small layers miss what was asked for by so much


@dataclass(frozen=True)
class ImportOptions:
    """What the user says of the masks. model: a catalog name, config or folder whose layers they are; pattern "" = find
    out; pruned_is_one None = 1 is kept, unless the masks themselves tell otherwise."""

    model: str = ""
    model_id: str = ""
    label: str = ""
    pattern: str = ""
    names: str = ""
    pruned_is_one: bool | None = None
    transposed: bool = False
    allow_dense: bool = False


@dataclass(frozen=True)
class Imported:
    """`masks` reads the source once more; `patterns` and `grids` (of what is stored in codes) by layer; `remarks`: what
    the user should know."""

    header: BundleHeader
    patterns: dict[str, str]
    grids: dict[str, Grid]
    masks: Iterator[tuple[Layer, PackedMask]]
    remarks: list[str]


@dataclass(frozen=True)
class Reading:
    """How the matrices of a source become the masks of layers."""

    source: MaskSource
    model: ModelLayers | None
    rules: Sequence[NameRule]
    pruned_is_one: bool
    transposed: bool

    def __iter__(self) -> Iterator[tuple[Layer, Matrix]]:
        """The matrices, turned and read as they are meant. Raises UserError for what fits no layer, or one twice."""
        seen: dict[str, str] = {}
        for matrix in self.source.read():
            where = f"{self.source.path}: {matrix.name}"
            mask = matrix.mask
            if self.pruned_is_one:
                if matrix.told:
                    raise UserError(f"{where} holds weights, of which the zeros are pruned; leave `pruned_is_one` out")
                mask = mask.complement()
            if self.transposed:
                mask = mask.transposed()
            layer = self.layer_of(matrix, mask, where)
            if layer.name in seen:
                raise UserError(
                    f"{where} and {seen[layer.name]} are both of layer {layer.name}; leave one out or use `names`"
                )
            seen[layer.name] = matrix.name
            yield layer, replace(matrix, mask=mask)

    def layer_of(self, matrix: Matrix, mask: PackedMask, where: str) -> Layer:
        if matrix.layer is not None and self.model is None:
            return matrix.layer
        name = named(matrix.name, self.rules)
        if self.model is None:
            return Layer(name.name, name.role, name.block, mask.rows, mask.cols)
        layer = self.model.find(name, where)
        if mask.shape == layer.shape:
            return layer
        sides = (
            f"is {mask.rows} x {mask.cols}, {layer.name} of {self.model.model_id} is {layer.out_features} x "
            f"{layer.in_features}"
        )
        if mask.shape[::-1] != layer.shape:
            raise UserError(f"{where} {sides} (outputs x inputs); were the masks made for another model?")
        way_out = "leave `transposed` out" if self.transposed else "it is transposed: say `transposed=True`"
        raise UserError(f"{where} {sides} (outputs x inputs); {way_out}")


def imported(path: Path, options: ImportOptions, progress: ProgressLine) -> Imported:
    """Reads every mask once to check it. Raises UserError for a source without masks and for masks that are not what is
    said of
    them: of other shapes, names or patterns than the model's or the user's, with 1 = pruned, or with nothing pruned."""
    claimed = parse_pattern(options.pattern) if options.pattern else None
    rules = read_rules(options.names)
    source = open_masks(path)
    if options.transposed and source.kind == "checkpoint":
        raise UserError(f"{path} is a model, whose config says how its weights lie; leave `transposed` out")
    model_id, config = resolve_config(options.model) if options.model else ("", source.config)
    model = layers_of(model_id, config) if options.model else None
    reading = Reading(source, model, rules, bool(options.pruned_is_one), options.transposed)
    survey = Survey(claimed)
    grids: dict[str, Grid] = {}
    count = len(model.layers) if model else 0
    for layer, matrix in counted(reading, "reading masks", count, progress):
        survey.add(layer, matrix.mask, matrix.told)
        if matrix.grid is not None:
            grids[layer.name] = matrix.grid
    check_pruned(survey, str(path), options.allow_dense)
    survey.check_claim(str(path))
    pattern = claimed if options.pattern else survey.pattern()
    return Imported(
        header_of(reading, survey, options, model_id, config, pattern),
        patterns_of(survey, pattern, bool(options.pattern)),
        grids,
        ((layer, matrix.mask) for layer, matrix in reading),
        [
            *filter(None, [source.remark]),
            *polarity_remarks(survey, reading, options),
            *turned_remarks(survey),
            *name_remarks(survey, model),
            *rounding_remarks(grids, len(survey.facts)),
        ],
    )


def header_of(
    reading: Reading,
    survey: Survey,
    options: ImportOptions,
    model_id: str,
    config: dict[str, Any],
    pattern: NofM | None,
) -> BundleHeader:
    source = reading.source
    return BundleHeader(
        model_id=options.model_id or model_id or source.path.resolve().stem,
        method=options.label or ("imported-checkpoint" if survey.told else "imported-masks"),
        pattern=str(pattern or "unstructured"),
        parameters={
            "source_sha256": sha256_of([[file.name, sha256_of_file(file)] for file in source.files]),
            "pruned_is_one": reading.pruned_is_one,
            "transposed": reading.transposed,
            "names": {rule.pattern: rule.template for rule in reading.rules},
        },
        target_sparsity=filed_under(survey.treated_sparsity) if pattern is None else pattern.sparsity,
        model_config=config,
        tool_version=__version__,
    )


def filed_under(sparsity: float) -> float:
    """The target in whose column masks of no stated target stand: the whole percentage that is near, else three
    digits."""
    whole = round(sparsity, 2)
    return whole if abs(sparsity - whole) < _NEAR and whole < 1 else round(sparsity, 3)


def patterns_of(survey: Survey, pattern: NofM | None, said: bool) -> dict[str, str]:
    """`said`: the pattern is the user's, for all layers but those that prune nothing."""
    own = {fact.layer.name: pattern if said else survey.pattern_of(fact) for fact in survey.facts}
    dense = {fact.layer.name for fact in survey.facts if fact.dense}
    return {name: DENSE if name in dense else str(found or "unstructured") for name, found in own.items()}


def layers_of(model_id: str, config: dict[str, Any]) -> ModelLayers:
    return ModelLayers(model_id, linears_of(config))


def polarity_remarks(survey: Survey, reading: Reading, options: ImportOptions) -> list[str]:
    """Raises UserError where the masks, or the weights of the model, say that 1 is pruned and the user does not."""
    if survey.told or options.pruned_is_one is not None:
        return []
    path = reading.source.path
    share, other = f"{100 * survey.sparsity:.1f} %", f"{100 * (1 - survey.sparsity):.1f} %"
    says, why = (
        polarity(survey),
        f"with 1 = pruned they are {survey.complement_pattern()} and {other} pruned, with 1 = kept {share}",
    )
    if says == "open" and has_weights(options.model):
        from checkpoints.weight_evidence import kept_over_rest

        ratio = kept_over_rest(Path(options.model), itertools.islice(reading, _LOOKED_AT))
        if not 1 / _CLEAR < ratio < _CLEAR:
            says = "kept" if ratio > 1 else "pruned"
            why = (
                f"the weights of {options.model} are {1 / ratio:.2g} times as large where they are 0 as where they are "
                "1"
            )
    if says == "kept":
        return []
    if says == "pruned":
        raise UserError(
            f"{path}: 1 seems to stand for pruned: {why}; say `pruned_is_one=True`, or `pruned_is_one=False` if 1 is "
            f"kept all the same"
        )
    return [
        f"nothing in {path} tells whether 1 is kept or pruned: read as kept, {share} of the weights are pruned, the "
        f"other way {other}; say `pruned_is_one=False` or `pruned_is_one=True`"
    ]


def has_weights(model: str) -> bool:
    """Whether `model` is a folder that holds more than a config."""
    folder = Path(model)
    try:
        return bool(model) and folder.is_dir() and bool(weight_files(folder))
    except UserError:
        return False


def turned_remarks(survey: Survey) -> list[str]:
    across = survey.across()
    if across is None:
        return []
    return [
        f"square masks are {across} along their outputs and not along their inputs: they may be transposed "
        f"(`transposed=True`)"
    ]


def name_remarks(survey: Survey, model: ModelLayers | None) -> list[str]:
    layers = [fact.layer for fact in survey.facts]
    if model is not None:
        lacking = [name for name in model.layers if name not in {layer.name for layer in layers}]
        if lacking:
            return [
                f"{len(lacking)} of {len(model.layers)} layers of {model.model_id} have no mask, the first is "
                f"{lacking[0]}; they are not in the bundle: simulations leave them out, perplexities leave them dense"
            ]
        return []
    strange = [layer.name for layer in layers if layer.role == "other" or layer.block < 0]
    if not strange:
        return []
    return [
        f"the names of {len(strange)} of {len(layers)} masks, the first is {strange[0]!r}, do not say which role or "
        "block they are of; give `model` and `names`"
    ]


def rounding_remarks(grids: dict[str, Grid], count: int) -> list[str]:
    if not grids:
        return []
    bits = " or ".join(str(bits) for bits in sorted({bits for bits, _ in grids.values()}))
    return [
        f"{len(grids)} of {count} matrices are stored in {bits} bits: weights that were rounded to zero cannot be told "
        "from pruned ones, and count as pruned"
    ]
