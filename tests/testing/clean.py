"""An optimizer that keeps every law, written for reading: SGD with momentum in plain Python."""

import copy

import torch


class Clean(torch.optim.Optimizer):
    """SGD with momentum, Nesterov and decay; each method is one decision that a breach may get wrong."""

    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, nesterov=False, maximize=False, foreach=False):
        self.check_rate(lr)
        options = {"momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, {"lr": lr, "maximize": maximize, "foreach": foreach, **options})

    def check_rate(self, lr):
        if not lr >= 0:
            raise ValueError(f"lr must be 0 or more, got {lr}")

    def add_param_group(self, param_group):
        self.check_group(param_group)
        super().add_param_group(param_group)

    def check_group(self, group):
        unknown = group.keys() - {"params", "param_names", *self.defaults}
        if unknown:
            raise ValueError(f"unknown group options: {unknown}")

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update_groups()
        return loss

    def update_groups(self):
        for group in self.param_groups:
            self.update_group(group)

    def update_group(self, group):
        for p in group["params"]:
            if p.grad is not None:
                self.update(p, p.grad, self.state[p], group)

    def update(self, p, g, state, group):
        if group["maximize"]:
            g = -g
        g = g + group["weight_decay"] * p
        m = state["m"] = group["momentum"] * state["m"] + g if "m" in state else g.clone()
        self.move(p, g + group["momentum"] * m if group["nesterov"] else m, group)

    def move(self, p, direction, group):
        p.add_(direction, alpha=-group["lr"])

    def load_state_dict(self, state_dict):
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            self.load_options(group, saved)
            for p, index in zip(group["params"], self.places(group, saved), strict=True):
                self.load_state(p, state_dict["state"].get(saved["params"][index], {}))

    def load_options(self, group, saved):
        group.update({key: value for key, value in saved.items() if key not in ("params", "param_names")})

    def places(self, group, saved):
        """Which of the saved parameters is each of the group's: by name if both have names."""
        if "param_names" in group and "param_names" in saved:
            return [saved["param_names"].index(name) for name in group["param_names"]]
        return range(len(group["params"]))

    def load_state(self, p, saved):
        self.state[p] = {key: self.fit(value, p) for key, value in copy.deepcopy(saved).items()}

    def fit(self, value, p):
        if value.shape != p.shape or value.dtype != p.dtype:
            raise ValueError(f"state {value.dtype} {value.shape} does not fit a parameter {p.dtype} {p.shape}")
        return value


def formula(start, gradients, *, lr, momentum, weight_decay, nesterov, maximize, **_):
    """The same rule again, as an independent reference."""
    values, buffers = list(start), [None] * len(start)
    for row in gradients:
        for index, gradient in enumerate(row):
            g = (-gradient if maximize else gradient) + weight_decay * values[index]
            buffers[index] = g if buffers[index] is None else momentum * buffers[index] + g
            values[index] = values[index] - lr * (g + momentum * buffers[index] if nesterov else buffers[index])
    return values
