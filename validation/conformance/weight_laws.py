"""What the weights of a pruning method must be: as the bundle holds them, saved, evaluated, and on their grids."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs, parameter_name
from pruning.bundle_values import read_quantized, read_weight
from pruning.evaluation.perplexity import perplexity
from pruning.saving.dense import save_pruned
from validation.conformance.laws import Broken, same
from validation.conformance.tiny_models import load_whole, quiet, token_ids
from validation.conformance.trial import Subject, Trial
from workloads.bundle import MaskBundle


def saved_as_held(subject: Subject | None, trial: Trial) -> None:
    """Pruned entries exactly +0.0, everything outside the linears bit for bit the original, one perplexity for both
    ways."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        bundle = trial.run(folder / "masks")
        save_pruned(trial.folder(), bundle, folder / "saved", quiet)
        weights_are_those_of(trial, bundle, folder / "saved")
        ids = token_ids(4, 12, seed=5)
        with_bundle = perplexity(trial.checkpoint(), ids, bundle, quiet)
        saved = perplexity(Checkpoint(folder / "saved", torch.float32), ids, None, quiet)
        same("perplexity with the bundle", with_bundle, saved, "of what was saved")
        if with_bundle == perplexity(trial.checkpoint(), ids, None, quiet):
            raise Broken("the perplexity is that of the unpruned model")


def weights_are_those_of(trial: Trial, bundle: MaskBundle, saved: Path) -> None:
    before, after = load_whole(trial.folder()), load_whole(saved)
    inside = set()
    for ref in (ref for block in all_refs(trial.checkpoint()) for ref in block):
        name = parameter_name(ref)
        inside.add(name)
        original, weight = (ref.view(model.get_parameter(name).detach()) for model in (before, after))
        keep = torch.from_numpy(bundle[ref.layer.name].to_dense())
        held = read_weight(bundle, ref.layer.name)
        expected = held if held is not None else torch.where(keep, original, torch.zeros_like(original))
        if not torch.equal(weight, expected.to(weight.dtype)):
            raise Broken(f"{name}: what is saved is not what the bundle holds")
        if bool((weight[~keep].float().view(torch.int32) != 0).any()):
            raise Broken(f"{name}: a pruned weight is not +0.0")
    for name, parameter in before.named_parameters():
        if name not in inside and not torch.equal(parameter, after.get_parameter(name)):
            raise Broken(f"{name}: is no pruned matrix, and has changed")


def stay_on_their_grids(subject: Subject | None, trial: Trial) -> None:
    """Quantized layers say their bits, and scales are such as a checkpoint of the model's type stores."""
    quantization = trial.recipe.quantization
    assert quantization is not None
    with TemporaryDirectory() as folder:
        bundle = trial.run(Path(folder))
        for entry, mask in bundle:
            quantized = read_quantized(bundle, entry.name)
            if quantized is None:
                raise Broken(f"{entry.name}: the bundle holds no codes")
            same(f"{entry.name}: weight bits", entry.weight_bits, quantization.bits, "asked for")
            same(
                f"{entry.name}: group size", entry.group_size, quantization.group_size or entry.in_features, "asked for"
            )
            assert entry.group_size is not None
            top = quantized.grid.top
            zero = quantized.zero.repeat_interleave(entry.group_size, dim=1).int()
            codes = quantized.codes.int()
            if int(codes.max()) > top or int((codes - zero).abs().max()) > top:
                raise Broken(f"{entry.name}: codes reach {int(codes.max())}, beyond the grid's {top}")
            if not torch.equal(quantized.scale, quantized.scale.to(trial.dtype).float()):
                raise Broken(f"{entry.name}: scales do not fit the checkpoint's {trial.dtype}")
            keep = torch.from_numpy(mask.to_dense())
            if bool((quantized.dequantize()[~keep] != 0).any()):
                raise Broken(f"{entry.name}: a pruned weight is not zero on its grid")
