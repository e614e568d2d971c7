"""What native.py is to a processor, for a GPU: depthwise convolutions and the mask loss as single kernels (Triton).

PyTorch's own depthwise gradients in bfloat16 are slow there too, and its mask losses pass over the logits some forty times.
Where Triton is missing, or with `enabled` false, PyTorch's own operations do the same.
"""

import torch

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

enabled = True

# Whether convolutions of one cell, and transposed ones whose cells do not overlap, are done as products.
products = True

# Output pixels and channels of one program.
PIXELS, CHANNELS = 64, 32

# Arguments whose value must not lead to a kernel of its own.
LENGTHS = ["total", "height", "width", "down", "across"]


def takes(x):
    """Whether the kernels may be used on maps like these."""
    return enabled and triton is not None and x.is_cuda and x.dtype == torch.bfloat16


if triton is not None:

    @triton.jit(do_not_specialize=LENGTHS)
    def forward_kernel(
        x, taps, bias, y, total, height, width, channels, down, across,
        STRIDE: tl.constexpr, SIZE: tl.constexpr, BEFORE: tl.constexpr, P: tl.constexpr, C: tl.constexpr,
    ):
        pixel = tl.program_id(0) * P + tl.arange(0, P)
        channel = tl.program_id(1) * C + tl.arange(0, C)
        here, there = pixel < total, channel < channels
        image = pixel // (down * across)
        row = (pixel % (down * across)) // across
        column = pixel % across
        result = tl.zeros([P, C], tl.float32)
        for i in range(SIZE):
            for j in tl.static_range(SIZE):
                v = row * STRIDE + (i - BEFORE)
                u = column * STRIDE + (j - BEFORE)
                ok = here & (v >= 0) & (v < height) & (u >= 0) & (u < width)
                place = ((image * height + v) * width + u)[:, None] * channels + channel[None, :]
                value = tl.load(x + place, mask=ok[:, None] & there[None, :], other=0.0).to(tl.float32)
                value = tl.minimum(tl.maximum(value, 0.0), 6.0)
                weight = tl.load(taps + (i * SIZE + j) * channels + channel, mask=there, other=0.0)
                result += value * weight[None, :]
        result += tl.load(bias + channel, mask=there, other=0.0)[None, :]
        result = tl.minimum(tl.maximum(result, 0.0), 6.0)
        place = pixel[:, None] * channels + channel[None, :]
        tl.store(y + place, result.to(tl.bfloat16), mask=here[:, None] & there[None, :])

    @triton.jit
    def gate_kernel(y, dy, gated, total, B: tl.constexpr):
        place = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
        ok = place < total
        value = tl.load(y + place, mask=ok, other=0.0).to(tl.float32)
        gradient = tl.load(dy + place, mask=ok, other=0.0).to(tl.float32)
        gradient = tl.where((value > 0.0) & (value < 6.0), gradient, 0.0)
        tl.store(gated + place, gradient.to(tl.bfloat16), mask=ok)

    @triton.jit(do_not_specialize=LENGTHS)
    def input_kernel(
        x, taps, gated, dx, total, height, width, channels, down, across,
        STRIDE: tl.constexpr, SIZE: tl.constexpr, BEFORE: tl.constexpr, P: tl.constexpr, C: tl.constexpr,
    ):
        pixel = tl.program_id(0) * P + tl.arange(0, P)
        channel = tl.program_id(1) * C + tl.arange(0, C)
        here, there = pixel < total, channel < channels
        image = pixel // (height * width)
        row = (pixel % (height * width)) // width
        column = pixel % width
        result = tl.zeros([P, C], tl.float32)
        for i in range(SIZE):
            for j in tl.static_range(SIZE):
                # Multiples of the stride are added, so that the division never meets a negative number.
                v = row + (BEFORE - i + SIZE * STRIDE)
                u = column + (BEFORE - j + SIZE * STRIDE)
                fits = (v % STRIDE == 0) & (u % STRIDE == 0)
                v = v // STRIDE - SIZE
                u = u // STRIDE - SIZE
                ok = here & fits & (v >= 0) & (v < down) & (u >= 0) & (u < across)
                place = ((image * down + v) * across + u)[:, None] * channels + channel[None, :]
                value = tl.load(gated + place, mask=ok[:, None] & there[None, :], other=0.0).to(tl.float32)
                weight = tl.load(taps + (i * SIZE + j) * channels + channel, mask=there, other=0.0)
                result += value * weight[None, :]
        place = pixel[:, None] * channels + channel[None, :]
        ok = here[:, None] & there[None, :]
        value = tl.load(x + place, mask=ok, other=0.0).to(tl.float32)
        result = tl.where((value > 0.0) & (value < 6.0), result, 0.0)
        tl.store(dx + place, result.to(tl.bfloat16), mask=ok)

    @triton.jit(do_not_specialize=[*LENGTHS, "rounds"])
    def taps_kernel(
        x, gated, sums, total, height, width, channels, down, across, rounds,
        STRIDE: tl.constexpr, SIZE: tl.constexpr, BEFORE: tl.constexpr, P: tl.constexpr, C: tl.constexpr,
    ):
        """Sums over `rounds` times P output pixels: sums (programs, SIZE · SIZE + 1, channels), the last for the bias."""
        first = tl.program_id(0) * rounds * P
        channel = tl.program_id(1) * C + tl.arange(0, C)
        there = channel < channels
        base = sums + tl.program_id(0) * (SIZE * SIZE + 1) * channels + channel
        result = tl.zeros([P, C], tl.float32)
        for k in range(rounds):
            pixel = first + k * P + tl.arange(0, P)
            place = pixel[:, None] * channels + channel[None, :]
            result += tl.load(gated + place, mask=(pixel < total)[:, None] & there[None, :], other=0.0).to(tl.float32)
        tl.store(base + SIZE * SIZE * channels, tl.sum(result, axis=0), mask=there)
        for tap in range(SIZE * SIZE):
            result = tl.zeros([P, C], tl.float32)
            for k in range(rounds):
                pixel = first + k * P + tl.arange(0, P)
                here = pixel < total
                place = pixel[:, None] * channels + channel[None, :]
                gradient = tl.load(gated + place, mask=here[:, None] & there[None, :], other=0.0).to(tl.float32)
                image = pixel // (down * across)
                v = ((pixel % (down * across)) // across) * STRIDE + (tap // SIZE - BEFORE)
                u = (pixel % across) * STRIDE + (tap % SIZE - BEFORE)
                ok = here & (v >= 0) & (v < height) & (u >= 0) & (u < width)
                place = ((image * height + v) * width + u)[:, None] * channels + channel[None, :]
                value = tl.load(x + place, mask=ok[:, None] & there[None, :], other=0.0).to(tl.float32)
                result += gradient * tl.minimum(tl.maximum(value, 0.0), 6.0)
            tl.store(base + tap * channels, tl.sum(result, axis=0), mask=there)

    @triton.jit
    def loss_kernel(
        logits, targets, loss, iou, gradient, cells, masks, trained, focal_weight, dice_weight, B: tl.constexpr
    ):
        """One mask's loss, its gradient by the logits, and its IoU."""
        mask = tl.program_id(0)
        number, which = mask // masks, mask % masks
        mine, wanted = logits + mask.to(tl.int64) * cells, targets + number.to(tl.int64) * cells
        focal = tl.zeros([B], tl.float32)
        overlap = tl.zeros([B], tl.float32)
        squares = tl.zeros([B], tl.float32)
        both = tl.zeros([B], tl.float32)
        either = tl.zeros([B], tl.float32)
        for start in range(0, cells, B):
            place = start + tl.arange(0, B)
            ok = place < cells
            z = tl.load(mine + place, mask=ok, other=-1e4).to(tl.float32)
            t = tl.load(wanted + place, mask=ok, other=0).to(tl.float32) / 16
            p = 1 / (1 + tl.exp(-z))
            entropy = tl.maximum(z, 0.0) - z * t + tl.log(1 + tl.exp(-tl.abs(z)))
            focal += entropy * (p - t) * (p - t)
            overlap += p * t
            squares += p * p + t * t
            both += tl.where((z > 0) & (t >= 0.5), 1.0, 0.0)
            either += tl.where((z > 0) | (t >= 0.5), 1.0, 0.0)
        top = 2 * tl.sum(overlap, axis=0) + 1
        low = tl.sum(squares, axis=0) + 1
        tl.store(iou + mask, tl.sum(both, axis=0) / tl.maximum(tl.sum(either, axis=0), 1.0))
        if which < trained:
            own = number * trained + which
            tl.store(loss + own, focal_weight * tl.sum(focal, axis=0) / cells + dice_weight * (1 - top / low))
            slope = gradient + own.to(tl.int64) * cells
            for start in range(0, cells, B):
                place = start + tl.arange(0, B)
                ok = place < cells
                z = tl.load(mine + place, mask=ok, other=0.0).to(tl.float32)
                t = tl.load(wanted + place, mask=ok, other=0).to(tl.float32) / 16
                p = 1 / (1 + tl.exp(-z))
                entropy = tl.maximum(z, 0.0) - z * t + tl.log(1 + tl.exp(-tl.abs(z)))
                error, rise = p - t, p * (1 - p)
                by = focal_weight / cells * (error * error * error + 2 * entropy * error * rise)
                by += dice_weight * rise * (2 * p * top / (low * low) - 2 * t / low)
                tl.store(slope + place, by.to(tl.bfloat16), mask=ok)


def last(x):
    """The map (B, C, H, W) with its channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)


class Depthwise(torch.autograd.Function):
    """ReLU6, depthwise convolution, ReLU6: x (B, C, H, W); weight (C, 1, k, k), bias (C)."""

    @staticmethod
    def forward(context, x, weight, bias, stride):
        x = last(x)
        size = weight.shape[-1]
        taps = weight.detach().float().flatten(1).t().contiguous()
        batch, channels, height, width = x.shape
        down, across = height // stride, width // stride
        y = torch.empty((batch, channels, down, across), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        before = size // 2 if stride == 1 else (size - 2) // 2
        context.numbers = (height, width, channels, down, across)
        context.shape = {"STRIDE": stride, "SIZE": size, "BEFORE": before, "P": PIXELS, "C": CHANNELS}
        total = batch * down * across
        grid = (triton.cdiv(total, PIXELS), triton.cdiv(channels, CHANNELS))
        forward_kernel[grid](x, taps, bias.detach().float().contiguous(), y, total, *context.numbers, **context.shape)
        context.save_for_backward(x, taps, y)
        return y

    @staticmethod
    def backward(context, gradient):
        x, taps, y = context.saved_tensors
        gradient = last(gradient.to(x.dtype))
        height, width, channels, down, across = context.numbers
        gated, dx = torch.empty_like(y), torch.empty_like(x)
        gate_kernel[(triton.cdiv(y.numel(), 2048),)](y, gradient, gated, y.numel(), B=2048)
        blocks = triton.cdiv(channels, CHANNELS)
        total = x.shape[0] * height * width
        grid = (triton.cdiv(total, PIXELS), blocks)
        input_kernel[grid](x, taps, gated, dx, total, *context.numbers, **context.shape)
        total = x.shape[0] * down * across
        # Some thousand programs, each of at most eight rounds, so that what it reads again is still at hand.
        rounds = max(1, min(8, total * blocks // (2048 * PIXELS)))
        programs = triton.cdiv(total, rounds * PIXELS)
        size = context.shape["SIZE"]
        sums = torch.empty(programs, size * size + 1, channels, device=x.device)
        taps_kernel[(programs, blocks)](x, gated, sums, total, *context.numbers, rounds, **context.shape)
        sums = sums.sum(dim=0)
        return dx, sums[:-1].t().reshape(-1, 1, size, size), sums[-1], None


class MaskLoss(torch.autograd.Function):
    """The loss (N, trained) of the first `trained` of logits (N, K, g, g), and the IoU (N, K) of all of them.

    targets: (N, g, g) uint8 in 0…16.
    """

    @staticmethod
    def forward(context, logits, targets, trained, focal_weight, dice_weight):
        logits, targets = logits.contiguous(), targets.contiguous()
        count, masks = logits.shape[:2]
        cells = logits[0, 0].numel()
        loss = torch.empty(count, trained, device=logits.device)
        iou = torch.empty(count, masks, device=logits.device)
        gradient = torch.empty(count, trained, *logits.shape[2:], dtype=logits.dtype, device=logits.device)
        numbers = (cells, masks, trained, float(focal_weight), float(dice_weight))
        loss_kernel[(count * masks,)](logits, targets, loss, iou, gradient, *numbers, B=1024)
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
