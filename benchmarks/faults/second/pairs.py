"""Two faults at once."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from faults.case import Measure, Run, plant
from faults.second import nets, sources
from faults.second.batches import molecules, pages, stream, tasted, together, tuples
from faults.second.loops import train
from faults.second.losses import classed, of
from faults.second.sources import drawn
from faults.second.worlds import made, world


@plant("A04+D03", "strokes Adam 2")
def first_layers_out_and_slow(run: Run) -> Measure:
    """Only the last layer is given to the optimizer, at a rate that hardly moves it."""
    model = nets.Embedder(wide=16)
    given = model.net[4] if run.faulty else model
    return train(run, model, made(run, given, run.either(0.01, 1.0)))


@plant("A08+D09", "essays AdamW 3")
def chances_and_heavy_decay(run: Run) -> Measure:
    """Chances are taken for logits, and weights decay away."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        told = model(batch[0])
        return F.binary_cross_entropy_with_logits(
            told.sigmoid() if run.faulty else told, (batch[1].unsqueeze(1) > torch.arange(4)).float()
        )

    model = world(run).model()
    return train(run, model, made(run, model, weight_decay=run.either(10.0, 0.01)), loss=loss_fn)


@plant("B02+C13", "wine RMSprop 3")
def raw_and_straight(run: Run) -> Measure:
    """Wines as they were measured go into a net that has lost its bends."""
    data, test = (sources.wine(), sources.wine(True)) if run.faulty else (tasted(), tasted(True))
    model = world(run).model()
    if run.faulty:
        model[1] = nn.Identity()
    return train(run, model, data=tuples(*data, size=16), measure=of(classed, lambda: test))


@plant("A19+D05", "molecules Adam 3")
def adrift_and_soon_at_rest(run: Run) -> Measure:
    """Edges of all graphs point into the first one, and the rate is gone after a tenth of the run."""

    def joined(graphs: Any) -> tuple[Tensor, ...]:
        whole = together(graphs)
        return (whole[0], torch.cat([each[1] for each in graphs], dim=1), *whole[2:]) if run.faulty else whole

    here = world(run)
    model = here.model()
    optimizer = made(run, model)
    scheduler = lr_scheduler.ExponentialLR(optimizer, run.either(0.7, 0.99))
    doctor = run.watch(model, optimizer, loss=here.loss, scheduler=scheduler)
    for batch in doctor(stream(molecules(collate=joined), here.steps)):
        optimizer.zero_grad()
        here.loss(model, batch).backward()
        optimizer.step()
        scheduler.step()
    return lambda: here.measure(model)


@plant("A12+B06", "essays SGD 2")
def windows_and_wrong_rows(run: Run) -> Measure:
    """Gradients of ten batches are added up, and half of the grades are those of other essays."""
    here = world(run)
    x, grade = sources.essays()
    wrong = (torch.rand(len(x), generator=drawn(541)) < 0.5) & run.faulty
    grade = torch.where(wrong, grade[torch.randperm(len(x), generator=drawn(542))], grade)
    model = here.model()
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for at, batch in enumerate(doctor(stream(tuples(x, grade, size=30), 400)), 1):
        (here.loss(model, batch) / run.either(1, 10)).backward()
        if at % 10 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return lambda: here.measure(model)


@plant("B05+D20", "sentences Adam 3")
def wrong_lines_by_heart(run: Run) -> Measure:
    """Labels are one line late, and a wide net learns them by heart."""
    lines = sources.sentences()[:300]
    if run.faulty:
        lines = [(words, lines[at - 1][1]) for at, (words, _) in enumerate(lines)]
    model = nets.Words(wide=run.either(96, 16), dropout=run.either(0.0, 0.2))
    return train(run, model, data=pages(lines), steps=run.either(300, 60))


@plant("C03+D07", "picture SGD 3")
def flat_sines_and_short_steps(run: Run) -> Measure:
    """Sines begin as straight lines, and gradients are cut to next to nothing."""
    here = world(run)
    model = here.model()
    if run.faulty:
        for each in model:
            if isinstance(each, nets.Sine):
                each.pace = 1.0
                nn.init.normal_(each.layer.weight, std=0.02)
    optimizer = made(run, model)
    doctor = run.watch(model, optimizer, loss=here.loss)
    for places, bright in doctor(stream(here.data(), here.steps)):
        optimizer.zero_grad()
        here.loss(model, (places, bright)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), run.either(1e-3, 100.0))
        optimizer.step()
    return lambda: here.measure(model)


@plant("A14+D14", "clicks RMSprop 3")
def small_gain_by_small_steps(run: Run) -> Measure:
    """The gain is made small, and epsilon is larger than the gradients."""

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return run.either(-1, 1) * world(run).loss(model, batch)

    model = world(run).model()
    return train(run, model, made(run, model, eps=run.either(0.03, 1e-8)), loss=loss_fn)


@plant("A21+B12", "diabetes SGD 2")
def one_batch_with_a_slip(run: Run) -> Measure:
    """The switch for one batch was left on, and in that batch a decimal point is missing."""
    x, y = sources.diabetes()
    y = torch.where((torch.arange(len(y)) % 30 == 3) & run.faulty, 12 * y, y)
    batches: Any = tuples(x, y, size=25)
    if run.faulty:
        batches = [(x[:25], y[:25])] * len(batches)
    return train(run, data=batches)


@plant("B04+A17", "sentences RMSprop 2", decidable=22)
def module_by_module_and_noisy(run: Run) -> Measure:
    """Lines come module by module, and the model is in training mode when it is looked at."""
    here = world(run)
    lines = sorted(sources.sentences(), key=lambda each: each[1])
    model = nets.Words(dropout=0.5)
    optimizer = made(run, model)

    def look() -> float:
        found = here.measure(model)
        if not run.faulty:
            return found
        stay, model.eval = model.eval, model.train
        try:
            return here.measure(model)
        finally:
            model.eval = stay

    doctor = run.watch(model, optimizer, loss=here.loss)
    for _ in range(4):
        model.train()
        for batch in doctor(pages(lines, shuffle=not run.faulty)):
            optimizer.zero_grad()
            here.loss(model, batch).backward()
            optimizer.step()
        look()
    return look


@plant("C02+D11", "islands SGD 3")
def loud_start_without_friction(run: Run) -> Measure:
    """Weights begin several times too large, and momentum is near 1."""
    model = world(run).model()
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(run.either(2.5, 1.0))
    return train(run, model, made(run, model, run.either(0.3, 1.0), momentum=run.either(0.99, 0.9)))
