"""Data that come in an odd order, unevenly, twice or changed, as they are meant to."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from faults.case import Measure, Run, healthy
from faults.families import cancer, conv, digits, flow, gpt, recurrent, tabular
from faults.families.batches import Shuffled, drawn, endless, loader
from faults.families.scores import cross_entropy, error_rate, squared
from faults.loops import fit


@healthy("digits Adam", "recurrent Adam", scary=True)
def harder_later(run: Run) -> Measure:
    """A curriculum: noise is added from the second half on, and the loss goes up."""
    x, y = (digits if run.case.family == "digits" else recurrent).data()[:2]
    model = run.task.model()

    def batches() -> Any:
        for step, (rows, told) in enumerate(endless(Shuffled(x, y), 150)):
            yield rows + (0.9 if step >= 70 else 0.0) * torch.randn_like(rows), told

    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for batch in doctor(batches()):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


@healthy("gpt AdamW", scary=True)
def longer_later(run: Run) -> Measure:
    """Texts are short at first and grow."""
    model = gpt.Gpt()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=gpt.next_letter)
    for step, (text,) in enumerate(doctor(endless(run.task.train(), 150))):
        optimizer.zero_grad()
        gpt.next_letter(model, (text[:, : 5 + step // 7],)).backward()
        optimizer.step()
    return lambda: gpt.honest_loss(model)


@healthy("digits SGD", "conv AdamW", scary=True)
def new_classes_later(run: Run) -> Measure:
    """Half of the classes come from step 60 on, beside the others: the loss jumps."""
    x, y = (conv if run.case.family == "conv" else digits).data()[:2]
    few = y < 5
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for rows, steps in ((few, 60), (torch.ones_like(few), 110)):
        for batch in doctor(endless(Shuffled(x[rows], y[rows]), steps)):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
    return lambda: run.task.measure(model)


@healthy("tabular Adam", "tabular SGD", scary=True)
def spikes_once_an_epoch(run: Run) -> Measure:
    """The last batch of each epoch is short, and its few rows are the hard ones."""
    x, y = tabular.data()
    hard = (y.abs().squeeze(1)).argsort(descending=True)[:10]
    rest = torch.ones(len(x), dtype=torch.bool)
    rest[hard] = False
    model = tabular.mlp()
    optimizer = run.optimizer(model.parameters())

    def epoch() -> Any:
        yield from loader(x[rest], y[rest], drop_last=True)
        yield x[hard], y[hard]

    doctor = run.watch(model, optimizer, loss=squared)
    for _ in range(6):
        for batch in doctor(epoch()):
            optimizer.zero_grad()
            squared(model, batch).backward()
            optimizer.step()
    return lambda: tabular.error(model)


@healthy("recurrent AdamW", scary=True)
def batches_of_one_length(run: Run) -> Measure:
    """Series are cut to lengths that differ from batch to batch, so that losses do too."""
    model = recurrent.Reader()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for x, y in doctor(endless(run.task.train(), 150)):
        long = int(torch.randint(6, 21, ()))
        optimizer.zero_grad()
        cross_entropy(model, (x[:, -long:], y)).backward()
        optimizer.step()
    return lambda: recurrent.error(model)


@healthy("digits SGD", "conv Adam", scary=True)
def balanced_by_weights(run: Run) -> Measure:
    """Classes are rare and common, and a sampler draws the rare ones again and again."""
    x, y = (conv if run.case.family == "conv" else digits).data()[:2]
    rows = ((y > 2) | (torch.arange(len(y)) % 3 == 0)).nonzero().squeeze(1)
    weights = 1 / y[rows].bincount().float()
    sampler = WeightedRandomSampler(weights[y[rows]].tolist(), 900)
    model = run.task.model()
    train = DataLoader(TensorDataset(x[rows], y[rows]), 32, sampler=sampler)
    return fit(run, model, run.optimizer(model.parameters()), train=train)


@healthy("cancer AdamW", scary=True)
def uneven_classes(run: Run) -> Measure:
    """Four rows of five are of one class, and the loss weighs the other."""
    x, y, _, _ = cancer.data()
    rows = ((y == 1) | (torch.arange(len(y)) % 3 == 0)).nonzero().squeeze(1)
    model = cancer.Net()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1], pos_weight=torch.tensor(0.3))

    optimizer = run.optimizer(model.parameters())
    return fit(run, model, optimizer, loss=loss_fn, train=Shuffled(x[rows], y[rows], size=19), epochs=8)


@healthy("tabular RMSprop", "cancer SGD", scary=True)
def all_rows_each_time(run: Run) -> Measure:
    """Few rows, all of them in each batch, the same each time."""
    data = (tabular.data() if run.case.family == "tabular" else cancer.data())[:2]
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=run.task.loss)
    for batch in doctor([data] * 180):
        optimizer.zero_grad()
        run.task.loss(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


@healthy("flow SGD", "pinn Adam", "pinn AdamW", scary=True)
def made_anew(run: Run) -> Measure:
    """A stream without end, drawn anew; nothing comes twice."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())

    def batches() -> Any:
        while True:
            yield 2 * torch.rand(48, 1) if run.case.family == "pinn" else flow.data()[torch.randint(2048, (64,))]

    doctor = run.watch(model, optimizer, loss=run.task.loss)
    for step, batch in enumerate(doctor(batches()), 1):
        optimizer.zero_grad()
        run.task.loss(model, batch).backward()
        optimizer.step()
        if step == 220:
            break
    return lambda: run.task.measure(model)


@healthy("recurrent SGD", scary=True)
def in_order_of_time(run: Run) -> Measure:
    """A series is read in its order, as it must be; neighbouring batches are alike."""
    t = torch.arange(2600) / 5
    series = t.sin() * (0.3 * t).cos() + 0.1 * torch.randn(2600, generator=drawn(101))
    windows = series.unfold(0, 21, 4)
    model = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 1))
    train = loader(windows[:520, :20], windows[:520, 20:], size=16, shuffle=False)
    fit(run, model, run.optimizer(model.parameters(), lr=0.01), loss=squared, train=train, epochs=5)
    return lambda: squared(model, (windows[520:, :20], windows[520:, 20:])).item()


@healthy("conv SGD", "digits Adam", scary=True)
def strongly_augmented(run: Run) -> Measure:
    """Training pictures are shifted, noisy and partly blanked, and those of validation are not."""
    x, y, u, v = (conv if run.case.family == "conv" else digits).data()
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())

    def changed(x: Tensor) -> Tensor:
        x = x.view(-1, 8, 8).roll(int(torch.randint(-1, 2, ())), 2)
        x = torch.where(torch.rand_like(x) < 0.15, torch.tensor(-1.0), x) + 0.3 * torch.randn_like(x)
        return x.view(-1, *u.shape[1:])

    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for _ in range(5):
        model.train()
        for rows, told in doctor(Shuffled(x, y)):
            optimizer.zero_grad()
            cross_entropy(model, (changed(rows), told)).backward()
            optimizer.step()
        error_rate(model, u, v)
    return lambda: error_rate(model, u, v)


@healthy("residual AdamW", scary=True)
def parity_after_a_plateau(run: Run) -> Measure:
    """Exclusive or of three signs: nothing seems to happen for long, then it is understood."""
    x = torch.randn(3000, 6, generator=drawn(102)).sign()
    y = (x[:, :3].prod(1) > 0).long()
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = run.optimizer(model.parameters(), lr=4e-3)
    fit(run, model, optimizer, train=Shuffled(x[:2000], y[:2000]), epochs=5)
    return lambda: error_rate(model, x[2000:], y[2000:])


@healthy("digits SGD", scary=True)
def validated_all_the_time(run: Run) -> Measure:
    """A validation batch after every fifth step, from an iterator of its own."""
    model, (_, _, u, v) = digits.mlp(), digits.data()
    optimizer = run.optimizer(model.parameters())
    checks = iter(loader(u, v, size=50).__iter__() for _ in range(99))
    current = next(checks)
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for step, batch in enumerate(doctor(endless(run.task.train(), 124))):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
        if step % 5 == 4:
            model.eval()
            with torch.inference_mode():
                check = next(current, None)
                if check is None:
                    current = next(checks)
                else:
                    cross_entropy(model, check)
            model.train()
    return lambda: digits.error(model)


@healthy("tabular Adam", scary=True)
def many_copies_of_some_rows(run: Run) -> Measure:
    """A third of the rows comes twice, since two sources overlap."""
    x, y = tabular.data()
    rows = torch.cat([torch.arange(len(x)), torch.arange(0, len(x), 3)])
    model = tabular.mlp()
    return fit(run, model, run.optimizer(model.parameters()), train=loader(x[rows], y[rows]), epochs=5)


@healthy("conv AdamW", scary=True)
def dictionaries(run: Run) -> Measure:
    """Batches are dictionaries, with names that are not used for training."""
    x, y, _, _ = conv.data()
    rows = [{"image": x[i], "label": y[i], "name": f"picture {i}"} for i in range(len(x))]
    model = conv.Net()

    def loss_fn(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        return F.cross_entropy(model(batch["image"]), batch["label"])

    train = DataLoader(rows, 32, shuffle=True)  # type: ignore[arg-type]
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, train=train)
