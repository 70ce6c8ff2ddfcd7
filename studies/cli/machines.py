"""What `show` prints of accelerators and GPUs, whoever made them."""

from pathlib import Path

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.named import Design, described
from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
from simulator.accelerators.vitcod.attention.target import AttentionModel
from simulator.gpu import GPUS
from simulator.gpu import kernel_times as gemm
from simulator.gpu.layers import NOTES
from simulator.gpu.named import gpu_values, is_gpu
from simulator.machine.files import based_on, described_by, is_machine_file, toml_text
from simulator.machine.parts import unheard
from simulator.machine.spec import of_models, preset_path, without_keys

OURS = (*ACCELERATORS, *GPUS, *ATTENTION_MODELS)


def toml_of(name: str) -> str:
    """The machine as a file that `on` reads: what it is based on and every key that has an effect. Raises UserError for
    what is none."""
    if name in OURS:
        return f'base = "{name}"\n\n{preset_path(name).read_text(encoding="utf-8").strip()}\n'
    if is_gpu(name):
        label, values, _ = gpu_values(name)
    elif is_machine_file(name):
        label, (_, spec_type, values) = described_by(Path(name), described)
        values = without_keys(values, unheard(spec_type, values))
    else:
        return toml_text({"base": name, **described(name)[2]})
    base = list(based_on(Path(name)))[-1] if is_machine_file(name) else name
    return toml_text({"base": base, "name": label, **values})


def accelerator_text(name: str, model: Design | AttentionModel, verb: str = "simulate") -> str:
    """What it is, what it leaves out, and its keys."""
    level = f"Level: {model.level}. Keys (--set section.key=value) and their values:"
    used = f"Used by `prunesim {verb} --on {name}`. {level}"
    text = [model.documentation.strip(), "", *_notes(model.notes), "", used, "", keys_of(name)]
    keys = ", ".join(f"{key} = {value}" for key, value in of_models(model.spec_type).items())
    return "\n".join(
        [*text, *(["", f"Of whole models alone (prunesim inference), where not above: {keys}"] if keys else [])]
    )


def gpu_text(name: str) -> str:
    used = (
        f"Used by `prunesim predict --on {name}` and `prunesim simulate --on {name}`, with --dtype. Level: kernel. "
        "Keys (--set section.key=value) and their values:"
    )
    return "\n".join([(gemm.__doc__ or "").strip(), "", *_notes(NOTES), "", used, "", keys_of(name)])


def _notes(notes: tuple[str, ...]) -> list[str]:
    return ["Notes, as reports print them:", *(f"  - {note}" for note in notes)]


def keys_of(name: str) -> str:
    """The sections of a machine: ours with their comments."""
    return preset_path(name).read_text(encoding="utf-8").strip() if name in OURS else toml_of(name).strip()
