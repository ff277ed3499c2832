"""Settings that must be in place before anything imports matplotlib or torch."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")  # draws without a screen
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores
