"""Whole blocks and models on the CPU: what runs, what is refused, and rows beside those of inference."""

import json

import pytest
import torch
from torch import nn

from measurement.blocks import Scenario
from measurement.cpu import blocks, host
from measurement.cpu.blocks import EndToEnd, Int8Linear, end_to_end, structured
from measurement.problem import follows_24
from studies.end_to_end import whole_rows
from tests.measurement.test_blocks import CONFIG
from tests.measurement.test_cpu import Turns
from tests.measurement.test_verb import refused, run
from workloads.errors import UserError


def rows_of(phase="prefill", whole=True, clock=None, **settings):
    scenario = Scenario(settings.pop("dtype", "fp32"), phase, 2, 16, 0 if whole else 1)
    return list(end_to_end(clock or Turns(), CONFIG, EndToEnd(scenario, 5, **settings)))


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("whole", [True, False])
def test_every_variant_is_a_row_and_runs(phase, whole):
    shapes = []

    class Looking(Turns):
        def cold(self, calls, rounds):
            shapes.extend(tuple(call().shape) for call in calls)
            return super().cold(calls, rounds)

    rows = rows_of(phase, whole, Looking(lambda place: 10.0 + place))
    assert [(row["kernel"], row["feasible"]) for row in rows] == [(name, True) for name in blocks.VARIANTS]
    tokens = 16 if phase == "prefill" else 1
    assert set(shapes) == ({(2, 1, 100)} if whole else {(2, tokens, 64)})
    assert [row["linears"] for row in rows] == [0, 0, *[21 if whole else 7] * 3, 0]
    assert rows[0]["cold_us"] == 10
    assert rows[1]["cold_speedup"] == 10 / 11
    assert rows[0]["warm_tokens_per_s"] == pytest.approx(2 * tokens / 5e-6)
    assert rows[-1]["kv_groups"] == 1
    assert rows[-1]["neurons"] == 48


def test_what_a_linear_of_eight_bits_computes():
    torch.manual_seed(0)
    linear = nn.Linear(64, 32)
    quantized = Int8Linear(linear, "x86")
    x = torch.randn(5, 64)
    with torch.inference_mode():
        expected = x @ quantized.weight_used.t() + linear.bias
        assert (quantized(x) - expected).abs().max() < 0.1 * expected.square().mean().sqrt()
    assert (quantized.weight_used - linear.weight).abs().max() <= linear.weight.abs().max() / 254 * 1.01


def test_the_24_model_is_24_and_a_wrong_one_is_not_timed(monkeypatch):
    from measurement.blocks import build, linears

    model = build(CONFIG, Scenario("fp32", "prefill", 1, 8), "cpu")
    with torch.inference_mode():
        assert blocks._converted(model, blocks.AS_DENSE)[0] == 7
    assert all(follows_24(linear.weight) for _, linear in linears(model, ()))
    monkeypatch.setattr(blocks, "linear_error", lambda linear, weight: 0.5)
    rows = rows_of(variants=("int8-x86",))
    assert rows[1]["reason"].startswith("wrong result, not timed")


def test_noise_and_types_refuse():
    assert rows_of(clock=Turns(noisy=[1]), variants=("bf16",))[1]["reason"].startswith("noisy: ")
    (dense, other) = rows_of(clock=Turns(noisy=[0]), variants=("bf16",))
    assert not dense["feasible"]
    assert not other["feasible"]
    assert "those of the dense kernel beside it" in other["reason"]
    (_, bf16, int8) = rows_of(dtype="bf16", variants=("bf16", "int8-x86"))
    assert "already" in bf16["reason"]
    assert "`dtype` fp32" in int8["reason"]


def test_structured_configs():
    config, left = structured({**CONFIG, "num_key_value_heads": 4}, 0.5)
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (2, 2, 16)
    assert left == {"kv_groups": 2, "kv_groups_before": 4, "neurons": 48, "neurons_before": 96}
    assert CONFIG["intermediate_size"] == 96
    with pytest.raises(UserError, match="leave `smaller` out"):
        structured({"model_type": "gpt2", "n_embd": 64}, 0.5)


def test_memory_that_is_not_there(monkeypatch):
    assert host.free_bytes("MemAvailable:    1000 kB\n") == 1_024_000
    assert host.free_bytes("") == float("inf")
    monkeypatch.setattr(blocks, "free_bytes", lambda: 1000.0)
    with pytest.raises(UserError, match="measure a block"):
        rows_of()


def test_the_command_and_its_rows_beside_predictions(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("measurement.cpu.clock.HostClock", lambda cache_bytes: Turns())
    monkeypatch.setattr(host, "yardsticks", lambda clock: {})
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**CONFIG, "architectures": ["LlamaForCausalLM"]}))
    asked = ("--model", config, "--on", "cpu", "--end-to-end", "model", "--seq", "8", "--kernels", "smaller,bf16")
    assert run(*asked, "--out", tmp_path / "o", "--format", "json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["kernel"] for row in printed] == ["dense", "smaller", "bf16"] * 2
    path = tmp_path / "o" / "end-to-end-model-fp32.json"
    frame = whole_rows(path)
    assert frame["source"].unique().tolist() == ["measured"]
    assert frame["settings"].unique().tolist() == ["l2=cold threads=1", "l2=warm threads=1"]
    cold = frame[frame["settings"].str.contains("cold")].reset_index(drop=True)
    prefill, decode = cold[cold["prefill_ms"].notna()], cold[cold["prefill_ms"].isna()]
    assert prefill["prefill_ms"].tolist() == [0.010, 0.011, 0.012]
    assert decode["decode_ms_per_token"].tolist() == [0.010, 0.011, 0.012]
    assert decode["tokens_per_s"].iloc[0] == pytest.approx(1e5)
    assert cold["speedup"].iloc[1] == 10 / 11
    assert run("--replay", path, "--format", "csv") == 0
    from prunesim import inference

    both = inference(config, on="h100-sxm", prompt=8, generate=2, measured=path).frame
    assert both["source"].tolist() == ["predicted", *["measured"] * 12]
    with pytest.raises(UserError, match="leave `operations` out"):
        inference(config, on="h100-sxm", operations=True, measured=path)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--end-to-end", "head"), "block, model"),
        (("--end-to-end", "block", "--kernels", "csr"), "variant of a model"),
        (("--end-to-end", "block", "--density", "0.5,0.1"), "one share"),
        (("--end-to-end", "block", "--threads", "999"), "cores"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, arguments, word):
    assert word in refused(capsys, "--model", "llama-2-7b", "--on", "cpu", *arguments, "--out", tmp_path / "o")


def test_files_that_are_none(tmp_path, capsys):
    for content in ("{}", "no", '{"format": "prunesim-end-to-end", "version": 1, "rows": 1}'):
        (tmp_path / "e.json").write_text(content)
        refused(capsys, "--replay", tmp_path / "e.json")
    content = {
        "format": "prunesim-end-to-end",
        "version": 1,
        "model": "m",
        "environment": {},
        "rows": [{"what": "block"}],
    }
    (tmp_path / "e.json").write_text(json.dumps(content))
    assert "single blocks alone" in refused(capsys, "--replay", tmp_path / "e.json")
