"""Reading back what each logger's own package has kept."""

import json
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest


class Place:
    """A package, where it keeps what it is given, and in what precision."""

    package = ""

    def skip_if_missing(self):
        found = find_spec(self.package) if self.package else None
        if self.package and (found is None or found.origin is None):
            pytest.skip(f"needs the package {self.package}: pip install 'steepest[{self.package}]'")

    def environment(self, out):
        return {}

    def held(self, series):
        return series


class TensorBoard(Place):
    package = "tensorboard"

    def series(self, out):
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

        files = [list(LegacyEventFileLoader(str(file)).Load()) for file in (out / "tensorboard").iterdir()]
        series = {}
        for events in sorted(files, key=lambda events: events[0].wall_time):
            for event in events:
                for value in event.summary.value:
                    if value.HasField("simple_value"):
                        series.setdefault(value.tag, []).append((event.step, value.simple_value))
        return series

    def held(self, series):
        return {key: [(step, float(np.float32(value))) for step, value in points] for key, points in series.items()}


class Trackio(Place):
    package = "trackio"

    def environment(self, out):
        return {"TRACKIO_DIR": str(out / "trackio"), "HF_HUB_OFFLINE": "1"}

    def series(self, out):
        import sqlite3

        (database,) = (out / "trackio").glob("*.db")
        series = {}
        with sqlite3.connect(database) as connection:
            for step, metrics in connection.execute("SELECT step, metrics FROM metrics ORDER BY id"):
                for key, value in json.loads(metrics).items():
                    series.setdefault(key, []).append((step, float(value)))
        connection.close()
        return series


class MLflow(Place):
    package = "mlflow"

    def environment(self, out):
        return {"MLFLOW_TRACKING_URI": f"sqlite:///{out / 'mlflow.db'}"}

    def series(self, out):
        import sqlite3

        with sqlite3.connect(out / "mlflow.db") as connection:
            rows = connection.execute("SELECT key, step, value, is_nan FROM metrics ORDER BY step").fetchall()
        connection.close()
        series = {}
        for key, step, value, is_nan in rows:
            series.setdefault(key, []).append((step, math.nan if is_nan else float(value)))
        return series

    def held(self, series):
        most = float(np.finfo(np.float64).max)
        clip = lambda value: max(-most, min(most, value)) if not math.isnan(value) else value  # noqa: E731
        return {key: [(step, clip(value)) for step, value in points] for key, points in series.items()}


class WandB(Place):
    package = "wandb"

    def environment(self, out):
        return {"WANDB_MODE": "offline"}

    def series(self, out):
        from wandb.proto.wandb_internal_pb2 import Record

        from steepest.loggers.wandb import contents

        series, numbers = {}, []
        for file in sorted(Path(out).glob("wandb/offline-run-*/*.wandb")):
            for content in contents(file.read_bytes()):
                record = Record()
                record.ParseFromString(content)
                if record.WhichOneof("record_type") != "history":
                    continue
                numbers.append(record.history.step.num)
                row = {".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
                for key, value in row.items():
                    if key[0] != "_" and key != "step":
                        series.setdefault(key, []).append((row["step"], float(value)))
        assert numbers == sorted(set(numbers)), "W&B's own step must only rise"
        return series


PLACES = {
    "function": Place(), "suicide": Place(), "tensorboard": TensorBoard(), "trackio": Trackio(), "mlflow": MLflow(),
    "wandb": WandB(),
}  # fmt: skip
