# %% [markdown]
# # 05, deeper · The simplified loss
#
# What the main line of [chapter 05](../05_simplified_loss.ipynb) states and leaves: how times are told apart, the way back
# as arrows, the bound's weight on any schedule, where errors grow, the nine networks by another loss, scores without
# noise, Langevin dynamics, many noises at once, three more bugs, and a skip for $\epsilon$. Read the sections one by one; run them from the top. The
# letters are those of the [main line's table](../05_simplified_loss.ipynb).

# %%
import torch

from minidiff import Cosine, FromBetas, Mixture, add_noise, linear_betas
from minidiff.course import diagrams, plot

T = 1000
schedule = FromBetas(linear_betas(T))  # DDPM's


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %%
angle = 1.5 * torch.pi * (1 + 2 * (torch.arange(220) + 0.5) / 220)
spiral = angle[:, None] * torch.stack([angle.cos(), angle.sin()], 1)  # (220, 2)
spiral = ((spiral - spiral.mean(0)) / spiral.std(0)).double()
roll = Mixture(torch.full((220,), 1 / 220).double(), spiral,
               torch.full((220,), 0.06).double())

# %% [markdown]
# ## 1. How times are told apart
#
# The embedding (5.6) spreads a time over fast and slow waves. As $\cos a \cos b + \sin a \sin b = \cos(a - b)$, the inner
# product of two embeddings depends on the *distance* of their times alone, wherever on the walk they are.
#
# *Predict: how does it fall with the distance?*

# %%
from minidiff.nets.embed import timestep_embedding

near = torch.linspace(0, 0.1, 1001)  # the first tenth of the walk, finely
waves = timestep_embedding(near, 32)  # (1001, 32)
product = (waves @ waves.T) / 16  # 1 for equal times

# %%
alt = "Left, stripes for each wave over time. Right, a product over the distance."
picture, (left, right) = plot.figure(alt, 2, width=7.0, height=3.2)
left.imshow(waves.T, aspect="auto", extent=(0, 0.1, 32, 0), interpolation="nearest")
left.set(xlabel="t", ylabel="cosines, then sines", title="emb(t)")
right.plot(near * T, product[0])
right.set(xlabel="distance in steps of 1/1000", title="inner product", ylim=(0, 1.05))
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# It is 1 for equal times, 0.96 for neighbouring steps, and from five steps on 0.74 at most, anywhere on the walk: all are
# told apart. It does not fall evenly: far off it wavers. (Yellow on the left: slow cosines, which stay near 1 so far.)
#
# </details>

# %% tags=["check"]
# @title ✓ The inner product knows only the distance, on the whole walk
steps = timestep_embedding(torch.arange(T).double() / T, 32)
table = steps @ steps.T / 16  # (1000, 1000)
spread = max((table.diagonal(d) - table[0, d]).abs().max() for d in range(T))
assert spread < 1e-9 and abs(product[0, 10] - table[0, 1]) < 1e-4
assert abs(table[0, 1] - 0.96) < 0.005 and table[0, 5:].max() < 0.75
print(f"✓ neighbours {table[0, 1]:.2f}, from five steps on",
      f"{table[0, 5:].max():.2f} at most, the same everywhere")

# %% [markdown]
# ## 2. The way back, as arrows
#
# The third row of the figure that made [@sohldickstein2015] known shows where the walk back pushes: up to a stretch, by
# (5.2), along $-\epsilon_\theta$. Here it is for the exact $E[\epsilon \mid x_t]$ of the roll.
# (Long arrows are drawn compressed.)

# %%
points = roll.sample(600, seeded(1))
eps = torch.randn(600, 2, generator=seeded(2)).double()
panels = [(roll, t, add_noise(points, eps, t, schedule), words)
          for t, words in ((0.04, "to the nearest arm"), (0.3, "to the middle"))]
alt = "Left, arrows point to the nearest arm of the spiral; right, all to the middle."
diagrams.score_arrows(panels, schedule, alt)

# %% [markdown]
# With little noise each place is sent to the nearest arm. With more, the arms cannot be told apart.

# %% [markdown]
# ## 3. The bound on any schedule
#
# **Which variance?** In the main line $L_s$ has chapter 03's larger one, $\sigma_{ts}^2$, and the sampler (5.7) its smaller
# one, $\sigma_{ts}^2\sigma_s^2/\sigma_t^2$. [@ho2020] found that samples by either are alike.
#
# **The last step.** At $s = 0$ the smaller variance is 0: whoever knows $x_0$ has none left. So (4.11) does not hold.
# $L_0$ is the code length of $x_0$ instead, here by a Gaussian of variance $\sigma_{ts}^2$. It is (5.1) and (5.3) too,
# up to a constant (the main line's first check).

# %% [markdown]
# With the smaller variance in the bound as well, the divergence has no constant. Put in $\sigma_{ts}^2 = \sigma_t^2 -
# \alpha_{ts}^2\sigma_s^2$, and it becomes ([@kingma2021])
#
# $$ \begin{aligned}
# \tilde L_s &= \tfrac12\,\big(\mathrm{SNR}(s) - \mathrm{SNR}(t)\big)\; E|x_0 - \hat x_0|^2 , \\
# w_\mathrm{bound}(t) &= -\tfrac12\,\frac{d\,\mathrm{SNR}}{dt} \quad \text{in the limit of small steps:}
# \end{aligned} \tag{5.12} $$
#
# squared error times half the SNR that a step destroys. The factor of (5.1) is $\sigma_s^2/\sigma_t^2$ times this one, so
# in the limit both bounds agree.
#
# With SNR as the clock the bound is $\frac12 \int E|x_0 - \hat x_0|^2\, d\,\mathrm{SNR}$, and $t$ has disappeared. So with
# the best denoiser the price between two values of the SNR does not depend on the schedule. (That an integral of the
# least squared error over SNR measures information is older: [@guo2005].) Two humps, three schedules, log SNR from 4
# down to -4:

# %%
two = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
              torch.tensor([0.2, 0.2]))

# %%
from minidiff import Flow, LinearBeta, weight

line = torch.linspace(-7, 7, 1401, dtype=torch.float64)[:, None]


def least_error(t, each):
    density = two.log_prob(line, t, each).exp()
    return 1.0 - (density * two.denoise(line, t, each)[:, 0] ** 2).sum() * 0.01


def price(each):
    t = torch.linspace(1e-3, 1 - 1e-3, 1500, dtype=torch.float64)
    t = t[each.log_snr(t).abs() <= 4]
    errors = torch.stack([least_error(float(u), each) for u in t])  # E|x0 - x0_hat|^2
    return float(-torch.trapezoid(errors, each.log_snr(t).exp()) / 2)


# %%
paid = {type(each).__name__: price(each) for each in (Cosine(), LinearBeta(), Flow())}
print({name: f"{nats:.2f} nats" for name, nats in paid.items()})

# %% tags=["check"]
# @title ✓ (5.12) is the divergence of two steps; its limit, and that of (5.1)
from minidiff import Gaussian, posterior, transition

clean, off, z = torch.randn(3, 6, 3, generator=seeded(21)).double()
for s, now in ((0.2, 0.3), (0.5, 0.9), (0.4999, 0.5)):
    noisy, drop = add_noise(clean, z, now, Cosine()), Cosine().log_snr(s).exp()
    drop = drop - Cosine().log_snr(now).exp()
    true, wrong = (posterior(noisy, x, s, now, Cosine()) for x in (clean, clean + off))
    assert torch.allclose(true.kl(wrong), drop / 2 * off.square().sum(1))
larger = true.kl(Gaussian(wrong.mean, transition(s, now, Cosine())[1]))  # the last pair
assert torch.allclose(larger / (now - s), true.kl(wrong) / (now - s), rtol=1e-3)
limit = weight("vlb", 0.5, Cosine()) * off.square().sum(1)
assert torch.allclose(true.kl(wrong) / (now - s), limit, rtol=1e-3)
print("✓ at three pairs of times; a step of 1/10,000 weighs by either as weight('vlb')")

# %% tags=["check"]
# @title ✓ Three schedules, one price; the weights in terms of the SNR
assert max(paid.values()) / min(paid.values()) < 1.02
now = torch.linspace(0.01, 0.99, 99).double()
snr = Cosine().log_snr(now).exp()
forms = {"x0": 1 + 0 * snr, "eps": snr, "v": snr + 1, "score": snr * (snr + 1),
         "velocity": (snr + 1) * torch.pi**2 / 4, "min_snr": snr.clamp(max=5)}
assert all(torch.allclose(weight(name, now, Cosine()), w) for name, w in forms.items())
print("✓ to 2 %; and weight() is SNR, SNR + 1, SNR (SNR + 1), ... at 99 times")

# %% [markdown]
# **A schedule is a weight.** If times are drawn evenly, a schedule that lingers at some SNR meets it often. Effective is
# weight times chance, here in units of log SNR: $w(t)\,|dt/d\log\mathrm{SNR}|$.
#
# *Predict: on three schedules, is it the same for the bound? For the simplified loss?*

# %%
u = torch.linspace(0.005, 0.995, 400, dtype=torch.float64)
each_of = {"cosine": Cosine(), "linear": LinearBeta(), "flow": Flow()}


def effective(name, each):
    rate = (each.log_snr(u - 1e-5) - each.log_snr(u + 1e-5)) / 2e-5
    return weight(name, u, each) / rate


# %%
alt = "Two panels, each with a line for each of three schedules."
picture, axes = plot.figure(alt, 2, width=7.0, height=3.4)
titles = {"vlb": "bound", "eps": "simplified loss"}
for ax, (name, title) in zip(axes, titles.items(), strict=True):
    for (word, each), style in zip(each_of.items(), ("-", "--", ":"), strict=True):
        share = effective(name, each) / each.log_snr(u).exp()
        ax.plot(each.log_snr(u), share, style, lw=2, label=word)
    ax.set(xlim=(7, -7), ylim=(0, 1.4 * float(share.max())), xlabel="log SNR, falling")
    ax.set_title(title, fontsize=14)
axes[0].set_ylabel(r"weight of the error of $\epsilon$")
axes[1].legend(fontsize=12)
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# For the bound it is half the SNR, on all of them. (The plot divides it by the SNR: that is the weight of the error of
# $\epsilon$.) For the simplified loss it is another on each: who changes the schedule changes the loss. If the weight of the
# error of $\epsilon$, as drawn, never falls with $t$, the loss is still a bound, of data with noise added ([@kingma2023]). None
# of the three at the right is such a weight: each falls at the noisy end.
#
# </details>

# %% tags=["check"]
# @title ✓ One line for the bound, three for the simplified loss
levels = torch.tensor([-4.0, 0.0, 4.0]).double()  # log SNR


def at_levels(name, each):
    near = (each.log_snr(u)[:, None] - levels).abs().argmin(0)
    return effective(name, each)[near] / each.log_snr(u[near]).exp()


for each in each_of.values():
    assert torch.allclose(at_levels("vlb", each), 0.5 + 0 * levels, rtol=1e-4)
others = torch.stack([at_levels("eps", each) for each in each_of.values()])
pairs = (others[:, None] / others[None]).log().abs().amax(2)  # (3, 3)
assert (pairs[~torch.eye(3, dtype=torch.bool)] > torch.tensor(1.2).log()).all()
assert (others[:, 0] < 0.9 * others.max(1)[0]).all()  # at log SNR -4: all have fallen
print("✓ the bound's is SNR / 2 on three schedules; the other's differs by up to",
      f"{(others.max(0)[0] / others.min(0)[0]).max():.1f} times")

# %% [markdown]
# ### Weights or chances: how gradients scatter
#
# In the main line's section 4 *weights* multiplies errors by $w_k$, and *chances* draws step $k$ with chance $w_k/T$. The mean
# gradient is the same. Its scatter is not: if the gradient's mean square is $G$ at every step, that of the drawn
# gradient is $G\,E[w^2]$ for *weights* and $G\,E[w] = G$ for *chances*. DDPM's steps have $E[w^2] = 5.64$.
#
# *Predict: is the ratio 5.64 before training? And after it?*

# %%
from minidiff.data import load
from minidiff.nets.mlp import MLP, MLPConfig

beta, digits = linear_betas(T), load("digits")
bound = beta / (2 * (1 - beta) * (1 - (1 - beta).cumprod(0)))  # (5.3)
w, same = (bound / bound.mean()).float(), torch.ones(T)
flat = digits.tensor().flatten(1)


def batch_loss(net, chance, weigh, generator):
    index = torch.randint(len(flat), (128,), generator=generator)
    k = torch.multinomial(chance, 128, True, generator=generator) + 1
    eps, t = torch.randn(128, 64, generator=generator), k / T
    said = net(add_noise(flat[index], eps, t, schedule), t, digits.y[index])
    return (weigh[k - 1] * (eps - said).square().mean(1)).mean()

# %%
def two_hundred(net, chance, weigh):  # losses, and gradients of the last layer
    found, generator = [], seeded(9)
    for _ in range(200):
        loss = batch_loss(net, chance, weigh, generator)
        slope, = torch.autograd.grad(loss, net.head.weight)
        found.append(torch.cat([loss.detach()[None], slope.flatten()]))
    return torch.stack(found)  # (200, 1 + the numbers in the layer)


def compare(net):
    a, b = two_hundred(net, same, w), two_hundred(net, w, same)
    gap = (a.mean(0) - b.mean(0))[0] / ((a.var(0) + b.var(0))[0] / 200) ** 0.5
    return float(a[:, 1:].var(0).sum() / b[:, 1:].var(0).sum()), float(gap)

# %%
torch.set_num_threads(1)
torch.manual_seed(0)
digit_net = MLP(MLPConfig(dim=64, num_classes=10, width=160))
before, generator = compare(digit_net), seeded(0)
adam = torch.optim.Adam(digit_net.parameters(), 3e-3, fused=True)
for i in range(1000):  # the simplified loss, as in the main line
    adam.param_groups[0]["lr"] = 3e-3 * min(1, (i + 1) / 100) * (1 - i / 1000)
    adam.zero_grad()
    batch_loss(digit_net, same, same, generator).backward()
    adam.step()
after = compare(digit_net)
print(f"variance, weights to chances: {before[0]:.1f} before, {after[0]:.1f} after")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Before training the network says 0 at every step, and the ratio is roughly 5.64. (200 batches estimate it only
# roughly.) After it, the steps near the data, which weigh most, have the largest errors left (main line, section 3),
# and the ratio is larger.
#
# </details>

# %% tags=["check"]
# @title ✓ Weights and chances: one mean, two scatters
from minidiff.course import expect

square = w.double().square().mean()  # E[w^2]
assert abs(square - 5.64) < 0.005 and abs(before[0] / square - 1) < 0.25
assert max(abs(before[1]), abs(after[1])) < 4  # the means, in standard errors
early = (torch.arange(T) < 20).float()
errors = [two_hundred(digit_net, each, same)[:, 0].mean() for each in (early, same)]
expect([after[0] > 8, errors[0] > 3 * errors[1]],
       "the mean losses agree up to chance; the gradient's variance is "
       "about 5.64 to 1 before training, as E[w^2] says, and over 8 to 1 after it")

# %% [markdown]
# ## 4. Where errors grow
#
# By (5.10) an error of 1 in the network's answer becomes $\sigma_t / |\alpha_t b - \sigma_t a|$ in $x_0$ and
# $\alpha_t / |\alpha_t b - \sigma_t a|$ in $\epsilon$. (The score is $1/\sigma_t$ in size, so its errors are measured in
# that unit. Then it is $\epsilon$ with another sign, and needs no line.)
#
# *Predict: for which targets do these explode, and at which end?*

# %%
from minidiff import target_coefficients

u = torch.linspace(0.002, 0.998, 400, dtype=torch.float64)
names = {"x0": ("-", 2), "eps": ("-", 0), "v": ("-", 3), "velocity": ("--", 1)}


def growth(name):
    (alpha, sigma), (a, b) = Cosine()(u), target_coefficients(name, u, Cosine())
    det = (alpha * b - sigma * a).abs()
    return sigma / det, alpha / det


# %%
alt = "Two panels of factors over time, on a logarithmic scale."
picture, axes = plot.figure(alt, 2, width=7.0, height=3.4)
for name, (style, k) in names.items():
    for ax, factor in zip(axes, growth(name), strict=True):
        ax.plot(u, factor, style, label=name, color=plot.COLOURS[k])
for ax, of in zip(axes, ("$x_0$", r"$\epsilon$"), strict=True):
    ax.set(yscale="log", ylim=(1e-3, 1e3), xlabel="t", title=f"its error in {of}")
axes[0].legend(fontsize=11)
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# $\epsilon$, and so the score, for $x_0$, at pure noise; $x_0$ for $\epsilon$, at the data. $v$ and velocity nowhere, on
# the cosine. On `LinearBeta` an error of the velocity grows 15-fold at $t = 0.998$.
#
# </details>

# %% tags=["check"]
# @title ✓ On the cosine v and velocity never amplify; the others do at one end
grown = {name: growth(name) for name in (*names, "score")}
assert max(each.max() for each in grown["v"]) <= 1
assert max(each.max() for each in grown["velocity"]) <= 1
assert min(grown["eps"][0][-1], grown["x0"][1][0]) > 300
in_its_unit = grown["score"][0] / Cosine()(u)[1]  # an error of 1 / sigma
assert torch.allclose(in_its_unit, grown["eps"][0])
linear = LinearBeta()
(alpha, sigma), (a, b) = linear(u), target_coefficients("velocity", u, linear)
assert abs((sigma / (alpha * b - sigma * a).abs())[-1] - 14.9) < 0.1
print("✓ factors on the cosine: v at most 1; eps (and score) and x0 over 300 at",
      "t = 0.998, 0.002")

# %% [markdown]
# ## 5. The networks by another loss
#
# The same script trained $x_0$ and $\epsilon$ twice: by the plain squared error of its own answer, and by the error of
# the $v$ that follows from it, as [@li2025] do. (The main line shows $\epsilon$ by the first, $x_0$ by the second; for
# $v$ they are one.) The *energy distance* ([@szekely2013]), $2E|x - y| - E|x - x'| - E|y - y'|$ with $x, x'$ samples
# and $y, y'$ data, is 0 for equal distributions.

# %%
import json

from minidiff.data import shipped

results = json.loads(shipped("predictions.json").read_text(encoding="utf-8"))
print(results["about"]["command"], "|", results["about"]["training"])
print("two draws of data are up to", results["about"]["usual"], "apart")
print("  D  answer  by the error of v     by its own error")
for dims in (2, 16, 512):
    for name in ("x0", "v", "eps"):
        by = {run["by"]: max(run["energy_distance"], 0) for run in results["runs"]
              if (run["dims"], run["prediction"]) == (dims, name)}
        print(f"{dims:3}  {name:6}  {by['v']:17.3f}  {by.get('own', by['v']):19.3f}")

# %% [markdown]
# The loss is not what decides who finds the plane: in 512 dimensions $x_0$ does by either loss, the others by neither.
# But it decides how well. By its own error $x_0$ is 0.011 off there, far more than chance. In 2 and 16 dimensions
# $\epsilon$ has come out better by its own error. (That of $v$ is $1/\alpha_t$ times as large and gives most attention to
# the noisiest times. One seed each.)

# %% [markdown]
# In 16 dimensions the distance hardly tells $\epsilon$ from $x_0$, though the picture below does. It compares clouds as
# wholes, and does not see whether a thin roll is thin. So ask for that: which share of the points lies beside the roll,
# farther from its middle line than 0.15, two and a half times the deviation of its thickness?

# %%
from minidiff.app.metrics import nearest
from minidiff.data.toy import swiss_roll_line

middle, on_roll = swiss_roll_line(9000), roll.sample(9000, seeded(5)).float()


def share_beside(x):
    return (nearest(x, middle)[0] > 0.15).double().mean()


beside = {(run["dims"], run["prediction"]): share_beside(torch.tensor(run["points"]))
          for run in results["runs"] if "points" in run}
print({name: f"{beside[16, name]:.0%}" for name in ("x0", "v", "eps")})
bell = torch.randn(9000, 2, generator=seeded(6))
print(f"data {share_beside(on_roll):.1%}, plain noise {share_beside(bell):.0%}")

# %% tags=["folded"]
# @title Draw the networks for 2 and 16 dimensions
tex = {"x0": "$x_0$", "v": "$v$", "eps": r"$\epsilon$"}
panels = []
for run in [run for run in results["runs"] if "points" in run][:6]:
    dims, name = run["dims"], run["prediction"]
    panels.append((tex[name] if dims == 2 else "", torch.tensor(run["points"]),
                   f"{100 * beside[dims, name]:.0f} % beside the roll"))
alt = "Six panels of points: three targets in 2 and in 16 dimensions."
diagrams.predictions(panels, 3, ["D = 2", "D = 16"], alt, middle)

# %% [markdown]
# In 2 dimensions none fails. In 16, $v$ is hardly better than plain noise, and $\epsilon$ keeps an outline. Why $\epsilon$ does
# better than $v$ here, we do not know.

# %% tags=["check"]
# @title ✓ The stored points, judged anew
def apart(x, y):
    inner = (torch.pdist(x).mean() + torch.pdist(y).mean()) / 2
    return 2 * (torch.cdist(x, y).mean() - inner)


shown = [run for run in results["runs"] if "points" in run and run["off_plane"] < 0.1]
for run in shown:  # 400 of the 2,000 points: chance is about 0.01
    anew = apart(torch.tensor(run["points"]), on_roll[:3000])
    assert abs(anew - run["energy_distance"]) < 0.03, (run["dims"], run["prediction"])
assert all((run["off_plane"] > 10) == (run["prediction"] != "x0")
           for run in results["runs"] if run["dims"] == 512)
assert len(shown) == 7 and 4 * beside[16, "x0"] < beside[16, "eps"] < 0.4
assert abs(share_beside(on_roll) - 0.0124) < 0.004 < 0.7 < share_beside(bell) < 0.8
print("✓ seven distances as stored up to 0.03; beside by 2.5 deviations: 1 % of data")

# %% [markdown]
# **Why does $v$ lose the roll in 16 dimensions?** No floor forbids it to learn the roll. Look where its error is. As the
# best answer is known, by (3.7) in the plane and 0 beside it, the loss has three parts: what is least possible, the
# network's own error in the plane, and its own error beside the plane.
#
# We train it again, as the script did. A second network has the same input, target and start, but its loss counts only
# the two numbers in the plane.

# %%
from minidiff import Denoiser, denoising_loss, sample_times, weight

plane = torch.linalg.qr(torch.randn(16, 2, generator=seeded(0)))[0]  # (16, 2)
thin = Mixture(roll.weights.float(), roll.means.float(), roll.stds.float())


def draw(n, generator):
    x0 = thin.sample(n, generator) @ plane.T
    t = 0.02 + 0.96 * sample_times(n, generator, start=0.0)
    return x0, torch.randn(x0.shape, generator=generator), t


# %%
def fit_v(keep, steps=1500):  # keep: a matrix (16, 16), the part of x0 that counts
    torch.manual_seed(0)
    denoiser, generator = Denoiser(MLP(MLPConfig(dim=16)), Cosine(), "v"), seeded(0)
    adam = torch.optim.Adam(denoiser.parameters(), 1e-3, fused=True)
    for i in range(steps):
        adam.param_groups[0]["lr"] = 1e-3 * min(1, (i + 1) / 100) * (1 - i / steps)
        x0, eps, t = draw(256, generator)
        error = denoising_loss(lambda *a: denoiser(*a) @ keep, x0, eps, t, Cosine())
        adam.zero_grad()
        (weight("v", t, Cosine()) * error).mean().backward()
        adam.step()
    return denoiser.eval().requires_grad_(False)


# %%
x0, eps, t = draw(20_000, seeded(77))
x_t, w = add_noise(x0, eps, t, Cosine()), weight("v", t, Cosine())
parts = zip((x_t @ plane).split(5000), t.split(5000), strict=True)
mean = torch.cat([thin.denoise(x, u, Cosine()) for x, u in parts])  # in the plane
least = (w * (mean - x0 @ plane).square().sum(1)).mean()
found = {}
for name, keep in (("all 16", torch.eye(16)), ("two in the plane", plane @ plane.T)):
    x = fit_v(keep)(x_t, t)
    inside, beside_it = x @ plane - mean, x - x @ plane @ plane.T
    found[name] = [(w * part.square().sum(1)).mean() for part in (inside, beside_it)]
    print(f"{name}: least {least:.2f}, own error in the plane {found[name][0]:.3f},",
          f"beside it {found[name][1]:.3f}")

# %% tags=["check"]
# @title ✓ Where the error of v is, and what makes it
(full, off), (flat, _) = found.values()
expect([0.1 < full < 0.3, off < 0.05 * full, flat < 0.5 * full],
       "nearly all in the plane; less than half, if the rest is not asked for")

# %% [markdown]
# The network that answers all 16 numbers copies the noise beside the plane nearly without error. What it has not learned
# after 1,500 steps is the roll. The other one, which need not copy, is much further by then.
#
# The same with the data of the script, for two seeds and 2,000 samples. (The second network has only its part in the
# plane, also when it samples; since $x_0$ lies in the plane, nothing true is lost.)

# %%
print("target, part counted, steps: own error in the plane; beside the roll")
for first, second in zip(results["in_16"][::2], results["in_16"][1::2], strict=True):
    print(f"{first['prediction']:2}  {first['part']:5}  {first['steps']}:",
          f"{first['own_error']:.3f}, {second['own_error']:.3f};",
          f"{first['beside']:.0%}, {second['beside']:.0%}")

# %% [markdown]
# So nothing is out of reach of $v$ here: it needs more steps. After 1,500 of them 75 % of its points lie beside the roll,
# after 6,000 only 7 or 5 %. If just its part in the plane is asked for, 1,500 steps bring 20 or 34 %. In 512 dimensions more
# steps would not help a network without a skip (5.20).

# %% tags=["check"]
# @title ✓ More steps help v in 16 dimensions, and so does asking for less
slow = {(run["part"], run["steps"], run["seed"]): round(100 * run["beside"])
        for run in results["in_16"] if run["prediction"] == "v"}
assert [slow["all", 6000, k] for k in (0, 1)] == [7, 5]
assert [slow["plane", 1500, k] for k in (0, 1)] == [20, 34]
assert [slow["all", 1500, k] for k in (0, 1)] == [75, 75]
print("✓ beside: 75 %; 20 or 34 %, if asked for the plane; 7 or 5 % after 6,000 steps")

# %% [markdown]
# ## 6. Scores: two proofs
#
# [@song2019] ask a network $s_\theta$ for chapter 03's *score*,
#
# $$ s_\theta(x_t, t) \approx \nabla \log p_t(x_t) . \tag{5.13} $$
#
# It is the noise in another unit. By Tweedie's formula (3.12), and by $x_0 = (x_t - \sigma_t\,\epsilon)/\alpha_t$,
#
# $$ E[x_0 \mid x_t] = \frac{x_t + \sigma_t^2\, \nabla\log p_t(x_t)}{\alpha_t}
# = \frac{x_t - \sigma_t\, E[\epsilon \mid x_t]}{\alpha_t} . \tag{5.14} $$
#
# So a noise network gives a score:
#
# $$ s_\theta(x_t, t) = -\frac{\epsilon_\theta(x_t, t)}{\sigma_t} . \tag{5.15} $$

# %% [markdown]
# **Denoising score matching** ([@vincent2011]). How could one learn the score of an unknown density? Take the score of one
# Gaussian instead, around the picture that was noised. For any $s_\theta$
#
# $$ \begin{aligned}
# &E\,\big|s_\theta(x_t) - \nabla\log q(x_t\mid x_0)\big|^2 \\
# &\qquad = E\,\big|s_\theta(x_t) - \nabla\log p_t(x_t)\big|^2 + C .
# \end{aligned} \tag{5.16} $$
#
# *Proof.* Multiply out the left side. The mixed term,
# $-2\,s_\theta(x_t) \cdot \nabla\log q(x_t\mid x_0)$, depends on $x_0$ only through the mean of
# $\nabla\log q(x_t\mid x_0)$ over $q(x_0 \mid x_t)$, and that mean *is* $\nabla\log p_t(x_t)$, by the derivation of (3.12).
# So the mixed terms of both sides agree. $E|s_\theta|^2$ is on both, and the rest does not contain $s_\theta$.
# $\blacksquare$

# %% tags=["check"]
# @title ✓ Tweedie (5.14), and (5.15), against automatic differentiation
from minidiff import to_x0_eps

few = roll.sample(200, seeded(30)).requires_grad_()
slope, = torch.autograd.grad(roll.log_prob(few, 0.2, schedule).sum(), few)
(alpha, sigma), few = schedule(0.2), few.detach()
known = roll.denoise(few, 0.2, schedule)
assert torch.allclose((few + sigma**2 * slope) / alpha, known, atol=1e-8)
assert torch.allclose(-to_x0_eps("x0", known, few, 0.2, schedule)[1] / sigma, slope)
print("✓ the slope of the log density gives the best denoiser, at 200 points")

# %% tags=["check"]
# @title ✓ The constant in (5.16) is the same for three candidates
points = roll.sample(9000, seeded(32))
z, sigma = torch.randn(9000, 2, generator=seeded(33)).double(), schedule(0.2)[1]
at = add_noise(points, z, 0.2, schedule)
score = roll.score(at, 0.2, schedule)
for s in (0 * at, -at / 1.5):  # left minus right, less that of the exact score
    rest = (s + z / sigma) ** 2 - (s - score) ** 2 - (score + z / sigma) ** 2
    assert abs(rest.sum(1).mean()) < 4 * rest.sum(1).std() / 9000**0.5
print("✓ no score at all, that of a wide bell, the exact one: the same C, up to chance")

# %% [markdown]
# **Without any noise** a score can be learned too. [@hyvarinen2005]: by the product rule, and as $p$ vanishes far away,
#
# $$ \int p\; s_\theta\cdot\nabla\log p = \int s_\theta\cdot\nabla p = -\int p\;\mathrm{tr}\,\nabla s_\theta . $$
#
# The unknown product has become the trace of the matrix $\nabla s_\theta$ of the network's slopes. In many dimensions a
# trace costs as many derivatives. [@song2019sliced] find it with a random direction $r$ that has $E[r r^\top] = I$, since then
# $E\,[r^\top A\, r] = \mathrm{tr}\,A$. ([@hutchinson1989] took entries $\pm 1$; here they are normal.) Likewise $E (r^\top s)^2 = |s|^2$. Hence *sliced score matching*:
#
# $$ \begin{aligned}
# &E\Big[ r^\top \nabla s_\theta(x)\, r + \tfrac12 \big(r^\top s_\theta(x)\big)^2 \Big] \\
# &\qquad = \tfrac12 E\,\big|s_\theta(x) - \nabla\log p(x)\big|^2 - \tfrac12 E\,\big|\nabla\log p(x)\big|^2
# \end{aligned} \tag{5.17} $$
#
# The left side needs samples and automatic differentiation, no density.

# %%
def sliced(score, x, r):
    """Return the left side of (5.17) for each point x (B, D) and direction r (B, D)."""
    x = x.clone().requires_grad_()
    along = (r * score(x)).sum(1)  # (B,)
    slope, = torch.autograd.grad(along.sum(), x)
    return (r * slope).sum(1) + along.detach() ** 2 / 2


# %% tags=["check"]
# @title ✓ (5.17) for three candidates, on noisy points of the roll
from functools import partial

n, (z, r) = 9000, torch.randn(2, 9000, 2, generator=seeded(33)).double()
at_x = add_noise(roll.sample(n, seeded(32)), z, 0.2, schedule)
true = roll.score(at_x, 0.2, schedule)
exact = partial(roll.score, t=0.2, schedule=schedule)
for score in (torch.sin, lambda x: -x / 1.5, exact):
    plain = ((score(at_x) - true) ** 2 - true**2).sum(1) / 2
    gap = sliced(score, at_x, r) - plain
    assert 0 < abs(gap.mean()) < 4 * gap.std() / n**0.5
print("✓ a sine, a wide bell's, the exact one: both sides agree up to chance")

# %% [markdown]
# ## 7. Walking with the score: Langevin dynamics
#
# What is a score good for? One can *sample* with nothing else. Take small steps uphill, and shake (an equation of physics;
# [@welling2011] run it with gradients from mini-batches):
#
# $$ x_i = x_{i-1} + \frac{\delta}{2}\, \nabla \log p(x_{i-1}) + \sqrt{\delta}\; z_i, \qquad
# z_i \sim \mathcal N(0, I) \tag{5.18} $$
#
# After a long walk the points are distributed nearly as $p$, the more nearly the smaller $\delta$. With one hump this is
# quick.
#
# *Predict: two humps, a deep valley, all points start on the right one. 40 % belong on the left. How many are there after
# 2,000 steps?*

# %%
def langevin_walk(x, t, steps, delta, generator):
    for _ in range(steps):
        z = torch.randn(x.shape, generator=generator)
        x = x + delta / 2 * two.score(x, t, schedule) + delta**0.5 * z
    return x


begin = 0.8 * torch.ones(2000, 1)
stuck = langevin_walk(begin, 0.0, 2000, 0.005, seeded(35))
crossed = langevin_walk(begin, 0.3, 2000, 0.005, seeded(36))

# %%
alt = "Two histograms, each under a density."
picture, axes = plot.figure(alt, 2, width=7.0, height=2.9)
for ax, x, t in zip(axes, (stuck, crossed), (0.0, 0.3), strict=True):
    grid = torch.linspace(-3.5, 3.5, 401)[:, None]
    ax.hist(x[:, 0].numpy(), bins=60, density=True, alpha=0.5, label="walkers")
    ax.plot(grid, two.log_prob(grid, t, schedule).exp(), color="black", label="density")
    ax.set(title=f"t = {t}", xlabel="x")
axes[0].legend(fontsize=11)
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# Hardly anybody. Within its hump the walk has the right width, but the way to the other leads through a valley where nobody
# goes. The score says which way is up, and nothing about how high another hill is. At $t = 0.3$ noise has filled the
# valley, and the walk crosses.
#
# </details>

# %% tags=["check"]
# @title ✓ Stuck without noise, right with it
right_hump = stuck[stuck > -0.2]
assert (stuck < -0.2).double().mean() < 0.003 and abs(right_hump.std() - 0.2) < 0.02
alpha, sigma = schedule(0.3)
widths = (alpha**2 * 0.04 + sigma**2).sqrt()
cdf = torch.distributions.Normal(alpha * two.means[:, 0], widths).cdf(-0.2 * alpha)
share, exact = (crossed < -0.2 * alpha).double().mean(), (cdf * two.weights).sum()
assert abs(share - exact) < 0.033  # three standard errors
print(f"✓ on the left at t = 0.3: {share:.1f}, exact {exact:.1f}; without noise none")

# %% [markdown]
# There are two more reasons for noise ([@song2019]). **The manifold hypothesis**: pictures fill almost nothing of the space
# of pixels; they lie on a thin sheet. Beside it there is no density, and no slope. Take points exactly on a circle, and
# look at the score of the noisy circle as the noise gets small, at a fixed place beside it and where noisy data are. (`Empirical`
# is chapter 03's best denoiser of a set of points.)

# %%
from minidiff import Empirical

turn = torch.arange(2000) * 2 * torch.pi / 2000
circle = Empirical(2**0.5 * torch.stack([turn.cos(), turn.sin()], 1).double())


def steepness(x, t):
    alpha, sigma = schedule(t)
    score = (alpha * circle.denoise(x, t, schedule) - x) / sigma**2
    return float(score.norm(dim=1).mean())


# %%
few, eps = circle.data[:50], torch.randn(50, 2, generator=seeded(37)).double()
levels = [k / T for k in (1, 2, 4, 8, 16, 32)]
sigmas = torch.stack([schedule(t)[1] for t in levels])
fixed = torch.tensor([steepness(few * 1.1, t) for t in levels])
typical = torch.tensor([steepness(add_noise(few, eps, t, schedule), t) for t in levels])
plot.curves(sigmas, {"beside the circle": fixed, "where noisy data are": typical},
            "Two straight falling lines; that of a fixed place is twice as steep.",
            r"noise $\sigma$", "length of the score", xscale="log", yscale="log")

# %% tags=["check"]
# @title ✓ The score grows like 1 / sigma^2 beside the circle, like 1 / sigma on it
ratio = (sigmas[3] / sigmas[0]).log()
powers = [float((curve[0] / curve[3]).log() / ratio) for curve in (fixed, typical)]
assert abs(powers[0] - 2) < 0.1 and abs(powers[1] - 1) < 0.1
print(f"✓ powers of 1 / sigma: {powers[0]:.1f} and {powers[1]:.1f}")

# %% [markdown]
# The score of data on a sheet does not exist; that of noisy data does. And **empty space**: where there are no data,
# nothing is learned, and walks from noise begin just there. Noise widens the data until they cover it.

# %% [markdown]
# ## 8. Many noises
#
# So [@song2019] train one network for many noises $\sigma_1 > \dots > \sigma_n$, here added without shrinking, and walk with
# the largest first. Each noise has its weight $\lambda$:
#
# $$ \begin{aligned}
# \sum_{i} \lambda(\sigma_i)\; E\,\Big| s_\theta(x_0 + \sigma_i\epsilon,\ \sigma_i)
# + \frac{\epsilon}{\sigma_i} \Big|^2, \qquad \lambda(\sigma) = \sigma^2
# \end{aligned} \tag{5.19} $$
#
# Typical scores grow like $1/\sigma$, so $\lambda = \sigma^2$ brings all terms to one size. Multiply it in, with (5.15):
# the term is $|\epsilon - \epsilon_\theta|^2$. *Score matching over many noises, so weighted, is the simplified loss*, up
# to which noise levels are drawn how often. Their sampler, *annealed Langevin dynamics*, is (5.18) at one noise after the
# other, with $\delta$ in proportion to $\sigma^2$: in their settings $\sigma^2/5$, here $\sigma^2/10$. (The package's `langevin` serves schedules that shrink too: between two noises it
# stretches $x$ by $\alpha_s/\alpha_t$. At the end it denoises once.) Repeat the experiment that failed:

# %%
from minidiff import final, langevin, times


def best(x, t):
    return two.denoise(x, t, schedule)


widths = {}
for inner in (100, 10):  # steps at each noise
    walk = langevin(best, begin, times(100), schedule, inner, generator=seeded(41))
    annealed = final(walk)
    left, right = annealed[annealed < -0.2], annealed[annealed > -0.2]
    widths = widths | {inner: (left.std(), right.std())}
    print(f"{inner:3} steps: {len(left) / 2000:.1f} on the left, exact 0.4;",
          f"widths {left.std():.2f} and {right.std():.2f}, exact 0.20")

# %%
from minidiff import VarianceExploding

exploding, net = VarianceExploding(0.05, 5.0), MLP(MLPConfig()).double()
torch.nn.init.normal_(net.head.weight, generator=seeded(3))  # any network will do
any_denoiser = Denoiser(net.requires_grad_(False), exploding, "eps")

# %% tags=["check"]
# @title ✓ (5.19) is the simplified loss; annealing finds both hills
points, k = roll.sample(500, seeded(39)), torch.linspace(0.01, 1, 500).double()
z, sigma = torch.randn(500, 2, generator=seeded(40)).double(), exploding(k)[1][:, None]
x_t = points + sigma * z
score = (any_denoiser(x_t, k) - x_t) / sigma**2  # Tweedie, alpha = 1
song_ermon = (sigma**2 * (score + z / sigma) ** 2).mean(1)
ho = weight("eps", k, exploding) * denoising_loss(any_denoiser, points, z, k, exploding)
assert torch.allclose(song_ermon, ho) and ho.min() > 0
assert abs((annealed < -0.2).double().mean() - 0.4) < 0.04
assert max(abs(x - 0.2) for x in widths[100]) < 0.02 < min(widths[10]) - 0.2
print("✓ the two losses agree for a network of random weights, at 500 noises")

# %% [markdown]
# Nobody told the walk how high the hills are. Ten steps at each noise are few: the humps come out too wide. With a hundred
# they do not.

# %% [markdown]
# ## 9. More bugs
#
# **a.** A course draws its steps so; $T = 1000$, numbered from 0:
#
# ```python
# timesteps = torch.randint(0, 999, (x.shape[0],)).long().to(device)
# ```
#
# <details><summary>Answer</summary>
#
# The upper end is exclusive: the last step, nearly pure noise, is never trained, and sampling starts there. A cousin tells
# the network step $k - 1$ and adds the noise of step $k$: nothing crashes, and at the first steps the noise does not fit
# the time. The main line's check of Algorithm 1 sees both. (Hugging Face's course, [unit
# 2](https://github.com/huggingface/diffusion-models-class/blob/a5cd1fa214a74a45d0c17b546d52182a3b5e21ae/unit2/02_class_conditioned_diffusion_model_example.ipynb).)
#
# </details>
#
# **b.** A sampler, on a cosine schedule, whose $\bar\alpha_T$ is nearly or exactly 0:
#
# ```python
# x0 = (1 / alpha_bar).sqrt() * x_t - (1 / alpha_bar - 1).sqrt() * eps
# ```
#
# <details><summary>Answer</summary>
#
# Two huge numbers are subtracted: for $\bar\alpha = 10^{-10}$ an error of 0.001 in $\epsilon$ becomes one of 100 in $x_0$. Or
# two infinite ones: if $\bar\alpha$ is exactly 0, `nan` from the first step on, even for a perfect network, which answers
# $\epsilon = x_t$. Ask for $v$ instead. (MAR, [issue 36](https://github.com/LTH14/mar/issues/36): black pictures in the
# first epochs, `nan` by the author's guess.)
#
# </details>
#
# **c.** Langevin dynamics. There are two slips.
#
# ```python
# x = x - delta / 2 * score(x) + delta ** 0.5 * torch.rand_like(x)
# ```
#
# <details><summary>Answer</summary>
#
# The score points uphill, so it is added; and `rand` is never negative, so everything drifts. (A tutorial of ACIDS-IRCAM has
# [`rand`](https://github.com/acids-ircam/diffusion_models/issues/8) in its noise, and was asked about [a lost
# sign](https://github.com/acids-ircam/diffusion_models/issues/11) in its formula of score matching.)
#
# </details>

# %% tags=["check"]
# @title ✓ b magnifies, then is nan; c leaves the bell
x_t, said = torch.randn(2, 4, generator=seeded(2)).double()
found, bar = [], torch.tensor([1e-10, 1e-10, 0.0]).double()[:, None]
eps = torch.stack([said, said + 1e-3, x_t])  # the last is perfect where bar is 0
x = (1 / bar).sqrt() * x_t - (1 / bar - 1).sqrt() * eps
assert torch.allclose(x[0] - x[1], 100 + 0 * x_t) and x[2].isnan().all()
for sign, dice in ((1, torch.randn), (1, torch.rand), (-1, torch.randn)):
    x, generator = torch.randn(5000, generator=seeded(3)), seeded(4)
    for _ in range(100):  # the score of a standard bell is -x
        x = x - sign * 0.05 * x + 0.1**0.5 * dice(x.shape, generator=generator)
    found.append(abs(x.mean()) < 0.1 and abs(x.var() - 1) < 0.1)
assert found == [True, False, False]
print("✓ only the right Langevin walk keeps mean 0 and variance 1")

# %% [markdown]
# ## 10. A skip for $\epsilon$, and two short runs
#
# The main line's networks in 512 dimensions cannot say noise (5.20). With a *skip* the answer is
# $\mathrm{net}(x_t, t) + g(t)\,x_t$, and (5.20) does not hold. Take $g = \sigma_t$ for $\epsilon$. As
# $\alpha_t^2 + \sigma_t^2 = 1$, the network must still say
#
# $$ \epsilon - \sigma_t x_t = (1 - \sigma_t^2)\,\epsilon - \sigma_t \alpha_t x_0 = \alpha_t v . $$
#
# Off the plane $x_0 = 0$, so this is $\alpha_t^2\,\epsilon$. Its mean square is not 1 but
# $E[\alpha_t^4] = E[\cos^4(\pi t/2)] = 3/8$.
#
# *Predict: without a skip the loss ends at 0.752. Where does it end with this one?*

# %%
class Skip(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, t, cond=None):
        return self.net(x, t, cond) + Cosine()(t)[1].float()[:, None] * x


plane_512 = torch.linalg.qr(torch.randn(512, 2, generator=seeded(0)))[0]


# %%
def train_in_512(denoiser, by, steps=400):  # as in the main line, section 6
    adam, generator = torch.optim.Adam(denoiser.parameters(), 3e-3), seeded(0)
    rate = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: 1 - i / steps)
    for _ in range(steps):
        x0 = thin.sample(256, generator) @ plane_512.T
        eps = torch.randn(x0.shape, generator=generator)
        t = 0.02 + 0.96 * sample_times(256, generator, start=0.0)
        error = denoising_loss(denoiser, x0, eps, t, Cosine())
        loss = (weight(by, t, Cosine()) * error).mean()
        adam.zero_grad(), loss.backward(), adam.step(), rate.step()
        yield float(loss.detach())


# %%
def wide():
    torch.manual_seed(0)
    return MLP(MLPConfig(dim=512, width=128))


skipped = list(train_in_512(Denoiser(Skip(wide()), Cosine(), "eps"), "eps"))
print(f"loss of eps with a skip {sum(skipped[-50:]) / 50:.2f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# At $0.752 \cdot 3/8 = 0.28$.
#
# </details>
#
# **And $x_0$, without a skip, in as many steps?** No floor stands in its way:

# %%
from minidiff import ddpm, final, times

says_x0 = Denoiser(wide(), Cosine(), "x0")
x0_losses = list(train_in_512(says_x0, "v"))
noise = torch.randn(400, 512, generator=seeded(1))
ts = torch.cat([times(50, 0.98, 0.02), torch.zeros(1).double()])
live = final(ddpm(says_x0.eval(), noise, ts, Cosine(), seeded(2)))
off_plane = (live - live @ plane_512 @ plane_512.T).norm(dim=1).mean()
print(f"samples of x0 are {off_plane:.2f} off the plane, pure noise {510**0.5:.1f};",
      f"{share_beside(live @ plane_512):.0%} beside the roll")

# %% tags=["check"]
# @title ✓ eps with a skip ends below its floor; x0 finds the plane first
u = (torch.arange(1000) + 0.5) / 1000
assert abs((Cosine()(u)[0] ** 4).mean() - 3 / 8) < 1e-6
clean = thin.sample(100, seeded(3)) @ plane_512.T
z = torch.randn(100, 512, generator=seeded(4))
(a, b), v = Cosine()(0.4), Cosine()(0.4)[0] * z - Cosine()(0.4)[1] * clean
assert torch.allclose(z - b * (a * clean + b * z), a * v, atol=1e-5)
expect([0.27 < sum(skipped[-50:]) / 50 < 0.29, off_plane < 0.2,
        0.3 < share_beside(live @ plane_512) < share_beside(bell)],
       "with a skip eps ends at 0.28; x0 has found the plane, not yet the roll")

# %% [markdown]
# $x_0$ has found the plane. In the main line's opening, after 1,500 steps, it has the roll too.

# %% [markdown]
# ## References
#
# {references}
