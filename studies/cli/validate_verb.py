"""prunesim validate"""

from pathlib import Path


def validate(bundle: Path, /) -> None:
    """Read every mask of BUNDLE and check hashes, counts and patterns."""
    from workloads.bundle import MaskBundle

    opened = MaskBundle.open(bundle)
    opened.validate()
    print(f"{bundle}: {len(opened)} layers, sparsity {opened.sparsity:.4f}, all masks are as bundle.json says")
