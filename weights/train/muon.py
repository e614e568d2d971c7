"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): momentum whose matrices are made orthogonal."""

import collections

import torch


def orthogonalise(x, rounds=5):
    """Matrices (N, m, n) with m ≤ n to such with all singular values near 1, by Newton-Schulz iterations in bfloat16."""
    x = x.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * (square @ square)) @ x
    return x.float()


class Muon(torch.optim.Optimizer):
    """Every update of a matrix has the root mean square lr · scale, whatever the size of its gradient.

    A kernel (O, I, h, w) is taken as the matrix (O, I·h·w). Matrices of one shape are made orthogonal together.
    """

    def __init__(self, parameters, lr, scale=0.2, momentum=0.95, weight_decay=0.0):
        super().__init__(parameters, dict(lr=lr, scale=scale, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in parameters]
            for p in parameters:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p.grad)
            momenta = [self.state[p]["momentum"] for p in parameters]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            alike = collections.defaultdict(list)
            for parameter, update in zip(parameters, torch._foreach_lerp(gradients, momenta, group["momentum"])):
                update = update.flatten(1)
                if update.shape[0] > update.shape[1]:
                    update = update.mT
                alike[update.shape].append((parameter, update))
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            for shape, pairs in alike.items():
                # An orthogonal matrix (m, n) has the root mean square 1 / √n.
                step = orthogonalise(torch.stack([update for _, update in pairs]))
                step *= -group["lr"] * group["scale"] * max(shape) ** 0.5
                chosen = [p for p, _ in pairs]
                turned = [u.mT if p.shape[0] > p[0].numel() else u for p, u in zip(chosen, step)]
                torch._foreach_add_(chosen, [update.reshape(p.shape) for p, update in zip(chosen, turned)])
