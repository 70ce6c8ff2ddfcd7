"""Budgets that are learned against the costs of a machine, from the command line."""

from pathlib import Path

import pytest

import prunesim as ps
from checkpoints.decoders import decoder_of
from studies.speed.costs import Machine, cost_table
from tests.studies.speed.conftest import CONFIG, prune
from workloads.bundle import MaskBundle
from workloads.choices import choices_of
from workloads.cost_curve import priced
from workloads.phases import prefill

COST = ("--cost", "vitcod:us", "--phase", "prefill", "--prompt", "16")


def test_what_the_masks_cost_is_the_budget(model: Path, tmp_path: Path, capsys) -> None:
    assert prune(model, tmp_path / "masks", *COST, "--budget", "0.7", "--set", "rounds=1", method="besa") == 0
    said = capsys.readouterr().err
    bundle = MaskBundle.open(tmp_path / "masks")
    layers = [entry.layer for entry in bundle.layers]
    decoder = decoder_of(CONFIG.to_dict())
    table = cost_table(decoder, layers, Machine.open("vitcod"), prefill(1, 16), choices_of(["unstructured"]), even=True)
    curves = priced(table).curves
    spent = sum(curves[entry.name].at(entry.sparsity) for entry in bundle.layers)
    share = spent / table.costs[:, 0].sum()
    assert 0.69 < share <= 0.7 + 1e-9
    assert f"us on vitcod: {share:.4f} of the unpruned matrices' by the table, 0.7 was asked for" in said
    rows = ps.simulate(tmp_path / "masks", on="vitcod", tokens=16).frame
    real = rows["latency_us"].sum() / rows["dense_latency_us"].sum()
    assert f"; with these masks {real:.4f}" in said
    assert (f"warning: us on vitcod: with these masks {real:.4f}" in said) == (real > 0.705)
    facts = bundle.header.parameters["costs"]
    assert (facts["budget"], facts["target"], facts["sha256"]) == (0.7, "vitcod", table.sha256)


@pytest.mark.parametrize(
    ("arguments", "method", "message"),
    [
        ((*COST,), "besa", "--cost and --budget go together"),
        ((*COST, "--budget", "0.01"), "besa", "cannot be met: unstructured masks reach"),
        ((*COST, "--budget", "0.7"), "wanda", "wanda learns no budgets"),
        ((*COST, "--budget", "0.7", "--sparsity", "0.5"), "besa", "leave --sparsity out"),
        ((*COST, "--budget", "0.7", "--speedup", "2"), "besa", "leave --speedup out"),
        (("--cost", "vitcod", "--budget", "0.7"), "besa", "MACHINE:MEASURE"),
        (("--cost", "a100-sxm:us", "--budget", "0.7"), "besa", "cannot be met: unstructured masks reach 1.000"),
    ],
)
def test_what_cannot_be(model: Path, tmp_path: Path, capsys, arguments, method: str, message: str) -> None:
    assert prune(model, tmp_path / "masks", *arguments, method=method) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "masks" / "bundle.json").exists()
