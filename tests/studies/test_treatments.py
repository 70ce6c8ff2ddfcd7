"""Treatments of models without weights: their words, and the rows of prunesim inference under them."""

import json

import pytest

import prunesim as ps
from studies.treatments import parse_treatment, parse_treatments
from tests.studies.test_inference import CONFIG, bundle
from workloads.errors import UserError

SIZES = {"on": "h100-sxm", "batch": 4, "prompt": 64, "generate": 16}


@pytest.fixture
def config(tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(CONFIG))
    return tmp_path / "small.json"


def test_parts_are_told_in_one_order():
    assert parse_treatment("structured-25 + 2:4 + int4").name == "int4+2:4+structured-25"
    found = parse_treatment("kv-50+unstructured-60+ffn-12.5")
    change = found.change
    assert (found.name, found.dtype) == ("unstructured-60+kv-50+ffn-12.5", "")
    assert (change.kv_share, change.ffn_share, change.zeros, change.pattern) == (0.5, 0.125, 0.6, None)
    assert str(parse_treatment("4:8").change.pattern) == "4:8"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "unknown treatment ''"),
        ("strctured-25", "did you mean 'structured-25'"),
        ("structured-0", "unknown treatment 'structured-0'"),
        ("structured-100", "unknown treatment"),
        ("dense+2:4", "'dense' stands alone"),
        ("2:4+unstructured-50", "names its mask twice"),
        ("structured-25+ffn-10", "names its neurons twice"),
        ("int4+int8", "names its type twice"),
        ("4:2", "not possible"),
    ],
)
def test_what_is_none_is_refused(text, said):
    with pytest.raises(UserError, match=said):
        parse_treatment(text)


def test_two_that_say_the_same_are_refused():
    with pytest.raises(UserError, match=r"'int4\+2:4' is given twice"):
        parse_treatments(["int4+2:4", "2:4+int4"])


def test_rows_of_treatments(config, tmp_path):
    """A type of its own is run once; what has no kernel of its own takes as long as dense; sizes follow the counts."""
    asked = ["dense", "int4", "2:4", "unstructured-50", "structured-50"]
    rows = ps.inference(config, **SIZES, dtype=["fp16", "bf16"], treat=asked).frame
    assert list(rows["method"]) == [name for name in asked for _ in range(1 if name == "int4" else 2)]
    assert list(rows["dtype"]) == ["fp16", "bf16", "int4", *["fp16", "bf16"] * 3]
    fp16 = rows[rows["dtype"] != "bf16"].set_index("method")
    assert fp16.loc["dense", "speedup"] == fp16.loc["unstructured-50", "speedup"] == 1
    assert fp16.loc["unstructured-50", "weight_gib"] == fp16.loc["dense", "weight_gib"]
    assert fp16.loc["structured-50", "kv_gib"] == fp16.loc["dense", "kv_gib"] / 2
    linears = 2 * (256 * 256 * 2 + 2 * 128 * 256 + 3 * 256 * 512) * 2 / 2**30
    assert fp16.loc["dense", "weight_gib"] - fp16.loc["structured-50", "weight_gib"] == pytest.approx(linears / 2)


def test_2_4_of_shapes_is_2_4_of_a_bundle(config, tmp_path):
    masks = ps.inference(bundle(tmp_path / "masks", "2:4"), **SIZES).frame.iloc[0]
    shapes = ps.inference(config, **SIZES, treat="2:4").frame.iloc[0]
    told = ("prefill_ms", "decode_ms_per_token", "weight_gib", "speedup", "speedup_error_p90", "largest_batch")
    assert [masks[name] for name in told] == [shapes[name] for name in told]


def test_a_bundle_is_not_treated_again(tmp_path):
    with pytest.raises(UserError, match="its bundle says itself"):
        ps.inference(bundle(tmp_path / "masks", "2:4"), **SIZES, treat="int4")


def test_accelerators_read_weights_of_fewer_bits_and_random_masks(config):
    """int4 loads a quarter of 16 bits; a type that is no array's is refused; 2:4 and 50 % skip on vitcod alone."""
    sizes = {**SIZES, "batch": 1, "prompt": 8, "generate": 2}
    asked = {"set": {"number.weight_bits": 16, "number.activation_bits": 16}}
    treat = ["dense", "int4", "2:4", "unstructured-50"]
    rows = ps.inference(config, **{**sizes, "on": "vitcod"}, **asked, treat=treat).frame.set_index("method")
    assert list(rows.index) == treat
    assert (rows.loc[["2:4", "unstructured-50"], "speedup"] > 1).all()
    linears = 2 * (256 * 256 * 2 + 2 * 128 * 256 + 3 * 256 * 512) / 2**30
    less = rows.loc["dense", "weight_gib"] - rows.loc["int4", "weight_gib"]
    assert less == pytest.approx(linears * (2 - 0.5 - 20 / 128 / 8), rel=0.02)
    with pytest.raises(UserError, match="vitcod multiplies in its own type, not in fp8"):
        ps.inference(config, **{**sizes, "on": "vitcod"}, treat="fp8")
