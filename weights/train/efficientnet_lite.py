"""The image encoder: the trunk of an EfficientNet-Lite and a small neck to one embedding of stride 16.

EfficientNet (Tan and Le 2019, https://arxiv.org/abs/1905.11946) in its Lite form: no squeeze and excite, ReLU6, TensorFlow's
"same" padding, which for a stride of 2 lies on the right and below alone. Published weights are read by `begin_trunk`.
"""

import torch
import torch.nn.functional as F
from torch import nn

import device_kernels
import native
from model_parts import PIXEL_MEAN, PIXEL_STD, LayerNorm2d

# Kernel, expansion, stride, channels and blocks of each stage.
LITE0 = (
    (3, 1, 1, 16, 1),
    (3, 6, 2, 24, 2),
    (5, 6, 2, 40, 2),
    (3, 6, 2, 80, 3),
    (5, 6, 1, 112, 3),
    (5, 6, 2, 192, 4),
    (3, 6, 1, 320, 1),
)
LITE1 = tuple((*stage[:4], blocks) for stage, blocks in zip(LITE0, (1, 3, 3, 4, 4, 5, 1)))
LITE2 = tuple((*stage[:3], width, blocks) for stage, width, blocks in zip(
    LITE0, (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)
))

STEM = 32
EPSILON = 1e-3


def padding(size, stride):
    """Rows before and after: half of the kernel, or with a stride of 2 what TensorFlow's "same" puts on even sizes."""
    return (size // 2, size // 2) if stride == 1 else ((size - 2) // 2, size - 2 - (size - 2) // 2)


def depthwise(x, weight, bias, stride):
    """ReLU6, the depthwise convolution with its bias, ReLU6."""
    if native.takes(x) and x.shape[1] % 16 == 0:
        return native.Depthwise.apply(x, weight, bias, stride)
    if device_kernels.takes(x):
        return device_kernels.Depthwise.apply(x, weight, bias, stride)
    before, after = padding(weight.shape[-1], stride)
    x = F.pad(F.relu6(x), (before, after, before, after))
    return F.relu6(F.conv2d(x, weight, bias, stride, groups=x.shape[1]))


class FrozenNorm(nn.Module):
    """A batch normalisation whose statistics stay as they are; its scale and shift are trained."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))


class Unit(nn.Module):
    """A convolution with a frozen batch normalisation, which is folded into it at every pass.

    So a normalisation costs nothing on the maps, and what is exported is what was trained.
    """

    def __init__(self, inputs, outputs, size=1, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, groups=groups, bias=False)
        self.norm = FrozenNorm(outputs)

    def folded(self):
        """The weight and the bias of the convolution that does both."""
        scale = self.norm.weight * (self.norm.running_var + EPSILON).rsqrt()
        return self.conv.weight * scale.view(-1, 1, 1, 1), self.norm.bias - self.norm.running_mean * scale

    def forward(self, x):
        size, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if size > 1:
            before, after = padding(size, stride)
            x = F.pad(x, (before, after, before, after))
        elif device_kernels.takes(x) and device_kernels.products:  # As a product, which adds the bias on its way.
            weight, bias = self.folded()
            return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        return F.conv2d(x, *self.folded(), stride)


class InvertedBottleneck(nn.Module):
    """Widen, filter each channel by itself, narrow; with a residual where the shape stays.

    ReLU6 lies on both sides of the filter; where nothing is widened, the first one is the stem's.
    """

    def __init__(self, inputs, outputs, size, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        self.expand = Unit(inputs, hidden) if expansion > 1 else None
        self.depthwise = Unit(hidden, hidden, size, stride, groups=hidden)
        self.project = Unit(hidden, outputs)
        self.stride = stride
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.expand(x) if self.expand else x
        y = self.project(depthwise(y, *self.depthwise.folded(), self.stride))
        return x + y if self.residual else y


class Neck(nn.Module):
    """Maps of strides 8, 16 and 32 to one embedding of stride 16.

    The first is averaged over 2 by 2 cells, the last repeated; a 1 by 1 convolution each, summed, then two 3 by 3 ones.
    """

    def __init__(self, inputs, width, outputs):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(channels, width, 1, bias=i == 1) for i, channels in enumerate(inputs))
        self.norm1 = LayerNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = LayerNorm2d(width)
        self.conv2 = nn.Conv2d(width, outputs, 3, padding=1)
        self.norm3 = LayerNorm2d(outputs)

    def forward(self, fine, middle, coarse):
        x = self.laterals[0](F.avg_pool2d(fine, 2)) + self.laterals[1](middle)
        x = x + F.interpolate(self.laterals[2](coarse), scale_factor=2, mode="nearest")
        x = self.norm1(x)
        x = x + F.relu(self.norm2(self.conv1(F.relu(x))))
        return self.norm3(self.conv2(x))


class EfficientNetLite(nn.Module):
    """Normalised pictures (B, 3, S, S) to an embedding (B, outputs, S/16, S/16) and two skips.

    The skips, of strides 8 and 4, have outputs/4 and outputs/8 channels and begin as zero.
    """

    def __init__(self, stages, neck, outputs):
        super().__init__()
        self.stem = Unit(3, STEM, 3, 2)
        blocks, channels, stride, last = [], STEM, 2, {}
        for size, expansion, step, width, depth in stages:
            stride *= step
            for i in range(depth):
                blocks.append(InvertedBottleneck(channels, width, size, step if i == 0 else 1, expansion))
                channels = width
            last[stride] = (len(blocks) - 1, channels)
        self.blocks = nn.ModuleList(blocks)
        self.taps = {index: stride for stride, (index, _) in last.items()}
        self.neck = Neck([last[s][1] for s in (8, 16, 32)], neck, outputs)
        self.skips = nn.ModuleList([nn.Conv2d(last[8][1], outputs // 4, 1), nn.Conv2d(last[4][1], outputs // 8, 1)])
        for skip in self.skips:
            nn.init.zeros_(skip.weight)
            nn.init.zeros_(skip.bias)

    def trunk(self):
        """The parameters that a pretrained trunk brings."""
        return [*self.stem.parameters(), *self.blocks.parameters()]

    def forward(self, x):
        maps = {}
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                maps[self.taps[i]] = x
        embedding = self.neck(maps[8], maps[16], maps[32])
        return embedding, (self.skips[0](maps[8]), self.skips[1](maps[4]))


@torch.no_grad()
def begin_trunk(encoder, state):
    """Takes over published weights (names as in the package efficientnet_lite_pytorch).

    They expect pixels as (p - 127) / 128: the first convolution is changed so that Segment Anything's normalisation does.
    """
    pairs = [(encoder.stem, "_conv_stem", "_bn0")]
    for i, block in enumerate(encoder.blocks):
        root = f"_blocks.{i}."
        if block.expand:
            pairs.append((block.expand, root + "_expand_conv", root + "_bn0"))
        pairs.append((block.depthwise, root + "_depthwise_conv", root + "_bn1"))
        pairs.append((block.project, root + "_project_conv", root + "_bn2"))
    for unit, conv, norm in pairs:
        unit.conv.weight.copy_(state[conv + ".weight"])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(unit.norm, name).copy_(state[f"{norm}.{name}"])
    weight = encoder.stem.conv.weight
    mean, deviation = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    encoder.stem.norm.running_mean -= (weight.sum(dim=(2, 3)) * (mean - 127) / 128).sum(dim=1)
    weight *= (deviation / 128).view(1, 3, 1, 1)
