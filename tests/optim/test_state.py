"""What is saved and loaded: by name, under weights_only, checked first, and then to the bit as if never stopped."""

import copy
import io

import numpy as np
import pytest
import torch
from by_hand import gap, problem, tensors, walk

from steepest import groups
from steepest.optim import CLASSES

every_rule = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
AdamW, Adafactor = CLASSES["AdamW"], CLASSES["Adafactor"]
ALL = {"clip": 1.0, "skip_nonfinite": True, "ema": 0.9, "cautious": True}


def parameters_of(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def copies(parameters):
    return [torch.nn.Parameter(p.detach().clone()) for p in parameters]


@every_rule
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (torch.float64, {}),
        (torch.float64, ALL),
        (torch.bfloat16, {"rounding": "kahan"}),
        (torch.bfloat16, {"rounding": "stochastic"}),
        (torch.float32, {"state_dtype": torch.bfloat16, "lr": 0.05}),
    ],
    ids=str,
)
def test_a_run_resumes_to_the_bit(kind, dtype, options):
    starts, gradients = problem(steps=26)
    whole = kind(tensors(starts, dtype), **options)
    walk(whole, gradients[:13])
    resumed = kind(copies(parameters_of(whole)), **options)
    resumed.load_state_dict(through_a_file(whole.state_dict()))
    walk(whole, gradients[13:])
    walk(resumed, gradients[13:])
    assert gap(parameters_of(whole), [p.detach().double() for p in parameters_of(resumed)]) == 0
    assert vars(whole.stats).keys() == vars(resumed.stats).keys()
    assert whole.stats.steps == resumed.stats.steps == 26
    first, second = whole.state_dict(), resumed.state_dict()
    assert first["state"].keys() == second["state"].keys()
    for name in first["state"]:
        assert all(torch.equal(value, second["state"][name][key]) for key, value in first["state"][name].items())


def test_a_saved_state_is_not_a_window():
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts))
    walk(optimizer, gradients[:2])
    saved = optimizer.state_dict()
    other = AdamW(tensors(starts))
    other.load_state_dict(saved)
    before = copy.deepcopy(other.state_dict())
    walk(optimizer, gradients[2:])
    for name, entry in other.state_dict()["state"].items():
        assert all(torch.equal(value, before["state"][name][key]) for key, value in entry.items())


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


def trained(parameters=None, **options):
    net = model()
    optimizer = AdamW(net.named_parameters() if parameters is None else parameters(net), **options)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.ones(2, 3)).pow(2).sum().backward()
        optimizer.step()
    return net, optimizer


def test_states_are_keyed_by_name():
    _, optimizer = trained()
    saved = optimizer.state_dict()
    assert list(saved["state"]) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert set(saved["state"]["0.weight"]) == {"step", "m", "v"}
    assert float(saved["state"]["0.weight"]["step"]) == 3
    assert saved["state"]["1.weight"]["m"].shape == (2, 4)


def test_without_names_the_place_is_the_name():
    _, optimizer = trained(parameters=lambda net: net.parameters())
    assert list(optimizer.state_dict()["state"]) == ["0", "1", "2", "3"]


def test_names_find_their_parameter_in_any_order():
    net, optimizer = trained()
    saved = through_a_file(optimizer.state_dict())
    other = copy.deepcopy(net)
    backwards = AdamW(list(other.named_parameters())[::-1])
    backwards.load_state_dict(saved)
    for name, p in other.named_parameters():
        assert torch.equal(backwards.state[p]["m"], saved["state"][name]["m"])
    assert backwards.param_groups[0]["param_names"] == [name for name, _ in other.named_parameters()][::-1]


def changed(saved, path, value):
    """The saved state with one thing changed."""
    saved = copy.deepcopy(saved)
    place = saved
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return saved


WRONG = {
    "a list": (lambda saved: [saved], "not the state of an optimizer"),
    "something else": (lambda saved: {"weights": 1}, "not the state of an optimizer"),
    "a model's": (lambda saved: model().state_dict(), "not the state of an optimizer"),
    "two groups": (lambda saved: changed(saved, ["param_groups"], saved["param_groups"] * 2), "has 2 groups"),
    "another shape": (lambda saved: changed(saved, ["state", "0.bias", "m"], torch.zeros(5)), "(5,), and here (4,)"),
    "no tensor": (lambda saved: changed(saved, ["state", "0.bias", "m"], 3.0), "must be a tensor"),
    "integers": (
        lambda saved: changed(saved, ["state", "0.bias", "m"], torch.zeros(4, dtype=torch.int64)), "int64"
    ),
    "complex": (
        lambda saved: changed(saved, ["state", "0.bias", "m"], torch.zeros(4, dtype=torch.complex64)), "complex64"
    ),
    "an unknown state": (lambda saved: changed(saved, ["state", "0.bias", "exp_avg"], torch.zeros(4)), "'exp_avg'"),
    "an unknown parameter": (lambda saved: changed(saved, ["state", "2.bias"], {"m": torch.zeros(4)}), "2.bias"),
    "other names": (
        lambda saved: changed(saved, ["param_groups", 0, "params"], ["a", "b", "c", "d"]), "not saved: 0.bias, 0.weight"
    ),
    "another rule": (lambda saved: changed(saved, ["param_groups", 0, "rule"], "lion"), "was stepped by lion"),
    "a negative rate": (lambda saved: changed(saved, ["param_groups", 0, "lr"], -1.0), "lr=-1.0"),
    "an unknown option": (lambda saved: changed(saved, ["param_groups", 0, "lrr"], 1.0), "lrr"),
    "a later format": (lambda saved: {**saved, "format": 99}, "99"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_state_is_refused_in_one_sentence_and_changes_nothing(case):
    change, words = WRONG[case]
    net, optimizer = trained()
    before = copy.deepcopy(optimizer.state_dict())
    wrong = change(optimizer.state_dict())
    with pytest.raises((ValueError, TypeError)) as caught:
        optimizer.load_state_dict(wrong)
    assert "\n" not in str(caught.value)
    assert words in str(caught.value)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert after["steps"] == before["steps"]
    for name, p in net.named_parameters():
        assert all(torch.equal(value, before["state"][name][key]) for key, value in optimizer.state[p].items())


def test_the_state_of_complex_numbers_is_complex():
    def made(dtype):
        p = torch.nn.Parameter(torch.ones(3, dtype=dtype))
        p.grad = torch.ones_like(p)
        optimizer = AdamW([p])
        optimizer.step()
        return p, optimizer

    _, real = made(torch.float32)
    p, optimizer = made(torch.complex64)
    with pytest.raises(ValueError, match=r"'m' of 0 is torch\.float32, and the parameter is torch.complex64"):
        optimizer.load_state_dict(real.state_dict())
    optimizer.state[p]["m"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"the state m of a torch\.complex64 parameter is torch.float32"):
        optimizer.step()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3.0, "m of a parameter is a float"), (None, "NoneType"), (torch.zeros(2), r"has shape \(2,\)"),
        (torch.zeros(3, device="meta"), "meta"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("replaced", [True, False])
def test_a_state_that_kernels_cannot_read_is_refused(value, words, replaced):
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = AdamW([p])
    optimizer.step()
    if replaced:
        optimizer.state[p]["m"] = value
    else:  # the parameter moves as well, so that it is looked at anew
        optimizer.state[p] = {**optimizer.state[p], "m": value}
        p.data = torch.ones(3)
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=words):
        optimizer.step()


def test_a_matrix_that_grew_is_refused_in_one_sentence():
    p = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = Adafactor([p])
    p.grad = torch.ones(4, 3)
    optimizer.step()
    p.grad, p.data = None, torch.ones(8, 3)
    p.grad = torch.ones(8, 3)
    with pytest.raises(ValueError, match=r"the state [rc] of a parameter has shape .* make a new optimizer"):
        optimizer.step()


def test_torchs_own_state_is_refused_with_the_reason():
    net = model()
    theirs = torch.optim.AdamW(net.named_parameters())
    net(torch.ones(1, 3)).sum().backward()
    theirs.step()
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the sentence is what is tested
        AdamW(net.named_parameters()).load_state_dict(theirs.state_dict())
    assert "\n" not in str(caught.value)


def test_a_parameter_that_had_no_gradient_has_no_state():
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts))
    walk_without(optimizer, gradients[0], 1)
    saved = through_a_file(optimizer.state_dict())
    assert set(saved["state"]) == {"0", "2"}
    other = AdamW(copies(parameters_of(optimizer)))
    other.load_state_dict(saved)
    walk(optimizer, gradients[1:])
    walk(other, gradients[1:])
    assert gap(parameters_of(optimizer), [p.detach() for p in parameters_of(other)]) == 0


def walk_without(optimizer, gradients, place):
    """A step in which one parameter has no gradient."""
    for k, (p, g) in enumerate(zip(parameters_of(optimizer), gradients, strict=True)):
        p.grad = None if k == place else torch.tensor(g, dtype=p.dtype)
    optimizer.step()


def test_loading_brings_hyper_parameters_of_each_group():
    net = model()
    groups = [{"params": [p], "lr": 0.1 * (1 + k)} for k, p in enumerate(net.parameters())]
    saved = AdamW(groups, betas=(0.8, 0.9)).state_dict()
    other = AdamW([{"params": [p]} for p in net.parameters()])
    other.load_state_dict(through_a_file(saved))
    assert [group["lr"] for group in other.param_groups] == [0.1, 0.2, pytest.approx(0.3), 0.4]
    assert {group["betas"] for group in other.param_groups} == {(0.8, 0.9)}


def test_a_schedule_resumes_where_it_was():
    def make(parameters):
        return AdamW(parameters, lr=lambda step: 0.1 / (1 + step))

    starts, gradients = problem()
    whole = make(tensors(starts))
    walk(whole, gradients[:4])
    resumed = make(copies(parameters_of(whole)))
    resumed.load_state_dict(through_a_file(whole.state_dict()))
    assert resumed.param_groups[0]["lr"] == 0.1 / 4
    walk(whole, gradients[4:])
    walk(resumed, gradients[4:])
    assert gap(parameters_of(whole), [p.detach() for p in parameters_of(resumed)]) == 0


def test_a_state_in_which_a_scheduler_left_its_keys_is_taken_up():
    net, other = model(), model()
    optimizer, again = (CLASSES["Muon"](groups(each)) for each in (net, other))
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4)
    assert [("momentum" in group, group["rule"]) for group in optimizer.param_groups][-1] == (True, "adamw")
    again.load_state_dict(through_a_file(optimizer.state_dict()))
    assert again.param_groups[-1]["betas"] == (0.9, 0.999)


def test_an_average_asked_for_later_begins_at_the_weights():
    starts, gradients = problem()
    plain = AdamW(tensors(starts), lr=0.1)
    walk(plain, gradients[:4])
    averaging = AdamW(copies(parameters_of(plain)), lr=0.1, ema=0.9)
    averaging.load_state_dict(plain.state_dict())
    before = [p.detach().clone() for p in parameters_of(averaging)]
    walk(averaging, gradients[4:5])
    expected = [0.9 * b + 0.1 * p.detach() for b, p in zip(before, parameters_of(averaging), strict=True)]
    with averaging.averaged():
        assert gap(parameters_of(averaging), expected) < 1e-14


def test_counts_are_saved():
    optimizer = AdamW(tensors(problem()[0]), clip=1e-3, skip_nonfinite=True)
    starts, gradients = problem()
    broken = [g * float("nan") for g in gradients[0]]
    walk(optimizer, [*gradients[:3], broken])
    other = AdamW(tensors(starts))
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    assert (other.stats.steps, other.stats.clipped, other.stats.skipped) == (3, 3, 1)


@every_rule
def test_a_state_of_another_memory_order_is_taken_up(kind):
    """Saved with channels last, loaded where they are first: the same numbers belong to the same weights."""
    starts, gradients = problem(shapes=[(4, 3, 2, 2)])
    last = kind(tensors(starts), lr=0.01)
    parameters_of(last)[0].data = parameters_of(last)[0].data.to(memory_format=torch.channels_last)
    walk(last, gradients[:12])
    saved = through_a_file(last.state_dict())
    first = kind(
        [torch.nn.Parameter(parameters_of(last)[0].detach().clone(memory_format=torch.contiguous_format))], lr=0.01
    )
    first.load_state_dict(saved)
    walk(first, gradients[12:])
    walk(last, gradients[12:])
    assert gap(parameters_of(first), [p.detach() for p in parameters_of(last)]) < 1e-13


def test_numpy_numbers_are_saved_as_numbers():
    options = {
        "lr": np.float64(0.1),
        "betas": (np.float32(0.5), 0.9),
        "weight_decay": np.float32(0.25),
        "eps": np.int64(1),
    }
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW([parameter], **options)
    saved = through_a_file(optimizer.state_dict())["param_groups"][0]
    assert {type(saved[name]) for name in ("lr", "weight_decay")} == {float}
    assert saved["betas"][0] == 0.5


def test_a_state_is_a_plain_tree():
    _, optimizer = trained(clip=1.0, ema=0.9)

    def leaves(tree):
        if isinstance(tree, dict):
            for value in tree.values():
                yield from leaves(value)
        elif isinstance(tree, list | tuple):
            for value in tree:
                yield from leaves(value)
        else:
            yield tree

    kinds = {type(leaf) for leaf in leaves(optimizer.state_dict())}
    assert kinds <= {torch.Tensor, int, float, bool, str, type(None)}
