"""Models that come through transformers: decoder language models above all, encoders and encoder-decoders too
(docs/families.md)."""

from pathlib import Path
from typing import Any, cast

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.coverage import coverage
from checkpoints.families import Kind
from checkpoints.model_folder import find_model
from checkpoints.opened import OpenModel
from checkpoints.weight_files import weight_files
from pruning.config import CalibrationConfig, EvaluationConfig
from pruning.data.calibration import Calibration, check_ids, ids_sha256, read_calibration, read_inputs, windows
from pruning.evaluation.against_dense import against_dense
from pruning.evaluation.agreement import METRIC, agreement
from pruning.evaluation.perplexity import perplexity
from pruning.families.family import ModelFamily, Quality
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.feeding import check_data, small_batch
from pruning.forward.hidden_states import Progress
from pruning.forward.walk import Walk
from pruning.structured.layouts import Groups, Layouts
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel

PROBE = (2, 8)  # sequences and tokens with which blocks are tried out


class TransformerFamily(ModelFamily):
    """A folder, a GGUF file or a hub id that transformers has a class for."""

    def open(self, model: str, dtype: torch.dtype, device: str) -> Checkpoint:
        return Checkpoint(find_model(model), dtype, device)

    def walk(self, model: OpenModel) -> BlockwiseModel:
        return BlockwiseModel(cast(Checkpoint, model))

    def described(self, model: OpenModel) -> dict[str, Any]:
        checkpoint = cast(Checkpoint, model)
        return {
            **checkpoint.config.to_dict(),
            "weights_sha256": checkpoint.sha256(),
            "matrices": coverage(checkpoint).facts,
        }

    def covered(self, model: OpenModel) -> str:
        return coverage(cast(Checkpoint, model)).line

    def calibration(self, model: OpenModel, data: CalibrationConfig, seed: int) -> Calibration | None:
        if data.calibration is None:
            return None
        return read_calibration(data.calibration, model.folder, data.samples, data.seq_len, seed)

    def check_data(self, model: OpenModel, data: Any, what: str) -> None:
        check_data(cast(Checkpoint, model), data, what)

    def probe(self, model: OpenModel) -> Any:
        return small_batch(cast(Checkpoint, model), *PROBE, 0)

    def couplings(self, model: Walk, kinds: frozenset[str], states: torch.Tensor) -> Groups:
        return Layouts(cast(BlockwiseModel, model), kinds, states)

    def quality(
        self, model: OpenModel, masks: MaskBundle | None, asked: EvaluationConfig, progress: Progress
    ) -> Quality:
        """Perplexity over whole windows of a text, and what masks change where `compare` asks for it; of a model that
        predicts no next token how far it agrees with the unpruned one."""
        checkpoint, text = cast(Checkpoint, model), asked.text or ""
        if checkpoint.family.kind is not Kind.CAUSAL:
            return self._agreement(checkpoint, masks, asked, progress)
        ids = windows(text, checkpoint.folder, asked.seq_len, asked.windows)
        check_ids(ids, checkpoint.config, text)
        beside: dict[str, object] = {}
        if asked.compare and masks is not None:
            found = against_dense(checkpoint, ids, masks, progress)
            errors = " ".join(f"{error:.4g}" for error in found.block_errors)
            beside = {"kl_divergence": found.kl, "top1_agreement": found.agreement, "block_errors": errors}
            value = found.perplexity
        else:
            value = perplexity(checkpoint, ids, masks, progress)
        facts = {
            "perplexity": value,
            **beside,
            "windows": len(ids),
            "seq_len": ids.shape[1],
            "text": Path(text).name if Path(text).is_file() else text,
            "text_sha256": ids_sha256(ids),
        }
        return Quality("perplexity", value, "lower", len(ids), facts)

    def _agreement(
        self, checkpoint: Checkpoint, masks: MaskBundle | None, asked: EvaluationConfig, progress: Progress
    ) -> Quality:
        if asked.compare:
            raise NotForThisModel(
                f"{checkpoint.folder} is always compared with the unpruned model; leave `compare` out"
            )
        text = asked.text or ""
        data: Any = read_inputs(Path(text), asked.windows).data if Path(text).suffix == ".npz" else None
        if data is None:
            data = windows(text, checkpoint.folder, asked.seq_len, asked.windows)
        check_data(checkpoint, data, text)
        value, count = agreement(checkpoint, data, masks, progress)
        facts = {"metric": METRIC, "value": value, "better": "higher", "samples": count, "text": Path(text).name}
        return Quality(METRIC, value, "higher", count, facts)

    def files(self, model: str) -> list[Path]:
        found = find_model(model)
        settings = [found / "config.json"] if found.is_dir() else []
        return [*settings, *weight_files(found)]


TRANSFORMERS = TransformerFamily()
