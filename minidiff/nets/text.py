"""How does a network read a caption?

A caption becomes one number a word, and each number a vector that a tiny transformer (Vaswani et al. 2017) lets look
at the other words, so that the vector of "red" can know that it belongs to the circle:

    "a red circle" -> tokens [3, 17, 6, 0, 0, ...] -> vectors (L, width)    (eq. 12.1)

Token 0 is the blank: it fills a caption up to L words, and nothing but blanks is the empty prompt. The network sees
the blanks as any other word, so that no mask is needed.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows, token k + 1 being words[k], and L, the most that a prompt may have."""

    words: tuple[str, ...]
    length: int

    def __post_init__(self):
        object.__setattr__(self, "words", tuple(self.words))  # JSON has lists only

    @classmethod
    def of(cls, captions: Iterable[str]) -> "Vocabulary":
        """All words of the captions, and the length of the longest."""
        found = [split(caption) for caption in captions]
        if not any(found):
            raise ValueError("expected captions with words in them, got none")
        return cls(tuple(sorted({word for words in found for word in words})), max(map(len, found)))

    def __len__(self) -> int:
        """The number of tokens: the words and the blank."""
        return len(self.words) + 1

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Tokens (B, L) int64 of B prompts. ValueError for a word that is not known and for a prompt too long."""
        if isinstance(prompts, str):
            raise ValueError(f"expected a list of prompts, got one string: [{prompts!r}] has one prompt")
        tokens = torch.zeros(len(prompts), self.length, dtype=torch.long)
        token = {word: k + 1 for k, word in enumerate(self.words)}
        for i, prompt in enumerate(prompts):
            words = split(prompt)
            for word in words:
                if word not in token:
                    raise ValueError(f"prompt {prompt!r}: {self.unknown(word)}")
            if len(words) > self.length:
                raise ValueError(f"prompt {prompt!r}: expected at most {self.length} words, got {len(words)}")
            tokens[i, : len(words)] = torch.tensor([token[word] for word in words], dtype=torch.long)
        return tokens

    def decode(self, tokens: Tensor) -> list[str]:
        """The prompts of tokens (B, L), blanks left out."""
        return [" ".join(self.words[k - 1] for k in row if k) for row in tokens.tolist()]

    def unknown(self, word: str, most: int = 40) -> str:
        """What to say of a word that is not known."""
        if len(self.words) <= most:
            return f"expected words among {', '.join(self.words)}; got {word!r}"
        close = difflib.get_close_matches(word, self.words, 3)
        known = f"close to it: {', '.join(close)}" if close else f"such as {', '.join(self.words[::100])}"
        return f"expected words among the {len(self.words)} of the training captions, {known}; got {word!r}"


def split(caption: str) -> list[str]:
    """The words of a caption: lower case, without the marks around them."""
    return [word for word in (part.strip(".,:;!?\"'()") for part in caption.lower().split()) if word]


@dataclass(frozen=True)
class TextConfig:
    tokens: int  # of the vocabulary, the blank among them
    length: int  # L, the most words in a prompt
    width: int = 64
    layers: int = 2
    heads: int = 4


class TextBlock(nn.Module):
    """Each word looks at all words, then is thought over by itself; both are added to what came in."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.to(self.qkv.weight.dtype)  # (B, heads, L, width/heads) each
        with torch.autocast(x.device.type, enabled=False):
            h = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(h.transpose(1, 2).flatten(2))  # (B, L, width)
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class TextEncoder(nn.Module):
    """Tokens (B, l), l <= L, blanks appended, to one vector a word (B, L, width) (eq. 12.1)."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.tokens, config.width)
        self.position = nn.Embedding(config.length, config.width)
        self.blocks = nn.ModuleList(TextBlock(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        c = self.config
        if tokens.ndim != 2 or tokens.shape[1] > c.length or tokens.is_floating_point():
            raise ValueError(
                f"expected integer tokens (B, at most {c.length}), got {tuple(tokens.shape)} of {tokens.dtype}"
            )
        if tokens.numel() and not 0 <= tokens.min() <= tokens.max() < c.tokens:
            raise ValueError(f"expected tokens 0..{c.tokens - 1}, got {tokens.min()}..{tokens.max()}")
        tokens = F.pad(tokens, (0, c.length - tokens.shape[1]))  # (B, L)
        x = self.token(tokens) + self.position.weight  # (B, L, width)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
