"""Removal: what is left computes what the whole computes with the removed parts' contribution at zero."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import UserError
from workloads.layers import Layer
from workloads.removal import Heads, Removal

HIDDEN, NEURONS, TOKENS = 6, 10, 5
heads_of = st.sampled_from([Heads(1, 1, 4), Heads(4, 4, 2), Heads(6, 2, 3), Heads(6, 1, 2), Heads(8, 4, 2)])


def layers(heads: Heads, block: int = 0) -> list[Layer]:
    query, key = heads.heads * heads.head_features, heads.kv_heads * heads.head_features
    shapes = {
        "q": (query, HIDDEN), "k": (key, HIDDEN), "v": (key, HIDDEN), "o": (HIDDEN, query),
        "gate": (NEURONS, HIDDEN), "up": (NEURONS, HIDDEN), "down": (HIDDEN, NEURONS),
    }  # fmt: skip
    return [Layer(f"{block}.{role}", role, block, *shape) for role, shape in shapes.items()]


def attention(x: np.ndarray, w: dict[str, np.ndarray], heads: int, kv_heads: int, silent: frozenset[int] = frozenset()):
    """Head by head; the outputs of the kv groups in `silent` are zero."""
    d = len(w["q"]) // heads
    outputs = []
    for head in range(heads):
        group = head // (heads // kv_heads)
        q, k, v = x @ w["q"][head * d : (head + 1) * d].T, *(x @ w[n][group * d : (group + 1) * d].T for n in "kv")
        scores = np.exp(q @ k.T - (q @ k.T).max(axis=1, keepdims=True))
        outputs.append((scores / scores.sum(axis=1, keepdims=True)) @ v * (group not in silent))
    return np.concatenate(outputs, axis=1) @ w["o"].T


def ffn(x: np.ndarray, w: dict[str, np.ndarray], silent: frozenset[int] = frozenset()):
    middle = np.tanh(x @ w["gate"].T) * (x @ w["up"].T)
    middle[:, list(silent)] = 0
    return middle @ w["down"].T


def weights(some: list[Layer]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {layer.role: rng.standard_normal(layer.shape) for layer in some}


def cut(whole: dict[str, np.ndarray], some: list[Layer], removal: Removal, heads: Heads) -> dict[str, np.ndarray]:
    left = {}
    for layer, shape in zip(some, removal.shapes(some, heads), strict=True):
        rows, cols = removal.kept(layer, heads)
        left[layer.role] = whole[layer.role][rows][:, cols]
        assert left[layer.role].shape == shape.shape
    return left


@given(heads_of, st.data())
@settings(max_examples=30, deadline=None)
def test_kv_groups(heads, data):
    gone = data.draw(st.frozensets(st.integers(0, heads.kv_heads - 1), max_size=heads.kv_heads - 1))
    some, x = layers(heads), np.random.default_rng(0).standard_normal((TOKENS, HIDDEN))
    whole, left = weights(some), heads.kv_heads - len(gone)
    parts = cut(whole, some, Removal(kv_groups={0: gone}), heads)
    shared = heads.heads // heads.kv_heads
    assert len(parts["k"]) == left * heads.head_features
    assert len(parts["q"]) == left * shared * heads.head_features
    expected = attention(x, whole, heads.heads, heads.kv_heads, gone)
    np.testing.assert_allclose(attention(x, parts, left * shared, left), expected, atol=1e-12)
    np.testing.assert_array_equal(parts["gate"], whole["gate"])


@given(st.frozensets(st.integers(0, NEURONS - 1), max_size=NEURONS - 1))
@settings(max_examples=30, deadline=None)
def test_neurons(gone):
    heads = Heads(2, 1, 3)
    some, x = layers(heads), np.random.default_rng(0).standard_normal((TOKENS, HIDDEN))
    whole = weights(some)
    parts = cut(whole, some, Removal(neurons={0: gone}), heads)
    assert parts["down"].shape == (HIDDEN, NEURONS - len(gone))
    np.testing.assert_allclose(ffn(x, parts), ffn(x, whole, gone), atol=1e-12)
    np.testing.assert_array_equal(parts["q"], whole["q"])


def test_fused_matrices_lose_the_same_rows():
    heads = Heads(4, 2, 3)
    removal = Removal(kv_groups={0: frozenset({1})}, neurons={0: frozenset({0, 7})})
    parts = {layer.role: removal.kept(layer, heads)[0] for layer in layers(heads)}
    fused = Layer("a", "qkv", 0, (4 + 2 * 2) * 3, HIDDEN)
    assert removal.kept(fused, heads)[0].tolist() == np.concatenate([parts["q"], parts["k"], parts["v"]]).tolist()
    fused = Layer("b", "gate_up", 0, 2 * NEURONS, HIDDEN)
    assert removal.kept(fused, heads)[0].tolist() == np.concatenate([parts["gate"], parts["up"]]).tolist()


def test_blocks():
    heads = Heads(2, 1, 3)
    some = [*layers(heads, 0), *layers(heads, 1), *layers(heads, 2)]
    left = Removal(frozenset({1}), neurons={2: frozenset({3})}).shapes(some, heads)
    assert {layer.block for layer in left} == {0, 2}
    assert left[:7] == some[:7]
    assert [layer.out_features for layer in left if layer.role == "gate"] == [NEURONS, NEURONS - 1]
    assert Removal().shapes(some, heads) == some


@pytest.mark.parametrize(
    ("removal", "message"),
    [
        (Removal(kv_groups={0: frozenset({2})}), "0.q: there is no kv group 2 to remove, the block has 2"),
        (Removal(kv_groups={0: frozenset({0, 1})}), "all 2 of its block's kv groups would go"),
        (Removal(neurons={0: frozenset({-1})}), "no neuron -1"),
        (Removal(neurons={0: frozenset(range(NEURONS))}), "all 10 of its block's neurons would go"),
    ],
)
def test_refused(removal, message):
    with pytest.raises(UserError, match=message):
        removal.shapes(layers(Heads(4, 2, 3)), Heads(4, 2, 3))


def test_heads_that_do_not_fit():
    with pytest.raises(UserError, match="3 heads do not share 2 key and value heads evenly"):
        Heads(3, 2, 4)
    with pytest.raises(UserError, match=r"0\.q has 12 outputs, its heads 16; correct the heads"):
        Removal(kv_groups={0: frozenset({0})}).shapes(layers(Heads(4, 2, 3)), Heads(4, 2, 4))
    expert = Layer("e", "expert_gate", 0, 4, 4)
    with pytest.raises(UserError, match="neurons of experts are not removed"):
        Removal(neurons={0: frozenset({0})}).kept(expert, Heads(1, 1, 1))
