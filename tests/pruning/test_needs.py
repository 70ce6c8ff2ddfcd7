"""What methods ask a run to gather."""

from dataclasses import replace

import pytest

from pruning.evidence.needs import Need, check_needs
from pruning.methods.wanda import Wanda
from pruning.quantizers.gptq import Gptq
from tests.pruning.recipes import recipe
from workloads.errors import UserError


def test_a_need_that_nobody_gathers_is_an_error_with_the_nearest_name() -> None:
    class Wrong(Wanda):
        needs = frozenset({"energyy"})

    wrong = replace(recipe("wanda"), method=Wrong())
    with pytest.raises(UserError, match="unknown need of method wanda 'energyy'; did you mean 'energy'"):
        _ = wrong.needs
    with pytest.raises(UserError, match="unknown need of method wanda"):
        _ = wrong.needs_calibration


def test_a_quantizers_needs_are_checked_too() -> None:
    chosen = recipe("magnitude", bits=4, quantizer="gptq")
    assert chosen.quantization is not None

    class Wrong(Gptq):
        needs = frozenset({"hesian"})

    wrong = replace(chosen, quantization=replace(chosen.quantization, quantizer=Wrong()))
    with pytest.raises(UserError, match="unknown need of quantizer gptq 'hesian'; did you mean 'hessian'"):
        _ = wrong.needs


def test_texts_of_methods_from_outside_become_needs() -> None:
    assert check_needs({"energy", "dense"}, "method x") == {Need.ENERGY, Need.DENSE}
