#!/usr/bin/env python3
"""Makes the golden case hq/ beside this file with transformers' SamHQModel.

    python make_hq.py

Needs torch, transformers 5, safetensors, pillow and numpy. Builds a small SAM-HQ with seeded random weights, keeps it as
transformers saves it, and what it makes of a small picture: the embedding, what its masks are fused with, and each prompt's logits
and IoU.
"""
import json, pathlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from transformers import SamHQConfig, SamHQModel

from make_sam2 import picture

OUT = pathlib.Path(__file__).resolve().parent / "hq"
SIZE, WIDTH, HEIGHT, SEED, CHANNELS, DIM = 128, 113, 71, 9, 32, 24
PROMPTS = [
    {"points": [[50, 30]], "labels": [1]},
    {"points": [[30, 50.5], [75.25, 22]], "labels": [0, 1], "mask_from": 0},
]


def decode(sam, embedding, fused, sparse, dense):
    """All four masks with the correction, and their IoU, as SAM-HQ's own code computes them (MaskDecoderHQ.forward).

    Not by SamHQMaskDecoder.forward: up to transformers 5.24 it goes on with the image's features as they were before the
    transformer, their rows and columns swapped.
    """
    decoder = sam.mask_decoder
    output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, decoder.hq_token.weight])
    tokens = torch.cat([output[None, None], sparse], 2)
    queries, keys = decoder.transformer(
        point_embeddings=tokens, image_embeddings=embedding + dense,
        image_positional_embeddings=sam.get_image_wide_positional_embeddings(), attention_similarity=None)
    image = keys[:, 0].transpose(1, 2).reshape(embedding.shape)
    fine = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(image)))
    fine = decoder.activation(decoder.upscale_conv2(fine))
    high = decoder.mask_conv2(decoder.activation(decoder.mask_norm(decoder.mask_conv1(fine)))) + fused
    weights = [mlp(queries[:, :, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
    masks = torch.einsum("mc,chw->mhw", torch.cat(weights)[:, 0], fine[0])
    correction = torch.einsum("c,chw->hw", decoder.hq_mask_mlp(queries[:, :, 5])[0, 0], high[0])
    return (masks + correction)[None], decoder.iou_prediction_head(queries[:, :, 0])[0]


def main():
    OUT.mkdir(exist_ok=True)
    config = SamHQConfig(
        vision_config=dict(
            hidden_size=DIM, output_channels=CHANNELS, num_hidden_layers=3, num_attention_heads=3, image_size=SIZE, patch_size=16,
            window_size=3, global_attn_indexes=[1, 2], mlp_dim=40, num_pos_feats=CHANNELS // 2),
        prompt_encoder_config=dict(hidden_size=CHANNELS, image_size=SIZE, mask_input_channels=8),
        mask_decoder_config=dict(hidden_size=CHANNELS, mlp_dim=40, iou_head_hidden_dim=24, vit_dim=DIM))
    torch.manual_seed(SEED)
    sam = SamHQModel(config).eval().requires_grad_(False)
    for name, weight in sam.state_dict().items():
        if weight.dim() == 1:
            weight.normal_(1 if "norm" in name and name.endswith("weight") else 0, 0.15)
        elif "pos" in name:
            weight.normal_(0, 0.3)
        else:
            transposed = "conv1" in name and ("upscale" in name or "compress" in name or "encoder_" in name)
            fan = weight.shape[0] if transposed else weight[0].numel()
            weight.normal_(0, 1 if "embed.weight" in name or "token" in name.split(".")[1] else fan ** -0.5)
        weight.copy_(weight.half().float())
    sam.shared_image_embedding.positional_embedding.copy_(sam.prompt_encoder.shared_embedding.positional_embedding)
    config.save_pretrained(OUT)
    save_file({k: v.half() for k, v in sam.state_dict().items()}, OUT / "sam.safetensors")

    image = picture(WIDTH, HEIGHT, SEED)
    image.save(OUT / "picture.png", optimize=True)
    scale = SIZE / max(WIDTH, HEIGHT)
    width, height = int(WIDTH * scale + 0.5), int(HEIGHT * scale + 0.5)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
    pixels = (pixels - np.array([123.675, 116.28, 103.53], np.float32)) / np.array([58.395, 57.12, 57.375], np.float32)
    pixels = F.pad(torch.from_numpy(pixels).permute(2, 0, 1)[None], (0, SIZE - width, 0, SIZE - height))
    embedding, early = sam.get_image_embeddings(pixels)
    decoder = sam.mask_decoder
    fused = decoder.encoder_conv2(decoder.activation(decoder.encoder_norm(decoder.encoder_conv1(embedding))))
    early_map = early[0].permute(0, 3, 1, 2)
    fused = fused + decoder.compress_vit_conv2(
        decoder.activation(decoder.compress_vit_norm(decoder.compress_vit_conv1(early_map))))
    kept = {"image_embedding": embedding, "high_quality": fused}
    for index, prompt in enumerate(PROMPTS):
        arguments = {
            "input_points": torch.tensor([[prompt["points"]]]) * torch.tensor([width / WIDTH, height / HEIGHT]),
            "input_labels": torch.tensor([[prompt["labels"]]])}
        if "mask_from" in prompt:
            mask = kept[f"p{prompt['mask_from']}.low_res_logits_all"][:, :1]
            kept[f"p{index}.mask_input"] = mask
            arguments["input_masks"] = mask
        sparse, dense = sam.prompt_encoder(
            arguments["input_points"], arguments["input_labels"], None, arguments.get("input_masks"))
        kept[f"p{index}.low_res_logits_all"], kept[f"p{index}.iou_all"] = decode(sam, embedding, fused, sparse, dense)
    save_file({k: v.float().contiguous().clone() for k, v in kept.items()}, OUT / "case.safetensors")
    (OUT / "case.json").write_text(json.dumps({"image": "picture.png", "width": WIDTH, "height": HEIGHT, "prompts": PROMPTS}))
    for path in sorted(OUT.iterdir()):
        print(path.name, path.stat().st_size)
    for name, tensor in kept.items():
        print(name, tuple(tensor.shape), float(tensor.abs().max()), float(tensor.std(correction=0)))


main()
