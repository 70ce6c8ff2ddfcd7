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
    from studies.masks import imported, write_bundle

    header, masks = imported(source, model_id)
    progress = ProgressLine()
    bundle = write_bundle(out, header, 0, masks, progress)
    progress.close()
    sys.stderr.write(f"wrote {out}: {len(bundle)} layers, sparsity {bundle.sparsity:.4f}\n")
