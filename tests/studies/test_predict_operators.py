"""prunesim predict on a file of operators, as a user meets it."""

import json

import pandas as pd
import pytest

import prunesim as ps
from simulator.gpu import load_gpu
from simulator.gpu.operators import all_reduce, decode, elementwise, linear, moe, prefill, spmv
from studies.cli.main import main

HEAD = (
    "layer,operation,phase,batch,q_tokens,kv_tokens,heads,kv_heads,head_dim,window,m,n,k,tokens,cols,hidden,expert_ffn,"
    "experts,top_k,routing,distinct_experts,gpus,message_bytes,dtype,latency_us"
)
ROWS = {
    "attention": "a,attention,prefill,2,512,1024,32,8,128,0,,,,,,,,,,,,,,bf16,50",
    "decode": "b,attention,decode,8,,4096,32,8,128,,,,,,,,,,,,,,,,",
    "linear": "c,linear,,,,,,,,,16,4096,4096,,,,,,,,,,,fp16,",
    "rmsnorm": "d,rmsnorm,,,,,,,,,,,,64,4096,,,,,,,,,,",
    "moe": "e,moe,,,,,,,,,,,,16,,2048,768,128,8,balanced,-1,,,,",
    "listed": "f,moe,,,,,,,,,,,,16,,2048,768,128,8,,64,,,,",
    "all_reduce": "g,all_reduce,,,,,,,,,,,,,,,,,,,,8,1048576,,",
}


def run(*arguments: object) -> int:
    try:
        main(["predict", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "operators.csv"
    path.write_text("\n".join([HEAD, *ROWS.values()]) + "\n")
    return path


def test_rows_are_the_librarys_and_columns_stay(path, capsys):
    assert run(path, "--on", "h100-sxm", "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    gpu = load_gpu("h100-sxm")
    expected = [
        prefill(gpu, 2, 512, 1024, 32, 8, 128), decode(gpu, 8, 4096, 32, 8, 128), linear(gpu, 16, 4096, 4096),
        elementwise(gpu, "rmsnorm", 64, 4096), moe(gpu, 16, 2048, 768, 128, 8, "balanced"),
        moe(gpu, 16, 2048, 768, 128, 8, "listed", 64), all_reduce(gpu, 8, 1 << 20),
    ]  # fmt: skip
    assert [row["layer"] for row in rows] == list("abcdefg")
    for row, timing in zip(rows, expected, strict=True):
        assert row["latency_us"] == pytest.approx(timing.latency_us[0])
        assert row["latency_error_p90"] == pytest.approx(timing.latency_error_p90[0])
        assert row["kernel"] == timing.kernel
        assert row["extrapolated"] == timing.extrapolated[0]
        assert row["target"] == "h100-sxm"
    assert rows[0]["given_latency_us"] == 50
    assert rows[1]["dtype"] == "fp16"
    assert rows[1]["q_tokens"] == 1


def test_csv_table_and_several_gpus(path, tmp_path, capsys):
    out = tmp_path / "out.csv"
    path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n")  # without all_reduce
    assert run(path, "--on", "a100-sxm", "--on", "rtx-4090", "--format", "csv", "--out", out) == 0
    frame = pd.read_csv(out)
    assert frame["target"].tolist() == ["a100-sxm"] * 6 + ["rtx-4090"] * 6
    assert (frame["latency_us"] > 0).all()
    capsys.readouterr()
    assert run(path, "--on", "a100-sxm") == 0
    assert "latency_error_p90" in capsys.readouterr().out


def test_kernels_are_chosen_by_name_or_by_the_datas_label(tmp_path, capsys):
    path = tmp_path / "o.csv"
    head = "operation,phase,batch,kv_tokens,heads,kv_heads,head_dim,kernel\n"
    row = "attention,decode,64,8192,8,1,128,"
    path.write_text(f"{head}{row}\n{row}fa2-sglang\n{row}FA2 (sglang 0.5.10)\n")
    assert run(path, "--on", "a100-sxm", "--format", "json") == 0
    default, named, labelled = json.loads(capsys.readouterr().out)
    assert default["kernel"] == "fa2-vllm"
    assert named["latency_us"] == labelled["latency_us"] != default["latency_us"]
    assert labelled["given_kernel"] == "FA2 (sglang 0.5.10)"


def test_python_reads_the_file_too(path):
    got = ps.predict(path, on="h100-sxm")
    assert "latency_us" in got.frame
    assert len(got.frame) == 7


def test_a_list_of_gemms_may_have_a_column_operation(tmp_path, capsys):
    path = tmp_path / "g.csv"
    path.write_text("operation,m,n,k\nq_proj,1,64,64\n")
    assert run(path, "--on", "h100-sxm", "--format", "json") == 0
    assert "dense_us" in json.loads(capsys.readouterr().out)[0]


A = "operation,phase,batch,q_tokens,kv_tokens,heads,kv_heads,head_dim,dtype\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (A + "attention,decode,1,1,128,32,8,128,\nattention,decode,1,1,128,32,7,128,\n", "line 3: heads = 32"),
        (A + "attention,decode,0,1,128,32,8,128,\n", "line 2: batch = 0"),
        (A + "attention,decode,1,2,128,32,8,128,\n", "line 2: q_tokens = 2"),
        (A + "attention,prefill,1,,128,32,8,128,\n", "line 2: q_tokens"),
        (A + "attention,prefill,1,256,128,32,8,128,\n", "line 2: q_tokens = 256"),
        (A + "attention,both,1,1,128,32,8,128,\n", "line 2: phase = 'both'"),
        (A + "attention,decode,1,1,128,32,8,128,fp8\n", "line 2: dtype = fp8"),
        (A + "attention,decode,1,1,1e3,32,8,128,\n", "line 2: kv_tokens = '1e3'"),
        (A + "atention,decode,1,1,1,32,8,128,\n", "did you mean 'attention'"),
        ("operation,batch\nattention,1\n", "needs the column 'kv_tokens'"),
        ("operation,m,n,k,dtype\nlinear,1,64,64,fp16\nlinear,1,64,64,fp4\n", "line 3: unknown dtype 'fp4'"),
        ("operation,m,n,k,weight_bits\nlinear,1,64,64,5\n", "line 2: weight_bits = 5"),
        ("operation,rows,cols\nrmsnorm,,64\n", "line 2: rmsnorm needs 'rows' or 'tokens'"),
        ("operation,tokens,cols\nrope,1,x\n", "line 2: cols = 'x'"),
        ("operation,tokens,hidden,expert_ffn,experts,top_k\nmoe,1,64,64,8,9\n", "line 2: top_k = 9"),
        ("operation,tokens,hidden,expert_ffn,experts,top_k,routing\nmoe,1,64,64,8,2,listed\n", "line 2: routing"),
        ("operation,gpus,message_bytes\nall_reduce,16,1\n", "line 2: gpus = 16"),
        ("operation,gpus,message_bytes,kernel\nall_reduce,8,1,mpi\n", "line 2: all_reduce has no kernel 'mpi'"),
        ("operation,gpus\n", "no rows"),
        ("operation,gpus,gpus\nall_reduce,1,2\n", "'gpus' twice"),
    ],
)
def test_bad_files_get_one_line_with_its_number(text, said, tmp_path, capsys):
    path = tmp_path / "o.csv"
    path.write_text(text)
    assert run(path, "--on", "h100-sxm") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1


def test_masked_linears_at_one_token(tmp_path, capsys):
    head = "operation,rows,cols,density,kernel"
    (path := tmp_path / "spmv.csv").write_text(
        f"{head}\nspmv,4096,11008,0.5,macko\nspmv,4096,11008,0.5,csr\nspmv,4096,11008,1,cuBLAS\n"
    )
    assert run(path, "--on", "rtx-4090", "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    gpu = load_gpu("rtx-4090")
    expected = [
        spmv(gpu, 4096, 11008, share, kernel) for share, kernel in ((0.5, "macko"), (0.5, "csr"), (1, "cublas"))
    ]
    assert [row["latency_us"] for row in rows] == pytest.approx([timing.latency_us[0] for timing in expected])
    assert [row["kernel"] for row in rows] == ["macko", "csr", "cublas"]
    for line, on, said in (
        ("spmv,4096,11008,50,macko", "rtx-4090", "line 2: density = '50'"),
        ("spmv,4096,11008,,macko", "rtx-4090", "density"),
        ("spmv,4096,11008,half,macko", "rtx-4090", "'half'"),
        ("spmv,0,11008,0.5,macko", "rtx-4090", "rows"),
        ("spmv,4096,,0.5,macko", "rtx-4090", "cols"),
        ("spmv,4096,11008,0.5,sputnik", "rtx-4090", "macko, csr, cublas"),
        ("spmv,4096,11008,0.5,macko", "h100-sxm", "measured on rtx-4090 alone"),
    ):
        path.write_text(f"{head}\n{line}\n")
        assert run(path, "--on", on) == 2
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1
