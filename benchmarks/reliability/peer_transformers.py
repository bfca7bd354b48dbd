"""A life under the Trainer of transformers: `save_steps`, and `resume_from_checkpoint` where there is a checkpoint."""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers.trainer import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from reliability import task, watch


class Module(nn.Module):
    """The network of the task, which takes and gives what the Trainer expects."""

    def __init__(self) -> None:
        super().__init__()
        self.network = task.network()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss."""
        return {"loss": task.loss(self.network, (x, labels))}


class Named(Dataset):
    """The samples of the task, by name."""

    def __init__(self, samples: int) -> None:
        self.samples = task.Noisy(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        x, y = self.samples[place]
        return {"x": x, "labels": y}


def live(order: dict[str, Any]) -> int:
    """Train to the end, from the last checkpoint if there is one, and keep the weights."""
    warnings.simplefilter("ignore")
    watch.own[:] = [watch.Watch(Path(order["watch"]))]
    watch.own[0].enter("begin")
    transformers.logging.set_verbosity_error()
    settings = TrainingArguments(
        order["out"], max_steps=task.STEPS, save_steps=task.EVERY, save_total_limit=2, report_to="none", seed=0,
        per_device_train_batch_size=16, per_device_eval_batch_size=16, learning_rate=1e-3, eval_strategy="steps",
        eval_steps=7, use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(Module(), settings, train_dataset=Named(160), eval_dataset=Named(48))
    last = get_last_checkpoint(order["out"]) if Path(order["out"]).is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    torch.save(trainer.model.network.state_dict(), f"{order['out']}.weights")
    watch.own[0].enter("end")
    return 0
