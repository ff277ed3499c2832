# %% [markdown]
# # 00 · Start here
#
# **What does a diffusion model do?** It turns noise into pictures. In this notebook you watch one do it, ask it
# for the pictures you want, and learn how to work through the rest of the course.
#
# **You will build** nothing yet: you will use a model that trained for a quarter of an hour on one core of a CPU.
# By the end of the course you will have derived every line that runs here.
#
# **You need** two CPU cores, 1 GB of memory and about half a minute. No GPU, no network.
#
# Run the cells from top to bottom with Shift + Enter. First, is everything there?

# %% tags=["nbval-ignore-output"]
from minidiff.course.doctor import examine

examine()

# %% [markdown]
# Each line is one check: Python and its packages, Jupyter and its kernel, the machine, the data files, and five seconds
# of real training. The final `0` says that nothing failed. `warn` is good to know; a line that starts with `FAIL` has
# to be mended. Both say what to do.
#
# ## 1. A picture out of noise
#
# The model ships with the course. It has seen 10,000 small photographs of clothes (Fashion-MNIST) and learned one thing:
# **given a noisy picture, guess the clean one.** Such a guesser is called a *denoiser*.

# %%
import torch

from minidiff import Cosine, cfg, dpmpp_2m, final, times
from minidiff.app.checkpoint import load_denoiser
from minidiff.course.plot import images
from minidiff.data import load, shipped

# %%
denoiser, about = load_denoiser(shipped("fashion.safetensors"))
classes = about["classes"]
print(classes)

# %% [markdown]
# *Predict: what will the model draw if all it is given is noise and the ten names above?*
#
# We draw ten pictures of pure noise, 32 by 32 pixels each, and ask for one piece of clothing of each class.

# %%
noise = torch.randn(10, 1, 32, 32, generator=torch.Generator().manual_seed(0))
wanted = torch.arange(10)
images(noise, alt="Ten squares of grey noise; nothing can be seen in them.", titles=classes)

# %%
guided = cfg(denoiser, wanted, null=10, w=2.0)
pictures = final(dpmpp_2m(guided, noise, times(25), denoiser.schedule))
images(pictures, alt="Ten pieces of clothing, one of each class, as small grey photographs.", titles=classes)

# %% [markdown]
# Ten pieces of clothing that nobody has ever photographed. Two lines did it, and each word in them is a chapter:
#
# | in the code | what it does | chapter |
# |---|---|---|
# | `denoiser` | guesses the clean picture from a noisy one | 05 to 07 |
# | `cfg(..., w=2.0)` | leans towards the class that was asked for | 09 |
# | `times(25)` | 25 steps, from $t = 1$ (noise) down to $t = 0$ (data) | 02 |
# | `dpmpp_2m` | one of several ways to take those steps | 03, 08 |
# | `denoiser.schedule` | how much picture and how much noise there is at time $t$ | 02 |
#
# Is it true that nobody has photographed them? A model could cheat and return pictures that it was trained on.
# For each picture we look for its nearest neighbour among the 10,000 training pictures.

# %%
from minidiff.app.metrics import nearest

training = load("fashion").tensor()
distance, index = nearest(pictures, training)
pairs = torch.cat([pictures, training[index]])
images(pairs, alt="Above the ten generated pictures, below the closest training picture of each: alike, not equal.")

# %% [markdown]
# Above what was drawn, below the closest training picture: related, but not the same. In numbers, with real pictures
# that are not among the 10,000 for comparison (the Euclidean distance over all pixels; a copy would have 0):

# %%
unseen, _ = nearest(load("fashion", "test").tensor(slice(0, 100)), training)
assert distance.min() > 1 and 0.5 < distance.median() / unseen.median() < 2
print(f"generated: {distance.median():.1f} from the closest, unseen real ones: {unseen.median():.1f}")

# %% [markdown]
# ## 2. Watch it happen
#
# A sampler is a generator: after each step it yields where it is (`x`), and the clean picture in which the denoiser
# believed at that moment (`x0`).
#
# *Predict: after the very first step, when there is nothing but noise to look at, what is the denoiser's best guess?*

# %%
states = list(dpmpp_2m(guided, noise, times(25), denoiser.schedule))
strip = torch.cat([states[k].x0[[0, 1, 5, 8, 9]] for k in (0, 3, 8, 14, 19, 24)])
images(strip, columns=5, alt="Six rows: soft averages that sharpen row by row into clothes.")

# %% [markdown]
# The first row is a guess made from noise alone: a blurred average of all the T-shirts, trousers, sandals, bags and
# boots there are. That is no fault. *The average is the best guess that exists when nothing is known* (chapter 03
# proves it), and as the noise goes, the average is taken over fewer and fewer pictures that are still possible, until one
# is left.

# %%
from minidiff.course.widgets import film

alt = "Above, noise turning into clothes; below, the guess getting sharper."
frames = [images(torch.cat([s.x, s.x0]), alt) for s in states]
film(frames[::2] + frames[-1:], ms=160)

# %% [markdown]
# Above the picture on its way, below the guess at that moment.
#
# ## 3. Ask for something
#
# The number `w` says how strongly the model listens to the label: `w = 0` not at all, `w = 1` just as it was taught, and
# more than 1 exaggerates. Move the sliders (where this page is only being read, you see their first position).

# %%
import ipywidgets

from minidiff.course.widgets import explore


def draw(label, w):
    noise = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    guided = cfg(denoiser, torch.full((8,), label), 10, w)
    x = final(dpmpp_2m(guided, noise, times(12), denoiser.schedule))
    return images(x, alt=f"Eight samples of class {classes[label]} with guidance {w}.", columns=8)


names = [(name, k) for k, name in enumerate(classes)]
label = ipywidgets.Dropdown(options=names, value=8, description="class")
w = ipywidgets.FloatSlider(2.0, min=0, max=5, step=0.5, description="w", continuous_update=False)
_ = explore(draw, label=label, w=w)

# %% [markdown]
# Eight bags from eight different noises. At `w = 0` the label means nothing and you get a mixed wardrobe; at `w = 5` all bags
# look like the bag of bags. Chapter 09 explains what is traded here, and measures it.
#
# ## 4. The notation of this course
#
# Papers and codebases write the same things in a dozen ways, and that is where most mistakes come from. This course has one
# notation; here it is, for looking up. You need none of it before chapter 02. First the letters of the code, on a clock
# that runs from 0 to 1:
#
# | symbol | in code | meaning | chapter |
# |---|---|---|---|
# | $x_0$ | `x0` | a clean picture, values in $[-1, 1]$ | 02 |
# | $\epsilon$, $z$ | `eps`, `z` | noise, every value standard normal; $z$ where it is freshly drawn | 02 |
# | $t$, $s$ | `t`, `s` | time from 0 (data) to 1 (noise); $s$ is nearer to the data, $s < t$ | 02 |
# | $\alpha, \sigma$ | `alpha, sigma` | how much picture and how much noise $x_t$ holds: $x_t = \alpha x_0 + \sigma \epsilon$ | 02 |
# | $\alpha_{ts}, \sigma_{ts}$ | `transition` | the same from time $s$ to time $t$: $x_t = \alpha_{ts} x_s + \sigma_{ts} z$ | 02 |
# | SNR | `log_snr` | signal-to-noise ratio, $\alpha^2 / \sigma^2$ | 02 |
# | $q$, $p_\theta$ | | what the noise really does; what the model, with weights $\theta$, believes | 02, 04 |
# | $p_t(x)$ | `log_prob` | the true density of $x_t$ | 03 |
# | $\hat x_0$ | `denoise(x, t)` | the denoiser's guess at $x_0$; the best is the mean $E[x_0 \mid x_t]$ | 03 |
# | $y = a x_0 + b \epsilon$ | `target_coefficients` | what the network is asked to predict: $x_0$, $\epsilon$, $v$, the velocity or the score | 05 |
# | $w(t)$ | `weight` | weight of the squared error at time $t$ | 05 |
# | $s(x, t) = \nabla \log p_t(x)$ | `score` | the score, the slope of the log density | 05 |
# | $w$ | `w` | guidance: 0 ignores the label, 1 is plain | 09 |
# | $z = \mathrm{enc}(x)$ | `encode` | the code of a picture ($z$ is no noise from chapter 10 on) | 10 |
# | $f$, $c$ | `factor`, `latent_channels` | how many times narrower a code is than its picture, and its channels | 10 |
# | scale | `fit_scale` | brings codes to a standard deviation of 1 | 11 |
# | $Q, K, V$ | `CrossAttention` | what pixels ask, what words offer, and what they answer | 06, 12 |
#
# Chapters 02 to 05 derive everything in the letters of the papers, which count *steps* $t = 1, \ldots, T$:
#
# | symbol | in code | meaning | chapter |
# |---|---|---|---|
# | $\beta_t$, $\alpha_t = 1 - \beta_t$ | `betas`, `alphas` | variance of the noise added in step $t$, and what is left of the picture's | 02 |
# | $\bar\alpha_t$ | `alpha_bar` | $\alpha_1 \alpha_2 \cdots \alpha_t$. **Our $\alpha$ is its root**, $\alpha(t / T) = \sqrt{\bar\alpha_t}$ | 02 |
# | $\tilde\mu_t, \tilde\beta_t$ | `posterior` | mean and variance of the step back for one who knows $x_0$ | 03 |
# | $\mu_\theta, \sigma_t^2$ | | mean and variance of the model's step back | 04 |
# | $L_T, L_{t-1}, L_0$ | `vlb_terms` | the terms of the variational bound | 04 |
#
# And how it translates:
#
# | there | theirs | ours |
# |---|---|---|
# | DDPM (Ho et al. 2020) | $\alpha_t = 1 - \beta_t$; steps $t = 1, \ldots, T$ | $\alpha = \sqrt{\bar\alpha_t}$ at time $t / T$ |
# | DDIM (Song et al. 2020) | their $\alpha_t$ is DDPM's $\bar\alpha_t$ | $\alpha = \sqrt{\alpha_t}$ |
# | score SDE (Song et al. 2021) | $\beta(t)$; the score $\nabla \log p_t(x_t)$ | $\alpha = \exp(-\frac{1}{2} \int \beta)$; score $= -\epsilon / \sigma$ on average |
# | EDM (Karras et al. 2022) | $x = x_0 + \sigma n$, nothing shrinks | $\sigma_\text{EDM} = \sigma / \alpha$, $x_\text{EDM} = x_t / \alpha$ |
# | flow matching (Lipman et al. 2023) | $t = 0$ is noise; $x_1$ is data; velocity $x_1 - x_0$ | time $1 - t$; velocity with the other sign |
# | diffusers | `alphas_cumprod[k]`; `prediction_type`: `epsilon`, `sample`, `v_prediction`; `guidance_scale` | $\alpha^2$ at time $(k + 1) / T$; `eps`, `x0`, `v`; $w$ |
# | denoising-diffusion-pytorch | `alphas_cumprod[k]`; `objective`: `pred_noise`, `pred_x0`, `pred_v`; `cond_scale` | the same as diffusers; $w$ |
# | Stable Diffusion's configs | `linear_start`, `linear_end`; `unconditional_guidance_scale`; `scale_factor` | `scaled_linear_betas`; $w$; chapter 11 |
#
# (diffusers and denoising-diffusion-pytorch count steps from 0, so their index $k$ is DDPM's step $k + 1$.) A table can
# lie, so its formulas are checked. The first two rows:

# %%
from minidiff import FromBetas, linear_betas

betas = linear_betas(1000)
alpha_bar = (1 - betas).cumprod(0)  # what DDIM calls alpha, and diffusers alphas_cumprod
alpha, sigma = FromBetas(betas)(torch.arange(1, 1001, dtype=torch.float64) / 1000)
assert torch.allclose(alpha**2, alpha_bar) and torch.allclose(sigma**2, 1 - alpha_bar)

# %% [markdown]
# The score SDE: $\alpha$ is the exponential of minus half the integral of $\beta(t) = 0.1 + 19.9\, t$, here as a plain sum.

# %%
from minidiff import LinearBeta

u = torch.linspace(0, 0.5, 100_001, dtype=torch.float64)
integral = torch.trapezoid(0.1 + 19.9 * u, u)
assert torch.isclose(LinearBeta()(0.5)[0], torch.exp(-integral / 2))

# %% [markdown]
# EDM: dividing by $\alpha$ gives a picture that does not shrink, with noise of size $\sigma / \alpha$.

# %%
from minidiff import add_noise

x0, eps = training[:4], torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(2))
alpha, sigma = Cosine()(0.6)
assert torch.allclose(add_noise(x0, eps, 0.6, Cosine()) / alpha, x0 + sigma / alpha * eps, atol=1e-5)

# %% [markdown]
# Flow matching: the same straight line walked the other way, so the velocity changes its sign. There $x_1$ is the data.

# %%
from minidiff import Flow, target

x_1, x_0 = x0, eps  # flow matching's names
theirs, ours = 0.3, 1 - 0.3
assert torch.allclose(theirs * x_1 + (1 - theirs) * x_0, add_noise(x0, eps, ours, Flow()), atol=1e-6)
assert torch.allclose(x_1 - x_0, -target("velocity", x0, eps, ours, Flow()))

# %% [markdown]
# ## 5. How to work
#
# Each chapter asks a question, derives the answer as formulas, writes the formulas as code, and **checks the code
# against something that does not know the formula**: a simulation, a numerical integral, another library, a number from
# the paper. Cells that begin with `assert` are such checks. Break one on purpose now and then; that is how one learns what
# it holds together.
#
# - **Predict before you run.** The line in italics asks for a guess. A wrong guess is worth more than a read answer.
# - **Notebooks and package are one.** A chapter derives a slow version of a function, shows that it equals the one in
#   `minidiff`, shows the source of that one, and goes on with it. Nothing is hidden: every module is short enough to read.
# - **Exercises** check themselves and never stop the notebook. Try one:

# %%
from minidiff.course import check


def signal_to_noise(alpha, sigma):
    """alpha squared over sigma squared."""
    ### BEGIN SOLUTION
    return alpha**2 / sigma**2
    ### END SOLUTION


t = torch.linspace(0.1, 0.9, 9)
right = [(a / s) ** 2 for a, s in zip(*Cosine()(t), strict=True)]
check(signal_to_noise, lambda *_: torch.stack(right), [Cosine()(t)], hint="square both, then divide")

# %% [markdown]
# The chapters so far:
#
# | | | time on two CPU cores |
# |---|---|---|
# | 00 | Start here | half a minute |
# | [01](01_generative_models.ipynb) | Generative models: GAN, VAE, flow and diffusion in a race | a bit over one minute |
# | [02](02_forward_diffusion.ipynb) | Forward diffusion: how pictures become noise | half a minute |
# | [03](03_reverse_diffusion.ipynb) | Reverse diffusion: why and how one can go back | half a minute |
# | [04](04_variational_bound.ipynb) | The variational bound: how good is such a model? | half a minute |
# | [05](05_simplified_loss.ipynb) | The simplified loss: from the bound to one line of training | a bit over one minute |
# | [06](06_unet.ipynb) | The U-Net: a network for pictures, part by part, and what each part buys | three quarters of a minute |
# | [07](07_training.ipynb) | Training: from random numbers to clothes in three minutes | four minutes |
# | [08](08_sampling.ipynb) | Sampling: many ways down, how many steps, and what goes wrong | two minutes and a half |
# | [09](09_guidance.ipynb) | Guidance: how to ask for a boot, and why asking harder helps until it hurts | two minutes and a half |
# | [10](10_autoencoders.ipynb) | Autoencoders: what is worth keeping of a picture, and what it costs | two minutes |
# | [11](11_latent_diffusion.ipynb) | Latent diffusion: the same training, on codes | three minutes and a half |
# | [12](12_text_to_image.ipynb) | Text to image: a sentence becomes a picture; is it the right one? | three minutes and a half |
# | [13](13_evaluation.ipynb) | Evaluation: is it any good, and how would one know? | two minutes and a half |
#
# And to train a model like the one that you have just used, from nothing, in three minutes, in a terminal:
#
# ```
# python -m minidiff train --data fashion --seconds 180 --out runs/fashion
# python -m minidiff sample runs/fashion --n 64 --out samples.png
# ```
#
# ## What to keep
#
# - A diffusion model is a **denoiser** and a way to use it many times.
# - At the start its best guess is an average; with each step less is possible, until one picture is left.
# - Noise in, picture out: the same noise and the same label give the same picture again.
# - One notation, one translation table: come back to section 4 whenever a paper confuses you.
