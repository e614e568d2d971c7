#!/usr/bin/env python3
"""Makes the golden cases edgetam/ and edgetam_wide/ beside this file with transformers' EdgeTamModel.

    python make_edgetam.py

Needs torch, transformers 5, timm (whose RepViT transformers takes), safetensors, pillow and numpy. What is kept is what
make_sam2.py keeps: the first model as transformers saves it, the second under the names of Meta's package.
"""
import torch
from safetensors.torch import save_file
from transformers import EdgeTamConfig, EdgeTamModel

import make_sam2

CASES = [
    dict(name="edgetam", seed=43, size=96, width=88, height=131, dims=[16, 20, 28, 40], blocks=[2, 1, 3, 2], channels=32,
         threshold=0.95, layout="transformers"),
    dict(name="edgetam_wide", seed=44, size=160, width=143, height=70, dims=[8, 24, 16, 36], blocks=[1, 2, 2, 1], channels=64,
         threshold=0.98, layout="edgetam"),
]


def model(case):
    size, dims, channels = case["size"], case["dims"], case["channels"]
    config = EdgeTamConfig(
        vision_config=dict(
            backbone_config=dict(
                model_type="timm_wrapper", architecture="repvit_m1", num_classes=2,
                model_args=dict(in_chans=3, features_only=True, out_indices=[0, 1, 2, 3], embed_dim=dims, depth=case["blocks"])),
            backbone_channel_list=dims[::-1], fpn_hidden_size=channels,
            backbone_feature_sizes=[[size // s, size // s] for s in (4, 8, 16)]),
        prompt_encoder_config=dict(hidden_size=channels, image_size=size, mask_input_channels=8),
        mask_decoder_config=dict(hidden_size=channels, mlp_dim=40, iou_head_hidden_dim=24, iou_head_depth=3,
                                 dynamic_multimask_stability_thresh=case["threshold"]))
    torch.manual_seed(case["seed"])
    sam = EdgeTamModel(config).eval()
    for name, weight in sam.state_dict().items():
        if not weight.is_floating_point():
            continue
        if name.endswith("running_var"):
            weight.uniform_(0.5, 1.5)
        elif weight.dim() <= 1:
            weight.normal_(1 if ("norm" in name or "bn" in name) and name.endswith("weight") else 0, 0.15)
        elif weight.dim() == 2 or weight.dim() == 4:
            fan = weight[0].numel() if "embed" not in name or "mask" in name else 1
            weight.normal_(0, fan ** -0.5)
        else:
            weight.normal_(0, 0.3)
        if name.endswith("bn.weight") and ("token_mixer" in name or ".conv2." in name):
            # What is added to its input over and over stays as large as that.
            weight.mul_(0.3)
        weight.copy_(weight.half().float())
    sam.shared_image_embedding.positional_embedding.copy_(sam.prompt_encoder.shared_embedding.positional_embedding)
    return sam, config


def save(sam, config, case, out):
    if case["layout"] == "transformers":
        return make_sam2.save(sam, config, case, out)
    tensors = {}
    for name, weight in sam.state_dict().items():
        new = make_sam2.published(name)
        if name == "prompt_encoder.point_embed.weight":
            tensors |= {f"sam_prompt_encoder.point_embeddings.{i}.weight": weight[i : i + 1].clone() for i in range(4)}
        elif name.startswith("vision_encoder.backbone.timm_model."):
            tensors["image_encoder.trunk.body." + name.split(".", 3)[3]] = weight.clone()
        elif new:
            tensors[new] = weight.clone()
    # What a video needs and a picture does not.
    tensors |= {"spatial_perceiver.latents": torch.zeros(2, 8), "obj_ptr_proj.layers.0.bias": torch.zeros(8)}
    save_file({k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}, out / "sam.safetensors",
              {"kirie.image_size": str(case["size"])})


torch.set_grad_enabled(False)
for case in CASES:
    out = make_sam2.HERE / case["name"]
    out.mkdir(exist_ok=True)
    sam, config = model(case)
    save(sam, config, case, out)
    make_sam2.keep(case, sam, out)
