"""pytest classes that hold an accelerator or a pruning method of yours to the laws that those of prunesim obey.

from prunesim.testing import AcceleratorSuite, MethodSuite

class TestMyChip(AcceleratorSuite):
    accelerator = MyChip

Each law is a test of its own. One that the design states in `not_promised`, or that nothing is known to check it with,
is skipped with that reason.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from validation.conformance.laws import Law, hold

if TYPE_CHECKING:
    from pruning.methods import PruningMethod
    from simulator.accelerators import Accelerator

__all__ = ["AcceleratorSuite", "MethodSuite"]


class _Suite:
    """One test a law; a suite says which laws, and of what."""

    @classmethod
    def laws(cls) -> Sequence[Law]:
        raise NotImplementedError

    @classmethod
    def subject(cls) -> Any:
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: Any) -> None:
        if "law" in metafunc.fixturenames:
            metafunc.parametrize("law", self.laws(), ids=str)

    def test_law(self, law: Law) -> None:
        import pytest

        subject = self.subject()
        result = hold(law, subject, dict(subject.not_promised).get(law.name, ""))
        if result.failed:
            pytest.fail(str(result), pytrace=False)
        if result.status != "passed":
            pytest.skip(str(result))

    def test_not_promised_names_laws(self) -> None:
        assert set(self.subject().not_promised) <= {law.name for law in self.laws()}


class AcceleratorSuite(_Suite):
    """`accelerator`: a class, a design (an object of one) or a name."""

    accelerator: ClassVar["type[Accelerator] | Accelerator | str"]

    @classmethod
    def laws(cls) -> Sequence[Law]:
        from validation.conformance.accelerators import LAWS

        return LAWS

    @classmethod
    def subject(cls) -> Any:
        from validation.conformance.design import design_of

        return design_of(cls.accelerator)


class MethodSuite(_Suite):
    """`method`: a class of pruning methods, or one with its settings. Needs torch."""

    method: ClassVar["type[PruningMethod] | PruningMethod"]

    @classmethod
    def laws(cls) -> Sequence[Law]:
        from validation.conformance.methods import LAWS

        return LAWS

    @classmethod
    def subject(cls) -> Any:
        from validation.conformance.trial import subject_of

        return subject_of(cls.method)
