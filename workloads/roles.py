"""The role of a matrix, from the names transformers' families give their modules."""

from workloads.layers import ROLES

_ROLE_OF_NAME = {
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "out_proj": "o", "dense": "o",
    "qkv_proj": "qkv", "query_key_value": "qkv", "c_attn": "qkv", "Wqkv": "qkv",
    "gate_proj": "gate", "up_proj": "up", "gate_up_proj": "gate_up", "down_proj": "down",
    "w1": "gate", "w3": "up", "w2": "down",
    "fc1": "fc1", "c_fc": "fc1", "fc_in": "fc1", "dense_h_to_4h": "fc1",
    "fc2": "fc2", "fc_out": "fc2", "dense_4h_to_h": "fc2",
}  # fmt: skip
_ONLY_IN_ATTENTION = ("out_proj", "dense")
# Names that mean something inside attention alone, as BERT, T5 and older LLaMA code have them.
_OF_ATTENTION = {
    "query": "q", "key": "k", "value": "v", "q": "q", "k": "k", "v": "v", "o": "o", "wq": "q", "wk": "k", "wv": "v",
    "wo": "o",
}  # fmt: skip
_OF_FACTORS = ("first", "second")  # of a product, whose role each of its blocks has
_OF_T5 = {"wi": "fc1", "wi_0": "gate", "wi_1": "up", "wo": "fc2"}


def role_of(path: str) -> str:
    """The role (a member of ROLES) of a matrix by the last names of its path; "other" when they say nothing."""
    names = path.split(".")
    while len(names) > 1 and names[-1].isdigit():
        names.pop()
    if len(names) > 1 and names[-1] in _OF_FACTORS:
        names.pop()
    last, parents = names[-1], names[:-1]
    role = _ROLE_OF_NAME.get(last, "other")
    in_attention = any("att" in name.lower() for name in parents)  # attn, self_attn, attention, SelfAttention
    if last == "c_proj":
        role = "o" if in_attention else "fc2"
    elif in_attention and last in _OF_ATTENTION:
        role = _OF_ATTENTION[last]
    elif last in _OF_T5:
        role = _OF_T5[last]
    elif last == "dense" and parents and not in_attention and parents[-1] in ("intermediate", "output"):
        role = "fc1" if parents[-1] == "intermediate" else "fc2"
    elif last in _ONLY_IN_ATTENTION and parents and not in_attention:
        role = "other"  # e.g. the out_proj of a state-space mixer
    elif role in ("gate", "up", "gate_up", "down"):
        if in_attention:
            role = "other"  # the output gate of gated attention
        elif "experts" in parents:
            role = f"expert_{role}"
        elif any(name.startswith("shared") for name in parents):
            role = f"shared_{role}"
    return role if role in ROLES else "other"
