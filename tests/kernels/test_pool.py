"""Threads: the same bits from any number and from either pool, and no child of a fork that hangs or dies."""

import ctypes
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from stepping import by_kernel, different, problem, threads

from steepest.kernels import pool
from steepest.optim import CLASSES
from steepest.rules import RULES

SHAPES = [(40001,), (3,), (16384,), (100, 400), (0,)]
SUMMING = pytest.mark.parametrize("name", ["adamw", "lamb", "prodigy"])


@SUMMING
def test_python_threads_give_the_same_bits(monkeypatch, name):
    starts, gradients = problem(SHAPES)
    plain = by_kernel(RULES[name], starts, gradients, clip=1.0)
    used = []
    monkeypatch.setattr(pool, "_openmp", lambda: None)
    real = pool._threads
    monkeypatch.setattr(pool, "_threads", lambda *arguments: used.append(1) or real(*arguments))
    with threads(2):
        assert different(plain, by_kernel(RULES[name], starts, gradients, clip=1.0)) == 0
    assert used


@SUMMING
@pytest.mark.parametrize("count", [2, 3, 5])
def test_any_number_of_threads_gives_the_same_bits(name, count):
    starts, gradients = problem(SHAPES)
    plain = by_kernel(RULES[name], starts, gradients, clip=1.0)
    with threads(count):
        assert different(plain, by_kernel(RULES[name], starts, gradients, clip=1.0)) == 0


@pytest.fixture
def asked(monkeypatch):
    """How many threads each region was run on."""
    counts = []
    real = pool._threads

    def region(function, sheet, count):
        counts.append(count)
        return real(function, sheet, count)

    monkeypatch.setattr(pool, "_openmp", lambda: region)
    return counts


def one_step(size):
    p = torch.nn.Parameter(torch.ones(size))
    p.grad = torch.ones(size)
    CLASSES["SGD"]([p], lr=0.5).step()
    assert (p == 0.5).all()


def test_torchs_setting_is_asked_at_each_step(asked):
    for count in (2, 1, 3):
        with threads(count):
            one_step(pool.SMALL)
    assert asked == [2, 3]  # one thread needs no region


def test_a_small_step_wakes_nobody(asked):
    with threads(2):
        one_step(pool.SMALL - 1)
    assert asked == []


def test_a_child_of_a_fork_runs_alone(asked, monkeypatch):
    monkeypatch.setattr(pool, "_forked", True)
    with threads(2):
        one_step(pool.SMALL)
    assert asked == []


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp comes with torch on Linux only")
def test_torchs_openmp_passes_its_test():
    assert pool._openmp.__wrapped__() is not None


@pytest.mark.parametrize("seen", [[], [7, 8], [7, 7, 7]], ids=["never runs", "another argument", "too often"])
def test_a_region_that_misbehaves_is_not_used(seen):
    def misbehaves(function, sheet, count):
        for argument in seen:
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)(argument)

    assert not pool._works(misbehaves)


def test_a_library_without_openmp_is_not_used(monkeypatch):
    class Without:
        def __getattr__(self, name):
            raise AttributeError(name)

    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: Without())
    assert pool._openmp.__wrapped__() is None

    def missing(*arguments, **options):
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert pool._openmp.__wrapped__() is None


def test_two_optimizers_step_side_by_side():
    def run(results, place):
        starts, gradients = problem([(40001,), (7,)], seed=place)
        results[place] = by_kernel(RULES["adamw"], starts, gradients)

    with threads(2):
        together, alone = {}, {}
        workers = [threading.Thread(target=run, args=(together, place)) for place in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        for place in range(3):
            run(alone, place)
    assert all(different(together[place], alone[place]) == 0 for place in range(3))


AFTER_USE = """
import os, sys, warnings
import torch
from steepest.optim import AdamW

def walk():
    p = torch.nn.Parameter(torch.linspace(-1, 1, 100_000))
    optimizer = AdamW([p], lr=0.1, clip=1.0)
    for _ in range(3):
        p.grad = p.detach().clone()
        optimizer.step()
    return p.detach().double().sum().item(), p.detach().double().norm().item()

torch.set_num_threads(2)
a = torch.randn(500, 500)
(a @ a).sum()
expected = walk()  # torch's pool now has threads
"""

# In such a child torch's own large operations wait for ever for threads that are gone, so it only steps and looks.
FORK = """
import time
p = torch.nn.Parameter(torch.linspace(-1, 1, 100_000))
optimizer = AdamW([p], lr=0.1, clip=1.0)
p.grad = p.detach().clone()
optimizer.step()
read, write = os.pipe()
child = os.fork()
optimizer.step()
if child == 0:
    os.write(write, p.detach().numpy().tobytes()[-400:])
    os._exit(0)
for _ in range(600):
    done, status = os.waitpid(child, os.WNOHANG)
    if done: break
    time.sleep(0.05)
else:
    os.kill(child, 9); sys.exit("the child hangs")
assert status == 0, status
assert os.read(read, 1000) == p.detach().numpy().tobytes()[-400:]
assert walk() == expected  # and the parent goes on
"""

WORKERS = """
class Walks(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, index): return torch.tensor(walk(), dtype=torch.float64)

for _ in range(2):
    loader = torch.utils.data.DataLoader(Walks(), num_workers=2, multiprocessing_context="fork", timeout=60)
    for batch in loader:
        assert tuple(batch[0].tolist()) == expected, batch
    assert walk() == expected
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(sys, "abiflags"), reason="Windows has no fork")
@pytest.mark.parametrize("use", [FORK, WORKERS], ids=["fork", "workers of a DataLoader"])
def test_a_child_steps_after_the_parent_used_its_threads(use):
    done = subprocess.run(
        [sys.executable, "-c", AFTER_USE + use], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr


def test_rows_shared_by_threads_are_each_done_once():
    """Every element moves by one, whoever takes its row."""
    starts = [np.zeros(16384 * 9 + 5, np.float32)]
    with threads(4):
        moved = by_kernel(RULES["sgd"], starts, [[np.ones_like(starts[0])]] * 5, lr=1.0)
    assert (moved[0] == -5).all()
