"""W&B: a run in the project "steepest"; with WANDB_MODE=offline in a folder, to be sent with `wandb sync`."""

import os
import secrets
import struct
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from steepest.loggers.logger import Last, numbers
from steepest.loggers.troubles import words

PROJECT = "steepest"
BLOCK = 32768
"""W&B's files are in blocks of so many bytes, as those of LevelDB's log."""

Row = tuple[int, int, Iterable[str]]
"""W&B's own step, the step of the run, the series."""


class WandB:
    """Writes rows as they come, with the axis "step"; WANDB_* variables are kept.

    NaN and infinity are kept. W&B drops what is logged at an earlier step than its own, so its own step here is the
    number of the row, which only rises, and charts are drawn over "step" by `define_metric`. What is there, an offline
    run is asked by its files, an online run by its history on the server.
    """

    name = "wandb"

    def __init__(self, out: Path | None, run: str) -> None:
        self._name = run
        self._folder = None if out is None or "WANDB_DIR" in os.environ else str(out)
        self._wandb = import_module("wandb")
        self._records = import_module("wandb.proto.wandb_internal_pb2")
        self._run: Any = None
        self._number = 0
        self._check_login()

    def _check_login(self) -> None:
        """Have W&B ask for its key now and not from a thread in the middle of the run."""
        if self._wandb.setup().settings.mode not in ("online", "run"):
            return
        advice = "call `wandb login` once, or set WANDB_MODE=offline."
        try:
            known = self._wandb.login()
        except self._wandb.Error as error:
            raise ValueError(f"log='wandb' cannot log in to W&B ({words(error)}): {advice}") from error
        if not known:
            raise ValueError(f"log='wandb' has no key of W&B here: {advice}")

    def start(self, key: str | None, config: dict[str, Any]) -> tuple[str | None, Last | None]:
        """Open a run by its id, which is the key."""
        key = key or secrets.token_hex(4)
        if self._folder is not None:
            Path(self._folder).mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=self._name, id=key, resume="allow", dir=self._folder,
            config=config, settings=self._wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
        self._run.define_metric("*", step_metric="step")
        self._number, last = self._run.step, {}
        for number, step, series in self._files(key) if self._run.offline else self._server():
            self._number = max(self._number, number + 1)
            last |= {name: max(step, last.get(name, -1)) for name in series}
        return key, last

    def take(self, row: dict[str, Any]) -> dict[str, float]:
        """Return the row's numbers."""
        return numbers(row)

    def log(self, step: int, series: dict[str, Any]) -> None:
        """Hand them to W&B's own process."""
        self._run.log({**series, "step": step}, step=self._number, commit=True)
        self._number += 1

    def flush(self) -> None:
        """W&B's own process does that."""

    def alert(self, title: str, text: str, step: int) -> None:
        """Send a W&B alert."""
        self._run.alert(title, text)

    def close(self, status: str) -> None:
        """Finish the run and wait until it is sent."""
        self._run.finish(exit_code=int(status == "failed"))

    def _files(self, key: str) -> Iterator[Row]:
        """Yield what the processes before this one left in the files of an offline run."""
        own = Path(self._run.settings.sync_file)
        for path in sorted(own.parent.parent.glob(f"*-{key}/run-{key}.wandb")):
            for content in contents(path.read_bytes()) if path != own else ():
                record = self._records.Record()
                record.ParseFromString(content)
                if record.WhichOneof("record_type") != "history":
                    continue
                row = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                if "step" in row:
                    yield record.history.step.num, int(row["step"]), row.keys()

    def _server(self) -> Iterator[Row]:
        """Yield what the server has of a run taken up again."""
        if not self._run.resumed:
            return
        path = f"{self._run.entity}/{self._run.project}/{self._run.id}"
        for row in self._wandb.Api().run(path).scan_history():
            if row.get("step") is not None:
                yield row["_step"], int(row["step"]), {name for name, value in row.items() if value is not None}


def contents(data: bytes) -> Iterator[bytes]:
    """Return the records in a W&B file, as far as they are whole: after 7 bytes, each piece has a header of 7."""
    at, record = 7, b""
    while at + 7 <= len(data):
        rest = BLOCK - at % BLOCK
        size, kind = struct.unpack_from("<4xHB", data, at)
        if rest < 7 or kind == 0:
            at += rest
            continue
        if at + 7 + size > len(data):
            return
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last piece of several
            yield record
            record = b""
