"""What a report covers, said before all else."""

import pandas as pd

from reports.contents import Contents
from reports.tables.quality import DENSE, EVALUATION
from reports.tables.sums import groups
from reports.words.naming import evaluation_text, few, listing
from reports.words.settings import settings_text
from workloads.searched import Searched


def what_was_run(contents: Contents) -> list[tuple[str, str]]:
    """(name, value) lines that say what the report covers."""
    rows, perplexities = contents.rows, contents.perplexities
    lines = []
    if not rows.empty:
        each = rows[["target", "level"]].drop_duplicates()
        targets = [f"{t} ({level} level)" for t, level in zip(each["target"], each["level"], strict=True)]
        lines = [
            ("Models", listing(rows["model"])),
            ("Methods", listing(rows["method"])),
            ("Patterns", listing(rows["pattern"])),
            ("Targets", listing(targets)),
            ("Settings", few(map(settings_text, rows["settings"].unique()), "settings") or "as in the presets"),
            ("Tokens", listing(sorted(rows["tokens"].dropna().unique()))),
            *_activations(rows),
            ("Layers", f"{rows[['model', 'layer']].drop_duplicates().shape[0]:,} in {len(rows):,} result rows"),
        ]
    elif not contents.serving.empty:
        lines = _whole(contents.serving)
    elif not perplexities.empty:
        pruned = perplexities[perplexities["method"] != DENSE]
        lines = [
            ("Models", listing(perplexities["model"])),
            ("Methods", listing(pruned["method"])),
            ("Sparsity", listing(pruned["target_name"])),
        ]
    if contents.searched is not None:
        lines += _searched(contents.searched)
    if not perplexities.empty:
        texts = [f"{key['model']}: {evaluation_text(key)}" for key, _ in groups(perplexities, EVALUATION)]
        lines.append(("Perplexity on", "; ".join(texts)))
    return [(name, value) for name, value in lines if value]


def _whole(table: pd.DataFrame) -> list[tuple[str, str]]:
    return [
        ("Models", listing(table["model"])),
        ("Methods", listing(table["method"])),
        ("Targets", listing(table["target"])),
        ("Settings", few(map(settings_text, table["settings"]), "settings") or "as in the presets"),
        ("Sequences", listing(sorted(table["batch"].unique()))),
        ("Prompts", listing(f"{tokens:,}" for tokens in sorted(table.loc[~table["step"], "prompt"].unique()))),
        ("Contexts of one step", listing(f"{n:,}" for n in sorted(table.loc[table["step"], "context"].unique()))),
    ]


def _searched(found: Searched) -> list[tuple[str, str]]:
    return [
        ("Searched", f"{found.title}, {found.passes}"),
        ("Parameters", listing(found.parameters)),
        ("Objectives", listing(found.objectives)),
        ("Constraints", listing(found.constraints)),
        ("Trials", f"{len(found.trials):,} by {found.sampler}"),
        ("Seed of the sampler", "" if found.seed is None else str(found.seed)),
    ]


def _activations(rows: pd.DataFrame) -> list[tuple[str, str]]:
    each = sorted(rows["activation_density"].unique())
    return [("Nonzero activations", listing(f"{100 * density:g} %" for density in each))] if each != [1.0] else []
