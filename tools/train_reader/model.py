"""The model as functions of its weights, so that one compiled layer serves for all layers."""

import numpy as np
import torch
import torch.nn.functional as F

from settings import (
    DEEPSTACK_AFTER,
    HEAD,
    HEADS,
    KV_HEADS,
    MROPE_SECTION,
    POSITION_SIDE,
    PREFIX,
    ROPE_THETA,
    VISION_HEADS,
    VISION_HIDDEN,
    VOCABULARY,
)


def rotate(x, cos, sin):
    a, b = x.float().chunk(2, -1)
    c, s = cos.chunk(2, -1)[0], sin.chunk(2, -1)[0]
    return torch.cat((a * c - b * s, b * c + a * s), -1).to(x.dtype)


def rms(x, w):
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6) * w.float()).to(x.dtype)


def attend(q, k, v, causal):
    """Each (B, length, heads, elements); gives (B, length, heads * elements)."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


def vision_block(x, cos, sin, n1w, n1b, qkv_w, qkv_b, o_w, o_b, n2w, n2b, f1w, f1b, f2w, f2b):
    qkv = F.linear(F.layer_norm(x, (VISION_HIDDEN,), n1w, n1b, 1e-6), qkv_w, qkv_b)
    q, k, v = qkv.view(x.shape[0], -1, 3, VISION_HEADS, VISION_HIDDEN // VISION_HEADS).unbind(2)
    x = x + F.linear(attend(rotate(q, cos, sin), rotate(k, cos, sin), v, False), o_w, o_b)
    inner = F.linear(F.layer_norm(x, (VISION_HIDDEN,), n2w, n2b, 1e-6), f1w, f1b)
    return x + F.linear(F.gelu(inner, approximate="tanh"), f2w, f2b)


def text_layer(x, cos, sin, n1, qkv, qn, kn, o, n2, gate_up, down):
    B = x.shape[0]
    q, k, v = F.linear(rms(x, n1), qkv).view(B, -1, HEADS + 2 * KV_HEADS, HEAD).split((HEADS, KV_HEADS, KV_HEADS), 2)

    def for_each_query(t):
        """A key/value head for each query head."""
        return t[:, :, :, None].expand(-1, -1, -1, HEADS // KV_HEADS, -1).reshape(B, -1, HEADS, HEAD)

    q, k = rotate(rms(q, qn), cos, sin), rotate(rms(k, kn), cos, sin)
    x = x + F.linear(attend(q, for_each_query(k), for_each_query(v), True), o)
    gate, up = F.linear(rms(x, n2), gate_up).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, down)


def merge(x, nw, nb, f1w, f1b, f2w, f2b):
    """2x2 patches -> one token.

    The main merger normalizes patches, the deepstack ones the joined four (their norm is wider).
    """
    wide = 4 * VISION_HIDDEN
    if len(nw) == VISION_HIDDEN:
        x = F.layer_norm(x, (VISION_HIDDEN,), nw, nb, 1e-6).view(x.shape[0], -1, wide)
    else:
        x = F.layer_norm(x.view(x.shape[0], -1, wide), (wide,), nw, nb, 1e-6)
    return F.linear(F.gelu(F.linear(x, f1w, f1b)), f2w, f2b)


class Geometry:
    """What depends on the image size alone: rotary tables of both towers and the interpolation of learned positions."""

    cache = {}

    def __init__(self, hw, device):
        H, W = hw[0] // 16, hw[1] // 16
        self.tokens = H * W // 4
        self.prefix = torch.tensor([PREFIX], device=device)
        self.vocabulary = torch.arange(VOCABULARY, device=device)

        def merge_order(raster):
            return torch.from_numpy(raster.reshape(H // 2, 2, W // 2, 2).transpose(0, 2, 1, 3).reshape(-1).copy())

        row, col = (merge_order(a) for a in np.indices((H, W)))
        freq = 10000.0 ** (-torch.arange(0, 16, 2) / 16)
        angle = torch.cat([row[:, None] * freq, col[:, None] * freq], 1).repeat(1, 2)[:, None]
        self.v_cos, self.v_sin = angle.cos().to(device), angle.sin().to(device)
        self.learned_positions(row, col, H, W, device)
        self.text_tables(H, W, device)

    def learned_positions(self, row, col, H, W, device):
        """The four neighbours of each patch in the grid of learned positions, and their bilinear weights."""
        indices, weights = [], []
        ys = torch.linspace(0, POSITION_SIDE - 1, H)[row]
        xs = torch.linspace(0, POSITION_SIDE - 1, W)[col]
        for dy in (0, 1):
            for dx in (0, 1):
                yi, xi = ys.floor() + dy, xs.floor() + dx
                weights.append((1 - (ys - yi).abs()) * (1 - (xs - xi).abs()))
                yi, xi = yi.clamp(max=POSITION_SIDE - 1), xi.clamp(max=POSITION_SIDE - 1)
                indices.append((yi * POSITION_SIDE + xi).long())
        self.idx, self.wts = torch.stack(indices, 1).to(device), torch.stack(weights, 1).to(device)

    def text_tables(self, H, W, device):
        """Positions (t, h, w) of the first 1024 tokens of a prompt with this image, and their rotary tables."""
        base = len(PREFIX)
        rows = base + self.tokens
        pos = torch.arange(1024).repeat(3, 1)
        y, x = np.indices((H // 2, W // 2))
        pos[0, base:rows] = base
        pos[1, base:rows] = base + torch.from_numpy(y.reshape(-1))
        pos[2, base:rows] = base + torch.from_numpy(x.reshape(-1))
        pos[:, rows:] += base + max(H, W) // 2 - rows
        self.pos = pos

        angle = pos[:, :, None] * ROPE_THETA ** (-torch.arange(0, HEAD, 2) / HEAD)
        which = torch.zeros(HEAD // 2, dtype=torch.long)
        for d in (1, 2):
            which[d : 3 * MROPE_SECTION[d] : 3] = d  # interleaved sections: T H W T H W ... T
        angle = angle.gather(0, which.expand(1, angle.shape[1], -1))[0].repeat(1, 2)[:, None]
        self.cos, self.sin = angle.cos().to(device), angle.sin().to(device)

    @classmethod
    def of(cls, hw, device):
        if hw not in cls.cache:
            cls.cache[hw] = cls(hw, device)
        return cls.cache[hw]


def forward(P, x, tail, hw, block=vision_block, layer=text_layer):
    """Hidden states (B, length, HIDDEN) before the last norm.

    x is patches(...), tail the token ids after the image, P the weights as Weights.leaves gives them.
    """
    g = Geometry.of(hw, x.device)
    w = P["patch"][0]
    B = x.shape[0]
    deep = []
    positions = (P["pos"][0][g.idx] * g.wts[:, :, None]).sum(1).to(x.dtype)
    one_frame = w.view(VISION_HIDDEN, 3, 2, 256).sum(2).view(VISION_HIDDEN, 768)  # both frames are the same picture
    h = F.linear(x, one_frame, P["patch"][1]) + positions
    for i, weights in enumerate(P["vision"]):
        h = block(h, g.v_cos, g.v_sin, *weights)
        if i in DEEPSTACK_AFTER:
            deep.append(merge(h, *P["mergers"][1 + len(deep)]))

    embeddings = P["embed"][0]
    ids = torch.cat([g.prefix.expand(B, -1), tail], 1)
    e = (ids[..., None] == g.vocabulary).to(embeddings.dtype) @ embeddings  # one-hot: a fast backward
    start = len(PREFIX)
    h = torch.cat([e[:, :start], merge(h, *P["mergers"][0]), e[:, start:]], 1)
    length = h.shape[1]
    cos, sin = g.cos[:length], g.sin[:length]
    for i, weights in enumerate(P["text"]):
        h = layer(h, cos, sin, *weights)
        if i < len(deep):
            h = h + F.pad(deep[i], (0, 0, start, length - start - g.tokens))
    return h


def head(P, h):
    """Logits of hidden states; the embeddings are tied."""
    return F.linear(rms(h, P["norm"][0]), P["embed"][0]).float()
