"""The noun everything else speaks of: one masked linear layer, and the names of its role."""

from dataclasses import dataclass

from workloads.arguments import hold_fields
from workloads.errors import UserError
from workloads.files import utf8

# Roles in the order a table shows them. Fused matrices keep one role of their own: they run as one GEMM.
ATTENTION_ROLE = "attention"
ROLES = (
    "q", "k", "v", "qkv", ATTENTION_ROLE, "o",
    "gate", "up", "gate_up", "down", "fc1", "fc2",
    "shared_gate", "shared_up", "shared_gate_up", "shared_down",
    "expert_gate", "expert_up", "expert_gate_up", "expert_down",
    "other",
)  # fmt: skip
BESIDE = (ATTENTION_ROLE, "head", "gather", "scatter")  # no layers of a block, where no mask says otherwise
FFN_ROLES = ROLES[ROLES.index("gate") : ROLES.index("other")]


@dataclass(frozen=True)
class Layer:
    """One linear of a decoder block, y = x W^T with W of shape (out_features, in_features).

    `name` is the module path; a matrix inside a stacked 3-D expert parameter ends with its expert's number,
    e.g. "model.layers.0.mlp.experts.down_proj.3".
    """

    name: str
    role: str
    block: int
    out_features: int
    in_features: int

    def __post_init__(self) -> None:
        """A name from a file's name that is not UTF-8 is written out, as no shard and no table could hold it. Raises
        UserError for a field of a wrong type."""
        hold_fields(self)
        object.__setattr__(self, "name", utf8(self.name))

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return self.out_features, self.in_features

    @property
    def n_weights(self) -> int:
        return self.out_features * self.in_features


def role_rank(role: str) -> int:
    """Position of a role in tables; roles unknown to ROLES come last."""
    return ROLES.index(role) if role in ROLES else len(ROLES)


def check_roles(asked: list[str] | tuple[str, ...], present: list[str] | tuple[str, ...]) -> None:
    """Raise UserError unless every role asked for occurs among those present."""
    unknown = sorted(set(asked) - set(present))
    if unknown:
        known = " ".join(sorted(set(present), key=role_rank))
        raise UserError(f"unknown role {unknown[0]!r}; this model has: {known}")
