"""A life under Lightning: `ModelCheckpoint` every few steps with `save_last`, and `ckpt_path="last"` to go on."""

import warnings
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch.callbacks
import torch
import torch._dynamo
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reliability import task, watch


class Module(lightning.LightningModule):
    """The network of the task."""

    def __init__(self) -> None:
        super().__init__()
        self.network = task.network()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss."""
        return task.loss(self.network, batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Log the loss."""
        self.log("val_loss", nn.functional.mse_loss(self.network(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def live(order: dict[str, Any]) -> int:
    """Train to the end, from the last checkpoint if there is one, and keep the weights."""
    warnings.simplefilter("ignore")
    watch.own[:] = [watch.Watch(Path(order["watch"]))]
    watch.own[0].enter("begin")
    lightning.seed_everything(0, workers=True, verbose=False)
    saving = lightning.pytorch.callbacks.ModelCheckpoint(
        dirpath=order["out"], every_n_train_steps=task.EVERY, save_last=True
    )
    trainer = lightning.Trainer(
        max_steps=task.STEPS, callbacks=[saving], accelerator="cpu", devices=1, logger=False,
        enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0,
    )  # fmt: skip
    model = Module()
    train = DataLoader(task.Noisy(160), batch_size=16, shuffle=True)
    trainer.fit(model, train, DataLoader(task.Noisy(48), batch_size=16), ckpt_path="last")
    torch.save(model.network.state_dict(), f"{order['out']}.weights")
    watch.own[0].enter("end")
    return 0
