"""The GEMMs of a model's linear layers, from its config alone: one row for each shape of a phase."""

import pandas as pd

from checkpoints.catalog_layers import linears_of
from studies.masks import model_config
from studies.phase_rows import phase_of, tokens_of
from studies.simulate import with_experts
from workloads.bundle import BundleHeader
from workloads.errors import UserError
from workloads.operations import Linear, without_mask
from workloads.patterns import DENSE
from workloads.phases import Phase
from workloads.routing import UNIFORM

MODEL_COLUMNS = ("phase", "roles", "executions")  # before m, n and k


def model_gemms(
    model: str, phase: str = "", batch: int | None = None, prompt: int | None = None, tokens: int | None = None
) -> pd.DataFrame:
    """phase; roles, of all layers of the shape; executions, how many such GEMMs a step runs; m, n, k. Without `phase`
    and `tokens` a prefill and a decode step. Of experts, whom the router is taken to choose alike, m is what one that
    is hit has, rounded. `model`: a catalog name, a config, a folder or a hub id. Raises UserError."""
    if tokens is not None and tokens < 1:
        raise UserError(f"`tokens` {tokens}: at least 1")
    config = model_config(model)
    layers, header = linears_of(config), with_experts(BundleHeader(model, "unpruned", model_config=config))
    rows: dict[tuple[str, int, int, int], tuple[dict[str, None], float]] = {}
    for asked in _phases(phase, batch, prompt, tokens):
        for layer in layers:
            whole = Linear(layer.name, layer.role, layer.block, *layer.shape, without_mask(DENSE, layer.n_weights))
            load = UNIFORM.load(header, whole, tokens_of(asked, tokens))
            m, name = max(round(load.tokens), 1), asked.name if asked else ""
            roles, count = rows.get((name, m, *layer.shape), ({}, 0.0))
            rows[name, m, *layer.shape] = {**roles, layer.role: None}, count + load.executions
    return pd.DataFrame(
        {"phase": name, "roles": " ".join(roles), "executions": round(count, 3), "m": m, "n": n, "k": k}
        for (name, m, n, k), (roles, count) in rows.items()
    )


def _phases(phase: str, batch: int | None, prompt: int | None, tokens: int | None) -> list[Phase | None]:
    if phase or tokens is not None:
        return [phase_of(phase, batch, prompt, None)]
    return [phase_of("prefill", batch, prompt, None), phase_of("decode", batch, None, None)]
