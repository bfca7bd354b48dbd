"""How a formula is cut into stages, how often the machine code is called, and what of it is compiled anew."""

import pytest
import torch

from steepest import formula
from steepest.formula import Tape
from steepest.kernels import machine, pool
from steepest.kernels.plan import plan
from steepest.optim import CLASSES, Optimizer
from steepest.rule import rule
from steepest.rules import RULES

SUMS = {"lamb": 2, "lars": 2, "stable_adamw": 2, "mars": 2, "novograd": 2, "prodigy": 2}
ELEMENTWISE = sorted(name for name, each in RULES.items() if not each.matrix and name not in SUMS)


def program_of(each, t=3, matrix=None, **hyper):
    tape = Tape(matrix)
    return plan(tape, dict(zip(("p", *each.states), each.trace(tape, t=t, **hyper), strict=True)))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_an_elementwise_rule_is_one_stage(name):
    assert len(program_of(RULES[name]).stages) == 1


@pytest.mark.parametrize("name", SUMS)
def test_a_norm_adds_a_stage(name):
    program = program_of(RULES[name])
    assert len(program.stages) == SUMS[name]
    assert all(not stage.stores for stage in program.stages[:-1])  # nothing is overwritten while it is needed
    assert program.stages[-1].stores


@rule
def wasteful(p, g, kept, never, m, *, lr=0.1):
    unused = formula.sqrt(g) * 7
    assert unused is not None
    return p - lr * (g * g) - lr * (g * g), kept, never, m + g * g


def test_what_is_repeated_or_unused_is_dropped():
    program = program_of(wasteful)
    operations = [node[0] for node in program.nodes]
    assert operations.count("mul") == 2 + 1  # g * g once, and lr times it twice: a constant is equal to nothing
    assert "sqrt" not in operations
    assert dict(program.outputs).keys() == {"p", "m"}  # a state handed back is neither read nor written
    assert set(program.states) == {"m"}


def test_only_what_a_stage_needs_is_loaded():
    program = program_of(RULES["lamb"])
    assert {name for name, _ in program.stages[-1].stores} == {"p", "m", "v"}
    assert set(program_of(RULES["sgd"]).stages[0].loads) == {"p", "g"}


class Calls(list):
    """The launches since it was last emptied."""

    def taken(self):
        count = len(self)
        self.clear()
        return count


@pytest.fixture
def launches(monkeypatch):
    calls, real = Calls(), pool.run

    def counted(*arguments):
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(pool, "run", counted)
    return calls


@pytest.fixture
def compiled(monkeypatch):
    calls, real = Calls(), machine.function_address

    def counted(text):
        calls.append(text)
        return real(text)

    monkeypatch.setattr(machine, "function_address", counted)
    return calls


def many(count, dtype=torch.float32):
    parameters = [torch.nn.Parameter(torch.randn(3 + k % 5, 2, dtype=dtype)) for k in range(count)]
    for p in parameters:
        p.grad = torch.randn_like(p)
    return parameters


@pytest.mark.parametrize("count", [1, 300])
@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop", "Adan"])
def test_a_step_is_one_launch_for_any_number_of_tensors(launches, name, count):
    optimizer = CLASSES[name](many(count))
    for _ in range(3):
        optimizer.step()
        assert launches.taken() == 1


def test_launches_for_each_dtype_group_and_stage(launches):
    parameters = many(5) + many(5, torch.bfloat16)
    optimizer = CLASSES["AdamW"]([{"params": parameters[:3]}, {"params": parameters[3:], "lr": 0.1}])
    optimizer.step()
    assert launches.taken() == 2  # float32 in both groups, bfloat16 in one
    optimizer.param_groups[1]["amsgrad"] = True
    optimizer.step()
    assert launches.taken() == 3
    optimizer = CLASSES["AdamW"](parameters, clip=1.0, skip_nonfinite=True, ema=0.9)
    optimizer.step()
    assert launches.taken() == 4  # the norm first, for each dtype
    optimizer = CLASSES["LAMB"](parameters[:5])
    optimizer.step()
    assert launches.taken() == 2


def test_clipping_and_the_guard_share_the_stage_of_a_norm(launches):
    optimizer = CLASSES["AdamW"](many(5), cautious=True, clip=1.0)
    optimizer.measure = True
    optimizer.step()
    assert launches.taken() == 3  # norm of g; share that agrees; step with all measurements


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_nothing_is_compiled_after_the_graph_has_settled(compiled, name):
    optimizer = CLASSES[name]([torch.nn.Parameter(torch.randn(4, 3))], ema=0.9, clip=1.0)
    for step in range(45):
        optimizer.param_groups[0]["params"][0].grad = torch.randn(4, 3)
        optimizer.param_groups[0]["lr"] = 1e-3 / (1 + step)
        optimizer.step()
        if step == 24:
            compiled.clear()
    assert compiled.taken() == 0


def test_a_new_rate_compiles_nothing_and_a_new_graph_does(compiled):
    parameters = many(3)
    optimizer = CLASSES["SGD"](parameters, lr=0.1)
    optimizer.step()
    optimizer.step()
    assert compiled.taken() >= 1
    optimizer.param_groups[0]["lr"] = 0.01
    optimizer.step()
    assert compiled.taken() == 0
    optimizer.param_groups[0]["weight_decay"] = 0.1
    optimizer.step()
    assert compiled.taken() == 1


def most_allocated(optimizer):
    """Bytes of the largest allocation of tensors in one step, as torch's profiler counts them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        optimizer.step()
    return max((event.cpu_memory_usage for event in profile.events()), default=0)


def test_a_settled_step_allocates_no_tensors():
    parameters = [torch.nn.Parameter(torch.randn(1000)) for _ in range(5)]
    for p in parameters:
        p.grad = torch.randn(1000)
    optimizer = CLASSES["AdamW"](parameters, ema=0.9, skip_nonfinite=True)
    assert most_allocated(optimizer) >= 4000  # the states
    optimizer.step()
    assert most_allocated(optimizer) <= 8 * len(parameters)  # one number for each tensor at most


def test_the_same_rule_under_two_options_is_two_programs():
    assert program_of(RULES["adamw"]) != program_of(RULES["adamw"], amsgrad=True)
    assert program_of(RULES["adamw"]) == program_of(RULES["adamw"], lr=0.5)
    assert hash(program_of(RULES["adamw"])) == hash(program_of(RULES["adamw"], lr=0.5))


def test_a_rule_that_moves_nothing_runs_nothing(launches):
    @rule
    def rests(p, g, m, *, lr=0.1):
        return p, m

    parameter = many(1)[0]
    before = parameter.detach().clone()
    Optimizer([parameter], rests).step()
    assert launches.taken() == 0
    assert torch.equal(parameter, before)
