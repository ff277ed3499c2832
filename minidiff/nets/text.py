"""A vocabulary and a small transformer that read a prompt.

A prompt becomes one token a word, and each token a vector; in a transformer (Vaswani et al. 2017) each word attends to
the others, so that the vector of "red" can carry that it belongs to the circle:

    "a red circle" -> tokens [3, 17, 6, 0, 0, ...] -> vectors (L, width)    (eq. 12.1)

Token 0 is the padding token: it fills a prompt up to L words, and the empty prompt is padding alone. Padding is
attended to like any word, so that no mask is needed (as in Stable Diffusion).
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import MAX_CHANNELS, MAX_CLASSES, MAX_LAYERS, check_int
from .layers import dot_product_attention


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows, words[k] having token k + 1, and L, the most words of a prompt."""

    words: tuple[str, ...]
    length: int

    def __post_init__(self):
        if not isinstance(self.words, tuple | list) or not 1 <= len(self.words) < MAX_CLASSES:
            raise ValueError(f"expected 1 to {MAX_CLASSES - 1} words, got {self.words!r:.60}")
        object.__setattr__(self, "words", tuple(self.words))  # JSON has lists only
        for word in self.words:
            if not isinstance(word, str) or not word:
                raise ValueError(f"expected words, got {word!r:.60} among them")
        if len(set(self.words)) < len(self.words):
            raise ValueError("expected each word once")
        check_int("length", self.length, 1, MAX_CHANNELS)

    @classmethod
    def from_captions(cls, captions: Iterable[str]) -> "Vocabulary":
        """Return the vocabulary of all words of the captions, with the length of the longest."""
        found = [tokenize(caption) for caption in captions]
        if not any(found):
            raise ValueError("expected captions with words in them, got none")
        return cls(tuple(sorted({word for words in found for word in words})), max(map(len, found)))

    def __len__(self) -> int:
        """Return the number of tokens: the words and the padding token."""
        return len(self.words) + 1

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return tokens (B, L) int64 of B prompts; ValueError for an unknown word and for a prompt too long."""
        if isinstance(prompts, str):
            raise ValueError(f"expected a list of prompts, got one string: [{prompts!r}] has one prompt")
        tokens = torch.zeros(len(prompts), self.length, dtype=torch.long)
        token = {word: k + 1 for k, word in enumerate(self.words)}
        for i, prompt in enumerate(prompts):
            words = tokenize(prompt)
            for word in words:
                if word not in token:
                    raise ValueError(f"prompt {prompt!r}: {self.unknown(word)}")
            if len(words) > self.length:
                raise ValueError(f"prompt {prompt!r}: expected at most {self.length} words, got {len(words)}")
            tokens[i, : len(words)] = torch.tensor([token[word] for word in words], dtype=torch.long)
        return tokens

    def decode(self, tokens: Tensor) -> list[str]:
        """Return the prompts of tokens (B, L), without padding."""
        return [" ".join(self.words[k - 1] for k in row if k) for row in tokens.tolist()]

    def unknown(self, word: str, most: int = 40) -> str:
        """Return the message for a word that is not in the vocabulary."""
        if len(self.words) <= most:
            return f"expected words among {', '.join(self.words)}; got {word!r}"
        close = difflib.get_close_matches(word, self.words, 3)
        known = f"close to it: {', '.join(close)}" if close else f"such as {', '.join(self.words[::100])}"
        return f"expected words among the {len(self.words)} of the training captions, {known}; got {word!r}"


def tokenize(caption: str) -> list[str]:
    """Return the words of a caption, in lower case and without the punctuation around them."""
    return [word for word in (part.strip(".,:;!?\"'()") for part in caption.lower().split()) if word]


@dataclass(frozen=True)
class TextConfig:
    """What a text encoder is made of."""

    vocab_size: int  # tokens of the vocabulary, the padding token among them
    context_length: int  # L, the most words in a prompt
    width: int = 64
    layers: int = 2
    heads: int = 4

    def __post_init__(self):
        check_int("vocab_size", self.vocab_size, 1, MAX_CLASSES)
        check_int("context_length", self.context_length, 1, MAX_CHANNELS)
        check_int("width", self.width, 1, MAX_CHANNELS)
        check_int("layers", self.layers, 0, MAX_LAYERS)
        check_int("heads", self.heads, 1, MAX_CHANNELS)
        if self.width % self.heads:
            raise ValueError(f"expected a width divisible by its {self.heads} heads, got {self.width}")


class TextBlock(nn.Module):
    """A pre-norm transformer layer: self-attention between the words, then an MLP, each added to its input."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1))  # (B, L, 3, heads, width/heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, L, width/heads) each
        x = x + self.out(dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # (B, L, width)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class TextEncoder(nn.Module):
    """Tokens (B, l), l <= L, padded to L, to one vector a word (B, L, width) (eq. 12.1).

    Tokens are not checked against the vocabulary here: a read of their values would break the graph.
    """

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.position = nn.Embedding(config.context_length, config.width)
        self.blocks = nn.ModuleList(TextBlock(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        length = self.config.context_length
        if tokens.ndim != 2 or tokens.shape[1] > length or tokens.is_floating_point():
            raise ValueError(
                f"expected integer tokens (B, at most {length}), got {tuple(tokens.shape)} of {tokens.dtype}"
            )
        tokens = F.pad(tokens, (0, length - tokens.shape[1]))  # (B, L)
        x = self.token(tokens) + self.position.weight  # (B, L, width)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
