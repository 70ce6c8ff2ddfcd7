"""Latency of linear layers on this machine's GPU or CPU: dense, 2:4 and quantized, by PyTorch's own kernels.

Importing needs torch; a GPU only when something is measured. Files: problem.py (one GEMM, its operands), kernels.py
(what runs it), timing.py (clocks), environment.py (the card), measure.py (the loop), records.py (files),
blocks.py (whole blocks and models); cpu/ has all of it for the CPU."""
