"""Runs over every kind of data, interrupted and gone on with: a program for `test_resume.py`, which starts it twice.

`resuming.py run FOLDER` reads every source to its end and saves its state at some steps; `resuming.py resume FOLDER`
goes on from each of them in a new process. Between two batches random numbers are drawn, as dropout would.
"""

import random
import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset

from steepest.data import open_source
from steepest.data.batches import Batches
from steepest.snapshot import random_state, restore_random_state

SAMPLES, BATCH, STEPS = 18, 4, 15  # 5 batches in an epoch, the last one short
POINTS = (0, 1, 3, 5, 6, 8, 10, 14)  # steps done; at 5 and 10 an epoch is over
GO_ON = 3  # so many steps after a resume, the state is saved and loaded once more


class Drawing(Dataset):
    """Samples that are augmented from all three global generators."""

    def __len__(self):
        return SAMPLES

    def __getitem__(self, place):
        return torch.stack(
            [torch.tensor(float(place)), torch.rand(()), torch.tensor(random.random() + np.random.rand())]
        )


class Owning(Drawing):
    """Samples that are augmented from a generator of the dataset's own."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(3)

    def __getitem__(self, place):
        return torch.stack([torch.tensor(float(place)), torch.rand((), generator=self.generator)])


class Shuffled:
    """A sampler whose order comes from NumPy's global generator, or from one of its own."""

    def __init__(self, generator=None):
        self.generator = generator

    def __iter__(self):
        if self.generator is not None:
            return iter(torch.randperm(SAMPLES, generator=self.generator).tolist())
        return iter(np.random.permutation(SAMPLES).tolist())

    def __len__(self):
        return SAMPLES


class Lazy(Shuffled):
    """A batch sampler that draws each batch when it is asked for, from a generator of its own."""

    def __iter__(self):
        for _ in range(5):
            yield torch.randint(SAMPLES, (BATCH,), generator=self.generator).tolist()

    def __len__(self):
        return 5


class Stream(IterableDataset):
    """A stream in another order each time, without a length."""

    def __iter__(self):
        numbers = list(range(SAMPLES))
        random.shuffle(numbers)
        yield from (torch.tensor([number + torch.rand(()).item()]) for number in numbers)


class Fresh:
    """An iterable without a length that is neither loader nor dataset."""

    def __iter__(self):
        return (torch.from_numpy(np.random.rand(2)) for _ in range(5))


class Standing:
    """A loader with a state of its own, as torchdata's; it would give other batches if it were read again."""

    def __init__(self):
        self.done, self.reads = 0, 0

    def __len__(self):
        return 5

    def __iter__(self):
        self.done %= 5
        while self.done < 5:
            self.done, self.reads = self.done + 1, self.reads + 1
            yield torch.tensor([self.reads, self.done])

    def state_dict(self):
        return {"done": self.done, "reads": self.reads}

    def load_state_dict(self, state):
        self.done, self.reads = state["done"], state["reads"]


class Finishing(Standing):
    """Another, which ends the epoch that its state is of, even if nothing is left of it."""

    def __init__(self):
        super().__init__()
        self.goes_on = False

    def __iter__(self):
        nothing_left, self.goes_on = self.goes_on and self.done == 5, False
        return iter(()) if nothing_left else super().__iter__()

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.goes_on = True


def endless():
    numbers = random.Random(5)
    first = random.random()
    while True:
        yield torch.tensor([first, numbers.random()])


class Forgetful(Batches):
    """Breach: reads again with whatever random numbers there are."""

    def _put_back(self, number, start):
        pass


DRAWING = Drawing()


def generator(seed):
    return torch.Generator().manual_seed(seed)


def loader(dataset=DRAWING, **options):
    return DataLoader(dataset, BATCH, **options)


def text():
    path = Path(sys.argv[2]) / "lines.txt"
    path.write_text("".join(f"line {number}\n" for number in range(SAMPLES)))
    return path


CASES = {
    "arrays": lambda: np.arange(SAMPLES),
    "dataset": Drawing,
    "text": text,
    "list": lambda: [torch.tensor([number]) for number in range(5)],
    "loader": loader,
    "shuffle": lambda: loader(shuffle=True),
    "shuffle, drop_last": lambda: loader(shuffle=True, drop_last=True),
    "shuffle, own generator": lambda: loader(shuffle=True, generator=generator(1)),
    "workers": lambda: loader(shuffle=True, num_workers=2),
    "workers, own generator": lambda: loader(shuffle=True, num_workers=2, generator=generator(2)),
    "workers that persist": lambda: loader(
        torch.arange(SAMPLES), shuffle=True, num_workers=2, persistent_workers=True, generator=generator(2)
    ),
    "workers that persist, global": lambda: loader(
        torch.arange(SAMPLES), shuffle=True, num_workers=2, persistent_workers=True
    ),
    "sampler": lambda: loader(sampler=Shuffled()),
    "sampler, own generator": lambda: loader(sampler=Shuffled(generator(4))),
    "batch sampler, own generator": lambda: DataLoader(Drawing(), batch_sampler=Lazy(generator(5))),
    "batch sampler, workers": lambda: DataLoader(Drawing(), batch_sampler=Lazy(generator(5)), num_workers=2),
    "sampler of epochs": lambda: loader(sampler=DistributedSampler(Drawing(), num_replicas=2, rank=1)),
    "dataset's own generator": lambda: loader(Owning(), shuffle=True),
    "stream": Stream,
    "iterable": Fresh,
    "iterator": endless,
    "own state": Standing,
    "own state, ended": Finishing,
    "breach": lambda: Forgetful(loader(shuffle=True)),
}


class Loop:
    """A training loop's way with data: what it keeps, and when it puts it back."""

    def __init__(self, case):
        data = CASES[case]()
        self.source = data if isinstance(data, Batches) else open_source(data, BATCH, 7)
        self.said = []
        self.source.say = self.said.append
        self.epoch = self.batch = 0
        self.steps = self.feed()

    def feed(self):
        while True:
            for batch in self.source.epoch(self.epoch, self.batch):
                self.batch += 1
                consumed = [torch.rand(3).tolist(), np.random.rand(), random.random()]  # dropout and the like
                yield self.epoch, batch if isinstance(batch, list) else batch.tolist(), consumed
            self.epoch, self.batch = self.epoch + 1, 0

    def close(self):
        """End the epoch too: a cycle through this generator would keep worker processes until it is collected."""
        self.steps.close()
        self.source.close()

    def state(self):
        return {
            "epoch": self.epoch, "batch": self.batch, "data": self.source.state_dict(), "random": random_state(),
        }  # fmt: skip

    def load(self, state):
        self.source.load_state_dict(state["data"])
        self.epoch, self.batch = state["epoch"], state["batch"]
        restore_random_state(state["random"])
        return self


def run(case):
    """All steps of a run without a break, and the states on the way."""
    loop = Loop(case)
    states, steps = {}, []
    for done in range(STEPS):
        if done in POINTS:
            states[done] = loop.state()
        steps.append(next(loop.steps))
    loop.close()
    return {"steps": steps, "states": states}


def resume(case, state, done):
    """The steps from this state on, with one more break on the way."""
    state = Loop(case).load(state).state()
    loop = Loop(case).load(state)  # saved again before anything was read
    steps = [next(loop.steps) for _ in range(min(GO_ON, STEPS - done))]
    state = loop.state()  # before a loader is made, which may draw a seed
    again = Loop(case).load(state)
    loop.close()
    steps += [next(again.steps) for _ in range(STEPS - done - len(steps))]
    again.close()
    return {"steps": steps, "said": loop.said}


def main(action, folder):
    path = Path(folder) / "run"
    if action == "run":
        torch.manual_seed(1)
        torch.save({case: run(case) for case in CASES}, path)
        return
    saved = torch.load(path, weights_only=True)  # plain data and tensors only
    found = {case: {done: resume(case, state, done) for done, state in saved[case]["states"].items()} for case in CASES}
    torch.save(found, Path(folder) / "resumed")


if __name__ == "__main__":
    main(*sys.argv[1:])
