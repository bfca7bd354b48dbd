"""Workloads of another suite are run as ours are, and its sweeps are compared with."""

import json
import sys

import pytest
import torch
from pilot import compared, harness, suite
from pilot.run import Order, Runner
from pilot.workloads import PARTS, every

MODULE = """
import torch
from torch import nn
from ._common import rows

name, family, batch_size, T = "public_line", "linear", 4, 30

class Endless:
    def batches(self, batch_size, seed):
        draw = torch.Generator().manual_seed(seed)
        while True:
            yield rows(batch_size, draw)

def build_model(seed):
    torch.manual_seed(seed)
    return nn.Linear(2, 1)

def data():
    return Endless(), [rows(8, torch.default_generator)]

def loss(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])

def val_loss(model, batch):
    return 2 * loss(model, batch)
"""
COMMON = """
import torch

def rows(number, draw):
    x = torch.randn(number, 2, generator=draw)
    return x, x.sum(1, keepdim=True)
"""


def line(contender, seed, final, steps=30):
    return {
        "workload": "public_line", "contender": contender, "seed": seed, "T": steps, "used": 30.0, "init": 4.0,
        "final": final, "diverged": False, "cpu_s": 2.0, "error": None, "curve": [[0, 4.0], [30.0, final]],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / "public_line.py").write_text(MODULE)
    (tmp_path / "workloads" / "_common.py").write_text(COMMON)
    (tmp_path / "results").mkdir()
    rows = [
        line("adamw_0.01", 0, 1.0),
        line("adamw_0.01", 1, 1.0),
        line("adamw_0.1", 0, 0.5),
        line("adamw_0.1", 1, 2.5),
    ]
    rows += [line("sgd_0.1", 0, 0.25), line("adamw_nowarm_0.01", 0, 0.1), line("prodigy", 0, 0.1)]
    rows += [line("adamw_1", 0, 0.01, steps=300)]
    (tmp_path / "results" / "baselines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    yield tmp_path
    PARTS.pop("suite", None)
    every().pop("public_line", None)
    for name in [name for name in sys.modules if name.startswith(suite.PACKAGE)]:
        del sys.modules[name]


def test_a_workload_is_taken_in(folder):
    state = torch.get_rng_state()
    suite.join(folder)
    assert torch.equal(torch.get_rng_state(), state)
    assert PARTS["suite"] == ("public_line",)
    assert "public_line" not in PARTS["all"]
    row = harness.run("public_line", "adamw_0.1", 0)
    assert row["error"] == ""
    assert row["T"] == row["used"] == 30
    model = every()["public_line"].build(0)
    assert row["initial"] == pytest.approx(2 * every()["public_line"].loss(model, every()["public_line"].val[0]).item())


def test_no_suite(tmp_path):
    with pytest.raises(ValueError, match="is no suite"):
        suite.join(tmp_path)


def test_its_sweeps_are_read_as_sweeps(folder):
    """Each sweep counts with the seeds that all have: seed 1 of AdamW is left out where SGD was not run with it."""
    suite.join(folder)
    rows = suite.sweeps(folder)
    assert {row["contender"] for row in rows} == {"adamw_0.01", "adamw_0.1", "sgd_0.1"}
    kept = compared.collect(rows, PARTS["suite"])
    assert compared.oracle(kept, ["adamw"])["public_line", 0]["contender"] == "adamw_0.01"
    assert compared.oracle(kept, ["adamw", "sgd"])["public_line", 0]["contender"] == "sgd_0.1"
    mine = {**harness.run("public_line", "prodigy", 0), "final": 0.5}
    tables = {table.title: table for table in compared.tables([*rows, mine], "suite", [])}
    assert tables["Against the AdamW sweep's best"].rows[0][:2] == ["prodigy", "0.500"]
    assert tables["Against the best of all sweeps"].rows[0][:2] == ["prodigy", "2.000"]


def test_a_worker_knows_the_suite(folder, tmp_path):
    """It is another process, which begins with nothing."""
    suite.join(folder)
    with Runner(tmp_path / "rows.jsonl", 1, folder) as runner:
        runner.make([Order("public_line", "adamw_0.1", 0)])
    assert runner.rows[Order("public_line", "adamw_0.1", 0)]["error"] == ""
