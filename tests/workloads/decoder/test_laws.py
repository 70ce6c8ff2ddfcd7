"""Laws of the accounting: what must be equal is equal, what must grow grows, sums are sums."""

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.decoder.decoders import SMALL, catalog, small, with_block
from workloads.counts import Counts, Elements
from workloads.decoder.accounting import account, linear_stretches, total
from workloads.decoder.dimensions import Mixture
from workloads.decoder.layout import EAGER, FUSED, layout
from workloads.decoder.read import read_decoder
from workloads.errors import UserError
from workloads.experts import Experts, hit_experts
from workloads.operations.causal import read_keys, seen_keys
from workloads.operations.gemm import Matrix
from workloads.phases import decode, generate, prefill

PARTS = [each.name for each in fields(Counts)]
WINDOWED = SMALL | {"model_type": "gemma2", "head_dim": 8, "sliding_window": 16}
EXPERTS = SMALL | {"model_type": "mixtral", "num_local_experts": 6, "num_experts_per_tok": 2}
LATENT = SMALL | dict(
    model_type="deepseek_v3", kv_lora_rank=12, q_lora_rank=20, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8,
    n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, n_shared_experts=1, first_k_dense_replace=1,
)  # fmt: skip
KINDS = {"llama": SMALL, "windows": WINDOWED, "experts": EXPERTS, "latent": LATENT}
PHASES = st.one_of(
    st.builds(prefill, st.integers(1, 5), st.integers(1, 40), st.integers(0, 40)),
    st.builds(decode, st.integers(1, 5), st.integers(1, 80)),
)


def at_most(one: Counts, other: Counts) -> bool:
    return all(getattr(one, part) <= getattr(other, part) * (1 + 1e-12) for part in PARTS)


@given(new=st.integers(1, 30), past=st.integers(0, 30), window=st.one_of(st.none(), st.integers(1, 40)))
def test_keys_of_a_window_one_by_one(new, past, window):
    """Query t, at place past + t, sees the keys at places past + t - window + 1 .. past + t that there are."""
    seen = [set(range(max(1, past + t - window + 1) if window else 1, past + t + 1)) for t in range(1, new + 1)]
    assert seen_keys(new, past, window) == sum(map(len, seen))
    assert read_keys(new, past, window) == len(set.union(*seen))


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), phase=PHASES)
def test_more_work_is_never_less(kind, phase):
    decoder = read_decoder(KINDS[kind])
    alone = total(account(decoder, phase))
    assert at_most(alone, total(account(decoder, replace(phase, batch=phase.batch + 1))))
    assert at_most(alone, total(account(decoder, replace(phase, past=phase.past + 1))))
    assert alone.bytes_moved <= total(account(decoder, phase, fusion=EAGER)).bytes_moved
    assert alone.flop <= total(account(decoder, phase, fusion=EAGER)).flop
    assert at_most(alone, total(account(decoder, phase, all_logits=True)))


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), phase=PHASES, fusion=st.sampled_from([FUSED, EAGER]))
def test_rows_add_up(kind, phase, fusion):
    """Rows with counts against every operation on its own."""
    decoder = read_decoder(KINDS[kind])
    singly = sum((one.counts(phase, Elements()) for one in layout(decoder, fusion)), Counts())
    rows = account(decoder, phase, fusion=fusion)
    assert sum(row.executions for row in rows) == len(layout(decoder, fusion))
    for part in PARTS:
        assert getattr(total(rows), part) == pytest.approx(getattr(singly, part), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), batch=st.integers(1, 4), prompt=st.integers(1, 30), new=st.integers(1, 40))
def test_a_generation_is_its_steps(kind, batch, prompt, new):
    decoder = read_decoder(KINDS[kind])
    work = generate(batch, prompt, new)
    steps = [prefill(batch, prompt), *(decode(batch, prompt + step) for step in range(1, new))]
    singly = sum((total(account(decoder, step)) for step in steps), Counts())
    rows = account(decoder, work)
    for part in PARTS:
        assert getattr(total(rows), part) == pytest.approx(getattr(singly, part), rel=1e-12)
    assert total(rows, "prefill") == total(account(decoder, work.prefill))
    assert len(work.contexts) == new - 1


def test_stretches_end_where_windows_fill():
    decoder = read_decoder(WINDOWED)
    assert list(linear_stretches(decoder, range(10, 20))) == [range(10, 17), range(17, 20)]
    assert list(linear_stretches(decoder, range(10, 16))) == [range(10, 16)]
    assert list(linear_stretches(decoder, range(16, 20))) == [range(16, 17), range(17, 20)]


@pytest.mark.parametrize("phase", [prefill(2, 16), decode(2, 16), prefill(2, 9, past=7)])
def test_a_window_as_long_as_the_context_is_none(phase):
    full = small(model_type="mistral")
    assert total(account(small(model_type="mistral", sliding_window=16), phase)) == total(account(full, phase))
    assert total(account(small(model_type="mistral", sliding_window=15), phase)).flop < total(account(full, phase)).flop


def test_chunks_of_a_prefill_add_up():
    """FLOP of attention and linears are those of one prefill; each chunk reads the weights and the cache again."""
    decoder = small()
    whole = total(account(decoder, prefill(2, 24), all_logits=True))
    chunks = [prefill(2, 8, past) for past in (0, 8, 16)]
    parts = sum((total(account(decoder, chunk, all_logits=True)) for chunk in chunks), Counts())
    assert parts.flop == whole.flop
    assert parts.bytes_kv > whole.bytes_kv


@pytest.mark.parametrize("phase", [prefill(2, 20), decode(2, 21)])
def test_shared_keys_of_as_many_heads_are_mha(phase):
    mha = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}
    gqa = total(account(small(num_key_value_heads=8), phase))
    assert gqa == total(account(read_decoder(mha), phase))
    assert total(account(small(num_key_value_heads=2), phase)).bytes_kv == gqa.bytes_kv / 4


@pytest.mark.parametrize("phase", [prefill(2, 20), decode(2, 21), decode(1, 1)])
@pytest.mark.parametrize("routing", ["uniform", "balanced"])
def test_one_expert_is_a_dense_ffn(phase, routing):
    """Beside the router, which chooses among one."""
    dense = small()
    block = dense.blocks[0]
    ups = tuple(replace(block.matrix(role), role=f"expert_{role}") for role in ("gate", "up"))
    down = replace(block.matrix("down"), role="expert_down")
    mixture = Mixture(Experts(1, 1), ((ups, down, 1),), Matrix("router", 1, 64, is_float=True))
    attention = tuple(matrix for matrix in block.matrices if matrix.role in "qkvo")
    one = with_block(dense, replace(block, matrices=attention, mixture=mixture))
    elements = Elements(routing=routing)
    rows = [row for row in account(one, phase, elements) if row.operation.role != "router"]
    expected = total(account(dense, phase, elements))
    for part in PARTS:
        assert getattr(total(rows), part) == pytest.approx(getattr(expected, part), rel=1e-12)


@given(st.integers(1, 40), st.data())
def test_experts_hit(count, data):
    each = data.draw(st.integers(1, count))
    tokens = data.draw(st.integers(1, 300))
    experts = Experts(count, each)
    uniform, balanced = (hit_experts(experts, tokens, kind) for kind in ("uniform", "balanced"))
    assert uniform == pytest.approx(count * (1 - (1 - each / count) ** tokens), rel=1e-9)
    assert balanced == min(count, each * tokens) >= each
    assert uniform <= balanced + 1e-9


def test_experts_move_as_many_weights_as_are_hit():
    decoder = read_decoder(EXPERTS)
    balanced = Elements(routing="balanced")
    experts = {row.operation.role: row for row in account(decoder, decode(3, 9), balanced)}["experts"]
    assert experts.total.bytes_weight == 3 * 6 * 3 * 64 * 96 * 2  # blocks, min(6, 3 x 2) experts, matrices
    assert experts.total.flop == 3 * 3 * 2 * (6 * 64 * 96 + 5 * 96)
    one = {row.operation.role: row for row in account(decoder, decode(1, 9), balanced)}["experts"]
    assert one.total.bytes_weight == 3 * 2 * 3 * 64 * 96 * 2


def test_latents_are_read_once_for_all_heads():
    """Decode attends to latents of 12 + 4 with 8 heads; prefill expands them to keys of 12 and values of 8."""
    rows = {row.operation.name: row.total for row in account(read_decoder(LATENT), decode(2, 9))}
    assert rows["blocks.0.attention"].flop == 3 * 2 * 9 * 8 * 2 * (16 + 12)
    assert rows["blocks.0.attention"].bytes_kv == 3 * 2 * 9 * 16 * 2
    assert rows["blocks.0.kv_b"].flop == 3 * 2 * 2 * 12 * 8 * 16
    assert rows["blocks.0.kv_write"].bytes_kv == 3 * 2 * 16 * 2
    rows = {row.operation.name: row.total for row in account(read_decoder(LATENT), prefill(2, 5, past=4))}
    assert rows["blocks.0.attention"].flop == 3 * 2 * (5 * 4 + 15) * 8 * 2 * (12 + 8)
    assert rows["blocks.0.kv_b"].flop == 3 * 2 * (2 * 9) * 12 * 8 * 16  # past tokens too
    assert rows["blocks.0.attention"].bytes_kv == 3 * 2 * 4 * 16 * 2


@pytest.mark.parametrize("bad", [{"weight_bits": 0}, {"kv_bits": 65}, {"group_size": 0}, {"routing": "skewed"}])
def test_impossible_elements(bad):
    with pytest.raises(UserError):
        Elements(**bad)


def test_impossible_generations():
    for bad in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(UserError, match="at least 1 of each"):
            generate(*bad)


def test_catalog_models_of_other_families():
    """OPT: ReLU, biases, learned positions; LayerNorms are not RMS norms."""
    rows = {row.operation.name: row for row in account(catalog("opt-175b"), decode(1, 10))}
    assert rows["blocks.0.activation"].total.flop == 96 * 49_152
    assert rows["blocks.0.attention_norm"].total.flop == 96 * 8 * 12_288  # 7, and an addition
    assert "blocks.0.rotary" not in rows
    assert rows["positions"].total.bytes_weight == 12_288 * 2
