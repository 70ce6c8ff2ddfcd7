"""GEMM times of dense and 2:4 layers on NVIDIA GPUs, predicted tile by tile, and published figures beside them."""

from simulator.gpu.named import load_gpu
from simulator.gpu.prediction import DTYPES, Kernel, Prediction, predict
from simulator.gpu.published import spmm_published
from simulator.gpu.spec import GPUS, GpuSpec

__all__ = ["DTYPES", "GPUS", "GpuSpec", "Kernel", "Prediction", "load_gpu", "predict", "spmm_published"]
