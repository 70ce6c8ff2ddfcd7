"""prunesim inference: whole models on GPUs from the command line and from Python."""

import io
import itertools
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import prunesim as ps
from checkpoints.catalog_layers import catalog_layers
from studies.cli.main import main
from workloads.columns.inference import INFERENCE_COLUMNS, OPERATION_COLUMNS
from workloads.csv_text import csv_text

CONFIG = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
}  # fmt: skip
SMALL = ("--prompt", "64", "--generate", "16")


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "small.json").write_text(json.dumps(CONFIG))
    return tmp_path / "small.json"


def printed(capsys, *arguments: object) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text_of(capsys, *arguments)))


def text_of(capsys, *arguments: object) -> str:
    capsys.readouterr()
    with suppress(SystemExit):
        main(["inference", *map(str, arguments), "--format", "csv"])
    return capsys.readouterr().out


def ended(capsys, *arguments: object) -> tuple[int, str]:
    """The exit code, and what is said."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["inference", *map(str, arguments)])
    return int(stop.value.code or 0), capsys.readouterr().err


def bundle(folder: Path, pattern: str, **values) -> ps.MaskBundle:
    writer = ps.BundleWriter(folder, ps.BundleHeader("small", "magnitude", pattern, model_config=CONFIG))
    for layer in catalog_layers(CONFIG):
        kept = np.zeros(layer.shape, dtype=bool)
        kept[:, :: 4 if pattern == "1:4" else 2] = True
        writer.add(layer, ps.PackedMask.from_dense(kept), pattern, **values)
    return writer.finish()


def test_a_row_for_each_combination(config, capsys):
    rows = printed(
        capsys, config, "--on", "a100-sxm", "--on", "h100-sxm", "--batch", "1,8", "--dtype", "fp16,int4",
        "--tensor-parallel", "1,2", *SMALL,
    )  # fmt: skip
    assert len(rows) == 16
    assert list(rows.columns) == [column.name for column in INFERENCE_COLUMNS]
    assert len(rows[["target", "batch", "dtype", "tensor_parallel"]].drop_duplicates()) == 16
    assert rows["feasible"].all()
    assert rows["fits"].all()
    assert (rows.filter(like="_share").sum(axis=1) - 1).abs().max() < 1e-9
    assert (rows.loc[rows["dtype"] == "fp16", "speedup"] == 1).all()


def test_figures_of_a_row_follow_from_each_other(config, capsys):
    (row,) = printed(capsys, config, "--on", "h100-sxm", "--batch", 4, *SMALL, "--host", "2").itertuples()
    whole_ms = row.prefill_ms + 15 * row.decode_ms_per_token
    assert row.tokens_per_s == pytest.approx(4 * 16 / whole_ms * 1e3)
    assert row.host_share == pytest.approx(16 * 2 / whole_ms)
    weights = 2 * (256 * 256 * 2 + 2 * 128 * 256 + 3 * 256 * 512 + 2 * 256) + 2 * 1000 * 256 + 256
    assert row.weight_gib == pytest.approx(2 * weights / 2**30)
    assert row.kv_gib == pytest.approx(4 * 79 * 2 * 2 * 2 * 64 * 2 / 2**30)
    assert row.memory_gib == pytest.approx(row.weight_gib + row.kv_gib + row.activation_gib + 3.5)


def test_operations_add_up_to_the_row(config, capsys):
    asked = [config, "--on", "h100-sxm", "--batch", 4, *SMALL, "--host", "eager"]
    (row,) = printed(capsys, *asked).itertuples()
    operations = printed(capsys, *asked, "--operations")
    assert list(operations.columns) == [column.name for column in OPERATION_COLUMNS]
    spent = operations.groupby("phase")["latency_us"].sum() / 1e3
    assert spent["prefill"] == pytest.approx(row.prefill_ms)
    assert spent["decode"] == pytest.approx(15 * row.decode_ms_per_token)
    assert operations["share"].sum() == pytest.approx(1)
    assert operations.loc[operations["operation"] == "host", "share"].sum() == pytest.approx(row.host_share)


def test_what_a_bundle_leaves(tmp_path, config, capsys):
    """2:4 is stored packed; zeros without a pattern run as the dense model does; bits are the bundle's."""
    dense = printed(capsys, config, "--on", "h100-sxm", *SMALL).iloc[0]
    plain = printed(capsys, bundle(tmp_path / "a", "unstructured").folder, "--on", "h100-sxm", *SMALL).iloc[0]
    assert (plain["method"], plain["verdict"], plain["speedup"]) == ("magnitude", "same kernels", 1)
    assert plain["weight_gib"] == dense["weight_gib"]
    packed = printed(capsys, bundle(tmp_path / "b", "2:4").folder, "--on", "h100-sxm", *SMALL).iloc[0]
    linears = 2 * (256 * 256 * 2 + 2 * 128 * 256 + 3 * 256 * 512) * 2 / 2**30
    assert dense["weight_gib"] - packed["weight_gib"] == pytest.approx(linears * (1 - 9 / 16))
    assert packed["verdict"] != "same kernels"
    four = printed(
        capsys, bundle(tmp_path / "c", "unstructured", weight_bits=4, group_size=64).folder, "--on", "h100-sxm", *SMALL
    ).iloc[0]
    assert dense["weight_gib"] - four["weight_gib"] == pytest.approx(linears * (1 - (4 + 20 / 64) / 16))


@pytest.mark.parametrize(
    ("pattern", "dtype", "bits"),
    [
        ("2:4", "fp16", 8 + 1),  # half the values, two bits of place for each
        ("1:4", "fp16", 8 + 1),  # what 2:4 kernels read holds two of four
        ("4:8", "fp16", 16),  # no kernel: with its zeros
        ("2:4", "int8", 4 + 1),
        ("2:4", "int8-weight", 8),  # weight-only kernels know no 2:4
        ("2:4", "int4", 4 + 20 / 128),
    ],
)
def test_masks_are_stored_as_kernels_read_them(tmp_path, config, capsys, pattern, dtype, bits):
    asked = (bundle(tmp_path / "a", pattern).folder, "--on", "a100-sxm", "--dtype", dtype, *SMALL)
    row = printed(capsys, *asked).iloc[0]
    dense = printed(capsys, config, "--on", "a100-sxm", *SMALL).iloc[0]
    weights = 2 * (256 * 256 * 2 + 2 * 128 * 256 + 3 * 256 * 512)
    rows = 2 * (256 + 2 * 128 + 256 + 2 * 512 + 256) if dtype.startswith("int8") else 0  # a scale, a zero point each
    stored = (weights * bits + rows * 24) / 8
    assert (dense["weight_gib"] - row["weight_gib"]) * 2**30 == pytest.approx(weights * 2 - stored)
    operations = printed(capsys, *asked, "--operations")
    linears = operations["role"].isin(["qkv", "q", "k", "v", "o", "gate_up", "gate", "up", "down"])
    read = operations[linears & (operations["phase"] == "prefill")]
    assert read["weight_bytes"].sum() == pytest.approx(stored)


def test_fewer_bits_than_the_type_of_the_products_are_said(tmp_path, capsys):
    folder = bundle(tmp_path / "a", "unstructured", weight_bits=4, group_size=64).folder
    for dtype, said in (("int8", "weights of 4 bits as those of int8"), ("fp16", "")):
        rows = (
            printed(capsys, folder, "--on", "a100-sxm", "--dtype", dtype, *SMALL, "--operations")
            .astype(object)
            .fillna("")
        )
        assert set(rows.loc[rows["role"].isin(["qkv", "o", "down"]), "assumed"]) == {said}


def test_shares_of_the_table_add_up(tmp_path, config, capsys):
    """Experts, communication and the host are shown where there are some."""
    experts = CONFIG | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    (tmp_path / "experts.json").write_text(json.dumps(experts))
    for model, also in ((config, []), (tmp_path / "experts.json", ["--tensor-parallel", "2"])):
        capsys.readouterr()
        with suppress(SystemExit):
            main(["inference", str(model), "--on", "h100-sxm", *also, *SMALL])
        names, values = (line.split() for line in capsys.readouterr().out.splitlines())
        shares = [float(values[i]) for i, name in enumerate(names) if name.endswith("_share")]
        assert sum(shares) == pytest.approx(1, abs=1e-3)
        assert ("experts_share" in names) == ("communication_share" in names) == bool(also)


def test_accelerators_have_the_same_columns(config, capsys):
    """Without errors, and without a word on whether it fits where their memory is not stated."""
    asked = [config, "--on", "vitcod", "--on", "systolic", "--batch", "1,4", *SMALL]
    rows = printed(capsys, *asked)
    assert list(rows.columns) == [column.name for column in INFERENCE_COLUMNS]
    assert rows[["latency_error_p90", "speedup_error_p90", "verdict", "fits", "largest_batch"]].isna().all(axis=None)
    assert (rows["speedup"] == 1).all()
    assert set(rows["source"]) == {"simulated"}
    assert (rows["dtype"] == "w8a8").all()
    assert rows["reason"].str.contains("memory.capacity_gib of").all()
    weights = 2 * (256 * 256 * 2 + 2 * 128 * 256 + 3 * 256 * 512 + 2 * 256) + 2 * 1000 * 256 + 256
    assert (rows["weight_gib"] * 2**30).tolist() == pytest.approx([weights] * 4)
    assert rows["kv_gib"][1] == pytest.approx(4 * 79 * 2 * 2 * 2 * 64 / 2**30)
    operations = printed(capsys, *asked, "--operations")
    assert list(operations.columns) == [column.name for column in OPERATION_COLUMNS]
    spent = operations.groupby(["target", "batch"], sort=False)["latency_us"].sum() / 1e3
    assert spent.tolist() == pytest.approx((rows["prefill_ms"] + 15 * rows["decode_ms_per_token"]).tolist())
    assert (operations.loc[operations["role"] == "norm", "assumed"] == "roofline of vector.lanes and DRAM").all()


def test_a_stated_memory_fits_or_not(config):
    rows = [
        ps.inference(config, on="vitcod", prompt=64, generate=2, set={"memory.capacity_gib": gib}).frame
        for gib in (0.001, 0.1)
    ]
    assert [frame["fits"][0] for frame in rows] == [False, True]
    assert rows[0]["largest_batch"][0] == 0
    assert rows[1]["reason"][0] == ""


def test_masks_run_as_simulate_runs_them(tmp_path, config):
    """Layer by layer the cycles of `simulate` at the tokens of the phase, and its speedup; weights as they are
    loaded."""
    masks = bundle(tmp_path / "a", "unstructured")
    rows = ps.inference(masks, on="vitcod", batch=2, prompt=8, generate=3, operations=True).frame
    for phase, tokens, steps in (("prefill", 16, 1), ("decode", 2, 2)):
        layers = ps.simulate(masks, on="vitcod", tokens=tokens).frame
        for role in ("q", "k", "o", "gate", "down"):
            own = rows[(rows["phase"] == phase) & (rows["role"] == role)]
            assert own["latency_us"].sum() == pytest.approx(
                steps * layers.loc[layers["role"] == role, "latency_us"].sum()
            )
            moved = layers.loc[layers["role"] == role, ["weight_bytes", "metadata_bytes", "scale_bytes"]].sum(axis=None)
            assert own["weight_bytes"].sum() == pytest.approx(steps * moved)
    (row,) = ps.inference(masks, on="vitcod", batch=2, prompt=8, generate=3).frame.itertuples()
    (dense,) = ps.inference(config, on="vitcod", batch=2, prompt=8, generate=3).frame.itertuples()
    ours, theirs = (each.prefill_ms + 2 * each.decode_ms_per_token for each in (row, dense))
    assert row.speedup == pytest.approx(theirs / ours)
    assert row.speedup > 1
    loaded = ps.simulate(masks, on="vitcod").frame[["weight_bytes", "metadata_bytes", "scale_bytes"]].sum(axis=None)
    rest = dense.weight_gib * 2**30 - 2 * (256 * 256 * 2 + 2 * 128 * 256 + 3 * 256 * 512)
    assert row.weight_gib * 2**30 == pytest.approx(rest + loaded)


def test_experts_are_those_of_simulate(tmp_path):
    """As often as they are hit, with the tokens they then have; between their matrices an activation each visit."""
    config = CONFIG | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    writer = ps.BundleWriter(tmp_path / "a", ps.BundleHeader("m", "own", "unstructured", model_config=config))
    place, sides = (
        "model.layers.{}.block_sparse_moe.experts.{}.{}",
        {"w1": (512, 256), "w2": (256, 512), "w3": (512, 256)},
    )
    roles = {"w1": "expert_gate", "w2": "expert_down", "w3": "expert_up"}
    for block, expert, name in itertools.product(range(2), range(4), sides):
        layer = ps.Layer(place.format(block, expert, name), roles[name], block, *sides[name])
        kept = np.random.default_rng(expert).random(layer.shape) < 0.5
        writer.add(layer, ps.PackedMask.from_dense(kept), "unstructured")
    masks = writer.finish()
    rows = ps.inference(masks, on="vitcod", batch=3, prompt=1, generate=1, operations=True).frame
    layers = ps.simulate(masks, on="vitcod", phase="prefill", batch=3, prompt=1).frame
    experts = layers[layers["role"].str.startswith("expert")]
    assert len(experts) == 2 * 4 * 3
    between = 2 * (3 * 2) * 512 * 5 / (4096 / 32 * 500)
    found = rows.loc[rows["role"] == "experts", "latency_us"].sum()
    assert found == pytest.approx(experts["latency_us"].sum() + between, rel=1e-3)  # rows have whole cycles


@pytest.mark.parametrize("work", [dict(prompt=3000, generate=500), dict(prompt=4000, generate=1)])
def test_the_longest_just_fits(work):
    """More tokens of the prompt, as many made."""

    def asked(prompt):
        return ps.inference("llama-2-7b", on="rtx-4090", batch=4, **work | {"prompt": prompt}).frame.iloc[0]

    longest = int(asked(work["prompt"])["largest_context"]) - work["generate"] + 1
    assert [asked(longest + more)["fits"] for more in (0, 1)] == [True, False]


def test_masks_that_gain_nothing_are_named(tmp_path):
    path = tmp_path / "experts.json"
    path.write_text(json.dumps(CONFIG | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}))
    rows = ps.inference(path, on="h100-sxm", prompt=64, generate=4, treat=["dense", "2:4", "int4+2:4"]).frame
    experts = "no kernel for experts of 2:4: dense"
    assert rows["reason"].tolist() == ["", experts, f"no kernel for 2:4 weights of 4 bits: dense; {experts}"]
    assert rows["feasible"].all()


def test_treatments_have_random_masks(config):
    """Half of the weights, wherever they are: fewer cycles, and of a design that zeros do not help, as many."""
    treated = dict(treat=["dense", "unstructured-50", "structured-50"], prompt=8, generate=3)
    rows = ps.inference(config, on=["vitcod", "systolic"], **treated).frame.set_index(["target", "method"])["speedup"]
    assert rows["vitcod", "dense"] == rows["systolic", "dense"] == rows["systolic", "unstructured-50"] == 1
    assert rows["vitcod", "unstructured-50"] > 1
    assert rows["systolic", "structured-50"] > 1


def test_one_configuration_that_cannot_run_leaves_the_others(tmp_path):
    masks = bundle(tmp_path / "a", "unstructured")
    frame = ps.inference(masks, on="vitcod", batch=[1, 10**6], prompt=2000, generate=2).frame
    assert frame["feasible"].tolist() == [True, False]
    assert "tokens must be 1 to 1,000,000,000" in frame["reason"][1]


def test_chips_share_masks(tmp_path):
    """Each has its part of every mask, and the parts keep what the whole keeps."""
    masks = bundle(tmp_path / "a", "unstructured")
    asked = dict(on="vitcod", prompt=8, generate=3, operations=True)
    one, two = (
        ps.inference(masks, **asked, tensor_parallel=n).frame.groupby("role").sum(numeric_only=True) for n in (1, 2)
    )
    for role in ("q", "k", "o", "gate", "down"):
        assert two["weight_bytes"][role] == pytest.approx(one["weight_bytes"][role] / 2, rel=0.01)
        assert one["latency_us"][role] / 2 <= two["latency_us"][role] < one["latency_us"][role]
    assert two["link_bytes"]["all_reduce"] == (1 + 2 * 2) * (8 + 2) * 256


def test_bits_of_a_bundle_on_an_accelerator(tmp_path, config):
    """The unpruned model has them too, as in the speedup of a layer."""
    masks = bundle(tmp_path / "a", "unstructured", weight_bits=4, group_size=64)
    four, eight = (ps.inference(each, on="systolic", prompt=8, generate=3).frame for each in (masks, config))
    assert four["decode_ms_per_token"][0] < eight["decode_ms_per_token"][0]
    assert four["speedup"][0] == 1
    linears = 2 * (256 * 256 * 2 + 2 * 128 * 256 + 3 * 256 * 512)
    saved = linears * (1 - (4 + 20 / 64) / 8)
    assert (eight["weight_gib"][0] - four["weight_gib"][0]) * 2**30 == pytest.approx(saved)


def test_routing_is_the_same_before_and_after(tmp_path, capsys):
    (tmp_path / "experts.json").write_text(
        json.dumps(CONFIG | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2})
    )
    asked = ("--on", "h100-sxm", "--routing", "balanced", "--batch", 2, *SMALL)
    row = printed(capsys, tmp_path / "experts.json", *asked).iloc[0]
    assert (row["speedup"], row["verdict"]) == (1, "same kernels")


def test_what_cannot_run_is_a_row_with_a_reason(config, capsys):
    rows = printed(capsys, config, "--on", "a100-sxm", "--dtype", "fp16,fp8", "--tensor-parallel", "1,3", *SMALL)
    assert rows["feasible"].tolist() == [True, False, False, False]
    assert "4 heads cannot be divided among 3" in rows["reason"][1]
    assert "no fp8" in rows["reason"][2]
    code, said = ended(capsys, config, "--on", "a100-sxm", "--dtype", "fp8", *SMALL)
    assert code == 3
    assert "none of 1 rows can run on a100-sxm" in said


def test_what_does_not_fit_is_said(capsys):
    rows = printed(capsys, "llama-2-70b", "--on", "h100-sxm", "--tensor-parallel", "1,4", *SMALL)
    assert rows["fits"].tolist() == [False, True]
    assert rows["largest_batch"][0] == 0
    assert rows["feasible"].all()


def test_python_gives_the_rows_of_the_command(tmp_path, config, capsys):
    folder = bundle(tmp_path / "a", "2:4")
    rows = ps.inference(folder, on="h100-sxm", batch=[1, 2], prompt=64, generate=16, host=1.5)
    printed_text = text_of(capsys, folder.folder, "--on", "h100-sxm", "--batch", "1,2", *SMALL, "--host", "1.5")
    assert csv_text(rows.frame) == printed_text
    assert len(ps.inference(config, on="h100-sxm", prompt=8, generate=1, operations=True)) == 15


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(batch=0), "`batch` 0: whole numbers from 1"),
        (dict(batch=[]), "`batch` is empty"),
        (dict(batch=10**30), "whole numbers from 1 to 999,999,999"),
        (dict(batch=1.5), "`batch` takes"),
        (dict(batch=None), "`batch` takes"),
        (dict(dtype=[]), "`dtype` is empty"),
        (dict(on=[]), "`on` is empty"),
        (dict(tensor_parallel=0), "`tensor_parallel` 0: whole"),
        (dict(reserve_gib="3"), "`reserve_gib` takes"),
        (dict(set="a=1"), "`set` takes"),
    ],
)
def test_bad_values_in_python_are_told(values, message, config):
    with pytest.raises(ps.UserError) as told:
        ps.inference(config, **{"on": "h100-sxm", "prompt": 8, "generate": 2} | values)
    assert message in str(told.value)


def test_arrays_of_numpy_are_lists(config):
    assert len(ps.inference(config, on="h100-sxm", prompt=8, generate=2, batch=np.arange(1, 3))) == 2


BAD = [
    (["nothing-7b", "--on", "h100-sxm"], "no model 'nothing-7b'"),
    (["net.py:Net", "--on", "h100-sxm"], "net.py:Net is a network, which has no prefill and no decode"),
    (["crepe:tiny", "--on", "vitcod"], "prunesim measure of the masks"),
    (["CONFIG", "--on", "h1000"], "h1000"),
    (["CONFIG", "--on", "vitcod-paper"], "whole models need a cycle model of any number of tokens"),
    (["CONFIG", "--on", "vitcod-attention"], "runs attention, not whole models"),
    (["CONFIG", "--on", "vitcod", "--dtype", "int8"], "number.weight_bits"),
    (["CONFIG", "--on", "vitcod", "--host", "graph"], "the milliseconds that it adds"),
    (["CONFIG", "--on", "h100-sxm", "--batch", "0"], "no whole number from 1"),
    (["CONFIG", "--on", "h100-sxm", "--batch", "1,,2"], "a value is empty"),
    (["CONFIG", "--on", "h100-sxm", "--batch", "2,2"], "has 2 twice"),
    (["CONFIG", "--on", "h100-sxm", "--prompt", "1.5"], "no whole number from 1"),
    (["CONFIG", "--on", "h100-sxm", "--generate", "99999999999999999999"], "no whole number from 1"),
    (["CONFIG", "--on", "h100-sxm", "--dtype", "int5"], "unknown dtype 'int5'"),
    (["CONFIG", "--on", "h100-sxm", "--host", "slow"], "or the milliseconds"),
    (["CONFIG", "--on", "h100-sxm", "--routing", "skewed"], "uniform, balanced, or the tokens of each expert"),
    (["CONFIG", "--on", "h100-sxm", "--routing", "balanced"], "has no experts"),
    (["CONFIG", "--on", "h100-sxm", "--reserve-gib", "-1"], "at least 0"),
    (["CONFIG", "--on", "h100-sxm", "--kv-bits", "5"], "16 or 8 bits"),
    (["CONFIG", "--on", "h100-sxm", "--format", "xml"], "unknown format 'xml'"),
    (["HEADER", "--on", "h100-sxm"], "is the header of a mask bundle; give its folder"),
    (["STRANGE", "--on", "h100-sxm"], "no vocab_size"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line(arguments, message, config, tmp_path, capsys):
    (tmp_path / "strange.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 64}))
    (tmp_path / "bundle.json").write_text("{}")
    files = {"CONFIG": config, "STRANGE": tmp_path / "strange.json", "HEADER": tmp_path / "bundle.json"}
    places = {name: str(path) for name, path in files.items()}
    code, said = ended(capsys, *(places.get(each, each) for each in arguments))
    assert code == 2
    assert message in said
    assert said.rstrip().count("\n") <= said.count("predicting on")
    assert "Traceback" not in said
