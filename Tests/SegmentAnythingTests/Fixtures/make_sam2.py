#!/usr/bin/env python3
"""Makes the golden cases hiera/ and hiera_wide/ beside this file with transformers' Sam2Model.

    python make_sam2.py

Needs torch, transformers 5, safetensors, pillow and numpy. Builds small SAM 2 models with seeded random weights, the first kept
as transformers saves it (with its config.json), the second under the names of Meta's package with Kirie's metadata, and keeps
what each makes of a small picture: rows of the resized picture, the three feature maps, and each prompt's logits, IoU and object
score: all four masks, and what a caller gets who asks for one.
"""
import json, pathlib, re
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from transformers import Sam2Config, Sam2Model

HERE = pathlib.Path(__file__).resolve().parent
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
CASES = [
    dict(name="hiera", seed=21, size=128, width=150, height=97, dims=[8, 12, 16, 24], heads=[1, 2, 2, 3], blocks=[1, 2, 3, 2],
         windows=[8, 4, 6, 3], whole=[4], positions=[3, 3], channels=32, threshold=0.94, layout="transformers"),
    dict(name="hiera_wide", seed=34, size=160, width=61, height=84, dims=[6, 12, 20, 24], heads=[2, 3, 4, 3], blocks=[2, 1, 4, 1],
         windows=[4, 4, 14, 5], whole=[5], positions=[5, 4], channels=64, threshold=0.98, layout="sam2"),
]
PROMPTS = [
    {"points": [[0.4, 0.45]], "labels": [1]},
    {"box": [0.15, 0.1, 0.8, 0.75]},
    {"points": [[0.3, 0.7], [0.66, 0.31]], "labels": [0, 1], "mask_from": 0},
    {"points": [[0.5, 0.5]], "labels": [1], "box": [0.2, 0.3, 0.9, 0.95], "mask_from": 1},
]


def picture(width, height, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([127 + 90 * np.sin(x / 17 + c) * np.cos(y / 29 - c) for c in range(3)], -1)
    image = Image.fromarray(np.clip(base + rng.normal(0, 1, base.shape), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(8, 30)
        draw.ellipse([cx - r, cy - r * 0.7, cx + r, cy + r * 0.7], fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return image


def model(case):
    size, dims, channels = case["size"], case["dims"], case["channels"]
    config = Sam2Config(
        vision_config=dict(
            backbone_config=dict(
                model_type="sam2_hiera_det_model", hidden_size=dims[0], num_attention_heads=case["heads"][0],
                image_size=[size, size], window_positional_embedding_background_size=case["positions"],
                blocks_per_stage=case["blocks"], embed_dim_per_stage=dims, num_attention_heads_per_stage=case["heads"],
                window_size_per_stage=case["windows"], global_attention_blocks=case["whole"], mlp_ratio=2.0),
            backbone_channel_list=dims[::-1], fpn_hidden_size=channels,
            backbone_feature_sizes=[[size // s, size // s] for s in (4, 8, 16)]),
        prompt_encoder_config=dict(hidden_size=channels, image_size=size, mask_input_channels=8),
        mask_decoder_config=dict(hidden_size=channels, mlp_dim=40, iou_head_hidden_dim=24, iou_head_depth=3,
                                 dynamic_multimask_stability_thresh=case["threshold"]))
    torch.manual_seed(case["seed"])
    sam = Sam2Model(config).eval().requires_grad_(False)
    for name, weight in list(sam.named_parameters()) + list(sam.named_buffers()):
        if weight.dim() == 1:
            weight.normal_(1 if "norm" in name and name.endswith("weight") else 0, 0.15)
        elif weight.dim() == 2 or weight.dim() == 4 and "pos_embed" not in name:
            fan = weight[0].numel() if "embed" not in name or "patch" in name else 1
            weight.normal_(0, fan ** -0.5)
        else:
            weight.normal_(0, 0.3)
    # Numbers that half the bytes hold.
    for weight in sam.state_dict().values():
        weight.copy_(weight.half().float())
    sam.shared_image_embedding.positional_embedding.copy_(sam.prompt_encoder.shared_embedding.positional_embedding)
    return sam, config


def published(name):
    """The name in Meta's package; the kinds of points are cut apart by the caller."""
    fixed = {
        "no_memory_embedding": "no_mem_embed",
        "shared_image_embedding.positional_embedding": "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "prompt_encoder.shared_embedding.positional_embedding": None,
    }
    if name in fixed:
        return fixed[name]
    for old, new in [
        (r"^vision_encoder\.backbone\.", "image_encoder.trunk."), (r"patch_embed\.projection", "patch_embed.proj"),
        (r"^vision_encoder\.neck\.convs\.(\d)\.", r"image_encoder.neck.convs.\1.conv."),
        (r"^prompt_encoder\.mask_embed\.conv(\d)", lambda m: f"prompt_encoder.mask_downscaling.{3 * int(m[1]) - 3}"),
        (r"^prompt_encoder\.mask_embed\.layer_norm(\d)", lambda m: f"prompt_encoder.mask_downscaling.{3 * int(m[1]) - 2}"),
        (r"upscale_conv1", "output_upscaling.0"), (r"upscale_layer_norm", "output_upscaling.1"),
        (r"upscale_conv2", "output_upscaling.3"), (r"layer_norm_final_attn", "norm_final_attn"), (r"\.layer_norm(\d)", r".norm\1"),
        (r"\.o_proj", ".out_proj"), (r"\.layers\.0\.(weight|bias)$", r".layers.1.\1"), (r"\.proj_in", ".layers.0"),
        (r"\.mlp\.proj_out", ".mlp.layers.1"), (r"\.proj_out", ".layers.2"),
        (r"^(prompt_encoder|mask_decoder)\.", r"sam_\1."),
    ]:
        name = re.sub(old, new, name)
    return name


def save(sam, config, case, out):
    if case["layout"] == "transformers":
        config.save_pretrained(out)
        save_file({k: v.half() for k, v in sam.state_dict().items()}, out / "sam.safetensors")
        return
    tensors = {}
    for name, weight in sam.state_dict().items():
        if name == "prompt_encoder.point_embed.weight":
            tensors |= {f"sam_prompt_encoder.point_embeddings.{i}.weight": weight[i : i + 1].clone() for i in range(4)}
        elif published(name):
            tensors[published(name)] = weight.clone()
    # What a video needs and a picture does not.
    tensors |= {"maskmem_tpos_enc": torch.zeros(7, 1, 1, 8), "memory_encoder.out_proj.weight": torch.zeros(8, 8, 1, 1)}
    save_file({k: v.half() for k, v in tensors.items()}, out / "sam.safetensors", {
        "kirie.image_size": str(case["size"]), "kirie.windows": json.dumps(case["windows"]),
        "kirie.global_blocks": json.dumps(case["whole"]), "kirie.heads": json.dumps(case["heads"])})


def keep(case, sam, out):
    """Keeps what a model makes of a small picture."""
    size, width, height = case["size"], case["width"], case["height"]
    image = picture(width, height, case["seed"])
    image.save(out / "picture.png", optimize=True)

    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    pixels = (pixels - MEAN.view(1, 3, 1, 1)) / STD.view(1, 3, 1, 1)
    maps = sam.get_image_embeddings(pixels)
    kept = {"input_rows": pixels[0, :, ::16], "skips.1": maps[0], "skips.0": maps[1], "image_embedding": maps[2]}
    text, scores = [], []
    for index, prompt in enumerate(PROMPTS):
        arguments = {}
        if "points" in prompt:
            points = [[round(x * width, 1), round(y * height, 1)] for x, y in prompt["points"]]
            arguments["input_points"] = torch.tensor([[points]]) * torch.tensor([size / width, size / height])
            arguments["input_labels"] = torch.tensor([[prompt["labels"]]])
        if "box" in prompt:
            box = [round(v * s, 1) for v, s in zip(prompt["box"], [width, height] * 2)]
            arguments["input_boxes"] = torch.tensor([[box]]) * torch.tensor([size / width, size / height] * 2)
        if "mask_from" in prompt:
            mask = kept[f"p{prompt['mask_from']}.low_res_logits_all"][:, :1]
            kept[f"p{index}.mask_input"] = mask
            arguments["input_masks"] = mask
        def ask(several, dynamic):
            sam.mask_decoder.dynamic_multimask_via_stability = dynamic
            return sam(image_embeddings=maps, multimask_output=several, **arguments)
        first, others, one = ask(False, False), ask(True, False), ask(False, True)
        kept[f"p{index}.low_res_logits_all"] = torch.cat([first.pred_masks[0], others.pred_masks[0]], 1)
        kept[f"p{index}.iou_all"] = torch.cat([first.iou_scores[0], others.iou_scores[0]], 1)
        kept[f"p{index}.object_score"] = one.object_score_logits[0]
        # Which of the four one mask is.
        everyone = kept[f"p{index}.low_res_logits_all"][0]
        chosen = [i for i in range(4) if torch.equal(everyone[i], one.pred_masks[0, 0, 0])]
        text.append({k: v for k, v in {
            "points": points if "points" in prompt else None, "labels": prompt.get("labels"),
            "box": box if "box" in prompt else None, "mask_from": prompt.get("mask_from"), "chosen": chosen[0]}.items()
            if v is not None})
    save_file({k: v.float().contiguous().clone() for k, v in kept.items()}, out / "case.safetensors")
    (out / "case.json").write_text(json.dumps({"image": "picture.png", "width": width, "height": height, "prompts": text}))
    for path in sorted(out.iterdir()):
        print(path.name, path.stat().st_size)
    for name, tensor in kept.items():
        print(name, tuple(tensor.shape), float(tensor.abs().max()), float(tensor.std(correction=0)))
    print([prompt["chosen"] for prompt in text])


def main():
    for case in CASES:
        out = HERE / case["name"]
        out.mkdir(exist_ok=True)
        sam, config = model(case)
        save(sam, config, case, out)
        keep(case, sam, out)


if __name__ == "__main__":
    main()
