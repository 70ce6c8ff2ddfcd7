"""Masks in Python's words: prune a model, train what is left, generate masks, open what is on disk, and what a mask
costs in perplexity."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunesim.results import Result, Rows
from pruning.config import CalibrationConfig, EvaluationConfig, FinetuneConfig, PruneConfig, split_settings
from simulator.simulate import ACCELERATOR_TABLE
from studies.masks import generated, write_bundle
from studies.progress import ProgressLine, warn
from studies.report import read_rows
from studies.settings import density_of
from workloads.arguments import typed
from workloads.bundle import MaskBundle
from workloads.selectors import Selection

Texts = str | Sequence[str]


@typed
def prune(
    model: str | Path,
    *,
    out: str | Path,
    save_model: str | Path | None = None,
    save_format: str = "dense",
    dtype: str = "float32",
    device: str = "cpu",
    **settings: Any,
) -> MaskBundle:
    """Prunes a model (folder or hub id) and writes its masks to `out`; repeated, it goes on where it was stopped.

    Settings are those of PruneConfig (method, sparsity, pattern, bits ...) and of CalibrationConfig (calibration,
    samples, seq_len), which say what each means. `set` holds parameters of the method, "quantizer.key" and
    "allocation.key".
    """
    from studies.prune import open_model, recipe_for, run_prune

    asked, data = split_settings(settings, PruneConfig, CalibrationConfig)
    checkpoint = open_model(str(model), dtype, device)
    recipe = recipe_for(str(model), checkpoint, asked, data)
    progress = ProgressLine(terminal_only=True)
    saved = Path(save_model) if save_model is not None else None
    bundle = run_prune(checkpoint, recipe, Path(out), saved, save_format, progress, warn)
    progress.close()
    return bundle


@typed
def finetune(
    model: str | Path,
    *,
    masks: MaskBundle | str | Path,
    out: str | Path,
    save_model: str | Path | None = None,
    save_format: str = "dense",
    dtype: str = "float32",
    device: str = "cpu",
    **settings: Any,
) -> MaskBundle:
    """Trains the weights that `masks` left in a model, under the masks and on their grids, and writes them with the
    same masks to `out`; repeated, it goes on where it was stopped.

    Settings are those of FinetuneConfig (text, steps, mode, lr ...), which says what each means. `finetune.json` in the
    folder has the losses on the way.
    """
    from pruning.networks import is_network
    from pruning.recovery.plan import make_plan
    from studies.finetune import run_finetune
    from studies.prune import open_model

    (asked,) = split_settings(settings, FinetuneConfig)
    plan = make_plan(asked, str(model) if is_network(str(model)) else "")
    bundle = masks if isinstance(masks, MaskBundle) else MaskBundle.open(masks)
    checkpoint = open_model(str(model), dtype, device)
    progress = ProgressLine(terminal_only=True)
    saved = Path(save_model) if save_model is not None else None
    made = run_finetune(checkpoint, bundle, plan, Path(out), saved, save_format, progress, warn)
    progress.close()
    return made


@typed
def generate(
    model: str | Path,
    *,
    out: str | Path,
    pattern: str = "unstructured",
    density: float | None = None,
    role_density: Mapping[str, float] | None = None,
    only: Texts = (),
    skip: Texts = (),
    fallback: str = "refuse",
    seed: int = 0,
) -> MaskBundle:
    """Seeded masks for the shapes of a model (catalog name, config or folder), written to `out`."""
    selection = Selection(_texts(only), _texts(skip))
    roles = dict(role_density or {})
    made = generated(str(model), pattern, density_of(pattern, density), seed, roles, selection, fallback)
    progress = ProgressLine(terminal_only=True)
    bundle = write_bundle(Path(out), made.header, made.count, made.masks, progress, made.patterns)
    progress.close()
    return bundle


@typed
def load(path: str | Path) -> MaskBundle | Rows:
    """A mask bundle where `path` is a folder, result rows where it is a file (.csv or .json)."""
    return rows_at(Path(path)) if Path(path).is_file() else MaskBundle.open(path)


def rows_at(path: Path) -> Rows:
    return Rows(read_rows(path), ACCELERATOR_TABLE)


@typed
def evaluate(
    model: str | Path,
    *,
    text: str | Path | None = None,
    masks: MaskBundle | str | Path | None = None,
    seq_len: int | None = None,
    windows: int | None = None,
    dtype: str = "float32",
    device: str = "cpu",
) -> Result:
    """Perplexity of a model per token over whole, separate windows of a text, with masks where they are given; of a
    network (docs/networks.md), which needs no text, its own number."""
    from pruning.networks import is_network
    from studies.evaluate import evaluate as quality
    from studies.prune import open_model

    bundle = masks if masks is None or isinstance(masks, MaskBundle) else MaskBundle.open(masks)
    progress = ProgressLine(terminal_only=True)
    asked = EvaluationConfig(text=None if text is None else str(text), seq_len=seq_len, windows=windows)
    if is_network(str(model)):
        asked.check_network(str(model))
    else:
        asked.check()
    frame = quality(open_model(str(model), dtype, device), str(model), bundle, asked, progress)
    progress.close()
    own = (
        ("metric", "value", "better", "samples") if "metric" in frame else ("perplexity", "windows", "seq_len", "text")
    )
    return Result(frame, ("model", "method", "pattern", "sparsity", *own))


def _texts(value: Texts) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
