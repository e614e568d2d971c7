#!/usr/bin/env python3
"""Makes odd_geometries.json: what the published PyTorch code answers with models whose sizes are no whole vectors anywhere.

    python3 -m venv .venv && .venv/bin/pip install torch torchvision segment-anything pillow
    .venv/bin/python make_odd_geometries.py

Weights are those of RandomWeights(seed: 11), drawn by name and shape, so that only shapes and some of the answers are kept:
every n-th number of the embedding, and of the logits and qualities for two prompts on an embedding that is drawn too. TinyViT
is written out here, since the published one has its image size and strides built in; its arithmetic is that of
https://github.com/ChaoningZhang/MobileSAM, mobile_sam/modeling/tiny_vit_sam.py.
"""
import json, math, pathlib
import numpy as np, torch, torch.nn.functional as F
from functools import partial
from PIL import Image
from torch import nn
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.common import MLPBlock
from segment_anything.modeling.image_encoder import ImageEncoderViT, add_decomposed_rel_pos

torch.set_grad_enabled(False)
SAMPLES = 96


def drawn(name, shape, seed=11):
    """RandomWeights: SplitMix64 from a state that the name makes."""
    state = seed
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & (2**64 - 1)
    bits = np.uint64(state) + np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform = ((bits ^ (bits >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24) * 2 - 1
    gain = len(shape) == 1 and name.endswith(".weight") or name.endswith("running_var")
    scale = np.float32(0.05) if len(shape) == 1 else np.float32(1) / np.sqrt(np.float32(max(1, math.prod(shape[1:]))))
    return torch.tensor((np.float32(gain) + uniform * scale).reshape(shape))


def vit(size, patch, dim, heads, depth, mlp, window, channels, global_blocks):
    model = ImageEncoderViT(
        size, patch, 3, dim, depth, heads, 1.0, channels, norm_layer=partial(nn.LayerNorm, eps=1e-6), use_abs_pos=True,
        use_rel_pos=True, window_size=window, global_attn_indexes=global_blocks)
    for block in model.blocks:
        block.mlp = MLPBlock(dim, mlp, nn.GELU)
    return model.eval()


class PrunedAttention(nn.Module):
    """The published attention, narrower than its tokens; SlimSAM (https://github.com/czg1225/SlimSAM) prunes it so."""

    def __init__(self, dim, heads, head, window, apart):
        super().__init__()
        self.heads, self.scale = heads, head ** -0.5
        for name in ("q", "k", "v") if apart else ():
            setattr(self, name, nn.Linear(dim, heads * head))
        if not apart:
            self.qkv = nn.Linear(dim, 3 * heads * head)
        self.proj = nn.Linear(heads * head, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * window - 1, head))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * window - 1, head))

    def forward(self, x):
        batch, rows, columns, _ = x.shape
        parts = self.qkv(x).chunk(3, -1) if hasattr(self, "qkv") else (self.q(x), self.k(x), self.v(x))
        q, k, v = (part.view(batch, rows * columns, self.heads, -1).transpose(1, 2).flatten(0, 1) for part in parts)
        scores = add_decomposed_rel_pos(
            q * self.scale @ k.transpose(1, 2), q, self.rel_pos_h, self.rel_pos_w, (rows, columns), (rows, columns))
        x = (scores.softmax(-1) @ v).view(batch, self.heads, rows, columns, -1).permute(0, 2, 3, 1, 4)
        return self.proj(x.flatten(3))


def pruned(blocks, apart):
    """A ViT of 3 heads with blocks of these (head size, hidden features), the second one global."""
    model = vit(45, 5, 21, 3, len(blocks), 1, 4, 32, (1,))
    for index, (block, (head, hidden)) in enumerate(zip(model.blocks, blocks)):
        block.attn = PrunedAttention(21, 3, head, 9 if index == 1 else 4, apart)
        block.mlp = MLPBlock(21, hidden, nn.GELU)
    return model.eval()


class TinyViT(nn.Module):
    def __init__(self, dims, depths, heads, windows, strides, hidden, channels):
        super().__init__()
        self.strides, self.depths, self.heads = strides, depths, heads
        self.shapes = {}

        def norm(name, *shape):
            self.shapes[name + ".c.weight"] = list(shape)
            for part in ("weight", "bias", "running_mean", "running_var"):
                self.shapes[f"{name}.bn.{part}"] = [shape[0]]

        def pair(name, *shape):
            self.shapes[name + ".weight"], self.shapes[name + ".bias"] = list(shape), [shape[0]]

        norm("patch_embed.seq.0", dims[0] // 2, 3, 3, 3)
        norm("patch_embed.seq.2", dims[0], dims[0] // 2, 3, 3)
        for stage, dim in enumerate(dims):
            for block in range(depths[stage]):
                name = f"layers.{stage}.blocks.{block}"
                if stage == 0:
                    norm(name + ".conv1", hidden[0], dim, 1, 1)
                    norm(name + ".conv2", hidden[0], 1, 3, 3)
                    norm(name + ".conv3", dim, hidden[0], 1, 1)
                    continue
                pair(name + ".attn.norm", dim), pair(name + ".attn.qkv", 3 * dim, dim), pair(name + ".attn.proj", dim, dim)
                self.shapes[name + ".attn.attention_biases"] = [heads[stage], windows[stage] ** 2]
                norm(name + ".local_conv", dim, 1, 3, 3)
                pair(name + ".mlp.norm", dim), pair(name + ".mlp.fc1", hidden[stage], dim)
                pair(name + ".mlp.fc2", dim, hidden[stage])
            if stage + 1 < len(dims):
                name, following = f"layers.{stage}.downsample", dims[stage + 1]
                norm(name + ".conv1", following, dim, 1, 1)
                norm(name + ".conv2", following, 1, 3, 3)
                norm(name + ".conv3", following, following, 1, 1)
        self.shapes["neck.0.weight"], self.shapes["neck.2.weight"] = [channels, dims[-1], 1, 1], [channels, channels, 3, 3]
        pair("neck.1", channels), pair("neck.3", channels)
        self.weights = {}

    def load(self, weights):
        self.weights = weights

    def convolve(self, name, x, stride=1, groups=1):
        w = self.weights
        x = F.conv2d(x, w[name + ".c.weight"], None, stride, w[name + ".c.weight"].shape[2] // 2, 1, groups)
        return F.batch_norm(x, *(w[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))

    def normal(self, name, x, eps):
        return F.layer_norm(x, x.shape[-1:], self.weights[name + ".weight"], self.weights[name + ".bias"], eps)

    def linear(self, name, x):
        return F.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def attend(self, name, x):
        """Windows of (1, C, H, W), filled up with zeros before the norm."""
        biases = self.weights[name + ".attention_biases"]
        heads, side = biases.shape[0], math.isqrt(biases.shape[1])
        (_, width, rows, columns), places = x.shape, torch.arange(side * side)
        t = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -columns % side, 0, -rows % side))
        high, wide = t.shape[1] // side, t.shape[2] // side
        t = t.view(high, side, wide, side, width).transpose(1, 2).reshape(-1, side * side, width)
        qkv = self.linear(name + ".qkv", self.normal(name + ".norm", t, 1e-5))
        q, k, v = qkv.view(len(t), side * side, heads, -1).permute(0, 2, 1, 3).split(width // heads, 3)
        distance = (places[:, None] // side - places // side).abs() * side + (places[:, None] % side - places % side).abs()
        scores = q @ k.transpose(-2, -1) * (width // heads) ** -0.5 + biases[:, distance]
        t = self.linear(name + ".proj", (scores.softmax(-1) @ v).transpose(1, 2).reshape(len(t), side * side, width))
        t = t.view(high, wide, side, side, width).transpose(1, 2).reshape(1, high * side, wide * side, width)
        return t[:, :rows, :columns].permute(0, 3, 1, 2)

    def forward(self, x):
        x = self.convolve("patch_embed.seq.2", F.gelu(self.convolve("patch_embed.seq.0", x, 2)), 2)
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                name = f"layers.{stage}.blocks.{block}"
                if stage == 0:
                    y = F.gelu(self.convolve(name + ".conv1", x))
                    y = F.gelu(self.convolve(name + ".conv2", y, 1, y.shape[1]))
                    x = F.gelu(x + self.convolve(name + ".conv3", y))
                    continue
                x = self.convolve(name + ".local_conv", x + self.attend(name + ".attn", x), 1, x.shape[1])
                y = F.gelu(self.linear(name + ".mlp.fc1", self.normal(name + ".mlp.norm", x.permute(0, 2, 3, 1), 1e-5)))
                x = x + self.linear(name + ".mlp.fc2", y).permute(0, 3, 1, 2)
            if stage < len(self.strides):
                name = f"layers.{stage}.downsample"
                y = F.gelu(self.convolve(name + ".conv1", x))
                y = F.gelu(self.convolve(name + ".conv2", y, self.strides[stage], y.shape[1]))
                x = self.convolve(name + ".conv3", y)
        for norm, kernel in (("neck.1", "neck.0"), ("neck.3", "neck.2")):
            weight = self.weights[kernel + ".weight"]
            x = F.conv2d(x, weight, None, 1, weight.shape[2] // 2).permute(0, 2, 3, 1)
            x = self.normal(norm, x, 1e-6).permute(0, 3, 1, 2)
        return x


def decoder(channels, inner, mlp, depth, iou_depth, iou_hidden):
    transformer = TwoWayTransformer(depth=depth, embedding_dim=channels, num_heads=8, mlp_dim=mlp, attention_downsample_rate=1)
    layers = [(layer.cross_attn_token_to_image, layer.cross_attn_image_to_token) for layer in transformer.layers]
    for attention in sum(layers, ()) + (transformer.final_attn_token_to_image,):
        attention.internal_dim = inner
        for part in ("q_proj", "k_proj", "v_proj"):
            setattr(attention, part, nn.Linear(channels, inner))
        attention.out_proj = nn.Linear(inner, channels)
    return MaskDecoder(transformer_dim=channels, transformer=transformer, num_multimask_outputs=3, iou_head_depth=iou_depth,
                       iou_head_hidden_dim=iou_hidden).eval()


def answers(encoder, masks, mask_channels, size, grid, channels):
    prompts = PromptEncoder(channels, (grid, grid), (size, size), mask_channels).eval()
    shapes = {}
    for prefix, module in (("image_encoder.", encoder), ("prompt_encoder.", prompts), ("mask_decoder.", masks)):
        state = module.shapes if isinstance(module, TinyViT) else {k: list(v.shape) for k, v in module.state_dict().items()}
        weights = {name: drawn(prefix + name, shape) for name, shape in state.items()}
        module.load(weights) if isinstance(module, TinyViT) else module.load_state_dict(weights)
        shapes |= {prefix + name: shape for name, shape in state.items()}

    width, height = 61, 47
    index = np.arange(3 * width * height)
    pixels = (index * index * 31 + index // 7).astype(np.uint8).reshape(height, width, 3)
    scale = size / max(width, height)
    columns, rows = max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
    resized = np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.BILINEAR)).astype(np.float32)
    x = (torch.tensor(resized) - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    embedding = encoder(F.pad(x.permute(2, 0, 1), (0, size - columns, 0, size - rows))[None])

    def place(x, y):
        return [x * (columns / width), y * (rows / height)]

    index = np.arange(16 * grid * grid)
    mask = 4 * np.sin(((index % (4 * grid) + index // (4 * grid)).astype(np.float32) / 5))
    cases = [(place(20, 30), 1, None, None), (place(33.5, 8), 0, place(3, 4) + place(50, 40), mask)]
    decoded = []
    for point, label, box, prior in cases:
        sparse, dense = prompts(
            points=(torch.tensor([[point]]).float(), torch.tensor([[label]])),
            boxes=None if box is None else torch.tensor([box]).float(),
            masks=None if prior is None else torch.tensor(prior).float().view(1, 1, 4 * grid, 4 * grid))
        logits, qualities = masks.predict_masks(
            image_embeddings=drawn("embedding", [1, channels, grid, grid], seed=5), image_pe=prompts.get_dense_pe(),
            sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense)
        decoded += [logits.flatten(), qualities.flatten()]

    def sampled(numbers):
        numbers = numbers.flatten()
        return [float(f"{x:.6g}") for x in numbers[:: max(1, len(numbers) // SAMPLES)].tolist()]

    metadata = {}
    if isinstance(encoder, TinyViT):
        metadata = {"kirie.image_size": str(size), "kirie.strides": str(encoder.strides)}
    return dict(shapes=shapes, metadata=metadata, embedding=sampled(embedding), decoded=sampled(torch.cat(decoded)))


# Last tiles of 17 and 49 image tokens, heads of 5, 14 and 513, hidden features of every kind, and masks' channels below 4.
MODELS = {
    "vit": answers(vit(45, 5, 20, 4, 2, 27, 4, 32, (1,)), decoder(32, 112, 13, 3, 1, 9), 11, 45, 9, 32),
    "vit_wide_head": answers(vit(36, 9, 513, 1, 1, 33, 3, 32, ()), decoder(32, 16, 55, 1, 4, 21), 4, 36, 4, 32),
    "vit_pruned": answers(pruned([(4, 27), (9, 13), (5, 40)], False), decoder(32, 16, 20, 1, 1, 9), 4, 45, 9, 32),
    "vit_pruned_apart": answers(pruned([(6, 19), (2, 50), (7, 3)], True), decoder(32, 16, 20, 1, 1, 9), 4, 45, 9, 32),
    "tiny": answers(TinyViT([10, 15, 28], [1, 2, 1], [0, 3, 2], [0, 6, 3], [1, 1], [17, 29, 31], 32),
                    decoder(32, 48, 70, 2, 3, 5), 6, 100, 25, 32),
    "tiny_wide_head": answers(TinyViT([8, 513], [1, 1], [0, 1], [0, 4], [2], [12, 40], 64),
                              decoder(64, 80, 101, 4, 2, 70), 21, 40, 5, 64),
}
path = pathlib.Path(__file__).parent / "odd_geometries.json"
path.write_text(json.dumps(MODELS, separators=(",", ":")) + "\n")
print(path.stat().st_size, "bytes")
