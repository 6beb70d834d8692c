"""Pages finished on the GPU: coloured, rotated, blurred, compressed, made noisy; and cut into patches."""

import functools
import math

import torch
import torch.nn.functional as F

# The quantization tables of JPEG's quality 50.
LUMA = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
# The upper left 4 x 4; 99 elsewhere.
CHROMA = [
    [17, 18, 24, 47],
    [18, 21, 26, 66],
    [24, 26, 56, 99],
    [47, 66, 99, 99],
]


@functools.lru_cache
def jpeg_constants(device):
    """The cosine transform, RGB -> YCbCr and back, and the two quantization tables of quality 50."""
    dct = torch.tensor(
        [
            [math.sqrt((1 if i == 0 else 2) / 8) * math.cos((2 * j + 1) * i * math.pi / 16) for j in range(8)]
            for i in range(8)
        ]
    )
    ycc = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    chroma = torch.full((8, 8), 99.0)
    chroma[:4, :4] = torch.tensor(CHROMA)
    return [t.to(device) for t in (dct, ycc, torch.linalg.inv(ycc), torch.tensor(LUMA), chroma)]


def jpeg(x, quality):
    """What JPEG at `quality` (one number a row) does to x (B, 3, H, W) in 0..255.

    4:2:0 chroma, quantized 8x8 cosine blocks.
    """
    dct, ycc, rgb, luma, chroma = jpeg_constants(x.device)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None]

    def coded(c, table):
        B, C, H, W = c.shape
        q = ((table * scale + 50) / 100).floor().clamp(1, 255)[:, None, None, None]
        blocks = c.view(B, C, H // 8, 8, W // 8, 8).transpose(3, 4)
        blocks = dct.T @ (torch.round(dct @ blocks @ dct.T / q) * q) @ dct
        return blocks.transpose(3, 4).reshape(B, C, H, W)

    y = torch.einsum("ij,bjhw->bihw", ycc, x)
    small = coded(F.avg_pool2d(y[:, 1:], 2), chroma)
    y = torch.cat([coded(y[:, :1] - 128, luma) + 128, F.interpolate(small, scale_factor=2, mode="bilinear")], 1)
    return torch.einsum("ij,bjhw->bihw", rgb, y).clamp(0, 255)


def rotated(mask, angle):
    """Each mask (B, 1, H, W) turned about its middle by its own angle in degrees."""
    _, _, H, W = mask.shape
    turn = torch.deg2rad(-angle)
    c, s = turn.cos()[:, None, None], turn.sin()[:, None, None]
    x = (torch.arange(W, device=mask.device) + 0.5 - W / 2)[None, None]
    y = (torch.arange(H, device=mask.device) + 0.5 - H / 2)[None, :, None]
    grid = torch.stack([(c * x + s * y) * (2 / W), (c * y - s * x) * (2 / H)], -1)
    return F.grid_sample(mask, grid, align_corners=False)


def blurred(mask, radius):
    """Each mask (B, 1, H, W) under a Gaussian of its own radius."""
    B, _, H, W = mask.shape
    steps = torch.arange(-3, 4, device=mask.device)[None]
    kernel = torch.exp(-(steps**2) / (2 * radius.clamp(min=0.05)[:, None] ** 2))
    kernel = kernel / kernel.sum(1, keepdim=True)
    across = F.conv2d(mask.view(1, B, H, W), kernel.view(B, 1, 1, 7), padding=(0, 3), groups=B)
    return F.conv2d(across, kernel.view(B, 1, 7, 1), padding=(3, 0), groups=B).view(B, 1, H, W)


def compose(batch):
    """Finished pages (B, 3, H, W) in 0..255 from a batch of masks: what Pages.image does, for all rows at once."""
    mask = batch["mask"].float().div(255)[:, None]
    B = mask.shape[0]
    angle, blur, noise, quality = batch["aug"].unbind(1)
    mask = blurred(rotated(mask, angle), blur)
    fg, bg = batch["color"].float().view(B, 2, 3, 1, 1).unbind(1)
    out = bg + (fg - bg) * mask
    damaged = batch["jpeg"]
    if len(damaged):
        out[damaged] = jpeg(out[damaged], quality[damaged])
    return torch.round(out + torch.randn_like(out) * noise[:, None, None, None]).clamp(0, 255)


def patches(x, dtype=torch.float32):
    """(B, 3, H, W) in 0..255 -> (B, patches, 3*16*16), normalized, one frame.

    In the image processor's order: 2x2 merge blocks.
    """
    B, _, H, W = x.shape
    x = ((x / 255 - 0.5) / 0.5).to(dtype)
    x = x.view(B, 3, H // 32, 2, 16, W // 32, 2, 16)
    return x.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(B, H * W // 256, 768)


def patchify(u8):
    """(B, H, W, 3) uint8 -> (pixel_values, image_grid_thw), as the image processor makes them of an unresized page."""
    B, H, W, _ = u8.shape
    x = patches(u8.permute(0, 3, 1, 2).float()).view(-1, 3, 1, 256)
    return x.expand(-1, 3, 2, 256).reshape(-1, 1536), torch.tensor([[1, H // 16, W // 16]] * B)
