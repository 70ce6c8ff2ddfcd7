"""What a run will compute, against what torch counts, a loop over multiply-adds, and the runs' own numbers."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pruning.run.work import LEAST, MOST, START_S, Work, block_work, rate_flop_s, seconds_of, seen, work_of
from tests.pruning.recipes import recipe
from workloads.layers import Layer

BLOCK = [
    Layer("l.0.q", "q", 0, 6, 8), Layer("l.0.k", "k", 0, 4, 8), Layer("l.0.o", "o", 0, 8, 6),
    Layer("l.0.gate", "gate", 0, 10, 8), Layer("l.0.up", "up", 0, 10, 8), Layer("l.0.down", "down", 0, 8, 10),
]  # fmt: skip
NAMES = [layer.name for layer in BLOCK]
SAMPLES, TOKENS = 3, 36


def work(method: str, layers=BLOCK, treated=NAMES, **asked) -> Work:
    return block_work(layers, treated, {}, SAMPLES, TOKENS, recipe(method, **asked))


def counted(step) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def forward() -> int:
    """Of one pass, as torch counts its products."""
    return sum(counted(lambda e=e: torch.ones(TOKENS, e.in_features) @ torch.ones(e.shape).T) for e in BLOCK)


def test_passes_are_those_that_torch_counts():
    assert work("wanda") == Work(8, passes_flop=2 * forward())
    assert work("magnitude") == Work()
    assert work("besa", reference="dense").passes_flop == 3 * forward()


def test_training_is_forward_and_backward_of_every_sequence():
    layer = torch.nn.Linear(8, 6, bias=False)
    inputs = torch.ones(TOKENS // SAMPLES, 8, requires_grad=True)
    once = counted(lambda: layer(inputs).sum().backward())
    made = work("besa", [BLOCK[0]], optimizer="prodigy", epochs=2)
    assert made.training_flop == 2 * SAMPLES * once
    besa = recipe("besa").method
    assert work("besa", [BLOCK[0]]).training_flop == besa.training_sequences(SAMPLES) * once


def test_squares_are_half_a_product_of_every_input_that_is_different():
    loops = sum(2 for k in (8, 6, 8, 10) for i in range(k) for _ in range(i + 1))  # q = k, o, gate = up, down
    assert work("sparsegpt").squares_flop == TOKENS * loops
    assert work("sparsegpt", treated=["l.0.q"]).squares_flop == TOKENS * 8 * 9
    assert work("wanda").squares_flop == 0


def test_solving_of_a_square_matrix_is_two_cubes():
    side = Layer("l.0.q", "q", 0, 16, 16)
    assert work("sparsegpt", [side]).solving_flop == 2 * 16**3


def test_experts_see_the_tokens_that_are_routed_to_them():
    config = {"num_local_experts": 8, "num_experts_per_tok": 2}
    assert seen(Layer("mlp.experts.3.w1", "expert_gate", 0, 4, 4), config, 100) == 25
    assert seen(Layer("mlp.experts.3.w1", "expert_gate", 0, 4, 4), {}, 100) == 100
    assert seen(BLOCK[0], config, 100) == 100


def test_a_model_is_the_sum_of_its_blocks_and_methods_that_take_out_say_nothing():
    more = [Layer(f"l.1.{e.role}", e.role, 1, *e.shape) for e in BLOCK]
    one = work_of(BLOCK, {}, SAMPLES, TOKENS, recipe("sparsegpt"))
    two = work_of([*BLOCK, *more], {}, SAMPLES, TOKENS, recipe("sparsegpt"))
    assert one is not None
    assert two == one + one
    assert one.flop == one.passes_flop + one.squares_flop + one.solving_flop
    assert work_of(BLOCK, {}, SAMPLES, TOKENS, recipe("flap")) is None
    assert work_of(BLOCK, {}, SAMPLES, TOKENS, recipe("gradual")) is None


def test_seconds_follow_from_the_rate_and_more_threads_make_more(monkeypatch):
    assert seconds_of(Work(8, passes_flop=3e9), 1e9) == (3 * LEAST, 3 * MOST + START_S)
    rates = []
    for threads in ("1", "1000"):
        monkeypatch.setenv("PRUNESIM_THREADS", threads)
        rates.append(rate_flop_s(64, torch.device("cpu"), torch.float32))
    assert rates[1] > rates[0] > 0


@pytest.mark.parametrize("method", ["wanda", "sparsegpt", "besa"])
def test_more_tokens_are_more_work(method):
    few, many = (block_work(BLOCK, NAMES, {}, n, 12 * n, recipe(method)).flop for n in (2, 20))
    assert few < many


SMOLLM2 = [("q", 576, 576), ("k", 192, 576), ("v", 192, 576), ("o", 576, 576), ("gate", 1536, 576), ("up", 1536, 576),
           ("down", 576, 1536)]  # fmt: skip
ONEDNN_FLOP_S = 238e9  # of one thread of the machine that docs/performance.md is of


@pytest.mark.parametrize(
    ("method", "blocks", "samples", "measured_s"),
    [("wanda", 5, 32, 13.5), ("sparsegpt", 5, 32, 17.2), ("besa", 30, 64, 384.0), ("besa", 30, 16, 292.0)],
)
def test_runs_that_were_measured_lie_between_the_bounds(method, blocks, samples, measured_s, monkeypatch):
    """docs/performance.md: SmolLM2-135M's shapes, sequences of 512 tokens, whole processes of one thread."""
    monkeypatch.setattr("pruning.methods.besa.budgets.ROUND", 32)  # shorter in tests
    layers = [Layer(f"{n}.{role}", role, n, *shape) for n in range(blocks) for role, *shape in SMOLLM2]
    made = work_of(layers, {}, samples, 512 * samples, recipe(method))
    assert made is not None
    least, most = seconds_of(made, ONEDNN_FLOP_S)
    assert least <= measured_s <= most
