"""Launching on a GPU: what travels to the device and when, what never waits for it, and where there are no kernels.

The tests marked gpu are the only ones that need a GPU; the others run its kernels in Triton's interpreter.
"""

import importlib.util
import inspect
import sys
import warnings
from pathlib import Path

import interpreted
import pytest
import torch
from interpreted import close, has_sums, same_bits, train

from steepest.kernels import gpu
from steepest.kernels.ptx import breaches, compile_for
from steepest.optim import Optimizer
from steepest.rules import RULES

STORE = """\
import triton
import triton.language as tl


@triton.jit
def stage(sums):
    tl.store(sums, 1.0)
"""


@pytest.fixture(scope="module")
def interpreter():
    process = interpreted.Interpreter()
    yield process
    process.close()


def test_constants_travel_only_when_they_change(interpreter):
    assert interpreter(interpreted.uploads, "sgd", rates=(0.1, 0.1, 0.1), fresh=False)[1:] == [0, 0]
    assert interpreter(interpreted.uploads, "sgd", rates=(0.1, 0.1, 0.2), fresh=False)[1:] == [0, 1]


def test_addresses_travel_only_when_they_change(interpreter):
    assert interpreter(interpreted.uploads, "sgd", rates=(0.1, 0.1, 0.1), fresh=True)[1:] == [1, 1]


@pytest.mark.parametrize("name", RULES)
def test_no_stage_reads_the_device(interpreter, name):
    assert interpreter(interpreted.waits, name) == []


@pytest.mark.parametrize(
    "options",
    [{"ema": 0.9, "cautious": True}, {"dtype": torch.bfloat16, "rounding": "stochastic"}, {"maximize": True}],
    ids=str,
)
def test_no_option_reads_the_device(interpreter, options):
    assert interpreter(interpreted.waits, "adamw", **options) == []


def test_the_law_of_not_reading_catches_a_look(interpreter):
    assert interpreter(interpreted.waits, "prodigy", breach=True) == ["__float__"]


def test_a_step_can_be_left_out_on_the_device(interpreter):
    """The rule `guarded` decides by a sum over all tensors, which no host has seen."""
    for special in (False, True):
        ((before,), _) = interpreted.start(special, ((5,),))
        moved = interpreter(train, "guarded", special=special, steps=1, shapes=((5,),))["p[0]"]
        assert torch.equal(moved.nan_to_num(), before.float().nan_to_num()) == special
    assert interpreter(interpreted.waits, "guarded") == []


def test_kernels_need_no_file():
    kernel = gpu.load(STORE)["stage"]
    assert gpu.load(STORE)["stage"] is kernel
    assert "tl.store(sums, 1.0)" in inspect.getsource(kernel.fn)


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    from triton import knobs

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(knobs.cache, "dir", str(tmp_path / "file" / "cache"))
    gpu.keep_binaries.cache_clear()
    assert breaches(compile_for(STORE)["stage"]["ptx"]) == []
    assert any(Path(knobs.cache.dir).iterdir())


def test_reasons_to_have_no_kernels(monkeypatch):
    gpu.missing.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "compute capability" in gpu.missing("cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert gpu.missing("cuda:1") == ""
    monkeypatch.setitem(sys.modules, "triton", None)
    assert "without triton" in gpu.missing("cuda:2")
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert "AMD" in gpu.missing("cuda:3")
    gpu.missing.cache_clear()


def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark", Path(__file__).parents[2] / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_says_that_there_is_nothing_to_measure(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    benchmark().main()
    assert capsys.readouterr().out == "not measured: no CUDA device\n"


def test_the_benchmark_has_a_row_for_each_rule_and_work(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    module = benchmark()
    monkeypatch.setattr(module, "ROUNDS", 1)
    table = module.table(torch.float32, "cpu", {"two": [5, 7]})
    assert table.row_count == len(module.RULES)
    assert "none" not in list(table.columns[3].cells)[: len(module.FUSED)]


# On a GPU.


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in RULES if not RULES[name].matrix])
def test_cuda_gives_the_numbers_of_the_cpu(name):
    law = close if has_sums(name) else same_bits
    for dtype in (torch.float32, torch.bfloat16, torch.float64, torch.complex64):
        for shifted in (False, True):
            keywords = {"shifted": shifted, "dtype": dtype, "shapes": (*interpreted.SIZES, (300_001,))}
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # the formula by torch operations would say so
                got = train(name, device="cuda", **keywords)
            law(got, train(name, **keywords))


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in RULES if not RULES[name].matrix])
def test_cuda_keeps_special_values(name):
    same_bits(train(name, special=True, device="cuda"), train(name, special=True))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["logical", "summing", "guarded", "largest_only", "transcendental"])
def test_cuda_computes_operations_that_no_rule_has(name):
    close(train(name, device="cuda", steps=1), train(name, steps=1))


@pytest.mark.gpu
@pytest.mark.parametrize(
    "options",
    [
        {"rounding": "stochastic"}, {"rounding": "kahan"}, {"state_dtype": torch.bfloat16},
        {"ema": 0.9, "maximize": True},
    ],
    ids=str,
)  # fmt: skip
def test_cuda_options_are_those_of_the_cpu(options):
    keywords = {"dtype": torch.bfloat16, **options}
    same_bits(train("adamw", device="cuda", **keywords), train("adamw", **keywords))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["adafactor", "soap"])  # Muon multiplies in bfloat16 on a GPU, as torch's does
def test_cuda_matrix_rules_are_close(name):
    close(train(name, device="cuda"), train(name), within=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["adamw", "sgd", "lion", "lamb", "lars", "stable_adamw", "adafactor", "muon"])
def test_cuda_steps_never_wait(name):
    shape = (32, 32) if RULES[name].matrix else (1000,)
    parameters = [torch.nn.Parameter(torch.randn(shape, device="cuda")) for _ in range(3)]
    optimizer = Optimizer(parameters, rule=name)
    for p in parameters:
        p.grad = torch.randn_like(p)
    optimizer.step()  # the first one compiles and makes its tables
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_cuda_graphs_are_refused():
    p = torch.nn.Parameter(torch.ones(5, device="cuda"))
    p.grad = torch.ones_like(p)
    optimizer = Optimizer([p], rule="sgd")
    optimizer.step()
    with pytest.raises(RuntimeError, match="CUDA graph"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        optimizer.step()


@pytest.mark.gpu
def test_cuda_runs_repeat_bit_for_bit():
    keywords = {"device": "cuda", "shapes": ((1_000_003,), (17,)), "clip": 1.0}
    same_bits(train("lamb", **keywords), train("lamb", **keywords))
