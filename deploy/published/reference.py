#!/usr/bin/env python3
"""Runs the published PyTorch code, with weights drawn from a seed, on a picture, and keeps its tensors.

    reference.py --geometry vit_b --seed 7 --image photo.jpg --out DIR

ViTs come from the package segment-anything, MobileSAM's TinyViT from mobile_sam, SAM 2.1 and EdgeTAM from
transformers (segment_anything_2.py beside this file says what DIR gets then). DIR gets

    sam.pth, sam.safetensors   the same weights, under the published names
    geometry.json              what build() made the model of
    case.json                  the prompts, in pixels of the picture
    case.safetensors           input_image (1, 3, S, S), resized, normalised and padded; image_embedding
                               (1, C, S/16, S/16); for prompt k, pk.low_res_logits_all (1, 4, S/4, S/4) and pk.iou_all
                               (1, 4), the single mask before the three; pk.mask_input (1, 1, S/4, S/4), where a
                               prompt has a mask
"""
from __future__ import annotations

import argparse, importlib, json, pathlib, types, warnings
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

# Models that the packages build by a name of their own, and small ones of their parts.
GEOMETRIES: dict[str, dict] = {
    "nano": dict(image_size=256, width=64, depth=4, heads=4, window=7, global_blocks=[1, 3], channels=32, mlp=64),
    "wide": dict(image_size=512, width=96, depth=3, heads=3, window=14, global_blocks=[2], channels=64, mlp=128),
    "mobile": dict(package="mobile_sam", name="vit_t"),
    "vit_b": dict(package="segment_anything", name="vit_b"),
    "sam2.1_tiny": dict(package="transformers", name="tiny"),
    "sam2.1_small": dict(package="transformers", name="small"),
    "sam2.1_base_plus": dict(package="transformers", name="base_plus"),
    "sam2.1_large": dict(package="transformers", name="large"),
    "edgetam": dict(package="transformers", name="edgetam"),
}
PATCH = 16


def package(geometry: dict) -> types.ModuleType:
    """The package that has the published code of a geometry."""
    name_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mobile_sam imports timm by older names
        return importlib.import_module(geometry.get("package", "segment_anything"))


def name_torchvision() -> None:
    """Makes torchvision importable beside a CPU build of PyTorch.

    PyPI's torchvision is compiled against CUDA: beside that PyTorch its compiled part is left out, and its Python part,
    of which the published code uses resizing with Pillow, ends because two operators that it describes have no name.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def build(geometry: dict) -> torch.nn.Module:
    """The published model of a geometry, as its code initialises it."""
    code = package(geometry)
    if "name" in geometry:
        return code.sam_model_registry[geometry["name"]]()
    parts = code.modeling
    size, channels = geometry["image_size"], geometry["channels"]
    encoder = parts.ImageEncoderViT(
        img_size=size, patch_size=PATCH, embed_dim=geometry["width"], depth=geometry["depth"],
        num_heads=geometry["heads"], out_chans=channels, window_size=geometry["window"], use_rel_pos=True,
        global_attn_indexes=geometry["global_blocks"],
        norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6))  # the published models' epsilon
    prompts = parts.PromptEncoder(
        embed_dim=channels, image_embedding_size=(size // PATCH, size // PATCH), input_image_size=(size, size),
        mask_in_chans=16)
    transformer = parts.TwoWayTransformer(depth=2, embedding_dim=channels, num_heads=8, mlp_dim=geometry["mlp"])
    decoder = parts.MaskDecoder(
        transformer_dim=channels, transformer=transformer, iou_head_depth=3, iou_head_hidden_dim=channels)
    return parts.Sam(encoder, prompts, decoder)


def build_encoder(geometry: dict) -> torch.nn.Module:
    """The image encoder alone, for weights to be loaded into; eval() comes after that, as it makes TinyViT's tables."""
    return build(geometry).image_encoder


def draw(geometry: dict, seed: int) -> torch.nn.Module:
    """The published model with weights of a seed, of which none is 0 or 1: a term that another code forgets is seen."""
    torch.manual_seed(seed)
    model = build(geometry)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("attention_biases"):
                tensor.normal_(0, 0.5)
            elif "pos_embed" in name or "rel_pos" in name or name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif tensor.ndim == 1:
                tensor += 0.05 * torch.randn(tensor.shape)
    return model.eval()


def prompts(width: int, height: int, seed: int) -> list[dict]:
    """One of each kind: a click, clicks of both labels, a box, a box with a background click, a correction."""
    numbers = np.random.default_rng(seed)

    def click() -> list[float]:
        return [float(numbers.uniform(0, width)), float(numbers.uniform(0, height))]

    def box() -> list[float]:
        (left, right), (top, bottom) = sorted((click()[0], click()[0])), sorted((click()[1], click()[1]))
        return [left, top, right, bottom]

    return [
        {"points": [click()], "labels": [1]},
        {"points": [click(), click(), click()], "labels": [1, 1, 0]},
        {"box": box()},
        {"box": box(), "points": [click()], "labels": [0]},
        {"points": [click()], "labels": [0], "mask_from": 0},  # with the best of prompt 0's masks as mask input
    ]


def case(
    model: torch.nn.Module, code: types.ModuleType, picture: np.ndarray, asked: list[dict]
) -> dict[str, torch.Tensor]:
    """What the published predictor computes of an RGB picture (height, width, 3) and prompts, as the file holds it."""
    predictor = code.SamPredictor(model)
    size = picture.shape[:2]
    resized = torch.from_numpy(predictor.transform.apply_image(picture)).permute(2, 0, 1)[None]
    predictor.set_image(picture)
    tensors = {"input_image": model.preprocess(resized), "image_embedding": predictor.features}
    for index, prompt in enumerate(asked):
        points = boxes = masks = None
        if "points" in prompt:
            at = predictor.transform.apply_coords(np.array(prompt["points"]), size)
            points = torch.from_numpy(at).float()[None], torch.tensor([prompt["labels"]])
        if "box" in prompt:
            boxes = torch.from_numpy(predictor.transform.apply_boxes(np.array([prompt["box"]]), size)).float()
        if "mask_from" in prompt:
            before = f"p{prompt['mask_from']}."
            best = 1 + tensors[before + "iou_all"][0, 1:].argmax()
            masks = tensors[before + "low_res_logits_all"][:, best, None]
            tensors[f"p{index}.mask_input"] = masks
        sparse, dense = model.prompt_encoder(points=points, boxes=boxes, masks=masks)
        logits, iou = model.mask_decoder.predict_masks(
            image_embeddings=predictor.features, image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense)
        tensors |= {f"p{index}.low_res_logits_all": logits, f"p{index}.iou_all": iou}
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def load(directory: pathlib.Path) -> tuple[torch.nn.Module, types.ModuleType]:
    """The model that a run of this program left in a folder, and the package of its code."""
    geometry = json.loads((directory / "geometry.json").read_text())
    model = build(geometry)
    model.load_state_dict(torch.load(directory / "sam.pth"))
    return model.eval(), package(geometry)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", choices=GEOMETRIES, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--image", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    geometry = GEOMETRIES[options.geometry]
    picture = np.array(Image.open(options.image).convert("RGB"))
    asked = prompts(picture.shape[1], picture.shape[0], options.seed)
    if geometry.get("package") == "transformers":
        import segment_anything_2

        model = segment_anything_2.draw(geometry["name"], options.seed)
        with torch.no_grad():
            tensors = segment_anything_2.case(model, picture, asked)
        segment_anything_2.save(model, options.out)
    else:
        model = draw(geometry, options.seed)
        with torch.no_grad():
            tensors = case(model, package(geometry), picture, asked)
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        torch.save(weights, options.out / "sam.pth")
        save_file(weights, options.out / "sam.safetensors")
    save_file(tensors, options.out / "case.safetensors")
    (options.out / "geometry.json").write_text(json.dumps(geometry))
    (options.out / "case.json").write_text(json.dumps({"image": options.image.name, "prompts": asked}))


if __name__ == "__main__":
    main()
