# %% [markdown]
# # 13 · Evaluation
#
# **Is it any good, and how would one know?** A loss says how well a network guesses; nobody hangs a loss on the wall.
# Chapters 07 to 12 judged pictures by numbers that were promised an explanation: label accuracy, the Fréchet
# distance, precision and recall, the distance to the nearest training picture. Here is the explanation: where each
# number comes from, what it sees, what it is blind to, and how one fools oneself with it.
#
# **You will build** the Fréchet distance and the kernel distance from nothing, with their errors; precision, recall,
# density and coverage; a test for copies, and a model that *fails* it, trained live on 100 pictures; and at the end a
# report that you can trust, because you have seen it go wrong.
#
# **You need** chapters 04 and 07, and of 09 what guidance is. The notebook takes about two and a half minutes, of
# which nearly two are training, and 1.3 GB of memory.

# %%
import torch

from minidiff.app.metrics import load_classifier
from minidiff.course import plot
from minidiff.data import load, shipped

clothes, unseen = load("fashion"), load("fashion", "test")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## 1. Pixels mislead, and so does likelihood
#
# The first idea: two pictures are alike if their pixels are. Take a shirt, and do four things to it: move it by one
# pixel; blur it; dim it; or cut a square out of it.
#
# *Predict: order the four by squared error. Then order them by how much you would mind.*

# %%
def harm(x):
    """Four altered copies of pictures (B, 1, 32, 32), by name."""
    hole = x.clone()
    hole[:, :, 16:28, 8:20] = -1  # black
    blurred = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return {"moved": x.roll(1, 3), "blurred": blurred, "dimmed": (x + 1) * 0.8 - 1, "hole": hole}


# %%
some = unseen.tensor(slice(0, 200))
picked = [int(torch.nonzero(unseen.y == k)[i]) for k, i in ((6, 3), (0, 3), (2, 1), (8, 2), (9, 0), (3, 2))]
rows = {name: x[picked] for name, x in {"as it is": some, **harm(some)}.items()}

# %%
alt = "Five rows of six garments: as they are; moved by one pixel, hardly seen; blurred; dimmed; with a hole."
plot.strips(rows, alt)

# %%
squared = {name: float((x - some).square().mean()) for name, x in harm(some).items()}
assert squared["hole"] > squared["moved"] > 2 * squared["blurred"] > 2 * squared["dimmed"]
print({name: f"{error:.3f}" for name, error in squared.items()})

# %% [markdown]
# (Means over 200 pictures.) Moving, which nobody would notice, costs three times as much as blurring, which everybody
# would, and more than half as much as a hole. It gets worse: for how many of the 200 is there a *different* garment
# among the 10,000 training pictures that is nearer, in pixels, than the garment's own copy, moved by one pixel?

# %%
from minidiff.app.metrics import nearest

own = (some - some.roll(1, 3)).flatten(1).norm(dim=1)  # distance to the moved copy
closer = (nearest(some, clothes.tensor())[0] < own).double().mean()
assert closer > 0.7
print(f"another garment is nearer in {closer:.0%} of all cases")

# %% [markdown]
# **Likelihood** is the grown-up form of comparing pixels. Chapter 04 measured it in bits per pixel, and it has a
# great merit: it is a *proper* score, lowest on average for the true distribution alone, and it catches a model that
# only remembers. But it says next to nothing about samples, and samples say next to nothing about it. Theis et al.
# (2016) have an argument of one line. Let $p$ be an excellent model, and $q$ static. The mixture that
# gives static in 99 of 100 draws has
#
# $$ -\log\big(0.01\,p(x) + 0.99\,q(x)\big) \;\le\; -\log\big(0.01\,p(x)\big) = -\log p(x) + \ln 100 . \tag{13.1} $$
#
# However rubbish its samples, it loses at most 4.6 nats *for a whole picture*. The check needs a $p$ with a known
# density: the mixture oracle of chapter 03, with 200 garments as the means of its components. (Excellent it is not;
# but (13.1) holds for any $p$.)

# %%
from minidiff import Cosine, Mixture

means, fresh = clothes.tensor(slice(0, 200)).flatten(1).double(), unseen.tensor(slice(0, 20)).flatten(1).double()


def cloud(std):
    """A Gaussian of that width around each of the 200 garments."""
    return Mixture(torch.full((200,), 1 / 200, dtype=torch.float64), means, torch.full((200,), std).double())


def bits(log_prob):
    """From log density to bits a pixel, for grey levels 2 / 255 apart."""
    return float(-log_prob.mean() / 1024 / torch.tensor(2.0).log() + torch.tensor(127.5).log2())


# %%
log_p = cloud(0.25).log_prob(fresh, 0.0, Cosine())  # (20,), nats
log_q = -1024 * torch.tensor(2.0).double().log()  # even on [-1, 1] for each pixel
log_share, log_rest = torch.tensor([0.01, 0.99], dtype=torch.float64).log()
log_mixed = torch.logaddexp(log_p + log_share, log_q + log_rest)

# %%
lost, most = log_p - log_mixed, torch.tensor(100.0, dtype=torch.float64).log()
better = log_p > log_q + 20  # pictures that p explains far better than static
assert (lost <= most + 1e-9).all() and better.sum() > 5
assert torch.allclose(lost[better], most.expand(int(better.sum())), atol=1e-6)
assert bits(log_mixed) - bits(log_p) < 0.0065 and bits(log_p) < bits(log_q)
print(f"p {bits(log_p):.3f} bits a pixel, 99 % static {bits(log_mixed):.3f}")

# %%
is_static = torch.rand(10, 1, generator=seeded(0)) < 0.99
static = 2 * torch.rand(10, 1024, generator=seeded(1)) - 1
good = cloud(0.25).sample(10, seeded(2)).float()

# %%
pair = {"p": good, "99 % static": torch.where(is_static, static, good)}
plot.strips({name: x.view(10, 1, 32, 32) for name, x in pair.items()}, "Above, ten grainy garments; below, static.")

# %% [markdown]
# Above $p$, below the mixture: all static, for less than a hundredth of a bit a pixel. And the other way round: the
# same oracle, with its Gaussians made very narrow. *Predict: what do its samples look like now, and what does an
# unseen picture cost?*

# %%
cost = {std: bits(cloud(std).log_prob(fresh, 0.0, Cosine())) for std in (0.02, 0.05, 0.1, 0.25, 0.5)}

# %%
narrow = cloud(0.02).sample(10, seeded(2)).float().view(10, 1, 32, 32)
alt = "Ten crisp photographs of garments above, the ten grainy ones again below."
plot.strips({"width 0.02": narrow, "width 0.25": good.view(10, 1, 32, 32)}, alt)

# %%
assert cost[0.02] > 100 > 10 > cost[0.25] and cost[0.25] == min(cost.values())
print({f"width {std}": f"{b:.3g} bits" for std, b in cost.items()})

# %% [markdown]
# Perfect pictures, and a likelihood far worse than that of static (8 bits): every sample is a training picture, and
# any other is thought impossible. So a good likelihood guarantees no good samples, and good samples no likelihood.
# Measure what you want to know. Here it is *pictures*.
#
# ## 2. A judge: features
#
# What should count is what is *in* a picture. Somebody must see that, so a network is trained to: the course ships
# three small classifiers. A judge has to be examined first:

# %%
from minidiff.app.metrics import label_accuracy

judges = {name: load_classifier(name) for name in ("fashion", "digits", "emoji")}
judge = judges["fashion"]

# %%
for name, least in {"fashion": 0.92, "digits": 0.97, "emoji": 0.62}.items():
    test = load(name, "test")
    logits = torch.cat([judges[name](part) for part in test.tensor().split(500)])
    accuracy = label_accuracy(logits, test.y)
    assert accuracy > least
    print(f"{name}: {accuracy:.0%} of {len(test):,} unseen pictures read right")

# %% [markdown]
# Clothes and digits are in good hands. The emoji's judge is wrong in one case of three, for its eight categories
# ("Objects" against "Activities") are hard even for people. Treat its verdicts with care.
#
# What is compared is not the verdict but the *reasons*: the 64 numbers just before the last layer. The verdict is a
# plain weighted sum of their positive parts.

# %%
def features(x):
    """The judge's 64 numbers for each picture: (B, 64)."""
    return torch.cat([judge.features(part) for part in x.split(500)])


F_train, F_test = features(clothes.tensor()), features(unseen.tensor())  # (10000, 64), (2000, 64)

# %%
assert torch.allclose(judge(some), judge.head(F_test[:200].relu()), atol=1e-4)

# %%
far = {name: float((features(x) - F_test[:200]).square().mean()) for name, x in harm(some).items()}
assert far["hole"] > 3.5 * far["moved"] and far["moved"] < 1.3 * far["blurred"]
print({name: f"{distance:.3f}" for name, distance in far.items()})

# %% [markdown]
# The same four, in features: moving now counts hardly more than blurring, and the hole more than four times as much.
#
# Nearest neighbours tell the same story. A hundred unseen garments, moved by three pixels: what does the nearest of
# the 10,000 training pictures show, if one looks for it in pixels, and if in features?

# %%
asked, labels = unseen.tensor(slice(0, 100)).roll(3, 3), unseen.y[:100]
in_pixels = nearest(asked, clothes.tensor())[1]
in_features = nearest(features(asked), F_train)[1]

# %%
found = {"pixels": in_pixels, "features": in_features}
same = {name: (clothes.y[i] == labels).double().mean() for name, i in found.items()}
assert same["features"] > same["pixels"] + 0.05
print({name: f"{share:.0%} of the same kind" for name, share in same.items()})

# %%
wrong = torch.nonzero((clothes.y[in_pixels] != labels) & (clothes.y[in_features] == labels))[:9, 0]
rows = {"moved": asked[wrong]} | {name: clothes.tensor(i[wrong]) for name, i in found.items()}
alt = "Nine moved garments; nearest in pixels are other kinds of garment at the same place, in features the same kind."
plot.strips(rows, alt)

# %% [markdown]
# Pixels look for what lies at the same *place*, features for what is the same *thing*. (These nine were picked: cases
# where pixels err and features do not. No judge is perfect: this one was trained on garments at most a pixel off the
# middle.)
#
# ### A first measure, and how it fails
#
# With a judge at hand one may ask: is it *sure* what each picture shows, and does it see all kinds? With $p(y \mid
# x)$ the judge's probabilities, $p(y)$ their mean over all pictures and $D_\mathrm{KL}$ the divergence of chapter 04,
# the *classifier score* is $\exp E\, D_\mathrm{KL}\big(p(y \mid x) \,\|\, p(y)\big)$. With the Inception network as
# the judge it is the *Inception score* (Salimans et al. 2016). It lies between 1 and the number of classes.
#
# *Predict: real clothes score about 8. Can a set of only ten different pictures score more?*

# %%
def classifier_score(x):
    log_p = judge(x).log_softmax(1)
    log_mean = log_p.exp().mean(0).log()
    return float((log_p.exp() * (log_p - log_mean)).sum(1).mean().exp())


# %%
five_hundred = unseen.tensor(slice(0, 500))
sure = judge(five_hundred).softmax(1)
ten = five_hundred[sure.argmax(0)]  # of each class the picture that the judge is surest of

# %%
scores = classifier_score(five_hundred), classifier_score(ten.repeat(50, 1, 1, 1))
assert scores[1] > 9.9 > 9 > scores[0] > 7
print(f"500 real pictures {scores[0]:.1f}; ten pictures, fifty times each {scores[1]:.1f}")

# %% [markdown]
# The score never looks at real pictures, so it cannot miss what is missing. (Barratt & Sharma 2018 list more of its
# troubles.) *A set must be compared with a set.*
#
# **A word about the name.** All of what follows is done in papers with the features of Inception-v3, a network with
# 2,048 of them, trained on ImageNet's photographs of 299 by 299 pixels; the Fréchet distance with *those* weights,
# that resizing and 50,000 samples is called FID. Ours has 64 features, was trained on clothes, and judges a few
# hundred pictures. The formula is the same, the number is not, and not even its size can be compared. So it is not
# called FID here: it is **the Fréchet distance on our features.**
#
# ## 3. The Fréchet distance
#
# Two sets of pictures are two clouds of points in 64 dimensions. How far apart are the clouds? Imagine one as a heap
# of sand that has to be shovelled into the shape of the other. Each grain is carried from $x$ to some $y$, at a cost
# of $|x - y|^2$; the squared distance is the mean cost of the cheapest plan.
#
# On a line the cheapest plan is plain: keep the order. (If two paths cross, uncrossing them is cheaper, for
# $(x_1-y_2)^2 + (x_2-y_1)^2 - (x_1-y_1)^2 - (x_2-y_2)^2 = 2(x_2-x_1)(y_2-y_1)$.) So the grain with a share $u$ of all
# others to its left goes where the same share is to its left: quantile to quantile. For Gaussians with means $m_1,
# m_2$ and standard deviations $s_1, s_2$ the quantiles are $m_i + s_i z$ with the same standard normal $z$, and
#
# $$ d^2 = E\big[(m_1 + s_1 z - m_2 - s_2 z)^2\big] = (m_1 - m_2)^2 + (s_1 - s_2)^2 . \tag{13.2} $$

# %%
n = 100_000
x, y = 1 + 0.5 * torch.randn(n, generator=seeded(3)), -1 + 2 * torch.randn(n, generator=seeded(4))

# %%
in_order, as_they_come = (x.sort().values - y.sort().values).square().mean(), (x - y).square().mean()
formula = (1 + 1) ** 2 + (0.5 - 2) ** 2
assert abs(in_order / formula - 1) < 0.03 and as_they_come > 1.2 * formula
print(f"in order {in_order:.2f}, (13.2) {formula:.2f}, in any order {as_they_come:.2f}")

# %% [markdown]
# That "in order" is the cheapest of *all* plans can be tried, with six grains and all 720 plans:

# %%
from itertools import permutations

six_x, six_y = x[:6], y[:6]
plans = torch.tensor(list(permutations(range(6))))  # (720, 6)
costs = (six_x - six_y[plans]).square().mean(1)
assert torch.isclose(costs.min(), (six_x.sort().values - six_y.sort().values).square().mean())

# %% [markdown]
# Now in $D$ dimensions, with covariances $S_1, S_2$. A plan is a joint distribution of $x$ and $y$. Whatever it is,
# with $C = \mathrm{Cov}(x, y)$ its mean cost is $|m_1 - m_2|^2 + \mathrm{tr}(S_1 + S_2 - 2C)$, so we want
# $\mathrm{tr}\,C$ as large as possible. Not every $C$ is allowed: $x$ and $y$ together must have a covariance, and
# that means $C = S_1^{1/2} K S_2^{1/2}$ with a matrix $K$ that makes no vector longer (no correlation above 1). But
# this is the problem that chapter 07 solved for Muon (7.6): the largest $\mathrm{tr}(K\, S_2^{1/2} S_1^{1/2})$ over
# all such $K$ is the sum of the singular values of $S_2^{1/2} S_1^{1/2}$. And these are the roots of the eigenvalues
# of $S_1^{1/2} S_2\, S_1^{1/2}$. So (Dowson & Landau 1982)
#
# $$ d^2 = |m_1 - m_2|^2
# \ +\ \mathrm{tr}\Big(S_1 + S_2 - 2\,\big(S_1^{1/2} S_2\, S_1^{1/2}\big)^{1/2}\Big) . \tag{13.3} $$
#
# With roots by eigenvalues, no special function is needed:

# %%
def square_root(S):
    """The symmetric square root of a covariance."""
    values, vectors = torch.linalg.eigh(S)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


def squared_distance(m1, S1, m2, S2):
    overlap = square_root(square_root(S1) @ S2 @ square_root(S1))
    return ((m1 - m2) ** 2).sum() + torch.trace(S1 + S2 - 2 * overlap)


# %%
D = 5
B1, B2 = torch.randn(2, D, D, generator=seeded(5), dtype=torch.float64)
m1, m2 = torch.randn(2, D, generator=seeded(6), dtype=torch.float64)
S1, S2 = B1 @ B1.T, B2 @ B2.T
assert torch.allclose(square_root(S1) @ square_root(S1), S1) and (S1 @ S2 - S2 @ S1).abs().max() > 1  # no commuting

# %% [markdown]
# Is it the *least*? Ten thousand plans at random, half of them anywhere and half near the best $K$ of (7.6), each
# with the largest singular value 1: none is cheaper.

# %%
U, _, Vt = torch.linalg.svd(square_root(S2) @ square_root(S1))
K = torch.randn(10_000, D, D, generator=seeded(7), dtype=torch.float64)
K[5000:] = (U @ Vt).T + 0.1 * K[5000:]
K = K / torch.linalg.matrix_norm(K, 2)[:, None, None]

# %%
C = square_root(S1) @ K @ square_root(S2)  # (10000, D, D)
plans = ((m1 - m2) ** 2).sum() + torch.trace(S1 + S2) - 2 * C.diagonal(dim1=1, dim2=2).sum(1)
least = squared_distance(m1, S1, m2, S2)
assert least < plans.min() < 1.1 * least
print(f"(13.3) {least:.2f}; ten thousand random plans, the cheapest {plans.min():.2f}")

# %% [markdown]
# And is it *reached*? The plan that reaches it is a map: stretch the first cloud along the right axes,
#
# $$ y = m_2 + A\,(x - m_1), \qquad A = S_1^{-1/2}\big(S_1^{1/2} S_2\, S_1^{1/2}\big)^{1/2} S_1^{-1/2} . \tag{13.4} $$
#
# $A$ is symmetric and $A S_1 A = S_2$, so $y$ has the right covariance; and $\mathrm{tr}\,\mathrm{Cov}(x, y) =
# \mathrm{tr}(S_1 A)$ is the overlap in (13.3). Draw a cloud, carry each point, and look at what it cost:

# %%
def carrier(S1, S2):
    back = torch.linalg.inv(square_root(S1))
    return back @ square_root(square_root(S1) @ S2 @ square_root(S1)) @ back


# %%
A = carrier(S1, S2)
overlap = torch.trace(square_root(square_root(S1) @ S2 @ square_root(S1)))
assert torch.allclose(A @ S1 @ A, S2) and torch.isclose(torch.trace(S1 @ A), overlap)

# %%
x = m1 + torch.randn(200_000, D, generator=seeded(8), dtype=torch.float64) @ square_root(S1)
y = m2 + (x - m1) @ A
assert torch.allclose(torch.cov(y.T), S2, atol=0.03 * float(S2.abs().max()))
carried = (x - y).square().sum(1).mean()
assert abs(carried / least - 1) < 0.02
print(f"carried by (13.4) {carried:.2f}, formula {least:.2f}")

# %%
two_S1, two_S2 = torch.tensor([[0.6, 0.5], [0.5, 0.6]]).double(), torch.tensor([[1.5, -0.6], [-0.6, 0.5]]).double()
dots = torch.randn(150, 2, generator=seeded(9), dtype=torch.float64) @ square_root(two_S1) - 2
moved = dots @ carrier(two_S1, two_S2) + torch.tensor([5.0, 2.0])

# %%
alt = "A slanting cloud at the lower left, another at the upper right; straight lines join each dot to its place."
picture, (ax,) = plot.figure(alt, width=5.4, height=3.6)
ax.plot(*torch.stack([dots, moved]).unbind(2), color="0.8", linewidth=0.6)
ax.scatter(*dots.T, s=8, zorder=3)
ax.scatter(*moved.T, s=8, zorder=3, color=plot.COLOURS[1])
ax.set(aspect="equal")
picture

# %% [markdown]
# Every grain and its place. If both matrices share their axes, no turning is left, and (13.3) is (13.2) along each
# axis. That, and the package:

# %%
from minidiff.app.metrics import frechet, frechet_gaussians

turn = torch.linalg.qr(B1).Q
s1, s2 = B1[0].abs(), B2[0].abs()
along = ((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum()  # (13.2), axis by axis
turned = [turn @ torch.diag(s**2) @ turn.T for s in (s1, s2)]
assert torch.isclose(squared_distance(m1, turned[0], m2, turned[1]), along)

# %%
assert abs(frechet_gaussians(m1, S1, m2, S2) - least) < 1e-9

# %%
plot.show_source(frechet_gaussians)

# %% [markdown]
# (It sums the singular values themselves, which is the same.) For pictures: describe each by its features, fit a
# Gaussian to either set, and take (13.3). That is `frechet`, and with Inception's features it would be the FID of
# Heusel et al. (2017). Features are no Gaussians. But the proof used means and covariances only: whatever the clouds,
# no plan is cheaper than (13.3). *The Fréchet distance is a lower bound of the shovelling* (Gelbrich 1990), and blind
# to everything beyond the second moments.
#
# Does another library agree? `torchmetrics` accepts features of one's own.

# %%
class Given(torch.nn.Module):
    """Features that are there already, as torchmetrics wants them."""

    num_features = 64

    def forward(self, x):
        return x


# %%
a, b = F_test[:500].double(), F_train[:700].double()
ours = squared_distance(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
assert abs(frechet(a, b) / ours - 1) < 1e-6
print(f"ours {ours:.3f}")

# %%
try:
    from torchmetrics.image.fid import FrechetInceptionDistance
except ImportError:
    print("torchmetrics is not installed: this comparison is left out")
else:
    theirs = FrechetInceptionDistance(feature=Given())
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    assert abs(theirs.compute() / ours - 1) < 1e-4
    print(f"torchmetrics {theirs.compute():.3f}")

# %% [markdown]
# Now pictures. Three models: the histograms of chapter 04, which know how often each grey level occurs at each place
# and nothing else; the shipped network as it was trained ($w = 1$); and guided ($w = 2$). A hundred pictures each,
# against 10,000 training pictures. And the bits per pixel of (4.13), for unseen photographs.
#
# *Predict: does the order by bits agree with the order by distance?*

# %% tags=["slow"]
from minidiff.app.checkpoint import load_denoiser
from minidiff.app.generate import cycle_labels, generate

denoiser, about = load_denoiser(shipped("fashion.safetensors"))
wanted, numbers = cycle_labels(200, 10), {1.0: 100, 2.0: 200, 4.0: 100}
drawn = {w: generate(denoiser, wanted[:n], (1, 32, 32), guidance=w, seed=1) for w, n in numbers.items()}

# %%
grey = clothes.x.flatten(1).long()  # (10000, 1024), 0 to 255
counts = torch.zeros(1024, 256).scatter_add_(1, grey.T, torch.ones(1, 1).expand(1024, len(grey))) + 0.1
chances = counts / counts.sum(1, keepdim=True)
grains = torch.multinomial(chances, 100, replacement=True, generator=seeded(10)).T  # (100, 1024)
grains = grains.reshape(100, 1, 32, 32) / 127.5 - 1
del grey, counts  # large

# %%
from functools import partial

from minidiff import bits_per_dim, times, vlb

held, held_labels = unseen.tensor(slice(0, 20)), unseen.y[:20]
levels = (held.flatten(1) * 127.5 + 127.5).round().long()  # (20, 1024)
by_histogram = -chances.log2().gather(1, levels.T).mean()

# %%
with torch.no_grad():
    nats = vlb(partial(denoiser, cond=held_labels), held, times(50), denoiser.schedule, seeded(11), bins=256)
by_network = bits_per_dim(nats.double(), 1024).mean()

# %%
sets = {"histograms": grains, "w = 1": drawn[1.0], "w = 2": drawn[2.0][:100], "real": unseen.tensor(slice(0, 100))}
distance = {name: frechet(features(x), F_train) for name, x in sets.items()}

# %% tags=["nbval-ignore-output"]
code = {"histograms": f"{by_histogram:.2f}", "w = 1": f"{by_network:.2f}"}
for name, d in distance.items():
    print(f"{name:10} {code.get(name, 'none'):>5} bits a pixel, distance {d:6.3g}")

# %%
assert by_histogram < by_network - 0.05 and distance["histograms"] > 10 * distance["w = 1"]

# %%
alt = "Ten clouds of grain from the histograms above; below ten garments drawn by the network."
plot.strips({"histograms": grains[:10], "w = 1": drawn[1.0][:10]}, alt)

# %% [markdown]
# They disagree completely. The model of grain has the better code, and its pictures are more than ten times as far
# away; those of the network are, at 100 pictures, hardly farther than photographs. $w = 2$ is not in the contest: a
# guided denoiser is the denoiser of no distribution that anybody can write down (chapter 09). The bound could be
# worked out for its steps too, as for any denoiser, but guidance is not there to shorten a code. In training it was
# the same: chapter 05's three weightings of one loss differed in bits one way and in pictures the other.
#
# What *are* bits per pixel good for? They see every grey level, they need no judge, they find the model that merely
# remembers, and they are what compression wants. Report them, and do not sell them as quality.
#
# ## 4. The kernel distance
#
# Means and covariances are not everything. Another way to compare two distributions $P$ and $Q$: how *alike* are two
# points on average, within each and across? With a kernel $k(u, v)$, a measure of likeness, the squared *maximum mean
# discrepancy* is (Gretton et al. 2012)
#
# $$ \mathrm{MMD}^2 = E\,k(a, a') + E\,k(b, b') - 2\,E\,k(a, b), \qquad a, a' \sim P;\; b, b' \sim Q . \tag{13.5} $$
#
# (All points independent.) If $k(u, v) = \langle\phi(u), \phi(v)\rangle$ for some list of functions $\phi$, this is
# $|E\,\phi(a) - E\,\phi(b)|^2$: never negative, and zero if and only if all those means agree. Bińkowski et al.
# (2018) take $k(u, v) = (\langle u, v\rangle / D + 1)^3$ with Inception's features and call it KID. Multiply out: its
# $\phi$ holds all products of up to three features. *It compares all moments up to the third*, where the Fréchet
# distance stops at the second.
#
# For two samples $a_1..a_N$ and $b_1..b_M$, which mean of pairs estimates (13.5)? A pair $(a_i, a_i)$ is not a pair
# of *independent* points. Leave it out, and each sum is a mean of terms with the right expectation:
#
# $$ \widehat{\mathrm{MMD}}{}^2 = \frac{1}{N(N-1)} \sum_{i \ne j} k(a_i, a_j) + \frac{1}{M(M-1)} \sum_{i \ne j}
# k(b_i, b_j) - \frac{2}{NM} \sum_{i, j} k(a_i, b_j) . \tag{13.6} $$
#
# So it is unbiased, at any $N$. The price: it may come out negative, which only means "nothing found". By its
# definition, in three slow loops:

# %%
def k(u, v):
    return float((u @ v / len(u) + 1) ** 3)


def slow_mmd2(a, b):
    aa = [k(u, v) for i, u in enumerate(a) for j, v in enumerate(a) if i != j]
    bb = [k(u, v) for i, u in enumerate(b) for j, v in enumerate(b) if i != j]
    ab = [k(u, v) for u in a for v in b]
    return sum(aa) / len(aa) + sum(bb) / len(bb) - 2 * sum(ab) / len(ab)


# %%
from minidiff.app.metrics import mmd2

a, b = F_test[:40].double(), F_train[:30].double()
assert abs(slow_mmd2(a, b) - mmd2(a, b)) < 1e-9
plot.show_source(mmd2)

# %% [markdown]
# Is the claim about moments true? For exact expectations take two distributions of three equally likely points each,
# so that every pair can be summed. Then the binomial formula says
# $\mathrm{MMD}^2 = \sum_{j=1}^{3} \binom{3}{j} D^{-j}\, \big|E\,a^{\otimes j} - E\,b^{\otimes j}\big|^2$, where
# $a^{\otimes j}$ is the table of all products of $j$ coordinates.

# %%
a, b = torch.randn(2, 3, 2, generator=seeded(12), dtype=torch.float64)  # three points in the plane each


def expected(u, v):
    return ((u @ v.T / 2 + 1) ** 3).mean()  # all pairs, also with itself: these *are* the distributions


moments = [(x.mean(0), torch.einsum("ni,nj->ij", x, x) / 3, torch.einsum("ni,nj,nk->ijk", x, x, x) / 3) for x in (a, b)]
by_moments = sum(c / 2**j * (p - q).square().sum() for c, j, p, q in zip((3, 3, 1), (1, 2, 3), *moments, strict=True))
assert torch.isclose(expected(a, a) + expected(b, b) - 2 * expected(a, b), by_moments)

# %% [markdown]
# *Third* moments matter if a cloud is lopsided. A cloud and its mirror image have the same mean (zero) and the same
# covariance. *Predict: which of the two distances sees a difference?*

# %%
lopsided = -torch.rand(4000, 4, generator=seeded(13), dtype=torch.float64).log() - 1  # mean 0, variance 1, skewed
first, second, third = lopsided[:1500], lopsided[1500:3000], -lopsided[1500:3000]
assert frechet(first, third) < 0.1 and mmd2(first, third) > 0.5 > 10 * abs(mmd2(first, second))

# %%
print(f"Frechet: fresh draw {frechet(first, second):.3f}, mirrored {frechet(first, third):.3f}")
print(f"MMD^2:   fresh draw {mmd2(first, second):.3f}, mirrored {mmd2(first, third):.3f}")

# %% [markdown]
# The Fréchet distance is blind to it.
#
# **Unbiased** is a claim about averages. Two samples of 20 points from *one* distribution, the standard normal in 8
# dimensions, two thousand times over (for the slower Fréchet distance three hundred are enough):

# %%
pairs = torch.randn(2000, 2, 20, 8, generator=seeded(14), dtype=torch.float64)
kernel_values = torch.tensor([mmd2(a, b) for a, b in pairs])
frechet_values = torch.tensor([frechet(a, b) for a, b in pairs[:300]])

# %%
error = kernel_values.std() / 2000**0.5
assert abs(kernel_values.mean()) < 4 * error and (kernel_values < 0).double().mean() > 0.4
assert frechet_values.min() > 0.5 and error < 0.01
print(f"mean MMD^2 {kernel_values.mean():.3f} give or take {error:.3f}; mean Frechet {frechet_values.mean():.2f}")

# %%
alt = "Left, MMD squared: a hump around 0. Right, the Fréchet distance: a hump between 1 and 5, nothing near 0."
picture, axes = plot.figure(alt, 2, width=8, height=2.6)
panels = ((kernel_values, "MMD$^2$"), (frechet_values, "Fréchet distance"))
for ax, (values, name), colour in zip(axes, panels, plot.COLOURS, strict=False):
    ax.hist(values, 40, color=colour)
    ax.axvline(0, color="black", linewidth=1)
    ax.set(xlabel=name, yticks=[], title="20 points against 20, same distribution")
picture

# %% [markdown]
# On the left the truth, zero, is in the middle; on the right it is not even within reach. That is the subject of the
# next section. First, `kid`: the mean of (13.6) over ten disjoint parts of the sets, and from their scatter a
# standard error. And torchmetrics again, on two sets of real pictures:

# %%
from minidiff.app.metrics import kid

estimate = kid(F_test, F_train, generator=seeded(15))
assert abs(estimate.mean) < 4 * estimate.standard_error
print(f"kid of unseen and training photographs: {estimate.mean:.4f} give or take {estimate.standard_error:.4f}")

# %%
import warnings

try:
    from torchmetrics.image.kid import KernelInceptionDistance
except ImportError:
    print("torchmetrics is not installed: this comparison is left out")
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the memory that it needs
        theirs = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=500)
    theirs.update(F_test[:500].double(), real=True)
    theirs.update(F_train[:500].double(), real=False)
    assert abs(theirs.compute()[0] - mmd2(F_test[:500], F_train[:500])) < 1e-5

# %% [markdown]
# ## 5. How many pictures?
#
# *Predict: the Fréchet distance of 50 **real** photographs from the training pictures, and that of 200 pictures which
# the network has drawn. Which is smaller?*

# %%
def subsets(features, size, repeats):
    """Random subsets (size, 64), without repetition within one."""
    return [features[torch.randperm(len(features), generator=seeded(16 + r))[:size]] for r in range(repeats)]


# %%
F_drawn = features(drawn[2.0])  # (200, 64)
few_real = torch.tensor([frechet(s, F_train) for s in subsets(F_test, 50, 10)])
many_drawn = frechet(F_drawn, F_train)
assert few_real.min() > many_drawn + 0.5

# %% tags=["nbval-ignore-output"]
print(f"50 real photographs {few_real.mean():.1f} (from {few_real.min():.1f}), 200 drawn pictures {many_drawn:.1f}")

# %% [markdown]
# By this number the network's clothes are more real than reality. Nothing is wrong with the code. A Gaussian fitted
# to a few points is off by chance, in each mean and in each covariance, and (13.3) *adds up* squares: chance never
# cancels, it only adds. How much, can be calculated.
#
# **The bias.** Let $\hat m, \hat S$ be fitted to $N$ points of a Gaussian $\mathcal N(m, S)$, and measure the
# distance to the truth. The mean contributes $E|\hat m - m|^2 = \mathrm{tr}(S)/N$. For the covariance, take the axes
# along which $S$ is diagonal, with variances $\lambda_i$, and let $\Delta = \hat S - S$ be small. The map (13.4) from
# one to the other is nearly the identity, $A = I + H$, and $A S A = S + \Delta$ says $HS + SH \approx \Delta$, that
# is $H_{ij} = \Delta_{ij}/(\lambda_i + \lambda_j)$. The cost of the map is $\mathrm{tr}(HSH) = \sum_{ij} H_{ij}^2
# \lambda_j = \frac12 \sum_{ij} \Delta_{ij}^2 / (\lambda_i + \lambda_j)$, and for Gaussians $E[\Delta_{ij}^2] \approx
# \lambda_i \lambda_j (1 + \delta_{ij}) / N$. Together, with the same for the other set of $M$ points,
#
# $$ E\,\hat d^2 - d^2 \approx c\,\Big(\frac1N + \frac1M\Big), \qquad
# c = \tfrac54 \sum_i \lambda_i + \tfrac12 \sum_{i,j} \frac{\lambda_i \lambda_j}{\lambda_i + \lambda_j} \tag{13.7} $$
#
# (For two sets from the *same* Gaussian, where $d = 0$; $\delta_{ij}$ is 1 for $i = j$, else 0.) The second sum has
# $D^2$ terms. That is why many features need many pictures. On Gaussians, 300 times:

# %%
def bias_constant(S):
    v = torch.linalg.eigvalsh(S).clamp(min=1e-12)
    return float(1.25 * v.sum() + (v[:, None] * v / (v[:, None] + v)).sum() / 2)


# %%
stds = torch.linspace(0.2, 2, 12, dtype=torch.float64)
points = torch.randn(300, 1400, 12, generator=seeded(16), dtype=torch.float64) * stds
measured = sum(frechet(pair[:400], pair[400:]) for pair in points) / 300
theory = bias_constant(torch.diag(stds**2)) * (1 / 400 + 1 / 1000)
assert abs(measured / theory - 1) < 0.04
print(f"measured {measured:.4f}, (13.7) {theory:.4f}")

# %% [markdown]
# And photographs: subsets of the test pictures against the 10,000, at six sizes. If (13.7) is right, the distance
# falls like $1/N$, and the kernel distance does not move.

# %%
sizes = [50, 100, 200, 400, 800, 1600]
trials = {N: subsets(F_test, N, 10) for N in sizes}

# %%
by_frechet = torch.tensor([[frechet(s, F_train) for s in trials[N]] for N in sizes])  # (6, 10)
peers = F_train[torch.randperm(10_000, generator=seeded(17))[:1000]]
by_kernel = torch.tensor([[mmd2(s, peers) for s in trials[N]] for N in sizes])
theory = bias_constant(torch.cov(F_train.double().T)) * (1 / torch.tensor(sizes) + 1e-4)

# %%
alt = "Left, on logarithmic axes, the Fréchet distance falls from 5 to 0.1, nearly straight. Right, MMD stays at 0."
picture, (left, right) = plot.figure(alt, 2, width=9, height=3.2)
for ax, values, name in ((left, by_frechet, "Fréchet distance"), (right, by_kernel, "MMD$^2$")):
    ax.plot(sizes, values, ".", color="0.65", markersize=4)
    ax.plot(sizes, values.mean(1), "o-", label="mean of ten subsets")
    ax.set(xscale="log", xlabel="N real photographs", title=name)
left.plot(sizes, theory, "--", color=plot.COLOURS[3], label="(13.7)")
left.set(yscale="log")
left.legend()
picture

# %%
curve = by_frechet.mean(1)
slope = float((curve[4] / curve[0]).log() / torch.tensor(800 / 50).log())
assert -1.2 < slope < -0.9 and curve[0] > 10 * curve[4] and (curve / theory - 1).abs()[:5].max() < 0.4
assert all(abs(v.mean()) < 0.02 for v in by_kernel)
print(f"falls like N^{slope:.2f}; the kernel distance stays within {by_kernel.mean(1).abs().max():.3f} of 0")

# %% [markdown]
# Photographs against photographs, and any distance from 5 down to 0.1. Features are not Gaussian, yet (13.7) has the
# right size. (The last dots lie below it. Subsets of 1,600 out of 2,000 are nearly the same pictures: that is the
# luck of these 2,000, and it shows how small it is.) What to do about it:
#
# 1. **Never compare at different $N$.** The rule of the literature is 50,000 samples, for this reason.
# 2. **Measure real pictures too**, as many. `report` does so.
# 3. Since the bias is $c/N$ plus a constant, fit a straight line in $1/N$ and read off its value at $1/N = 0$ (Chong
#    & Forsyth 2020, who call it $\mathrm{FID}_\infty$). They also point out that $c$ belongs to the *model*, through
#    its covariance: even at equal $N$ two models are not quite on a level.

# %%
def at_infinity(features, sizes, repeats=10):
    """Intercept of a straight line through (1 / N, mean distance)."""
    means = [sum(frechet(s, F_train) for s in subsets(features, N, repeats)) / repeats for N in sizes]
    X = torch.stack([torch.ones(len(sizes)), 1 / torch.tensor(sizes)], 1).double()
    return float(torch.linalg.lstsq(X, torch.tensor(means).double()[:, None]).solution[0])


# %%
ends = {"real": at_infinity(F_test[:200], (70, 100, 140, 200)), "drawn": at_infinity(F_drawn, (70, 100, 140, 200))}
at_200 = {"real": frechet(F_test[:200], F_train), "drawn": many_drawn}
assert abs(ends["real"]) < 0.5 < ends["drawn"] < at_200["drawn"] - 0.4

# %% tags=["nbval-ignore-output"]
print({name: f"{at_200[name]:.1f} with 200, {ends[name]:.1f} at infinity" for name in ends})

# %% [markdown]
# At infinity photographs come out at zero, nearly, as they must; the network does not. That is the honest distance,
# known to a few tenths.
#
# ## 6. Precision and recall
#
# One number cannot say *what* is wrong. A model may draw fine pictures, but only of some kinds; or every kind, badly.
# The Fréchet distance rises in both cases. Kynkäänniemi et al. (2019) ask two questions instead. *Precision*: how
# many of the drawn pictures lie where real ones lie? *Recall*: how many of the real ones lie where drawn ones lie?
# "Where real ones lie" is the union of balls around the real points $x_i$, each reaching to the $k$-th nearest other
# real point, at the distance $r_k(x_i)$:
#
# $$ \text{precision} = \frac1M \sum_{j=1}^M \Big[\,|y_j - x_i| \le r_k(x_i) \text{ for some } i\,\Big], \qquad
# \text{recall: the same with } x \text{ and } y \text{ exchanged.} \tag{13.8} $$
#
# (The bracket is 1 if it is true, else 0; $y_1..y_M$ are the drawn ones.) As it stands, with loops, in the plane:

# %%
def share_inside(centres, points, k):
    """Share of the points that lie in a ball around some centre."""
    inside = 0
    for point in points:
        for centre in centres:
            radius = (centres - centre).norm(dim=1).sort().values[k]  # place 0 is the centre itself
            if (point - centre).norm() <= radius:
                inside += 1
                break
    return inside / len(points)


# %%
from minidiff.app.metrics import precision_recall

posts = torch.tensor([[-2.0, -2], [-2, 2], [2, -2], [2, 2]])


def four_heaps(n, seed, heaps=4, width=0.4):
    which = torch.arange(n) % heaps
    return posts[which] + width * torch.randn(n, 2, generator=seeded(seed))


# %%
real, fakes = four_heaps(60, 18), {"a fresh draw": four_heaps(60, 19), "two heaps lost": four_heaps(60, 20, heaps=2)}
fakes["too much noise"] = four_heaps(60, 21, width=1.3)
for fake in fakes.values():
    mine = share_inside(real, fake, 3), share_inside(fake, real, 3)
    assert torch.allclose(torch.tensor(mine), torch.tensor(precision_recall(real, fake)))

# %%
from matplotlib.patches import Circle


def balls(ax, centres, points, k=3):
    """Draws the balls around the centres, and the points, those outside as crosses."""
    distances = torch.cdist(centres, centres).sort(1).values[:, k]
    for centre, radius in zip(centres, distances, strict=True):
        ax.add_artist(Circle(centre.tolist(), float(radius), color=plot.COLOURS[5], alpha=0.15, linewidth=0))
    outside = (torch.cdist(points, centres) > distances).all(1)
    ax.scatter(*points[~outside].T, s=9, color=plot.COLOURS[0])
    ax.scatter(*points[outside].T, s=22, marker="x", color=plot.COLOURS[3])
    ax.set(xlim=(-4.5, 4.5), ylim=(-4.5, 4.5), aspect="equal", xticks=[], yticks=[])


# %%
alt = "Balls in four heaps. Lost heaps: few crosses above, half the points crossed below. Noise: many crosses above."
picture = plot.Picture(alt, 8, 5.6)
axes = picture.subplots(2, 3)
for (name, fake), column in zip(fakes.items(), axes.T, strict=True):
    precision, recall = precision_recall(real, fake)
    balls(column[0], real, fake)
    balls(column[1], fake, real)
    column[0].set(title=f"{name}\nprecision {precision:.2f}")
    column[1].set(title=f"recall {recall:.2f}")
axes[0, 0].set_ylabel("drawn among the real")
axes[1, 0].set_ylabel("real among the drawn")
picture

# %% [markdown]
# Above, the balls of the real points and the drawn ones as dots, or as crosses where no ball reaches them: precision.
# Below, the other way round: recall. Two lost heaps cost no precision, and half of the recall. Noise costs precision;
# and recall hardly, for wide clouds have wide balls. With more points:

# %%
real = four_heaps(800, 22)
found = {"a fresh draw": precision_recall(real, four_heaps(800, 23))}
found["two heaps lost"] = precision_recall(real, four_heaps(800, 24, heaps=2))
found["too much noise"] = precision_recall(real, four_heaps(800, 25, width=1.3))

# %%
assert min(found["a fresh draw"]) > 0.9 and found["two heaps lost"][0] > 0.85
assert 0.4 < found["two heaps lost"][1] < 0.52
assert found["too much noise"][0] < 0.6 and found["too much noise"][1] > 0.9
print({name: f"precision {p:.2f}, recall {r:.2f}" for name, (p, r) in found.items()})

# %% [markdown]
# And chapter 09's price list in three lines, from 100 pictures each, against as many photographs:

# %%
recalls = [precision_recall(F_test[:100], features(x[:100]))[1] for x in drawn.values()]
assert recalls[0] > recalls[1] > recalls[2] + 0.1

# %% tags=["nbval-ignore-output"]
for w, x in drawn.items():
    precision, recall = precision_recall(F_test[:100], features(x[:100]))
    reads = label_accuracy(judge(x[:100]), wanted[:100])
    print(f"w = {w:.0f}: precision {precision:.2f}, recall {recall:.2f}, read as asked {reads:.0%}")

# %% [markdown]
# **Where it fails.** *Predict: to the 800 real points comes an outlier, 30 units away. What does it do to the
# precision of complete junk, scattered over the empty space between?*

# %%
outlier = torch.cat([real, torch.tensor([[30.0, 0.0]])])
junk = torch.tensor([8.0, 0.0]) + torch.rand(500, 2, generator=seeded(26)) * torch.tensor([16.0, 4.0])
before, after = precision_recall(real, junk)[0], precision_recall(outlier, junk)[0]
assert before == 0 and after > 0.95
print(f"precision of junk: {before:.2f} without, {after:.2f} with the outlier")

# %% [markdown]
# The outlier's third neighbour is in the heaps, so its ball covers everything in between. Two changes by Naeem et al.
# (2020) help. *Density* asks not whether a drawn picture is in some ball but in how many, compared with $k$;
# *coverage* asks not for the balls of the drawn ones (who are often outliers) but how many of the *real* balls have a
# drawn one in them:
#
# $$ \text{density} = \frac{1}{kM} \sum_{j} \sum_{i} \big[\,|y_j - x_i| \le r_k(x_i)\,\big], \qquad
# \text{coverage} = \frac1N \sum_i \Big[\,|y_j - x_i| \le r_k(x_i) \text{ for some } j\,\Big] . $$

# %%
def density_and_coverage(real, fake, k=5):
    radii = torch.cdist(real, real).kthvalue(k + 1).values  # (N,)
    inside = torch.cdist(real, fake) <= radii[:, None]  # (N, M)
    return float(inside.double().sum() / (k * len(fake))), float(inside.any(1).double().mean())


# %% [markdown]
# Both have an exact value for a perfect model, whatever the distribution: a new point $y$ is as likely to be the
# nearest to $x_i$ as any of the $N - 1$ others, so it comes within the first $k$ with probability $k / N$. The mean
# density is therefore 1. And for $M = N$ the $k$ nearest points are all old ones, none of them new, with a
# probability near $2^{-k}$: the mean coverage is $1 - 2^{-k}$, here 0.97. On heaps, on the judge's features, and on
# the junk:

# %%
halves = [F_test[torch.randperm(2000, generator=seeded(r))].split(500) for r in range(10)]
pairs = {"heaps": [(four_heaps(500, 40 + r), four_heaps(500, 60 + r)) for r in range(10)],
         "photographs": [part[:2] for part in halves], "junk": [(outlier, junk)]}
tried = {name: torch.tensor([density_and_coverage(*p) for p in pair]).mean(0) for name, pair in pairs.items()}

# %%
for name in ("heaps", "photographs"):
    assert abs(tried[name][0] - 1) < 0.05 and abs(tried[name][1] - (1 - 2**-5)) < 0.015
assert tried["junk"][0] <= 0.2001 and tried["junk"][1] < 0.01
print({name: f"density {d:.2f}, coverage {c:.2f}" for name, (d, c) in tried.items()})

# %% [markdown]
# Junk that sits in one giant ball of 801 gets a density of $1/k = 0.2$ and next to no
# coverage: that one ball.
#
# ## 7. Error bars
#
# A score is measured on a few hundred random pictures; draw others, and it changes. How much? Real photographs are
# plentiful: 50 disjoint sets of 200 training pictures, each compared with the test pictures, show the true spread.
# Who has only *one* set can draw from it with repetition, 200 of 200, again and again: the *bootstrap* (Efron 1979).
#
# *Predict: will the bootstrap find the right spread? And the right mean?*

# %%
def bootstrap(features, bank, draws, seed=28):
    generator = seeded(seed)
    picks = [torch.randint(len(features), (len(features),), generator=generator) for _ in range(draws)]
    return torch.tensor([frechet(features[pick], bank) for pick in picks])


# %%
parts = F_train[torch.randperm(10_000, generator=seeded(27))].split(200)  # 50 sets
true = torch.tensor([frechet(part, F_test) for part in parts])
again = torch.stack([bootstrap(part, F_test, 40) for part in parts[:4]])  # (4, 40)

# %%
mean, spread = again.mean(), again.std(1).mean()
assert 1.5 < mean / true.mean() < 2.5 and 1.2 < spread / true.std() < 3
print(f"50 sets: {true.mean():.1f}, spread {true.std():.2f}")
print(f"bootstrap of one, four times: {mean:.1f}, spread {spread:.2f}")

# %% [markdown]
# Both come out too large: the mean by a factor of nearly two, the spread of about one and a half. A resampled set
# differs from its own set by chance, and that one from the truth
# by as much again; and (13.3) adds up squares. (Farther from zero, where the distance is not all chance, the spread
# comes out better.) *Use the bootstrap for the bar, which then errs on the safe side, never for the dot.* And shuffle
# first: in the file's own order the last of the 50 sets, in which some kinds are missing, is at 10.
#
# So how large a difference is real? In a *difference* of two scores at equal $N$ the bias nearly cancels. And all our
# sets were drawn from the same noises: choose the *same* pictures in both (equal seeds), and part of the chance
# cancels too.

# %%
hundred = {f"w = {w:.0f}": features(x[:100]) for w, x in drawn.items()}
resampled = {name: bootstrap(x, F_train, 60) for name, x in hundred.items()}
resampled["w = 2, other noises"] = bootstrap(F_drawn[100:], F_train, 60, seed=29)
gaps = {name: values - resampled["w = 2"] for name, values in resampled.items() if name != "w = 2"}

# %% tags=["nbval-ignore-output"]
for name, gap in gaps.items():
    low, high = gap.quantile(0.05), gap.quantile(0.95)
    print(f"{name} minus w = 2: {gap.mean():5.2f}, nine in ten from {low:5.2f} to {high:5.2f}")

# %%
assert gaps["w = 4"].quantile(0.05) > 0.3
assert gaps["w = 2, other noises"].quantile(0.05) < 0 < gaps["w = 2, other noises"].quantile(0.95)

# %% [markdown]
# That $w = 4$ is worse than $w = 2$ is no luck. Between $w = 1$ and $w = 2$ a hundred pictures cannot decide. And the
# last line compares a model *with itself*: its two halves may differ by one and a half. In a table of a paper that
# would be an improvement. (And another seed of *training* would add a spread that no resampling of pictures can
# show.)
#
# For shares there is a formula: of $n$ pictures, a share $p$ is known to within about $\sqrt{p(1-p)/n}$. If 98 of 100
# are read right, that is 98 %, give or take 1.4. To tell 98.2 % from 97.9 % one needs ten thousand pictures and more.
#
# ## 8. Copies
#
# But for the likelihood, every score so far is perfect for a model that hands out its training pictures. Chapter 03
# had such a model: the best denoiser for a given set of pictures is their weighted mean (3.11), and nothing else
# minimises the training loss. Chapter 07 found its loss far below the network's. What does it *draw*?

# %%
from minidiff import Empirical, dpmpp_2m, final

index = torch.cat([torch.nonzero(clothes.y == k)[:10, 0] for k in range(10)])  # ten of each kind
few, few_labels = clothes.tensor(index), clothes.y[index]  # (100, 1, 32, 32)
memory = partial(Empirical(few).denoise, schedule=Cosine())
recalled = final(dpmpp_2m(memory, torch.randn(20, 1, 32, 32, generator=seeded(30)), times(25), Cosine()))
off, which = nearest(recalled, few)
assert off.max() < 1e-3 and len(which.unique()) > 10
print(f"20 samples, {len(which.unique())} different training pictures, at most {off.max():.3f} away from them")

# %% [markdown]
# Training pictures, to all the digits shown. **The perfect minimiser of the loss is a copying machine.** That our
# networks are not is their failure to reach the minimum: too few weights, too little time, and a preference for some
# functions over others (Kadkhodaie et al. 2024: denoising networks prefer to shrink waves that follow a picture's own
# contours). It is a gift, and nobody guarantees it. So one has to look.
#
# **The test.** For a picture $x$ let $d_1(x)$ and $d_2(x)$ be its distances to the nearest and to the second nearest
# training picture:
#
# $$ \rho(x) = \frac{d_1(x)}{d_2(x)} \in [0, 1] . \tag{13.9} $$
#
# A picture that is merely of the same kind has many neighbours at about the same distance, $\rho$ near 1. A copy has
# *one* that stands out, $\rho$ near 0. (Relative distances of this sort found copies among the samples of models
# trained on CIFAR-10, Carlini et al. 2023; Somepalli et al. 2023 compared features. The distance alone would not do:
# an empty dark picture is near to everything.) Where does "near 0" end? Where photographs that the model never saw
# hardly ever are: at their 1 % quantile, which calls 1 % of honest pictures copies.

# %%
def ratio(x, bank):
    """d1 / d2 of (13.9) for each picture: (B,)."""
    x, bank = x.flatten(1), bank.flatten(1)
    two = torch.cat([torch.cdist(part, bank, compute_mode="donot_use_mm_for_euclid_dist").topk(2, largest=False).values
                     for part in x.split(100)])  # (B, 2)
    return two[:, 0] / two[:, 1].clamp(min=1e-9)


# %% [markdown]
# A test that never finds anything is worth nothing: it needs a **positive control**, a model of which we know that it
# copies. We make one. The shipped network's architecture, its loss, its optimiser; but 100 pictures instead of
# 10,000, and 1,400 steps, so that each picture comes 450 times.
#
# *Predict: the shipped network saw each of its 10,000 pictures 44 times. What will one do that sees 100 pictures 450
# times?*

# %%
from torch.utils.data import TensorDataset

from minidiff import Denoiser
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.training import TrainConfig, TrainState, train

torch.manual_seed(0)
recipe = TrainConfig(batch_size=32, cooldown=0.3, label_dropout=0.0, precision="fp32")
control = TrainState(Denoiser(UNet(UNetConfig(**about["denoiser"]["net_config"])), Cosine()), recipe)
looks = {}

# %% tags=["nbval-ignore-output", "slow"]
for p in train(control, TensorDataset(few, few_labels), steps=1400):
    if p.step in (300, 600, 1000, 1400):
        looks[p.step] = generate(control.ema.module, few_labels, (1, 32, 32), ts=times(15), guidance=1.0, seed=3)
        print(f"step {p.step}: {p.seconds:.0f} s, median ratio {ratio(looks[p.step], few).median():.2f}")

# %%
copies = looks[1400]
closest = {step: few[nearest(x[::10], few)[1]] for step, x in looks.items()}
shown = {"step 300": looks[300][::10], "nearest": closest[300], "step 1,400": copies[::10], "nearest ": closest[1400]}
alt = "Ten blurred garments and their nearest training pictures, unlike; ten sharp ones and theirs, the same pictures."
plot.strips(shown, alt)

# %% [markdown]
# At first it draws vague garments that resemble nothing in particular: it *generalises*, if badly. In the end it
# recites. It never saw these noises; nearly each leads to one of the 100.

# %%
unseen_all = unseen.tensor()
honest = ratio(unseen_all[:1000], few)  # real photographs, against the same 100
limit = honest.quantile(0.01)
caught = (ratio(copies, few) < limit).double().mean()

# %%
alt = "The median ratio falls from near 1 to near 0.2 in 1,400 steps, far below the dashed limit at 0.6."
median = torch.stack([ratio(x, few).median() for x in looks.values()])
picture = plot.curves(torch.tensor(list(looks)), {"control, median": median}, alt, "step", "$d_1 / d_2$")
picture.axes[0].axhline(limit, color="black", linestyle="--", linewidth=1)
picture.axes[0].set(ylim=(0, 1))
picture

# %% tags=["nbval-ignore-output"]
print(f"limit {limit:.2f}; of the control's samples {caught:.0%} are copies")

# %%
assert caught > 0.75 and 0.55 < limit < 0.68 and median[0] > 0.8 > 0.4 > median[-1]

# %% [markdown]
# Now the shipped model, against all of its 10,000 training pictures, in pixels and in features. With more pictures to
# choose from all distances change, so the limit has to be found anew, from the same honest photographs.

# %%
bank, sample, honest_some = clothes.tensor(), drawn[2.0], unseen_all[:400]
spaces = {"pixels": (sample, honest_some, bank), "features": (F_drawn, F_test[:400], F_train)}
ratios = {name: (ratio(x, bank), ratio(h, bank)) for name, (x, h, bank) in spaces.items()}

# %% tags=["nbval-ignore-output"]
for name, (of_drawn, of_honest) in ratios.items():
    here = of_honest.quantile(0.01)  # the limit in this space
    share, middle = (of_drawn < here).double().mean(), (of_drawn.median(), of_honest.median())
    assert share < 0.05 and abs(middle[0] - middle[1]) < 0.05
    print(f"{name}: limit {here:.2f}, median {middle[0]:.2f} drawn, {middle[1]:.2f} honest, {share:.0%} called copies")

# %% [markdown]
# Would the test have found copies in so large a crowd? The control's 100 pictures are among the 10,000. So judge
# *its* samples against all of them:

# %% tags=["nbval-ignore-output"]
in_the_crowd = (ratio(copies, bank) < ratios["pixels"][1].quantile(0.01)).double().mean()
assert in_the_crowd > 0.75
print(f"of the control's samples {in_the_crowd:.0%} are called copies, among 10,000 pictures")

# %%
panels = ((honest, ratio(copies, few), "control, 100 pictures"), (*ratios["pixels"][::-1], "shipped, 10,000 pictures"))
alt = "Left, against 100 pictures: the control heaps up near 0.2, unseen ones near 0.9. Right: both near 0.95."
picture, axes = plot.figure(alt, 2, width=9, height=3.0)
for ax, (h, d, title) in zip(axes, panels, strict=True):
    for values, name in ((h, "unseen photographs"), (d, "samples")):
        ax.hist(values, torch.linspace(0, 1, 41), density=True, alpha=0.6, label=name)
    ax.axvline(h.quantile(0.01), color="black", linestyle="--", linewidth=1)
    ax.set(xlabel="$d_1 / d_2$", yticks=[], title=title)
axes[1].legend(loc="upper left")
picture

# %% [markdown]
# Left, the control: a heap of copies, and few samples to the right of the limit. Right, the shipped model: its
# samples are distributed as photographs are that nobody has shown it. The eight of 200 that come closest to being
# called copies, with their nearest training pictures:

# %%
suspects = ratios["pixels"][0].argsort()[:8]
alt = "Eight garments above, below their nearest training pictures: similar kinds and shapes, different pictures."
plot.strips({"drawn": sample[suspects], "nearest": bank[nearest(sample[suspects], bank)[1]]}, alt)

# %% [markdown]
# The same kind and the same outline; look at collars, necklines and handles for the difference. There are only so
# many ways to make a pullover.
#
# **What the test cannot see.** It compares whole pictures, in a given space. A *mirrored* copy, pixel by pixel:

# %%
mirrored, F_few = few.flip(3), features(few)
seen = {"pixels": (ratio(mirrored, few) < limit).double().mean()}
limit_F = ratio(F_test[:1000], F_few).quantile(0.01)
seen["features"] = (ratio(features(mirrored), F_few) < limit_F).double().mean()
assert max(seen.values()) < 0.7
print({name: f"{share:.0%} of mirrored copies found" for name, share in seen.items()})

# %% [markdown]
# Many go unnoticed; those that are found are the garments that look alike from both sides. And it has a hole of its
# own. If a training picture occurs *twice*, then a copy of it has two equally near neighbours, and the ratio is 1:

# %%
doubled = torch.cat([few, few + 1e-4])
missed = (ratio(copies, doubled) < limit).double().mean()
by_distance = nearest(copies, doubled)[0] < nearest(unseen_all[:1000], doubled)[0].quantile(0.01)
assert missed == 0 and by_distance.double().mean() > 0.7

# %% tags=["nbval-ignore-output"]
print(f"ratio: {missed:.0%} found among doubled pictures; distance: {by_distance.double().mean():.0%}")

# %% [markdown]
# Yet *duplicates are what large models copy most* (Carlini et al. 2023). So remove duplicates first, or use the
# distance $d_1$ with a limit from honest pictures, as in the last line. Nor can the test see half a copy, a copied
# texture, or a picture that is rare rather than new. It shows that copies were found, or not found; never that there
# are none.
#
# ## 9. One table
#
# Everything at once, with as many photographs beside it: `metrics.report`. It takes the pictures, the labels that
# were asked for, both splits of the data, the judge, and a second judge: an encoder that learned from the same
# photographs *without their labels*, to tell two views of one picture from all others ([@chen2020]).

# %%
from minidiff.app.metrics import load_encoder, report

second = load_encoder("fashion")
result = report(drawn[2.0], wanted, clothes, unseen, judge, second)


# %%
def table(result):
    print(f"{result['pictures']} pictures; {result['features']}")
    for name in result["generated"]:
        values = (result[who][name] for who in ("generated", "real_held_out"))
        print(f"{name.replace('_', ' '):26}", *(f"{value:9.2g}" for value in values))


# %% tags=["nbval-ignore-output"]
table(result)

# %% [markdown]
# Left the samples, right as many unseen photographs (the error of the kernel distance `kid` has a line of its own).
# How to read it:
#
# - **Right column first.** It is what a perfect model would score with this judge and this many pictures. Precision
#   is not 1 there, nor is the distance 0.
# - **Fréchet and kernel distance**: the smaller the better, down to the right column; the kernel's error stands below
#   it. A difference of less than two errors may be none.
# - **Encoder Fréchet**: the same distance by the second judge. Where two judges disagree on which of two models is
#   better, neither has the last word (below).
# - **Sliced Wasserstein**: no network at all; pixels, seen from 256 directions.
# - **Precision and recall**: here the samples are as precise as photographs or more, and recall less: $w = 2$ avoids
#   the unusual. A precision above the right column's is a warning, not a triumph.
# - **Nearest training distance**: well *below* the right column would mean copies. A little below is what precision
#   said already: typical pictures have near neighbours.
# - **Label accuracy** beyond that of photographs: the same warning again.

# %%
generated, photographs = result["generated"], result["real_held_out"]
assert generated["precision"] >= photographs["precision"] - 0.05 and generated["recall"] < photographs["recall"]
assert generated["frechet"] > photographs["frechet"] and generated["label_accuracy"] > photographs["label_accuracy"]
assert generated["nearest_training_distance"] > 0.5 * photographs["nearest_training_distance"]

# %% [markdown]
# Do the judges agree on the strength of guidance? Two hundred pictures at each $w$; in brackets the multiple of what as
# many photographs have:

# %% tags=["slow"]
by_w = {w: generate(denoiser, wanted, (1, 32, 32), guidance=w, seed=1) for w in (1.0, 1.5, 2.0)}
told = {w: report(x, wanted, clothes, unseen, judge, second) for w, x in by_w.items()}
for name in ("frechet", "encoder_frechet", "sliced_wasserstein"):
    pairs = [(r["generated"][name], r["real_held_out"][name]) for r in told.values()]
    print(f"{name:20}", *(f"w = {w}: {x:.2f} ({x / real:.1f})" for w, (x, real) in zip(told, pairs)))
plain, some, more = (r["generated"] for r in told.values())
assert plain["encoder_frechet"] > 2 * max(some["encoder_frechet"], more["encoder_frechet"])
assert some["frechet"] < plain["frechet"] < more["frechet"]

# %% [markdown]
# They do not. For the encoder the pictures without guidance are more than twice as far from photographs as the guided
# ones; for the classifier they lie between the two. The classifier was trained to see what tells a shirt from a dress,
# and has no reason to see a smudge. The encoder was trained to tell each photograph from every other one, and has.
# Whoever reports one number has chosen between these two.

# %% [markdown]
# And the control? Judged like any other model, against the 100 pictures that were its training set, as any other
# model is judged against its own:

# %%
from minidiff.data import Images

shown_to_it = Images("hundred", clothes.x[index], few_labels, clothes.classes, ())
its = report(copies, few_labels, shown_to_it, unseen, judge)

# %% tags=["nbval-ignore-output"]
table(its)

# %%
mine, theirs = its["generated"], its["real_held_out"]
assert mine["frechet"] < theirs["frechet"] and mine["precision"] >= theirs["precision"]
assert mine["nearest_training_distance"] < 0.5 * theirs["nearest_training_distance"]

# %% [markdown]
# By Fréchet distance and precision it beats photographs. Only one line gives it away: the distance to the nearest
# training picture, a fraction of what it is for photographs. **A score that is too good is a finding.** And the
# emoji, in colour, with a judge that is often wrong:

# %%
painter, its_data = load_denoiser(shipped("emoji.safetensors"))
emoji, unseen_emoji = load("emoji"), load("emoji", "test")
categories = cycle_labels(100, len(its_data["classes"]))
faces = generate(painter, categories, emoji.shape, seed=4)

# %% tags=["nbval-ignore-output"]
table(report(faces, categories, emoji, unseen_emoji, judges["emoji"]))

# %%
plot.images(faces[:20], "Twenty coloured emoji drawn by the model: some clear, some blobs.", columns=10)

# %% [markdown]
# In a terminal the same is `python -m minidiff evaluate data/fashion.safetensors`. It draws 2,000 pictures, which
# takes a minute or two, prints such a table, with the bits per pixel of section 3 and, for the captioned scenes of
# chapter 12, the share of attributes that can be read off the pixels, and writes it as JSON.
#
# ## 10. How numbers in papers go wrong
#
# - Inception wants 299 by 299 pixels, and many libraries resize without smoothing first. The same pictures get
#   another FID from each; and another one after JPEG (Parmar et al. 2022, with the remedy, `clean-fid`).
# - 10,000 samples are compared with somebody else's 50,000 (section 5; Chong & Forsyth 2020).
# - The best of several seeds is reported, or the best checkpoint, chosen by the score itself (Lucic et al. 2018
#   compare many models with equal budgets instead, and most differences vanish).
# - Guidance by a classifier raises every score that asks a classifier with the same labels: the teacher marks the
#   exam that she dictated.
# - Inception learned ImageNet's classes, so FID rewards what looks like them: choosing samples so that the mix of
#   predicted classes fits lowers FID, and no picture is any better (Kynkäänniemi et al. 2023).
# - With Inception's features diffusion models score worse than people judge them; features of DINOv2 agree better
#   with people (Stein et al. 2023, who also doubt that present measures find memorisation reliably).
#
# The first, executed. Take 1,000 photographs, halve them, and enlarge them again, in three ways that libraries call
# "resize". No model is involved:

# %%
import torch.nn.functional as F

enlarge = partial(F.interpolate, scale_factor=2)
real, half = unseen_all[:1000], F.avg_pool2d(unseen_all[:1000], 2)
resized = {"as they are": real, "bilinear": enlarge(half, mode="bilinear"), "bicubic": enlarge(half, mode="bicubic")}
resized["every second pixel"] = enlarge(real[:, :, ::2, ::2])

# %%
moved_by = {name: frechet(features(x.clamp(-1, 1)), F_train) for name, x in resized.items()}
assert moved_by["bilinear"] > 1.4 * moved_by["bicubic"] > 5 * moved_by["as they are"]
print({name: f"{d:.1f}" for name, d in moved_by.items()})

# %% [markdown]
# (The second and third were halved in the same way and differ in how they were enlarged.) The choice of one word in a
# call moves photographs by 1.0, as much as the network's whole distance at infinity. Whoever compares two papers that
# resized differently compares two ways of resizing.
#
# And the fourth, taken to its end. "When a measure becomes a target, it ceases to be a good measure" (Strathern
# 1997, after Goodhart). Let us *optimise pixels* until the judge's features are those of real photographs. Start:
# static. *Predict: what will the Fréchet distance be, and what will one see?*

# %%
goal = F_test[:100]
pixels = torch.randn(100, 1, 32, 32, generator=seeded(31)).requires_grad_()
adam = torch.optim.Adam([pixels], lr=0.03)

# %%
for _ in range(100):
    adam.zero_grad()
    (judge.features(pixels.tanh()) - goal).square().sum().backward()
    adam.step()
forged = pixels.tanh().detach()

# %%
verdict = frechet(features(forged), F_train), frechet(goal, F_train)
read_right = label_accuracy(judge(forged), unseen.y[:100])
assert verdict[0] < 1.6 * verdict[1] and read_right > 0.8
assert min(precision_recall(F_test[100:200], features(forged))) > 0.7

# %% tags=["nbval-ignore-output"]
print(f"Frechet of the forged {verdict[0]:.2f}, of the photographs {verdict[1]:.2f}; {read_right:.0%} read right")

# %%
alt = "Ten photographs above; below, ten squares of static in which nothing can be seen."
plot.strips({"photographs": unseen_all[:10], "forged": forged[:10]}, alt)

# %% [markdown]
# Static that the judge takes for clothes: nearly as good as photographs by Fréchet distance, precision, recall and
# accuracy, since all of them see the same 64 numbers. **No number replaces looking at the pictures**, unpicked, a
# hundred at a time.
#
# ## Errors you will meet
#
# **1. The wrong range.** The judge expects $[-1, 1]$. Samples saved as PNG and read again are in $[0, 1]$; nothing
# complains. The distance does:

# %%
wrong_range = frechet(features((unseen_all[:200] + 1) / 2), F_train)
assert wrong_range > 10 * at_200["real"]
print(f"200 photographs in [0, 1]: {wrong_range:.1f}, in [-1, 1]: {at_200['real']:.1f}")

# %% [markdown]
# **2. Statistics from one batch.** A widely used trainer once took the mean and covariance of the *real* pictures
# from a single batch (fixed since). With 32 pictures for 64 features the covariance has no full rank, and all the
# bias of (13.7) sits in the reference, where no number of samples can help:

# %%
reference = F_train[:32]
scores = {n: frechet(F_test[:n], reference) for n in (200, 2000)}
assert scores[2000] > 20 * frechet(F_test, F_train) and scores[2000] > 0.7 * scores[200]
print({n: f"{d:.1f}" for n, d in scores.items()}, f"with all: {frechet(F_test, F_train):.2f}")

# %% [markdown]
# **3. The diagonal.** (13.6) leaves out $i = j$. Keep it, and a set of $N$ has a distance from its own kind of about
# $1/N$ times a large number: the unbiased measure has become a biased one.

# %%
def with_diagonal(a, b):
    aa, bb, ab = (((u @ v.T / u.shape[1] + 1) ** 3).mean() for u, v in ((a, a), (b, b), (a, b)))
    return float(aa + bb - 2 * ab)


# %%
naive = {n: with_diagonal(F_test[:n].double(), F_train[:n].double()) for n in (100, 400)}
assert naive[100] > 2 * naive[400] > 0 and naive[100] > 5 * abs(mmd2(F_test[:100], F_train[:100]))
print({n: f"{value:.2f}, unbiased {mmd2(F_test[:n], F_train[:n]):.3f}" for n, value in naive.items()})

# %% [markdown]
# **4. Labels that have lost their pictures.** Samples are shuffled, or come back from several processes in another
# order, and the labels do not. Fréchet, kernel, precision: all unchanged. Only the accuracy falls, to chance:

# %%
shuffle = torch.randperm(200, generator=seeded(32))
lost = label_accuracy(judge(drawn[2.0][shuffle]), wanted)
assert abs(frechet(F_drawn[shuffle], F_train) - many_drawn) < 1e-6 and lost < 0.25

# %% tags=["nbval-ignore-output"]
print(f"read as asked: {label_accuracy(judge(drawn[2.0]), wanted):.0%}, after the shuffle {lost:.0%}")

# %% [markdown]
# ## Exercises
#
# **1. Pen.** (a) Find the Fréchet distance of $\mathcal N(0, I)$ and $\mathcal N(0, s^2 I)$ in $D$ dimensions. (b)
# Find $c$ in (13.7) for $S = \lambda I$. (c) Two sets of $N$ pictures each from the *same* Gaussian with $S = I$, $D
# = 2048$, as Inception's features have: how large must $N$ be for a bias below 1?
#
# <details><summary>Answer</summary>
#
# (a) In (13.3) all matrices are multiples of $I$: $D\,(1 + s^2 - 2s) = D\,(s - 1)^2$. (b) The first sum has $D$ terms
# $\lambda$, the second $D^2$ terms $\lambda^2 / 2\lambda$: $\frac54 D\lambda + \frac14 D^2 \lambda = \lambda D (D + 5)
# / 4$. (c) $c = 2048 \cdot 2053 / 4 = 1.05$ million, and the bias is $2c/N$: more than 2.1 million pictures each.
# (Inception's features vary far less than $\lambda = 1$, so 50,000 do better than that. But the square of $D$ stays.)
#
# </details>
#
# To compare with: (a) for $D = 6$, $s = 3$; (b) for $D = 6$, $\lambda = 3$; and (c) measured for $D = 32$, where $N =
# 600$ should do.

# %%
eye, zero = torch.eye(6).double(), torch.zeros(6).double()
print(f"(a) {frechet_gaussians(zero, eye, zero, 9 * eye):.1f}   (b) {bias_constant(3 * eye):.1f}")
same_twice = torch.randn(40, 2, 600, 32, generator=seeded(34), dtype=torch.float64)
bias = sum(frechet(a, b) for a, b in same_twice) / 40
assert abs(bias - 1) < 0.1
print(f"(c) {bias:.2f}")

# %% [markdown]
# **2. Code.** Another test for copies, after Alaa et al. (2022): a sample is *too close* if it is nearer to its
# nearest training picture than that picture is to its own nearest neighbour among the training pictures. Write
# `too_close(x, bank)`: the share, from 0 to 1, of the samples `x` $(B, D)$ for which this is so, with the training
# pictures `bank` $(N, D)$, each a row of $D$ numbers. (`torch.cdist(a, b)` gives all distances between rows.)

# %%
from minidiff.course import check


def too_close(x, bank):
    """Share of samples x (B, D) nearer to their nearest row of bank (N, D) than that row is to any other row."""
    ### BEGIN SOLUTION
    distance, index = torch.cdist(x, bank).min(1)
    own = torch.cdist(bank, bank).kthvalue(2).values  # place 1 is the picture itself
    return (distance < own[index]).double().mean()
    ### END SOLUTION


# %%
def planted(reach):
    """Pairs of training pictures, far from all others; beside each pair a sample, at `reach` times the pair's width."""
    n = len(reach)
    width, home = torch.arange(1.0, 1 + n)[:, None], 50 * torch.arange(n)[:, None].expand(n, 3)
    way = torch.nn.functional.normalize(torch.randn(n, 3, generator=seeded(35)), dim=1)
    return home - torch.tensor(reach)[:, None] * width * way, torch.cat([home + width * way, home]).flip(0)


reaches = [0.5, 0.9, 1.1, 3.0, 2.0], [2.0, 1.2, 0.7, 0.9], [4.0, 1.5, 2.5]  # too close where it is below 1
shares = {len(reach): sum(r < 1 for r in reach) / len(reach) for reach in reaches}
check(too_close, lambda x, bank: shares[len(x)], [planted(reach) for reach in reaches],
      hint="two tables of distances, x to bank and bank to bank; what is the smallest number in a row of the second?")

# %% [markdown]
# **3. Open.** *How many pictures does it take to tell $w = 1.5$ from $w = 2$, by Fréchet distance, by kernel distance,
# by recall?* `told_apart` draws $n$ of the pictures again and again, the same ones from both sets, and says how often
# the first set scores higher: near 0 or 1 the measure has decided, near $\frac12$ it has not. Draw 200 pictures with
# `generate(..., guidance=1.5, seed=1)`, from the noises of `drawn[2.0]`, and raise $n$ until a measure is past 0.95 or
# below 0.05. Two controls tell whether you may believe it: both sets drawn again with `seed=2` must give the same
# verdict, and $w = 2$ with two seeds must *not* be told apart. Then compare $w = 1.5$ of one seed with $w = 2$ of the
# other: what has become of the verdict, and why? A start, with pictures that we have:

# %%
measures = {"Fréchet": lambda f: frechet(f, F_test), "kernel": lambda f: mmd2(f, F_test[:1000]),
            "recall": lambda f: precision_recall(F_test[: len(f)], f)[1]}


def told_apart(a, b, n, draws=40):
    """By measure: how often n of the features a (N, 64) score higher than the same n of b, a tie being half."""
    generator = seeded(33)
    picks = [torch.randint(len(a), (n,), generator=generator) for _ in range(draws)]
    scores = {name: [(measure(a[pick]), measure(b[pick])) for pick in picks] for name, measure in measures.items()}
    return {name: sum((u > v) + (u == v) / 2 for u, v in pairs) / draws for name, pairs in scores.items()}


# %% tags=["nbval-ignore-output"]
for n in (25, 100):
    print(f"w = 4 above w = 2, {n} pictures:", told_apart(hundred["w = 4"], hundred["w = 2"], n))
print("w = 2 above itself, 100 pictures:", told_apart(F_drawn[100:], hundred["w = 2"], 100))

# %% [markdown]
# ## What to keep
#
# - Pixels compare places, features compare things. Neither likelihood nor the look of samples vouches for the other
#   (13.1): decide what you want, and measure that.
# - The Fréchet distance is the price of shovelling one Gaussian into the shape of the other (13.3). It sees two
#   moments; the kernel distance with a cubic kernel sees three (13.5), and is unbiased (13.6).
# - The Fréchet distance of finite sets is too large by about $c\,(1/N + 1/M)$ (13.7). Compare at equal $N$ only, and
#   measure real pictures beside.
# - Precision and recall (13.8) say what kind of error it is; coverage is not fooled by outliers.
# - Put error bars on everything, and distrust scores that beat photographs.
# - The minimiser of the loss is a copying machine. Look for copies (13.9), with a limit from unseen pictures and a
#   control that copies; and then look at the pictures.
#
# With a ruler in hand one may build on. The next chapters look at what all these models have in common: the score,
# and the differential equations behind every sampler of the course.
