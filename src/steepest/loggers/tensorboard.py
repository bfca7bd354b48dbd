"""TensorBoard: event files in `<out>/tensorboard`."""

import time
from importlib import import_module
from pathlib import Path
from typing import Any

from steepest.loggers.logger import Last, numbers


class TensorBoard:
    """Writes scalars under their own names; `tensorboard --logdir <out>` shows them.

    Each row is one record of the event file, so a killed process leaves it whole or not at all. NaN and infinity are
    kept. A scalar is a float32 there: beyond 3.4e38 a number becomes infinite. After a resumption a second event file
    lies beside the first and goes on where that ends. Messages are texts.
    """

    name = "tensorboard"

    def __init__(self, out: Path) -> None:
        self._out = out
        self._files = import_module("tensorboard.summary.writer.event_file_writer")
        self._events = import_module("tensorboard.compat.proto.event_pb2")
        self._summaries = import_module("tensorboard.compat.proto.summary_pb2")
        self._texts = import_module("torch.utils.tensorboard.summary")
        self._loader = import_module("tensorboard.backend.event_processing.event_file_loader")
        self._writer: Any = None

    def start(self, key: str | None, config: dict[str, Any]) -> tuple[str | None, Last | None]:
        """Open the folder named by the key, or the first free one; its event files tell the last steps."""
        key = key or self._free_name()
        folder = self._out / key
        last: Last = {}
        for path in sorted(folder.glob("events.out.tfevents.*")):
            for event in self._loader.LegacyEventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    last[value.tag] = max(event.step, last.get(value.tag, -1))
        self._writer = self._files.EventFileWriter(str(folder), max_queue_size=1000)
        if not last:
            lines = "\n".join(f"    {name}: {value}" for name, value in config.items())
            self._write(0, self._texts.text("config", lines))
        return key, last

    def take(self, row: dict[str, Any]) -> dict[str, float]:
        """Return the row's numbers."""
        return numbers(row)

    def log(self, step: int, series: dict[str, Any]) -> None:
        """Append one record."""
        values = [self._summaries.Summary.Value(tag=tag, simple_value=value) for tag, value in series.items()]
        self._write(step, self._summaries.Summary(value=values))

    def flush(self) -> None:
        """Hand the file's buffer to the operating system."""
        self._writer.flush()

    def alert(self, title: str, text: str, step: int) -> None:
        """Show it under Text."""
        self._write(step, self._texts.text(title, text))

    def close(self, status: str) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, step: int, summary: Any) -> None:
        self._writer.add_event(self._events.Event(step=step, wall_time=time.time(), summary=summary))

    def _free_name(self) -> str:
        name, number = self.name, 1
        while (self._out / name).exists():
            number += 1
            name = f"{self.name}-{number}"
        return name
