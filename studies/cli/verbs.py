"""The verbs of the command line, one file each."""

VERBS = {
    "run": "Run a study file: models, methods, accelerators, report.",
    "prune": "Prune a model: write a mask bundle, and on request a pruned checkpoint.",
    "finetune": "Train what pruning left, under its masks and on its grids.",
    "eval": "Perplexity or task scores of a model, with or without masks.",
    "generate": "Make masks of a chosen pattern and density for a model's shapes.",
    "import": "Make a bundle of masks from elsewhere, checked: arrays, tensors, or a checkpoint that holds zeros.",
    "simulate": "Cycles and energy of masks on an accelerator, or predicted times on a GPU.",
    "formats": "Exact bytes of masks in every weight format.",
    "attention": "Cycles of sparse attention under attention masks.",
    "predict": "Dense and 2:4 time of GEMMs on a GPU, by a model fitted to published measurements.",
    "inference": "Prefill, decode and memory of a whole model on a GPU, operation by operation, predicted.",
    "measure": "Measured latency of dense, pruned and quantized layers on this machine's GPU or CPU, or from a record.",
    "report": "Tables, figures and a page from result rows.",
    "compare": "What moved between two results, by how much, and why.",
    "doctor": "What this machine can run, what not, and the remedy for each.",
    "ls": "List accelerators, GPUs, methods, quantizers, allocations or models.",
    "show": "Describe an accelerator, a GPU, a method, a quantizer, an allocation or a model.",
    "check": "Check a bundle, an accelerator or a pruning method: every law that those of prunesim obey.",
}


def function_of(verb: str) -> tuple[str, str]:
    """The module and the name of the function that a verb is."""
    return f"studies.cli.{verb}_verb", "import_" if verb == "import" else verb
