"""The functions of kernels.c, compiled where a compiler is at hand, with their gradients."""

import ctypes
import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import torch


@functools.cache
def library():
    """The compiled library, or None. It lies in the temporary folder under the hash of its source."""
    compiler = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    if compiler is None:
        return None
    source = pathlib.Path(__file__).with_name("kernels.c")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    path = pathlib.Path(tempfile.gettempdir()) / f"kirie-kernels-{os.getuid()}-{digest}.so"
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        flags = ["-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-Wno-psabi", "-shared", "-fPIC"]
        if subprocess.run([compiler, *flags, str(source), "-o", str(fresh), "-lm"], check=False).returncode:
            return None
        os.replace(fresh, path)
    return ctypes.CDLL(str(path))


def takes(x):
    """Whether the kernels may be used on maps like these."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and library() is not None


def call(name, tensors, *numbers):
    """Calls a function with the addresses of contiguous tensors, integers and floats."""
    kinds = {int: ctypes.c_int, float: ctypes.c_float}
    getattr(library(), name)(
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors), *(kinds[type(n)](n) for n in numbers)
    )


def last(x):
    """The map (B, C, H, W) with its channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)


class Depthwise(torch.autograd.Function):
    """ReLU6, depthwise convolution, ReLU6: x (B, C, H, W), C a multiple of 16; weight (C, 1, k, k), bias (C)."""

    @staticmethod
    def forward(context, x, weight, bias, stride):
        size = weight.shape[-1]
        x = last(x)
        taps = weight.detach().float().flatten(1).t().contiguous()
        batch, channels, height, width = x.shape
        shape = (batch, channels, height // stride, width // stride)
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        room = torch.empty(2 * (height + size - stride) * (width + size - stride), 16)
        context.numbers = (batch, height, width, channels, size, stride)
        call("depthwise_forward", (x, taps, bias.detach().float().contiguous(), y, room), *context.numbers)
        context.save_for_backward(x, taps, y)
        context.room = room.shape
        return y

    @staticmethod
    def backward(context, gradient):
        x, taps, y = context.saved_tensors
        gradient = last(gradient.to(x.dtype))
        dx = torch.empty_like(x)
        dtaps, dbias, room = torch.empty_like(taps), torch.empty(x.shape[1]), torch.empty(context.room)
        call("depthwise_backward", (x, taps, y, gradient, dx, dtaps, dbias, room), *context.numbers)
        size = context.numbers[4]
        return dx, dtaps.t().reshape(-1, 1, size, size), dbias, None


class SkipGELU(torch.autograd.Function):
    """GELU(x + skip) with x (B·P, C, H, W) and skip (B, C, H, W)."""

    @staticmethod
    def forward(context, x, skip):
        x, skip = last(x), last(skip)
        y = torch.empty_like(x)
        context.numbers = (skip.shape[0], x.shape[0] // skip.shape[0], skip[0].numel())
        call("gelu_forward", (x, skip, y), *context.numbers)
        context.save_for_backward(x, skip)
        return y

    @staticmethod
    def backward(context, gradient):
        x, skip = context.saved_tensors
        dx = torch.empty_like(x)
        dskip = torch.empty_like(skip, dtype=torch.float32)
        call("gelu_backward", (x, skip, last(gradient.to(x.dtype)), dx, dskip), *context.numbers)
        return dx, dskip.to(skip.dtype)


class MaskLoss(torch.autograd.Function):
    """The loss (N, trained) of the first `trained` of logits (N, K, g, g), and the IoU (N, K) of all of them.

    targets: (N, g, g) uint8 in 0…16.
    """

    @staticmethod
    def forward(context, logits, targets, trained, focal_weight, dice_weight):
        count, masks = logits.shape[:2]
        cells = logits[0, 0].numel()
        loss, iou = torch.empty(count, trained), torch.empty(count, masks)
        gradient = torch.empty(count, trained, *logits.shape[2:], dtype=logits.dtype)
        tensors = (logits.contiguous(), targets.contiguous(), loss, gradient, iou, torch.empty(3 * cells))
        call("mask_loss", tensors, count, masks, cells, trained, float(focal_weight), float(dice_weight))
        context.save_for_backward(gradient)
        context.masks = masks
        context.mark_non_differentiable(iou)
        return loss, iou

    @staticmethod
    def backward(context, gradient, _):
        (own,) = context.saved_tensors
        own = own * gradient.to(own.dtype)[..., None, None]
        rest = context.masks - own.shape[1]
        return (torch.nn.functional.pad(own, (0, 0, 0, 0, 0, rest)) if rest else own), None, None, None, None
