"""Blocks and models on the CPU: the phases run, wrong and refused conversions are rows."""

import pytest
import torch

from measurement.blocks import Scenario, build, converter, end_to_end, linears
from tests.measurement.stand_ins import FakeClock, machine
from workloads.errors import UserError

CONFIG = {
    "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize(("blocks", "what", "count"), [(1, "block", 7), (0, "model", 21)])
def test_dense_and_24(phase, blocks, what, count):
    shapes = []

    def shape_of(output):
        shapes.append(tuple(output.shape))
        return 4.0

    conversions = {"same": lambda w: w, "wrong": lambda w: w * 0.5, "refused": converter("cusparselt24")}
    scenario = Scenario("bf16", phase, 2, 16, blocks)
    rows = list(end_to_end(machine(FakeClock(shape_of)), CONFIG, scenario, conversions))
    assert [(row["kernel"], row["feasible"]) for row in rows] == [
        ("dense", True), ("same", True), ("wrong", False), ("refused", False),
    ]  # fmt: skip
    assert {row["what"] for row in rows} == {what}
    assert rows[1]["linears"] == count
    assert rows[1]["eager_speedup"] == rows[1]["graph_speedup"] == 1.0
    assert "wrong result, not timed" in rows[2]["reason"]
    assert rows[3]["reason"].startswith("does not run: ")
    tokens = 16 if phase == "prefill" else 1
    assert set(shapes) == {(2, tokens, 64)} if blocks else {(2, 1, 100)}


def test_decode_repeats_the_same_step():
    """The cache is set back before every call: a second call sees what the first saw."""
    outputs = []

    class Twice(FakeClock):
        def cold(self, call, runs):
            outputs.append((call().clone(), call().clone(), call().clone()))
            return super().cold(call, runs)

    list(end_to_end(machine(Twice()), CONFIG, Scenario("fp16", "decode", 1, 8), {}))
    first, second, third = outputs[0]
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, third, rtol=0, atol=0)


def test_roles_choose_linears():
    model = build(CONFIG, Scenario("fp16", "prefill", 1, 8), "cpu")
    assert len(model.model.layers) == 1
    names = [name for name, _ in linears(model, ("q", "down"))]
    assert names == ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"]
    assert model.dtype == torch.float16


def test_mistakes():
    with pytest.raises(UserError, match="phase prefill or decode"):
        Scenario("fp16", "training", 1, 8)
    with pytest.raises(UserError, match="seq 2 at least"):
        Scenario("fp16", "decode", 1, 1)
    with pytest.raises(UserError, match="no linear of the roles fc1"):
        list(end_to_end(machine(), CONFIG, Scenario("fp16", "prefill", 1, 8, roles=("fc1",)), {}))
    with pytest.raises(UserError, match="correct its config"):
        build({**CONFIG, "num_attention_heads": 0}, Scenario("fp16", "prefill", 1, 8), "cpu")
