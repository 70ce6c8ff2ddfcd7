"""prunesim import"""

import sys
from pathlib import Path

from studies.progress import ProgressLine


def import_(source: Path, /, *, out: Path, model_id: str = "") -> None:
    """Make a mask bundle of SOURCE: a Hugging Face folder or safetensors files whose weights hold zeros, a folder of
    .npy masks, or an .npz file.

    Parameters
    ----------
    out
        Folder of the mask bundle.
    model_id
        Name to record (default: the source's name).
    """
    from studies.masks import write_bundle
    from workloads import __version__
    from workloads.bundle import BundleHeader
    from workloads.importers import read_array_masks

    if source.is_dir() and not any(source.glob("*.npy")):
        from workloads.checkpoint_masks import read_checkpoint_masks

        masks, method = read_checkpoint_masks(source), "imported-checkpoint"
    else:
        masks, method = read_array_masks(source), "imported-arrays"
    header = BundleHeader(model_id or source.resolve().stem, method, tool_version=__version__)
    progress = ProgressLine()
    bundle = write_bundle(out, header, 0, masks, progress)
    progress.close()
    sys.stderr.write(f"wrote {out}: {len(bundle)} layers, sparsity {bundle.sparsity:.4f}\n")
