"""Whole models in reports: what free linears would give, who overtakes whom and where, charts only of what differs."""

import math

import pandas as pd
import pytest

from reports import write_report
from reports.contents import gather
from reports.render.data import fields
from reports.section import Drawing, Points, Table
from reports.sections.serving import sentences, serving
from reports.sections.serving_batches import serving_batches
from reports.sections.serving_contexts import serving_contexts
from reports.sections.serving_gains import serving_gains
from reports.sections.serving_roofline import serving_roofline
from reports.sections.serving_shares import serving_shares
from reports.tables.rooflines import below_slope, rooflines
from reports.tables.serving import gains_table, overtakings, places, same_times, serving_table
from tests.reports.samples import svg_bytes
from workloads.columns.inference import INFERENCE_COLUMNS, OPERATION_COLUMNS
from workloads.rows import to_frame
from workloads.whole_models import WholeModels

FACTS = {
    "model": "tiny", "target": "gpu", "dtype": "fp16", "kv_bits": 16, "tensor_parallel": 1, "host": "graph",
    "batch": 1, "prompt": 100, "generate": 10, "source": "predicted", "fits": True, "feasible": True,
    "memory_gib": 20.0, "largest_batch": 8, "bound": "memory", "latency_error_p90": 0.1, "spec_sha256": "s",
}  # fmt: skip


def line(method: str, batch: int, rate: float, dense: float, linears: float = 0.5, **others) -> dict:
    """`rate` tokens a second, beside `dense` of the unpruned model; the rest of the time is attention's."""
    return {
        **FACTS, "method": method, "batch": batch, "prefill_ms": 1e3 * batch / rate, "decode_ms_per_token": 5.0,
        "tokens_per_s": rate, "linears_share": linears, "attention_share": 1 - linears, "speedup": rate / dense,
        "speedup_error_p90": 0.05 if method != "dense" else 0.0, "verdict": "faster" if rate > dense else "", **others,
    }  # fmt: skip


def whole(*lines: dict, **others) -> WholeModels:
    return WholeModels(to_frame(lines, INFERENCE_COLUMNS), **others)


def two(**others) -> list[dict]:
    """2:4 is ahead at 1 and 4 sequences, int4 at 16: equal where 1.5 (at 4) falls to 0.5 (at 16), half way in logs."""
    rates = {1: (100, 200, 100), 4: (300, 450, 300), 16: (400, 500, 1000)}
    return [
        line(method, batch, rate, rates[batch][0], **others)
        for batch in rates
        for method, rate in zip(("dense", "2:4", "int4"), rates[batch], strict=True)
    ]


def steps_over_three_contexts(**others) -> list[dict]:
    """Steps of 4, 8 and 16 sequences at 1,000 to 16,000 tokens, where int4 does not fit."""
    rates = {1000: (100, 200, 400), 4000: (90, 180, 120), 16000: (80, 120, 500)}
    return [
        line(method, batch, rate, rates[context][0], prefill_ms=None, prompt=context - 1, generate=1,
             fits=(context, method) != (16000, "int4"), **others)
        for batch in (4, 8, 16)
        for context in rates
        for method, rate in zip(("dense", "2:4", "int4"), rates[context], strict=True)
    ]  # fmt: skip


def test_who_is_the_fastest_over_the_context():
    """Steps of 4 and 16 sequences; int4 falls behind where 2:4 goes from 0.5 to 1.5 of its rate: in the middle of the
    logarithms of 1,000 and 4,000. What does not fit is not the fastest; batches between the ends are left out."""
    lines = steps_over_three_contexts()
    section = serving_contexts(gather(None, None, whole=whole(*lines)))
    (points,) = blocks(section, Points)
    crossed = "the fastest step that fits is int4 at 1,000 tokens, then 2:4 at 4,000 to 16,000 tokens"
    assert points.sentences == [
        f"tiny on gpu, {batch} sequences: {crossed} (overtaking near 2,000)." for batch in (4, 16)
    ]
    drawings = blocks(section, Drawing)
    assert [drawing.title for drawing in drawings] == [
        f"Tokens a second over context: gpu, tiny, decode steps of {batch} sequences" for batch in (4, 16)
    ]
    assert "2:4 200 at 1,000 tokens of context" in drawings[0].text
    assert "180 at" not in drawings[0].text  # of the ends alone
    assert fields(drawings[0].chart) <= set(drawings[0].data.columns)
    assert drawings[0].data["fits_said"].tolist() == ["yes"] * 8 + ["no"]
    assert all(svg_bytes(drawing.draw()) for drawing in blocks(section, Drawing))
    assert serving_contexts(gather(None, None, whole=whole(*lines[:6]))) is None


def blocks(section, kind) -> list:
    return [] if section is None else [block for block in section.blocks if isinstance(block, kind)]


def test_free_linears_leave_what_is_not_theirs():
    """Of a quarter in linears 4/3 is left; of a method at 2x with 0.4 in linears 2 / 0.6, the same where it is theirs
    alone that it made shorter."""
    table = serving_table(whole(line("dense", 1, 100, 100, 0.7), line("2:4", 1, 200, 100, 0.4)))
    assert list(table["free_linears_speedup"]) == pytest.approx([1 / 0.3, 2 / 0.6])
    assert math.isclose(1 / 0.3, 2 / 0.6)
    alone = serving_table(whole(line("dense", 1, 100, 100, 1.0))).iloc[0]
    assert pd.isna(alone["free_linears_speedup"])


def test_who_is_the_fastest_and_from_where_on():
    ((key, lines),) = places(serving_table(whole(*two())))
    assert (key["target"], key["prompt"]) == ("gpu", 100)
    (first, second) = overtakings(lines)
    assert first == ("2:4", 1, 4, None)
    # int4 / 2:4 is 2/3 at 4 and 2 at 16: it passes 1 a quarter of the way in log(batch).
    assert second[:3] == ("int4", 16, 16)
    assert second[3] == pytest.approx(4 * 4**0.25)
    short = [one if one["batch"] < 16 else {**one, "fits": one["method"] == "dense"} for one in two()]
    ((_, lines),) = places(serving_table(whole(*short)))
    assert overtakings(lines) == [("2:4", 1, 4, None), ("dense", 16, 16, None)]


def test_sentences_name_bound_and_error():
    said = [text for text, _ in sentences(serving_table(whole(*two())))]
    assert len(said) == 2  # at one sequence, and at 16
    assert said[0] == (
        "tiny on gpu, 1 sequence, prompts of 100 tokens, 10 new ones: dense 10.0 ms to the first token, 100 tokens/s, "
        "bound by memory; 2.00x if its linears were free; fastest that fits is 2:4, 2.00x ± 5 %: 5.00 ms to the first "
        "token, 200 tokens/s, bound by memory, 50 % of it in linears, its time within 10 %."
    )
    full = [{**one, "fits": False} for one in two()]
    assert sentences(serving_table(whole(*full)))[0] == (
        "tiny on gpu, 1 sequence, prompts of 100 tokens, 10 new ones: nothing fits; the smallest needs 20.0 GiB.",
        True,
    )
    barred = {**FACTS, "method": "int8", "feasible": False, "fits": False, "reason": "no kernel"}
    assert sentences(serving_table(whole(barred))) == [("tiny on gpu, int8: cannot run (1 lines): no kernel", True)]


def test_no_chart_of_what_is_all_the_same():
    same = [line(method, batch, 100 * batch, 100 * batch) for batch in (1, 4, 16) for method in ("dense", "masks")]
    contents = gather(None, None, whole=whole(*same))
    assert blocks(serving_shares(contents), Drawing) == []
    assert "all methods take as long as the dense model" in blocks(serving_shares(contents), Points)[0].sentences[0]
    assert same_times(contents.serving) == [("tiny", "masks", "dense")]
    assert (
        "tiny: masks takes as long as dense in all of this." in blocks(serving_batches(contents), Points)[0].sentences
    )
    assert serving_gains(contents) is None  # one context


def grown() -> WholeModels:
    lines = [
        line(method, batch, rate, 100, prompt=prompt, fits=batch * prompt < 2000)
        for prompt, batch, gain in [(100, 1, 150), (100, 16, 130), (200, 1, 140), (200, 16, 110)]
        for method, rate in (("dense", 100), ("2:4", gain), ("int4", gain))
    ]
    return whole(*lines)


def test_gains_over_sequences_and_context():
    contents = gather(None, None, whole=grown())
    found = gains_table(contents.serving).set_index("method").loc["2:4"]
    assert (found["least_speedup"], found["least_batch"], found["least_context"]) == (1.3, 16, 110)  # of those that fit
    assert (found["most_speedup"], found["most_batch"], found["most_context"]) == (1.5, 1, 110)
    section = serving_gains(contents)
    (drawn,) = blocks(section, Drawing)  # int4 is the same
    assert "2:4" in drawn.text
    assert b"</svg>" in svg_bytes(drawn.draw())
    assert len(blocks(section, Table)) == 1


def operations() -> pd.DataFrame:
    """At 10 FLOP a byte below a ridge of 100, and at 1000 above it; a write without FLOP has no place."""
    names = {column.name for column in OPERATION_COLUMNS}
    facts = {name: value for name, value in FACTS.items() if name in names}
    facts |= {"method": "dense", "weight_bytes": 0, "activation_bytes": 0, "kv_bytes": 1e8}
    rows = [
        {"role": "o", "phase": "decode", "flop": 1e9, "latency_us": 100.0, "share": 0.6},
        {"role": "attention", "phase": "prefill", "flop": 1e11, "latency_us": 1000.0, "share": 0.3},
        {"role": "kv_write", "phase": "decode", "flop": 0, "latency_us": 1.0, "share": 0.1},
    ]
    return to_frame([{**facts, "operation": row["role"], **row} for row in rows], OPERATION_COLUMNS)


def test_operations_under_roofs():
    roofs = pd.DataFrame(
        [{"target": "gpu", "settings": "", "dtype": "fp16", "peak_tflops": 200, "bandwidth_gbps": 2000}]
    )
    found = whole(line("dense", 1, 100, 100), operations=operations(), roofs=roofs)
    ((_, points, peak, bandwidth),) = rooflines(found, serving_table(found))
    assert list(points["group"]) == ["linears", "attention"]
    assert list(points["intensity"]) == [10, 1000]
    assert list(points["tflops"]) == pytest.approx([10, 100])
    assert below_slope(points, peak, bandwidth) == (0.6, 0.3)
    section = serving_roofline(gather(None, None, whole=found))
    assert (
        "left of the ridge (100 FLOP a byte) take 60 % of the time, those right of it 30 %"
        in (blocks(section, Points)[0].sentences[0])
    )
    every, alone = blocks(section, Drawing)
    assert (len(every.data), len(alone.data)) == (2, 1)
    assert alone.data["part"].tolist() == ["linears"]
    assert alone.label == f"linears alone: {every.label}"
    assert len({every.name, alone.name}) == 2
    assert b"Roofline of linears, dense model" in svg_bytes(alone.draw())
    linears = operations().query("role == 'o'")
    found = whole(line("dense", 1, 100, 100), operations=linears, roofs=roofs)
    assert len(blocks(serving_roofline(gather(None, None, whole=found)), Drawing)) == 1
    assert rooflines(whole(line("dense", 1, 100, 100)), serving_table(found)) is not None
    assert list(rooflines(whole(line("dense", 1, 100, 100)), serving_table(found))) == []


def test_all_four_forms_have_the_headline(tmp_path, capsys):
    from rich.console import Console

    from reports import print_report

    found = whole(*two(), perplexities=pd.DataFrame([{"model": "tiny", "method": "2:4", "perplexity": 9.87}]))
    files = write_report(None, None, tmp_path, "Served", [], whole=found)
    for name in ("report.html", "report.md", "report.tex"):
        text = files[name].read_text()
        assert "int4" in text, name
        assert "9.87" in text, name
    page = files["report.html"].read_text()
    assert page.count("<figure") == 2  # where the time goes, tokens a second
    assert "the fastest that fits is 2:4 at 1 to 4 sequences, then int4 at 16 sequences (overtaking near 6)" in page
    assert list(pd.read_csv(files["inference.csv"]).columns) == [column.name for column in INFERENCE_COLUMNS]
    assert "Provenance" in page
    print_report(None, None, Console(width=160), 4, found)
    assert "9.87" in capsys.readouterr().out


def test_without_whole_models_there_is_no_section():
    contents = gather(None, None, whole=WholeModels(pd.DataFrame()))
    assert serving(contents) is None
    assert serving_shares(contents) is None
    assert serving_batches(contents) is None
    assert serving_roofline(contents) is None
