"""Questions made of a text, as rows of scores beside lm_eval's."""

import math
from functools import partial

import pandas as pd

from checkpoints.checkpoint import Checkpoint
from pruning.config import EvaluationConfig
from pruning.data.calibration import evaluation_text, ids_sha256, windows
from pruning.data.questions import CHOICES, clozes, continuations
from pruning.data.tokenizer import load_tokenizer, tokenize
from pruning.evaluation.answers import right_answers
from pruning.forward.hidden_states import Progress
from studies.prune import model_name
from workloads import __version__
from workloads.bundle import MaskBundle
from workloads.columns.harness import HARNESS_COLUMNS
from workloads.errors import UserError
from workloads.rows import to_frame

QUESTIONS, SEQ_LEN, SEED, TASK_VERSION = 200, 128, 0, "1"


def evaluate_offline(
    checkpoint: Checkpoint, model: str, masks: MaskBundle | None, asked: EvaluationConfig, progress: Progress
) -> pd.DataFrame:
    """One row a task of `asked.tasks`, in HARNESS_COLUMNS: the share of right answers, with its standard error."""
    count, seq_len = asked.limit or QUESTIONS, asked.seq_len or SEQ_LEN
    if count < 1:
        raise UserError(f"`limit` must be at least 1, not {asked.limit}")
    text, rows = asked.text or "", []
    for task in dict.fromkeys(asked.offline_tasks):
        if task == "cloze":
            tokenizer = load_tokenizer(checkpoint.folder, "cloze asks for words and needs one")
            made = clozes(evaluation_text(text), partial(tokenize, tokenizer), count, seq_len, SEED)
        else:
            stream = windows(text, checkpoint.folder, seq_len, None).reshape(-1).numpy()
            made = continuations(stream, count, seq_len, SEED)
        right = right_answers(checkpoint, made, masks, progress)
        share = sum(right) / len(right)
        rows.append(
            {
                "model": model_name(model),
                "method": masks.header.method if masks else "dense",
                "pattern": masks.header.pattern if masks else "unstructured",
                "target_sparsity": masks.header.target_sparsity if masks else None,
                "sparsity": masks.sparsity if masks else None,
                "seed": masks.header.seed if masks else None,
                "task": task,
                "task_version": TASK_VERSION,
                "metric": "acc",
                "value": share,
                "stderr": math.sqrt(share * (1 - share) / max(1, len(right) - 1)),
                "samples": len(right),
                "num_fewshot": 0,
                "fewshot_seed": SEED,
                "limit": asked.limit,
                "seq_len": made.ids.shape[1],
                "special_tokens": "tokenizer",
                "dtype": str(checkpoint.model.dtype).removeprefix("torch."),
                "prompts_sha256": ids_sha256(made.ids),
                "masks_sha256": masks.sha256 if masks else "",
                "harness_version": f"prunesim {__version__} ({CHOICES if made.choices > 1 else 1} choices)",
                "tool_version": __version__,
            }
        )
    return to_frame(rows, HARNESS_COLUMNS)
