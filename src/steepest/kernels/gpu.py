"""The same step on a GPU: Triton kernels and tables that stay on the device, and nothing that waits for it."""

import atexit
import functools
import hashlib
import linecache
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steepest.kernels.batch import Batch, Graph, Run, real
from steepest.kernels.plan import Program, Stage
from steepest.kernels.stage import kept, temporary
from steepest.kernels.triton_text import ROW, scalars, source

# The formula has no fused multiply-adds, and numbers next to zero are not flushed to it.
OPTIONS: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": False, "enable_reflect_ftz": False}
OLDEST = (8, 0)  # compute capability from which bfloat16 is converted by the hardware


@functools.cache
def missing(device: str) -> str:
    """Return why there are no kernels for a CUDA device such as "cuda:0", or ""."""
    if torch.version.hip:
        return "AMD GPUs, where nobody has checked how Triton rounds"
    try:
        import triton  # noqa: F401  it comes with torch for CUDA, and takes a while to import
    except ImportError as error:
        return f"CUDA without triton ({error})"
    if torch.cuda.get_device_capability(device) < OLDEST:
        return "GPUs of a compute capability below 8.0"
    return ""


@functools.cache
def load(text: str) -> dict[str, Any]:
    """Return the kernels of a module that `triton_text.source` printed. Triton compiles each when it is first launched.

    Triton reads the source of a function back through `linecache`, so it needs no file.
    """
    name = f"<steepest {hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    module: dict[str, Any] = {"__name__": name}
    exec(compile(text, name, "exec"), module)
    return module


@functools.cache
def keep_binaries() -> None:
    """Give Triton a folder for its binaries where it cannot write its own, which it would raise for."""
    from triton import knobs

    try:
        os.makedirs(knobs.cache.dir, exist_ok=True)
        if os.access(knobs.cache.dir, os.W_OK | os.X_OK):
            return
    except OSError:
        pass
    knobs.cache.dir = tempfile.mkdtemp(prefix="steepest-")
    atexit.register(shutil.rmtree, knobs.cache.dir, ignore_errors=True)


def upload(values: Any, device: torch.device) -> Tensor:
    """Return numbers of the host on the device, without waiting: torch keeps the pinned copy until it has been read."""
    host = torch.as_tensor(values)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.clone()


class GpuLauncher:
    """The kernels of one program over the tensors of one batch, with their tables on the device.

    Of the tables the host keeps a copy, so that they travel only when an address or a constant changed.
    """

    def __init__(self, program: Program, sizes: np.ndarray, dtypes: Mapping[str, str], device: torch.device) -> None:
        self.program, self.device = program, device
        self.columns = columns(program)
        computed_in = "float64" if dtypes["p"] == "float64" else "float32"
        self.dtypes = {name: dtypes.get(name, computed_in) for name in self.columns}
        self.units = len(sizes)
        each = np.maximum(1, -(-sizes // ROW))  # an empty tensor has one empty row, so that its sums are zero
        first = np.concatenate([[0], np.cumsum(each)])
        self.rows = int(first[-1])
        start = (np.arange(self.rows) - np.repeat(first[:-1], each)) * ROW
        self.tensor, self.start = (upload(x, device) for x in (np.repeat(np.arange(self.units), each), start))
        self.sizes, self.first = upload(sizes, device), upload(first, device)
        self.addresses = np.zeros((self.units, len(self.columns)), np.int64)
        self.known = b""
        self.pointers: Tensor | None = None
        self.constants = torch.zeros(1, dtype=torch.float64, device=device)
        self.stages = [self._kernels(stage) for stage in program.stages]

    def _kernels(self, stage: Stage) -> "_Kernels | None":
        if not (stage.reductions or stage.kept or stage.stores):
            return None
        return _Kernels(load(source(self.program, stage, self.columns, self.dtypes)), stage, self)

    def point(self, column: str, addresses: Sequence[int] | np.ndarray) -> None:
        """Set the address of each tensor in a column."""
        place = self.columns[column]
        if not np.array_equal(self.addresses[:, place], addresses):
            self.addresses[:, place] = addresses
            self.pointers = None

    def know(self, constants: Sequence[float]) -> None:
        """Set the scalars of the rule at this step."""
        numbers = np.array(constants, np.float64)
        if self.known != numbers.tobytes():
            self.known = numbers.tobytes()
            self.constants = upload(numbers, self.device)

    def run(self, stage: int, values: Sequence[Any]) -> Tensor:
        """Launch one stage. values: what `scalars` names. Returns its sums, (units, reductions), once it gets there."""
        kernels = self.stages[stage]
        if kernels is None:
            return self.constants.new_empty((self.units, 0))
        if self.pointers is None:
            self.pointers = upload(self.addresses, self.device)
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            return kernels.launch(self, values)


def columns(program: Program) -> dict[str, int]:
    """Return the place of each tensor in a row of the pointer table."""
    names = ["p", "g", *(name for name, shape in program.states.items() if shape == "mn")]
    for stage in program.stages:
        names += [*map(temporary, stage.temporaries), *map(kept, stage.kept)]
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


class _Kernels:
    """One stage ready to be launched."""

    def __init__(self, module: Mapping[str, Any], stage: Stage, launcher: GpuLauncher) -> None:
        self.stage, self.totals = module["stage"], module.get("totals")
        self.reductions = len(stage.reductions)
        count = len(scalars(launcher.program, stage))
        real_number: Any = {"dtype": torch.float64, "device": launcher.device}
        self.scalars = torch.zeros((launcher.units, max(1, count)), **real_number)
        self.sums = torch.zeros((launcher.rows, max(1, self.reductions)), **real_number)

    def launch(self, launcher: GpuLauncher, values: Sequence[Any]) -> Tensor:
        keep_binaries()
        for place, value in enumerate(values):
            if isinstance(value, Tensor):
                self.scalars[:, place].copy_(value)
            else:
                self.scalars[:, place].fill_(value)
        tables = (launcher.tensor, launcher.start, launcher.pointers, launcher.sizes)
        self.stage[(launcher.rows,)](*tables, launcher.constants, self.scalars, self.sums, **OPTIONS)
        result = self.sums.new_empty((launcher.units, self.reductions))
        if self.totals is not None:
            self.totals[(launcher.units,)](self.sums, launcher.first, result, **OPTIONS)
        return result


def launcher(batch: Batch, program: Program) -> GpuLauncher:
    """Return the kernels of a program for the tensors of a batch, made when first asked for."""
    launchers: dict[Program, Any] = batch.launchers
    if program not in launchers:
        device = torch.device(batch.form.device)
        dtypes = {"p": batch.form.dtype, "g": batch.form.dtype}
        dtypes |= {name: tensors[0].dtype for name, tensors in batch.states.items() if tensors}
        names = {name: real(dtype) for name, dtype in dtypes.items()}
        launchers[program] = GpuLauncher(program, batch.rows.sizes, names, device)
        batch.size = _on(device, batch.size)
    return launchers[program]


def _on(device: torch.device, value: Any) -> Any:
    return upload(value, device) if isinstance(value, Tensor) and value.device != device else value


class GpuRun(Run):
    """As `Run`, on a GPU. What becomes known as a step runs, such as sums over all tensors, are tensors on the device.

    Raises RuntimeError while a CUDA graph is captured: Python works out the scalars of a rule at every step, and a
    replay would repeat those of one step for ever.
    """

    def __init__(self, batch: Batch, graph: Graph, gradients: list[Tensor], given: Mapping[str, Any]) -> None:
        self.device = torch.device(batch.form.device)
        if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "step() was called while a CUDA graph is captured, which would repeat this one step for ever: capture "
                "the forward and backward pass, and call step() after the replay"
            )
        self.kernels = launcher(batch, graph.program)
        self.kernels.know(graph.constants)
        super().__init__(batch, graph, gradients, {name: _on(self.device, value) for name, value in given.items()})

    def _launch(self, k: int) -> Any:
        return self.kernels.run(k, [self.values[index] for index in scalars(self.program, self.program.stages[k])])

    def _know_sums(self, reductions: Sequence[int], sums: Any) -> None:
        for place, index in enumerate(reductions):
            self.values[index] = sums[:, place]

    def total(self, index: int) -> Any:
        """Return the sum of a scalar over the tensors of the batch: a tensor on the device."""
        return self.values[index].sum()

    def know(self, index: int, value: Any) -> None:
        """Take a value that all tensors share: a number, or a tensor of one."""
        self.values[index] = _on(self.device, value)
