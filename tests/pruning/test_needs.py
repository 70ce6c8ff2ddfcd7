"""What methods ask a run to gather."""

from dataclasses import replace

import pytest

from pruning.evidence.needs import Need, check_needs
from pruning.methods import METHODS
from pruning.quantizers import QUANTIZERS
from tests.pruning.models import recipe
from workloads.errors import UserError


def test_a_need_that_nobody_gathers_is_an_error_with_the_nearest_name() -> None:
    wrong = replace(
        recipe("wanda"), method=replace(METHODS["wanda"], needs_of=lambda parameters: frozenset({"energyy"}))
    )
    with pytest.raises(UserError, match="unknown need of method wanda 'energyy'; did you mean 'energy'"):
        _ = wrong.needs
    with pytest.raises(UserError, match="unknown need of method wanda"):
        _ = wrong.needs_calibration


def test_a_quantizers_needs_are_checked_too() -> None:
    chosen = recipe("magnitude", bits=4, quantizer="gptq")
    assert chosen.quantization is not None
    gptq = replace(QUANTIZERS["gptq"], needs_of=lambda parameters: frozenset({"hesian"}))
    wrong = replace(chosen, quantization=replace(chosen.quantization, quantizer=gptq))
    with pytest.raises(UserError, match="unknown need of quantizer gptq 'hesian'; did you mean 'hessian'"):
        _ = wrong.needs


def test_texts_of_methods_from_outside_become_needs() -> None:
    assert check_needs({"energy", "dense"}, "method x") == {Need.ENERGY, Need.DENSE}
