#!/usr/bin/env python3
"""Makes the golden case text/ beside this file with the published PyTorch code: a text as a token of the prompt encoder.

    python make_text.py PATH/TO/reference.py

Needs torch, torchvision, segment-anything, safetensors, pillow and numpy. Meta never released the text projection of the paper
(Kirillov et al. 2023, section 4 and appendix D.5), so this is it in the words of the paper: the embedding of a text by CLIP, of
length 1, goes through a linear layer and is one more sparse token of the published prompt encoder. The model is that of nano/, the
projection is drawn from a seed.
"""
import json, pathlib, runpy, sys
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
WIDTH, SEED = 48, 21
PROMPTS = [{}, {"points": [[120, 80], [40.5, 150]], "labels": [1, 0]}, {"box": [50, 40, 210, 170]}]

out = HERE / "text"
out.mkdir(exist_ok=True)
reference = runpy.run_path(sys.argv[1])
geometry = reference["GEOMETRIES"]["nano"]
code = reference["package"](geometry)

sam = reference["build"](geometry)
sam.load_state_dict(torch.load(HERE / "nano" / "sam.pth", weights_only=True))
sam = sam.eval().requires_grad_(False)
torch.manual_seed(SEED)
channels = sam.prompt_encoder.embed_dim
projection = torch.nn.Linear(WIDTH, channels).requires_grad_(False)
projection.weight.normal_(0, 1)
projection.bias.normal_(0, 0.5)
text = torch.nn.functional.normalize(torch.randn(1, WIDTH))

picture = np.array(Image.open(HERE / "nano" / "landscape.jpg").convert("RGB"))
predictor = code.SamPredictor(sam)
predictor.set_image(picture)
tensors = {
    "image_embedding": predictor.features, "text_embedding": text, "prompt_encoder.text_proj.weight": projection.weight,
    "prompt_encoder.text_proj.bias": projection.bias,
}
size = picture.shape[:2]
for index, prompt in enumerate(PROMPTS):
    points = boxes = None
    if "points" in prompt:
        at = torch.tensor(predictor.transform.apply_coords(np.array(prompt["points"], float), size), dtype=torch.float32)
        points = (at[None], torch.tensor(prompt["labels"])[None])
    if "box" in prompt:
        boxes = torch.tensor(predictor.transform.apply_boxes(np.array([prompt["box"]], float), size), dtype=torch.float32)
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=None)
    sparse = torch.cat([sparse, projection(text)[None]], dim=1)
    logits, iou = sam.mask_decoder.predict_masks(
        image_embeddings=predictor.features, image_pe=sam.prompt_encoder.get_dense_pe(), sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense)
    tensors |= {f"p{index}.low_res_logits_all": logits, f"p{index}.iou_all": iou}
save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "case.safetensors")
description = {"image": "landscape.jpg", "width": picture.shape[1], "height": picture.shape[0], "prompts": PROMPTS}
(out / "case.json").write_text(json.dumps(description))
