"""Settings that must be in place before matplotlib or torch is imported, and what several test files share."""

import os

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # draws without a screen
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores

import torch  # noqa: E402

from minidiff import Cosine, Flow, FromBetas, LinearBeta, Mixture, VarianceExploding, linear_betas  # noqa: E402

SCHEDULES = [LinearBeta(), Cosine(), Flow(), VarianceExploding(), FromBetas(linear_betas(1000))]


@pytest.fixture(params=SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def schedule(request):
    """Every schedule in turn."""
    return request.param


@pytest.fixture(params=["x0", "eps", "v", "velocity", "score", "edm"])
def prediction(request):
    """The name of every prediction target in turn."""
    return request.param


@pytest.fixture
def three():
    """A mixture of three Gaussians in the plane, in float64."""
    return mixture([0.2, 0.5, 0.3], [[-2.0, 0.5], [1.0, 1.0], [0.5, -1.5]], [0.3, 0.5, 0.2])


@pytest.fixture
def one_axis():
    """A mixture of two Gaussians on a line, in float64."""
    return mixture([0.4, 0.6], [[-1.0], [1.5]], [0.2, 0.4])


def mixture(weights, means, stds):
    return Mixture(*(torch.tensor(values, dtype=torch.float64) for values in (weights, means, stds)))
