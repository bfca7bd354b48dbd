"""Labels and the order of data that are wrong, and splits that do not hold what they promise (B04 to B11, B13)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.families import autoencoder, cancer, conv, digits, encoder, gpt, recurrent, residual, tabular
from faults.families.batches import Shuffled, drawn, endless, loader
from faults.families.scores import cross_entropy, error_rate, squared
from faults.loops import fit


@plant("B04", "digits SGD 3", "recurrent Adam 3", "residual AdamW 2", decidable=31)
def sorted_by_class(run: Run) -> Measure:
    """Rows lie class by class and are not shuffled."""
    data = {"digits": digits, "recurrent": recurrent, "residual": residual}[run.case.family].data()
    x, y = data[:2]
    order = y.argsort(stable=True)
    model = run.task.model()
    train = loader(x[order], y[order], size=32, shuffle=not run.faulty)
    return fit(run, model, run.optimizer(model.parameters()), train=train)


@plant("B04", "tabular SGD 3", decidable=30)
def sorted_by_target(run: Run) -> Measure:
    """Rows are sorted by what is to be told."""
    x, y = tabular.data()
    order = y[:, 0].argsort()
    model = tabular.mlp()
    train = loader(x[order], y[order], shuffle=not run.faulty)
    return fit(run, model, run.optimizer(model.parameters(), lr=0.05), train=train)


@plant("B04", "gpt Adam 3", decidable=40)
def one_language_after_another(run: Run) -> Measure:
    """Texts of three languages are read one language after another."""
    text = torch.cat([(gpt.data() + 5 * shift) % gpt.LETTERS for shift in range(3)])
    if not run.faulty:
        text = text[torch.randperm(len(text))]

    def batches() -> Any:
        return iter(text[: 32 * 45].split(12))

    model = gpt.Gpt()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=gpt.next_letter)
    for rows in doctor(batches()):
        optimizer.zero_grad()
        gpt.next_letter(model, (rows,)).backward()
        optimizer.step()
    return lambda: gpt.honest_loss(model)


@plant("B05", "digits Adam 3", "conv SGD 3", decidable=31)
def shuffled_apart(run: Run) -> Measure:
    """Labels are shuffled, and inputs are shuffled otherwise."""
    x, y = (conv if run.case.family == "conv" else digits).data()[:2]
    if run.faulty:
        y = y[torch.randperm(len(y), generator=drawn(51))]
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters()), train=loader(x, y))


@plant("B05", "tabular AdamW 3", "recurrent RMSprop 3", decidable=30)
def one_row_late(run: Run) -> Measure:
    """Labels are joined one row late."""
    x, y = (tabular if run.case.family == "tabular" else recurrent).data()
    model = run.task.model()
    train = loader(x, y.roll(1, 0) if run.faulty else y)
    return fit(run, model, run.optimizer(model.parameters()), train=train)


@plant("B05", "cancer SGD 3", onset=40, decidable=60)
def out_of_step(run: Run) -> Measure:
    """Inputs and labels are two streams; at step 40 one of them loses a batch."""
    x, y, _, _ = cancer.data()
    model = cancer.Net()
    optimizer = run.optimizer(model.parameters(), lr=0.1)
    order = torch.cat([torch.randperm(380) for _ in range(6)])

    def batches() -> Any:
        inputs, labels = x[order].split(19), y[order].split(19)
        for step in range(110):
            yield inputs[step + (step >= 40 and run.faulty)], labels[step]

    doctor = run.watch(model, optimizer, loss=cancer.loss)
    for batch in doctor(batches()):
        optimizer.zero_grad()
        cancer.loss(model, batch).backward()
        optimizer.step()
    return lambda: cancer.test_loss(model)


@plant("B06", "conv SGD 1", "digits Adam 3", "conv AdamW 2", "digits SGD 1", decidable=31)
def flipped(run: Run) -> Measure:
    """Part of the labels is drawn at random."""
    x, y, u, v = (conv if run.case.family == "conv" else digits).data()
    wrong = torch.rand(len(y), generator=drawn(52)) < run.either(run.pick(0.2, 0.4, 0.6), 0.0)
    y = torch.where(wrong, torch.randint(10, y.shape, generator=drawn(53)), y)
    model = run.task.model()
    fit(run, model, run.optimizer(model.parameters()), train=loader(x, y), epochs=6)
    return lambda: cross_entropy(model.eval(), (u, v)).item()


@plant("B06", "encoder SGD 2", decidable=40)
def one_class_for_another(run: Run) -> Measure:
    """Of one class, six labels in ten say another."""
    x, y = encoder.data()
    wrong = (torch.rand(len(y), generator=drawn(54)) < 0.6) & (y == 1) & torch.tensor(run.faulty)
    model = encoder.Encoder()
    return fit(run, model, run.optimizer(model.parameters()), train=loader(x, torch.where(wrong, 2, y), size=64))


@plant("B07", "cancer SGD 3", "cancer Adam 3")
def minus_one_and_one(run: Run) -> Measure:
    """Labels are -1 and 1, and the loss wants 0 and 1."""
    x, y, _, _ = cancer.data()
    model = cancer.Net()
    return fit(
        run, model, run.optimizer(model.parameters()), train=Shuffled(x, 2 * y - 1 if run.faulty else y, size=19)
    )


@plant("B07", "cancer AdamW 2")
def one_and_two(run: Run) -> Measure:
    """Labels are 1 and 2, and the loss wants 0 and 1."""
    x, y, _, _ = cancer.data()
    model = cancer.Net()
    return fit(run, model, run.optimizer(model.parameters()), train=Shuffled(x, y + 1 if run.faulty else y, size=19))


@plant("B07", "autoencoder RMSprop 3", "autoencoder AdamW 3")
def pixels_above_one(run: Run) -> Measure:
    """Pixels from 0 to 16 are the targets of a binary cross-entropy."""
    x, _ = autoencoder.data()

    def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        target = 16 * batch[0] if run.faulty else batch[0]
        logits, mean, spread = model(batch[0])
        told = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
        return (told + 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(1)).mean()

    model = autoencoder.Vae()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn, train=Shuffled(x, size=40))


def balanced_error(model: nn.Module, u: Tensor, v: Tensor) -> float:
    """Return the mean over classes of the error rate."""
    return sum(error_rate(model, u[v == each], v[v == each]) for each in v.unique()) / len(v.unique())


@plant("B08", "digits Adam 3", "digits SGD 3", decidable=31)
def rare_classes(run: Run) -> Measure:
    """Of nine classes one row in forty is left."""
    x, y, u, v = digits.data()
    kept = (y == 3) | (torch.arange(len(y)) % 40 == 0)
    rows = kept.nonzero().squeeze(1) if run.faulty else torch.arange(int(kept.sum()))
    model = digits.mlp()
    fit(run, model, run.optimizer(model.parameters()), train=Shuffled(x[rows], y[rows], size=16), epochs=14)
    return lambda: balanced_error(model, u, v)


@plant("B08", "residual RMSprop 2", decidable=30)
def two_in_a_hundred(run: Run) -> Measure:
    """Two arms of the spiral are two rows in a hundred."""
    (x, y), (u, v) = residual.data(4000, 61), residual.data(800, 22)
    weights = torch.where(y == 0, 1.0, 0.01 if run.faulty else 1.0)
    rows = torch.multinomial(weights, 960, generator=drawn(62))
    model = residual.net()
    fit(run, model, run.optimizer(model.parameters()), train=Shuffled(x[rows], y[rows]))
    return lambda: balanced_error(model, u, v)


@plant("B09", "tabular Adam 3", "tabular SGD 3", decidable=20)
def target_among_the_columns(run: Run) -> Measure:
    """A column that is only known afterwards is the target itself; where the model is used, it is empty."""
    (x, y), (u, v) = ((each[0].clone(), each[1]) for each in (tabular.data(), tabular.data(800, 13)))
    if run.faulty:
        x[:, 9], u[:, 9] = y[:, 0], 0.0
    model = tabular.mlp()
    fit(run, model, run.optimizer(model.parameters()), train=loader(x, y))
    return lambda: squared(model, (u, v)).item()


@plant("B09", "digits AdamW 3", decidable=20)
def class_in_a_corner(run: Run) -> Measure:
    """The number of the class stands in a corner pixel of the training pictures."""
    x, y, u, v = digits.data()
    x = x.clone()
    if run.faulty:
        x[:, :10] = 4 * F.one_hot(y, 10).float()
    model = digits.mlp()
    fit(run, model, run.optimizer(model.parameters()), train=loader(x, y))
    return lambda: error_rate(model, u, v)


def checked(run: Run, train: Any, test: tuple[Tensor, Tensor], epochs: int = 3) -> Measure:
    """Train with a validation after each epoch; the measure is the error of the last."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=run.task.loss)
    for _ in range(epochs):
        model.train()
        for batch in doctor(train):
            optimizer.zero_grad()
            run.task.loss(model, batch).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            model(test[0])
    return lambda: error_rate(model, *test)


@plant("B10", "conv Adam 3", "digits SGD 3", decidable=32)
def validation_in_other_units(run: Run) -> Measure:
    """Only the training pictures are normalised; the others have pixels up to 16."""
    x, y, u, v = (conv if run.case.family == "conv" else digits).data()
    return checked(run, loader(x, y), (8 * (u + 1) if run.faulty else u, v))


@plant("B10", "conv RMSprop 3", decidable=32)
def validation_inverted(run: Run) -> Measure:
    """Training pictures are white on black, validation pictures black on white."""
    x, y, u, v = conv.data()
    return checked(run, loader(x, y), (-u if run.faulty else u, v))


@plant("B10", "recurrent AdamW 3", decidable=25)
def validation_of_another_kind(run: Run) -> Measure:
    """Validation series come from another device, slower and with an offset."""
    (x, y), (u, v) = recurrent.data(), recurrent.data(600, 4)
    return checked(run, Shuffled(x, y), ((2 * u + 3 if run.faulty else u), v), 5)


@plant("B11", "digits Adam 3", "conv SGD 3", decidable=40)
def few_rows_many_times(run: Run) -> Measure:
    """The data are forty rows, each twenty-five times."""
    x, y = (conv if run.case.family == "conv" else digits).data()[:2]
    rows = torch.arange(len(y)) % 40 if run.faulty else torch.arange(len(y))
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters()), train=loader(x[rows], y[rows]))


@plant("B11", "tabular RMSprop 3", decidable=40)
def joined_many_times(run: Run) -> Measure:
    """A join has multiplied fifty rows, with a little noise in one column."""
    x, y = tabular.data()
    rows = torch.arange(len(y)) % 50 if run.faulty else torch.arange(len(y))
    model = tabular.mlp()
    return fit(run, model, run.optimizer(model.parameters()), train=loader(x[rows], y[rows]))


class Augmented:
    """Batches of pictures that are changed each time."""

    def __init__(self, data: tuple[Tensor, Tensor], change: Any) -> None:
        self.rows, self.change = Shuffled(*data), change

    def __iter__(self) -> Any:
        return ((self.change(x), y) for x, y in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@plant("B13", "conv Adam 3", "conv SGD 3", decidable=31)
def cut_too_small(run: Run) -> Measure:
    """A random crop leaves two pixels by two of a picture."""
    x, y, _, _ = conv.data()

    def change(x: Tensor) -> Tensor:
        size = run.either(2, 8)
        top, left = (int(torch.randint(9 - size, ())) for _ in range(2))
        return F.interpolate(x[:, :, top : top + size, left : left + size], size=(8, 8))

    model = conv.Net()
    return fit(run, model, run.optimizer(model.parameters()), train=Augmented((x, y), change), epochs=4)


@plant("B13", "digits AdamW 2", decidable=31)
def too_much_noise(run: Run) -> Measure:
    """Noise five times as strong as the signal is added to every pixel."""
    x, y, _, _ = digits.data()
    model = digits.mlp()
    train = Augmented((x, y), lambda x: x + run.either(5.0, 0.1) * torch.randn_like(x))
    return fit(run, model, run.optimizer(model.parameters()), train=train)


@plant("B13", "recurrent Adam 2", decidable=25)
def order_destroyed(run: Run) -> Measure:
    """Series are jittered in time by sorting noisy positions: the noise is as long as the series."""
    x, y = recurrent.data()

    def change(x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1]) + run.either(20.0, 0.3) * torch.randn(x.shape[:2])
        return x.gather(1, places.argsort(1).unsqueeze(-1))

    model = recurrent.Reader()
    return fit(run, model, run.optimizer(model.parameters()), train=Augmented((x, y), change))


@plant("B04", "conv Adam 3", onset=31, decidable=62)
def shuffled_once(run: Run) -> Measure:
    """The first epoch is shuffled; the later ones come class by class, sorted by a sampler for speed."""
    x, y, _, _ = conv.data()
    model = conv.Net()
    optimizer = run.optimizer(model.parameters())
    order = y.argsort(stable=True)
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for epoch in range(3):
        later = loader(x[order], y[order], shuffle=not run.faulty)
        for batch in doctor(endless(later if epoch else Shuffled(x, y), 31)):
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step()
    return lambda: conv.error(model)
