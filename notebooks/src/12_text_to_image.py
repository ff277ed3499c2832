# %% [markdown]
# # 12 · Text to image
#
# **How does a sentence steer a picture, and does the model understand it, or merely remember?** A label is one of ten
# boxes to tick. A sentence is put together from parts, and there are more sentences than pictures to learn from. So a
# model that draws what a *new* sentence says must have taken sentences apart.
#
# **You will build** a vocabulary, vectors that know their neighbours, the layer through which pixels ask words, and a
# judge that reads pictures and cannot be flattered. With it you train a small model live until it draws what
# it is told, and put a larger one to the test: on sentences that no one has ever shown it, on pairs of words that
# never stood side by side, and on your own.
#
# **You need** chapters 06, 09 and 11. The notebook takes about three and a half minutes, two of which are training, and
# 1.3 GB of memory.

# %%
from dataclasses import replace

import torch

from minidiff import Cosine, Denoiser, add_noise, cfg
from minidiff.app.generate import Sampling
from minidiff.app.models import load_trained
from minidiff.course import plot
from minidiff.data import shipped

# %%
SECONDS = 125  # of live training, in section 6


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %%
model, about = load_trained(shipped("scenes-latent-text.safetensors"))
model = replace(model, sampling=Sampling())  # DPM-Solver++(2M) in 25 steps, w = 2
wishes = ["a red circle left of a blue square", "a blue square left of a red circle", "a small black star",
          "a green triangle above a yellow star", "a purple square below a black circle and right of a red triangle"]
drawn = model.sample(model.prompts(wishes), seed=1)

# %%
def framed(x, factor=1):
    """Pictures to look at: enlarged, a grey line around each, in 17 levels of each colour (such files are small)."""
    big = (x.clamp(-1, 1) * 8).round().div(8).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return torch.nn.functional.pad(big, (1, 1, 1, 1), value=0.6)


def broken(sentence, width=21):
    """A sentence in lines of at most so many letters."""
    lines = [""]
    for word in sentence.split():
        fits = len(lines[-1]) + len(word) < width
        lines = [*lines[:-1], f"{lines[-1]} {word}".strip()] if fits else [*lines, word]
    return "\n".join(lines)


# %%
alt = "Five pictures of coloured shapes on white, each below the sentence that asked for it."
plot.strips({"": framed(drawn, 2)}, alt, [broken(wish) for wish in wishes])

# %% [markdown]
# Five sentences, five pictures, drawn just now, the first that came. (If one of them is wrong, so much the better: we
# shall count how often that happens.) By the end of the chapter you will know every part of what lies between.
#
# ## 1. Sentences and pictures
#
# To find out whether a model understands, one must know for certain what is true of a picture. So our pictures come
# with their truth: a program throws dice for a *scene*, then writes its sentence and paints its picture. One to three
# shapes lie on white, each with one of six colours and one of two sizes. The first is named, and each other one is
# put in relation to it.

# %%
from minidiff.data.scenes import HELD_OUT, caption, render, sample_scene

scenes = [sample_scene(seeded(k)) for k in range(6)]
pictures = torch.stack([render(scene) for scene in scenes])
scenes[0]

# %%
alt = "Six pictures of one to three coloured shapes on white, and their sentences, as the program wrote them."
plot.strips({"": framed(pictures, 2)}, alt, [broken(caption(s)) for s in scenes])

# %% [markdown]
# Four pairs of words are **held out**: in all the training there was never a red star, though there were red circles
# and green stars enough.

# %%
generator = seeded(0)
learned = [sample_scene(generator) for _ in range(20_000)]  # the scenes of the training set
shown = {(item.colour, item.shape) for scene in learned for item in scene.items}
assert len(shown) == 20 and not shown & set(HELD_OUT)
print("never shown:", ", ".join(" ".join(pair) for pair in HELD_OUT))

# %% [markdown]
# How many sentences are there? Twenty pairs in two sizes are 40 nouns. A second one has four relations and 38 nouns
# to choose from (no pair comes twice), a third one has 36. *Predict: what share of new sentences with three items
# stands somewhere among the 20,000 that the model was trained on?*

# %%
sentences = [40, 40 * 4 * 38, 40 * 4 * 38 * 4 * 36]
known = {caption(scene) for scene in learned}
fresh = [sample_scene(generator) for _ in range(3000)]  # the same dice, thrown on: none of these was in the training
old = {n: [caption(s) in known for s in fresh if len(s.items) == n] for n in (1, 2, 3)}

# %%
share = {n: sum(found) / len(found) for n, found in old.items()}
assert share[1] == 1 and 0.5 < share[2] < 0.8 and share[3] < 0.03
print("sentences:", sentences, "  share seen before:", {n: f"{s:.0%}" for n, s in share.items()})

# %% [markdown]
# Of one item all sentences are known, of two most, of three next to none: there are nearly a million, and training
# showed a hundredth of them. Whoever draws those right did not look them up.
#
# ## 2. From words to vectors
#
# A network reads numbers. The oldest step is the plainest: list all words, and number them. `Vocabulary` keeps the list
# and the length of the longest sentence. Number 0 is the **blank**, with which shorter ones are filled up.

# %%
vocabulary = model.vocabulary
tokens = model.prompts(["a red circle left of a blue square", ""])
assert vocabulary.decode(tokens) == ["a red circle left of a blue square", ""]
print(len(vocabulary.words), "words:", *vocabulary.words)
print(tokens)

# %% [markdown]
# These numbers are called *tokens*. (Large systems cut rare words into pieces, so that thirty to fifty thousand tokens
# spell anything. With 18 words we need not.) The second sentence, with nothing but blanks, is the **empty prompt**: our
# null label. What cannot be read is refused, and the message says what can:

# %%
for wrong in (["a pink circle"], "a red circle", ["a red circle " * 6]):
    try:
        model.prompts(wrong)
    except ValueError as error:
        print(broken(str(error), 110))

# %% [markdown]
# The second is a classic: a string is a list of letters, and would become a batch of twelve prompts.
#
# ### The bag of words, and why it is not enough
#
# Each token gets a vector to be learned, $E_k$. The quickest way to one vector for the sentence is the sum. *Predict:
# which of these four sentences can it tell apart?*

# %%
four = ["a red circle left of a blue square", "a blue circle left of a red square",
        "a red square left of a blue circle", "a blue square left of a red circle"]
table = torch.randn(len(vocabulary), 8, generator=seeded(0))  # any vectors at all
sums = table[model.prompts(four)].sum(1)  # (4, 8)
assert torch.allclose(sums, sums[:1].expand(4, 8), atol=1e-5)

# %% [markdown]
# None. They hold the same words, and a sum forgets the order: four different pictures, one vector. A model behind this
# vector is right at most once in four times, whatever it does.
#
# So let each vector know its place $j$, by a second learned vector $P_j$. That is still not enough: `red`, in second
# place, would have one vector in the first and in the third sentence, yet once it colours a circle and once a square.
# *A word must look at its neighbours.* We know a layer for that: attention (6.10), between words this time, and after
# it a small network for each word by itself. Two such blocks after each other are our **transformer** (Vaswani et al.
# 2017), and what it makes of the tokens $k_1, \dots, k_L$ is one vector $y_j$ for each word:
#
# $$ (y_1, \dots, y_L) = \mathrm{Transformer}\big(E_{k_1} + P_1,\ \dots,\ E_{k_L} + P_L\big) \tag{12.1} $$
#
# The formula in code, with the weights of the trained model, one head and one word at a time:

# %%
encoder = model.denoiser.net.embed.text_encoder


def one_block(block, x):
    """Words x (L, width): each looks at all, then is thought over by itself."""
    q, k, v = block.qkv(block.norm1(x)).unflatten(1, (3, block.heads, -1)).permute(1, 2, 0, 3)  # (heads, L, d) each
    found = torch.zeros(len(x), block.heads, q.shape[-1])
    for j in range(len(x)):
        for head in range(block.heads):
            looks = torch.softmax(k[head] @ q[head, j] / q.shape[-1] ** 0.5, 0)  # at each of the L words
            found[j, head] = looks @ v[head]
    x = x + block.out(found.flatten(1))
    return x + block.fc2(torch.nn.functional.gelu(block.fc1(block.norm2(x))))


# %%
x = encoder.token(tokens[0]) + encoder.position.weight  # (L, width)
for block in encoder.blocks:
    x = one_block(block, x)

# %%
y = encoder(tokens)  # (2, L, width)
assert torch.allclose(encoder.norm(x), y[0], atol=1e-4)
print("a sentence:", tuple(y[0].shape))

# %% [markdown]
# Blanks are words like any other: they have a vector, they look and are looked at, and so no mask is needed. (Stable
# Diffusion does it in the same way: every prompt is filled up to 77 tokens, and the picture looks at all of them.)
#
# Each of the three parts is needed. Without places, a swap of words merely swaps their vectors. Without blocks, `red`
# does not know what it colours. With both, no two of the four sentences are alike:

# %%
from minidiff.nets.text import TextConfig, TextEncoder


def fresh_encoder(layers, places=True):
    torch.manual_seed(0)
    new = TextEncoder(TextConfig(len(vocabulary), vocabulary.length, layers=layers)).requires_grad_(False)
    new.position.weight.mul_(float(places))
    return new(model.prompts(four))  # (4, L, width)


# %%
no_places, no_blocks, both = fresh_encoder(2, places=False), fresh_encoder(0), fresh_encoder(2)

# %%
assert torch.allclose(no_places.mean(1), no_places[:1].mean(1).expand(4, -1), atol=1e-5)  # a bag again
assert torch.equal(no_blocks[0, 1], no_blocks[2, 1])  # "red" of "red circle" and of "red square"
assert (both[0, 1] - both[2, 1]).norm() > 1e-3 and torch.pdist(both.mean(1)).min() > 1e-3

# %% [markdown]
# Does the trained transformer make use of it? Ask the vectors. The one of `circle`: which colour do you have? The
# colour stands in another token; only by looking there can the noun know. And the one of `red`: what is it that you
# colour? Our probe is a linear map from a word's vector to the possible answers, fitted by least squares on one half
# of the sentences and tried on the other.

# %%
from minidiff.data.scenes import COLOURS, SHAPES

texts = [caption(scene) for scene in fresh[:1200]]
tokens, words_of = model.prompts(texts), [text.split() for text in texts]

# %%
nouns = [(i, j) for i, words in enumerate(words_of) for j, word in enumerate(words) if word in SHAPES]
row, place = torch.tensor(nouns).T
colour_of = torch.tensor([list(COLOURS).index(words_of[i][j - 1]) for i, j in nouns])  # the word before the noun
shape_of = torch.tensor([list(SHAPES).index(words_of[i][j]) for i, j in nouns])


# %%
def probe(vectors, truth):
    """Share of words whose partner a linear map of their vectors (N, width) tells."""
    x, half = torch.cat([vectors, torch.ones(len(vectors), 1)], 1), len(vectors) // 2
    linear = torch.linalg.lstsq(x[:half], torch.nn.functional.one_hot(truth[:half]).float()).solution
    return float(((x[half:] @ linear).argmax(1) == truth[half:]).float().mean())


# %%
knows = {}
for when, y in (("before", encoder.token(tokens) + encoder.position.weight), ("after", encoder(tokens))):
    knows[when] = probe(y[row, place], colour_of), probe(y[row, place - 1], shape_of)

# %%
assert max(knows["before"]) < 0.4 and max(knows["after"]) > 0.5

# %%
for when, (by_noun, by_colour) in knows.items():
    print(f"{when} the transformer: nouns know their colour {by_noun:.0%}, colours know their noun {by_colour:.0%}")

# %% [markdown]
# Before, they can only guess (a little better than one in six and one in four: each shape was never shown in one of
# the colours, and the probe knows). After it, they tell. Nobody asked for that: the model was trained to paint, and
# to paint one must know which colour belongs to which shape. This is called **binding**, and much of this chapter is
# about it.
#
# ## 3. From words to pixels
#
# Now there is a vector for each word, and a picture that is being denoised. How should the one hear the other?
#
# ### Failure first: one vector for everything
#
# The way of chapter 09 would be: make *one* vector of the sentence, and add it at every pixel as the label was added.
# What can go wrong? The smallest possible world: a picture has two places, one where a circle is forming and one with
# a square. A sentence says which colour each has, and all thirty choices of two different colours occur. The
# network has some vector $f_p$ for what is at the place and adds some vector $g_s$ of the sentence, and from the sum a
# linear layer reads the colour. It may choose *any* vectors it likes, one for each of the sentences:

# %%
from itertools import permutations

rgb = torch.tensor(list(COLOURS.values())) / 255
choices = list(permutations(range(6), 2))  # colour of the circle, colour of the square
wanted = rgb[torch.tensor(choices)].transpose(0, 1)  # (2 places, 30 sentences, 3)

# %%
added = wanted.mean(1, keepdim=True) + wanted.mean(0, keepdim=True) - wanted.mean((0, 1))  # best f + g there is
missed = float((added - wanted).square().sum() / (wanted - wanted.mean((0, 1))).square().sum())

# %% [markdown]
# (The best sum $f_p + g_s$ in the sense of least squares is row mean plus column mean minus overall mean. Here it is
# once more, by a solver that knows nothing of that.)

# %%
onehot = torch.cat([torch.eye(2).repeat_interleave(30, 0), torch.eye(30).repeat(2, 1)], 1)  # place, sentence
solved = onehot @ torch.linalg.pinv(onehot) @ wanted.flatten(0, 1)
assert torch.allclose(solved, added.flatten(0, 1), atol=1e-5) and 0.4 < missed < 0.7
print(f"{missed:.0%} of what there is to know is missed")

# %% [markdown]
# The reason fits in a line. In a sum, circle minus square is $f_\circ - f_\square$, *the same for all sentences*. But
# "red circle, blue square" and "blue circle, red square" want opposite differences. So both places get the mean of the
# two colours. What is needed is a place that *chooses* what it listens to.
#
# ### Pixels ask, words answer
#
# **Cross-attention** gives each pixel a question and each word two things, a key by which it is found and a value which
# it has to say. Pixel $p$ has the vector $h_p$; from it a matrix makes the query $q_p = W_Q h_p$. Word $j$ has the
# vector $y_j$ of (12.1); from it come the key $k_j = W_K y_j$ and the value $v_j = W_V y_j$. How well they fit is an
# inner product of length-$d$ vectors, and a softmax over the words turns it into shares:
#
# $$ A_{pj} = \frac{\exp(q_p \cdot k_j / \sqrt d)}{\sum_{i=1}^{L} \exp(q_p \cdot k_i / \sqrt d)},
# \qquad \sum_j A_{pj} = 1 \tag{12.2} $$
#
# The pixel takes the values in these shares, and a last matrix brings the result back into the pixel's space, where it
# is *added*:
#
# $$ h_p \;\leftarrow\; h_p + W_O \sum_{j=1}^{L} A_{pj}\, v_j \tag{12.3} $$
#
# (With several heads this is done several times side by side, on shorter vectors, and $W_O$ mixes what they found. In
# code each matrix comes with a bias, and the query is made from the normalised $h_p$.)
#
# In the small world the weights can be written down by hand. Words here are the two nouns, which know their colour.
# The key of a noun is its shape, its value is its colour, and each place asks for its own shape, ten times as loudly
# as a unit vector would, so that the softmax all but decides:

# %%
keys, queries = torch.eye(2), 10 * torch.eye(2)  # noun by shape, place by shape
shares = torch.softmax(queries @ keys.T, 1)  # (2 places, 2 nouns)
answered = torch.einsum("pj,jsc->psc", shares, wanted)  # values: the colour of noun j in sentence s
assert (answered - wanted).abs().max() < 1e-3

# %%
some = [0, 7, 13, 18, 22, 29]  # of the thirty sentences
alt = "Three rows of twelve colour patches: the wish; muddy mixtures, the two of a sentence alike; the wish again."
patches = {name: 2 * colour[:, some].transpose(0, 1).flatten(0, 1)[:, :, None, None].expand(-1, -1, 32, 32) - 1
           for name, colour in {"wanted": wanted, "added": added, "attention": answered}.items()}
plot.strips(patches, alt, ["circle", "square"] * 6)

# %% [markdown]
# Above, what six sentences want; in the middle the best sum; below attention, which is right on all thirty sentences
# with a handful of numbers, and would be on any colours it has never met. Nothing was memorised: the *rule* is "ask for
# your own shape, take what it says".
#
# Let us be fair to the single vector. Our blocks do not only add, they also multiply (6.9), and an MLP sits between;
# with enough numbers a single vector can spell out every sentence, and a decoder learn to spell it. It is a matter of
# how much must be learned by heart. And our U-Net has both: the mean of the word vectors joins the time's (the
# *gist*: "something red, something blue"), and in each block the pixels ask the words. Section 8 measures which of
# the two the trained model lives on.

# %%
from minidiff.nets.layers import CrossAttention


def pixel_by_pixel(layer, x, words):
    """(12.2) and (12.3) with loops, for one picture x (c, H, W) and words (L, D)."""
    h, (k, v) = layer.norm(x[None])[0], layer.kv(words).chunk(2, dim=1)  # k, v (L, c)
    found, d = torch.zeros_like(x), len(x) // layer.heads
    for row, column in torch.cartesian_prod(torch.arange(x.shape[1]), torch.arange(x.shape[2])).tolist():
        q = layer.q.weight[:, :, 0, 0] @ h[:, row, column] + layer.q.bias
        for head in torch.arange(len(x)).split(d):  # the channels of one head
            A = torch.softmax(k[:, head] @ q[head] / d**0.5, 0)  # (12.2), over the words
            found[head, row, column] = A @ v[:, head]
    return x + torch.einsum("oc,chw->ohw", layer.out.weight[:, :, 0, 0], found) + layer.out.bias[:, None, None]


# %%
torch.manual_seed(0)
layer = CrossAttention(c=8, dim=6, heads=2)
h, words = torch.randn(1, 8, 4, 4, generator=seeded(1)), torch.randn(1, 5, 6, generator=seeded(2))

# %%
assert torch.equal(layer(h, words), h)  # a new layer adds nothing: W_O starts at zero (6.15)
torch.nn.init.normal_(layer.out.weight, std=0.3, generator=seeded(3))
assert torch.allclose(layer(h, words)[0], pixel_by_pixel(layer, h[0], words[0]), atol=1e-5)

# %%
plot.show_source(CrossAttention)

# %% [markdown]
# **Why the root of $d$?** If the entries of query and key are independent, with mean zero and variance one, then
#
# $$ \mathrm{Var}(q \cdot k) = \sum_{i=1}^d \mathrm{Var}(q_i k_i) = d, \qquad
# \mathrm{Var}\Big(\frac{q \cdot k}{\sqrt d}\Big) = 1 \tag{12.4} $$
#
# Without the root the softmax of a wide layer would put all its weight on one word from the start, and there it is
# flat: no gradient, nothing learned.

# %%
for d in (4, 64, 1024):
    q, k = torch.randn(2, 4000, d, generator=seeded(4))
    products = (q * k).sum(1)
    assert abs(products.var() / d - 1) < 0.1
    largest = torch.softmax((q[:500, None] * k[None, :17]).sum(-1), 1).max(1).values.mean()
    print(f"d = {d}: variance {products.var():.2g}, largest of 17 shares without the root {largest:.2f}")

# %% [markdown]
# The gradient flows through all three matrices and into the words, and so back into the transformer and the table of
# vectors: *the reading of sentences is learned from the errors of the pictures*. A check against finite differences, in
# double precision:

# %%
double = layer.double()
h64, words64 = h.double().requires_grad_(), words.double().requires_grad_()
assert torch.autograd.gradcheck(double, (h64, words64), atol=1e-6)

# %% [markdown]
# In the U-Net, such a layer stands behind each residual block and its self-attention, so that "the circle here" may
# first make out where "here" is. It is cheap: pixels meet $L = 17$ words, not each other.

# %%
net = model.denoiser.net
parts = {"reads words": net.embed.text_encoder, "whole": net}

# %%
sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
sizes["asks words"] = sum(p.numel() for m in net.modules() if isinstance(m, CrossAttention) for p in m.parameters())
assert sizes["reads words"] + sizes["asks words"] < 0.4 * sizes["whole"]
print({name: f"{size / 1e3:.0f} thousand weights" for name, size in sizes.items()})

# %% [markdown]
# ### Where is left?
#
# One thing is still missing. Attention treats its pixels as a bag, just as the sum treated its words. Move the pixels
# about in any way $\pi$, and the answers move with them:
#
# $$ \mathrm{answer}(\pi h,\ y) = \pi\; \mathrm{answer}(h,\ y) \tag{12.5} $$

# %%
pi = torch.randperm(16, generator=seeded(5))


def moved(x):
    return x.flatten(2)[:, :, pi].view_as(x)


h64 = h64.detach()
assert torch.allclose(double(moved(h64), words64), moved(double(h64, words64)))

# %% [markdown]
# So a pixel cannot know from attention that it is *left* or *above*. (Convolutions see the picture's edge, but only
# from near by.) The cure is the one that helped the words: say it. As a time is spread over waves (5.6), so is a
# place. With $(x, y)$ in $[0, 1]$ the place of a pixel's centre, $\nu$ from $\tfrac12, 1, 2, 4$, $\xi$ one of $x$
# and $y$, and $\pi$ the number again, no longer a permutation,
#
# $$ \mathrm{place}(x, y) = \big[\cos(\pi \nu\, \xi),\ \sin(\pi \nu\, \xi)\big]_{\nu,\; \xi \in \{x, y\}} \tag{12.6} $$
#
# are sixteen numbers, which a matrix brings to the pixel's length and adds to it before the two attentions of a block.

# %%
from minidiff.nets.unet import CrossAttentionBlock, position_encoding

centre = (torch.arange(8) + 0.5) / 8
nu = torch.tensor([0.5, 1, 2, 4])
turn = torch.pi * nu[:, None, None] * torch.stack([centre.expand(8, 8), centre[:, None].expand(8, 8)])[:, None]

# %%
turn = turn.flatten(0, 1)  # (8, H, W): four for x, four for y
assert torch.allclose(position_encoding(8, 8), torch.cat([turn.cos(), turn.sin()]), atol=1e-6)

# %%
places_of = position_encoding(8, 8).flatten(1)  # (16, 64)
likeness = (places_of.T @ places_of / 8).view(64, 8, 8)  # of each place to each
assert (likeness.flatten(1).argmax(1) == torch.arange(64)).all()  # each is most like itself, and like no other
assert likeness.flatten(1).topk(2).values[:, 1].max() < 0.85

# %%
alt = "Three rows of eight small grey maps: stripes of cosines, of sines; below, bright spots, each at another place."
rows = {"cosines": position_encoding(8, 8)[:8], "sines": position_encoding(8, 8)[8:], "likeness": likeness[4::8]}
plot.strips({name: x[:, None] for name, x in rows.items()}, alt, [f"{nu} {xi}" for xi in "xy" for nu in ("½", 1, 2, 4)])

# %% [markdown]
# Above the sixteen waves, each over a picture of 8 by 8. The last row shows eight places, one in each row of the
# picture, and how like them all the others are: nearest to themselves, and less so on all sides.

# %%
plot.show_source(CrossAttentionBlock)

# %% [markdown]
# ## 4. A judge that cannot be flattered
#
# How shall we know whether a picture is right? One could train a classifier on the same scenes. But it would look at
# pictures as the painter does, and be blind where it is blind; shown a smear, it must still name one of its classes,
# often with great confidence. The scores in use for large models compare a picture and a sentence by a network
# trained on photographs and their captions (CLIP, Radford et al. 2021); they are good at "is there a cat", poor at
# "which of the two is left", and nobody can check them. Our world is simple enough for something better: *measure*.
#
# **Colours.** An edge pixel is partly covered: it is white plus a share $a$ of the way from white $w$ to the item's
# colour $c$. For a pixel $u$ (three numbers) and each of the six colours, the best share is a projection, and the
# colour is the one that leaves the smallest rest:
#
# $$ u \approx w + a\,(c - w), \qquad a = \frac{(u - w)\cdot(c - w)}{|c - w|^2}, \qquad
# \hat c = \arg\min_c\ |u - w - a\,(c - w)|^2 \tag{12.7} $$

# %%
from minidiff.data.scene_parser import pixel_colours

pixels = pictures[0].flatten(1).T  # (64 * 64, 3), white is (1, 1, 1)
axes = torch.tensor(list(COLOURS.values())) / 127.5 - 2  # c - w, (6, 3)
a = (pixels - 1) @ axes.T / axes.square().sum(1)  # (N, 6)
rest = (pixels[:, None] - 1 - a[:, :, None] * axes).square().sum(2)
nearest_colour = rest.argmin(1)

# %%
index, cover = pixel_colours(pictures[:1])
assert torch.equal(index.flatten()[cover.flatten() > 0.1], nearest_colour[cover.flatten() > 0.1])
assert torch.allclose(cover.flatten(), a.gather(1, nearest_colour[:, None])[:, 0].clamp(0, 1), atol=1e-5)

# %% [markdown]
# **Shapes.** Pixels of one colour that are more than half covered and hang together are an item, unless they are
# mere dust (less than 0.3 of the area of a small item). Draw all eight
# possibilities, four shapes in two sizes, at its centre, and see which one it overlaps best. With $A$ the item's pixels
# and $B$ those of a drawing,
#
# $$ \mathrm{fit} = \frac{|A \cap B|}{|A \cup B|} \tag{12.8} $$
#
# which is 1 only if they are the same. An item that fits none by 0.7 *has* no shape: this is the judge's freedom
# which no classifier has. `parse` does all that, and `grade` compares it with the scene that was asked for.

# %%
from minidiff.data.scene_parser import attribute_accuracy, grade, parse

for item, fit in parse(pictures)[0]:
    print(f"{item.size} {item.colour} {item.shape} at ({item.x:.2f}, {item.y:.2f}), fit {fit:.2f}")

# %% [markdown]
# First test: the truth must pass. 200 scenes it has never seen, held-out pairs among them, all marks:

# %%
generator = seeded(11)
exam = [sample_scene(generator, hold_out=()) for _ in range(200)]
marks = attribute_accuracy(exam, torch.stack([render(scene) for scene in exam]))
assert set(marks.values()) == {1.0}
print(marks)

# %% [markdown]
# Second test: lies must not pass. We ask for a red circle left of a small blue square, and hand in pictures with one
# thing wrong in each. *Predict for each which marks it loses. What will noise be told?*

# %%
from dataclasses import replace

from minidiff.data.scenes import Item, Scene

circle, square = Item("circle", "red", "large", 0.28, 0.5), Item("square", "blue", "small", 0.72, 0.5)
asked = Scene((circle, square))

# %%
lies = {"truth": asked, "colour": Scene((replace(circle, colour="green"), square)),
        "shape": Scene((replace(circle, shape="star"), square)), "size": Scene((circle, replace(square, size="large"))),
        "swapped": Scene((replace(circle, colour="blue"), replace(square, colour="red"))),
        "mirrored": Scene((replace(circle, x=0.72), replace(square, x=0.28))), "missing": Scene((circle,)),
        "too many": Scene((circle, square, Item("star", "black", "small", 0.5, 0.15)))}

# %%
handed_in = {name: render(scene) for name, scene in lies.items()}
blur = torch.nn.AvgPool2d(17, 1, padding=8, count_include_pad=False)
handed_in["blurred"] = blur(handed_in["truth"][None])[0]
handed_in["noise"] = torch.randn(3, 64, 64, generator=seeded(12)).clamp(-1, 1)

# %%
homework = torch.stack([*handed_in.values()])
verdict = {name: grade(asked, found) for name, found in zip(handed_in, parse(homework), strict=True)}
ATTRIBUTES = "colour", "shape", "pair", "size", "relation", "number", "all"
lost = {name: [key for key in ATTRIBUTES if marks[key][0] < marks[key][1]] for name, marks in verdict.items()}

# %%
alt = "Ten pictures: a red circle and a blue square, then versions with one thing wrong, a blurred one, and noise."
plot.strips({"": framed(homework)}, alt, list(handed_in))

# %%
assert lost["truth"] == [] and all("all" in lost[name] for name in lies if name != "truth")
assert lost["size"] == ["size", "all"] and lost["mirrored"] == ["relation", "all"]
assert lost["too many"] == ["number", "all"]
assert {"colour", "shape"} & set(lost["swapped"]) == set() and "pair" in lost["swapped"]
assert {"pair", "all"} <= set(lost["blurred"]) and {"pair", "all"} <= set(lost["noise"])

# %%
for name, keys in lost.items():
    print(f"{name:9} loses {', '.join(keys) or 'nothing'}")

# %% [markdown]
# Look at "swapped": its colours are both there and so are its shapes; only the *pair* is wrong. This is the failure
# of a bag of words, and the most common one of large models. (A mark for size or relation is given only to an item
# that is there, so one wrong item can cost several.)
#
# ## 5. Asking harder
#
# Guidance (9.4) needs a network that also knows what to paint if it is told nothing. In training one prompt in ten is
# replaced by the empty one, *as a whole*; and nothing else changes, for to `drop_labels` and `cfg` a row of
# tokens is just a longer label:
#
# $$ \hat x_0 = \hat x_0(x_t, t, \varnothing) + w\,\big[\hat x_0(x_t, t, y_1 \dots y_L)
# - \hat x_0(x_t, t, \varnothing)\big] \tag{12.9} $$

# %%
denoiser, tokens = model.denoiser, model.prompts(four)
z_t, t = torch.randn(4, *model.latent.shape(model.size), generator=seeded(13)), torch.full((4,), 0.7)
with torch.no_grad():
    told, untold = denoiser(z_t, t, tokens), denoiser(z_t, t, torch.zeros_like(tokens))
    assert torch.allclose(cfg(denoiser, tokens, 0, 3.0)(z_t, t), untold + 3 * (told - untold), atol=1e-4)
    assert torch.allclose(untold, denoiser(z_t, t), atol=1e-5)  # no prompt at all is the empty prompt

# %%
from minidiff import drop_labels

many = torch.ones(10_000, 5, dtype=torch.long)
dropped = drop_labels(many, 0, 0.1, seeded(14))
assert set(dropped.sum(1).tolist()) == {0, 5} and abs((dropped.sum(1) == 0).float().mean() - 0.1) < 0.01

# %% [markdown]
# *Predict: what does the model draw if it is told nothing? And a prompt that asks for something, with $w = 0$?*

# %%
nothing = model.sample(model.prompts([""] * 8), Sampling(guidance=1.0), seed=2)
assert torch.equal(nothing, model.sample(model.prompts(["a red star"] * 8), Sampling(guidance=0.0), seed=2))
alt = "Eight pictures of one to three coloured shapes each, all different."
plot.strips({"": framed(nothing)}, alt)

# %% [markdown]
# Scenes, any scenes. With $w = 0$ the words are multiplied by zero: the same pictures, to the last digit.

# %% [markdown]
# ## 6. Live
#
# A scene of three items takes long to learn. One large item does not: 3,000 such scenes, their codes (the autoencoder
# is the shipped one), a U-Net that reads, and two minutes. It starts from nothing: the words are numbers without a
# meaning. (Small items take longer: they cover one or two places of the 8 by 8, and their shape is a matter of
# detail.)

# %%
from minidiff.latent import LatentDataset
from minidiff.nets.text import Vocabulary

lone = [scene for scene in learned if len(scene.items) == 1 and scene.items[0].size == "large"][:3000]
parts = (torch.stack([render(scene) for scene in lone[k : k + 100]]) for k in range(0, 3000, 100))  # one at a time
codes = torch.cat([model.latent.encode(part) for part in parts])
few_words = Vocabulary.from_captions([caption(scene) for scene in lone])
lessons = LatentDataset(codes, few_words.encode([caption(scene) for scene in lone]))

# %%
print(len(lone), "scenes, codes of", tuple(codes.shape[1:]), "  words:", *few_words.words)

# %%
from minidiff.app.generate import Model
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.training import TrainConfig, TrainState, train


# %%
def new_painter():
    torch.manual_seed(0)
    config = UNetConfig(channels=codes.shape[1], num_classes=0, width=48, channel_mult=(1, 2), patch_size=1,
                        text=TextConfig(len(few_words), few_words.length))
    return TrainState(Denoiser(UNet(config), Cosine()), TrainConfig(lr=5e-3, shift_warmup=0.6, cooldown=0.35))


# %%
painter = new_painter()
student = Model(painter.ema.module, (), model.size, model.latent, few_words)  # draws with the average of the weights

# %% [markdown]
# (What the `shift_warmup` is good for, section 8 shows.) Eight sentences will tell what it can do; the last two ask for
# pairs that it never sees. And fifty pictures go to the judge at each look. *Predict: what will it learn first, that
# `red` is red, or that a `star` is a star?*

# %%
eight = ["a red circle", "a blue square", "a green triangle", "a purple star", "a black circle", "a yellow square",
         "a red star", "a green square"]
questions = [s for s in fresh if len(s.items) == 1 and s.items[0].size == "large"][:50]
looks, school = {}, {}


# %%
def learn_until(seconds):
    for p in train(painter, lessons, seconds=SECONDS):
        if p.seconds >= seconds or p.fraction == 1:
            break
    looks[round(p.seconds)] = student.sample(few_words.encode(eight), seed=4)
    answers = student.sample(few_words.encode([caption(s) for s in questions]), Sampling(steps=15), seed=5)
    school[p.seconds] = attribute_accuracy(questions, answers)
    print(f"{p.seconds:.0f} s, step {p.step}, loss {p.loss:.2f}, "
          f"colour {school[p.seconds]['colour']:.0%}, shape {school[p.seconds]['shape']:.0%}")


# %% tags=["nbval-ignore-output", "slow"]
learn_until(SECONDS / 4)

# %%
alt = "Eight soft blobs, most of them in the colours that were asked for."
two_lines = [broken(text.removeprefix("a "), 9) for text in eight]
plot.strips({"": framed(looks[max(looks)])}, alt, two_lines)

# %% [markdown]
# Colours, and where there should be a shape, a blob. On it goes.

# %% tags=["nbval-ignore-output", "slow"]
learn_until(SECONDS / 2)
learn_until(SECONDS * 3 / 4)
learn_until(SECONDS)

# %%
alt = "Four rows of eight, a look every thirty seconds: coloured blobs grow corners and become the shapes asked for."
plot.strips({f"{s} s": framed(x) for s, x in looks.items()}, alt, two_lines)

# %%
seconds = torch.tensor(list(school))
lines = {key: torch.tensor([marks[key] for marks in school.values()]) for key in ("colour", "shape")}
alt = "Shares of right answers against seconds of training: colour is near 1 early, shape climbs slowly behind it."
plot.curves(seconds, lines, alt, "seconds of training", "share right")

# %%
first_look, *_, last_look = school.values()
assert first_look["colour"] > first_look["shape"] + 0.3  # colour first
assert last_look["colour"] > 0.9 and last_look["shape"] > max(0.6, first_look["shape"] + 0.2)

# %% [markdown]
# Colour first, by far; shape takes the rest of the time. The loss is a sum over all places, and a wrong colour is
# wrong at every place that an item covers. A wrong shape is wrong at its corners only: it costs little, so little is
# done about it until the larger errors are gone. (The same reason as in chapter 07: first what costs most.)

# %% [markdown]
# ## 7. The larger model, measured
#
# The model that ships with the course saw all scenes, and longer:

# %% tags=["nbval-ignore-output"]
for key in ("command", "steps", "seconds", "machine"):
    print(f"{key}: {about[key]}")

# %% [markdown]
# (The run went in two goes: 1,950 seconds with their own cooldown, then on to 2,800; in one go it would come out a little
# different. The script keeps the weights in half precision; `python -m minidiff train` takes the same options and `--out
# runs/scenes`. What a head start is, section 8 explains.)
#
# A hundred fresh scenes of seen pairs, and a hundred in which at least one pair was held out. Each mark is a share of
# $n$ trials, and shares of few trials are uncertain. If each is right with probability $p$, independently, the share
# has the standard deviation
#
# $$ s = \sqrt{\frac{p\,(1 - p)}{n}} \tag{12.10} $$
#
# With $n = 100$ and $p = 0.9$ that is three points: a *difference* of two such shares has
# $\sqrt 2$ times as much, four points. Smaller differences mean nothing here.

# %%
p, n = 0.9, 100
trials = (torch.rand(20_000, n, generator=seeded(20)) < p).float().mean(1)
assert abs(trials.std() / (p * (1 - p) / n) ** 0.5 - 1) < 0.02


# %%
def counted(marks):
    """(share, its error, trials) of each attribute over many pictures' marks."""
    totals = {key: torch.tensor([mark_[key] for mark_ in marks]).sum(0).tolist() for key in ATTRIBUTES}
    return {key: (right / n, (right * (n - right) / n**3) ** 0.5, n) for key, (right, n) in totals.items() if n}


# %%
from minidiff.data import load_scenes

generator = seeded(21)
tests = {"seen": [sample_scene(generator) for _ in range(100)], "held out": load_scenes("test", 100).scenes}


# %%
def paint(scenes, w=2.0):
    return model.sample(model.prompts([caption(scene) for scene in scenes]), Sampling(guidance=w), seed=6)


def graded(scenes, x):
    return [grade(scene, found) for scene, found in zip(scenes, parse(x), strict=True)]


# %% tags=["slow"]
painted = {name: paint(scenes) for name, scenes in tests.items()}
grades = {name: graded(tests[name], painted[name]) for name in tests}
shares = {name: counted(marks) for name, marks in grades.items()}

# %% tags=["nbval-ignore-output"]
for name, row in shares.items():
    print(f"{name:9}", "  ".join(f"{key} {share:.0%} ± {error:.0%}" for key, (share, error, _) in row.items()))

# %%
alt = "Seven attributes, two dots each with error bars, for seen and for held-out pairs."
picture, (ax,) = plot.figure(alt)
for k, (name, row) in enumerate(shares.items()):
    share, error, _ = zip(*row.values(), strict=True)
    ax.errorbar(torch.arange(len(row)) + 0.16 * k - 0.08, share, error, fmt="o", label=name, capsize=3)
ax.set_xticks(range(len(row)), list(row))
ax.set(ylim=(0, 1.04), ylabel="share right")
ax.legend(loc="lower left")
picture

# %%
seen, held = ({key: share for key, (share, *_) in row.items()} for row in shares.values())
assert seen["colour"] > 0.85 and seen["shape"] > 0.78 and seen["pair"] > 0.78 and seen["relation"] > 0.45
assert all(seen[key] - held[key] < 0.15 for key in ("colour", "shape", "pair", "size")) and held["relation"] > 0.4

# %% [markdown]
# Read it from the left. About nine colours in ten are there, and nearly as many shapes. Whether they are *together*, on
# one item, is the pair: hardly less, so colours do not go astray. The relations are harder. Chance would give one
# in four where both items are there; the model is well above that, and far from perfect. Then the number: it often
# paints one item too many or too few, and one wrong mark spoils "all". From seen pairs to held-out ones it is a small
# step, smaller than 15 points for all that hangs on the pair itself. (Relation, number and "all" do not compare like
# with like: three items hold such a pair more often than one, so the held-out scenes are fuller.)
#
# (We had aimed at 95 % for colours and for shapes, 85 % for relations, and 15 points between seen and held out. Such
# exams are unsteady, more so than (12.10) says, for errors come by the picture and not one by one. Here the seen scenes
# reach the aim for colours and shapes, and relations lose 20 points on the way to the held-out ones. `evaluate`, with 200
# other scenes of either kind, counts 93 % of colours, 90 % of shapes and 63 % of relations for seen pairs, and 94, 91
# and 68 % for held-out ones. So the step to new pairs is as small as was hoped there; colours and shapes are a little
# below their aims, relations far below.)
#
# The first seven of either hundred, unpicked:

# %%
alt = "Seven pictures of scenes, each below its sentence; most show what was asked for."
plot.strips({"": framed(painted["seen"][:7], 2)}, alt, [broken(caption(s)) for s in tests["seen"][:7]])

# %%
alt = "Seven pictures of scenes with a pair of words that was never shown, each below its sentence."
plot.strips({"": framed(painted["held out"][:7], 2)}, alt, [broken(caption(s)) for s in tests["held out"][:7]])

# %% [markdown]
# **Does it get harder with more items?** A sentence of three has three colours, three shapes, two relations to get
# right. If each item comes out right with probability $p$, independently, three do with $p^3$ only: much that looks
# like a sudden failure (or, during training, a sudden ability) is such a product (Okawa et al. 2023).

# %%
both = [(len(scene.items), mark_) for name in tests for scene, mark_ in zip(tests[name], grades[name], strict=True)]
by_number = {n: counted([mark_ for items, mark_ in both if items == n]) for n in (1, 2, 3)}
assert by_number[1]["all"][0] > by_number[3]["all"][0]

# %%
assert by_number[1]["pair"][0] > by_number[3]["pair"][0] - 0.03

# %% tags=["nbval-ignore-output"]
for n, row in by_number.items():
    pair, (everything, error, of) = row["pair"][0], row["all"]
    print(f"{n} item(s): pair {pair:.0%}, everything {everything:.0%} ± {error:.0%}, of {of}")

# %% [markdown]
# Pairs hold up; "everything" falls steeply, for with each item there is a relation more to get right, and a mark to
# lose.
#
# **Does it help to ask harder?** Forty of the sentences again, with other weights.

# %% tags=["slow"]
forty = tests["seen"][:40]
by_weight = {w: counted(graded(forty, paint(forty, w))) for w in (1.0, 3.0, 5.0)}
by_weight[2.0] = counted(grades["seen"][:40])
strengths = sorted(by_weight)

# %%
alt = "Shares right against the guidance weight."
kinds = "colour", "shape", "pair", "relation", "all"
lines = {key: torch.tensor([by_weight[w][key][0] for w in strengths]) for key in kinds}
plot.curves(torch.tensor(strengths), lines, alt, "guidance w", "share right")

# %%
assert all(by_weight[5.0][key][0] > by_weight[1.0][key][0] for key in ("colour", "pair", "relation"))

# %% [markdown]
# It does, above all for the relations: what is said faintly is heard when it is exaggerated. (What is lost on that way,
# variety, no mark measures; chapter 09 did.)
#
# **Does noise on the way help?** The sampler so far goes straight down: what it has got wrong in the fog stays wrong.
# The ancestral one of chapter 08 adds fresh noise after each step, and so gets a second chance. Fifty steps, the
# hundred sentences of seen pairs:

# %% tags=["slow"]
from minidiff import ddpm, final, times


def ancestral(scenes, w=2.0, steps=50):
    noise = torch.randn(len(scenes), *model.latent.shape(model.size), generator=seeded(6))
    guided = cfg(denoiser, model.prompts([caption(scene) for scene in scenes]), 0, w)
    states = ddpm(guided, noise, times(steps), denoiser.schedule, seeded(7))
    return model.latent.decode(final(states)).clamp(-1, 1)


patient = counted(graded(tests["seen"], ancestral(tests["seen"])))
assert patient["number"][0] > seen["number"] and patient["all"][0] > seen["all"] - 0.1

# %% tags=["nbval-ignore-output"]
for key in ("pair", "relation", "number", "all"):
    print(f"{key:9} straight down {seen[key]:.0%}, with fresh noise {patient[key][0]:.0%}")

# %% [markdown]
# Twice the time. What it mends is the number: an item too many can still be painted over.
#
# **What goes wrong?** Pictures that lost a mark, and which:

# %%
def misses(mark_):
    return ", ".join(key for key in ATTRIBUTES if mark_[key][0] < mark_[key][1] and key != "all")


everything = [answer for name in tests for answer in zip(tests[name], painted[name], grades[name], strict=True)]
wrong = [(scene, x, misses(mark_)) for scene, x, mark_ in everything if misses(mark_)]

# %%
alt = "Seven pictures that are wrong, with their sentences and the marks they lost."
above = [f"{broken(caption(scene))}\n({broken(missed_)})" for scene, _, missed_ in wrong[:7]]
plot.strips({"": framed(torch.stack([x for _, x, _ in wrong[:7]]), 2)}, alt, above)

# %%
from collections import Counter

blamed = Counter(key for *_, missed_ in wrong for key in missed_.split(", "))
assert blamed["number"] + blamed["relation"] > blamed["colour"] + blamed["shape"]

# %% tags=["nbval-ignore-output"]
print(f"of {len(wrong)} wrong pictures lose the mark for", dict(blamed.most_common()))

# %%
mistaken = Counter()
for name in tests:
    for scene, found in zip(tests[name], parse(painted[name]), strict=True):
        got = {f.item.colour: f.item.shape if f.iou > 0.7 else "no shape" for f in found}
        mistaken.update((item.shape, got.get(item.colour, "nothing")) for item in scene.items
                        if sum(other.colour == item.colour for other in scene.items) == 1)

# %%
gone = sum(times_ for (_, came), times_ in mistaken.items() if came in ("no shape", "nothing"))
other = sum(times_ for (asked_for, came), times_ in mistaken.items() if came not in ("no shape", "nothing", asked_for))
assert gone > 0.2 * other > 0

# %% tags=["nbval-ignore-output"]
for (asked_for, came), times_ in mistaken.most_common():
    if asked_for != came and times_ > 2:
        print(f"{asked_for} -> {came}: {times_}")

# %% [markdown]
# Left the word, right what came in its colour (if no other item has it). Most often that is *no* shape or *nothing*: two
# items drawn into one blot, or one left out. Large models know the latter failure by the name of catastrophic neglect
# (Chefer et al. 2023).
#
# ## 8. A look inside
#
# For this section, 24 sentences of one kind, "a red circle left of a blue square": two large items that share neither
# colour nor shape, all pairs known. The words that matter stand in fixed places.

# %%
couples = [(one, two) for one, two in permutations(sorted(shown), 2) if not set(one) & set(two)]
couples = [couples[k] for k in torch.randperm(len(couples), generator=seeded(22))[:24].tolist()]


def beside(one, two):
    return Scene((Item(one[1], one[0], "large", 0.3, 0.5), Item(two[1], two[0], "large", 0.7, 0.5)))


# %%
duets = [beside(one, two) for one, two in couples]
asking = model.prompts([caption(scene) for scene in duets])
answers = model.sample(asking, seed=7)
places_in = ["a", "colour 1", "shape 1", "left", "of", "a", "colour 2", "shape 2", "blank"]
print(caption(duets[0]))

# %% [markdown]
# ### Which pixels look at which word?
#
# By (12.2) each pixel says how much it looks at each word. A *hook* is a function that PyTorch calls whenever a layer
# runs: ours writes down the maps of every cross-attention, while the network looks at a noisy code.

# %%
def word_maps(z_t, t, tokens):
    """How much each place looks at each word, the mean over heads and layers: (B, L, 8, 8)."""
    layers, found = [m for m in net.modules() if isinstance(m, CrossAttention)], []
    hooks = [m.register_forward_pre_hook(lambda m, args: found.append(m.maps(*args).mean(1))) for m in layers]
    with torch.no_grad():
        denoiser(z_t, torch.full((len(z_t),), t), tokens)
    for hook in hooks:
        hook.remove()
    return torch.stack([torch.nn.functional.interpolate(m.movedim(-1, 1), size=8) for m in found]).mean(0)


# %%
z = model.latent.encode(answers)
z_half = add_noise(z, torch.randn(z.shape, generator=seeded(23)), 0.5, denoiser.schedule)
maps = word_maps(z_half, 0.5, asking)
assert torch.allclose(maps.sum(1), torch.ones(24, 8, 8), atol=1e-4)  # all of a pixel's attention is shared out

# %%
def strip_of(k):
    """A picture, and the map of each of its first nine tokens, from least (black) to most (white)."""
    shades = maps[k, :9] / maps[k, :9].amax((1, 2), keepdim=True)
    big = 2 * shades[:, None].repeat_interleave(8, 2).repeat_interleave(8, 3).expand(-1, 3, -1, -1) - 1
    return framed(torch.cat([answers[k : k + 1], big]))


alt = "Four rows: a picture, and nine maps of where its words are looked at; colours and nouns light up at their items."
plot.strips({", ".join(map(" ".join, couples[k])): strip_of(k) for k in range(4)}, alt, ["picture", *places_in])

# %% [markdown]
# The pictures say it: a colour and its noun are looked at where their item is, and hardly anywhere else. The map of
# `red` is a drawing of the red thing, made by nobody, learned from errors of pixels. Each map is scaled to its own
# maximum. In numbers, over all 24: the judge's eye says which places an item covers, $m_p$ being its share of place
# $p$. How much denser does the attention to word $j$ lie there than in the picture on average?
#
# $$ \mathrm{focus}(j, m) = \frac{\sum_p m_p A_{pj} \,/\, \sum_p A_{pj}}{\sum_p m_p \,/\, HW} \tag{12.11} $$

# %%
def covers(x, scene):
    """How far each of the 8 x 8 places is covered by each item of a scene, by colour: (2, 8, 8)."""
    index, cover = pixel_colours(x[None])
    named = [list(COLOURS).index(item.colour) for item in scene.items]
    return torch.nn.functional.avg_pool2d(torch.stack([(index == k) * cover for k in named]), 8)[:, 0]


m = torch.stack([covers(x, scene) for x, scene in zip(answers, duets, strict=True)])  # (24, 2, 8, 8)
there = (m.sum((2, 3)) > 1).all(1)  # both items are in the picture

# %%
A, m_ = maps[there, :9, None], m[there, None]  # (n, 9, 1, 8, 8) and (n, 1, 2, 8, 8)
focus = ((m_ * A).sum((3, 4)) / A.sum((3, 4)) / m_.mean((3, 4))).mean(0)  # (9, 2)
assert torch.allclose((m_ * torch.ones_like(A)).sum((3, 4)) / 64 / m_.mean((3, 4)), torch.ones(()))  # even: focus 1

# %%
alt = "Dots for nine words: colour 1 and shape 1 are dense on item 1, colour 2 and shape 2 on item 2; others near 1."
picture, (ax,) = plot.figure(alt)
for k, name in enumerate(("on item 1", "on item 2")):
    ax.plot(focus[:, k], "o", label=name)
ax.axhline(1, color="0.6", linewidth=1)
ax.set_xticks(range(9), places_in)
ax.set(ylabel="focus", ylim=(0, None))
ax.legend()
picture

# %%
assert focus[1, 0] > 3 * focus[1, 1] and focus[6, 1] > 3 * focus[6, 0]  # colours
assert focus[2, 0] > 1.5 * focus[2, 1] and focus[7, 1] > 1.5 * focus[7, 0]  # nouns
assert (focus[[0, 4, 5, 8]] < 1.2).all()

# %% [markdown]
# Colours and nouns are several times denser on their own item than in the picture on average, and thinner than average
# on the other item: *which* red, and which circle, is settled. The small words and the blanks lie rather
# where nothing is, "of" most of all.
# (Do not read too much into such maps. A layer may look somewhere and make nothing of it;
# what counts is what happens if one takes it away.)
#
# ### When do the words matter?
#
# Tell the model something wrong, and see how much worse it guesses: the colours of two items exchanged, their shapes
# exchanged, the relation mirrored, or nothing told at all. The price of a wrong sentence $\tilde y$ at time $t$, in the
# units of the loss (5.11), is
#
# $$ \Delta(t) = w(t)\; E\Big[\big|\hat x_0(x_t, t, \tilde y) - x_0\big|^2
# - \big|\hat x_0(x_t, t, y) - x_0\big|^2\Big] \tag{12.12} $$
#
# *Predict: is one of the four lies harmless for most of the walk?*

# %%
from minidiff import weight

truths = [scene for scene in fresh if len(scene.items) == 2][:64]
mirror = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def lie(scene, kind):
    a, b = scene.items
    if kind == "mirrored":
        return next(caption(scene).replace(how, other) for how, other in mirror.items() if how in caption(scene))
    if kind == "colours":
        return caption(Scene((replace(a, colour=b.colour), replace(b, colour=a.colour))))
    return caption(Scene((replace(a, shape=b.shape), replace(b, shape=a.shape)))) if kind == "shapes" else ""


# %%
kinds = ["true", "nothing", "colours", "shapes", "mirrored"]
told_ = {kind: model.prompts([caption(s) if kind == "true" else lie(s, kind) for s in truths]) for kind in kinds}
z = model.latent.encode(torch.stack([render(scene) for scene in truths]))
hours = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])

# %%
price, dust = {kind: [] for kind in kinds}, torch.randn(z.shape, generator=seeded(24))
for t in hours:
    z_t = add_noise(z, dust, t, denoiser.schedule)
    for kind, tokens in told_.items():
        with torch.no_grad():
            error = (denoiser(z_t, t.expand(len(z)), tokens) - z).square().mean()
        price[kind].append(weight("v", t, denoiser.schedule) * error)

# %%
delta = {kind: torch.stack(price[kind]) - torch.stack(price["true"]) for kind in kinds[1:]}
alt = "Price by time: false colours and shapes cost all along, silence near t = 0.8, a mirrored relation above 0.7."
names_ = dict(zip(delta, ("told nothing", "colours exchanged", "shapes exchanged", "relation mirrored"), strict=True))
plot.curves(hours, {names_[kind]: d for kind, d in delta.items()}, alt, "t", "price")

# %%
early = hours <= 0.5
assert (delta["mirrored"][early] < 0.1 * delta["mirrored"].max()).all() and hours[delta["mirrored"].argmax()] >= 0.8
assert (delta["nothing"][early] < 0.4 * delta["nothing"].max()).all()
assert (delta["colours"][early] > 5 * delta["nothing"][early]).all()

# %% [markdown]
# Told *nothing*, the model does well near the data: the picture shows what it is. Words are needed at about
# $t = 0.8$, where it is still open. But *false* colours and shapes harm all along: it has learned to believe what it is
# told, even against its eyes. Only the mirrored relation is harmless for most of the walk. As soon as two clouds can
# be made out, the picture says itself who is left, and the word is not heard any more. So relations are decided in
# the first steps of drawing, in the fog near $t = 1$, and there is little time in which to *learn* them: few of the
# uniform times of a batch are foggy, and the price is small among all the noise. That is why the shipped model was
# trained with a *head start*: in the first part of its training the times lean to noise, less and less, until they
# are uniform (`TrainConfig.shift_warmup`). And our student in section 6 had one as well.
#
# What is a relation worth at the very start, $t = 1$, where the input is noise and the sentence is all there is? The
# best guess is then the mean of all codes with this sentence, and that can be had without any network: sort the scenes
# of two items by what their sentences say, and see how much of the variance of the codes lies *between* the groups.
# (What is left within is divided by the scenes less the groups, so that many small groups gain nothing by chance.)

# %% tags=["slow"]
from minidiff.data.scenes import relation

duos = [scene for scene in learned if len(scene.items) == 2]
parts = (torch.stack([render(scene) for scene in duos[k : k + 100]]) for k in range(0, len(duos), 100))
z_duos = torch.cat([model.latent.encode(part) for part in parts]).flatten(1)  # (N, 512)


def explained(key):
    """Share of the variance of the codes that lies between groups of scenes with one key."""
    names = {name: k for k, name in enumerate(sorted({key(scene) for scene in duos}))}
    group = torch.tensor([names[key(scene)] for scene in duos])
    means = torch.zeros(len(names), 512).index_add_(0, group, z_duos) / torch.bincount(group)[:, None]
    within = (z_duos - means[group]).square().sum() / (len(duos) - len(names))
    return float(1 - within / z_duos.var(0).sum())


# %%
def hues(scene):
    return tuple(item.colour for item in scene.items)


news = {"both colours": explained(hues), "and the relation": explained(lambda s: (*hues(s), relation(*s.items)))}
assert news["and the relation"] > 1.8 * news["both colours"] > 0.01
print({name: f"{share:.1%}" for name, share in news.items()})

# %% [markdown]
# Little, of course: where exactly things lie, no sentence says. But at $t = 1$ the relation more than doubles what the
# colours are worth; and where the item can be seen it is worth nothing. A network trained with even times learns first
# what pays everywhere, and mutes the words "left" and "right", which are noise to it. Our first run still ignored them
# after 4,900 steps: mirroring them changed its loss by less than 0.0001 at every time. With times bent towards 1 by
#
# $$ t' = \frac{\varsigma\, t}{1 + (\varsigma - 1)\, t}, \qquad \varsigma \ge 1 \tag{12.13} $$
#
# (Esser et al. 2024 use it, with a fixed $\varsigma$, for large pictures), and $\varsigma$ falling from 60 to 1, the
# same network had learned them after 500. *In which order a model learns is a matter of what pays in the loss, and
# the loss is an average over times that we choose.*

# %%
from minidiff import sample_times

even, bent = sample_times(10_000, seeded(51)), sample_times(10_000, seeded(51), shift=60.0)
assert torch.allclose(bent, 60 * even / (1 + 59 * even), atol=1e-6)
print(f"half of the times lie above {even.median():.2f}; bent with 60, above {bent.median():.2f}")

# %% [markdown]
# ### Gist or words?
#
# The model hears a sentence twice: as the gist, the mean of all words, at every pixel; and word by word in
# cross-attention. Let it be deaf in one ear, by giving that ear the empty prompt.

# %%
def deafened(ear):
    """The 24 pictures, drawn while the gist, or the words, are those of the empty prompt."""
    def swap(module, args, output):
        (t, cond), (emb, words) = args, output
        empty = module.text_encoder(torch.zeros_like(cond))
        return (module.time(t) + module.pooled_proj(empty.mean(1)), words) if ear == "gist" else (emb, empty)
    hook = net.embed.register_forward_hook(swap)
    x = model.sample(asking, seed=7)
    hook.remove()
    return x


# %%
hearing = {"both": answers, "no gist": deafened("gist"), "no words": deafened("words")}
ears = {name: counted(graded(duets, x)) for name, x in hearing.items()}

# %%
alt = "Three rows of seven pictures: as asked; nearly the same; and pictures with other colours and shapes."
plot.strips({name: framed(x[:7]) for name, x in hearing.items()}, alt, [broken(caption(s), 11) for s in duets[:7]])

# %%
pair = {name: row["pair"][0] for name, row in ears.items()}
assert pair["no words"] < 0.5 and pair["no words"] < pair["no gist"] - 0.2 and pair["no gist"] <= pair["both"] + 0.05

# %% tags=["nbval-ignore-output"]
for name, row in ears.items():
    print(f"{name:8}", {key: f"{row[key][0]:.0%}" for key in ("colour", "shape", "pair", "relation")})

# %% [markdown]
# Now they were taken away. Without the gist
# most pairs are still there. Without the words the model knows that there is to be
# something, at times even a colour, and the pairs are gone. What it lives on is cross-attention. (Neither ear was
# ever deaf in training, so the test is a little unfair to both.)

# %% [markdown]
# ### Change one word
#
# The same noise, another word: what else changes?

# %%
base = "a red circle left of a blue square"
edits = {"as it was": base, "red: green": base.replace("red", "green"), "circle: star": base.replace("circle", "star"),
         "left: right": base.replace("left", "right"), "blue: black": base.replace("blue", "black"),
         "a: a small": base.replace("a blue", "a small blue")}
edited = {name: model.sample(model.prompts([sentence] * 6), seed=9) for name, sentence in edits.items()}

# %%
alt = "Six rows of six pictures: a red circle left of a blue square, and below one word changed in each row."
plot.strips({name: framed(x) for name, x in edited.items()}, alt)

# %%
def centre_of(x, colour):
    """The centre (B, 2) of all pixels of a colour, in parts of the picture; nan where there are none."""
    index, cover = pixel_colours(x)
    ink = ((index == list(COLOURS).index(colour)) & (cover > 0.5)).float()  # (B, 64, 64)
    across, down = ink.sum(1), ink.sum(2)  # (B, 64) each
    return torch.stack([across, down], 1) @ ((torch.arange(64) + 0.5) / 64) / ink.sum((1, 2))[:, None]


# %%
before = centre_of(edited["as it was"], "blue")
drift = {name: float((centre_of(edited[name], "blue") - before).norm(dim=1).nanmedian())
         for name in ("red: green", "circle: star", "left: right")}
assert drift["red: green"] < 0.1 and drift["left: right"] > 0.2
print("the blue square moves by", {name: f"{way:.1g}" for name, way in drift.items()})

# %% [markdown]
# With another colour of the circle the square stays where it was and what it was, to a hair: noise and relation decide
# its place. The circle, whose word was changed, is less steady: in some columns it moves, comes twice or is missing.
# Say "right" for "left", and it moves by half a picture. (Medians over
# the six, in parts of the picture's width.)
#
# Hertz et al. (2022) go one step further, *prompt-to-prompt*: they draw with the new word but with the attention maps
# of the old sentence, so that everything stays in its place but the thing itself.
#
# ### Half-way words
#
# Words are vectors, so there is something between two sentences. *Predict: half-way from "a red circle" to "a blue
# circle", with one noise, is it purple?*

# %%
from minidiff import dpmpp_2m


def between(a, b, n=9, seed=10):
    """n pictures from one noise, while the word vectors go from those of sentence a to those of b."""
    end, share = encoder(model.prompts([b])), torch.linspace(0, 1, n)[:, None, None]
    hook = encoder.register_forward_hook(lambda m, args, y: torch.cat([y[:n], torch.lerp(y[n:], end, share)]))
    noise = torch.randn(1, *model.latent.shape(model.size), generator=seeded(seed)).expand(n, -1, -1, -1)
    guided = cfg(denoiser, model.prompts([a] * n), 0, 2.0)  # the first half of its batch is the empty prompt
    z = final(dpmpp_2m(guided, noise, times(25), denoiser.schedule))
    hook.remove()
    return model.latent.decode(z)


# %%
ways = {"red to blue": ("a red circle", "a blue circle"), "circle to star": ("a green circle", "a green star"),
        "left to right": (base, base.replace("left", "right"))}
paths = {name: between(*ends) for name, ends in ways.items()}

# %%
alt = "Three rows of nine pictures, from one sentence to another."
plot.strips({name: framed(x) for name, x in paths.items()}, alt, [f"{k / 8:.2f}" for k in range(9)])

# %%
away = (1 - paths["red to blue"][[0, 4, 8]]).clamp(min=0)  # from white, at the start, half-way, at the end
inked = (away * (away.amax(1, keepdim=True) > 0.8)).sum((2, 3))  # (3, 3): what is missing of red, green and blue
lack = inked / inked.sum(1, keepdim=True)
assert lack[0, 0] < lack[1, 0] < lack[2, 0] and lack[0, 2] > lack[1, 2] > lack[2, 2]  # less red, more blue on the way

# %% [markdown]
# Red turns to blue through purple, although "purple" was never said, and no training picture has these shades:
# between the vectors of two colours lie colours. Shapes have no such middle: from circle to star it jumps, if need be
# by way of a third shape. And "left" flips to "right" at one stroke.
#
# ### Does it compose?
#
# Now the question of the chapter. In the hundred held-out scenes each picture has an item whose pair of words was never
# shown, and most have others whose pairs were. The same pictures, the same difficulty, only the pair is new:

# %%
def right_pairs(name, new):
    """(right, of) items whose pair is new to the model, or is not."""
    found = [{(f.item.colour, f.item.shape) for f in seen_ if f.iou >= 0.7} for seen_ in parse(painted[name])]
    hits = [(item.colour, item.shape) in got for scene, got in zip(tests[name], found, strict=True)
            for item in scene.items if ((item.colour, item.shape) in HELD_OUT) == new]
    return sum(hits), len(hits)


# %%
composed = {"new pairs": right_pairs("held out", True), "known pairs beside them": right_pairs("held out", False),
            "known pairs, seen scenes": right_pairs("seen", False)}
rate = {name: right / of for name, (right, of) in composed.items()}

# %% tags=["nbval-ignore-output"]
for name, (right, of) in composed.items():
    print(f"{name}: {right} of {of}, {right / of:.0%} ± {(right * (of - right) / of**3) ** 0.5:.0%}")

# %%
never = [" ".join(pair) for pair in HELD_OUT]
single = {pair: model.sample(model.prompts([f"a {pair}"] * 8), seed=12) for pair in never}
alt = "Four rows of eight: red stars, green squares, blue triangles, yellow circles, which no training picture showed."
plot.strips({name: framed(x) for name, x in single.items()}, alt)

# %%
new, beside_them = rate["new pairs"], rate["known pairs beside them"]
assert new > 0.75 and new > beside_them - 0.1

# %%
wish = {pair: Scene((Item(*pair.split()[::-1], "large", 0.5, 0.5),)) for pair in never}
alone = {pair: attribute_accuracy([wish[pair]] * 8, x)["pair"] for pair, x in single.items()}
assert sum(alone.values()) / 4 > 0.7

# %% [markdown]
# It composes. A pair that was never shown comes out right about as often as the known pairs that stand beside it in
# the same pictures. "A red star" is to this model not a picture but two instructions, and each of them was learned from
# other company.
#
# ## 9. Emoji by name
#
# Now for play. The 1,360 emoji of chapter 07 have names, "smiling cat face with open mouth", and the same code learns
# from them: `python -m minidiff train --data emoji --latent --text`. The result ships, too.

# %%
from minidiff.app.metrics import load_classifier, nearest
from minidiff.data import load

jester, about_jester = load_trained(shipped("emoji-latent-text.safetensors"))
jester = replace(jester, sampling=Sampling())
emoji, unseen, eye = load("emoji"), load("emoji", "test"), load_classifier("emoji")
print(len(jester.vocabulary.words), "words; trained for", about_jester["seconds"], "s,", about_jester["steps"], "steps")

# %%
names = ["smiling cat face with open mouth", "face with cowboy hat", "red apple", "tulip", "sun with face", "octopus",
         "slice of pizza", "yellow heart", "police car", "full moon symbol"]
assert set(names) <= set(emoji.captions)
famous = jester.sample(jester.prompts(names), seed=1)

# %%
alt = "Ten drawn emoji under their names, a cat, a hat, an apple and so on."
plot.strips({"": framed(famous, 2)}, alt, [broken(name, 12) for name in names])

# %% [markdown]
# A little fuzzy, but all can be recognised. Does it *draw* these, or *recall* them? For each, the nearest of all
# training pictures, in the features of the classifier that ships with the course (the vector before its last layer;
# chapter 13):

# %%
def described(x):
    with torch.no_grad():
        return torch.cat([eye.features(part) for part in x.split(500)])


bank = described(emoji.tensor())


# %%
def closest(x):
    """The training emoji nearest to each picture (B, 3, 32, 32), in features: indices (B,)."""
    return nearest(described(x), bank)[1]


alt = "Above ten drawn emoji, below the nearest training emoji of each."
recalled = closest(famous)
plot.strips({"drawn": framed(famous, 2), "nearest": framed(emoji.tensor(recalled), 2)}, alt,
            [broken(name, 11) for name in names])

# %% [markdown]
# In nearly all columns the nearest picture is the very emoji of that name, in a blurred copy: it recalls. No wonder:
# most words of the names stand in a single one.

# %%
from minidiff.nets.text import tokenize

count = Counter(word for name in emoji.captions for word in tokenize(name))
once = sum(number == 1 for number in count.values())
assert once > 900 and count["octopus"] == 1
print(f"{once} of {len(count)} words stand in one name only; 'cat' in {count['cat']}, 'heart' in {count['heart']}")

# %% [markdown]
# A word that stands in one name only has no meaning of its own; it is the number of a picture. In the test set there
# are 123 names that were never shown, all of whose words were. Forty of each kind: how often is the nearest picture
# of all, training and test, the one that has that name?

# %%
def named_right(names):
    """Share of drawn names whose nearest picture, of training and test, has that name."""
    x = jester.sample(jester.prompts(names), seed=31)
    captions = emoji.captions + unseen.captions
    found = nearest(described(x), torch.cat([bank, described(unseen.tensor())]))[1]
    return x, sum(captions[k] == name for k, name in zip(found.tolist(), names, strict=True)) / len(names)


# %%
spoken = [name for name in unseen.captions if set(tokenize(name)) <= set(count)]
old_names, new_names = ([names[k] for k in torch.randperm(len(names), generator=seeded(30))[:40].tolist()]
                        for names in (emoji.captions, spoken))
(old_x, old_right), (new_x, new_right) = named_right(old_names), named_right(new_names)
assert len(spoken) == 123
assert old_right > 0.7 and new_right < 0.5
print(f"recognised: {old_right:.0%} of known names, {new_right:.0%} of new ones")

# %%
true = unseen.tensor(torch.tensor([unseen.captions.index(name) for name in new_names[:10]]))
alt = "Three rows of ten: drawn from new names; the true emoji of these names; the nearest training emoji."
rows = {"drawn": new_x[:10], "true": true, "nearest": emoji.tensor(closest(new_x[:10]))}
plot.strips({key: framed(x, 2) for key, x in rows.items()}, alt, [broken(name, 12) for name in new_names[:10]])

# %% [markdown]
# Known names are recalled, nine in ten; of the new ones, one in five comes out as what it should be. Look at the row:
# of "horse face" only the face is left, a "full moon with face" is a moon without one. What the words have in common
# with other names it knows; what makes *this* thing, it cannot know.
#
# And names that nobody has given to anything:

# %%
mixed = ["blue cat face", "green sun with face", "black apple", "red moon", "purple star", "crying dog face",
         "heart with face", "pink octopus", "white tulip", "smiling pizza"]
assert not set(mixed) & set(emoji.captions + unseen.captions)
fantasy = jester.sample(jester.prompts(mixed), seed=32)

# %%
alt = "Above ten pictures of names that do not exist, below the nearest training emoji."
rows = {"drawn": fantasy, "nearest": emoji.tensor(closest(fantasy))}
plot.strips({key: framed(x, 2) for key, x in rows.items()}, alt, [broken(name, 11) for name in mixed])

# %% [markdown]
# Some colours are obeyed (a red moon, a purple something); for the rest a known picture shines through, or two of them
# mixed into mud. The network is the
# one of section 8, but for the size of its codes; it was trained for less time and without a head start. What differs
# most is the world: there each word stood in thousands of sentences, in all company; here most stand in one name.
# *Composition is learned if the data make it cheaper than memory.*
#
# And a word that it does not know:

# %%
try:
    jester.prompts(["a grining dinosaur"])
except ValueError as error:
    print(broken(str(error), 110))

# %% [markdown]
# ## 10. What the large ones do
#
# - **DALL·E** (Ramesh et al. 2021) had no diffusion: a transformer wrote the picture as a sentence of 1,024 codes of a
#   discrete autoencoder, after the sentence of words.
# - **GLIDE** (Nichol et al. 2021) is diffusion on pixels at 64 by 64, with a text transformer that learns along, as
#   ours does. It compared guidance by CLIP with guidance by dropped prompts; people preferred the latter.
# - **Latent diffusion** (Rombach et al. 2022) moved it to codes and brought cross-attention in the form of (12.2,
#   12.3). Its child Stable Diffusion does not train its reader: it is the frozen text half of CLIP (Radford et al.
#   2021), which had seen 400 million captioned pictures; 77 tokens of width 768.
# - **Imagen** (Saharia et al. 2022) froze a reader that had never seen a picture, T5, and found that a larger reader
#   helped more than a larger painter.
#
# And what we measured here goes wrong there too. Feng et al. (2022) and Chefer et al. (2023) describe colours that go
# to the wrong thing and things that are left out, in Stable Diffusion; the latter push the attention maps while
# drawing, so that no noun is overlooked. **GenEval** (Ghosh et al. 2023) measures with an object detector as we did
# with `parse`: one object, two, their number, colours, places, and which colour belongs to which. SDXL, a large model
# of its time, has one object right nearly always, but places in 15 % and two colours on two things in 23 % of cases.
# T2I-CompBench (Huang et al. 2023) asks for more kinds of relations. Okawa et al. (2023) study composition in a world
# much like ours, with shapes, colours and sizes, and find that new combinations come late and suddenly, since they
# need every single part: our $p^3$.

# %% [markdown]
# ## Errors you will meet
#
# **1. Dropping words instead of prompts.** With a chance of one in ten for each *word*, the empty prompt practically
# never occurs, and guidance leans on something that was never trained. The check: how many rows are empty?

# %%
full = torch.ones(10_000, 8, dtype=torch.long)
by_word = torch.where(torch.rand(full.shape, generator=seeded(40)) < 0.1, 0, full)
by_prompt = drop_labels(full, 0, 0.1, seeded(41))

# %%
empty = {name: float((rows == 0).all(1).float().mean()) for name, rows in (("words", by_word), ("prompts", by_prompt))}
assert empty["words"] < 0.001 and abs(empty["prompts"] - 0.1) < 0.01

# %% [markdown]
# **2. One decision for the whole batch.** `if random() < 0.1` drops all prompts of a step or none. On average it is
# right, and the network still learns; but nine steps in ten teach nothing about the empty prompt, and one teaches
# nothing else: gradients jump about.

# %%
together = torch.stack([torch.full((64,), float(u < 0.1)) for u in torch.rand(500, generator=seeded(42))])
each = (torch.rand(500, 64, generator=seeded(43)) < 0.1).float()
spread = {name: float(flags.mean(1).std()) for name, flags in (("together", together), ("each", each))}
assert abs(together.mean() - 0.1) < 0.05 and spread["together"] > 6 * spread["each"]
print({name: f"share of empty prompts in a batch 0.10 ± {std:.2f}" for name, std in spread.items()})

# %% [markdown]
# **3. Another blank.** Blanks are looked at. A tool that fills up with some other token, or with none, speaks another
# language than the one that was trained. (In Stable Diffusion, too, the end mark fills the 77 places, and other
# fillings give other pictures.) Here the blanks are replaced by "a", which says nothing, one should think:

# %%
right_ = model.prompts(four)
padded = torch.where(right_ == 0, vocabulary.words.index("a") + 1, right_)
with torch.no_grad():
    guess, other, none = (denoiser(z_t[:4], torch.full((4,), 0.99), tokens) for tokens in (right_, padded, 0 * right_))
harm = float((other - guess).norm() / (none - guess).norm())
assert harm > 0.05
print(f"the guess changes by {harm:.0%} of what leaving out the prompt would change")

# %% [markdown]
# **4. Who asks whom?** With keys and values from the picture and queries from the words, the answer has a row
# for each *word*. It cannot be added to the picture, and PyTorch says so, unless there happen to be as many words as
# pixels. Never let a test have $L = HW$.

# %%
q, k, v = torch.randn(16, 8, generator=seeded(44)), *torch.randn(2, 5, 8, generator=seeded(45))  # 16 pixels, 5 words
ask = torch.nn.functional.scaled_dot_product_attention
assert ask(q, k, v).shape == q.shape and ask(k, q, q).shape == v.shape

# %% [markdown]
# **5. The softmax over the wrong axis.** Over pixels instead of words it gives shapes that fit, and numbers that look
# like shares. Now every *word* shares itself out, and a pixel may get three of them or none. The check is (12.2): the
# shares of a pixel sum to 1.

# %%
fits_ = q @ k.T / 8**0.5
over_words, over_pixels = fits_.softmax(1).sum(1), fits_.softmax(0).sum(1)
assert torch.allclose(over_words, torch.ones(16)) and (over_pixels - 1).abs().max() > 0.3

# %% [markdown]
# **6. Tokens off by one.** If somebody numbers the words from 0 and forgets the blank, each word becomes its
# neighbour in the alphabet, and the first becomes silence. Nothing crashes, and if training and drawing have the same
# bug, nobody will ever notice; if only one has it, the pictures are nonsense. The check: decode what you encode.

# %%
shifted = (model.prompts(four[:1]) - 1).clamp(min=0)
assert vocabulary.decode(model.prompts(four[:1])) == four[:1] != vocabulary.decode(shifted)
print(f"{four[0]!r} reads {vocabulary.decode(shifted)[0]!r}")

# %% [markdown]
# ## Exercises
#
# **1. Pen.** (a) Two words have the same key. Show that a pixel cannot take the value of one of them only. What does
# that mean for two circles of different colours, if the vector of a word knows neither its place nor its neighbours?
# (b) With $HW$ pixels and $L$ words, how many products $q \cdot k$ does cross-attention need, and how many does
# self-attention? From which side of the picture on is self-attention dearer, for $L = 77$? (c) Put another prompt $y'$
# in the place of $\varnothing$ in (12.9). Where does the guess go for $w = 2$, if the prompts differ in one word?
#
# <details><summary>Answer</summary>
#
# (a) $A_{p1} = A_{p2}$ by (12.2), so whatever the pixel asks, it gets $A_{p1}(v_1 + v_2)$ of the two: twice the share
# of one, times their mean. The vectors of "circle" would be the same in both places, so their keys would be, and their
# values too: both circles get the same answer, which cannot be the colour of either. (b) $HW \cdot L$ against
# $(HW)^2$; equal at $HW = L$, so from 9 by 9 pixels on. (c) $\hat x_0(y) + [\hat x_0(y) - \hat x_0(y')]$: away from
# what the other word would bring. That is a *negative prompt*.
#
# </details>
#
# To compare with: (a) for a hundred pixels, (b) counted, and (c) drawn, with $w = 3$.

# %%
keys, values = torch.randn(2, 3, 4, generator=seeded(46)).unbind(0)  # of three words
keys[1] = keys[0]
A = torch.softmax(torch.randn(100, 4, generator=seeded(47)) @ keys.T / 4**0.5, 1)
assert torch.allclose(A[:, :2] @ values[:2], A[:, :2].sum(1, keepdim=True) * values[:2].mean(0), atol=1e-6)
for side in (4, 8, 9, 16):
    pixels_, words_ = torch.zeros(side**2, 4), torch.zeros(77, 4)
    print(f"side {side}: {(pixels_ @ words_.T).numel()} with words, {(pixels_ @ pixels_.T).numel()} among pixels")

# %%
away = cfg(denoiser, model.prompts(["a red circle"] * 8), model.prompts(["a small red circle"]), 3.0)
z = final(dpmpp_2m(away, torch.randn(8, *z_t.shape[1:], generator=seeded(47)), times(25), denoiser.schedule))
alt = "Eight pictures of a red circle, drawn away from a small one."
plot.strips({"": framed(model.latent.decode(z))}, alt)

# %% [markdown]
# **2. Code.** Some tools let one write `(red:1.5)`: pay more heed to this word. Write `heeding(q, k, v, heed)`: the
# attention of (12.2) and (12.3) without $W_O$, in which each share $A_{pj}$ is multiplied by `heed[j]`, and the shares
# of a pixel are divided by their sum, so that they add up to 1 again. `q` $(P, d)$ are the queries of the pixels, `k`
# $(L, d)$ and `v` $(L, e)$ keys and values of the words, `heed` $(L)$ is 0 or more. Each pixel gets an answer: $(P,
# e)$.

# %%
from minidiff.course import check


def heeding(q, k, v, heed):
    """What pixels q (P, d) hear from words k (L, d), v (L, e), each as loud as heed (L,) says: (P, e)."""
    ### BEGIN SOLUTION
    A = torch.softmax(q @ k.T / q.shape[-1] ** 0.5, -1) * heed  # (P, L)
    return A / A.sum(-1, keepdim=True) @ v
    ### END SOLUTION


# %%
def by_mask(q, k, v, heed):
    """PyTorch's own attention adds its mask to the products; here it is a logarithm."""
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=heed.log()[None])


generator = seeded(48)
q, k, v = (torch.randn(shape, generator=generator) for shape in ((5, 3), (7, 3), (7, 2)))
heed = torch.tensor([1.0, 1.5, 1, 1, 0.2, 0, 3])
check(heeding, by_mask, [(q, k, v, torch.ones(7)), (q, k, v, heed)],
      hint="a heed of 1 is (12.2), one of 0 silences a word without a trace; do each pixel's shares still sum to 1?")

# %% [markdown]
# **3. Open.** How many pairs may be held out before composition fails? `learn_some` trains the model of section 6 on
# those of its scenes in which each colour has one of $n$ shapes only, and then asks for four pictures of every pair,
# of those it saw and of those it never saw. *Train with $n = 3$, 2 and 1, as many steps as in section 6
# (`painter.step`). Where do the new pairs fall behind the old ones*, by more than (12.10) can explain? (New pairs are
# 36, 52 and 72 pictures.) And when a new pair fails, is it the colour that is wrong, or the shape? Fewer pairs are also
# fewer scenes: find a control that tells the one from the other.

# %%
def shown_of(n):
    """The pairs left if each colour keeps n shapes, in turn, less those held out anyway."""
    turns = [(colour, list(SHAPES)[(i + j + 2) % 4]) for i, colour in enumerate(COLOURS) for j in range(n)]
    return set(turns) - set(HELD_OUT)


def paired(artist, pairs, each):
    """Share of pairs (colour, shape) that an artist paints right, each so many times."""
    wishes_ = [Scene((Item(shape, colour, "large", 0.5, 0.5),)) for colour, shape in sorted(pairs) * each]
    tokens = few_words.encode([caption(scene) for scene in wishes_])
    return attribute_accuracy(wishes_, artist.sample(tokens, Sampling(steps=15), seed=5))["pair"]


# %%
def learn_some(pairs, steps, each=4):
    """Trains on scenes of these pairs alone: how many they are, and its shares of old and of new pairs right."""
    keep = torch.tensor([(scene.items[0].colour, scene.items[0].shape) in pairs for scene in lone])
    learner = new_painter()
    for _ in train(learner, LatentDataset(codes[keep], lessons.cond[keep]), steps=steps):
        pass
    artist = Model(learner.ema.module, (), model.size, model.latent, few_words)
    new_ones = {(colour, shape) for colour in COLOURS for shape in SHAPES} - pairs
    return {"scenes": int(keep.sum()), "old": paired(artist, pairs, each), "new": paired(artist, new_ones, each)}


# %% tags=["nbval-ignore-output"]
start = learn_some(shown_of(1), steps=3, each=1)  # only to see that it runs
assert start["scenes"] > 100 and max(start["old"], start["new"]) < 0.5
print({f"{n} shapes a colour": f"{len(shown_of(n))} pairs" for n in (4, 3, 2, 1)}, start)

# %% [markdown]
# ## What to keep
#
# - A sentence becomes tokens, tokens become vectors that know their place and their neighbours (12.1). A bag of words
#   cannot say which colour belongs to which shape.
# - Cross-attention: pixels ask, words answer (12.2), and the answer is added (12.3). It starts at zero and may be put
#   in anywhere. One vector for a sentence gives the same answer everywhere.
# - Attention knows no places, neither of words nor of pixels: both must be told (12.6).
# - To guidance a prompt is a long label: drop it whole, one by one; the empty prompt is the null (12.9).
# - Measure what was asked, with a judge that can say "none of these", that passes the truth and fails every lie (12.7,
#   12.8), and give the error with the number (12.10).
# - Colours come before shapes, shapes before relations; several things at once are a product.
# - A model trained on a world of parts composes new ones; one trained on 1,360 names with a picture each remembers.
#
# We judged by a ruler, because our world allows it. How is one to judge pictures of which no truth is known? That is
# chapter 13.
