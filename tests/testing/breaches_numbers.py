"""Breaches of the laws of arithmetic and of memory."""

import torch

from .breach import breaks
from .clean import Clean


class WrongInOneDtype(Clean):
    dtype, factor = torch.float64, 1.0

    def move(self, p, direction, group):
        super().move(p, direction * self.factor if p.dtype == self.dtype else direction, group)


@breaks
class WrongInFloat32(WrongInOneDtype):
    """agrees-in-float32: steps are a thousandth too long."""

    dtype, factor = torch.float32, 1.001


@breaks
class WrongInBfloat16(WrongInOneDtype):
    """agrees-in-bfloat16: steps are half as long again."""

    dtype, factor = torch.bfloat16, 1.5


@breaks
class WrongInFloat16(WrongInOneDtype):
    """agrees-in-float16: steps are a tenth too long."""

    dtype, factor = torch.float16, 1.1


@breaks
class SloppyInCompany(Clean):
    """agrees-in-float64: more than three parameters at once are computed a little less exactly."""

    def move(self, p, direction, group):
        super().move(p, direction * (1 + 1e-12) if len(group["params"]) > 3 else direction, group)


@breaks
class ForgetsTheTail(Clean):
    """every-element-moves: the last element after a block of 16 is left out."""

    def move(self, p, direction, group):
        if p.shape in ((15,), (31,)):
            p, direction = p[:-1], direction[:-1]
        super().move(p, direction, group)


@breaks
class ForeachDiffers(Clean):
    """paths-agree: the second path takes longer steps."""

    def move(self, p, direction, group):
        super().move(p, direction * 1.01 if group["foreach"] else direction, group)


@breaks
class DecaysOncePerDtype(Clean):
    """mixed-dtypes-share-a-group: a group is decayed once for each dtype in it."""

    def update_group(self, group):
        for _ in {p.dtype for p in group["params"]} if group["weight_decay"] else ():
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
        super().update_group(group)


@breaks
class SkipsScalars(Clean):
    """scalars-and-empty-tensors-step: a 0-d parameter is taken for an empty one."""

    def move(self, p, direction, group):
        if p.dim():
            super().move(p, direction, group)


@breaks
class ReadsThroughGaps(Clean):
    """strided-parameters-step: memory between the elements of a sliced parameter is written."""

    def move(self, p, direction, group):
        if torch.empty_like(p).stride() != p.stride():
            room = p.untyped_storage().nbytes() // p.itemsize - p.storage_offset()
            p, direction = (t.as_strided((min(room, p.numel()),), (1,)) for t in (p, direction))
        super().move(p, direction, group)


@breaks
class LosesChannelsLast(Clean):
    """channels-last-steps: the step leaves a contiguous parameter behind."""

    def move(self, p, direction, group):
        super().move(p, direction, group)
        if p.dim() == 4 and not p.is_contiguous() and not p.grad.is_contiguous():
            p.data = p.data.contiguous()


@breaks
class ReadsGradientsInMemoryOrder(Clean):
    """gradient-strides-do-not-matter: a dense gradient is read as it lies in memory."""

    def update(self, p, g, state, group):
        if p.is_contiguous() and not g.is_contiguous() and 0 not in g.stride():
            g = g.as_strided(p.shape, p.stride())
        super().update(p, g, state, group)


@breaks
class KeepsPointers(Clean):
    """replaced-storage-is-followed: the address of a parameter is remembered from the first step."""

    def move(self, p, direction, group):
        memory = self.__dict__.setdefault("memory", {})
        super().move(memory.setdefault(id(p), p.data), direction, group)
        torch.autograd.graph.increment_version(p)
