"""Attention under masks in whole models: the machine of attention beside the one that runs the rest."""

import json

import numpy as np
import pytest

import prunesim as ps

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 100,
}  # fmt: skip
T = 24
ASKED = dict(on="vitcod", batch=3, prompt=T, generate=4)


@pytest.fixture
def model(tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(CONFIG))
    kept = np.tril(np.random.default_rng(0).random((2, 2, T, T)) < 0.4) | np.eye(T, dtype=bool)
    np.save(tmp_path / "masks.npy", kept)
    np.save(tmp_path / "one.npy", kept[0])
    return tmp_path / "small.json"


def test_the_prefills_attention_is_that_of_the_masks(model):
    masks = model.with_name("masks.npy")
    both = dict(attention=masks, attention_on="vitcod-attention")
    rows = ps.inference(model, **ASKED, **both, operations=True).frame
    plain = ps.inference(model, **ASKED, operations=True).frame
    layers = ps.simulate(masks, on="vitcod-attention", set={"attention.head_features": 32}).frame
    layers = layers[layers["layer"] != "total"]
    changed = (rows["role"] == "attention") & (rows["phase"] == "prefill")
    assert rows.loc[changed, "latency_us"].sum() == pytest.approx(3 * layers["latency_us"].sum())
    assert rows.loc[~changed, "latency_us"].equals(plain.loc[~changed, "latency_us"])
    (row,) = ps.inference(model, **ASKED, **both).frame.itertuples()
    assert row.prefill_ms + 3 * row.decode_ms_per_token == pytest.approx(rows["latency_us"].sum() / 1e3)
    before = rows.loc[~changed, "latency_us"].sum() + 3 * layers["dense_latency_us"].sum()
    assert row.speedup == pytest.approx(before / rows["latency_us"].sum())
    assert row.settings == "attention=masks on vitcod-attention"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dict(attention="masks.npy"), "go together; give both or none"),
        (dict(attention="masks.npy", attention_on="vitcod"), "vitcod runs linear, not attention"),
        (dict(attention="nothing.npy", attention_on="vitcod-attention"), "no such mask file"),
    ],
)
def test_what_is_no_attention_is_told(model, asked, message):
    asked = {**asked, "attention": model.with_name(asked["attention"])}
    with pytest.raises(ps.UserError, match=message):
        ps.inference(model, **ASKED, **asked)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(prompt=T + 1), "prompt 24, of what runs 25"),
        (dict(tensor_parallel=2), "beside one accelerator"),
        (dict(on="h100-sxm"), "h100-sxm is none"),
    ],
)
def test_masks_of_another_size_are_a_reason(model, changed, message):
    asked = {**ASKED, "attention": model.with_name("one.npy"), "attention_on": "vitcod-attention"}
    frame = ps.inference(model, **{**asked, **changed}).frame
    assert not frame["feasible"][0]
    assert message in frame["reason"][0]
    assert ps.inference(model, **asked).frame["feasible"][0]  # one layer's for all
