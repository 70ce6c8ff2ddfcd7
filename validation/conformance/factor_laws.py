"""What a method must leave that makes products of factors."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from checkpoints.factored import FactoredLinear, Pair, tensors_of
from checkpoints.prunable import all_refs
from pruning.bundle_values import factors_of, read_factors, read_weight
from validation.conformance.laws import Broken, same
from validation.conformance.trial import Subject, Trial

CLOSE = 1e-4  # of the largest value, in float32


def weights_are_nearest(subject: Subject | None, trial: Trial) -> None:
    """Every matrix keeps the share asked for, to half a step of its rank; those it is not for stay dense."""
    with TemporaryDirectory() as folder:
        bundle = trial.run(Path(folder))
        bundle.validate()
        refs = [ref for block in all_refs(trial.checkpoint()) for ref in block]
        same("layers", [entry.layer for entry in bundle.layers], [ref.layer for ref in refs], "of the model")
        takes = trial.recipe.method.takes
        made = [entry for entry in bundle.layers if entry.factors is not None]
        same("factorized", [e.name for e in made], [x.layer.name for x in refs if takes(x.layer)], "it is for")
        for entry in made:
            assert entry.factors is not None
            step = entry.nnz / entry.factors.first[1] * entry.factors.second[0]
            wanted = (1 - trial.recipe.sparsity) * entry.layer.n_weights
            if not (abs(entry.nnz - wanted) <= step / 2 or entry.nnz == step):
                raise Broken(f"{entry.name}: {entry.nnz} weights, {wanted:.0f} are due, a step is {step:.0f}")


def multiplies_as_its_matrix(subject: Subject | None, trial: Trial) -> None:
    """What runs gives what the matrix gives that is evaluated and saved."""
    with TemporaryDirectory() as folder:
        bundle = trial.run(Path(folder))
        for entry in bundle.layers:
            pair = read_factors(bundle, entry.name)
            if pair is None:
                continue
            weight = read_weight(bundle, entry.name)
            assert weight is not None
            inputs = torch.randn(7, entry.in_features, generator=torch.Generator().manual_seed(entry.block))
            one, two = module_of(pair)(inputs), inputs @ weight.T
            apart = float((one - two).abs().max())
            if apart > CLOSE * float(two.abs().max()):
                raise Broken(f"{entry.name}: its factors and its matrix differ by {apart:.1e}")


def module_of(pair: Pair) -> FactoredLinear:
    """What a model runs in the place of a linear."""
    made = FactoredLinear(factors_of(pair), None, pair[0].dtype, pair[0].device)
    made.load_state_dict(tensors_of(pair, ""))
    return made
