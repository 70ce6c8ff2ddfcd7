"""The sentences of a report: what was run, how the numbers were got, what stands out. Said once, used by every page."""

from collections.abc import Iterable

import pandas as pd

from reports.contents import Contents
from reports.present import cell, speedup_text
from reports.quality import DENSE, EVALUATION, NOT_PRUNED, off_target
from reports.sums import CONFIG, counted, groups, known

WHY_LEVELS_DIFFER = (
    "Both levels see the same masks and the same tokens. The paper level evaluates a publication's formula: it has no "
    "memory, so its stall cycles are zero by construction, and its published baseline is the number which the "
    "publication's program prints for the unpruned layer, not necessarily what the same formula gives for a mask "
    "without zeros. The cycle level moves tiles from DRAM through buffers into the array and counts the cycles in "
    "which the array waits. With one token every weight is fetched for a single use, so the bytes moved set the time: "
    "skipped multiplications are hidden behind transfers, and the mask itself has to be fetched too. Compare "
    "paper with compute-only to see what the array alone differs by, and compute-only with the cycle speedup to see "
    "what memory takes away."
)

_LEVELS = {
    "paper": "a publication's own formula, quirks included; no memory, hence no stalls",
    "cycle": "tiles, lanes, buffers and DRAM; stalls are cycles in which the array waits for memory",
}

_SOURCES = {
    "simulated": "computed from the mask by a cycle model",
    "predicted": "extrapolated by a fitted model, not run",
    "measured": "timed on a device",
    "published": "copied from a publication",
}

_NAMED = 6  # slowdowns a sentence names before it only counts them

HOW_SUMMED = (
    "Speedup is dense cycles / cycles on the same target with the same tokens, so below 1 is a slowdown. For several "
    "layers it is sum / sum over the same layers, never a mean of ratios. Layers that a target cannot run are counted "
    "as left out and enter no sum. Only the pruned linear layers are in the sums: attention, normalisation and all "
    "else that is not in the rows take time on top."
)

HOW_EVALUATED = (
    "exp of the mean loss per token over whole windows of the text, no overlap, each window on its own. Only perplexities "
    "from the same text, cut the same way, stand in one table. A run that diverged is shown with the number it gave."
)

HOW_SEEDS = (
    "Runs that differ in their seed alone (it draws the calibration sequences) are one method: cycles, perplexity and sparsity "
    "are means over the seeds, speedup is the ratio of the means, ± is the sample standard deviation over the seeds. A line "
    "without ± comes from one seed."
)


def listing(values: Iterable) -> str:
    """Different values in order of appearance, comma separated."""
    return ", ".join(dict.fromkeys(str(value) for value in values if not pd.isna(value) and value != ""))


def what_was_run(contents: Contents) -> list[tuple[str, str]]:
    """(name, value) lines that say what the report covers."""
    rows, perplexities = contents.rows, contents.perplexities
    lines = []
    if not rows.empty:
        targets = [f"{t} ({level} level)" for t, level in zip(rows["target"], rows["level"], strict=True)]
        lines = [
            ("Models", listing(rows["model"])),
            ("Methods", listing(rows["method"])),
            ("Patterns", listing(rows["pattern"])),
            ("Targets", listing(targets)),
            ("Tokens", listing(sorted(rows["tokens"].dropna().unique()))),
            ("Layers", f"{rows[['model', 'layer']].drop_duplicates().shape[0]:,} in {len(rows):,} result rows"),
        ]
    elif not perplexities.empty:
        pruned = perplexities[perplexities["method"] != DENSE]
        lines = [
            ("Models", listing(perplexities["model"])),
            ("Methods", listing(pruned["method"])),
            ("Sparsity", listing(pruned["target_name"])),
        ]
    if not perplexities.empty:
        texts = [f"{key['model']}: {evaluation_text(key)}" for key, _ in groups(perplexities, EVALUATION)]
        lines.append(("Perplexity on", "; ".join(texts)))
    return lines


def how_got(contents: Contents) -> list[tuple[str, str]]:
    """(name, value) lines that say what kind of numbers these are."""
    rows = contents.rows
    lines = []
    if not rows.empty:
        lines = [("Speedup", HOW_SUMMED), *_machines(rows)]
    if not contents.perplexities.empty:
        lines.append(("Perplexity", HOW_EVALUATED))
    seeds = pd.concat([frame["seed"] for frame in (rows, contents.quality) if not frame.empty]).dropna()
    if seeds.nunique() > 1:
        lines.append(("Seeds", HOW_SEEDS))
    return lines


def _machines(rows: pd.DataFrame) -> list[tuple[str, str]]:
    lines = []
    for level in dict.fromkeys(rows["level"]):
        targets = listing(rows.loc[rows["level"] == level, "target"])
        lines.append((f"Level {level or '(none)'}", f"{targets}: {_LEVELS.get(level, 'level not described')}"))
    for source in dict.fromkeys(rows["source"]):
        targets = listing(rows.loc[rows["source"] == source, "target"])
        lines.append((f"Source {source or '(none)'}", f"{targets}: {_SOURCES.get(source, 'source not described')}"))
    clocks = [f"{t}: {c:g} MHz" for t, c in zip(rows["target"], rows["clock_mhz"], strict=True) if not pd.isna(c)]
    bits = [f"{t}: {b} bits" for t, b in zip(rows["target"], rows["weight_bits"], strict=True) if not pd.isna(b)]
    lines += [("Clock", listing(clocks) or "not given"), ("Weights stored in", listing(bits) or "not given")]
    return [*lines, ("Tokens", "tokens that pass through a layer together; 1 is one decode step of one sequence")]


def provenance(contents: Contents) -> list[tuple[str, str]]:
    """(name, value) lines with which the numbers can be got again."""
    rows, quality = contents.rows, contents.quality
    both = [frame for frame in (rows, quality) if not frame.empty]
    lines = [
        ("Tool version", listing(pd.concat([frame["tool_version"] for frame in both])) or "not given"),
        ("Seeds", listing(pd.concat([frame["seed"] for frame in both])) or "not given"),
    ]
    if not rows.empty:
        masks = rows.loc[rows["mask_sha256"] != "", "mask_sha256"].nunique()
        without = int((rows["mask_sha256"] == "").sum())
        specs = rows[["target", "spec_sha256"]].drop_duplicates()
        lines += [
            (f"Description of {t}", f"sha256 {h}" if h else "no hash given") for t, h in specs.itertuples(index=False)
        ]
        lines.append(("Masks", f"{masks:,} different hashes" + (f"; {without:,} rows without one" if without else "")))
    if not quality.empty:
        texts = quality[["text", "text_sha256"]].drop_duplicates()
        lines += [(f"Token ids of {t}", f"sha256 {h}") for t, h in texts.itertuples(index=False) if h]
    return lines


def verdict(headline: pd.DataFrame) -> list[tuple[str, bool]]:
    """What a reader must not miss: (sentence, is a warning) per model, target and tokens, slowdowns by name."""
    return [
        (f"{config_text(key)}: {sentence}.", warns)
        for key, group in groups(headline, CONFIG)
        for sentence, warns in [_sentence(group)]
    ]


def _sentence(group: pd.DataFrame) -> tuple[str, bool]:
    known = group[group["speedup"].notna()]
    if known.empty:
        return "cannot be run, no layer is counted", True
    slow, fast = known[known["speedup"] < 1], known[known["speedup"] >= 1]
    parts = []
    if len(slow):
        names = [
            f"{method} {pattern} {speedup_text(speedup)}".replace(" (slower)", "")
            for method, pattern, speedup in zip(slow["method"], slow["pattern"], slow["speedup"], strict=True)
        ]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        parts.append(f"slower than dense: {', '.join(names[:_NAMED])}{more}")
    if len(fast):
        low, high = speedup_text(fast["speedup"].min()), speedup_text(fast["speedup"].max())
        spread = low if low == high else f"{low} to {high}"
        parts.append(f"the other {len(fast)}: {spread}" if len(slow) else f"speedup {spread}")
    left_out = int(group["infeasible_layers"].sum())
    if left_out:
        parts.append(f"{left_out} of {left_out + int(group['layers'].sum())} layer results cannot run and are left out")
    return "; ".join(parts), bool(len(slow) or left_out)


def tokens_text(tokens: object) -> str:
    if pd.isna(tokens):
        return "tokens not given"
    return "1 token" if tokens == 1 else f"{tokens} tokens"


def config_text(key: dict) -> str:
    """ "model, target (cycle level), 512 tokens": the heading of everything that may be compared."""
    level = f" ({key['level']} level)" if key["level"] else ""
    source = f", {key['source']}" if key["source"] not in ("", "simulated") else ""
    return f"{key['model']}, {key['target']}{level}{source}, {tokens_text(key['tokens'])}"


def coverage(rows: pd.DataFrame) -> str:
    """How many rows the sums leave out; empty when none."""
    barred, others = int((~known(rows)).sum()), int(known(rows).sum()) - len(counted(rows))
    if not barred:
        return ""
    also = f" {others:,} rows of the same layers with other seeds are left out with them." if others else ""
    return f"{barred:,} of {len(rows):,} result rows cannot run on their target and are in no sum.{also}"


def compared_text(key: dict) -> str:
    """The caption of a table of `compare_tables`."""
    asked = key["target_sparsity"]
    pattern = key["pattern"] if pd.isna(asked) or ":" in key["pattern"] else f"{key['pattern']} {100 * asked:g} %"
    out = key["left_out"]
    left = f"; {out} layers that not every method can run here are left out" if out else ""
    return f"{config_text(key)}, {pattern}: mean cycles per layer{left}"


def evaluation_text(key: dict) -> str:
    return f"{key['text'] or 'a text without a name'}, {key['windows']} windows of {key['seq_len']} tokens"


def quality_text(key: dict) -> str:
    """The caption of a table of `quality_tables`."""
    dense = "" if pd.isna(key["dense_perplexity"]) else f"; dense {cell('perplexity', key['dense_perplexity']).text}"
    return f"{key['model']}: perplexity (lower is better) on {evaluation_text(key)}{dense}"


def quality_verdict(perplexities: pd.DataFrame) -> list[str]:
    """Where the lowest perplexity of each target is, and which masks missed their target."""
    lines = []
    for key, same in groups(perplexities, [*EVALUATION, "dense_perplexity"]):
        best = []
        for target, cells in groups(same[same["target_name"] != NOT_PRUNED], ["target_name"]):
            cells = cells[cells["perplexity"].notna()]
            if len(cells) > 1:
                low = cells.loc[cells["perplexity"].idxmin()]
                best.append(f"{target['target_name']} {low['method']} {cell('perplexity', low['perplexity']).text}")
        if best:
            lines.append(f"{key['model']}: lowest perplexity at " + ", at ".join(best) + ".")
    for _, line in off_target(perplexities).iterrows():
        reached = cell("sparsity", line["sparsity"]).text
        lines.append(f"{line['model']}: {line['method']} at {line['target_name']} reached a sparsity of {reached} %.")
    return lines
