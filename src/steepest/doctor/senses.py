"""Whether a loss is to be lowered or raised, by what its parts are."""

from torch import Tensor

from steepest.doctor.anatomy import Anatomy
from steepest.doctor.spy import Call

LOGARITHMS = ("log_softmax", "logsigmoid")
SQUARES = ("pow", "square", "__pow__", "mse_loss")


def sense(seen: Anatomy) -> int:
    """Return 1 where a loss grows with its criteria, -1 where it falls, 0 where that is not known or differs.

    What is written by hand is judged by the log-probabilities in it: a loss falls as they rise. A criterion whose
    target is the same for all says nothing, for an adversary's may be turned; nor does one whose weights differ, such
    as rewards.
    """
    known = [call for call in seen.seen.criteria if _tells(call)]
    if known:
        return _sign(seen, [call.output for call in known])
    if seen.seen.criteria:
        return 0
    return -_sign(seen, [call.output for call in seen.named(*LOGARITHMS)])


def sense_of_squares(seen: Anatomy) -> int:
    """Return the same by the squares that a loss is made of."""
    squares = [call for call in seen.named(*SQUARES) if call.inputs and call.inputs[0].requires_grad]
    return _sign(seen, [call.output for call in squares], uniform=False)


def _tells(call: Call) -> bool:
    target = call.target.detach()
    return target.numel() > 1 and not bool((target == target.reshape(-1)[0]).all())


def _sign(seen: Anatomy, outputs: list[Tensor], uniform: bool = True) -> int:
    """Return the sign of the gradients for these, 0 where it differs; -1 only where all are alike, if uniform."""
    gradients = [
        each for each in seen.gradients([each for each in outputs if isinstance(each, Tensor)]) if each is not None
    ]
    signs = {sign for each in gradients for sign, some in ((1, each > 0), (-1, each < 0)) if bool(some.any())}
    if len(signs) != 1:
        return 0
    sign = signs.pop()
    if sign < 0 and uniform:
        for each in gradients:
            sizes = each[each != 0].abs().double()
            if sizes.numel() and float(sizes.max()) > 1.01 * float(sizes.min()):
                return 0
    return sign
