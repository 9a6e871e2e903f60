"""Vallis against the tools that a user would pick instead, run side by side in one process: see docs/benchmarks.md."""

import os

# One thread for everybody: before anything that reads these is imported.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
