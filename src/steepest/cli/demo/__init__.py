"""The demo: a small GPT learns the sources of Python's standard library while you watch."""

import math

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from steepest.cli.demo.gpt import GPT
from steepest.cli.demo.text import as_tensor, library_files, split, xz_bits_per_byte
from steepest.fit import fit
from steepest.loop import Task
from steepest.snapshot import seed_everything

STEPS, BATCH = 1000, 8  # two minutes on two cores
SAMPLE = 1 << 18  # bytes of held-out text on which model and xz are compared
PROMPT = b'def read(self, size=-1):\n    """'


def task(model: GPT, train: bytes, held_out: bytes, steps: int) -> Task:
    """Return the task: predict each byte of a text from those before it."""
    val = windows(held_out[: 1 << 15], model.context)
    return Task(model, bits, windows(train, model.context), val=val, steps=steps, batch_size=BATCH)


def windows(text: bytes, context: int) -> Tensor:
    """Cut a text into rows of context + 1 bytes: the model sees all but the last, and predicts all but the first."""
    return as_tensor(text).unfold(0, context + 1, context)


def bits(model: GPT, batch: Tensor) -> Tensor:
    """Return how many bits a byte takes when it is coded with the probabilities that the model gives, on average."""
    return costs(model, batch.long()).mean() / math.log(2)


@torch.no_grad()
def bits_per_byte(model: GPT, text: bytes) -> float:
    """Return the bits for each byte of a text, where all but its beginning is predicted from half a context or more.

    The first byte, of which nothing is known, costs 8. The text has a whole number of half contexts and one byte more.
    """
    half = model.context // 2
    rows = as_tensor(text).long().unfold(0, model.context + 1, half)
    nats = sum(costs(model, part)[:, half:].sum().item() for part in rows.split(16))
    nats += costs(model, rows[:1])[:, :half].sum().item()
    return (8 + nats / math.log(2)) / len(text)


def costs(model: GPT, text: Tensor) -> Tensor:
    """Return what each byte but the first costs (B, T), in natural units of information."""
    scores, targets = model(text[:, :-1]), text[:, 1:]
    return functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


def run_demo(steps: int | None, seed: int) -> bool:
    """Train, compare with xz, show what the model writes before and after; False when interrupted."""
    console = Console(highlight=False, soft_wrap=True)
    seed_everything(seed)
    train, held_out = split(library_files())
    model = GPT()
    weights = sum(parameter.numel() for parameter in model.parameters())
    console.print(
        f"A GPT with {weights:,} weights learns to write Python, byte by byte, from {len(train):,} bytes of the "
        f"standard library; {len(held_out):,} bytes in other files are held out."
    )
    show(console, "What it writes before it has learned anything", model.write(PROMPT, 200, seed))
    console.print("\nTraining; the loss is bits for each byte, and 8 when nothing is known.", style="bold")
    result = fit(**vars(task(model, train, held_out, STEPS if steps is None else steps)), seed=seed)
    show(console, "What it writes now", model.write(PROMPT, 500, seed))
    compare(console, model, train[: result.steps * BATCH * model.context], held_out)
    return result.status == "finished"


def show(console: Console, title: str, text: bytes) -> None:
    """Print a piece of text as the model wrote it."""
    console.print(f"\n{title}:", style="bold")
    console.print(text.decode("utf-8", "replace").translate(VISIBLE), markup=False)


VISIBLE = dict.fromkeys({*range(32), 127} - {*b"\n\t"}, "\N{REPLACEMENT CHARACTER}")


def compare(console: Console, model: GPT, read: bytes, held_out: bytes) -> None:
    """Print the bits for each byte of held-out text beside what xz makes of it."""
    half = model.context // 2
    sample = held_out[: (min(SAMPLE, len(held_out) - 1) // half) * half + 1]
    primed = (len(read) + len(sample)) * xz_bits_per_byte(read + sample) - len(read) * xz_bits_per_byte(read)
    rows = {
        f"the model, after {len(read):,} bytes of other files": bits_per_byte(model, sample),
        "xz -9": xz_bits_per_byte(sample),
        "xz -9, after as many bytes of other files": primed / len(sample),
    }
    console.print(f"\nBits for each byte of {len(sample):,} bytes of held-out text:", style="bold")
    for name, value in rows.items():
        console.print(f"  {value:.3f}  {name}")
