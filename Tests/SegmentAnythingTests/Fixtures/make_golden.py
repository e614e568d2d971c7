#!/usr/bin/env python3
"""Makes the golden cases beside this file with the published PyTorch code.

    python make_golden.py PATH/TO/sam_reference.py

Needs torch, torchvision, segment-anything, safetensors, pillow and numpy. Draws two small pictures of odd sizes, has
the reference build a SAM with seeded random weights for each and run the published predictor on it, and keeps what
the tests need: the weights, the resized picture as levels 0 ... 255, the embedding, and each prompt's logits and IoU.
"""
import json, pathlib, subprocess, sys, tempfile
import numpy as np
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
CASES = [  # name, geometry, seed, width, height, file name of the picture
    ("nano", "nano", 7, 301, 227, "landscape.jpg"),
    ("wide", "wide", 11, 173, 260, "portrait.png"),
]
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def picture(width, height, seed):
    """Soft colours with a few hard-edged shapes: gradients for the resize, edges for the masks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([127 + 90 * np.sin(x / 23 + c) * np.cos(y / 31 - c) for c in range(3)], -1)
    image = Image.fromarray(np.clip(base + rng.normal(0, 6, base.shape), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(12, 60)
        draw.ellipse([cx - r, cy - r * 0.7, cx + r, cy + r * 0.7], fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return image


for name, geometry, seed, width, height, file in CASES:
    out = HERE / name
    out.mkdir(exist_ok=True)
    image = picture(width, height, seed)
    image.save(out / file, quality=90)
    with tempfile.TemporaryDirectory() as work:
        subprocess.run([sys.executable, sys.argv[1], "--geometry", geometry, "--seed", str(seed),
                        "--image", str(out / file), "--out", work, "--small"], check=True)
        work = pathlib.Path(work)
        case = load_file(work / "case.safetensors")
        side = case["input_image"].shape[-1]
        scale = side / max(width, height)
        h, w = int(height * scale + 0.5), int(width * scale + 0.5)
        levels = case["input_image"][0, :, :h, :w].transpose(1, 2, 0) * STD + MEAN
        kept = {"input_levels": np.rint(levels).astype(np.float16), "image_embedding": case["image_embedding"]}
        kept |= {k: v for k, v in case.items() if k.endswith(("low_res_logits_all", "iou_all", "mask_input"))}
        save_file({k: np.ascontiguousarray(v) for k, v in kept.items()}, out / "case.safetensors")
        weights = "sam.pth" if name == "nano" else "sam.safetensors"
        (out / weights).write_bytes((work / weights).read_bytes())
        (out / "case.json").write_text(json.dumps(json.loads((work / "case.json").read_text())))
