"""What a command's compiled loops load: no scipy, and matrix products in them all the same."""

import subprocess
import sys

SCRIPT = """
import sys
from studies.cli.numba_start import without_blas_note
without_blas_note()
import numpy as np
from numba import njit

@njit
def twice(x):
    return 2 * x

@njit
def product(a, b):
    return a @ b

@njit
def correlated(a, b):
    return np.correlate(a, b)

assert twice(3) == 6
assert "scipy.linalg" not in sys.modules
a = np.arange(6.0).reshape(2, 3)
assert np.array_equal(product(a, a.T.copy()), a @ a.T)
assert np.array_equal(correlated(a[0], a[1]), np.correlate(a[0], a[1]))
import scipy.linalg
print(scipy.linalg.det(np.eye(2)))
"""


def test_numba_loads_scipy_where_a_product_is_compiled_and_not_before():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 1.0
