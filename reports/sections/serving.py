"""Whole models: a sentence on what each target does with them, and every configuration in a table."""

import pandas as pd

from reports.contents import Contents
from reports.section import PAGE, PAPER, TERMINAL, Block, Section, Table, some_of
from reports.tables.serving import (
    GROUPS,
    KNOWN,
    SIZES,
    STEP,
    by_target,
    dense_of,
    fastest,
    places,
    telling,
)  # fmt: skip
from reports.tables.sums import groups
from reports.words import serving as words
from reports.words.present import quantity_text, times_text

FILE = "serving.csv"
COLUMNS = [
    # The speedup early: on a phone only the first columns are seen without scrolling.
    *("method", "batch", "speedup", "prompt", "generate", "prefill_ms", "decode_ms_per_token", "tokens_per_s"),
    *("perplexity", "dense_perplexity", "dtype", "memory_gib", "fits", "largest_batch", "bound", "latency_error_p90"),
    *(
        "free_linears_speedup",
        *(f"{group}_share" for group in GROUPS),
        "weight_gib",
        "kv_gib",
        "extrapolated",
        "reason",
    ),
]
FIRST = [
    *("target", "method", "batch", "speedup", "prefill_ms", "tokens_per_s", "perplexity", "memory_gib", "fits"),
    *("bound", "latency_error_p90"),
]
SHARED = ("model", "dtype", "prompt", "generate", "dense_perplexity")


def serving(contents: Contents) -> Section | None:
    table = contents.serving
    if table.empty:
        return None
    tables = [_table(key, lines) for key, lines in by_target(table)]
    told = [lines[lines["batch"].isin(telling(lines))] for _, lines in places(table)]
    blocks: list[Block] = []
    if told:
        blocks.append(_headline(pd.concat(told)))
    blocks += [*some_of(tables, FILE), *_papers(table), *_first(table)]
    files = {FILE: table.drop(columns=[STEP, "context", "usable"])}
    if (whole := contents.whole) is not None:
        files |= {"inference.csv": whole.rows}
        files |= {"operations.csv": whole.operations} if len(whole.operations) else {}
    return Section("Whole models: prefill, decode, memory", blocks, words.HOW_SERVING, files)


def sentences(table: pd.DataFrame) -> list[tuple[str, bool]]:
    """What decides on each target, for few and for many sequences: the time and speed of the dense model, the fastest
    that fits, its bound and its error; what is slower."""
    found = [(text, warns) for key, lines in places(table) for text, warns in _of_place(key, lines)]
    barred = table[~table["feasible"]]
    for key, lines in groups(barred, ["model", "target", "method", "reason"]) if len(barred) else []:
        found.append(
            (
                f"{key['model']} on {key['target']}, {key['method']}: cannot run ({len(lines)} lines): {key['reason']}",
                True,
            )
        )
    return found


def _of_place(key: dict, lines: pd.DataFrame) -> list[tuple[str, bool]]:
    made = []
    for batch in telling(lines):
        at = lines[lines["batch"] == batch]
        where = f"{key['model']} on {words.target_name(key)}, {words.sequences(batch)}, {words.sizes_text(key)}"
        best, dense = fastest(at), dense_of(at)
        if best.empty:
            needed = at["memory_gib"].min()
            made.append((f"{where}: nothing fits; the smallest needs {quantity_text(needed)} GiB.", True))
            continue
        said = [_dense_text(dense.iloc[0])] if len(dense) else []
        one = best.iloc[0]
        if not len(dense) or one["method"] != dense.iloc[0]["method"]:
            said.append(_best_text(one))
        slow = at[at["verdict"] == "slower"]
        if len(slow):
            said.append(
                "slower than dense: "
                + ", ".join(f"{m} {times_text(s)}" for m, s in zip(slow["method"], slow["speedup"], strict=True))
            )
        made.append((f"{where}: {'; '.join(said)}.", bool(len(slow))))
    return made


def _dense_text(line: pd.Series) -> str:
    fits = "" if line["usable"] else f" (which would need {quantity_text(line['memory_gib'])} GiB and does not fit)"
    free = line["free_linears_speedup"]
    limit = f"; {times_text(free)} if its linears were free" if pd.notna(free) else ""
    return f"dense{fits} {_rates(line)}, bound by {line['bound']}{limit}"


def _best_text(line: pd.Series) -> str:
    gain = words.gain_text(line["speedup"], line["verdict"], line["speedup_error_p90"])
    error = f", its time within {words.percent(line['latency_error_p90'])}" if line["latency_error_p90"] > 0 else ""
    group = max(GROUPS, key=lambda name: line[f"{name}_share"] if pd.notna(line[f"{name}_share"]) else 0)
    most = f", {words.percent(line[f'{group}_share'])} of it in {'what the host adds' if group == 'host' else group}"
    return f"fastest that fits is {line['method']}, {gain}: {_rates(line)}, bound by {line['bound']}{most}{error}"


def _rates(line: pd.Series) -> str:
    return f"{words.ms_text(line['prefill_ms'])} to the first token, {quantity_text(line['tokens_per_s'])} tokens/s"


def _headline(lines: pd.DataFrame) -> Table:
    columns = ["model", "target", *COLUMNS]
    name = "The smallest batch, and the largest at which the dense model fits"
    return Table(lines, columns, name, shared=SHARED, known=KNOWN, file=FILE, fold=False, most=120)


def _table(key: dict, lines: pd.DataFrame) -> Table:
    name = f"{key['model']} on {words.target_name(key)}"
    return Table(lines, COLUMNS, f"{name}, every configuration", shared=SHARED[1:], known=KNOWN, only=PAGE, fold=True)


def _papers(table: pd.DataFrame) -> list[Block]:
    """On paper the lines that the sentences are of."""
    caption = "{model} on {where}, {sizes}: speedup over the dense model in fp16."
    return [
        Table(
            lines[lines["batch"].isin(telling(lines))], [name for name in COLUMNS[:17] if name not in SIZES],
            label="serving-", known=KNOWN, only=PAPER,
            paper_caption=caption.format(model=key["model"], where=words.target_name(key), sizes=words.sizes_text(key)),
        )
        for key, lines in places(table)
    ]  # fmt: skip


def _first(table: pd.DataFrame) -> list[Block]:
    """In a terminal the largest batch that the sentences are of, all targets of a model together."""
    each: dict[str, list[pd.DataFrame]] = {}
    for key, lines in places(table):
        told = lines[lines["batch"] == telling(lines)[-1]]
        each.setdefault(f"{key['model']}, {words.sizes_text(key)}", []).append(told)
    return [Table(pd.concat(lines), FIRST, name, known=KNOWN, only=TERMINAL) for name, lines in each.items()]
