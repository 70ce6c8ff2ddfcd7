"""A study's layers without masks: a GPU's time depends on shapes and on being 2:4, not on which weights are kept."""

from checkpoints.catalog import resolve_config
from checkpoints.catalog_layers import linears_of
from studies.simulate import Source, with_experts
from workloads import __version__
from workloads.bundle import BundleHeader
from workloads.operations import Linear, without_mask
from workloads.patterns import parse_pattern

NEEDS_NO_MASK = "2:4"  # predictions take entries of this pattern at their word and read no mask


def shapes_source(model: str, seed: int) -> Source:
    """Every linear of a catalog name, a config file or a model folder, with the 2:4 pattern and no mask: `mask_sha256`
    of its rows is empty. Raises UserError for an unknown model, NotForThisModel where 4 does not divide in_features."""
    model_id, config = resolve_config(model)
    pattern = parse_pattern(NEEDS_NO_MASK)
    assert pattern is not None
    layers = []
    for layer in linears_of(config):
        pattern.check_divides(layer.in_features, layer.name)
        nnz = layer.n_weights * pattern.n // pattern.m
        weights = without_mask(NEEDS_NO_MASK, nnz)
        layers.append(Linear(layer.name, layer.role, layer.block, *layer.shape, weights))
    header = BundleHeader(
        model_id=model_id,
        method="generated",
        pattern=NEEDS_NO_MASK,
        parameters={"masks": "none needed"},
        seed=seed,
        target_sparsity=pattern.sparsity,
        model_config=config,
        tool_version=__version__,
    )
    return Source(with_experts(header), len(layers), layers)
