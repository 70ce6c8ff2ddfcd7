"""Cost tables against whole models that were simulated in another way."""

from pathlib import Path

import numpy as np
import pytest

from checkpoints.catalog_layers import linears_of
from checkpoints.decoders import decoder_of
from simulator.accelerators.named import open_accelerator
from simulator.inference.steps import times_of
from simulator.simulate import simulate_layers
from studies.masks import in_memory
from studies.speed.costs import Machine, cached_table, cost_table, units_of
from workloads.bundle import BundleHeader
from workloads.choices import Choice, choices_of, parse_choice
from workloads.conditions import Conditions
from workloads.decoder.treated import Change, treated
from workloads.errors import UserError
from workloads.even_rows import even_rows
from workloads.operations import linears_in_memory
from workloads.patterns import NofM
from workloads.phases import decode, prefill

CONFIG = {
    "model_type": "llama", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "vocab_size": 512,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512,
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return decoder_of(CONFIG), linears_of(CONFIG)


@pytest.mark.parametrize(
    ("on", "text"),
    [("vitcod", "unstructured-50"), ("vitcod", "2:4"), ("vitcod", "unstructured-50+bits:4"), ("sparten", "2:4"),
     ("a100-sxm", "2:4")],
)  # fmt: skip
@pytest.mark.parametrize("phase", [decode(1, 100), prefill(2, 16)], ids=["decode", "prefill"])
def test_the_same_choice_everywhere_is_the_whole_model_under_it(model, on: str, text: str, phase) -> None:
    decoder, layers = model
    machine, choice = Machine.open(on), parse_choice(text)
    table = cost_table(decoder, layers, machine, phase, [Choice(), choice])
    change = Change(pattern=choice.pattern, zeros=choice.zeros, weight_bits=choice.bits)
    dense, other = (
        times_of(machine.runner, one, phase, machine.numbers, machine.stack).us()
        for one in (decoder, treated(decoder, change))
    )
    assert table.dense == pytest.approx(dense)
    if choice.bits is None:  # Change has no scale a row
        assert table.fixed + table.costs[:, 1].sum() == pytest.approx(other, rel=1e-6)
    assert (table.costs[:, 1] != table.costs[:, 0]).all()


def test_what_a_gpu_runs_as_one_is_one_unit(model) -> None:
    decoder, layers = model
    gpu, array = (units_of(decoder, layers, Machine.open(name)) for name in ("a100-sxm", "vitcod"))
    assert [len(unit.layers) for unit, _ in gpu] == [3, 1, 2, 1] * 3
    assert [unit.layers for unit, _ in array] == [(layer.name,) for layer in layers]
    assert sum(unit.weights for unit, _ in gpu) == sum(layer.n_weights for layer in layers)


def test_flop_and_parameters_need_no_machine(model) -> None:
    decoder, layers = model
    choices = choices_of(["2:4"])
    machine = Machine.open("vitcod")
    flop = cost_table(decoder, layers, machine, prefill(2, 8), choices, "flop")
    parameters = cost_table(decoder, layers, machine, prefill(2, 8), choices, "parameters")
    sizes = np.array([layer.n_weights for layer in layers])
    assert parameters.costs.tolist() == np.stack([sizes, sizes / 2], axis=1).tolist()
    assert (flop.costs == 2 * 16 * parameters.costs).all()
    assert parameters.fixed == 0


def test_energy_falls_with_zeros_where_it_is_counted(model) -> None:
    decoder, layers = model
    table = cost_table(decoder, layers[:7], Machine.open("vitcod"), decode(1, 10), choices_of(["2:4"]), "energy_pj")
    assert len(table.units) == 7
    assert (table.costs[:, 1] < table.costs[:, 0]).all()
    with pytest.raises(UserError, match="a100-sxm counts no energy_pj"):
        cost_table(decoder, layers, Machine.open("a100-sxm"), decode(1, 10), choices_of(["2:4"]), "energy_pj")


def test_runs_that_do_not_divide_are_no_choice(model) -> None:
    decoder, layers = model
    table = cost_table(decoder, layers, Machine.open("vitcod"), decode(1, 10), [Choice(), Choice(pattern=NofM(1, 3))])
    assert np.isnan(table.costs[:, 1]).all()


def test_a_table_is_made_once(model, tmp_path: Path) -> None:
    decoder, layers = model
    made = []

    def make():
        made.append(1)
        return cost_table(decoder, layers, Machine.open("vitcod"), decode(1, 10), choices_of(["2:4"]))

    first = cached_table(tmp_path / "costs.json", make, {"a": 1})
    again = cached_table(tmp_path / "costs.json", make, {"a": 1})
    assert first.sha256 == again.sha256
    assert len(made) == 1
    cached_table(tmp_path / "costs.json", make, {"a": 2})
    assert len(made) == 2


def test_even_masks_keep_as_many_of_every_row() -> None:
    mask = even_rows(3, 10, 70, 203)
    counts = mask.row_counts()
    assert mask.nnz == 203
    assert counts.tolist() == [21] * 3 + [20] * 7
    assert 1 < (mask.to_dense().sum(0)).max() < 10  # columns are drawn
    assert (even_rows(3, 10, 70, 203).words == mask.words).all()
    assert even_rows(0, 4, 65, 4 * 65).nnz == 4 * 65
    assert even_rows(0, 4, 65, 0).nnz == 0


def test_even_rows_cost_what_such_a_mask_costs(model) -> None:
    """At half of 128 inputs every row fills whole steps of 8 weights: a quarter and more below uneven ones."""
    decoder, layers = model
    choices, phase = [Choice(), Choice(0.5), Choice(0.5, bits=4)], prefill(1, 64)
    even = cost_table(decoder, layers[:7], Machine.open("vitcod"), phase, choices, even=True)
    anywhere = cost_table(decoder, layers[:7], Machine.open("vitcod"), phase, choices)
    assert even.facts["masks"] == "even rows"
    assert (even.costs[:, 0] == anywhere.costs[:, 0]).all()
    assert (even.costs[:, 1] < 0.9 * anywhere.costs[:, 1]).all()
    layer = layers[0]
    mask = even_rows(0, layer.out_features, layer.in_features, layer.n_weights // 2)
    header = BundleHeader("m", "x")
    [row] = simulate_layers(
        [open_accelerator("vitcod", [])], header, linears_in_memory(in_memory(header, [(layer, mask)])), Conditions(64)
    )
    assert even.costs[0, 1] == pytest.approx(row["latency_us"])
    energy = cost_table(decoder, layers[:1], Machine.open("vitcod"), phase, choices, "energy_pj", even=True)
    assert energy.costs[0, 1] == pytest.approx(row["energy_pj"])
    flop = cost_table(decoder, layers[:1], Machine.open("vitcod"), phase, choices, "flop", even=True)
    assert flop.costs[0, 1] == flop.costs[0, 0] / 2
