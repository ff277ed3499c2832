"""Words to vectors, and vectors to the picture: the vocabulary, the encoder, cross-attention, the U-Net that reads."""

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F

from minidiff import Cosine, Denoiser
from minidiff.latent import LatentDataset
from minidiff.nets.layers import CrossAttention
from minidiff.nets.text import TextConfig, TextEncoder, Vocabulary, tokenize
from minidiff.nets.unet import FREQUENCIES, UNet, UNetConfig, position_encoding
from minidiff.training import TrainConfig, TrainState, train

CAPTIONS = ("A red circle.", "a small blue square", 'a "red" circle, left of a star!')
VOCABULARY = Vocabulary.from_captions(CAPTIONS)
CONFIG = UNetConfig(
    channels=2,
    num_classes=0,
    width=8,
    channel_mult=(1, 2),
    patch_size=1,
    text=TextConfig(len(VOCABULARY), 7, width=16, layers=1),
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved(net: torch.nn.Module) -> torch.nn.Module:
    """The network with every parameter moved, so that no part is silenced by its zero initialisation."""
    g = seeded()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return net


def reader(**config) -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(TextConfig(**{"vocab_size": 9, "context_length": 7, "width": 16, "layers": 1} | config)).eval()


# the vocabulary


def test_words_are_lower_case_and_without_marks():
    assert tokenize('A "red" circle, (left) of: two-tone?!') == ["a", "red", "circle", "left", "of", "two-tone"]
    assert tokenize(" ... ") == []


def test_vocabulary_has_every_word_once_in_order_and_the_longest_caption():
    assert VOCABULARY.words == ("a", "blue", "circle", "left", "of", "red", "small", "square", "star")
    assert VOCABULARY.length == 7 and len(VOCABULARY) == 10


def test_tokens_are_numbered_from_one_and_padded_with_zeros():
    tokens = VOCABULARY.encode(["a red circle", "", "STAR"])
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[1, 6, 3, 0, 0, 0, 0], [0] * 7, [9] + [0] * 6]


def test_decode_is_the_inverse_of_encode():
    prompts = ["a red circle left of a star", "small", ""]
    assert VOCABULARY.decode(VOCABULARY.encode(prompts)) == prompts


def test_a_vocabulary_read_from_json_equals_the_one_written():
    assert Vocabulary(list(VOCABULARY.words), 7) == VOCABULARY


@pytest.mark.parametrize(
    "prompts, message",
    [
        (["a pink circle"], "prompt 'a pink circle': expected words among a, blue, circle, .*, star; got 'pink'"),
        (["a a a a a a a a"], "expected at most 7 words, got 8"),
        ("a red circle", "expected a list of prompts, got one string"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused(prompts, message):
    with pytest.raises(ValueError, match=message):
        VOCABULARY.encode(prompts)


def test_a_large_vocabulary_names_the_closest_words():
    many = Vocabulary(tuple(f"word{k}" for k in range(99)) + ("yellow",), 3)
    with pytest.raises(ValueError, match="the 100 of the training captions, close to it: yellow; got 'yelow'"):
        many.encode(["yelow"])
    with pytest.raises(ValueError, match="such as word0; got 'qqq'"):
        many.encode(["qqq"])


@pytest.mark.parametrize("captions", [(), ("", "?")])
def test_captions_without_words_are_refused(captions):
    with pytest.raises(ValueError, match="expected captions with words in them, got none"):
        Vocabulary.from_captions(captions)


@pytest.mark.parametrize(
    "words, length, message",
    [
        ((), 7, "expected 1 to 999999 words"),
        ("red", 7, "expected 1 to 999999 words, got 'red'"),
        (None, 7, "expected 1 to 999999 words, got None"),
        (("red", 3), 7, "expected words, got 3 among them"),
        (("red", ""), 7, "expected words, got '' among them"),
        (("red", "red"), 7, "expected each word once"),
        (("red",), 0, "expected length an integer from 1 to 8192, got 0"),
        (("red",), 7.0, "got 7.0"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(words, length, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(words, length)


# the encoder


def test_one_vector_a_word_and_padding_is_appended():
    net, tokens = reader(), torch.tensor([[3, 1, 4]])
    whole = net(F.pad(tokens, (0, 4)))
    assert whole.shape == (1, 7, 16)
    assert torch.equal(net(tokens), whole)


def test_each_caption_is_read_by_itself():
    net, tokens = reader(), torch.randint(9, (5, 7), generator=seeded())
    assert torch.allclose(net(tokens)[3:4], net(tokens[3:4]), atol=1e-6)


@pytest.mark.parametrize("layers", [0, 1])
def test_order_matters_at_the_place_and_to_the_others(layers):
    """Without a block each vector knows its own word and place alone; with one, the words around it too."""
    net = reader(layers=layers)
    one, other = (net(torch.tensor([words]))[0] for words in ([1, 2, 3], [2, 1, 3]))
    assert not torch.allclose(one[0], other[1], atol=1e-2)  # the same word, elsewhere
    assert torch.allclose(one[2], other[2], atol=1e-5) == (layers == 0)  # the same word and place, others swapped


def test_without_positions_a_swap_of_words_swaps_their_vectors():
    net = reader(layers=2)
    torch.nn.init.zeros_(net.position.weight)
    order = torch.tensor([4, 0, 6, 1, 3, 2, 5])
    tokens = torch.randint(9, (2, 7), generator=seeded())
    assert torch.allclose(net(tokens[:, order]), net(tokens)[:, order], atol=1e-5)


def test_a_block_is_torchs_transformer_layer():
    """Anchor: pre-norm, GELU, the same weights, in torch.nn.TransformerEncoderLayer."""
    block = moved(reader()).blocks[0]
    theirs = torch.nn.TransformerEncoderLayer(16, 4, 64, 0.0, F.gelu, batch_first=True, norm_first=True)
    pairs = {
        "self_attn.in_proj_weight": block.qkv.weight,
        "self_attn.in_proj_bias": block.qkv.bias,
        "self_attn.out_proj.weight": block.out.weight,
        "self_attn.out_proj.bias": block.out.bias,
        "linear1.weight": block.fc1.weight,
        "linear1.bias": block.fc1.bias,
        "linear2.weight": block.fc2.weight,
        "linear2.bias": block.fc2.bias,
        "norm1.weight": block.norm1.weight,
        "norm1.bias": block.norm1.bias,
        "norm2.weight": block.norm2.weight,
        "norm2.bias": block.norm2.bias,
    }
    theirs.load_state_dict({name: p.detach() for name, p in pairs.items()})
    x = torch.randn(3, 7, 16, generator=seeded(1))
    assert torch.allclose(block(x), theirs(x), atol=1e-5)


@pytest.mark.parametrize(
    "tokens, message",
    [
        (torch.zeros(2, 8, dtype=torch.long), r"\(B, at most 7\), got \(2, 8\)"),
        (torch.zeros(7, dtype=torch.long), r"got \(7,\)"),
        (torch.zeros(2, 7), "of torch.float32"),
    ],
)
def test_tokens_that_cannot_be_are_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        reader()(tokens)


# cross-attention


def layer(heads: int = 2) -> CrossAttention:
    torch.manual_seed(0)
    return moved(CrossAttention(8, 6, heads))


def picture_and_words() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 8, 3, 4, generator=seeded(1)), torch.randn(2, 5, 6, generator=seeded(2))


def test_a_new_layer_adds_nothing():
    x, words = picture_and_words()
    assert torch.equal(CrossAttention(8, 6, 2)(x, words), x)


def test_cross_attention_is_its_definition_pixel_by_pixel():
    """Oracle: loops over pictures, heads and pixels (eqs 12.2, 12.3)."""
    net, (x, words) = layer(), picture_and_words()
    h = net.norm(x)
    keys, values = net.kv(words).chunk(2, dim=-1)  # (B, L, 8) each
    found = torch.zeros_like(x)
    looks = torch.zeros(2, 2, 3, 4, 5)
    for b in range(2):
        for i in range(3):
            for j in range(4):
                query = net.q.weight[:, :, 0, 0] @ h[b, :, i, j] + net.q.bias
                for head in range(2):
                    part = slice(4 * head, 4 * head + 4)
                    a = torch.softmax(keys[b, :, part] @ query[part] / 2, 0)  # 2 = sqrt(4)
                    looks[b, head, i, j] = a
                    found[b, part, i, j] = a @ values[b, :, part]
    out = torch.einsum("dc,bchw->bdhw", net.out.weight[:, :, 0, 0], found) + net.out.bias[:, None, None]
    assert torch.allclose(net(x, words), x + out, atol=1e-5)
    assert torch.allclose(net.maps(x, words), looks, atol=1e-5)


def test_cross_attention_is_torchs():
    """Anchor: torch.nn.MultiheadAttention with the same weights."""
    net, (x, words) = layer(4), picture_and_words()
    theirs = torch.nn.MultiheadAttention(8, 4, kdim=6, vdim=6, batch_first=True)
    weights = {
        "q_proj_weight": net.q.weight[:, :, 0, 0],
        "k_proj_weight": net.kv.weight[:8],
        "v_proj_weight": net.kv.weight[8:],
        "in_proj_bias": torch.cat([net.q.bias, net.kv.bias]),
        "out_proj.weight": net.out.weight[:, :, 0, 0],
        "out_proj.bias": net.out.bias,
    }
    theirs.load_state_dict({name: p.detach() for name, p in weights.items()})
    asks = net.norm(x).flatten(2).transpose(1, 2)  # (B, HW, 8)
    answer, looks = theirs(asks, words, words, average_attn_weights=False)
    assert torch.allclose(net(x, words), x + answer.transpose(1, 2).reshape(x.shape), atol=1e-5)
    assert torch.allclose(net.maps(x, words), looks.unflatten(2, (3, 4)), atol=1e-5)


def test_each_pixel_shares_out_all_its_attention():
    maps = layer().maps(*picture_and_words())
    assert maps.shape == (2, 2, 3, 4, 5) and maps.min() > 0
    assert torch.allclose(maps.sum(-1), torch.ones(2, 2, 3, 4))


def test_the_order_of_the_words_is_none_of_its_business():
    """Only the vectors say where a word stood; pixels are treated alike, too."""
    net, (x, words) = layer(), picture_and_words()
    assert torch.allclose(net(x, words.flip(1)), net(x, words), atol=1e-5)
    assert torch.allclose(net(x.flip(3), words), net(x, words).flip(3), atol=1e-5)


# the U-Net that reads


def asked(b: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, t = torch.randn(b, 2, 8, 8, generator=seeded(1)), torch.rand(b, generator=seeded(2))
    return x, t, torch.randint(len(VOCABULARY), (b, 7), generator=seeded(3))


@pytest.fixture
def unet() -> UNet:
    torch.manual_seed(0)
    return moved(UNet(CONFIG))


def test_a_new_network_outputs_zero_whatever_it_is_told():
    x, t, tokens = asked()
    assert torch.equal(UNet(CONFIG)(x, t, tokens), torch.zeros_like(x))


def test_output_has_the_shape_of_the_input_and_depends_on_the_words(unet):
    x, t, tokens = asked()
    one, other = unet(x, t, tokens), unet(x, t, tokens.flip(1))
    assert one.shape == x.shape and (one - other).abs().max() > 1e-3


def test_nothing_told_is_the_empty_prompt(unet):
    x, t, _ = asked()
    empty = torch.zeros(3, 7, dtype=torch.long)
    assert torch.equal(unet(x, t), unet(x, t, empty))
    assert torch.equal(unet(x, t, empty[:, :2]), unet(x, t, empty))


def test_gradient_reaches_every_parameter_and_every_word(unet):
    x, t, _ = asked()
    tokens = torch.arange(len(VOCABULARY)).repeat(3)[:21].view(3, 7)
    (unet(x, t, tokens) ** 3).sum().backward()
    assert [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert unet.embed.text_encoder.token.weight.grad.any(1).all()


def test_positions_are_waves_across_and_down():
    """Oracle: (eq. 12.6) one number at a time."""
    waves = position_encoding(3, 5)
    assert waves.shape == (16, 3, 5)
    for i in range(3):
        for j in range(5):
            angles = [math.pi * nu * xi for xi in ((j + 0.5) / 5, (i + 0.5) / 3) for nu in FREQUENCIES]
            expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
            assert torch.allclose(waves[:, i, j], torch.tensor(expected), atol=1e-5)


def test_no_two_positions_are_alike():
    alike = torch.pdist(position_encoding(8, 8).flatten(1).T)
    assert alike.min() > 0.5


def test_a_block_knows_where_it_is(unet):
    """On a picture that is the same everywhere, only the position encoding and the edges tell pixels apart."""
    block = unet.down[0][0]
    emb, words = unet.embed(torch.ones(1), None)
    flat = block(torch.ones(1, 8, 32, 32), (emb, words))[0]
    assert (flat[:, 10:20, 10] - flat[:, 10:11, 10]).abs().max() > 1e-3
    assert (flat[:, 10, 10:20] - flat[:, 10, 10:11]).abs().max() > 1e-3


def test_config_read_from_json_equals_the_one_written():
    assert UNetConfig(**json.loads(json.dumps(dataclasses.asdict(CONFIG)))) == CONFIG


def test_it_learns_what_the_words_say():
    """Claim: pictures are +1 or -1 all over, as one word says; only who reads can tell which."""
    torch.manual_seed(0)
    tokens = VOCABULARY.encode(["a red circle", "a blue circle"]).repeat(32, 1)
    x0 = torch.tensor([1.0, -1.0]).repeat(32)[:, None, None, None].expand(-1, 2, 8, 8)
    training = TrainState(
        Denoiser(UNet(CONFIG), Cosine()), TrainConfig(precision="fp32", warmup_steps=10, lr=1e-2, label_dropout=0.0)
    )
    losses = [p.loss for p in train(training, LatentDataset(x0, tokens), steps=60)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    noise = torch.randn(2, 2, 8, 8, generator=seeded())
    guess = training.model(noise, torch.ones(2), tokens[:2]).mean((1, 2, 3))  # at t = 1 only the words tell
    assert guess[0] > 0.5 and guess[1] < -0.5
