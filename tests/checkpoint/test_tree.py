"""What goes into a checkpoint comes out in every bit and type; what cannot is refused before a byte is written."""

import collections
import enum
import re

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as some
from safetensors.torch import load_file, load_model
from samples import every_dtype, same, trained
from torch import nn

from steepest.checkpoint import Checkpoints
from steepest.checkpoint.dtypes import BY_NAME


@pytest.fixture
def through(tmp_path):
    """Save a tree and read it."""

    def read_back(tree):
        kept = Checkpoints(tmp_path / "checkpoints", run="a1")
        kept.save(1, tree, wait=True)
        assert kept.problems() == []
        found = kept.newest(pytest.fail).read()
        kept.close()
        return found

    return read_back


def test_a_training_comes_back(through):
    tree = trained()
    assert same(through(tree), tree)


def test_tensors_of_every_dtype_come_back(through):
    tree = {"model": every_dtype(), "optimizer": every_dtype(), "else": every_dtype()}
    assert same(through(tree), tree)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_half_precision_complex_numbers_come_back(through):
    tree = {"model": {"w": torch.randn(3, 2, dtype=torch.float16).view(torch.complex32)}}
    assert same(through(tree), tree)


whole = torch.arange(24.0).reshape(4, 6)
FORMS = {
    "scalar": torch.tensor(3.5),
    "empty": torch.empty(0, 3),
    "empty and expanded": torch.empty(1, 0).expand(4, 0),
    "transposed": whole.t(),
    "every second": whole[:, ::2],
    "expanded": torch.ones(3, 1).expand(3, 5),
    "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
    "negated view": torch.randn(3, dtype=torch.complex64).conj().imag,
    "from numpy": torch.from_numpy(np.arange(5)[::2].copy()),
    "with gradient": torch.ones(2, requires_grad=True),
    "not finite": torch.tensor([float("nan"), float("inf"), -0.0]),
    "parameter": nn.Parameter(torch.ones(2)),
}


@pytest.mark.parametrize("section", ["model", "optimizer", "else"])
@pytest.mark.parametrize("form", FORMS)
def test_a_tensor_of_any_form_comes_back(through, section, form):
    assert same(through({section: {"w": FORMS[form]}})[section]["w"], FORMS[form])


PLAIN = {
    "numbers": [0, -1, 2**63, -(10**5000), 1.5, -0.0, float("nan"), float("inf"), 5e-324, True, None],
    "text": ["", "ä\0\n", "\ud800", {"dict": 1}, {"tensor": {"file": "state.json"}}, {"float": "7ff8"}],
    "bytes": [b"", bytes(range(256))],
    "keys": {0: "a", "0": "b", (1, ("x", 2.5)): "c", None: "d", True: "e", b"f": "f", torch.int8: "g"},
    "containers": [(), [], {}, ((),), [[]], ([1], (2,)), collections.OrderedDict([("b", 1), ("a", 2)])],
    "torch": [torch.Size([2, 3]), torch.Size([]), *BY_NAME.values()],
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_data_comes_back(through, name):
    assert same(through({"x": PLAIN[name]})["x"], PLAIN[name])


plain = some.none() | some.booleans() | some.integers() | some.floats() | some.text() | some.binary(max_size=9)
keys = some.recursive(some.text() | some.integers(), lambda key: some.tuples(key, key), max_leaves=3)
trees = some.recursive(
    plain,
    lambda inner: some.lists(inner) | some.lists(inner).map(tuple) | some.dictionaries(keys, inner, max_size=4),
    max_leaves=10,
)


@given(tree=trees)
def test_any_plain_tree_comes_back(tmp_path_factory, tree):
    kept = Checkpoints(tmp_path_factory.mktemp("any"), run="")
    kept.save(0, {"x": tree}, facts={"x": tree}, wait=True)
    found = kept.newest(pytest.fail)
    assert same(found.read()["x"], tree)
    assert same(found.facts["x"], tree)
    kept.close()


def test_types_are_told_apart():
    """The breaches that `same` must catch, on which every test here rests."""
    one = torch.ones(2)
    for left, right in [(1, True), (1, 1.0), ((1,), [1]), ({0: 1}, {"0": 1}), (0.0, -0.0), ({"a": 1}, {}),
                        (one, one.double()), (one, one[None]), (one, -one), (torch.Size([1]), (1,))]:  # fmt: skip
        assert not same(left, right)


class Colour(enum.IntEnum):
    RED = 1


Pair = collections.namedtuple("Pair", "a b")
loop = []
loop.append(loop)
REFUSED = {
    "object": ({"a": [1, {"b": object()}]}, """tree["a"][1]["b"] is of type object"""),
    "number of numpy": ({"lr": np.float64(1)}, """tree["lr"] is of type numpy.float64"""),
    "array": ({"x": np.ones(2)}, "numpy.ndarray"),
    "set": ({"x": {1}}, "is of type set"),
    "enumeration": ({"x": Colour.RED}, "Colour"),
    "named tuple": ({"x": Pair(1, 2)}, "Pair"),
    "default dict": ({"x": collections.defaultdict(list)}, "collections.defaultdict"),
    "kind of text": ({"x": torch.torch_version.TorchVersion("2.0")}, "TorchVersion"),
    "function": ({"x": {0: print}}, """tree["x"][0] is of type builtin_function_or_method"""),
    "key": ({"x": {frozenset(): 1}}, "frozenset"),
    "tensor as key": ({"x": {torch.ones(1): 1}}, "is a tensor; only plain data"),
    "sparse": ({"model": {"w": torch.eye(2).to_sparse()}}, """tree["model"]["w"] is a tensor of layout"""),
    "meta": ({"w": torch.empty(2, device="meta")}, "on the meta device"),
    "bits": ({"w": torch.empty(2, dtype=torch.bits8)}, "torch.bits8"),
    "dtype": ({"x": torch.quint8}, "torch.quint8"),
    "holds itself": ({"x": loop}, "more than 100 levels deep"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_with_its_place(tmp_path, name):
    tree, words = REFUSED[name]
    kept = Checkpoints(tmp_path / "checkpoints", run="a1")
    with pytest.raises(TypeError, match=re.escape(words.replace('"', "'"))):
        kept.save(1, {"model": {"ok": torch.ones(3)}} | tree, wait=True)
    assert not (tmp_path / "checkpoints").exists()


def test_the_same_memory_is_written_once_and_stays_the_same(through, tmp_path):
    wide = torch.randn(300, 200)
    tree = {
        "model": {"a": wide, "b": wide, "turned": wide.t(), "row": wide[3], "part": wide[10:, 1::2]},
        "optimizer": {"again": wide.view(200, 300)},
        "apart": wide.clone(),
    }
    found = through(tree)
    assert same(found, tree)
    model = found["model"]
    model["a"].fill_(7)
    assert all((each == 7).all() for each in [*model.values(), found["optimizer"]["again"]])
    assert not (found["apart"] == 7).any()
    folder = tmp_path / "checkpoints" / "step-000000001"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2.2 * wide.nbytes


def test_parts_of_one_allocation_stay_apart(through, tmp_path):
    """Views that do not overlap are tensors of their own, and the memory around them is not written."""
    whole = torch.randn(10_000)
    tree = {"model": {str(place): whole[place * 100 : place * 100 + 50] for place in range(20)}}
    found = through(tree)
    assert same(found, tree)
    found["model"]["3"].zero_()
    del tree["model"]["3"], found["model"]["3"]
    assert same(found, tree)
    assert (tmp_path / "checkpoints" / "step-000000001" / "model.safetensors").stat().st_size < 8000


def test_a_model_file_can_be_read_without_the_optimizer_file(through, tmp_path):
    """A parameter that is a part of the optimizer's memory has its own values."""
    flat = torch.randn(100)
    tree = {"optimizer": {"flat": flat}, "model": {"w": flat[:60].view(6, 10), "v": flat[60:]}}
    assert same(through(tree), tree)
    assert same(load_file(tmp_path / "checkpoints" / "step-000000001" / "model.safetensors"), tree["model"])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight


def test_safetensors_alone_loads_the_model(through, tmp_path):
    model, other = Tied(), Tied()
    through({"model": model.state_dict()})
    load_model(other, tmp_path / "checkpoints" / "step-000000001" / "model.safetensors")
    assert same(other.state_dict(), model.state_dict())


def test_safetensors_alone_loads_every_dtype_under_its_name(through, tmp_path):
    tensors = every_dtype()
    through({"model": tensors})
    alone = load_file(tmp_path / "checkpoints" / "step-000000001" / "model.safetensors")
    assert set(alone) == set(tensors)
    other = {"complex128": torch.float64, "float8_e8m0fnu": torch.uint8, "float4_e2m1fn_x2": torch.uint8}
    for name, tensor in tensors.items():
        assert same(alone[name].flatten(), tensor.view(other.get(name, tensor.dtype)).flatten())


def test_names_that_would_be_the_same_are_made_different(through):
    tree = {"model": {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}, "__metadata__": torch.tensor(3)},
            "optimizer": {0: torch.tensor(4), "0": torch.tensor(5), "\ud800": torch.tensor(6)}, "a": torch.tensor(7),
            "model.x": torch.tensor(8)}  # fmt: skip
    assert same(through(tree), tree)


@pytest.mark.parametrize("tree", [{"model": torch.ones(2), "optimizer": None}, {"model": {}}, {}])
def test_a_section_may_be_a_single_tensor_or_nothing(through, tree):
    assert same(through(tree), tree)
