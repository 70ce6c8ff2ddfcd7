"""Perplexities in, tables out: seeds become a mean and a spread here, and nowhere else."""

from collections.abc import Iterator

import pandas as pd

from reports.tables.sums import groups, spread
from workloads.errors import UserError
from workloads.patterns import parse_pattern

# A perplexity compares only with one from the same text, cut the same way.
EVALUATION = ["model", "text", "text_sha256", "seq_len", "windows"]
LINE = ["method", "weight_bits"]
_TARGET = ["pattern", "target_sparsity"]
DENSE = "dense"
NOT_PRUNED = "not pruned"
CELL = "@target_perplexity"  # ends the names of the columns of `quality_table` that hold a target's perplexity
_OFF_TARGET = 0.0005  # a reached sparsity that prints differently from the target


def perplexity_table(quality: pd.DataFrame | None) -> pd.DataFrame:
    """One line per model, evaluation, method, weight bits and target, in that order of appearance.

    perplexity: mean over the `seeds`; perplexity_spread: sample standard deviation, NaN with one seed; perplexity_low
    and _high: the extremes; sparsity: mean of what was reached; dense_perplexity: the unpruned model's in the same
    evaluation; target_name: "50 %", "2:4", "not pruned". Empty without perplexities. Raises UserError where one seed
    has two."""
    lines: list[dict] = []
    if quality is None or quality.empty:
        return pd.DataFrame(lines)
    for evaluation, same in groups(quality, EVALUATION):
        here = [
            {**evaluation, **key, "target_name": target_name(key), **_over_seeds({**evaluation, **key}, part)}
            for key, part in groups(same, [*LINE, *_TARGET])
        ]
        dense = next((line["perplexity"] for line in here if line["method"] == DENSE), float("nan"))
        lines += [{**line, "dense_perplexity": dense} for line in here]
    return pd.DataFrame(lines)


def predictions_table(quality: pd.DataFrame) -> pd.DataFrame:
    """A line a pruned model that was held against the dense one: model, method, target_name, sparsity, perplexity,
    kl_divergence, top1_agreement, means over seeds. Empty where none was."""
    if quality.empty or "kl_divergence" not in quality or quality["kl_divergence"].isna().all():
        return pd.DataFrame()
    held = quality[quality["kl_divergence"].notna()]
    values = ["sparsity", "perplexity", "kl_divergence", "top1_agreement"]
    return pd.DataFrame(
        [
            {**key, "target_name": target_name(key), **{name: float(part[name].mean()) for name in values}}
            for key, part in groups(held, [*EVALUATION, *LINE, *_TARGET])
        ]
    )


def target_name(key: dict) -> str:
    """What was asked for, as a column of a table is headed."""
    if key["method"] == DENSE or key["target_sparsity"] == 0:
        return NOT_PRUNED
    if ":" in key["pattern"]:
        return key["pattern"]
    return "as given" if pd.isna(key["target_sparsity"]) else f"{100 * key['target_sparsity']:g} %"


def _over_seeds(key: dict, part: pd.DataFrame) -> dict[str, float]:
    if part.duplicated("seed").any():
        raise UserError(
            f"{key['model']}: {len(part)} perplexities for {key['method']} {key['pattern']} with one seed on the same "
            "text; name them apart"
        )
    values = part["perplexity"]
    return {
        "seeds": len(part),
        "sparsity": float(part["sparsity"].mean()),
        "perplexity": float(values.mean(skipna=False)),
        "perplexity_spread": spread(values),
        "perplexity_low": float(values.min()),
        "perplexity_high": float(values.max()),
    }


def quality_tables(perplexities: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    """(evaluation and dense perplexity, table) for each evaluation of what `perplexity_table` returns: one line per
    method and weight bits, a column "TARGET@target_perplexity" and one that ends in "_spread" per target.

    `seed_range`: over how many seeds the means of the line run, "3" or "1 to 3".
    """
    if perplexities.empty:
        return
    for key, same in groups(perplexities, [*EVALUATION, "dense_perplexity"]):
        targets = ordered_targets(same)
        lines = []
        for made, cells in groups(same, LINE):
            line = {**made, "seed_range": "" if made["method"] == DENSE else _range_text(cells["seeds"])}
            by_target = cells.set_index("target_name")
            if by_target.index.has_duplicates:
                raise UserError(f"{key['model']}: {made['method']}: two targets print alike; name the methods apart")
            for target in targets:
                found = by_target.loc[target] if target in by_target.index else {}
                line[f"{target}{CELL}"] = found.get("perplexity", float("nan"))
                line[f"{target}{CELL}_spread"] = found.get("perplexity_spread", float("nan"))
            lines.append(line)
        yield key, pd.DataFrame(lines)


def quality_csv(tables: list[tuple[dict, pd.DataFrame]]) -> pd.DataFrame:
    """All tables as one, the evaluation in front of every line; "50 %" holds a mean, "50 % spread" its spread."""
    parts = []
    for key, table in tables:
        names = {name: name.replace(CELL + "_", " ").replace(CELL, "") for name in table.columns if CELL in name}
        parts.append(table.rename(columns=names).assign(**key)[[*key, *LINE, *names.values(), "seed_range"]])
    return pd.concat(parts, ignore_index=True).rename(columns={"seed_range": "seeds"})


def ordered_targets(lines: pd.DataFrame) -> list[str]:
    """Their target names: not pruned, sparsities rising, N:M, what was only given."""
    places: dict[str, tuple] = {}
    for name, pattern, asked in zip(lines["target_name"], lines["pattern"], lines["target_sparsity"], strict=True):
        if name == NOT_PRUNED:
            places[name] = (0, 0.0, 0)
        elif ":" in pattern:
            nofm = parse_pattern(pattern)
            assert nofm is not None
            places[name] = (2, nofm.sparsity, nofm.m)
        else:
            places[name] = (3, 0.0, 0) if pd.isna(asked) else (1, asked, 0)
    return sorted(places, key=places.__getitem__)


def _range_text(counts: pd.Series) -> str:
    low, high = counts.min(), counts.max()
    return str(high) if low == high else f"{low} to {high}"


def off_target(perplexities: pd.DataFrame) -> pd.DataFrame:
    """The lines whose reached sparsity is not the one asked for, to a tenth of a percent."""
    if perplexities.empty:
        return perplexities
    return perplexities[(perplexities["sparsity"] - perplexities["target_sparsity"]).abs() >= _OFF_TARGET]


def beside(key: dict, perplexities: pd.DataFrame) -> dict[str, object]:
    """Perplexity of the method of `key` (model, method, pattern, target_sparsity) and of the dense model, both on the
    model's first evaluation text. Raises UserError where two could be meant."""
    unknown = {"perplexity": float("nan"), "perplexity_spread": float("nan"), "dense_perplexity": float("nan")}
    if perplexities.empty or not (perplexities["model"] == key["model"]).any():
        return {**unknown, "evaluation_text": ""}
    _, first = next(groups(perplexities[perplexities["model"] == key["model"]], EVALUATION))
    found = first[first["method"] == key["method"]]
    if key["method"] != DENSE:
        asked = key["target_sparsity"]
        found = found[found["pattern"] == key["pattern"]]
        found = found[found["target_sparsity"].isna() if pd.isna(asked) else found["target_sparsity"] == asked]
    if len(found) > 1:
        raise UserError(
            f"{key['model']}: {len(found)} perplexities for {key['method']} {key['pattern']} on the same text; name "
            "the methods apart"
        )
    line = found.iloc[0] if len(found) else unknown
    return {
        "perplexity": line["perplexity"],
        "perplexity_spread": line["perplexity_spread"],
        "dense_perplexity": first["dense_perplexity"].iloc[0],
        "evaluation_text": first["text"].iloc[0],
    }
