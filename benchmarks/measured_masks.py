"""What the matrices of pruned models take on this machine's CPU, all of many bundles from one record.

Every matrix runs on the quickest kernel that PyTorch has for what is left of it: dense, in fp32; CSR under a mask, N:M
included, for which PyTorch has no kernel on a CPU; a smaller dense matrix where rows or columns are gone; of factors
block after block; nothing where all of it is gone. CSR is timed at DENSITIES and taken as linear between them; denser
ones run dense, sparser ones take the time of the sparsest. Times are warm, of one thread: models so small stay in a
cache. They only count while nothing else runs: what spreads too far is timed again, TRIES times at most, and a speedup
that needs it is not given.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from workloads.operations import Linear, linears_of

DENSITIES = (0.5, 0.3, 0.1)
ROUNDS, TRIES = 5, 3
Shape = tuple[int, int, int]  # tokens, out_features, in_features


@dataclass(frozen=True)
class Product:
    """One matrix with so many tokens; `density` of its weights is kept."""

    shape: Shape
    density: float = 1.0


@dataclass(frozen=True)
class Layer:
    """What runs of it, `runs` times: unpruned, and pruned one after the other."""

    runs: int
    before: Product
    after: tuple[Product, ...]


def speedups(bundles: Mapping[str, Path], samples: int, folder: Path) -> dict[str, float | str]:
    """Of all matrices of each bundle together, dense time over pruned time; or why there is none. The record of the
    times is in `folder`."""
    from workloads.bundle import MaskBundle
    from workloads.errors import UserError

    layers = {key: layers_of(linears_of(MaskBundle.open(bundle)), samples) for key, bundle in bundles.items()}
    us = timed({product for some in layers.values() for product in products(some)}, folder)
    found: dict[str, float | str] = {}
    for key, some in layers.items():
        try:
            found[key] = round(speedup(some, us), 4)
        except UserError as error:
            found[key] = str(error)
    return found


def layers_of(linears: Iterable[Linear], samples: int) -> list[Layer]:
    """At the tokens that a batch of so many samples makes of each."""
    found = []
    for linear in linears:
        tokens, sizes = samples * linear.use.tokens, (linear.out_features, linear.in_features)
        left = [Product((tokens, *sizes), linear.weights.nnz / prod(sizes))]
        if linear.factors is not None:
            left = [
                Product((tokens, part.out_features, part.in_features)) for n, part in linear.parts for _ in range(n)
            ]
        before = Product((tokens, *(linear.unpruned or sizes)))
        found.append(Layer(linear.use.runs, before, () if linear.is_gone else tuple(left)))
    return found


def products(layers: Iterable[Layer]) -> set[Product]:
    return {product for layer in layers for product in (layer.before, *layer.after)}


def speedup(layers: Iterable[Layer], us: Callable[[Product], float]) -> float:
    """Of all layers together, each at its runs."""
    layers = list(layers)
    before = sum(layer.runs * us(layer.before) for layer in layers)
    return before / sum(layer.runs * us(product) for layer in layers for product in layer.after)


def timed(wanted: Iterable[Product], folder: Path) -> Callable[[Product], float]:
    """us of each product that is wanted: the record in the folder grows by what it does not hold. The function raises
    UserError for a product whose times spread too far."""
    from measurement.by_density import TimesByDensity
    from measurement.records import read_record
    from measurement.rows import RecordTarget
    from workloads.errors import UserError

    wanted = list(wanted)
    masked = {product.shape for product in wanted if product.density < 1}
    noisy = set[Shape]()
    for _ in range(TRIES):
        noisy = measure(sorted(masked), "csr", folder) | measure(sorted({p.shape for p in wanted} - masked), "", folder)
        if not noisy:
            break
    times = TimesByDensity(RecordTarget(read_record(folder / "record.csv"), "warm"))

    def us(product: Product) -> float:
        tokens, rows, cols = product.shape
        if product.shape in noisy:
            raise UserError(
                f"the times of {rows} x {cols} at {tokens:,} tokens spread too far; repeat on an idle machine"
            )
        return times.us(rows, cols, tokens, product.density)[0]

    return us


def measure(shapes: list[Shape], kernels: str, folder: Path) -> set[Shape]:
    """Into the folder's record, the dense kernel always. Those whose times spread too far."""
    import prunesim as ps

    if not shapes:
        return set()
    rows = ps.measure(
        shapes=shapes, on="cpu", kernels=kernels or "dense", density=DENSITIES, runs=ROUNDS, l2="warm", out=folder
    ).frame
    rows = rows[rows["reason"].fillna("").str.startswith("noisy: ")]
    found = set(zip(rows["tokens"], rows["out_features"], rows["in_features"], strict=True))
    return found & set(shapes)
