"""Where the masks of a study come from: pruned, generated, given, or none where shapes are all that is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simulator.accelerators.vitcod.attention.masks import AttentionMasks
from studies.masks import Generated, generated, write_bundle
from studies.method_entry import StudyMethod
from studies.names import described, given_name, masks_name, slug
from studies.progress import ProgressLine, warn
from studies.running.code import PRUNING, SIMULATING, code_sha256
from studies.running.store import Store
from studies.running.task import FreeTask, Place, Task, file_sha256
from studies.settings import density_of
from studies.shapes import shapes_source
from studies.simulate import Source, attention_source, bundle_source
from studies.study import StudyModel
from workloads.bundle import MaskBundle
from workloads.files import sha256_of


@dataclass(frozen=True)
class Masks:
    """What the rows of a run are made of; `name` tells it apart from the other runs of the study. Without a folder it
    is the shapes of `shapes` alone, or the masks of attention in a file."""

    sha256: str
    name: str
    folder: Path | None = None
    shapes: str = ""
    seed: int = 0
    attention: Path | None = None

    @property
    def bundle(self) -> MaskBundle | None:
        return MaskBundle.open(self.folder) if self.folder is not None else None

    def source(self, fresh: bool = False) -> Source:
        if self.attention is not None:
            return attention_source(AttentionMasks.open(self.attention))
        bundle = self.bundle
        return shapes_source(self.shapes, self.seed) if bundle is None else bundle_source(bundle, fresh)


@dataclass(frozen=True, eq=False)
class MasksTask(Task):
    """Of one model and one method. `needs`: the masks that it goes on from, if any."""

    place: Place
    model: StudyModel
    method: StudyMethod
    needs: Sequence["MasksTask"] = ()

    @property
    def title(self) -> str:
        return f"masks of {self.model.name}, {described(self.method)}"


class ShapesAlone(MasksTask, FreeTask):
    """Generated 2:4 masks, of which GPUs alone are asked: their times are those of the shapes."""

    def result(self, inputs: Sequence[Any]) -> Masks:
        shapes, seed = self.place.beside_or_name(self.model.path or self.model.shapes), self.method.seed
        header = shapes_source(shapes, seed).header
        return Masks(header.sha256(), masks_name(self.model, self.method), shapes=shapes, seed=seed)


class GivenMasks(MasksTask, FreeTask):
    """A bundle that is there."""

    def result(self, inputs: Sequence[Any]) -> Masks:
        bundle = MaskBundle.open(self.place.beside(self.method.masks or ""))
        return Masks(bundle.sha256, given_name(self.model, self.method, bundle), bundle.folder)


class AttentionGiven(MasksTask, FreeTask):
    """A file of attention masks that is there."""

    def result(self, inputs: Sequence[Any]) -> Masks:
        file = self.place.beside(self.method.masks or "")
        sha256 = file_sha256(file)
        return Masks(sha256, slug(self.model.name, file.stem, sha256[:8]), attention=file)


class BundleTask(MasksTask):
    """Masks that are written into the study's folder."""

    def find(self, store: Store, key: str, inputs: Sequence[Any]) -> Masks | None:
        name = masks_name(self.model, self.method)
        bundle = store.find_bundle(name, key)
        return None if bundle is None else Masks(bundle.sha256, name, bundle.folder)


class GeneratedMasks(BundleTask):
    def key(self, inputs: Sequence[Any]) -> str:
        return sha256_of([self._made().header.sha256(), code_sha256(("workloads", "checkpoints"))])

    def make(self, store: Store, key: str, inputs: Sequence[Any], progress: ProgressLine) -> None:
        made = self._made()

        def write(folder: Path) -> MaskBundle:
            return write_bundle(folder, made.header, made.count, made.masks, progress, made.patterns)

        store.make_bundle(masks_name(self.model, self.method), key, write)

    def _made(self) -> Generated:
        method = self.method
        density = density_of(method.pattern, None if method.sparsity is None else 1 - method.sparsity)
        model = self.place.beside_or_name(self.model.path or self.model.shapes)
        return generated(model, method.pattern, density, method.seed, {}, method.selection, method.fallback)


class PrunedMasks(BundleTask):
    def key(self, inputs: Sequence[Any]) -> str:
        model = self.model
        drawn = self.place.text_sha256(model.calibration or "")
        settings = [model.name, model.samples, model.seq_len, model.dtype, {**vars(self.method), "label": ""}]
        code = [code_sha256(PRUNING), *foreign_code(self.method)]
        code += [file_sha256(Path(self.method.plan))] if self.method.plan else []
        code += machine_of_speed(self.method)
        before = [masks.sha256 for masks in inputs]
        return sha256_of([settings, drawn, model_files_sha256(self.place, model), *before, *code])

    def make(self, store: Store, key: str, inputs: Sequence[Any], progress: ProgressLine) -> None:
        from studies.prune import open_model, recipe_for, run_prune
        from studies.speed.runs import masks_of_speed

        model, method = self.model, self.method

        def prune(folder: Path) -> MaskBundle:
            place = self.place.beside_or_name(model.path)
            calibration = self.place.beside_or_name(model.calibration) if model.calibration else None
            after = str(inputs[0].folder) if inputs else None
            asked, data = replace(method.asked, after=after), replace(model, calibration=calibration)
            if method.for_speed:
                return masks_of_speed(model.name, place, model.dtype, asked, data, method.speed, folder, progress)
            checkpoint = open_model(place, model.dtype)
            recipe = recipe_for(model.name, checkpoint, asked, data)
            return run_prune(checkpoint, recipe, folder, None, "dense", progress, warn)

        store.make_bundle(masks_name(model, self.method), key, prune)


def machine_of_speed(method: StudyMethod) -> list[str]:
    """Hashes of the code that finds masks for a speed, and of the file that its machine is, if it is one."""
    if not method.for_speed:
        return []
    file = Path((method.on or (method.cost or "").rpartition(":")[0]).partition(".py:")[0])
    own = file if file.is_file() else file.with_name(f"{file.name}.py")
    return [code_sha256((*SIMULATING, "studies.speed", "measurement")), *([file_sha256(own)] if own.is_file() else [])]


def foreign_code(method: StudyMethod) -> list[str]:
    """Hashes of the files of what is not ours: a method, a quantizer, an allocation."""
    from pruning.run.make_recipe import make_recipe

    return [
        file_sha256(source) for part in make_recipe(method.known).parts if (source := part.foreign_source()) is not None
    ]


def model_files_sha256(place: Place, model: StudyModel) -> str:
    from pruning.families import find_family

    family, name = find_family(place.beside_or_name(model.path))
    files = family.files(name)
    return sha256_of([[file.name, file_sha256(file)] for file in files])
