"""Every parameter is in exactly one group, under the rule and with the decay that suit what it is."""

import copy
import re

import pytest
import torch
from torch import nn

from steepest.groups import Groups, groups, stack_shape
from steepest.rule import rule

# Importing the compiler is enough to make torch warn of its own use of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Block(nn.Module):
    def __init__(self, width=8, fused="qkv"):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.add_module(fused, nn.Linear(width, 3 * width))
        self.out = nn.Linear(width, width)


class GPT(nn.Module):
    def __init__(self, tied=False, layers=3):
        super().__init__()
        self.wte = nn.Embedding(20, 8)
        self.positions = nn.Parameter(torch.zeros(1, 5, 8))
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.norm = nn.RMSNorm(8)
        self.lm_head = nn.Linear(8, 20, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.grouped = nn.Conv2d(8, 16, 3, groups=2)
        self.fc = nn.Linear(16, 10)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 5, num_layers=2, proj_size=3)
        self.gru = nn.GRU(3, 4)
        self.rnn = nn.RNN(4, 4)
        self.cell = nn.GRUCell(4, 4)
        self.fc = nn.Linear(4, 2)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_up = nn.Parameter(torch.zeros(4, 8, 12))


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = Experts()
        self.own = OwnLinear()
        self.gain = nn.LayerNorm((4, 8))
        self.fc = nn.Linear(8, 3)


class OwnLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 8))
        self.scale = nn.Parameter(torch.zeros(8, 8))


class DistributedDataParallel(nn.Module):
    """As torch's, without a process group."""

    def __init__(self, module):
        super().__init__()
        self.module = module


ZOO = {
    "gpt": GPT, "tied": lambda: GPT(tied=True), "conv": ConvNet, "recurrent": Recurrent, "mixture": Mixture,
    "transformer": lambda: nn.Transformer(8, 2, 2, 2, 16, batch_first=True), "one layer": lambda: nn.Linear(3, 2),
    "compiled": lambda: torch.compile(GPT()), "parallel": lambda: DistributedDataParallel(torch.compile(GPT())),
    "weight norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2)),
    "scalar": lambda: nn.ParameterList([nn.Parameter(torch.tensor(1.0))]),
}  # fmt: skip


def rows(of):
    return {row.name: row for row in of.assignments}


def matrices(of):
    """Name of each parameter of the matrix rule -> its blocks."""
    return {name: g.get("blocks", 1) for g in of if g["rule"] == "muon" for name in g["param_names"]}


def decayed(of):
    return {name for group in of if group["weight_decay"] for name in group["param_names"]}


def law_each_parameter_once(model, of):
    sorted_in = [id(p) for group in of for p in group["params"]]
    assert sorted(sorted_in) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert len(of.assignments) == len(list(model.parameters()))
    for group in of:
        assert len(group["params"]) == len(group["param_names"])


@pytest.mark.parametrize("make", ZOO.values(), ids=ZOO)
def test_each_parameter_once(make):
    model = make()
    law_each_parameter_once(model, groups(model))


def test_the_law_catches_a_lost_and_a_doubled_parameter():
    for breach in (lambda ps: ps.pop(), lambda ps: ps.append(ps[0])):
        model = GPT()
        of = groups(model)
        breach(of[0]["params"])
        with pytest.raises(AssertionError):
            law_each_parameter_once(model, of)


def test_a_gpt_is_sorted():
    of = groups(GPT(layers=1))
    assert {name: row.why for name, row in rows(of).items()} == {
        "positions": "free parameter", "wte.weight": "embedding", "blocks.0.norm.weight": "vector",
        "blocks.0.norm.bias": "vector", "blocks.0.qkv.weight": "fused q, k, v", "blocks.0.qkv.bias": "vector",
        "blocks.0.out.weight": "hidden weight", "blocks.0.out.bias": "vector", "norm.weight": "vector",
        "lm_head.weight": "output head",
    }  # fmt: skip
    assert matrices(of) == {"blocks.0.qkv.weight": 3, "blocks.0.out.weight": 1}
    assert decayed(of) == {"blocks.0.qkv.weight", "blocks.0.out.weight", "lm_head.weight"}


def test_a_tied_head_is_an_embedding():
    of = groups(GPT(tied=True))
    row = rows(of)["wte.weight"]
    assert (row.rule, row.weight_decay, row.why) == ("adamw", 0, "embedding, tied to lm_head.weight")
    assert "lm_head.weight" not in rows(of)
    assert "blocks.2.out.weight" in matrices(of)


def test_the_last_of_equal_blocks_is_no_head():
    of = groups(nn.Transformer(8, 2, 2, 2, 16, batch_first=True))
    assert not [row for row in of.assignments if row.why == "output head"]
    assert matrices(of)["decoder.layers.1.self_attn.in_proj_weight"] == 3
    assert matrices(of)["decoder.layers.1.linear2.weight"] == 1


def test_convolutions():
    of = groups(ConvNet())
    assert matrices(of) == {"stem.weight": 1, "grouped.weight": 2}
    assert rows(of)["depthwise.weight"].why == "convolution, 8 groups, of one row or column"
    assert rows(of)["fc.weight"].why == "output head"
    last = groups(nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 2, 3)))
    assert rows(last)["2.weight"].why == "output head"


def test_recurrent_layers_are_cut_by_gate():
    assert matrices(groups(Recurrent())) == {
        "lstm.weight_ih_l0": 4, "lstm.weight_hh_l0": 4, "lstm.weight_ih_l1": 4, "lstm.weight_hh_l1": 4,
        "gru.weight_ih_l0": 3, "gru.weight_hh_l0": 3, "rnn.weight_ih_l0": 1, "rnn.weight_hh_l0": 1,
        "cell.weight_ih": 3, "cell.weight_hh": 3,
    }  # fmt: skip


def test_experts_own_layers_and_norms():
    of = groups(Mixture())
    assert matrices(of) == {"experts.gate_up": 4, "own.weight": 1}
    assert {name: rows(of)[name].why for name in ("own.scale", "gain.weight", "experts.gate_up")} == {
        "own.scale": "free parameter", "gain.weight": "norm", "experts.gate_up": "4 experts",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "rows_", "blocks"), [
    ("qkv", 24, 3), ("in_proj", 24, 3), ("Wqkv", 24, 3), ("c_attn", 24, 3), ("to_qkv", 24, 3),
    ("qkv", 16, 1),  # grouped queries: parts of unequal size
    ("query_key_value", 24, 1),  # mixes q, k and v head by head
    ("hidden", 24, 1),
])  # fmt: skip
def test_fused_attention_is_found_by_name_and_shape(name, rows_, blocks):
    model = nn.ModuleDict({name: nn.Linear(8, rows_), "head": nn.Linear(rows_, 2)})
    assert matrices(groups(model)) == {f"{name}.weight": blocks}


def test_weights_of_one_row_or_column_are_vectors():
    of = groups(nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1), nn.Linear(1, 2)))
    assert matrices(of) == {}
    assert rows(of)["0.weight"].why == "hidden weight, of one row or column"
    assert rows(of)["0.weight"].weight_decay == 0.01


def test_frozen_parameters_are_listed_and_left_out():
    model = GPT()
    model.wte.requires_grad_(False)
    of = groups(model)
    assert (rows(of)["wte.weight"].rule, rows(of)["wte.weight"].why) == ("frozen", "embedding")
    assert "wte.weight" not in [name for group in of for name in group["param_names"]]
    assert re.search(r"wte\.weight +20 x 8 +160 +frozen +embedding", str(of))
    assert str(of).splitlines()[-1].count("frozen: 1 tensors, 160 numbers") == 1


@pytest.mark.parametrize("wrap", [
    torch.compile, DistributedDataParallel, nn.DataParallel,
    lambda model: DistributedDataParallel(torch.compile(model)),
], ids=["compile", "ddp", "dp", "both"])  # fmt: skip
def test_wrappers_change_no_name(wrap):
    model = GPT()
    model.no_weight_decay = lambda: {"blocks.0.out.weight"}
    plain, wrapped = groups(model), groups(wrap(model))
    assert wrapped.assignments == plain.assignments
    assert [g["param_names"] for g in wrapped] == [g["param_names"] for g in plain]
    assert "blocks.0.out.weight" not in decayed(wrapped)
    assert "blocks.1.out.weight" in decayed(wrapped)


def test_a_compiled_block_inside_keeps_its_name():
    model = GPT()
    expected = groups(model).assignments
    model.blocks[1] = torch.compile(model.blocks[1])
    assert groups(model).assignments == expected
    assert groups(model.named_parameters()).assignments[0].name == "positions"
    assert not [row for row in groups(model.named_parameters()).assignments if "_orig_mod" in row.name]


def test_named_parameters_are_sorted_by_shape_and_name():
    for model in (GPT(layers=2), ConvNet(), Recurrent()):
        by_module, by_name = groups(model), groups(model.named_parameters())
        grouped = {"grouped.weight", "depthwise.weight", "lstm.weight_hr_l0", "lstm.weight_hr_l1"}
        projected = {name for name in rows(by_name) if name.startswith("lstm")}  # gates of unknown width
        for name in rows(by_module).keys() - grouped - projected:
            assert rows(by_name)[name].rule == rows(by_module)[name].rule, name
            assert matrices(by_name).get(name) == matrices(by_module).get(name), name


def test_every_number_of_the_table():
    of = groups(GPT(layers=1), lr=0.5, layer_decay=0.5)
    line = next(line for line in str(of).splitlines() if line.startswith("blocks.0.qkv.weight"))
    assert line.split() == [
        "blocks.0.qkv.weight",
        "24",
        "x",
        "8",
        "192",
        "muon",
        "0.5",
        "0.01",
        "fused",
        "q,",
        "k,",
        "v",
    ]
    assert str(groups(ZOO["scalar"]())).splitlines()[1].split() == ["0", "()", "1", "adamw", "1", "0", "vector"]
    assert isinstance(of, Groups)
    assert isinstance(of, list)


# Learning rates


def test_without_lr_the_optimizer_decides():
    assert not any("lr" in group for group in groups(GPT()))
    assert {group["lr"] for group in groups(GPT(), lr=0.3)} == {0.3}


def test_layer_decay_goes_by_depth():
    of = rows(groups(GPT(layers=3), lr=1.0, layer_decay=0.5))
    assert {name: of[name].lr_factor for name in of if name.endswith(("out.weight", "norm.weight", "wte.weight"))} == {
        "wte.weight": 1 / 16, "blocks.0.norm.weight": 1 / 8, "blocks.0.out.weight": 1 / 8,
        "blocks.1.norm.weight": 1 / 4, "blocks.1.out.weight": 1 / 4, "blocks.2.norm.weight": 1 / 2,
        "blocks.2.out.weight": 1 / 2, "norm.weight": 1,
    }  # fmt: skip
    assert (of["positions"].lr_factor, of["lm_head.weight"].lr_factor) == (1 / 16, 1)


def test_layer_decay_counts_the_layers_of_a_sequential():
    net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 2))
    of = rows(groups(net, lr=1.0, layer_decay=0.5))
    assert [of[f"{i}.weight"].lr_factor for i in range(4)] == [1 / 8, 1 / 8, 1 / 4, 1 / 2]


@pytest.mark.parametrize("schedule", [
    lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10),
    lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.1, 1.0, 5),
    lambda o: torch.optim.lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
], ids=["lambda", "cosine", "linear", "multiplicative"])  # fmt: skip
def test_every_scheduler_keeps_the_factors(schedule):
    of = groups(GPT(), "adamw", lr=0.1, layer_decay=0.5)
    factor = {row.name: row.lr_factor for row in of.assignments}
    optimizer = torch.optim.AdamW(copy.copy(list(of)))
    scheduler = schedule(optimizer)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
        bases = [g["lr"] / factor[name] for g in optimizer.param_groups for name in g["param_names"]]
        assert max(bases) == pytest.approx(min(bases))


def test_a_factor_needs_a_learning_rate():
    with pytest.raises(ValueError, match=r"positions is to learn with 0\.0625 times .* lr="):
        groups(GPT(), layer_decay=0.5)


def test_a_rate_may_be_anything_that_can_be_multiplied():
    class Rate:
        def __init__(self, by=1.0):
            self.by = by

        def __mul__(self, factor):
            return Rate(self.by * factor)

    of = groups(GPT(), lr=Rate(), overrides={"lm_head.weight": {"lr_factor": 0.25}})
    assert [g["lr"].by for g in of if g["param_names"] == ["lm_head.weight"]] == [0.25]


@pytest.mark.parametrize("decay", [0, -1, 1.5])
def test_layer_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=r"layer_decay is .* must lie in \(0, 1\]"):
        groups(GPT(), lr=0.1, layer_decay=decay)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), list(GPT().named_parameters())], ids=["layer", "names"])
def test_layer_decay_without_blocks(model):
    with pytest.raises(ValueError, match="layer_decay needs a model with a ModuleList or Sequential"):
        groups(model, lr=0.1, layer_decay=0.5)


# Rules, options and overrides


def test_muon_is_scaled_so_that_one_rate_serves_both():
    assert {g["rule"]: g.get("adjust_lr_fn") for g in groups(GPT())} == {"adamw": None, "muon": "match_rms_adamw"}


def test_other_rules():
    of = groups(GPT(), "soap", "lion", weight_decay=0.3)
    assert {row.rule for row in of.assignments} == {"soap", "lion"}
    assert {row.weight_decay for row in of.assignments} == {0.3, 0.0}
    assert {g.get("blocks", 1) for g in of if g["rule"] == "soap"} == {1, 3}
    assert not any("blocks" in g for g in groups(GPT(), "adamw"))


def test_a_rule_of_ones_own():
    @rule
    def plain(p, g, *, lr=0.1):
        return p - lr * g

    of = groups(GPT(), other=plain)
    assert plain in [group["rule"] for group in of]
    assert rows(of)["wte.weight"].rule == "plain"


def test_overrides_change_options_and_later_ones_win():
    of = groups(GPT(layers=2), lr=1.0, overrides={
        "blocks.*": {"weight_decay": 0.5},
        "blocks.1.*": {"weight_decay": 0.7, "lr_factor": 0.1},
        "*.qkv.weight": {"rule": "adamw", "beta1": 0.5},
        "lm_head.weight": {"rule": "muon", "blocks": 4, "lr": 0.125},
    })  # fmt: skip
    of_name = {name: group for group in of for name in group["param_names"]}
    assert of_name["blocks.0.out.weight"]["weight_decay"] == 0.5
    assert (of_name["blocks.1.out.weight"]["weight_decay"], of_name["blocks.1.out.weight"]["lr"]) == (0.7, 0.1)
    assert of_name["blocks.0.qkv.weight"]["beta1"] == 0.5
    assert "blocks" not in of_name["blocks.0.qkv.weight"]
    assert {k: of_name["lm_head.weight"][k] for k in ("rule", "blocks", "lr")} == {
        "rule": "muon",
        "blocks": 4,
        "lr": 0.125,
    }
    assert rows(of)["lm_head.weight"].why == "output head; override"
    assert "lr_factor" not in of_name["blocks.1.out.weight"]


def test_equal_options_share_a_group():
    assert len(groups(GPT(layers=7))) == 4
    assert len(groups(GPT(layers=7), lr=1.0, overrides={"blocks.3.out.weight": {"beta1": 0.5}})) == 5


def test_misspelt_names_are_met_with_a_suggestion():
    with pytest.raises(ValueError, match="no rule 'muom'; did you mean 'muon'"):
        groups(GPT(), "muom")
    with pytest.raises(ValueError, match=r"'lm_haed\.weight' fits no parameter; did you mean 'lm_head\.weight'"):
        groups(GPT(), overrides={"lm_haed.weight": {}})
    with pytest.raises(ValueError, match=r"no rule 'xyz'; there are .*adamw"):
        groups(GPT(), overrides={"wte.weight": {"rule": "xyz"}})


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"overrides": ["*"]}, TypeError, "must be a dict from pattern to options, and got list"),
        ({"overrides": {"*": None}}, TypeError, "the override '*' must be a dict of options, and got NoneType"),
        ({"overrides": {3: {}}}, TypeError, "the override 3 must be a pattern of names"),
        ({"overrides": {"*": {"params": []}}}, ValueError, "the override '*' sets 'params'"),
        ({"overrides": {"*": {"lr_factor": "a"}}}, TypeError, "lr_factor='a' must be a number"),
        ({"overrides": {"*": {"lr_factor": -1}}}, ValueError, "lr_factor=-1 must be 0 or more"),
        ({"overrides": {"*": {"blocks": "a"}}}, TypeError, "blocks='a' must be a whole number"),
        ({"weight_decay": None}, TypeError, "weight_decay=None must be a number"),
        ({"weight_decay": -1}, ValueError, "weight_decay=-1 must be 0 or more"),
        ({"layer_decay": "a"}, ValueError, "layer_decay is 'a', and must lie in (0, 1]"),
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused_in_a_sentence(options, error, text):
    with pytest.raises(error) as caught:
        groups(GPT(), **options)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_knows_its_parent_is_no_circle():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    net[0].parent = net
    assert [row.name for row in groups(net).assignments] == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_blocks_that_do_not_fit():
    with pytest.raises(ValueError, match=r"shape \(20, 8\) cannot be cut into 3 blocks"):
        groups(GPT(), overrides={"lm_head.weight": {"rule": "muon", "blocks": 3}})


@pytest.mark.parametrize(("shape", "blocks", "expected"), [
    ((6, 4), 1, (1, 6, 4)), ((6, 4), 3, (3, 2, 4)), ((6, 4, 3, 3), 1, (1, 6, 36)), ((6, 4, 3, 3), 2, (2, 3, 36)),
    ((5, 6, 4), 5, (5, 6, 4)), ((8, 1, 3, 3), 8, (8, 1, 9)), ((7,), 1, (1, 7, 1)), ((), 1, (1, 1, 1)),
    ((6, 4), 6, (6, 1, 4)),
], ids=str)  # fmt: skip
def test_stack_shape(shape, blocks, expected):
    assert stack_shape(shape, blocks) == expected
    assert torch.zeros(shape).reshape(expected).shape == expected


def test_blocks_are_the_matrices_that_were_piled_up():
    q, k, v = (torch.randn(8, 8) for _ in range(3))
    stack = torch.cat([q, k, v]).view(stack_shape((24, 8), 3))
    assert all(torch.equal(a, b) for a, b in zip(stack, (q, k, v), strict=True))


@pytest.mark.parametrize(("model", "error", "text"), [
    (nn.ReLU(), ValueError, "the model has no parameters"),
    ([], ValueError, "the model has no parameters"),
    (nn.LazyLinear(3), ValueError, "weight has no shape yet: send one batch"),
    ([torch.zeros(2)], TypeError, r"named_parameters\(\), and got an iterable of Tensor"),
    (list(nn.Linear(2, 2).parameters()), TypeError, "iterable of Parameter"),
    (torch.zeros(3), TypeError, "iterable of Tensor"),
    ([("a", torch.zeros(2), 3)], TypeError, "a pair of str and Tensor and int"),
    ([(1, torch.zeros(2))], TypeError, "a pair of int and Tensor"),
    ([("a", 3)], TypeError, "a pair of str and int"),
    (3, TypeError, r"takes a model or its named_parameters\(\), and got int"),
])  # fmt: skip
def test_what_cannot_be_sorted_is_refused_in_a_sentence(model, error, text):
    with pytest.raises(error, match=text):
        groups(model)


def test_all_parameters_frozen_leaves_a_table_and_no_group():
    of = groups(nn.Linear(2, 2).requires_grad_(False))
    assert list(of) == []
    assert {row.rule for row in of.assignments} == {"frozen"}
