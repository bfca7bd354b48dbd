"""A small GPT that reads and writes bytes."""

import torch
from torch import Tensor, nn
from torch.nn import functional

BYTES = 256


class GPT(nn.Module):
    """Predicts every byte of a text from the bytes before it.

    In the comments: B texts at a time, T bytes in each, D numbers for each byte, H heads with D/H numbers each.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, width: int = 128, depth: int = 3, heads: int = 2, context: int = 256) -> None:
        super().__init__()
        self.context = context
        self.embed = Embedding(width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.head = nn.Linear(width, BYTES, bias=False)
        nn.init.zeros_(self.head.weight)  # before the first step all bytes are equally likely
        cosine, sine = waves(context, width // heads)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def forward(self, text: Tensor) -> Tensor:
        """Return for each place of the texts (B, T) the scores of every possible next byte (B, T, 256)."""
        length = text.shape[1]
        x = normed(self.embed(text))  # (B, T, D)
        for block in self.blocks:
            x = block(x, self.cosine[:length], self.sine[:length])
        return self.head(normed(x))

    @torch.no_grad()
    def write(self, start: bytes, length: int, seed: int) -> bytes:
        """Continue a text by so many bytes, each drawn with the probability that the model gives it."""
        generator = torch.Generator().manual_seed(seed)
        text = torch.tensor([list(start)])
        for _ in range(length):
            scores = self(text[:, -self.context :])[0, -1]
            chances = functional.softmax(scores / 0.7, 0)  # below 1: less than the model's own boldness
            text = torch.cat([text, torch.multinomial(chances, 1, generator=generator)[None]], 1)
        return bytes(text[0].tolist())


class Embedding(nn.Module):
    """A learned vector for each byte, and one each for the last two and three bytes together.

    There are 16 million triples, so they share `slots` vectors by a hash. That triples the weights and costs almost no
    time, and the blocks need not find out first which letters stand together.
    """

    def __init__(self, width: int, slots: int = 8192) -> None:
        super().__init__()
        self.single = nn.Embedding(BYTES, width)
        self.pairs = nn.Embedding(slots, width)
        self.triples = nn.Embedding(slots, width)
        nn.init.normal_(self.pairs.weight, std=0.5)
        nn.init.normal_(self.triples.weight, std=0.5)

    def forward(self, text: Tensor) -> Tensor:
        """Return vectors (B, T, D) for texts (B, T)."""
        before = functional.pad(text, (1, 0))[:, :-1]
        before_that = functional.pad(before, (1, 0))[:, :-1]
        pair = text * 257 + before + 1
        triple = pair * 257 + before_that + 1
        return self.single(text) + self.pairs(self.slot(pair)) + self.triples(self.slot(triple))

    def slot(self, key: Tensor) -> Tensor:
        """Hash whole numbers to rows of a table (Knuth's multiplicative hash)."""
        return (key * 2654435761 >> 7) % self.pairs.num_embeddings


class Block(nn.Module):
    """Looks back at the bytes before (attention), then thinks about what it found (two linear layers)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        nn.init.zeros_(self.out.weight)  # a block begins by changing nothing
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Return x (B, T, D) with what the block adds to it."""
        x = x + self.attention(normed(x), cosine, sine)
        return x + self.down(functional.gelu(self.up(normed(x))))

    def attention(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Mix into each place what earlier places hold, by how well query and key agree."""
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        query, key = (rotated(normed(part), cosine, sine) for part in (query, key))  # (B, H, T, D/H)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


def normed(x: Tensor) -> Tensor:
    """Bring the last axis to mean 0 and variance 1."""
    return functional.layer_norm(x, x.shape[-1:])


def waves(length: int, width: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine (length, width / 2) of angles that grow with the place, each column at its own speed."""
    speed = 10_000 ** -(torch.arange(0, width, 2) / width)
    angle = torch.outer(torch.arange(length), speed)
    return angle.cos(), angle.sin()


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate pairs of numbers by an angle that says the place, so that queries and keys agree by their distance."""
    left, right = x.chunk(2, -1)
    return torch.cat([left * cosine - right * sine, left * sine + right * cosine], -1)
