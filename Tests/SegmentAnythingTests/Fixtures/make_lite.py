#!/usr/bin/env python3
"""Makes the golden case lite/ beside this file with the training program's own model and export.

    PYTHONPATH=PATH/TO/weights/train python make_lite.py

Needs torch, safetensors, pillow and numpy. Draws a small picture, builds a small EfficientNet-Lite model with seeded random
weights (batch normalisations, skips and biases too), exports it as a trained one is exported, and keeps the embedding, the
skips, and each prompt's logits and IoU.
"""
import json, pathlib
import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

import efficientnet_lite, export, model
from predictor import Predictor

OUT = pathlib.Path(__file__).resolve().parent / "lite"
OUT.mkdir(exist_ok=True)
SIZE, WIDTH, HEIGHT = 160, 149, 113
STAGES = (
    (3, 1, 1, 8, 1), (3, 2, 2, 12, 2), (5, 2, 2, 12, 2), (3, 2, 2, 16, 2), (5, 2, 1, 16, 2), (5, 2, 2, 20, 1), (3, 2, 1, 24, 1),
)
PROMPTS = [
    {"points": [[60, 50]], "labels": [1]},
    {"box": [20.5, 12, 121, 97]},
    {"points": [[30, 80], [101.25, 33]], "labels": [0, 1], "mask_from": 0},
]

torch.manual_seed(5)
torch.set_num_threads(1)
efficientnet_lite.STEM = 8
sam = model.Sam(model.Shape(STAGES, neck=16, decoder_width=32, decoder_hidden=24)).eval().requires_grad_(False)
for module in sam.modules():
    if isinstance(module, efficientnet_lite.FrozenNorm):
        module.weight.uniform_(0.7, 1.4)
        module.bias.normal_(0, 0.3)
        module.running_mean.normal_(0, 0.2)
        module.running_var.uniform_(0.3, 1)
for skip in sam.image_encoder.skips:
    skip.weight.normal_(0, 0.3)
    skip.bias.normal_(0, 0.2)
sam = export.rounded(sam)
save_file(export.tensors(sam), OUT / "sam.safetensors", export.metadata(sam, SIZE, "lite"))

y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
picture = np.stack([127 + 90 * np.sin(x / 23 + c) * np.cos(y / 31 - c) for c in range(3)], -1)
picture = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
draw = ImageDraw.Draw(picture)
for corners, colour in (((40, 30, 90, 80), (200, 40, 30)), ((80, 20, 130, 50), (20, 90, 220)), ((5, 70, 50, 110), (240, 220, 90))):
    draw.ellipse(corners, fill=colour)
picture.save(OUT / "picture.png", optimize=True)

predictor = Predictor(sam, SIZE)
predictor.look(np.asarray(picture))
case = {"image_embedding": predictor.features.embeddings}
case |= {f"skips.{i}": skip for i, skip in enumerate(predictor.features.skips)}
for index, prompt in enumerate(PROMPTS):
    box = prompt.get("box")
    points = prompt.get("points", []) + ([box[:2], box[2:]] if box else [])
    labels = prompt.get("labels", []) + ([2, 3] if box else [])
    mask = None
    if "mask_from" in prompt:
        mask = case[f"p{prompt['mask_from']}.low_res_logits_all"][:, :1]
        case[f"p{index}.mask_input"] = mask
    logits, iou = predictor.predict([points], [labels], mask)
    case |= {f"p{index}.low_res_logits_all": logits, f"p{index}.iou_all": iou}
save_file({k: v.float().contiguous().clone() for k, v in case.items()}, OUT / "case.safetensors")
text = {"image": "picture.png", "width": WIDTH, "height": HEIGHT, "prompts": PROMPTS}
(OUT / "case.json").write_text(json.dumps(text))
for path in sorted(OUT.iterdir()):
    print(path.name, path.stat().st_size)
for name, tensor in case.items():
    print(name, tuple(tensor.shape), float(tensor.abs().max()), float(tensor.std()))
