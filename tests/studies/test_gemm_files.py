"""GEMM lists as people have them: headers in capitals, commas at the end, SCALE-Sim's topologies."""

import pytest

from studies.gemm_files import read_gemms
from workloads.errors import UserError


def gemms(tmp_path, text: str) -> list[tuple[int, int, int]]:
    path = tmp_path / "gemms.csv"
    path.write_text(text)
    frame = read_gemms(path)
    return [tuple(row) for row in frame[["m", "n", "k"]].itertuples(index=False)]


@pytest.mark.parametrize(
    "text",
    [
        "m,n,k\n1,2,3\n4,5,6\n", "M,N,K\n1,2,3\n4,5,6\n", "M, N, K\n1, 2, 3\n4, 5, 6\n",
        "\ufeffM ,N ,K \n1 ,2 ,3 \n4 ,5 ,6 \n",
        "K,M,N\n3,1,2\n6,4,5\n", "Layer,M,N,K,\nL0,1,2,3,\nL1,4,5,6,\n\n",
        "Layer Name, M, N, K, Sparsity,\na, 1, 2, 3, 1:2,\nb, 4, 5, 6, 2:4,\n",
        "m;n;k\n1;2;3\n4;5;6\n", "m\tn\tk\n1\t2\t3\n4\t5\t6\n", '"M","N","K"\n"1","2","3"\n"4","5","6"\n',
        "Layer,M,N,K,\r\nL0,1,2,3,\r\n\r\nL1,4,5,6\r\n", "\nm,n,k\n1,2,3\n4.0,5.,6\n",
    ],
)  # fmt: skip
def test_headers_and_ends_of_lines(tmp_path, text):
    assert gemms(tmp_path, text) == [(1, 2, 3), (4, 5, 6)]


def test_other_columns_stay(tmp_path):
    path = tmp_path / "g.csv"
    path.write_text("Layer,M,N,K,us,\nq,1,2,3,4.5,\nk,4,5,6,,\n")
    frame = read_gemms(path)
    assert list(frame.columns) == ["Layer", "m", "n", "k", "us"]
    assert frame["us"][0] == 4.5
    assert frame["us"].isna().tolist() == [False, True]


HEAD = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"


def test_convolutions_are_lowered_as_scale_sim_does(tmp_path):
    """AlexNet's first layer has 55 x 55 outputs and 11 * 11 * 3 inputs a filter; ResNet-50's last stage, 1 x 1, 7 x 7
    outputs."""
    text = HEAD + "Conv1 ,224 ,224 ,11 ,11 ,3 ,96 ,4 ,\nConv2 ,27 ,27 ,5 ,5 ,96 ,256 ,1 ,\n\nlast,7,7,1,1,512,2048,1\n"
    assert gemms(tmp_path, text) == [(55 * 55, 96, 363), (23 * 23, 256, 2400), (49, 2048, 512)]


def test_two_strides_and_other_spellings(tmp_path):
    """(9 - 3) / 2 + 1 = 4 rows, (8 - 2) / 3 + 1 = 3 columns."""
    for heads in ("Stride height,Stride width", "Strides_H,Strides_W"):
        text = (
            f"Layer name,IFMAP_height,IFMAP_width,Filter_height,Filter_width,Channels,Num_filters,"
            f"{heads},\na,9,8,3,2,5,7,2,3,\n"
        )
        assert gemms(tmp_path, text) == [(4 * 3, 7, 3 * 2 * 5)]


def test_depth_wise_layers_are_a_gemm_a_channel(tmp_path):
    path = tmp_path / "g.csv"
    path.write_text(HEAD + "DP1,14,14,3,3,512,1,1,\nnext,14,14,1,1,512,64,1,#1x1\n")
    frame = read_gemms(path)
    assert frame[["m", "n", "k", "copies"]].to_numpy().tolist() == [[144, 1, 9, 512], [196, 64, 512, 1]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"), ("\n\n", "it is empty"), ("a,b\n1,2\n", "lacks the column 'm'"),
        ("M,N\n1,2\n", "lacks the column 'k'"),
        ("m,M,n,k\n1,1,2,3\n", "twice"), ("m,n,k\n", "no rows"), ("m,n,k\n1,2\n", "line 2: 2 fields, the header has 3"),
        ("m,n,k\n1,2,3,4\n", "line 2: 4 fields"), ("m,n,k\n\n1,x,3\n", "line 3: n = 'x'"),
        ("m,n,k\n1,1e3,3\n", "n = '1e3'"),
        ("m,n,k\n1," + "9" * 5000 + ",3\n", "(5,000 characters)"),
        ("m,n,k\n1,16777217,3\n", "sizes go from 1 to 16777216"),
        ('m,n,k\n1,"2,3\n', "not a CSV file"), (HEAD, "no rows"),
        (HEAD.replace(" Strides,", "") + "a,9,9,3,3,1,1\n", "lacks the column 'Strides'"),
        (HEAD + "a,9,9,11,3,1,1,1,\n", "line 2: a filter of height 11 does not fit an input of 9"),
        (HEAD + "a,9,9,3,3,1,1,0,\n", "line 2: Strides = 0"), (HEAD + "a,9,9,3,3,x,1,1,\n", "line 2: Channels = 'x'"),
        (HEAD + "a,16000000,16000000,3,3,1,1,1,\n", "as a GEMM its m is"), ("m,n,k\n1,2,3\x00\n", "k = '3"),
    ],
)  # fmt: skip
def test_what_is_no_list_gets_one_line(tmp_path, text, said):
    with pytest.raises(UserError) as caught:
        gemms(tmp_path, text)
    assert said in str(caught.value)
    assert "gemms.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "g.csv").write_bytes(b"m,n,k\n\xff\xfe1,2,3\n")
    with pytest.raises(UserError, match="cannot read GEMMs"):
        read_gemms(tmp_path / "g.csv")
