"""Samplers of optuna, and the journal of what they chose.

Every trial is drawn by a sampler made anew from the seed and the trial's number, so that nothing but these and the
trials told before decides it, and a search that goes on chooses what it would have chosen."""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.search.figures import Constraint
from studies.search.parameters import Between, Choices, Parameter
from studies.search.settings import StudySearch
from workloads.errors import UserError
from workloads.files import cannot_write, sha256_of

LEAST_FOR_IMPORTANCE = 20  # trials


def optuna_module() -> Any:
    """Raises UserError where it is not installed, or too old for constraints to be told."""
    try:
        import optuna
    except ImportError:
        raise UserError(
            "a sampler needs optuna, which is not installed: pip install 'prunesim[search]'; or leave `sampler` out, "
            "which tries all designs"
        ) from None
    if int(optuna.__version__.partition(".")[0]) < 5:
        raise UserError(f"a sampler needs optuna 5 or later, and {optuna.__version__} is here: pip install -U optuna")
    optuna.logging.set_verbosity(logging.ERROR)
    return optuna


@dataclass(frozen=True)
class Told:
    """What a design gave: `values` of the objectives, None where it has none; `excesses`: by how much it breaks each
    constraint, by their texts."""

    values: tuple[float, ...] | None
    excesses: Mapping[str, float]


class Sampling:
    """One search of one sampler. `ask` and `tell` take turns, a batch at a time; `trials` are those of the journal."""

    def __init__(
        self, search: StudySearch, free: Mapping[str, Parameter], constraints: Sequence[Constraint], folder: Path
    ):
        self.optuna = optuna_module()
        self.search = search
        self.free = free
        self.distributions = {name: self._distribution(parameter) for name, parameter in free.items()}
        asked = [search.sampler, search.seed, search.batch, search.population if search.sampler == "nsga2" else None]
        space = [[name, parameter.text] for name, parameter in free.items()]
        tests = [each.text for each in constraints]
        self.name = sha256_of([asked, space, list(search.objectives), tests, self.optuna.__version__])[:8]
        self.path = folder / f"{search.sampler}-{self.name}.journal"
        self._asked: list[Any] = []
        if _torn(self.path):
            self.path.unlink()  # optuna would write on behind what a kill left of a line
        try:
            self.study = self._opened()
        except (ValueError, KeyError, AssertionError):  # a journal that a kill or an editor damaged
            self.begin_anew()

    def _opened(self) -> Any:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        lock = Path(f"{self.path}.lock")
        with suppress(OSError):
            lock.unlink()  # of a killed search; the folder is ours
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _quiet():
                storage = JournalStorage(JournalFileBackend(str(self.path)))
                return self.optuna.create_study(
                    storage=storage, study_name=self.name, directions=["minimize"] * len(self.search.objectives),
                    load_if_exists=True, sampler=self._sampler(0),
                )  # fmt: skip
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def begin_anew(self) -> None:
        """Forgets what the journal has."""
        self.path.unlink(missing_ok=True)
        self.study = self._opened()

    @property
    def trials(self) -> list[tuple[dict[str, Any], Told | None]]:
        """(values by parameter, what was told or None) of every trial that was begun, in order."""
        state = self.optuna.trial.TrialState
        found: list[tuple[dict[str, Any], Told | None]] = []
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == state.COMPLETE:
                found.append((self._values(trial.params), Told(tuple(trial.values), {})))
            else:
                found.append((self._values(trial.params), Told(None, {}) if trial.state == state.FAIL else None))
        return found

    def ask(self, count: int) -> list[dict[str, Any]]:
        """Values by parameter of the next designs."""
        begun = len(self.study.get_trials(deepcopy=False))
        with _quiet():
            for number in range(begun, begun + count):
                self.study.sampler = self._sampler(number)
                self._asked.append(self.study.ask(self.distributions))
        return [self._values(trial.params) for trial in self._asked]

    def tell(self, outcomes: Sequence[Told]) -> None:
        """Of the designs asked for, in order."""
        state = self.optuna.trial.TrialState
        with _quiet():
            for trial, told in zip(self._asked, outcomes, strict=True):
                if told.values is None:
                    self.study.tell(trial, state=state.FAIL)
                    continue
                for text, excess in told.excesses.items():
                    trial.set_constraint(text, excess)
                self.study.tell(trial, list(told.values))
        self._asked = []

    def importances(self, place: int) -> dict[str, float]:
        """Of every free parameter for an objective, by its place; {} of too few trials."""
        state = self.optuna.trial.TrialState
        complete = self.study.get_trials(deepcopy=False, states=(state.COMPLETE,))
        values = {trial.values[place] for trial in complete}
        if len(complete) < LEAST_FOR_IMPORTANCE or len(values) < 2:
            return {}
        with _quiet():
            return dict(
                self.optuna.importance.get_param_importances(self.study, target=lambda trial: trial.values[place])
            )

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What optuna calls a value -> the value. A trial that was cut off has not all of them."""
        found = {}
        for name, given in params.items():
            parameter = self.free[name]
            found[name] = parameter.values[int(given)] if isinstance(parameter, Choices) else parameter.rounded(given)
        return found

    def _distribution(self, parameter: Parameter) -> Any:
        """Lists by the place of the value: neighbours in a list of numbers are alike, others are not."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if isinstance(parameter, Between):
            if parameter.whole:
                return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
            return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
        if parameter.ordered:
            return IntDistribution(0, len(parameter.values) - 1)
        return CategoricalDistribution(list(range(len(parameter.values))))

    def _sampler(self, number: int) -> Any:
        samplers = self.optuna.samplers
        digest = hashlib.sha256(f"{self.search.seed} {number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        with _quiet():
            match self.search.sampler:
                case "tpe":
                    return samplers.TPESampler(seed=seed)
                case "nsga2":
                    return samplers.NSGAIISampler(seed=seed, population_size=self.search.population)
                case "qmc":
                    first = samplers.RandomSampler(seed=seed)  # chooses the first trial alone
                    return samplers.QMCSampler(scramble=True, seed=self.search.seed, independent_sampler=first)
        return samplers.RandomSampler(seed=seed)


def _torn(path: Path) -> bool:
    """Whether its last line was cut off."""
    return path.is_file() and not path.read_bytes().endswith(b"\n")


@contextmanager
def _quiet() -> Iterator[None]:
    """optuna's advice is for who writes programs with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
