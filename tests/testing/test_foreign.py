"""What the laws find in the optimizers of torch 2.13.0: each entry is what a law reports."""

import pytest
import torch

from steepest.testing import Subject, check, reproduce
from steepest.testing.law import Broken

pytestmark = pytest.mark.skipif(
    not torch.__version__.startswith("2.13."), reason="the faults on record are those of torch 2.13"
)

# Of every optimizer of torch: state is loaded whatever its shape, dtype and name, and a group may hold any option.
LOADING = {"state-dtype-survives", "wrong-shape-is-refused", "state-goes-by-name"}
ALL = LOADING | {"unknown-group-option-is-refused"}
# eps vanishes in float16, and a gradient of zero divides zero by zero.
EPS = {"zero-gradient-stays-finite", "tiny-gradient-stays-finite"}
# The fused CPU kernels walk memory in order, whatever the strides are, and do not tell autograd that they wrote.
FUSED = {"strided-parameters-step", "gradient-strides-do-not-matter", "autograd-sees-the-step"}

ON_RECORD = {
    # Its path fused=True does nothing in bfloat16 and float16; lr=nan is accepted. Without momentum it has no state.
    "SGD": (ALL - LOADING) | {"paths-agree", "bad-rate-is-refused"},
    # eta is computed at the end of a step, for the next.
    "ASGD": ALL | {"rate-change-takes-effect"},
    "Adagrad": ALL | EPS,
    "Adadelta": ALL,
    "RMSprop": ALL | EPS,
    # lr is only the first step size; a NaN has sign 0.
    "Rprop": ALL | {"rate-zero-moves-nothing", "rate-change-takes-effect", "nan-is-not-hidden"},
    "Adam": ALL | EPS,
    "AdamW": ALL | EPS,
    "Adamax": ALL | {"zero-gradient-stays-finite"},
    # mu_product is float32 until it is loaded for float64 parameters, then float64.
    "NAdam": ALL | EPS | {"resume-is-exact", "rollback-is-exact"},
    "RAdam": ALL,
    # An empty parameter divides by its 0 elements; the square of a large gradient is infinite, and infinity over
    # infinity the update.
    "Adafactor": ALL | {"scalars-and-empty-tensors-step", "huge-gradient-stays-finite"},
    "Muon": ALL,
}
FUSED_ON_RECORD = {
    "SGD": ON_RECORD["SGD"] | FUSED | {"agrees-in-bfloat16", "agrees-in-float16", "every-element-moves"},
    "Adam": ALL | FUSED,
    "AdamW": ALL | FUSED,
    "Adagrad": ALL | FUSED | {"zero-gradient-stays-finite"},
}


def broken(subject: Subject) -> set[str]:
    return {verdict.law.name for verdict in check(subject) if verdict.outcome == "broken"}


@pytest.mark.parametrize("name", ON_RECORD)
def test_torch_breaks_what_is_on_record(name):
    assert broken(Subject(getattr(torch.optim, name))) == ON_RECORD[name]


@pytest.mark.parametrize("name", FUSED_ON_RECORD)
def test_torch_fused_breaks_what_is_on_record(name):
    assert broken(Subject(getattr(torch.optim, name), fused=True)) == FUSED_ON_RECORD[name]


def test_fused_sgd_that_does_nothing_in_bfloat16_is_caught():
    verdicts = {verdict.law.name: verdict for verdict in check("torch.optim:SGD", lr=0.1, fused=True)}
    verdict = verdicts["agrees-in-bfloat16"]
    assert verdict.outcome == "broken"
    assert verdict.why.startswith("bfloat16, step 1, n=16: the step does nothing; 16 of 16 elements are wrong")
    assert "16 of 16 elements" in verdicts["every-element-moves"].why
    with pytest.raises(Broken, match="the step does nothing"):
        eval(verdict.reproduce, {"steepest": __import__("steepest.testing")})


def test_fused_sgd_with_momentum_breaks_more():
    found = broken(Subject(torch.optim.SGD, momentum=0.9, fused=True))
    late = {"late-gradient-joins", "late-gradient-starts-fresh"}  # raises: one buffer is there, and one is None
    skipped = {"skipped-step-leaves-no-trace"}  # a first step that is skipped leaves a buffer that was never written
    assert found >= FUSED_ON_RECORD["SGD"] | LOADING | late | skipped


def test_a_plain_step_of_the_same_optimizers_agrees_in_every_dtype():
    agreement = ["agrees-in-float64", "agrees-in-float32", "agrees-in-bfloat16", "agrees-in-float16"]
    for name in ("SGD", "AdamW", "RMSprop"):
        assert [v.outcome for v in check(getattr(torch.optim, name), agreement)] == ["kept"] * 4


def test_a_global_rule_says_so_and_is_excused():
    prodigy = pytest.importorskip("prodigyopt").Prodigy
    excuse = "one step size is estimated from all parameters together"
    verdict = check(Subject(prodigy, breaks={"agrees-in-float64": excuse}), ["agrees-in-float64"])[0]
    assert verdict.outcome == "excused"
    assert verdict.why.startswith(excuse)
    with pytest.raises(Broken):
        reproduce("agrees-in-float64", prodigy)
