"""Muon and Adam over the flat weights, as one CUDA graph."""

import math

import torch


class Optimizer:
    """Muon for the matrices of the layers (each projection on its own), Adam for the rest.

    One call of `step` is one CUDA graph replay. A gradient that is not finite is counted in `skipped` and taken as
    zero. `low` is the bf16 copy of the weights that the forward reads.
    """

    def __init__(self, weights, decay=0.05, clip=1.0):
        self.weights = weights
        self.clip, self.decay = clip, decay
        device = weights.flat.device
        size = weights.flat.numel()
        self.grad, self.m, self.v = (
            torch.zeros(count, device=device) for count in (size, size, size - weights.matrices)
        )
        self.low = weights.flat.to(torch.bfloat16)
        self.lr, self.t, self.skipped, self.norm = (torch.zeros((), device=device) for _ in range(4))
        self.groups = self.matrices_by_shape()
        self.units = [weights.joined(unit, self.grad) for unit in weights.units]
        self.capture()

    def matrices_by_shape(self):
        """{shape: [function from a flat tensor to one of its matrices]}, wide side last."""
        weights = self.weights
        groups = {}
        for name in weights.at:
            if weights.at[name] >= weights.matrices:
                continue
            rows, cols = weights.shape[name]
            parts = 3 if name.endswith("attn.qkv.weight") else 1
            for i in range(parts):
                cut = slice(i * rows // parts, (i + 1) * rows // parts)
                tall = rows // parts > cols

                def view(flat, name=name, cut=cut, tall=tall):
                    matrix = weights.view(name, flat)[cut]
                    return matrix.mT if tall else matrix

                groups.setdefault(tuple(view(weights.flat).shape), []).append(view)
        return groups

    def capture(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self.update()  # a warm-up that moves nothing: the gradient and the rate are zero
        torch.cuda.current_stream().wait_stream(side)
        self.t.zero_()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.update()

    @staticmethod
    def orthogonal(x):
        """Five Newton-Schulz steps towards the nearest orthogonal matrix, for a stack of wide matrices."""
        x = (x / (x.square().sum((1, 2), keepdim=True).sqrt() + 1e-7)).to(torch.bfloat16)
        for _ in range(5):
            a = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
        return x

    def update(self):
        n = self.weights.matrices
        w, g, m = self.weights.flat, self.grad, self.m
        self.norm.copy_(g.norm())
        ok = torch.isfinite(self.norm)
        self.skipped += ~ok
        g.copy_(torch.where(ok, g * (self.clip / self.norm.clamp(min=self.clip)), torch.zeros_like(g)))

        # Muon, with Nesterov's momentum.
        m[:n].lerp_(g[:n], 0.05)
        d = g[:n].lerp(m[:n], 0.95)
        w[:n].mul_(1 - self.lr * self.decay)
        for (_, cols), views in self.groups.items():
            step = self.orthogonal(torch.stack([view(d) for view in views])).float()
            step = step * (0.2 * math.sqrt(cols) * self.lr)
            torch._foreach_sub_([view(w) for view in views], list(step.unbind(0)))

        # Adam, at half the rate.
        self.t += 1
        m[n:].lerp_(g[n:], 0.1)
        self.v.lerp_(g[n:].square(), 0.02)

        def power(beta):
            return torch.exp(self.t * math.log(beta))

        mean = m[n:] / (1 - power(0.9))
        deviation = (self.v / (1 - power(0.98))).sqrt() + 1e-8
        w[n:].sub_(0.5 * self.lr * (mean / deviation))
        self.low.copy_(w)

    def step(self, grads, lr):
        torch._foreach_copy_(self.units, grads)
        self.lr.fill_(lr)
        self.graph.replay()
