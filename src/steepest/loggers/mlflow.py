"""MLflow: a run in the experiment "steepest" of the tracking store that MLflow itself would use."""

import os
import re
import time
from importlib import import_module
from typing import Any

from steepest.loggers.logger import Last, numbers

PROJECT = "steepest"
MOST = 500
"""A request to MLflow holds so many numbers; it takes 1000."""


class MLflow:
    """Writes metrics in batches; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are kept.

    NaN is kept. MLflow's SQL stores cannot hold infinity: they return it as ±1.797e308, the largest number. In names,
    characters that MLflow refuses become "_". Messages are tags of the run.
    """

    name = "mlflow"

    def __init__(self, run: str) -> None:
        self._run = run
        self._entities = import_module("mlflow.entities")
        self._mlflow = import_module("mlflow")
        self._client: Any = None
        self._id = ""
        self._waiting: list[Any] = []

    def start(self, key: str | None, config: dict[str, Any]) -> tuple[str | None, Last | None]:
        """Open a run, or the one that the key names; its metrics tell the last steps."""
        client = self._client = self._mlflow.MlflowClient()
        if key is not None:
            client.update_run(key, status="RUNNING")
            self._id = key
            names = client.get_run(key).data.metrics
            return key, {name: max(point.step for point in client.get_metric_history(key, name)) for name in names}
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name) if found is None else found.experiment_id
        self._id = client.create_run(experiment, run_name=self._run).info.run_id
        for name, value in config.items():
            client.log_param(self._id, _legal(name), str(value)[:500])
        return self._id, {}

    def take(self, row: dict[str, Any]) -> dict[str, float]:
        """Return the row's numbers, under names that MLflow takes."""
        return {_legal(key): value for key, value in numbers(row).items()}

    def log(self, step: int, series: dict[str, Any]) -> None:
        """Put them to the next batch."""
        now = int(1000 * time.time())
        self._waiting += [self._entities.Metric(name, value, now, step) for name, value in series.items()]
        if len(self._waiting) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Send the batch; if that fails, the next one takes it along."""
        while self._waiting:
            self._client.log_batch(self._id, metrics=self._waiting[:MOST])
            del self._waiting[:MOST]

    def alert(self, title: str, text: str, step: int) -> None:
        """Tag the run with it."""
        self._client.set_tag(self._id, _legal(f"alert.{step}.{title}"), text)

    def close(self, status: str) -> None:
        """Say how the run ended."""
        ends = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
        self._client.set_terminated(self._id, ends.get(status, "KILLED"))


def _legal(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name)
