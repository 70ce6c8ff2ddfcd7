"""A decoder as one of several GPUs has it that share every layer: tensor parallelism (Megatron-LM, arXiv 1909.08053,
section 3): heads and FFN neurons are divided, q, k, v, gate, up by outputs and o, down by inputs, tables by rows."""

from dataclasses import replace

from workloads.decoder.dimensions import Block, Decoder, Mixture
from workloads.errors import UserError
from workloads.operations.gemm import Matrix

BY_INPUTS = ("o", "down", "fc2", "shared_down", "shared_fc2", "expert_down")
WHOLE_ON_EACH = ("q_a", "kv_a")  # latents, which all heads need


def split(decoder: Decoder, ranks: int) -> Decoder:
    """What one of `ranks` GPUs has. Heads and FFN neurons must divide; kv heads that are fewer than the GPUs are kept
    by several, and the vocabulary is filled up. Norms, routers and latents are whole on each. Raises UserError for what
    does not divide, products of factors among it."""
    if ranks < 1:
        raise UserError(f"tensor parallelism over {ranks} GPUs; at least 1")
    if ranks == 1:
        return decoder
    if decoder.ranks > 1:
        raise UserError("the decoder is one GPU's share already")
    made: dict[Block, Block] = {}
    for number, block in zip(decoder.numbers, decoder.blocks, strict=True):
        if block not in made:
            made[block] = _block(block, ranks, f"block {number}")
    rows = -(-decoder.vocab_size // ranks)
    return replace(
        decoder,
        blocks=tuple(made[block] for block in decoder.blocks),
        vocab_size=rows,
        head=replace(decoder.head, out_features=rows),
        ranks=ranks,
    )


def _block(block: Block, ranks: int, where: str) -> Block:
    attention = block.attention
    if product := next((matrix for matrix in block.matrices if matrix.factors is not None), None):
        raise UserError(f"{where}: {product.role} is a product of factors, which is not divided among {ranks} GPUs")
    if attention.heads % ranks:
        raise UserError(f"{where}: {attention.heads} heads cannot be divided among {ranks} GPUs")
    if attention.kv_heads % ranks and ranks % attention.kv_heads:
        raise UserError(f"{where}: {attention.kv_heads} kv heads cannot be divided among {ranks} GPUs")
    own = replace(attention, heads=attention.heads // ranks, kv_heads=max(attention.kv_heads // ranks, 1))
    matrices = []
    for matrix in block.matrices:
        if matrix.role in ("k", "v"):
            matrices.append(_rows(matrix, own.kv_heads * own.head_size))
        elif matrix.role == "qkv":
            matrices.append(_rows(matrix, (own.heads + 2 * own.kv_heads) * own.head_size))
        else:
            matrices.append(_divided(matrix, ranks, where))
    mixture = _mixture(block.mixture, ranks, where) if block.mixture else None
    return replace(block, attention=own, matrices=tuple(matrices), mixture=mixture)


def _mixture(mixture: Mixture, ranks: int, where: str) -> Mixture:
    """Every GPU has its share of each expert."""
    kinds = tuple(
        (tuple(_divided(up, ranks, where) for up in ups), _divided(down, ranks, where), number)
        for ups, down, number in mixture.kinds
    )
    return replace(mixture, kinds=kinds)


def _divided(matrix: Matrix, ranks: int, where: str) -> Matrix:
    if matrix.role in WHOLE_ON_EACH:
        return matrix
    inputs = matrix.role in BY_INPUTS
    size = matrix.in_features if inputs else matrix.out_features
    if size % ranks:
        raise UserError(
            f"{where}: {size} {'inputs' if inputs else 'outputs'} of {matrix.role} cannot be divided among {ranks} GPUs"
        )
    if not inputs:
        return _rows(matrix, size // ranks)
    return replace(matrix, in_features=size // ranks, nnz=None if matrix.nnz is None else matrix.nnz / ranks)


def _rows(matrix: Matrix, rows: int) -> Matrix:
    share = rows / matrix.out_features
    return replace(matrix, out_features=rows, nnz=None if matrix.nnz is None else matrix.nnz * share)
