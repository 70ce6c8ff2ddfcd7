"""What the runs of a study are called, in its folder and to a reader."""

import re
from collections.abc import Sequence

from pruning.networks import package_missing
from studies.method_entry import StudyMethod
from studies.study import StudyModel
from workloads.bundle import MaskBundle
from workloads.files import sha256_of
from workloads.plugins import shown
from workloads.treatment import REFUSE


def masks_name(model: StudyModel, method: StudyMethod) -> str:
    """The folder of a run's masks: what sets it apart from the other runs of the model."""
    sets = sha256_of(method.set)[:8] if method.set else ""
    selection = method.selection
    plain = selection.everything and method.fallback == REFUSE
    chosen = "" if plain else sha256_of([selection.only, selection.skip, method.fallback])[:8]
    quantized = slug(method.bits_text)
    after = f"after {sha256_of(method.after)[:8]}" if method.after else ""
    speed = slug(method.speed_text)[:60] + f"-{sha256_of(vars(method.speed))[:8]}" if method.for_speed else ""
    return slug(model.name, shown(method.method or ""), speed or method.pattern, method.sparsity, method.rule,
                shown(method.allocation or ""), quantized, sets, chosen, after, method.seed)  # fmt: skip


def given_name(model: StudyModel, method: StudyMethod, bundle: MaskBundle) -> str:
    """Of masks that were given; folders of one name are told apart by what they hold and are called."""
    return slug(model.name, bundle.folder.resolve().name[:60], sha256_of([bundle.sha256, method.title])[:8])


def described(method: StudyMethod) -> str:
    return f"{method.title}{'' if method.sparsity == 0 else ' ' + target_text(method)}, seed {method.seed}"


def whole_name(method: StudyMethod, others: Sequence[StudyMethod] = ()) -> str:
    """Of a whole model's rows, which have no columns for target and seed: with them where they tell it from another."""
    told = "" if method.treat or method.sparsity == 0 else f" {target_text(method)}"
    named = method.title + told
    alike = [other for other in others if (other.title, other.target) == (method.title, method.target)]
    return f"{named}, seed {method.seed}" if len({other.seed for other in alike}) > 1 else named


def target_text(method: StudyMethod) -> str:
    if method.for_speed:
        return method.speed_text
    return method.pattern if method.sparsity is None else f"{100 * method.sparsity:g} %"


def absent_text(model: StudyModel) -> str:
    missing = f"the package {package_missing(model.path)} is not installed" if model.is_network else ""
    return f"model {model.name!r}, which is optional: {missing or f'there is no folder {model.path}'}"


def slug(*parts: object) -> str:
    """A file name of the parts that are not empty."""
    texts = [re.sub(r"[^A-Za-z0-9.]+", "-", str(part)) for part in parts if part not in (None, "")]
    return "--".join(texts)
