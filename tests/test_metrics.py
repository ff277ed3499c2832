"""Metrics against closed forms, torchmetrics and sets built so that the answer is known."""

from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minidiff.app import checkpoint, metrics
from minidiff.data import Images, load, shipped
from minidiff.nets.classifier import Classifier, ClassifierConfig, Encoder, EncoderBlock, EncoderConfig

NAN = float("nan")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


class Given(nn.Module):
    """Hands torchmetrics our own features unchanged."""

    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features

    def forward(self, x):
        return x


# Frechet distance


def test_frechet_of_diagonal_gaussians_is_the_closed_form():
    mean1, mean2, std1, std2 = normal(4, 6)
    got = metrics.frechet_gaussians(mean1, std1.square().diag(), mean2, std2.square().diag())
    want = (mean1 - mean2).square().sum() + (std1.abs() - std2.abs()).square().sum()
    assert got == pytest.approx(want.item(), rel=1e-12)


def test_frechet_of_rotated_gaussians_matches_scipys_matrix_root():
    from scipy.linalg import sqrtm

    a, b = normal(2, 5, 5)
    cov1, cov2 = a @ a.T, b @ b.T
    assert (cov1 @ cov2 - cov2 @ cov1).abs().max() > 1  # they do not commute: no common axes
    mean1, mean2 = normal(2, 5, seed=1)
    root = torch.from_numpy(sqrtm((cov1 @ cov2).numpy()).real)
    want = (mean1 - mean2).square().sum() + (cov1 + cov2 - 2 * root).trace()
    assert metrics.frechet_gaussians(mean1, cov1, mean2, cov2) == pytest.approx(want.item(), rel=1e-9)


def test_frechet_of_gaussians_does_not_depend_on_the_axes():
    turn = torch.linalg.qr(normal(4, 4)).Q
    zero, (std1, std2) = torch.zeros(4, dtype=torch.float64), normal(2, 4).abs()
    cov1, cov2 = (turn @ std.square().diag() @ turn.T for std in (std1, std2))
    want = (std1 - std2).square().sum().item()
    assert metrics.frechet_gaussians(zero, cov1, zero, cov2) == pytest.approx(want, rel=1e-10)


def test_frechet_of_a_set_with_itself_is_zero_even_when_its_covariance_is_singular():
    for n in (500, 20):
        assert metrics.frechet(x := 100 * normal(n, 64), x) < 1e-7 * 64e4
        assert metrics.frechet(x, x + 1) == pytest.approx(64, rel=1e-6)


def test_frechet_of_single_features():
    a, b = normal(100, 1), 3 * normal(80, 1, seed=1) + 2
    want = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert metrics.frechet(a, b) == pytest.approx(want.item(), rel=1e-10)


def test_frechet_agrees_with_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    a, b = normal(400, 24) @ normal(24, 24, seed=1), normal(300, 24, seed=2) + 0.3
    theirs = FrechetInceptionDistance(feature=Given(24))
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    assert metrics.frechet(a, b) == pytest.approx(theirs.compute().item(), rel=1e-8)


def test_frechet_is_biased_upwards_and_less_so_with_more_samples():
    def excess(n):
        return sum(metrics.frechet(normal(n, 16, seed=s), normal(n, 16, seed=s + 100)) for s in range(5)) / 5

    small, middle, large = excess(50), excess(200), excess(800)
    assert small > 2 * middle > 4 * large > 0
    assert middle / large == pytest.approx(4, rel=0.25)  # the bias falls as 1 / N


def test_frechet_bias_is_its_leading_order():
    """c (1/N + 1/M) for two samples of one Gaussian (eq. 13.7)."""
    var = torch.linspace(0.2, 2, 12, dtype=torch.float64).square()
    c = 1.25 * var.sum() + (var[:, None] * var / (var[:, None] + var)).sum() / 2
    pairs = [normal(1400, 12, seed=s) * var.sqrt() for s in range(150)]
    got = sum(metrics.frechet(x[:400], x[400:]) for x in pairs) / 150
    assert got == pytest.approx((c * (1 / 400 + 1 / 1000)).item(), rel=0.06)


def test_frechet_is_blind_to_skewness_and_mmd2_is_not():
    lopsided = -torch.rand(3000, 4, generator=rng(), dtype=torch.float64).log() - 1  # mean 0, variance 1
    a, b = lopsided[:1500], -lopsided[1500:]
    assert metrics.frechet(a, b) < 0.1 and metrics.mmd2(a, b) > 0.5


# Kernel distance


def test_mmd2_is_its_definition():
    a, b = normal(7, 3), normal(5, 3, seed=1)

    def k(u, v):
        return float((u @ v / 3 + 1) ** 3)

    aa = sum(k(a[i], a[j]) for i in range(7) for j in range(7) if i != j) / 42
    bb = sum(k(b[i], b[j]) for i in range(5) for j in range(5) if i != j) / 20
    ab = sum(k(u, v) for u in a for v in b) / 35
    assert metrics.mmd2(a, b) == pytest.approx(aa + bb - 2 * ab, rel=1e-10)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
def test_mmd2_agrees_with_torchmetrics():
    from torchmetrics.image.kid import KernelInceptionDistance

    a, b = normal(200, 24), 1.2 * normal(200, 24, seed=1) + 0.3
    theirs = KernelInceptionDistance(feature=Given(24), subsets=1, subset_size=200)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    assert metrics.mmd2(a, b) == pytest.approx(theirs.compute()[0].item(), rel=1e-6)


def test_kid_is_unbiased_and_its_error_is_honest():
    trials = [metrics.kid(normal(60, 8, seed=s), normal(90, 8, seed=s + 1000), 6, rng()) for s in range(400)]
    means = torch.tensor([t.mean for t in trials])
    errors = torch.tensor([t.standard_error for t in trials])
    scatter = means.std()
    assert means.mean().abs() < 3 * scatter / 20
    assert (means < 0).float().mean() > 0.25
    assert errors.square().mean().sqrt() == pytest.approx(scatter.item(), rel=0.15)


def test_kid_sees_a_difference_and_repeats_with_its_generator():
    a, b = normal(500, 8), normal(500, 8, seed=1) + 0.5
    kid = metrics.kid(a, b, generator=rng(3))
    assert kid.mean > 5 * kid.standard_error > 0
    assert kid == metrics.kid(a, b, generator=rng(3)) != metrics.kid(a, b, generator=rng(4))


def test_kid_mixes_sets_that_are_sorted_by_class():
    centres = 5 * normal(10, 8)
    a, b = (centres.repeat_interleave(50, 0) + normal(500, 8, seed=s) for s in (1, 2))
    b = b[torch.arange(500).roll(250)]  # the same classes, stored in another order
    kid = metrics.kid(a, b, generator=rng())
    apart = metrics.mmd2(a[:50], b[:50])  # what two unmixed parts would say
    assert abs(kid.mean) < 4 * kid.standard_error < apart / 4


# Precision and recall


def test_a_lost_mode_costs_recall_and_junk_costs_precision():
    real = torch.cat([normal(300, 2), normal(300, 2, seed=1) + 20])
    same = torch.cat([normal(300, 2, seed=2), normal(300, 2, seed=3) + 20])
    precision, recall = metrics.precision_recall(real, same)
    assert precision > 0.9 and recall > 0.9
    precision, recall = metrics.precision_recall(real, normal(600, 2, seed=4))
    assert precision > 0.9 and 0.4 < recall < 0.5
    precision, recall = metrics.precision_recall(real, torch.cat([same, normal(200, 2, seed=5) - 50]))
    assert precision == pytest.approx(0.75, abs=0.05) and recall > 0.9


def test_precision_recall_by_hand():
    real, fake = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[1.5], [4.9], [9.0], [5.2]])
    # k = 1: real radii 1, 1, 2 cover [-1, 5]; fake radii 3.4, .3, 3.8, .3 cover [-1.9, 4.9] and [4.6, 12.8]
    assert metrics.precision_recall(real, fake, k=1) == (0.5, 1.0)
    # k = 2: real radii 3, 2, 3 cover [-3, 6]
    assert metrics.precision_recall(real, fake, k=2) == (0.75, 1.0)
    assert metrics.precision_recall(fake, real, k=1) == (1.0, 0.5)


# Nearest training picture


def test_nearest_is_brute_force_and_copies_are_at_distance_zero():
    x, bank = normal(300, 3, 4, 4).float(), normal(50, 3, 4, 4, seed=1).float()
    x, bank = x + 9, bank + 9  # far from the origin, where |a|^2 - 2 a.b + |b|^2 would cancel badly
    x[250:] = bank.flip(0)
    distance, index = metrics.nearest(x, bank)
    every = (x[:, None] - bank[None]).square().sum((2, 3, 4)).sqrt()
    assert torch.equal(index, every.argmin(1))
    torch.testing.assert_close(distance, every.amin(1))
    assert (distance[250:] == 0).all() and index[250] == 49


# Features


def test_pixel_features_are_averages():
    x = normal(2, 3, 32, 16)
    got = metrics.pixel_features(x).reshape(2, 3, 8, 8)
    assert got[1, 2, 3, 5] == pytest.approx(x[1, 2, 12:16, 10:12].mean().item())
    assert torch.equal(metrics.pixel_features(x[:, :, :8, :8]), x[:, :, :8, :8].flatten(1))


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 32), (1, 28), (3, 9), (2, 65)])
def test_classifier_takes_any_channels_and_size(channels, size):
    torch.manual_seed(0)
    net = Classifier(ClassifierConfig(channels, size, num_classes=7, width=8, features=12))
    for name, weight in net.named_parameters():
        if "conv2" in name:
            torch.nn.init.normal_(weight, std=0.1)  # it starts at zero and would stop all gradients behind it
    x = normal(3, channels, size, size).float()
    assert net(x).shape == (3, 7) and net.features(x).shape == (3, 12)
    net(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_classifier_scores_a_picture_alone_as_in_a_batch_and_in_either_mode():
    torch.manual_seed(0)
    net, x = Classifier(ClassifierConfig(width=8)), normal(5, 1, 32, 32).float()
    together = net.features(x)
    torch.testing.assert_close(net.eval().features(x[2:3]), together[2:3])
    assert not list(net.buffers())


def test_block_starts_as_the_identity():
    x = normal(2, 8, 4, 4).float()
    assert torch.equal(EncoderBlock(8)(x), x)


def test_classifier_names_what_it_expected():
    net = Classifier(ClassifierConfig(width=8))
    with pytest.raises(ValueError, match=r"expected pictures \(B, 1, 32, 32\), got \(2, 3, 32, 32\)"):
        net(torch.zeros(2, 3, 32, 32))
    with pytest.raises(ValueError, match="expected size an integer from 8 to 8192, got 7"):
        ClassifierConfig(size=7)
    assert ClassifierConfig(**asdict(net.config)) == net.config


def test_label_accuracy():
    logits = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    assert metrics.label_accuracy(logits, torch.tensor([1, 0, 0, 1])) == 0.5
    with pytest.raises(ValueError, match="labels"):
        metrics.label_accuracy(logits, torch.tensor([1]))


# What ships


@pytest.mark.parametrize(("name", "least"), [("fashion", 0.915), ("digits", 0.97), ("emoji", 0.6)])
def test_shipped_classifiers_are_as_good_as_they_say(name, least):
    from minidiff.data import load, shipped

    path, test = shipped(f"classifier-{name}.safetensors"), load(name, "test")
    tensors, meta = checkpoint.load(path)
    net = metrics.load_classifier(name)
    logits = torch.cat([net(part) for part in test.tensor().split(500)])
    accuracy = metrics.label_accuracy(logits, test.y)
    features = torch.cat([net.features(part) for part in load(name).tensor(slice(0, None, 7)).split(500)])
    assert features.square().mean() == pytest.approx(1, abs=0.1)
    assert accuracy > least and accuracy == pytest.approx(meta["test_accuracy"], abs=2e-3)
    assert meta["classes"] == list(test.classes) and {t.dtype for t in tensors.values()} == {torch.float16}
    assert path.stat().st_size < 0.7e6


@pytest.mark.parametrize("name", ["fashion", "digits", "emoji"])
def test_shipped_encoders_know_labels_they_never_saw_and_see_blur_and_noise(name):
    """Five nearest training pictures vote on the label; pictures that are worse are farther away."""
    train, test, net = load(name), load(name, "test"), metrics.load_encoder(name)
    known = torch.cat([net.features(part) for part in train.tensor().split(500)])
    pictures = test.tensor()
    features = net.features(pictures)
    votes = train.y[_nearest(features, known)].mode(1).values
    _, meta = checkpoint.load(shipped(f"encoder-{name}.safetensors"))
    assert (votes == test.y).double().mean() == pytest.approx(meta["neighbours_accuracy"], abs=5e-3)
    assert meta["neighbours_accuracy"] > 2 * test.y.bincount().max() / len(test.y)
    assert known.square().mean() == pytest.approx(1, abs=0.1)
    floor = metrics.frechet(known, features)
    blurred = F.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
    noisy = pictures + 0.4 * torch.randn(pictures.shape, generator=rng())
    assert metrics.frechet(known, net.features(blurred)) > floor
    for worse in (noisy, pictures[test.y < len(test.classes) // 2]):
        assert metrics.frechet(known, net.features(worse)) > 3 * floor


def _nearest(features, known):
    return torch.cdist(features, known).topk(5, largest=False).indices  # (N, 5)


def test_a_set_without_a_classifier_has_none():
    assert metrics.load_classifier("scenes") is None is metrics.load_encoder("scenes")


# The report


@pytest.fixture(scope="module")
def digits():
    from minidiff.data import load

    return load("digits", "train"), load("digits", "test")


def test_report_scores_real_pictures_as_real_and_junk_as_junk(digits):
    train, test = digits
    half = torch.arange(len(train.x)) % 2 == 0
    n = len(test.x)
    x = train.tensor(half.nonzero()[:, 0])[:n]
    result = metrics.report(x, None, train, test, None)
    assert result["features"] == "8x8 averaged pixels (64 numbers)" and result["pictures"] == n
    generated, real = result["generated"], result["real_held_out"]
    assert generated["nearest_training_distance"] == 0 < real["nearest_training_distance"]  # copies are seen
    assert generated["precision"] > 0.8 and abs(generated["kid"]) < 5 * generated["kid_error"]
    junk = metrics.report(torch.rand(x.shape, generator=rng()) * 2 - 1, None, train, test, None)
    assert junk["real_held_out"] == real  # the floor does not depend on what is judged
    bad = junk["generated"]
    assert bad["frechet"] > 5 * real["frechet"] and bad["kid"] > 10 * bad["kid_error"]
    assert bad["precision"] < 0.1


def test_report_tells_lost_modes_from_junk(digits):
    train, test = digits
    zeros = metrics.report(train.tensor(train.y == 0), None, train, test, None)["generated"]
    assert zeros["precision"] > 0.8 and zeros["recall"] < 0.4


def test_report_compares_equal_numbers_and_keeps_labels_with_their_pictures(digits):
    train, test = digits
    torch.manual_seed(0)
    net = Classifier(ClassifierConfig(size=8, width=8))
    x = train.tensor()
    own = net(x).argmax(1).detach()  # labels this network agrees with, picture by picture
    result = metrics.report(x, own, train, test, net)
    assert result["pictures"] == len(test.x) < len(x)
    assert result["generated"]["label_accuracy"] == 1
    assert result["real_held_out"]["label_accuracy"] == metrics.label_accuracy(net(test.tensor()), test.y)
    assert "FID" not in str(result)


def test_report_has_a_second_ruler(digits):
    """An encoder that sees the left half only cannot tell pictures that differ on the right; pixels can."""
    train, test = digits

    class LeftHalf(Encoder):
        def features(self, x):
            return x[..., :4].flatten(1)

    encoder = LeftHalf(EncoderConfig(size=8, width=8))
    x = train.tensor()[: len(test.x)]
    spoilt = x.clone()
    spoilt[..., 4:] = -1
    honest, bad = (metrics.report(each, None, train, test, None, encoder)["generated"] for each in (x, spoilt))
    assert bad["encoder_frechet"] == honest["encoder_frechet"] and bad["frechet"] > 10 * honest["frechet"]
    assert bad["sliced_wasserstein"] > 3 * honest["sliced_wasserstein"]
    assert "encoder_frechet" not in metrics.report(x, None, train, test, None)["generated"]


def test_report_compares_with_a_small_training_set_too(digits):
    train, test = digits
    few = Images("few", train.x[:30], train.y[:30], train.classes, ())
    scores = metrics.report(train.tensor()[:100], None, few, test, None)
    assert scores["generated"]["sliced_wasserstein"] > 0 and scores["real_held_out"]["sliced_wasserstein"] > 0


# Errors


@pytest.mark.parametrize("call", [metrics.frechet, metrics.mmd2, metrics.precision_recall, metrics.kid])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(1, 3), torch.zeros(40, 3), r"N >= \d+, got \(1, 3\)"),
        (torch.zeros(40, 3), torch.zeros(40), r"features \(N, D\).*got \(40,\)"),
        (torch.zeros(40, 3), torch.full((40, 3), NAN), "finite features, got 40 of 40"),
        (torch.zeros(40, 3), torch.zeros(40, 4), r"one length, got 3 \(\w+\), 4"),
    ],
)
def test_unusable_features_are_refused(call, a, b, message):
    with pytest.raises(ValueError, match=message):
        call(a, b)


def test_unusable_arguments_are_refused(digits):
    eye, zero = torch.eye(2), torch.zeros(2)
    with pytest.raises(ValueError, match="eigenvalue -1"):
        metrics.frechet_gaussians(zero, eye, zero, torch.diag(torch.tensor([1.0, -1.0])))
    with pytest.raises(ValueError, match=r"covariances \(D, D\), got \[\(2,\), \(2, 2\), \(2,\), \(2,\)\]"):
        metrics.frechet_gaussians(zero, eye, zero, zero)
    with pytest.raises(ValueError, match="expected finite means"):
        metrics.frechet_gaussians(zero * NAN, eye, zero, eye)
    with pytest.raises(ValueError, match="2 subsets"):
        metrics.kid(normal(40, 2), normal(40, 2), subsets=1)
    with pytest.raises(ValueError, match=r"N >= 20"):
        metrics.kid(normal(19, 2), normal(40, 2))
    with pytest.raises(ValueError, match="k >= 1"):
        metrics.precision_recall(normal(40, 2), normal(40, 2), k=0)
    with pytest.raises(ValueError, match="alike"):
        metrics.nearest(normal(4, 2), normal(4, 3))
    with pytest.raises(ValueError, match="at least 20 pictures, .* got 19"):
        metrics.report(torch.zeros(19, 1, 8, 8), None, *digits, None)
    with pytest.raises(ValueError, match="expected pictures"):
        metrics.pixel_features(normal(4, 3))


# Clouds


def test_sliced_wasserstein_of_a_shift_is_its_length_seen_from_all_sides():
    """A shift by d is |d cos(angle)| from a side, and the mean of |cos| is 2 / pi."""
    cloud = normal(500, 2)
    for d in ([3.0, 0.0], [0.0, -3.0]):
        assert metrics.sliced_wasserstein(cloud, cloud + torch.tensor(d)) == pytest.approx(6 / torch.pi, rel=1e-3)
    assert metrics.sliced_wasserstein(cloud, cloud[torch.randperm(500, generator=rng())]) == 0


def test_sliced_wasserstein_of_round_gaussians_is_the_difference_of_their_widths():
    """Quantiles of N(0, s^2) are s z, so from every side the distance is |s1 - s2| E|z|."""
    a, b = normal(40_000, 2), 1.5 * normal(40_000, 2, seed=1)
    assert metrics.sliced_wasserstein(a, b) == pytest.approx(0.5 * (2 / torch.pi) ** 0.5, rel=0.03)


def test_sliced_wasserstein_is_the_mean_of_scipys_distances():
    from scipy import stats  # scikit-learn brings it

    a, b = normal(300, 2), normal(300, 2, seed=1) ** 2
    angles = torch.arange(8) * torch.pi / 8
    sides = [torch.stack([t.cos(), t.sin()]).double() for t in angles]
    want = sum(stats.wasserstein_distance(a @ side, b @ side) for side in sides) / 8
    assert metrics.sliced_wasserstein(a, b, projections=8) == pytest.approx(want, rel=1e-6)


def test_sliced_wasserstein_refuses_clouds_of_other_shapes():
    with pytest.raises(ValueError, match=r"two clouds \(N, D\) of one size, got \(5, 2\) and \(6, 2\)"):
        metrics.sliced_wasserstein(torch.zeros(5, 2), torch.zeros(6, 2))
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        metrics.sliced_wasserstein(torch.zeros(5), torch.zeros(5))


def test_sliced_wasserstein_of_many_numbers_looks_from_random_sides():
    """A shift of length d is |d cos(angle)| from a side; in D dimensions the mean of |cos| is near sqrt(2 / (pi D))."""
    cloud, shift = normal(50, 400), torch.zeros(400)
    shift[7] = 3.0
    want = 3 * (2 / (torch.pi * 400)) ** 0.5
    assert metrics.sliced_wasserstein(cloud, cloud + shift, 2000) == pytest.approx(want, rel=0.05)
    a, b = normal(40_000, 3), 1.5 * normal(40_000, 3, seed=1)
    assert metrics.sliced_wasserstein(a, b) == pytest.approx(0.5 * (2 / torch.pi) ** 0.5, rel=0.03)
    sides = metrics.directions(400, 64)
    assert torch.equal(sides, metrics.directions(400, 64)) and torch.allclose(
        sides.norm(dim=0), torch.ones(64).double()
    )


# What the report must not confuse


def test_kids_error_is_that_of_a_mean_of_few():
    a, b = normal(60, 4), normal(60, 4, seed=1)
    got = metrics.kid(a, b, subsets=3, generator=rng())
    order = rng()
    parts = [x[torch.randperm(60, generator=order)].tensor_split(3) for x in (a, b)]
    values = [metrics.mmd2(u, v) for u, v in zip(*parts, strict=True)]
    mean = sum(values) / 3
    assert got.mean == pytest.approx(mean)
    assert got.standard_error == pytest.approx((sum((v - mean) ** 2 for v in values) / 2) ** 0.5 / 3**0.5)


def test_the_full_set_has_the_classifier_of_its_part():
    full, part = (metrics.load_classifier(name) for name in ("fashion-full", "fashion"))
    assert full is not None and part is not None
    assert all(torch.equal(a, b) for a, b in zip(full.parameters(), part.parameters(), strict=True))


def test_the_report_judges_pictures_at_random_and_not_the_first(digits):
    train, test = digits
    n = len(test.x)
    junk = torch.rand((n, *train.shape), generator=rng()) * 2 - 1
    result = metrics.report(torch.cat([train.tensor(slice(0, n)), junk]), None, train, test, None)
    assert 0.3 < result["generated"]["precision"] < 0.7


def test_the_nearest_training_picture_is_that_of_the_median(digits):
    train, test = digits
    n = len(test.x)
    for copies, seen in (0.6, True), (0.4, False):
        x = train.tensor(slice(0, n))
        x[int(copies * n) :] = torch.rand(x[int(copies * n) :].shape, generator=rng()) * 2 - 1
        distance = metrics.report(x, None, train, test, None)["generated"]["nearest_training_distance"]
        assert (distance == 0) == seen
