"""What a report says the same way every time: how its numbers are got, and what is left out of them."""

WHY_LEVELS_DIFFER = (
    "Both levels see the same masks and the same tokens. The paper level evaluates a publication's formula: it has no "
    "memory, so its stall cycles are zero by construction, and its published baseline is the number which the "
    "publication's program prints for the unpruned layer, not necessarily what the same formula gives for a mask "
    "without zeros. The cycle level moves tiles from DRAM through buffers into the array and counts the cycles in "
    "which the array waits. With one token every weight is fetched for a single use, so the bytes moved set the time: "
    "skipped multiplications are hidden behind transfers, and the mask itself has to be fetched too. Compare paper "
    "with compute-only to see what the array alone differs by, and compute-only with the cycle speedup to see what "
    "memory takes away."
)

LEVELS = {
    "paper": "a publication's own formula, quirks included; no memory, hence no stalls",
    "cycle": "tiles, lanes, buffers and DRAM; stalls are cycles in which the array waits for DRAM or buffers",
    "kernel": "one GEMM of a GPU library a layer; a time, no cycles, no energy",
}

SOURCES = {
    "simulated": "computed from the mask by a cycle model",
    "predicted": "computed by a fitted model, not run",
    "measured": "timed on a device",
    "published": "copied from a publication",
}

HOW_SUMMED = (
    "Speedup is dense time / time on the same target with the same tokens, so below 1 is a slowdown: cycles, or "
    "latencies where a target has no cycles. Each target is held against its own dense run, so speedups of two targets "
    "do not compare; latencies do, as far as the targets do: a data-centre GPU is no rival of a small array. For "
    "several layers it is sum / sum over the same layers, never a mean of ratios. Layers that a target cannot run are "
    "counted as left out and enter no sum. Only what has rows is in the sums, the pruned linear layers unless more was "
    "included: normalisation and all else takes time on top."
)

HOW_WATERFALL = (
    "A layer of which a share d of the weights is kept would ideally take d of the dense time. What it takes on top, "
    "as a speedup after each loss: imbalance (lanes that wait for the fullest, rounding to whole lanes), bytes of the "
    "mask, waiting for on-chip buffers, and all other waiting for DRAM; DRAM stalls are shared out to the mask by its "
    "bytes. A loss below zero is a gain. What is no pruned layer is not in it."
)

HOW_PREDICTED = (
    "Nine of ten predictions of a layer's time are off by at most the stated share, on shapes outside the fit; the "
    "error of a sum of layers, or of a speedup, is another. Kernels of all layers run one after another, nothing in "
    "between."
)

HOW_SOURCES = (
    "The same GEMM (card, type, tokens, out x in) by each source that has it. Errors are predicted / given - 1: above "
    "0 the prediction is too slow, or its speedup too high. Published figures come from other kernels, library "
    "versions and sometimes forms of the card than the prediction is of (the notes say which), so their differences "
    "are not the prediction's error alone. A publication that gives a ratio alone has a speedup and no times; such "
    "figures are in no sum."
)

HOW_BY_TOKENS = (
    "Dense time / time of each layer shape. The tokens at which it passes 1.0 are interpolated, linearly in the "
    "logarithm of the tokens, between the counts that were run; whatever lies between them is not known."
)

HOW_EQUAL_PERPLEXITY = (
    "Of each kind of compression the fastest run whose perplexity is at most the limit, a multiple of the unpruned "
    "model's. Only what was run counts and nothing is interpolated, so a kind tried at few sparsities may do "
    "better than is said here, never worse; an empty cell is a kind of which no run stays below the limit. "
    "Unlike elsewhere, speedups of quantized models are over the unpruned model in its own number type."
)

HOW_STEPS = (
    "Every step is made of what the one before it left. Against unpruned: the time of the unpruned model, at the bits "
    "of the first step, over the time of the step, so that it holds what fewer bits bring; speedups elsewhere in this "
    "report are against dense layers of the same bits."
)

HOW_PHASES = (
    "Decode is taken to be at most 64 tokens in a layer (a step of so many sequences), prefill more. Bars are sums "
    "over the model's linears; nothing else of the model is in them, nor is quantizing the activations."
)

HOW_SPMM = (
    "PyTorch has no kernel for unstructured masks that is faster than its dense one, so these layers are predicted "
    "dense. Kernels published outside it claim the speedups below, over cuBLAS on the dense matrix, fp16, at most 32 "
    "tokens, on the cards that the sources name. From 70 to 90 % zeros that is the range Flash-LLM plots at the "
    "nearest of 8, 16 and 32 tokens; from 30 to 70 % they tabulate nothing, and the range is arithmetic on the bytes "
    "of the published formats, so its upper end is a bound. At one token, MACKO (arXiv 2511.13061) decodes a "
    "Wanda-pruned Llama-2-7B 1.48x faster at 50 % zeros on an RTX 4090; `prunesim predict` knows its kernel as the "
    "operation spmv. These figures are not of this GPU, not of these masks, and in "
    "no sum; for other sparsity or more tokens nothing is published."
)

HOW_ENERGY = (
    "Counted actions x energy per action, published or assumed (`prunesim show energy` has the source of each): "
    "multiply-accumulates of kept weights, MAC slots without one, operand registers, reads and writes of on-chip "
    "buffers, bits moved from and to DRAM. Energy ratio is dense energy / energy, sum / sum over the same layers, so "
    "below 1 the masked layers take more."
)

NOT_IN_ENERGY = (
    "Left out of energies: leakage, clock tree, the network between buffers and MACs, control, decoders and sorters of "
    "sparse formats, and DRAM's background power, refresh, controller and PHY. So absolute values are mostly below a "
    "chip's, and a sparse machine is flattered by what its control costs. Publications disagree by factors of two and "
    "more about single constants; ratios suffer less from that than absolute values, but are not exact either."
)

HOW_EDP = (
    "energy-delay product. Layers run one after another, so that of a model is its summed energy x its summed latency, "
    "and its ratio (dense / masked) is energy ratio x speedup."
)

HOW_AREA = (
    "MACs with their registers and on-chip buffers alone, scaled from published cells; no control, network, wiring "
    "between them or PHY, so a chip is mostly larger."
)

HOW_PARETO = (
    "A target with more than three settings is a sweep: its designs are lines of one table, without tables and figures "
    "of each (rows.csv has their layers). A design is on a front if no other one with the same masks is at least as "
    "good in both and better in one. The front is that of the designs that were tried, not of all there could be. "
    "Designs that cannot run every layer stand last, without a number: their sums run over fewer layers."
)

HOW_TIMELINE = (
    "Share of each span of time in which a tile is in the array, and in which the DRAM port loads or stores, for one "
    "layer. A tile in the array counts as busy from its begin to its end: idle lanes, multiplied zeros and waiting for "
    "on-chip buffers are inside, so this share is at or above the utilisation in the tables."
)

HOW_ACTIVATIONS = (
    "the share of nonzero inputs, assumed and not measured. Designs that skip zero inputs gain from it; the notes of "
    "each say how. The others multiply all inputs; the dense baseline has the same activations."
)

HOW_EVALUATED = (
    "exp of the mean loss per token over whole windows of the text, no overlap, each window on its own. Only "
    "perplexities from the same text, cut the same way, stand in one table. A run that diverged is shown with the "
    "number it gave."
)

HOW_SEEDS = (
    "Runs that differ in their seed alone (it draws the calibration sequences) are one method: cycles, perplexity and "
    "sparsity are means over the seeds, speedup is the ratio of the means, ± is the sample standard deviation over the "
    "seeds. A line without ± comes from one seed."
)
