"""Results on disk: when a step is skipped, when it is made again, and that no kill leaves new rows under an old
stamp."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from studies.running import store as module
from studies.running.store import Store
from studies.running.study_run import run_study
from studies.study import read_study
from workloads import BundleHeader, BundleWriter, Layer, MaskBundle, PackedMask, UserError
from workloads.columns.column import Column

COLUMNS = (Column("layer", "text", ""), Column("cycles", "int", ""))


class Killed(BaseException):
    pass


@pytest.fixture
def made() -> list[str]:
    return []


def rows_of(folder, made: list[str], key: str) -> list[int]:
    """Cycles of the step "s" made from `key`; notes that it was made."""

    def make() -> pd.DataFrame:
        made.append(key)
        return pd.DataFrame({"layer": ["a", "b"], "cycles": [len(key), 2]})

    store = Store(folder)
    if store.find_rows("s", key, COLUMNS) is None:
        store.make_rows("s", key, make)
    found = store.find_rows("s", key, COLUMNS)
    assert found is not None
    return found["cycles"].tolist()


def masks_of(folder, made: list[str], key: str, seed: int = 0) -> MaskBundle:
    def make(place) -> MaskBundle:
        made.append(key)
        writer = BundleWriter(place, BundleHeader("m", "hand", seed=seed))
        writer.add(Layer("l.0", "q", 0, 2, 70), PackedMask.dense(2, 70), "unstructured")
        return writer.finish()

    store = Store(folder)
    if store.find_bundle("m", key) is None:
        store.make_bundle("m", key, make)
    found = store.find_bundle("m", key)
    assert found is not None
    return found


def test_an_unchanged_step_is_not_made_again_and_another_key_is(tmp_path, made):
    assert rows_of(tmp_path, made, "one") == rows_of(tmp_path, made, "one") == [3, 2]
    assert rows_of(tmp_path, made, "other") == [5, 2]
    assert made == ["one", "other"]


@pytest.mark.parametrize("damage", ["edited", "half", "stamp without a hash", "broken stamp", "stamp of another kind"])
def test_an_edited_result_is_made_again_and_named(tmp_path, made, capsys, damage):
    rows_of(tmp_path, made, "one")
    rows, stamp = tmp_path / "steps" / "s.csv", tmp_path / "steps" / "s.json"
    if damage == "edited":
        rows.write_text(rows.read_text().replace("a,3", "a,1"))
    elif damage == "half":
        rows.write_text(rows.read_text()[:12])
    else:
        key = json.loads(stamp.read_text())["key"]
        stamp.write_text(
            {"stamp without a hash": f'{{"key": "{key}"}}', "broken stamp": "{", "stamp of another kind": "[]"}[damage]
        )
    capsys.readouterr()
    assert rows_of(tmp_path, made, "one") == [3, 2]
    assert made == ["one", "one"]
    if damage in ("edited", "half"):
        assert f"{rows} was changed after it was written" in capsys.readouterr().err


@pytest.mark.parametrize("writes", [0, 1])
def test_a_kill_never_leaves_new_rows_under_an_old_stamp(tmp_path, made, monkeypatch, writes):
    """A's rows stand; B is made and killed before its rows, or between its rows and their stamp; then A is asked
    for."""
    assert rows_of(tmp_path, made, "one") == [3, 2]
    done = []
    write = module.write_text

    def killed(path, content):
        if len(done) == writes:
            raise Killed
        done.append(path)
        write(path, content)

    monkeypatch.setattr(module, "write_text", killed)
    with pytest.raises(Killed):
        rows_of(tmp_path, made, "other")
    monkeypatch.setattr(module, "write_text", write)
    assert rows_of(tmp_path, made, "one") == [3, 2]
    assert rows_of(tmp_path, made, "other") == [5, 2]


def test_masks_are_made_again_when_their_description_was_changed_or_a_shard_is_gone(tmp_path, made, capsys):
    first = masks_of(tmp_path, made, "k").sha256
    assert masks_of(tmp_path, made, "k").sha256 == first
    assert made == ["k"]
    header = tmp_path / "masks" / "m" / "bundle.json"
    content = json.loads(header.read_text())
    header.write_text(json.dumps(content | {"sha256": "", "header": content["header"] | {"seed": 5}}))
    assert masks_of(tmp_path, made, "k").sha256 == first
    assert f"{header} was changed" in capsys.readouterr().err
    (tmp_path / "masks" / "m" / "masks-00000.safetensors").unlink()
    assert masks_of(tmp_path, made, "k").sha256 == first
    assert "is damaged" in capsys.readouterr().err
    assert made == ["k", "k", "k"]


def test_a_kill_before_the_last_stamp_of_masks_ends_with_the_same_files(tmp_path, made):
    masks_of(tmp_path, made, "k")
    whole = {f.name: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    (tmp_path / "masks" / "m.json").write_text('{\n "key": "k"\n}\n')
    masks_of(tmp_path, made, "k")
    assert {f.name: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == whole
    assert made == ["k"]
    masks_of(tmp_path, made, "other", seed=1)
    assert made == ["k", "other"]


def test_a_second_process_in_the_folder_of_a_study_is_refused_in_one_line(tmp_path):
    (tmp_path / "s.json").write_text(
        '{"model_type": "llama", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, '
        '"num_attention_heads": 2}'
    )
    text = 'title = "S"\n[[models]]\nname = "s"\nshapes = "s.json"\n[[methods]]\nmethod = "generated"\nsparsity = 0.5\n'
    (tmp_path / "s.toml").write_text(text + '[[accelerators]]\nname = "vitcod-paper"\n')
    code = (
        "import sys; from workloads.locking import writing\nwith writing(sys.argv[1]): print(1, flush=True); "
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match=f"process {other.pid} ") as error:
            run_study(read_study(tmp_path / "s.toml"), tmp_path / "out")
        other.communicate()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "masks").exists()
