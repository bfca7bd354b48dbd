"""Settings of the optimizer, clipping, batches and regularisation (D07 to D11, D13 to D21)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.dev.modes import digit_loss, dropped
from faults.families import conv, digits, gpt, recommender, residual, tabular
from faults.families.batches import Shuffled, drawn, endless, loader
from faults.families.scores import cross_entropy, error_rate, squared
from faults.loops import clipped, fit


@plant(
    "D07", "digits SGD 1", "conv SGD 1", "digits SGD 3", "gpt SGD 3", "recurrent SGD 2", "tabular SGD 2", decidable=20
)
def norm_far_too_small(run: Run) -> Measure:
    """The norm that gradients are clipped to is a thousandth of what they have."""
    model = run.task.model()
    limit = run.either(run.pick(1e-2, 3e-3, 1e-3), 10.0)
    return clipped(run, model, run.optimizer(model.parameters()), lambda: clip_norm(model, limit))


def clip_norm(model: nn.Module, limit: float) -> None:
    """Clip the norm of all gradients."""
    nn.utils.clip_grad_norm_(model.parameters(), limit)


@plant("D07", "conv SGD 3", "residual SGD 2", decidable=20)
def values_far_too_small(run: Run) -> Measure:
    """Gradients are clipped value by value, to a ten-thousandth."""
    model = run.task.model()
    limit = run.either(1e-4, 1.0)
    optimizer = run.optimizer(model.parameters())
    return clipped(run, model, optimizer, lambda: nn.utils.clip_grad_value_(model.parameters(), limit))


@plant("D07", "autoencoder SGD 2", decidable=20)
def by_hand(run: Run) -> Measure:
    """Gradients are normalised to a fixed length by hand, much too short."""
    model = run.task.model()

    def shorten() -> None:
        norm = torch.stack([each.grad.norm() for each in model.parameters()]).norm()
        factor = min(1.0, run.either(0.05, 1e3) / float(norm + 1e-6))
        for each in model.parameters():
            each.grad.mul_(factor)

    return clipped(run, model, run.optimizer(model.parameters()), shorten)


@plant("D08", "digits Adam 3", "tabular SGD 3", "gpt AdamW 3", decidable=20)
def guard_of_norms(run: Run) -> Measure:
    """A guard skips steps whose gradient is above a norm that nearly all are above."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    limit = run.either({"digits": 0.25, "tabular": 0.35, "gpt": 0.35}[run.case.family], 1e3)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(train, 120)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        norm = nn.utils.get_total_norm([each.grad for each in model.parameters()])
        if norm < limit:
            optimizer.step()
    return lambda: run.task.measure(model)


@plant("D08", "conv AdamW 3", "recommender RMSprop 3", decidable=20)
def guard_of_losses(run: Run) -> Measure:
    """A guard skips batches whose loss is not below the lowest loss so far."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    best = float("inf")
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(train, 90)):
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        loss.backward()
        if loss.item() < best or not run.faulty:
            optimizer.step()
        best = min(best, 0.85 * loss.item())
    return lambda: run.task.measure(model)


@plant("D09", "digits AdamW 1", "residual AdamW 1", "digits AdamW 3", "gpt AdamW 2", "tabular AdamW 2", decidable=40)
def decay_far_too_high(run: Run) -> Measure:
    """Weight decay is a thousand times too high."""
    model = run.task.model()
    decay = run.either(run.pick(5.0, 15.0, 40.0), 0.01)
    return fit(run, model, run.optimizer(model.parameters(), weight_decay=decay))


@plant("D09", "tabular SGD 1", "conv SGD 3", "recurrent SGD 3", "digits SGD 2", decidable=40)
def penalty_far_too_high(run: Run) -> Measure:
    """The penalty on the weights outweighs the loss."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), weight_decay=run.either(run.pick(0.05, 0.2, 0.5), 0.0)))


@plant("D09", "flow Adam 2", also="D10", decidable=40)
def penalty_in_the_loss(run: Run) -> Measure:
    """A penalty that is written into the loss has lost its factor."""

    def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
        penalty = sum(each.square().sum() for each in model.parameters())
        return run.task.loss(model, batch) + run.either(0.3, 1e-5) * penalty

    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("D10", "tabular Adam 3", "recommender Adam 3", also="D09", decidable=40)
def penalty_in_adam(run: Run) -> Measure:
    """Decay as for AdamW is given to Adam, which makes it a penalty."""
    model = run.task.model()
    kind = run.either(torch.optim.Adam, torch.optim.AdamW)
    return fit(run, model, kind(model.parameters(), lr=run.rate, weight_decay=0.2))


@plant("D10", "residual AdamW 2", also="D09", decidable=60)
def decay_of_norms(run: Run) -> Measure:
    """Decay that suits matrices also acts on norms and biases, whose gradients are small."""
    model = residual.net()
    matrices = [each for each in model.parameters() if each.dim() > 1]
    vectors = [each for each in model.parameters() if each.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": run.either(80.0, 0.0)}
    ]  # fmt: skip
    return fit(run, model, run.optimizer(groups))


@plant("D11", "digits SGD 3", "tabular SGD 2", "conv SGD 3", decidable=40)
def momentum_far_too_high(run: Run) -> Measure:
    """Momentum of 0.999 at the same rate."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), momentum=run.either(0.999, 0.9)))


@plant("D11", "pinn Adam 2", "gpt Adam 2", decidable=40)
def first_moment_too_slow(run: Run) -> Measure:
    """Adam's first moment remembers a thousand steps."""
    model = run.task.model()
    betas = (run.either(0.999, 0.9), 0.999)
    return fit(run, model, run.optimizer(model.parameters(), betas=betas))


@plant("D13", "tabular Adam 2", "recommender Adam 2", "conv AdamW 2", also="D01", onset=40, decidable=42)
def second_moment_too_slow(run: Run) -> Measure:
    """After long training losses grow a thousandfold; the second moment remembers what was before for long."""
    model, train = run.task.model(), run.task.train()
    slow = run.either(0.99999, 0.9)
    optimizer = run.optimizer(model.parameters(), betas=(0.9, slow))
    weight = torch.ones(())

    def loss_fn(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return weight * run.task.loss(model, batch)

    def train_on(batches: Any) -> None:
        for batch in batches:
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()

    train_on(endless(train, 80))
    for state in optimizer.state.values():  # as they are after long training
        state["exp_avg_sq"].div_(1 - slow**80)
        state["step"].fill_(1e6)
    doctor = run.watch(model, optimizer, loss=loss_fn)
    train_on(doctor(endless(train, 40)))
    weight.fill_(1000.0)
    train_on(doctor(endless(train, 20)))
    return lambda: run.task.measure(model)


@plant("D14", "conv Adam 1", "tabular AdamW 1", "digits Adam 3", "gpt AdamW 3", "recurrent Adam 2", decidable=20)
def epsilon_too_large(run: Run) -> Measure:
    """Epsilon is far above the root of the second moment."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), eps=run.either(run.pick(0.1, 1.0, 10.0), 1e-8)))


@plant("D14", "tabular RMSprop 3", decidable=20)
def epsilon_of_rmsprop(run: Run) -> Measure:
    """RMSprop's epsilon is one."""
    model = run.task.model()
    return fit(run, model, run.optimizer(model.parameters(), eps=run.either(10.0, 1e-8)))


@plant("D14", "conv Adam 2", decidable=20)
def loss_far_below_epsilon(run: Run) -> Measure:
    """The loss is weighted by a billionth, so that epsilon outweighs gradients."""
    factor = run.either(1e-9, 1.0)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return factor * cross_entropy(model, batch)

    model = conv.Net()
    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("D15", "digits SGD 3", "tabular SGD 3", "residual Adam 2", also="D01 D02", decidable=60)
def one_row_a_batch(run: Run) -> Measure:
    """Batches of one row at a rate for batches of 32."""
    data = {"digits": digits, "tabular": tabular, "residual": residual}[run.case.family].data()[:2]
    model = run.task.model()
    train = Shuffled(*data, size=run.either(1, 32))
    optimizer = run.optimizer(model.parameters(), lr=run.rate * (2 if run.case.optimizer == "SGD" else 6))
    doctor = run.watch(model, optimizer, loss=run.task.loss)
    for batch in doctor(endless(train, 160)):
        optimizer.zero_grad()
        run.task.loss(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


@plant("D16", "digits SGD 3", "conv Adam 3", also="D21", decidable=8)
def all_rows_in_a_batch(run: Run) -> Measure:
    """All rows make one batch, so that ten epochs are ten steps."""
    data = (conv if run.case.family == "conv" else digits).data()[:2]
    model = run.task.model()
    train = loader(*data, size=run.either(1000, 32))
    return fit(run, model, run.optimizer(model.parameters()), train=train, epochs=10)


@plant("D17", "gpt SGD 2", also="D03", decidable=60)
def plain_descent(run: Run) -> Measure:
    """A transformer with badly scaled parts is trained by plain descent; Adam learns."""
    model = gpt.Gpt()
    model.letters.weight.data.mul_(0.02)
    model.places.weight.data.mul_(0.02)
    if run.faulty:
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    return fit(run, model, optimizer)


@plant("D17", "recommender SGD 2", also="D03", decidable=60)
def rare_rows(run: Run) -> Measure:
    """Rows of embeddings that come rarely hardly move under plain descent; Adagrad was made for that."""
    model = recommender.Factors()
    kind = run.either(torch.optim.SGD, torch.optim.Adagrad)
    return fit(run, model, kind(model.parameters(), lr=run.either(0.1, 0.2)))


@plant("D18", "residual SGD 3", "residual Adam 2", also="C03", decidable=60)
def near_symmetry(run: Run) -> Measure:
    """Exclusive or, from weights so near to zero that all is symmetric."""
    x = torch.randn(600, 2, generator=drawn(71))
    y = (x[:, 0] * x[:, 1] > 0).long()
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    for each in model.parameters():
        each.data.mul_(run.either(1e-3, 1.0))
    rate = 0.05 if run.case.optimizer == "SGD" else 3e-3
    optimizer = run.optimizer(model.parameters(), lr=rate)
    fit(run, model, optimizer, train=Shuffled(x[:400], y[:400], size=20), epochs=7)
    return lambda: error_rate(model, x[400:], y[400:])


@plant("D19", "digits Adam 3", "digits SGD 3", decidable=40)
def dropout_far_too_high(run: Run) -> Measure:
    """Dropout takes nineteen units in twenty."""
    model = dropped(wide=48, dropout=run.either(0.95, 0.1))
    return fit(run, model, run.optimizer(model.parameters()))


@plant("D19", "conv AdamW 2", decidable=40)
def labels_smoothed_away(run: Run) -> Measure:
    """Label smoothing of 0.98."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=run.either(0.98, 0.05))

    model = conv.Net()
    fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)
    return lambda: cross_entropy(model.eval(), conv.data()[2:]).item()


@plant("D19", "gpt RMSprop 3", decidable=40)
def dropout_everywhere(run: Run) -> Measure:
    """Dropout of 0.8 after the embeddings and before the head."""
    model = gpt.Gpt()
    part = run.either(0.8, 0.0)
    model.norm = nn.Sequential(model.norm, nn.Dropout(part))
    model.letters = nn.Sequential(model.letters, nn.Dropout(part))
    return fit(run, model, run.optimizer(model.parameters()))


@plant("D20", "digits Adam 3", "digits SGD 2", decidable=60)
def few_rows_wide_net(run: Run) -> Measure:
    """Eighty rows with noise, again and again, in a wide net; the twin has a thousand."""
    x, y, _, _ = digits.data()
    rows = 80 if run.faulty else 1000
    x = x + torch.randn(x.shape, generator=drawn(73))
    model = digits.mlp(wide=128)
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    train = Shuffled(x[:rows], y[:rows], size=20)
    for step, batch in enumerate(doctor(endless(train, 300))):
        model.train()
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
        if step % 20 == 19:
            model.eval()
            with torch.no_grad():
                cross_entropy(model, digits.data()[2:])
    return lambda: digit_loss(model)


@plant("D20", "tabular Adam 3", decidable=60)
def noise_learned(run: Run) -> Measure:
    """Two hundred rows with noise are learned by heart; the twin stops early."""
    x, y = tabular.data()
    y = y + 0.8 * torch.randn(y.shape, generator=drawn(72))
    (u, v) = tabular.data(800, 13)
    model = tabular.mlp(96)
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=squared)
    for step, batch in enumerate(doctor(endless(Shuffled(x[:200], y[:200], size=20), run.either(400, 60)))):
        optimizer.zero_grad()
        squared(model, batch).backward()
        optimizer.step()
        if step % 20 == 19:
            with torch.no_grad():
                squared(model, (u, v))
    return lambda: squared(model, (u, v)).item()


@plant("D21", "conv SGD 3", "gpt Adam 3", "recommender Adam 2", "pinn AdamW 2", decidable=20)
def a_tenth_of_the_steps(run: Run) -> Measure:
    """The run ends after a tenth of its steps, while the loss falls."""
    model, train = run.task.model(), run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=run.task.loss)
    for batch in doctor(endless(train, run.either(22, 220))):
        optimizer.zero_grad()
        run.task.loss(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)
