"""All parameters in one flat tensor, under the names that transformers gives them."""

import torch

from settings import DEEPSTACK_AFTER, LAYERS, VISION_LAYERS

VISION, TEXT = "model.visual.", "model.language_model."


def named(modules, kinds):
    return [[f"{module}.{kind}"] for module in modules for kind in kinds]


# (group, layers' prefixes, tensors). The tensors of one entry are joined along dim 0; entries are in the order of the
# arguments of the functions in model.py.
SLOTS = [
    ("patch", [VISION + "patch_embed.proj."], [["weight"], ["bias"]]),
    ("pos", [VISION + "pos_embed."], [["weight"]]),
    ("embed", [TEXT + "embed_tokens."], [["weight"]]),
    ("norm", [TEXT + "norm."], [["weight"]]),
    (
        "vision",
        [VISION + f"blocks.{i}." for i in range(VISION_LAYERS)],
        named(["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.linear_fc1", "mlp.linear_fc2"], ["weight", "bias"]),
    ),
    (
        "mergers",
        [VISION + "merger."] + [VISION + f"deepstack_merger_list.{i}." for i in range(len(DEEPSTACK_AFTER))],
        named(["norm", "linear_fc1", "linear_fc2"], ["weight", "bias"]),
    ),
    (
        "text",
        [TEXT + f"layers.{i}." for i in range(LAYERS)],
        [
            ["input_layernorm.weight"],
            [f"self_attn.{m}_proj.weight" for m in "qkv"],
            ["self_attn.q_norm.weight"],
            ["self_attn.k_norm.weight"],
            ["self_attn.o_proj.weight"],
            ["post_attention_layernorm.weight"],
            ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
            ["mlp.down_proj.weight"],
        ],
    ),
]
LAYERED = ("vision", "mergers", "text")


class Weights:
    """Every parameter in one flat float32 tensor `flat`: first the matrices that Muon updates, then the rest.

    A unit is (group, prefix, names): the tensors of one SLOTS entry in one layer, which lie one after another.
    """

    def __init__(self, state, device):
        self.shape = {name: value.shape for name, value in state.items() if name != "lm_head.weight"}
        self.at = {}
        size = 0
        units = [
            (group, prefix, names) for group, prefixes, tensors in SLOTS for prefix in prefixes for names in tensors
        ]

        def is_matrix(unit):
            group, prefix, names = unit
            return group in LAYERED and len(self.shape[prefix + names[0]]) == 2

        for matrices in (True, False):
            for unit in units:
                if is_matrix(unit) != matrices:
                    continue
                for name in unit[2]:
                    self.at[unit[1] + name] = size
                    size += self.shape[unit[1] + name].numel()
                size = -(-size // 64) * 64  # keep every unit aligned
            if matrices:
                self.matrices = size
        assert set(self.at) == set(self.shape)
        self.units = units
        self.flat = torch.zeros(size, device=device)
        for name in self.at:
            self.view(name, self.flat).copy_(state[name])

    def view(self, name, flat):
        """One parameter within a flat tensor laid out like `flat`."""
        at = self.at[name]
        return flat[at : at + self.shape[name].numel()].view(self.shape[name])

    def joined(self, unit, flat):
        """One unit of a flat tensor: its tensors joined along dim 0."""
        _, prefix, names = unit
        at = self.at[prefix + names[0]]
        shapes = [self.shape[prefix + name] for name in names]
        if len(shapes[0]) > 1:
            shape = [sum(s[0] for s in shapes), shapes[0].numel() // shapes[0][0]]
        else:
            shape = shapes[0]
        return flat[at : at + sum(s.numel() for s in shapes)].view(*shape)

    def leaves(self, flat):
        """{group: [per layer, its tensors]} over `flat` (groups of one layer: its tensors), and all of them."""
        grouped = {}
        every = []
        for unit in self.units:
            leaf = self.joined(unit, flat).detach().requires_grad_()
            every.append(leaf)
            grouped.setdefault(unit[0], {}).setdefault(unit[1], []).append(leaf)
        P = {
            group: list(layers.values()) if group in LAYERED else next(iter(layers.values()))
            for group, layers in grouped.items()
        }
        return P, every

    def state(self):
        """The state dict that transformers loads."""
        state = {name: self.view(name, self.flat) for name in self.at}
        state["lm_head.weight"] = state[TEXT + "embed_tokens.weight"]
        return state
