"""The image encoder: TinyViT (Wu et al. 2022, https://arxiv.org/abs/2207.10666) in the shape MobileSAM publishes.

Parameter names equal those of the published MobileSAM checkpoint, so one loader reads both. Nothing here depends on the
image size: a window that does not divide the grid is padded with zeros, as in the published code.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from model_parts import LayerNorm2d


class ConvBN(nn.Sequential):
    """A convolution without bias and a batch normalisation, named `c` and `bn`."""

    def __init__(self, inputs, outputs, size=1, stride=1, padding=0, groups=1, scale=1.0):
        super().__init__()
        self.add_module("c", nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False))
        norm = nn.BatchNorm2d(outputs)
        nn.init.constant_(norm.weight, scale)
        self.add_module("bn", norm)


class PatchEmbed(nn.Module):
    """Two strided convolutions: (B, 3, S, S) to (B, width, S/4, S/4)."""

    def __init__(self, width):
        super().__init__()
        self.seq = nn.Sequential(ConvBN(3, width // 2, 3, 2, 1), nn.GELU(), ConvBN(width // 2, width, 3, 2, 1))

    def forward(self, x):
        return self.seq(x)


class MBConv(nn.Module):
    """Inverted bottleneck with expansion 4 and a residual that starts as the identity."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = ConvBN(width, 4 * width)
        self.conv2 = ConvBN(4 * width, 4 * width, 3, 1, 1, groups=4 * width)
        self.conv3 = ConvBN(4 * width, width, scale=0.0)

    def forward(self, x):
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class PatchMerging(nn.Module):
    """From one stage to the next: channels to `outputs`, the grid divided by `stride`."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = ConvBN(inputs, outputs)
        self.conv2 = ConvBN(outputs, outputs, 3, stride, 1, groups=outputs)
        self.conv3 = ConvBN(outputs, outputs)

    def forward(self, x):
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class ConvStage(nn.Module):
    """The first stage: MBConv blocks, then a merging."""

    def __init__(self, width, depth, outputs, stride):
        super().__init__()
        self.blocks = nn.ModuleList(MBConv(width) for _ in range(depth))
        self.downsample = PatchMerging(width, outputs, stride)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.downsample(x)


class MLP(nn.Module):
    """Norm, expansion 4, GELU, projection."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class Attention(nn.Module):
    """Attention inside one window with a learned bias per head and offset (LeViT's, |dx| and |dy|).

    `qkv` holds query, key and value of head 0, then of head 1, and so on.
    """

    def __init__(self, width, heads, window):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        points = list(itertools.product(range(window), range(window)))
        offsets = {}
        indices = []
        for a in points:
            for b in points:
                offset = (abs(a[0] - b[0]), abs(a[1] - b[1]))
                indices.append(offsets.setdefault(offset, len(offsets)))
        self.attention_biases = nn.Parameter(torch.zeros(heads, len(offsets)))
        self.register_buffer("attention_bias_idxs", torch.tensor(indices).view(len(points), len(points)))

    def forward(self, x):
        count, tokens, width = x.shape
        qkv = self.qkv(self.norm(x)).view(count, tokens, self.heads, 3 * width // self.heads)
        query, key, value = qkv.transpose(1, 2).chunk(3, dim=-1)
        bias = self.attention_biases[:, self.attention_bias_idxs]
        # Plain products: with a bias that is learned, the fused kernel falls back to slower ones.
        weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + bias.to(query.dtype)
        x = weights.softmax(dim=-1).to(value.dtype) @ value
        return self.proj(x.transpose(1, 2).reshape(count, tokens, width))


class TinyViTBlock(nn.Module):
    """Window attention with residual, a depthwise 3 by 3 convolution, and an MLP with residual; (B, H, W, C)."""

    def __init__(self, width, heads, window):
        super().__init__()
        self.window = window
        self.attn = Attention(width, heads, window)
        self.mlp = MLP(width)
        self.local_conv = ConvBN(width, width, 3, 1, 1, groups=width)

    def forward(self, x):
        batch, height, width, channels = x.shape
        w = self.window
        below, right = -height % w, -width % w
        y = F.pad(x, (0, 0, 0, right, 0, below)) if below or right else x
        rows, columns = (height + below) // w, (width + right) // w
        y = y.view(batch, rows, w, columns, w, channels).transpose(2, 3).reshape(-1, w * w, channels)
        y = self.attn(y)
        y = y.view(batch, rows, columns, w, w, channels).transpose(2, 3).reshape(batch, rows * w, columns * w, channels)
        x = x + y[:, :height, :width]
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.mlp(x)


class AttentionStage(nn.Module):
    """Blocks of window attention, then a merging unless it is the last stage."""

    def __init__(self, width, depth, heads, window, outputs=None, stride=None):
        super().__init__()
        self.blocks = nn.ModuleList(TinyViTBlock(width, heads, window) for _ in range(depth))
        self.downsample = PatchMerging(width, outputs, stride) if outputs else None

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        x = x.permute(0, 3, 1, 2)
        return self.downsample(x) if self.downsample else x


class TinyViT(nn.Module):
    """Normalised pictures (B, 3, S, S) to an embedding (B, outputs, S/16, S/16)."""

    def __init__(self, widths, depths, heads, windows, strides, outputs):
        super().__init__()
        self.patch_embed = PatchEmbed(widths[0])
        stages = [ConvStage(widths[0], depths[0], widths[1], strides[0])]
        for i in range(1, len(widths)):
            last = i + 1 == len(widths)
            following = () if last else (widths[i + 1], strides[i])
            stages.append(AttentionStage(widths[i], depths[i], heads[i], windows[i], *following))
        self.layers = nn.ModuleList(stages)
        self.neck = nn.Sequential(
            nn.Conv2d(widths[-1], outputs, 1, bias=False),
            LayerNorm2d(outputs),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            LayerNorm2d(outputs),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x):
        x = self.patch_embed(x)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)
