"""Parameters spread over two processes move as in one."""

import warnings

import pytest
import torch
from by_hand import give, problem, tensors
from torch import distributed, multiprocessing

from steepest.optim import CLASSES

SHAPES = [(4, 4), (6, 6)]
OPTIONS = {"lr": 0.01, "clip": 1.0, "ema": 0.9, "skip_nonfinite": True}


def on_a_rank(rank, file, queue):
    """Step every optimizer on shards, and by itself on whole tensors; send what differs."""
    from torch.distributed.device_mesh import DeviceMesh

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    mesh = DeviceMesh("cpu", [0, 1])
    for name, kind in CLASSES.items():
        try:
            outcome = distance(kind, mesh)
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        if rank == 0:
            queue.put((name, outcome))
    distributed.barrier()
    distributed.destroy_process_group()


def distance(kind, mesh):
    """How far apart the two ways end, and what they measured."""
    from torch.distributed.tensor import Shard, distribute_tensor

    starts, gradients = problem(SHAPES, steps=12)
    whole = kind(tensors(starts), **OPTIONS)
    spread = kind(
        [torch.nn.Parameter(distribute_tensor(p.detach().clone(), mesh, [Shard(0)])) for p in tensors(starts)],
        **OPTIONS,
    )
    whole.measure = spread.measure = True
    parts, parameters = spread.param_groups[0]["params"], whole.param_groups[0]["params"]
    for step in gradients:
        give(parameters, step)
        for p, g in zip(parts, step, strict=True):
            p.grad = distribute_tensor(torch.tensor(g), mesh, [Shard(0)])
        whole.step()
        spread.step()
    pairs = zip(parts, parameters, strict=True)
    return {
        "parameters": max(float((a.full_tensor() - b).abs().max()) for a, b in pairs),
        "gradient norm": abs(spread.stats.gradient_norm - whole.stats.gradient_norm),
        "update norm": abs(spread.stats.update_norm - whole.stats.update_norm),
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of each optimizer."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    file = tmp_path_factory.mktemp("ranks") / "store"
    processes = [context.Process(target=on_a_rank, args=(rank, str(file), queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(queue.get(timeout=120) for _ in CLASSES)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_shards_move_as_the_whole(outcomes, name):
    assert not isinstance(outcomes[name], str), outcomes[name]
    assert max(outcomes[name].values()) < (1e-7 if name == "SOAP" else 1e-10), outcomes[name]
