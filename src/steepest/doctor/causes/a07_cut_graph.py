"""Gradients that are stopped on the way to parameters."""

import torch
from torch import Tensor, nn

from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo
from steepest.doctor.lab import Lab
from steepest.doctor.unreached import unreached


@cause(
    "A07",
    "cut-graph",
    fix="Take away the call that stops the gradient (detach, data, item, numpy, round) between parameters and loss.",
    when=STEP,
    weight=EXACT,
    masks="A18 B C D",
)
def cut_graph(lab: Lab) -> Found | None:
    """Early layers do not learn, or nothing does, and nothing complains.

    Parameters that are to be trained receive no gradient, or one that is exactly zero; yet the loss is another when
    they are.

    With the call made to let gradients through, in a copy, they receive one.
    """
    found = unreached(lab)
    if found is None or found.kind == "no_grad":
        return None
    summary = (
        f"No gradient reaches {len(found.names)} parameters, such as {found.names[0]}, though the loss hangs on them: "
        f"{found.kind} stops it."
    )
    return Found(summary, {"parameters": len(found.names), "call": found.kind}, proven=True, where=found.where)


def demo(run: Demo) -> None:
    """Hidden values that are detached for a look at them, and used."""
    model = run.network()

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        assert isinstance(model, nn.Sequential)
        hidden = model[:2](batch[0])
        return nn.functional.cross_entropy(model[2:](hidden.detach() if run.faulty else hidden), batch[1])

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for batch in run.watch(model, optimizer, loss)(run.batches(run.classes())):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
