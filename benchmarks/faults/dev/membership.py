"""Steps that do not happen, and parameters that no step reaches (A03 to A06)."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.case import Measure, Run, plant
from faults.families import autoencoder, contrastive, conv, digits, encoder, gpt, recurrent, residual
from faults.families.batches import endless, loader
from faults.families.scores import cross_entropy
from faults.loops import fit


@plant("A03", "digits SGD 3", "flow Adam 3")
def not_called(run: Run) -> Measure:
    """There is no call of step."""
    model, loss_fn, train = run.task.model(), run.task.loss, run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for _ in range(3):
        for batch in doctor(train):
            optimizer.zero_grad()
            loss = loss_fn(model, batch)
            loss.backward()
            if not run.faulty:
                optimizer.step()
    return lambda: run.task.measure(model)


@plant("A03", "gpt AdamW 3", "tabular RMSprop 3")
def on_another_optimizer(run: Run) -> Measure:
    """An optimizer of a frozen reference copy is stepped."""
    model, loss_fn = run.task.model(), run.task.loss
    reference = copy.deepcopy(model)
    optimizer, other = run.optimizer(model.parameters()), run.optimizer(reference.parameters())
    doctor = run.watch(model, optimizer, loss=loss_fn)
    for batch in doctor(endless(run.task.train(), 120)):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        run.either(other, optimizer).step()
    return lambda: run.task.measure(model)


@plant("A03", "conv SGD 3")
def without_parentheses(run: Run) -> Measure:
    """The method is named and not called."""
    model = conv.Net()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for images, labels in doctor(endless(run.task.train(), 90)):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        if run.faulty:
            optimizer.step  # noqa: B018
        else:
            optimizer.step()
    return lambda: conv.error(model)


@plant("A03", "recurrent Adam 3", "recurrent SGD 3")
def under_a_condition(run: Run) -> Measure:
    """A step is made every 32 batches, but the count begins anew in each epoch of 25."""
    model, train = recurrent.Reader(), run.task.train()
    optimizer = run.optimizer(model.parameters())
    every = run.either(32, 1)
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for _ in range(5):
        for index, batch in enumerate(doctor(train)):
            (cross_entropy(model, batch) / every).backward()
            if (index + 1) % every == 0:
                optimizer.step()
                optimizer.zero_grad()
        optimizer.zero_grad()
    return lambda: recurrent.error(model)


@plant("A03", "residual AdamW 3", also="D06", onset=40)
def after_the_warm_up(run: Run) -> Measure:
    """Of two optimizers, for two stages, the first is still stepped in the second stage, its rate zero by then."""
    model, train = residual.net(), run.task.train()
    first, second = run.optimizer(model.parameters(), lr=1e-4), run.optimizer(model.parameters())
    doctor = run.watch(model, second, loss=cross_entropy)
    for step, batch in enumerate(doctor(endless(train, 150))):
        if step == 40:
            first.param_groups[0]["lr"] = 0.0
        second.zero_grad()
        cross_entropy(model, batch).backward()
        (first if step < 40 or run.faulty else second).step()
    return lambda: residual.error(model)


@plant("A04", "digits Adam 3", "digits SGD 3")
def new_head(run: Run) -> Measure:
    """The optimizer is made before the last two layers are added."""
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
    parameters = list(model.parameters())
    model.append(nn.Linear(32, 32)).append(nn.ReLU()).append(nn.Linear(32, 10))
    optimizer = run.optimizer(parameters if run.faulty else model.parameters())
    return fit(run, model, optimizer)


class Listed(nn.Module):
    """Blocks that are kept in a list of Python's, or in one of torch's."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        blocks = [nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(3)]
        self.blocks = blocks if plain else nn.ModuleList(blocks)
        self.begin, self.end = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels -> logits."""
        x = self.begin(x)
        for block in self.blocks:
            x = block(x)
        return self.end(x)


@plant("A04", "digits SGD 2", "digits AdamW 1")
def plain_list(run: Run) -> Measure:
    """Layers in a list are no submodules, so their parameters are in no optimizer."""
    model = Listed(run.faulty)
    return fit(run, model, run.optimizer(model.parameters()))


@plant("A04", "autoencoder Adam 3", "autoencoder RMSprop 3")
def decoder_only(run: Run) -> Measure:
    """The optimizer gets the encoder's parameters twice over, in thought, and the decoder's not at all."""
    model = autoencoder.Vae()
    return fit(run, model, run.optimizer(run.either(model.encoder, model).parameters()))


@plant("A04", "contrastive Adam 2")
def trunk_forgotten(run: Run) -> Measure:
    """Only the projection is given to the optimizer."""
    model = contrastive.Encoder()
    named = [each for name, each in model.named_parameters() if not run.faulty or "projection" in name]
    return fit(run, model, run.optimizer(named), loss=contrastive.info_nce)


@plant("A04", "gpt Adam 3")
def filtered_by_name(run: Run) -> Measure:
    """Two groups, with decay and without; a name that matches neither pattern falls through: all but the head."""
    model = gpt.Gpt()
    decayed = [each for name, each in model.named_parameters() if name.endswith("head.weight")]
    plain = [each for name, each in model.named_parameters() if name.endswith("head.bias")]
    if not run.faulty:
        plain += [each for name, each in model.named_parameters() if "head" not in name]
    optimizer = run.optimizer([{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}])
    return fit(run, model, optimizer)


@plant("A05", "tabular SGD 3", "encoder Adam 3")
def assigned(run: Run) -> Measure:
    """Weights are loaded with assign=True after the optimizer was made."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    saved = copy.deepcopy(model.state_dict())
    model.load_state_dict(saved, assign=run.faulty)
    for parameter in model.parameters():
        parameter.requires_grad_()
    return fit(run, model, optimizer)


@plant("A05", "conv AdamW 3", "flow RMSprop 3")
def copied(run: Run) -> Measure:
    """The model is copied after the optimizer was made, and the copy is trained."""
    model = run.task.model()
    optimizer = run.optimizer(model.parameters())
    if run.faulty:
        model = copy.deepcopy(model)
    return fit(run, model, optimizer)


@plant("A05", "residual SGD 3", also="A04", onset=110)
def head_replaced(run: Run) -> Measure:
    """In mid-run both ends are replaced by new ones; the optimizer keeps the old ones' parameters."""
    model, train = residual.net(), run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=cross_entropy)
    for step, batch in enumerate(doctor(endless(train, 150))):
        if step == 110:
            model[0], model[-1] = nn.Linear(2, 32), nn.Linear(32, 3)
            if not run.faulty:
                optimizer = run.optimizer(model.parameters())
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step()
    return lambda: residual.error(model)


@plant("A05", "cancer Adam 3", also="A04")
def orthogonal_afterwards(run: Run) -> Measure:
    """Initial weights are set as new parameters after the optimizer was made."""
    model = run.task.model()
    made = run.optimizer(model.parameters())
    for layer in (model.hidden, model.out):
        layer.weight = nn.Parameter(nn.init.orthogonal_(torch.empty_like(layer.weight)) * 0.05)
        layer.bias = nn.Parameter(torch.zeros_like(layer.bias))
    return fit(run, model, made if run.faulty else run.optimizer(model.parameters()))


@plant("A06", "conv Adam 3", "conv SGD 3")
def all_but_norms(run: Run) -> Measure:
    """Everything but batch norm is frozen."""
    model = conv.Net()
    for module in model.modules():
        if run.faulty and isinstance(module, nn.Conv2d | nn.Linear):
            module.requires_grad_(False)
    return fit(run, model, run.optimizer([each for each in model.parameters() if each.requires_grad]))


@plant("A06", "encoder AdamW 2", "encoder SGD 3", also="A07")
def trunk_without_gradients(run: Run) -> Measure:
    """The trunk runs under no_grad, as it would for a trained one, and it is fresh."""
    model = encoder.Encoder()

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.set_grad_enabled(not run.faulty):
            features = model.norm(model.blocks(model.begin(batch[0]))).mean(1)
        return F.cross_entropy(model.head(features), batch[1])

    return fit(run, model, run.optimizer(model.parameters()), loss=loss_fn)


@plant("A06", "digits RMSprop 2", "digits Adam 2")
def fresh_base_frozen(run: Run) -> Measure:
    """The base is frozen for fine-tuning, but nothing was loaded into it."""
    model = digits.mlp(wide=16)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not run.faulty or name.startswith("4.")
    return fit(run, model, run.optimizer([each for each in model.parameters() if each.requires_grad]))


@plant("A06", "gpt RMSprop 3", onset=30)
def frozen_after_a_stage(run: Run) -> Measure:
    """All blocks are frozen while a new embedding settles, and are not set free again."""
    model, train = gpt.Gpt(), run.task.train()
    optimizer = run.optimizer(model.parameters())
    doctor = run.watch(model, optimizer, loss=gpt.next_letter)
    for step, batch in enumerate(doctor(endless(train, 150))):
        if step == 30:
            model.blocks.requires_grad_(False)
            model.letters.requires_grad_(not run.faulty)
        if step == 40 and not run.faulty:
            model.blocks.requires_grad_()
        optimizer.zero_grad()
        gpt.next_letter(model, batch).backward()
        optimizer.step()
    return lambda: gpt.honest_loss(model)


@plant("A06", "recurrent Adam 3", also="A07")
def layer_called_on_data(run: Run) -> Measure:
    """The recurrent layer is decorated with no_grad, left from a script that only evaluates."""
    model = recurrent.Reader()
    if run.faulty:
        model.layer.forward = torch.no_grad()(model.layer.forward)
    doctor = run.watch(model, optimizer := run.optimizer(model.parameters()), loss=cross_entropy)
    for _ in range(4):
        for batch in doctor(loader(*recurrent.data(), size=32)):
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(model, batch).backward()
            optimizer.step()
    return lambda: recurrent.error(model)
