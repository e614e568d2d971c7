#!/usr/bin/env python3
"""Makes the golden case hq_light/ beside this file with the published code of SAM-HQ's light model.

    python make_hq_light.py

Needs segment-anything-hq 0.3, torch, torchvision, timm, safetensors, pillow and numpy. Builds a small TinyViT under SAM-HQ's mask
decoder with seeded random weights, keeps them under the published names, and what it makes of a small picture: the embedding,
what its masks are fused with, and each prompt's logits and IoU.
"""
import importlib, json, pathlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

try:
    importlib.import_module("torchvision")
except RuntimeError:  # Beside a CPU build of PyTorch its compiled part is missing, of which nothing is needed here.
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from segment_anything_hq.modeling import MaskDecoderHQ, PromptEncoder, TinyViT, TwoWayTransformer
from segment_anything_hq.modeling.common import LayerNorm2d

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "hq_light"
SIZE, WIDTH, HEIGHT, SEED, CHANNELS, DIMS = 128, 83, 117, 17, 32, [8, 12, 16, 24]
GRID = SIZE // 16
PROMPTS = [
    {"points": [[50, 30]], "labels": [1]},
    {"points": [[30, 90.5], [75.25, 22]], "labels": [0, 1], "mask_from": 0},
    {"box": [12.5, 20, 70, 101]},
]


def picture(width, height, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([127 + 90 * np.sin(x / 17 + c) * np.cos(y / 29 - c) for c in range(3)], -1)
    return Image.fromarray(np.clip(base + rng.normal(0, 2, base.shape), 0, 255).astype(np.uint8))


class Light(torch.nn.Module):
    """The three parts under the names of the published Sam, which has sizes of its own written into it."""

    def __init__(self):
        super().__init__()
        encoder = TinyViT(
            img_size=SIZE, num_classes=0, embed_dims=DIMS, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 3],
            window_sizes=[7, 4, 3, 5], drop_path_rate=0)
        # The published code knows by the width of its stages which halving is none.
        encoder.layers[2].downsample.conv2.c.stride = (1, 1)
        encoder.neck = torch.nn.Sequential(
            torch.nn.Conv2d(DIMS[3], CHANNELS, 1, bias=False), LayerNorm2d(CHANNELS),
            torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False), LayerNorm2d(CHANNELS))
        self.image_encoder = encoder
        self.prompt_encoder = PromptEncoder(CHANNELS, (GRID, GRID), (SIZE, SIZE), 8)
        self.mask_decoder = MaskDecoderHQ(
            transformer_dim=CHANNELS, transformer=TwoWayTransformer(2, CHANNELS, 8, 40), iou_head_depth=3,
            iou_head_hidden_dim=24, vit_dim=DIMS[2])

    def encode(self, pixels):
        """The embedding and the early features, as TinyViT.forward_features has them, which says 64 for the grid."""
        encoder = self.image_encoder
        x, early = encoder.layers[0](encoder.patch_embed(pixels)), []
        for index in range(1, len(encoder.layers)):
            x = encoder.layers[index](x)
            if index == 1:
                early.append(x.view(1, GRID, GRID, -1))
        return encoder.neck(x.view(1, GRID, GRID, -1).permute(0, 3, 1, 2)), early


def draw(sam):
    torch.manual_seed(SEED)
    for name, weight in sam.state_dict().items():
        if not weight.is_floating_point():
            continue
        if name.endswith("running_var"):
            weight.uniform_(0.5, 1.5)
        elif name.endswith("attention_biases") or "gaussian" in name:
            weight.normal_(0, 0.5)
        elif weight.dim() == 1:
            is_scale = name.endswith("weight")  # of a norm: nothing else has a weight of one dimension
            weight.normal_(1 if is_scale else 0, 0.15)
        elif "token" in name.split(".")[1] or name.endswith("embed.weight") or "point_embeddings" in name:
            weight.normal_(0, 1)
        else:
            transposed = weight.dim() == 4 and any(
                part in name for part in ("output_upscaling", "compress_vit_feat", "embedding_encoder"))
            weight.normal_(0, (weight.shape[0] if transposed else weight[0].numel()) ** -0.5)
        weight.copy_(weight.half().float())


def main():
    OUT.mkdir(exist_ok=True)
    sam = Light().requires_grad_(False)
    draw(sam)
    sam.eval()
    weights = {k: v for k, v in sam.state_dict().items() if "attention_bias_idxs" not in k}
    save_file({k: v.half().contiguous() if v.is_floating_point() else v for k, v in weights.items()}, OUT / "sam.safetensors",
              {"kirie.image_size": str(SIZE), "kirie.strides": "[2, 2, 1]"})

    image = picture(WIDTH, HEIGHT, SEED)
    image.save(OUT / "picture.png", optimize=True)
    scale = SIZE / max(WIDTH, HEIGHT)
    width, height = int(WIDTH * scale + 0.5), int(HEIGHT * scale + 0.5)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
    pixels = (pixels - np.array([123.675, 116.28, 103.53], np.float32)) / np.array([58.395, 57.12, 57.375], np.float32)
    pixels = F.pad(torch.from_numpy(pixels).permute(2, 0, 1)[None], (0, SIZE - width, 0, SIZE - height))
    embedding, early = sam.encode(pixels)
    decoder = sam.mask_decoder
    # As MaskDecoderHQ.forward begins.
    fused = decoder.embedding_encoder(embedding) + decoder.compress_vit_feat(early[0].permute(0, 3, 1, 2))
    kept = {"image_embedding": embedding, "high_quality": fused}
    ratio = torch.tensor([width / WIDTH, height / HEIGHT])
    for index, prompt in enumerate(PROMPTS):
        points = boxes = mask = None
        if "points" in prompt:
            points = torch.tensor([prompt["points"]]) * ratio, torch.tensor([prompt["labels"]])
        if "box" in prompt:
            boxes = torch.tensor([prompt["box"]]) * torch.cat([ratio, ratio])
        if "mask_from" in prompt:
            mask = kept[f"p{index}.mask_input"] = kept[f"p{prompt['mask_from']}.low_res_logits_all"][:, :1]
        sparse, dense = sam.prompt_encoder(points, boxes, mask)
        masks, iou = decoder.predict_masks(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, fused)
        # Each of the four with the correction, as forward adds it to the one that it chooses.
        kept[f"p{index}.low_res_logits_all"], kept[f"p{index}.iou_all"] = masks[:, :4] + masks[:, 4:], iou
    save_file({k: v.float().contiguous().clone() for k, v in kept.items()}, OUT / "case.safetensors")
    (OUT / "case.json").write_text(json.dumps({"image": "picture.png", "width": WIDTH, "height": HEIGHT, "prompts": PROMPTS}))
    for path in sorted(OUT.iterdir()):
        print(path.name, path.stat().st_size)
    for name, tensor in kept.items():
        print(name, tuple(tensor.shape), float(tensor.abs().max()), float(tensor.std(correction=0)))


main()
