"""One step of a rule that makes matrices orthogonal, over matrices of any shapes: two launches for all of them."""

import torch
from torch import Tensor

from steepest.kernels import matrix
from steepest.kernels.batch import Run


class MixedRun(Run):
    """As `Run`, of a program in which matrices are made orthogonal and nothing else, on a batch that has their shapes.

    What is kept for that is no stack: the numbers of all matrices, one after the other.
    """

    def _stack(self, column: str) -> Tensor:
        numbers = torch.empty(self.batch.rows.elements, dtype=self.batch.form.computed_in, device="cpu")
        self._point_stack(column, numbers)
        return numbers

    def _temporary(self, index: int) -> Tensor:
        _, _, x, *rest, (steps,) = self.program.nodes[index]
        numbers, start = self.values[x], 0
        for place, (count, rows, columns) in enumerate(self.batch.shapes or ()):
            line = self.constants if self.batch.lines is None else self.constants[place]
            a, b, c, eps = (line[self.program.nodes[i][2]] for i in rest)
            stop = start + count * rows * columns
            stack = numbers[start:stop].view(count, rows, columns)
            result = matrix.orthogonalize(stack, (steps, (a, b, c), eps), own=True)
            if result is not stack:
                stack.copy_(result)
            start = stop
        return numbers
