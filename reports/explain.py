"""The sentences of a report: what was run, how the numbers were got, what stands out. Said once, used by every page."""

from collections.abc import Iterable

import pandas as pd

from reports.contents import Contents
from reports.tables.quality import DENSE, EVALUATION, NOT_PRUNED, off_target
from reports.tables.sums import CONFIG, KERNEL, counted, groups, known, no_baseline
from reports.words import statements
from reports.words.present import cell, times_text
from reports.words.settings import settings_tag, settings_text, swept_keys
from workloads.verdicts import UNCLEAR

ENERGY_CAPTION = "Energy of one pass through the layers counted, summed over them; latency and EDP likewise"
_NAMED = 6  # slowdowns a sentence names before it only counts them
_LISTED = 8  # values a line lists before it only counts them
WITHOUT_TOKENS = [name for name in CONFIG if name != "tokens"]


def listing(values: Iterable) -> str:
    """Different values in order of appearance, comma separated."""
    return ", ".join(_different(values))


def _different(values: Iterable) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if not pd.isna(value) and value != ""))


def few(values: Iterable, what: str) -> str:
    """As `listing`, but only how many there are where they are too many to read."""
    different = _different(values)
    return (
        ", ".join(different) if len(different) <= _LISTED else f"{len(different):,} different {what}; rows.csv has them"
    )


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
            ("Settings", few(map(settings_text, rows["settings"]), "settings") or "as in the presets"),
            ("Tokens", listing(sorted(rows["tokens"].dropna().unique()))),
            *_activations(rows),
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
        lines = [("Speedup", statements.HOW_SUMMED), *_machines(rows)]
        if (rows["activation_density"] < 1).any():
            lines.append(("Activation density", statements.HOW_ACTIVATIONS))
        if rows["energy_pj"].notna().any():
            lines.append(("Energy", statements.HOW_ENERGY))
            if contents.energy.empty:  # else it stands below their table
                lines.append(("Not in energy", statements.NOT_IN_ENERGY))
            lines += [("EDP", statements.HOW_EDP), ("Area", statements.HOW_AREA)]
    if not rows.empty and rows["latency_error_p90"].notna().any():
        lines.append(("Predicted times", statements.HOW_PREDICTED))
    if contents.designs:
        lines.append(("Designs", statements.HOW_PARETO))
    if not contents.timelines.empty:
        lines.append(("Utilisation over time", statements.HOW_TIMELINE))
    if not contents.perplexities.empty:
        lines.append(("Perplexity", statements.HOW_EVALUATED))
    seeds = pd.concat([frame["seed"] for frame in (rows, contents.quality) if not frame.empty]).dropna()
    if seeds.nunique() > 1:
        lines.append(("Seeds", statements.HOW_SEEDS))
    return lines


def _activations(rows: pd.DataFrame) -> list[tuple[str, str]]:
    each = sorted(rows["activation_density"].unique())
    return [("Nonzero activations", listing(f"{100 * density:g} %" for density in each))] if each != [1.0] else []


def _machines(rows: pd.DataFrame) -> list[tuple[str, str]]:
    lines = []
    for level in dict.fromkeys(rows["level"]):
        targets = listing(rows.loc[rows["level"] == level, "target"])
        lines.append(
            (f"Level {level or '(none)'}", f"{targets}: {statements.LEVELS.get(level, 'level not described')}")
        )
    for source in dict.fromkeys(rows["source"]):
        targets = listing(rows.loc[rows["source"] == source, "target"])
        lines.append(
            (f"Source {source or '(none)'}", f"{targets}: {statements.SOURCES.get(source, 'source not described')}")
        )
    own = rows[rows["level"] != KERNEL]  # a GPU's clock differs from kernel to kernel
    clocks = [f"{t}: {c:g} MHz" for t, c in zip(own["target"], own["clock_mhz"], strict=True) if not pd.isna(c)]
    bits = [f"{t}: {b} bits" for t, b in zip(rows["target"], rows["weight_bits"], strict=True) if not pd.isna(b)]
    clock, stored = few(clocks, "clocks"), few(bits, "widths")
    if len(own) < len(rows):
        clock = "; ".join(part for part in (clock, "GPUs: what each kernel reaches within the power limit") if part)
    lines += [("Clock", clock or "not given")]
    if stored or len(own):
        lines += [("Weights stored in", stored or "not given")]
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
        lines += _descriptions(rows)
        lines.append(("Masks", _masks(rows)))
    if not quality.empty:
        texts = quality[["text", "text_sha256"]].drop_duplicates()
        lines += [(f"Token ids of {t}", f"sha256 {h}") for t, h in texts.itertuples(index=False) if h]
    return lines


def _masks(rows: pd.DataFrame) -> str:
    hashed = rows["mask_sha256"] != ""
    needless = ~hashed & (rows["level"] == KERNEL) & (rows["source"] != "simulated")
    without = int((~hashed & ~needless).sum())
    parts = [f"{rows.loc[hashed, 'mask_sha256'].nunique():,} different hashes"] if hashed.any() or without else []
    parts += [f"{without:,} rows without one"] if without else []
    if needless.any():
        parts.append(
            f"none needed in {int(needless.sum()):,} rows: a GPU's time depends on the shape and on being 2:4 alone"
        )
    return "; ".join(parts)


def _descriptions(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Hash of each target's description, with all of its settings."""
    lines = []
    for key, specs in groups(rows[["target", "settings", "spec_sha256"]].drop_duplicates(), ["target"]):
        name = f"Description of {key['target']}"
        if len(specs) > _LISTED:
            lines.append((name, f"{len(specs):,} different settings; rows.csv has them with their hashes"))
            continue
        for settings, sha256 in zip(specs["settings"], specs["spec_sha256"], strict=True):
            said = f"sha256 {sha256}" if sha256 else "no hash given"
            short = settings_text(settings)
            tag = f" (settings {settings_tag(settings)})" if short != " ".join(settings.split()) else ""
            lines.append((name, f"{said}, with {settings}{tag}" if settings else said))
    return lines


def verdict(headline: pd.DataFrame) -> list[tuple[str, bool]]:
    """What a reader must not miss: (sentence, is a warning) per configuration, slowdowns and more energy by name. A GPU at several token
    counts has one sentence for all of them."""
    lines = []
    for key, group in groups(headline, WITHOUT_TOKENS):
        together = key["level"] == KERNEL and group["tokens"].nunique() > 1
        for config, part in groups(group, WITHOUT_TOKENS if together else CONFIG):
            sentence, warns = _sentence(part)
            lines.append((f"{config_text(config)}: {sentence}.", warns))
    return lines


def _sentence(group: pd.DataFrame) -> tuple[str, bool]:
    known = group[group["speedup"].notna()]
    if not group["layers"].sum():
        return "cannot be run, no layer is counted", True
    slow, parts = _against_dense(known, "speedup", "slower than dense", "speedup")
    hungry, energy = _against_dense(known, "energy_ratio", "more energy than dense", "energy ratio")
    parts += energy
    left_out = int(group["infeasible_layers"].sum())
    if left_out:
        parts.append(f"{left_out} of {left_out + int(group['layers'].sum())} layer results cannot run and are left out")
    beyond = int(group["extrapolated_layers"].sum())
    if beyond:
        parts.append(f"{beyond} of {int(group['layers'].sum())} layer results are extrapolated")
    bare = int(group["no_baseline_layers"].sum())
    if bare:
        parts.append(
            f"{bare} of {int(group['layers'].sum())} layer results have no dense baseline, which does not fit: no speedup"
        )
    return "; ".join(parts) or "the dense time is not known", bool(slow or hungry or left_out or bare)


def _against_dense(lines: pd.DataFrame, column: str, worse: str, better: str) -> tuple[int, list[str]]:
    """(how many are worse than dense, what to say of them and of the others); nothing where the ratio is not known."""
    several = lines["tokens"].nunique() > 1
    blurred = (lines["verdict"] == UNCLEAR) & (column == "speedup")
    unclear, lines = lines[blurred], lines[~blurred]
    bad, good = lines[lines[column] < 1], lines[lines[column] >= 1]
    parts = []
    if len(unclear):
        parts.append(
            f"not distinguishable from dense within the error of the prediction: {_named(unclear, column, several)}"
        )
    if len(bad):
        parts.append(f"{worse}: {_named(bad, column, several)}")
    if len(good):
        spread = between(good[column])
        parts.append(f"the other {len(good)}: {spread}" if len(bad) or len(unclear) else f"{better} {spread}")
    return len(bad), parts


def _named(lines: pd.DataFrame, column: str, with_tokens: bool) -> str:
    """The methods of some lines with their ratios, as many as anyone reads."""
    at = [f" at {tokens_text(n)}" if with_tokens else "" for n in lines["tokens"]]
    names = [
        f"{method} {pattern}{where} {times_text(value)}".replace("  ", " ")
        for method, pattern, where, value in zip(lines["method"], lines["pattern"], at, lines[column], strict=True)
    ]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def between(ratios: pd.Series) -> str:
    """ "1.20x to 1.44x", "1.20x" where they print alike."""
    low, high = times_text(ratios.min()), times_text(ratios.max())
    return low if low == high else f"{low} to {high}"


def designs_verdict(table: pd.DataFrame) -> tuple[str, bool]:
    """(sentence, is a warning) of a table of `design_tables`."""
    whole = table[table["infeasible_layers"] == 0]
    barred = table.loc[table["infeasible_layers"] > 0, "settings"].nunique()
    parts = [f"{table['settings'].nunique():,} designs that differ in {', '.join(swept_keys(table['settings']))}"]
    slow = hungry = 0
    if whole["speedup"].notna().any():
        slow, hungry = int((whole["speedup"] < 1).sum()), int((whole["energy_ratio"] < 1).sum())
        parts.append(f"speedup {between(whole['speedup'].dropna())}")
        if whole["energy_ratio"].notna().any():
            parts.append(f"energy ratio {between(whole['energy_ratio'].dropna())}")
        fastest = whole.iloc[0]
        over = (
            "no dense run"
            if pd.isna(fastest["speedup"])
            else f"{times_text(fastest['speedup'])} over its own dense run"
        )
        parts.append(f"fastest: {fastest['design_settings']} ({over})")
    results = f"of {len(whole):,} design and mask pairs" if table["method"].nunique() > 1 else f"of {len(whole):,}"
    parts += [f"{slow:,} {results} slower than dense"] if slow else []
    parts += [f"{hungry:,} {results} with more energy than dense"] if hungry else []
    bare = table.loc[table["no_baseline_layers"] > 0, "settings"].nunique()
    parts += [f"{bare:,} without a dense baseline, which does not fit"] if bare else []
    parts += [f"{barred:,} design{'' if barred == 1 else 's'} cannot run every layer"] if barred else []
    return "; ".join(parts), bool(slow or hungry or barred or bare)


def tokens_text(tokens: object) -> str:
    if pd.isna(tokens):
        return "tokens not given"
    return "1 token" if tokens == 1 else f"{tokens} tokens"


def config_text(key: dict) -> str:
    """ "model, target with key=value (cycle level), 512 tokens": the heading of everything that may be compared; without tokens
    where the key has none."""
    settings = f" with {settings_text(key['settings'])}" if key["settings"] else ""
    dense = key["activation_density"]
    activations = f", {100 * dense:g} % of activations nonzero" if dense < 1 else ""
    level = f" ({key['level']} level)" if key["level"] else ""
    source = f", {key['source']}" if key["source"] not in ("", "simulated") else ""
    tokens = f", {tokens_text(key['tokens'])}" if "tokens" in key else ""
    return f"{key['model']}, {key['target']}{settings}{level}{source}{tokens}{activations}"


def masks_text(key: dict) -> str:
    """ "tiny, wanda 2:4", "tiny, wanda 50 %": a model and what made its masks."""
    asked = key["target_sparsity"]
    pattern = key["pattern"] if pd.isna(asked) or ":" in key["pattern"] else f"{100 * asked:g} %"
    return f"{key['model']}, {key['method']} {pattern}".strip()


def coverage(rows: pd.DataFrame) -> str:
    """How many rows the sums leave out; empty when none."""
    barred, others = int((~known(rows)).sum()), int(known(rows).sum()) - len(counted(rows))
    bare = int(no_baseline(rows).sum())
    without = f"{bare:,} of {len(rows):,} result rows have no dense baseline, as it does not fit: sums with them have no speedup."
    if not barred:
        return without if bare else ""
    also = f" {others:,} rows of the same layers with other seeds are left out with them." if others else ""
    text = f"{barred:,} of {len(rows):,} result rows cannot run on their target and are in no sum.{also}"
    return f"{text} {without}" if bare else text


def ratios_alone(contents: Contents) -> str:
    """How many published figures are only in the table of sources; empty when none."""
    out = (contents.rows["source"] == "published").sum() - (contents.plain["source"] == "published").sum()
    return (
        f"{out:,} published rows are a ratio, or one of both times, alone: they are in this table and in no sum."
        if out
        else ""
    )


def compared_text(key: dict) -> str:
    """The caption of a table of `compare_tables`."""
    asked = key["target_sparsity"]
    pattern = key["pattern"] if pd.isna(asked) or ":" in key["pattern"] else f"{key['pattern']} {100 * asked:g} %"
    out = key["left_out"]
    left = f"; {out} layers that not every method can run here are left out" if out else ""
    what = "time" if key["level"] == KERNEL else "cycles"
    return f"{config_text(key)}, {pattern}: mean {what} per layer{left}"


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
