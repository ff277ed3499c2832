"""Muon: against the singular value decomposition and against torch's own, which takes matrices only."""

import pytest
import torch
from torch import nn

from minidiff.training.muon import Muon, hidden_weights, orthogonalize


@pytest.mark.parametrize("shape", [(24, 48), (48, 24), (32, 32), (16, 144)])
def test_orthogonalize_keeps_the_directions_and_levels_the_lengths(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    U, S, Vh = torch.linalg.svd(matrices, full_matrices=False)
    out = torch.stack(orthogonalize(list(matrices)))
    along = U.mT @ out @ Vh.mT  # diagonal if the singular vectors are the same
    diagonal = along.diagonal(dim1=1, dim2=2)
    assert (along - torch.diag_embed(diagonal)).abs().max() < 1e-4
    strong = S / S.norm(dim=1, keepdim=True) > 0.02
    assert diagonal[strong].min() > 0.6 and diagonal.max() < 1.3


def test_matrices_of_all_shapes_are_orthogonalized_alone_as_in_company():
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(shape, generator=generator) for shape in [(16, 40), (24, 24), (40, 16), (24, 90), (16, 16)]]
    together = orthogonalize(matrices)
    assert [u.shape for u in together] == [m.shape for m in matrices]
    for matrix, u in zip(matrices, together, strict=True):
        torch.testing.assert_close(u, orthogonalize([matrix])[0])


def test_steps_equal_torchs_muon():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch before 2.9, which minidiff supports, has no Muon to compare with")
    torch.manual_seed(0)
    ours, theirs = nn.Linear(24, 48, bias=False), nn.Linear(24, 48, bias=False)
    theirs.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    a = Muon([ours.weight], lr=0.02, weight_decay=0.1)
    b = torch.optim.Muon([theirs.weight], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        gradient = torch.randn_like(start)
        for layer, optimizer in ((ours, a), (theirs, b)):
            layer.weight.grad = gradient.clone()
            optimizer.step()
    moved = (theirs.weight - start).norm()
    assert moved > 0.1 and (ours.weight - theirs.weight).norm() < 0.02 * moved  # torch computes in bfloat16


def test_a_convolution_is_a_matrix_in_any_memory_layout():
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 32, 3)
    last = nn.Conv2d(16, 32, 3).to(memory_format=torch.channels_last)
    last.load_state_dict(plain.state_dict())
    gradient = torch.randn_like(plain.weight)
    for layer in (plain, last):
        layer.weight.grad = gradient.clone(memory_format=torch.preserve_format)
        Muon([layer.weight], lr=0.02).step()
    torch.testing.assert_close(plain.weight, last.weight)
    matrix = nn.Parameter(last.weight.detach().flatten(1).clone())
    matrix.grad = gradient.flatten(1)
    last.weight.grad = gradient
    Muon([matrix], lr=0.02).step()
    Muon([last.weight], lr=0.02).step()
    torch.testing.assert_close(matrix, last.weight.flatten(1))


def test_a_network_too_narrow_for_muon_is_trained_by_adamw():
    from minidiff.denoiser import Denoiser
    from minidiff.nets.mlp import MLP, MLPConfig
    from minidiff.schedule import Cosine
    from minidiff.training import TrainState

    training = TrainState(Denoiser(MLP(MLPConfig(width=8)), Cosine()))
    assert [type(optimizer).__name__ for optimizer in training.optimizers] == ["AdamW"]


def test_hidden_weights():
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.Conv2d(32, 32, 3),
        nn.GroupNorm(1, 32),
        nn.Linear(32, 4),
        nn.Embedding(40, 32),
        nn.ConvTranspose2d(32, 32, 2),
        nn.Linear(16, 16),
        nn.Linear(15, 16),
    )
    assert [
        next(k for k, layer in enumerate(net) if getattr(layer, "weight", None) is w) for w in hidden_weights(net)
    ] == [
        1,
        5,
        6,
    ]


def test_weights_decay_by_a_hundredth_of_the_learning_rate():
    weight = nn.Parameter(torch.ones(16, 16))
    weight.grad = torch.zeros(16, 16)
    Muon([weight], lr=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((16, 16), 1 - 0.5 * 0.01))
