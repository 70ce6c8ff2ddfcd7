"""What each paper says it gains, beside the model at the sparsity the paper states, and why the two differ."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulator.accelerators.eie import nonzero_inputs
from simulator.gpu.published import GEMMS
from simulator.layer_rows import energy_of
from validation.comparison import Comparison, Point, error_of, number, percent, table
from validation.comparisons.closed_forms import ranked
from validation.runs import ROOMY, n_of_m, random_mask, run, target_of
from workloads.mask import PackedMask

SEED = 31
TWO_OF_FOUR = np.uint64(0x3333333333333333)
HEAD = ("claim", "published", "model", "model / published - 1", "why")


@dataclass(frozen=True)
class Claim:
    """A published figure (text: a range) beside the model's; `like` is False where the two are not of one quantity."""

    what: str
    published: float | str
    model: float
    why: str = ""
    like: bool = True

    @property
    def error(self) -> float | None:
        return error_of(self.model, self.published) if self.like and not isinstance(self.published, str) else None


def comparison(name: str, source: str, says: str, claims: list[Claim]) -> Comparison:
    rows = []
    for claim in claims:
        published = claim.published if isinstance(claim.published, str) else number(claim.published)
        error = "-" if claim.error is None else percent(claim.error, sign=True)
        rows.append((claim.what, published, number(round(claim.model, 3)), error, claim.why))
    points = tuple(
        Point(claim.what, rows[i][1], rows[i][2], claim.error, claim.why)
        for i, claim in enumerate(claims)
        if claim.error is not None
    )
    return Comparison(name, source, "paper", tuple(p.error for p in points), says, [table(HEAD, rows)], points)


def vitcod_paper() -> Comparison:
    claims = []
    for what, shape, printed in (("4096 x 4096", (4096, 4096), 4096), ("4096 x 11008", (4096, 11008), 10128)):
        found = run("vitcod-paper", (), random_mask(*shape, 0.5, (SEED, *shape)))
        claims.append(Claim(f"dense cycles of {what}", printed, found.published_dense_cycles or 0))
    for kept, why in (
        (0.5, "half of the columns lie above the ratio and go to the denser engine, zeros included"),
        (0.49, "one column in ten does"),
        (0.48, "hardly any does: kept weights / PEs"),
    ):
        found = run("vitcod-paper", (), random_mask(4096, 4096, kept, (SEED, 4096)))
        speedup = (found.published_dense_cycles or 0) / found.sparse.cycles
        claims.append(
            Claim(f"speedup of 4096 x 4096, random mask, {100 * kept:.0f} % kept", "1.48 to 1.98", speedup, why)
        )
    short, long = claims[2].model / 1.48 - 1, claims[4].model / 1.98 - 1
    says = (
        "BESA's runtime table (ICLR 2024; as its public reviews quote it) has 4096 and 10128 dense cycles, and "
        "speedups of 1.48 to 1.98 over the seven linears of a half-pruned model. Its masks are not published. A random "
        f"mask of exactly 50 % is {percent(short, sign=True)} from the lower end, one of 48 % "
        f"{percent(long, sign=True)} from the upper, because the formula jumps where columns fall below its threshold; "
        "so the table's speedups say more about how kept weights lie on columns than about their number."
    )
    return comparison("vitcod-paper", "BESA's published table", says, claims)


def vitcod() -> Comparison:
    spec = target_of("vitcod").spec
    why = "64 x 64 MACs as in BESA's port; the paper's hardware has 64 x 8, which array.height=8 gives"
    claims = [Claim("peak of the preset, GMAC/s", 256, spec.macs * spec.clock.mhz / 1e3, why)]
    says = (
        "ViTCoD (HPCA 2023) reports gains over CPUs, GPUs and other accelerators, for sparse attention. None of them "
        "is over its own dense machine and none is of a linear layer, so no speedup of this model can be held against "
        "the paper; only its peak can. Attention is compared under vitcod-attention-paper and vitcod-attention."
    )
    return comparison("vitcod", "the paper's peak", says, claims)


def tpu(name: str) -> Comparison:
    spec = target_of(name).spec
    source, peak = {
        "tpu-v4": ("Jouppi et al., ISCA 2023", 275),
        "tpu-v5e": ("Google Cloud's system page", 197),
    }[name]
    found = run(name, (), PackedMask.dense(4096, 4096), 1 << 16).sparse
    reached = 2 * 4096 * 4096 * (1 << 16) / (found.compute_cycles / spec.clock.mhz) / 1e6
    claims = [
        Claim("peak, bf16 TFLOPS", peak, 2 * spec.macs * spec.clock.mhz / 1e6, "MACs x clock, an input of the preset"),
        Claim("TFLOPS of 65,536 tokens x 4096 x 4096, computing", peak, reached, "filling and draining of folds"),
    ]
    says = (
        f"Published: {source}. No measured time of a TPU was available to compare with: how near a real one comes to "
        "these figures is not validated."
    )
    return comparison(name, "published peak", says, claims)


def span(gains: list[float]) -> str:
    low, high = (f"{gain:.2f}x" for gain in (min(gains), max(gains)))
    return low if low == high else f"{low} to {high}"


def stc() -> Comparison:
    claims, computing, moved = [], [], []
    sets = ("number.weight_bits=16", "number.activation_bits=16", "array.macs=1024")
    for gemm in GEMMS:
        if gemm.published_speedup is None or not gemm.gpu.startswith("a100"):
            continue
        found = run("stc", sets, PackedMask(np.full((gemm.n, gemm.k // 64), TWO_OF_FOUR), gemm.k), gemm.m)
        what = f"{gemm.source.split(':')[0]}: {gemm.m} x {gemm.n} x {gemm.k}"
        gain = found.dense.cycles / found.sparse.cycles
        claims.append(Claim(what, round(gemm.published_speedup, 3), gain, gemm.note))
        computing.append(found.dense.compute_cycles / found.sparse.compute_cycles)
        moved.append(found.dense.total_bytes / found.sparse.total_bytes)
    spec = target_of("stc").spec
    peak = 108 * 2 * spec.macs * spec.clock.mhz / 1e6
    why = "the preset has the 1,024 INT8 MACs a cycle of Sparseloop's STC; an A100's SM has 2,048"
    claims.append(Claim("108 SMs of the preset, dense INT8 TOPS", 624, peak, why))
    says = (
        "Measured gains of 2:4 over dense fp16 GEMMs on A100s (tokens x outputs x inputs), beside the model's "
        "`speedup` with 16-bit numbers and 1,024 MACs, an A100's fp16 rate. By computing alone the model gains "
        f"{span(computing)}; what it gains in all is the ratio of bytes ({span(moved)}), because one SM with its share "
        "of DRAM, without the L2 cache that SMs share, is bound by memory where a GPU mostly is not. So where model "
        "and measurement are near each other, they are so for different reasons; for times of GPUs use the GPU "
        "targets, not this model."
    )
    return comparison("stc", "measured 2:4 GEMMs, A100", says, claims)


def sparten() -> Comparison:
    mask = random_mask(2048, 2048, 0.38, SEED)
    claims = []
    for balancing in ("none", "gb-s", "gb-h"):
        sets = (f"array.balancing={balancing}",)
        both, weights = run("sparten", sets, mask, 64, density=0.5), run("sparten", sets, mask, 64)
        gain = weights.dense.compute_cycles / both.sparse.compute_cycles
        claims.append(Claim(f"{balancing}: over a dense machine", 4.7, gain))
        one_sided = weights.sparse.compute_cycles / both.sparse.compute_cycles
        claims.append(
            Claim(f"{balancing}: over weight sparsity alone", 1.8, one_sided, "inputs of 50 % give 2 at most")
        )
    says = (
        "SparTen (MICRO 2019): on average 4.7x over a dense and 1.8x over a one-sided machine, simulated convolutions. "
        "The abstract gives no densities. Both figures together would fit random masks with 38 % of the weights (1.8 / "
        "4.7) and half of the inputs kept, which is what the model runs here (compute cycles, 2048 x 2048, 64 tokens); "
        "the choice of densities is ours, so that this checks that the losses are of a plausible size, no more."
    )
    return comparison("sparten", "the paper's average gains, densities assumed", says, claims)


# inputs, outputs, density of weights and inputs (EIE, table III); theoretical and actual us (table IV)
EIE_LAYERS = {
    "Alex-6": (9216, 4096, 0.09, 0.351, 28.1, 30.3),
    "Alex-7": (4096, 4096, 0.09, 0.353, 11.7, 12.2),
    "Alex-8": (4096, 1000, 0.25, 0.375, 8.9, 9.9),
    "VGG-6": (25088, 4096, 0.04, 0.183, 28.1, 34.4),
    "VGG-7": (4096, 4096, 0.04, 0.375, 7.9, 8.7),
    "VGG-8": (4096, 1000, 0.23, 0.411, 7.3, 8.4),
    "NT-We": (4096, 600, 0.10, 1.0, 5.2, 8.0),
    "NT-Wd": (600, 8791, 0.11, 1.0, 13.0, 13.9),
    "NT-LSTM": (1201, 2400, 0.10, 1.0, 6.5, 7.5),
}


def eie() -> Comparison:
    claims = []
    for name, (inputs, outputs, kept, nonzero, theoretical_us, actual_us) in EIE_LAYERS.items():
        sets = ("buffers.index_kib=8192",) if name == "VGG-6" else ()
        mask = random_mask(outputs, inputs, kept, (SEED, inputs, outputs))
        target = target_of("eie", sets)
        cycles = run("eie", sets, mask, density=nonzero).sparse.compute_cycles
        why = "25,089 pointers a PE exceed its 32 KiB; given more" if name == "VGG-6" else ""
        claims.append(Claim(f"{name}: actual us", actual_us, cycles / target.spec.clock.mhz, why))
        entries = target.gather(mask, dict)["entries"]
        even = entries[nonzero_inputs(inputs, nonzero)[0]].sum(dtype=np.int64) / target.spec.array.pes
        claims.append(Claim(f"{name}: theoretical us", theoretical_us, even / target.spec.clock.mhz, "entries / PEs"))
    faster = sum(claim.error is not None and claim.error < 0 for claim in claims[::2])
    says = (
        "EIE (ISCA 2016), tables III and IV: nine layers at 64 PEs, 800 MHz, batch 1. Random masks and inputs of the "
        "published densities, with the published memory. The model is faster than the published actual time on "
        f"{faster} of {len(EIE_LAYERS)} layers: trained masks are less even than random ones, and densities are whole "
        "percents, which at 4 % is an uncertainty of an eighth. Theoretical times are the entries, padding zeros "
        "included, spread evenly."
    )
    return comparison("eie", "times of nine layers, table IV", says, claims)


def sigma() -> Comparison:
    claims, systolic = [], ("dram.bandwidth_gbps=1024", "clock.mhz=500")
    for shape, tokens, kept, published in (
        ((4096, 4096), 2048, 0.2, 5.7),
        ((1024, 1024), 2048, 0.2, 5.7),
        ((4096, 4096), 2048, 1.0, 2.0),
    ):
        mask = random_mask(*shape, kept, (SEED, *shape)) if kept < 1 else PackedMask.dense(*shape)
        found = run("sigma", (), mask, tokens).sparse
        against = run("systolic", systolic, mask, tokens).dense.compute_cycles
        what = f"{tokens} x {shape[0]} x {shape[1]}, {100 * kept:.0f} % kept"
        claims.append(Claim(f"{what}: computing", published, against / found.compute_cycles))
        claims.append(Claim(f"{what}: with its SRAM", published, against / found.cycles,
                            "960 GB/s of SRAM are too few for the inputs" if found.buffer_cycles else ""))  # fmt: skip
    says = (
        "SIGMA (HPCA 2020): 5.7x over systolic arrays on average of irregular sparse GEMMs, about 2x on dense ones, at "
        "the same 16,384 multipliers; the GEMMs and their sparsities are many, these three are ours. Over our 128 x "
        "128 weight-stationary array (computing alone). The gain over dense GEMMs comes from shapes that fill a "
        "systolic array badly, which these are not. With the SRAM bandwidth that TeAAL gives, the published gain "
        "cannot be met on layers with thousands of inputs in the mapping we have (whole rows on the multipliers, as "
        "STONNE packs): every token then needs every input. A mapping in blocks of inputs would ask for less; it is "
        "not modelled."
    )
    return comparison("sigma", "the paper's average gains", says, claims)


def dstc() -> Comparison:
    claims = []
    for kept in (0.5, 0.25, 0.1, 0.0372, 0.0167):
        mask = random_mask(1024, 4096, kept, (SEED, round(1e4 * kept)))
        full = run("dstc", (), mask, 64).dense.compute_cycles
        for nonzero in (1.0, 0.1):
            found = run("dstc", (), mask, 64, density=nonzero).sparse
            what = f"{100 * kept:.3g} % of weights, {100 * nonzero:.0f} % of inputs kept"
            claims.append(Claim(what, "4.4 average, 8.45 largest", full / found.compute_cycles, like=False))
    needed = [1 - (1 - 2 / gain) ** (1 / 16) for gain in (4.4, 8.45)]  # of columns of 16 in one step, any kept
    says = (
        "Dual-side Sparse Tensor Core (ISCA 2021) claims up to an order of magnitude; 4.4x on average and 8.45x at "
        "most are quoted from its evaluation of convolutions sparse on both sides, whose densities we could not check. "
        f"With weight zeros at random places and dense inputs these gains need {100 - 100 * needed[0]:.1f} % and "
        f"{100 - 100 * needed[1]:.1f} % zeros: a column of 16 takes one step for any 1 to 8 kept weights, so that more "
        "than 2x comes from empty columns alone. Half of the inputs zero gain next to nothing over 16 tokens, as all "
        "must be zero. Trained masks and feature maps have whole empty columns, random ones have few; the paper's "
        "averages cannot be met by random zeros."
    )
    return comparison("dstc", "the paper's gains, densities unknown", says, claims)


def highlight() -> Comparison:
    target, claims, gains = target_of("highlight"), [], []
    for inner in range(4, 9):
        for outer in range(2, 5):
            found = run("highlight", (), ranked(inner, outer, 512, 3360 // (inner * outer)), 512)
            energies = [energy_of(target.spec, layer, 16).total_pj for layer in (found.dense, found.sparse)]
            gains.append(energies[0] * found.dense.cycles / (energies[1] * found.sparse.cycles))
    geometric = float(np.exp(np.log(gains).mean()))
    claims = [
        Claim("energy-delay product, geometric mean of 15 pairs", "up to 6.4", geometric, like=False),
        Claim("energy-delay product, sparsest pair (75 % zeros)", "up to 6.4", max(gains), like=False),
    ]  # fmt: skip
    says = (
        "HighLight (MICRO 2023): a geometric mean of up to 6.4x better energy-delay product than existing designs, "
        "over networks and accelerators that are not modelled here. Ours is over its own dense mode, 512 tokens, 512 "
        "outputs x 3360 inputs, so the two are no more than of one order. What a pair gains in cycles is a closed form "
        "and checked as such."
    )
    return comparison("highlight", "the paper's energy-delay product", says, claims)


def vegeta() -> Comparison:
    claims = []
    for zeros, published in ((0.9, 2.36), (0.95, 3.28)):
        found = run("vegeta", (), random_mask(2048, 4096, 1 - zeros, (SEED, round(100 * zeros))), 512)
        gain = found.dense.compute_cycles / found.sparse.compute_cycles
        claims.append(
            Claim(
                f"unstructured, {100 * zeros:.0f} % zeros",
                published,
                gain,
                "last fillings of 512 packed rows stay part empty",
            )
        )
    for what, mask, published, why in (
        ("2:4", n_of_m(1024, 1024, 2, 4), 2.20, "published over an older dense engine, 1.09 times slower"),
        ("1:4", n_of_m(1024, 1024, 1, 4), 3.74, "the same, and limits outside the array"),
        ("4:4", PackedMask.dense(1024, 1024), 1.09, "the same: our baseline is this engine"),
    ):
        found = run("vegeta", (), mask, 512)
        claims.append(Claim(what, published, found.dense.compute_cycles / found.sparse.compute_cycles, why))
    says = (
        "VEGETA (HPCA 2023). Compute cycles over the model's own dense mode; the rest of the CPU is not modelled, so "
        "its losses are not there."
    )
    return comparison("vegeta", "the paper's gains by pattern", says, claims)


def bitwave() -> Comparison:
    claims = []
    rng = np.random.default_rng(SEED)
    scaled = rng.laplace(size=(1024, 2048))
    weights = np.rint(scaled / np.abs(scaled).max(axis=1, keepdims=True) * 127).astype(np.int64)
    for what, mask in (
        ("unpruned", PackedMask.dense(1024, 2048)),
        ("half pruned at random", random_mask(1024, 2048, 0.5, SEED + 1)),
    ):
        found = run("bitwave", ROOMY, mask, 64, weight_bits=8, weights=weights)
        gain = found.dense.compute_cycles / found.sparse.compute_cycles
        claims.append(Claim(f"Laplace weights of 8 bits, {what}: over all columns", "up to 13.25", gain, like=False))
    says = (
        "BitWave (HPCA 2024): up to 13.25x over other sparse accelerators, with bits of weights flipped after training "
        "so that columns empty, on four networks. Neither those accelerators nor the flips are in the model, so this "
        "cannot be met nor missed. Without flips, random 8-bit weights gain little, as the table shows. Its published "
        "area and power are under the energy model."
    )
    return comparison("bitwave", "the paper's largest gain", says, claims)


def stripes() -> Comparison:
    claims = []
    for bits in (16, 8, 4):
        found = run("stripes", ROOMY, PackedMask.dense(4096, 4096), 512, weight_bits=bits)
        gain = found.dense.compute_cycles / found.sparse.compute_cycles
        claims.append(Claim(f"weights of {bits} bits", "1.30 to 4.51, 1.92 on average", gain, like=False))
    says = (
        "Stripes (MICRO 2016): 1.30x to 4.51x and 1.92x on average, over networks whose activation precisions were "
        "profiled layer by layer. By the paper's own rule of 16 / bits its average stands for 8.3 bits and its range "
        "for 12.3 to 3.5. The model follows that rule exactly (closed forms above) with weights instead of activations "
        "as the serial operand; the profiles are not at hand, so the average is no case of it."
    )
    return comparison("stripes", "the paper's gains, precisions unknown", says, claims)


ALL: dict[str, Callable[[], Comparison]] = {
    "vitcod-paper": vitcod_paper,
    "vitcod": vitcod,
    "tpu-v4": lambda: tpu("tpu-v4"),
    "tpu-v5e": lambda: tpu("tpu-v5e"),
    "stc": stc,
    "sparten": sparten,
    "eie": eie,
    "sigma": sigma,
    "dstc": dstc,
    "highlight": highlight,
    "vegeta": vegeta,
    "bitwave": bitwave,
    "stripes": stripes,
}
