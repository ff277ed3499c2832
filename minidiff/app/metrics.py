"""Distances between generated and real pictures, and a test for copies.

A small classifier that ships with the data describes each picture by a vector (D,), its features; sets are then
compared:
    Frechet distance   |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))   of Gaussians fitted to both sets
    KID                mean of k(a, a') + k(b, b') - 2 k(a, b)       with k(u, v) = (u.v / D + 1)^3, unbiased
    precision, recall  share of one set that lies inside the neighbourhoods of the other
    nearest            distance to the closest training picture
    sliced Wasserstein mean distance of the sets' shadows on lines: of points in the plane, or of plain pixels
Which features one chooses decides what counts as near. So `report` gives the Frechet distance by a second ruler too:
an encoder that learned from the same pictures without their labels (`load_encoder`). None of these is the "FID" of a
paper: the features differ, so the numbers compare only with one another, and only at one sample size. `report`
therefore scores as many real held-out pictures beside the generated ones.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.app import checkpoint
from minidiff.data import ImageSet, checksums, shipped
from minidiff.nets.classifier import Classifier, ClassifierConfig, Encoder, EncoderConfig

SUBSETS = 10
PROJECTIONS = 256  # of pictures
E = TypeVar("E", bound=Encoder)


class Estimate(NamedTuple):
    """A value and its standard error."""

    mean: float
    standard_error: float


def _features(least: int, **sets: Tensor) -> list[Tensor]:
    """Return the sets in float64 if each is at least `least` finite vectors, all of one length."""
    for name, x in sets.items():
        if x.ndim != 2 or len(x) < least:
            raise ValueError(f"{name}: expected features (N, D) with N >= {least}, got {tuple(x.shape)}")
        if not x.isfinite().all():
            bad = int((~x.isfinite()).any(1).sum())
            raise ValueError(f"{name}: expected finite features, got {bad} of {len(x)} vectors that are not")
    if len({x.shape[1] for x in sets.values()}) > 1:
        lengths = ", ".join(f"{x.shape[1]} ({name})" for name, x in sets.items())
        raise ValueError(f"expected features of one length, got {lengths}")
    return [x.double() for x in sets.values()]


def _matrix_sqrt(cov: Tensor) -> Tensor:
    """Return the symmetric square root of a covariance (D, D)."""
    values, vectors = torch.linalg.eigh(cov)
    if values[0] < -1e-8 * values.abs().max():
        raise ValueError(f"expected a covariance, got a matrix with the eigenvalue {values[0].item():.3g}")
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T  # (D, D)


def frechet_gaussians(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Return the squared Frechet distance of two Gaussians with means (D,), covariances (D, D).

    Dowson & Landau (1982; eq. 13.3). tr (S1 S2)^(1/2) is the sum of the singular values of S1^(1/2) S2^(1/2), which
    needs symmetric roots only.
    """
    mean1, cov1, mean2, cov2 = given = [x.double() for x in (mean1, cov1, mean2, cov2)]
    d, shapes = mean1.numel(), [tuple(x.shape) for x in given]
    if shapes != [(d,), (d, d)] * 2 or not all(x.isfinite().all() for x in given):
        raise ValueError(f"expected finite means (D,) and covariances (D, D), got {shapes}")
    overlap = torch.linalg.svdvals(_matrix_sqrt(cov1) @ _matrix_sqrt(cov2)).sum()
    return max(((mean1 - mean2).square().sum() + (cov1 + cov2).trace() - 2 * overlap).item(), 0.0)


def frechet(a: Tensor, b: Tensor) -> float:
    """Return the Frechet distance of Gaussians fitted to features (N, D), (M, D), in float64 (Heusel et al. 2017).

    Biased upwards, the more the fewer the samples: compare only at equal N.
    """
    a, b = _features(2, a=a, b=b)
    # reshape: torch.cov of one feature is a number, not a matrix
    cov_a, cov_b = (torch.cov(x.T).reshape(x.shape[1], -1) for x in (a, b))  # (D, D)
    return frechet_gaussians(a.mean(0), cov_a, b.mean(0), cov_b)


def mmd2(a: Tensor, b: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy of features (N, D), (M, D), in float64; may be negative.

    Kernel (u.v / D + 1)^3 (Binkowski et al. 2018, section 4; Gretton et al. 2012, Lemma 6; eq. 13.6).
    """
    a, b = _features(2, a=a, b=b)

    def kernel(u: Tensor, v: Tensor) -> Tensor:
        return (u @ v.T / u.shape[1] + 1) ** 3  # (N, M)

    def within(u: Tensor) -> Tensor:
        k = kernel(u, u)
        return (k.sum() - k.trace()) / (len(u) * (len(u) - 1))

    return (within(a) + within(b) - 2 * kernel(a, b).mean()).item()


def kid(a: Tensor, b: Tensor, subsets: int = SUBSETS, generator: torch.Generator | None = None) -> Estimate:
    """Return the kernel distance of features (N, D), (M, D): mean of `mmd2` over random subsets, with its error.

    The subsets are disjoint, so their scatter is an honest error; overlapping ones would make it too small.
    """
    if subsets < 2:
        raise ValueError(f"expected at least 2 subsets, got {subsets}")
    a, b = _features(2 * subsets, a=a, b=b)
    parts = (x[torch.randperm(len(x), generator=generator)].tensor_split(subsets) for x in (a, b))
    values = torch.tensor([mmd2(u, v) for u, v in zip(*parts, strict=True)], dtype=torch.float64)
    return Estimate(values.mean().item(), values.std().item() / subsets**0.5)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # The faster matrix product would give copies a small distance instead of none.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")  # (N, M)


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Return (precision, recall) of features (N, D), (M, D) (Kynkaanniemi et al. 2019; eq. 13.8).

    Precision: share of fakes no farther from some real vector than its k-th neighbour; recall: the reverse.
    """
    if k < 1:
        raise ValueError(f"expected k >= 1, got {k}")
    real, fake = _features(k + 1, real=real, fake=fake)

    def radii(x: Tensor) -> Tensor:
        # k + 1, for each vector is its own neighbour at distance 0
        return torch.cat([_distances(part, x).kthvalue(k + 1).values for part in x.split(1024)])  # (N,)

    between = _distances(real, fake)  # (N, M)
    precision = (between <= radii(real)[:, None]).any(0).double().mean()
    recall = (between <= radii(fake)).any(1).double().mean()
    return precision.item(), recall.item()


def nearest(x: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Return (distance, index), each (N,): for each of x (N, ...) the closest of bank (M, ...): d1 of eq. 13.9."""
    if x.ndim < 2 or x.shape[1:] != bank.shape[1:] or not len(x) or not len(bank):
        raise ValueError(f"expected (N, ...), (M, ...) alike, got {tuple(x.shape)}, {tuple(bank.shape)}")
    x, bank = x.flatten(1), bank.flatten(1)  # (N, D), (M, D)
    found = [_distances(part, bank).min(1) for part in x.split(256)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def directions(dimensions: int, count: int) -> Tensor:
    """Return unit vectors (dimensions, count) to look from: evenly turned in the plane, random ones beyond it."""
    if dimensions == 2:
        angle = torch.arange(count, dtype=torch.float64) * torch.pi / count
        return torch.stack([angle.cos(), angle.sin()])
    drawn = torch.randn(dimensions, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return F.normalize(drawn, dim=0)


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int = 64) -> float:
    """Return the distance of point clouds (N, D), (N, D), in their own units (Bonneel et al. 2015; eq. 1.6).

    Mean over `projections` directions of the 1-D Wasserstein-1 distance, that of points of equal rank.
    """
    if a.ndim != 2 or a.shape != b.shape or not a.numel():
        raise ValueError(f"expected two clouds (N, D) of one size, got {tuple(a.shape)} and {tuple(b.shape)}")
    views = directions(a.shape[1], projections)  # (D, projections)
    return ((a.double() @ views).sort(0).values - (b.double() @ views).sort(0).values).abs().mean().item()


def label_accuracy(logits: Tensor, y: Tensor) -> float:
    """Return the share of logits (B, K) whose largest entry is the label y (B,)."""
    if logits.ndim != 2 or y.shape != logits.shape[:1]:
        raise ValueError(f"expected logits (B, K), labels (B,), got {tuple(logits.shape)}, {tuple(y.shape)}")
    return (logits.argmax(1) == y).double().mean().item()


def pixel_features(x: Tensor) -> Tensor:
    """Return pictures (B, C, H, W) as 8x8 averaged pixels (B, 64 C): for sets without a classifier."""
    if x.ndim != 4:
        raise ValueError(f"expected pictures (B, C, H, W), got {tuple(x.shape)}")
    return F.adaptive_avg_pool2d(x, 8).flatten(1)


def load_classifier(name: str) -> Classifier | None:
    """Return the classifier that ships for a data set, ready to judge; None for a set without one."""
    return _load_shipped("classifier", name, lambda config: Classifier(ClassifierConfig(**config)))


def load_encoder(name: str) -> Encoder | None:
    """Return the encoder that ships for a data set and learned without labels; None for a set without one."""
    return _load_shipped("encoder", name, lambda config: Encoder(EncoderConfig(**config)))


def _load_shipped(kind: str, name: str, build: Callable[[dict], E]) -> E | None:
    filename = f"{kind}-{name.removesuffix('-full')}.safetensors"
    if filename not in checksums():
        return None
    tensors, meta = checkpoint.load(shipped(filename))
    net = build(meta["config"])
    net.load_state_dict(tensors)  # from half precision to float32
    return net.eval().requires_grad_(False)


def _batched(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([function(part) for part in x.split(500)])


def check_enough(n: int, held_out: int) -> None:
    """Raise a ValueError if there are too few generated or held-out pictures to be compared."""
    if min(n, held_out) < 2 * SUBSETS:
        raise ValueError(
            f"expected at least {2 * SUBSETS} pictures, generated ones and real ones for testing, got {n} and "
            f"{held_out}"
        )


@torch.no_grad()
def report(
    x: Tensor,
    y: Tensor | None,
    real_train: ImageSet,
    real_test: ImageSet,
    classifier: Classifier | None,
    encoder: Encoder | None = None,
) -> dict:
    """Return the scores of pictures x (N, C, H, W), asked for as labels y (N,), and as many real held-out ones.

    At most len(real_test) of x, at random, are judged: both scores must have the same sample-size bias. With an
    `encoder` the Frechet distance is given by its features too, as "encoder_frechet".
    """
    check_enough(len(x), len(real_test))
    generator = torch.Generator().manual_seed(0)
    n = min(len(x), len(real_test))
    some = (torch.randperm(len(z), generator=generator)[:n] for z in (x, real_test, real_train))
    chosen, held_out, peers = some
    describe = pixel_features if classifier is None else classifier.features
    parts = torch.arange(len(real_train)).split(500)

    def banked(function: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.cat([function(real_train.tensor(part)) for part in parts])  # (M, D)

    bank, known = banked(describe), None if encoder is None else banked(encoder.features)
    peer_pixels = real_train.tensor(peers).flatten(1)  # (n, C H W)

    def score(pictures: Tensor, labels: Tensor | None) -> dict:
        features = _batched(describe, pictures)  # (n, D)
        kernel = kid(bank, features, generator=torch.Generator().manual_seed(0))
        precision, recall = precision_recall(bank[peers], features)  # two sets of one size
        scores = {
            "frechet": frechet(bank, features),
            "sliced_wasserstein": sliced_wasserstein(peer_pixels, pictures.flatten(1)[: len(peers)], PROJECTIONS),
            "kid": kernel.mean,
            "kid_error": kernel.standard_error,
            "precision": precision,
            "recall": recall,
            "nearest_training_distance": nearest(features, bank)[0].median().item(),
        }
        if encoder is not None and known is not None:
            scores["encoder_frechet"] = frechet(known, _batched(encoder.features, pictures))
        if classifier is not None and labels is not None:
            scores["label_accuracy"] = label_accuracy(_batched(classifier, pictures), labels)
        return scores

    kind = "8x8 averaged pixels" if classifier is None else "minidiff classifier"
    return {
        "features": f"{kind} ({bank.shape[1]} numbers)",
        "pictures": n,
        "generated": score(x[chosen], None if y is None else y[chosen]),
        "real_held_out": score(real_test.tensor(held_out), real_test.y[held_out]),
    }
