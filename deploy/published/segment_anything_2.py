"""SAM 2.1 and EdgeTAM as transformers has them, for reference.py and runtimes.py: with drawn weights, on a picture, and as ONNX.

The weights are saved under the names of Meta's own package, nested under "model" as its checkpoints are, and under those of
transformers in safetensors, so that both layouts are read.
"""
from __future__ import annotations

import json, pathlib, re, runpy
import numpy as np
import torch
import torch.nn.functional as functional
from safetensors.torch import save_file

# By Hiera's width, blocks, first heads, blocks that look at everything, position grid, and windows.
SIZES = {
    "tiny": (96, [1, 2, 7, 2], 1, [5, 7, 9], 7, [8, 4, 14, 7]),
    "small": (96, [1, 2, 11, 2], 1, [7, 10, 13], 7, [8, 4, 14, 7]),
    "base_plus": (112, [2, 3, 16, 3], 2, [12, 16, 20], 14, [8, 4, 14, 7]),
    "large": (144, [2, 6, 36, 4], 2, [23, 33, 43], 7, [8, 4, 16, 8]),
}
SIZE, CHANNELS = 1024, 256
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(name: str) -> torch.nn.Module:
    """The model of a published size, as its code initialises it."""
    # transformers imports torchvision, too.
    runpy.run_path(str(pathlib.Path(__file__).with_name("reference.py")))["name_torchvision"]()
    from transformers import EdgeTamConfig, EdgeTamModel, Sam2Config, Sam2Model

    if name == "edgetam":
        # The trunk by its name in timm, with no weights to be fetched.
        trunk = dict(
            model_type="timm_wrapper", architecture="repvit_m1", num_classes=2,
            model_args=dict(in_chans=3, features_only=True, out_indices=[0, 1, 2, 3]))
        return EdgeTamModel(EdgeTamConfig(vision_config=dict(backbone_config=trunk)))
    width, blocks, heads, whole, positions, windows = SIZES[name]
    dims = [width << stage for stage in range(4)]
    trunk = dict(
        model_type="sam2_hiera_det_model", hidden_size=width, num_attention_heads=heads, blocks_per_stage=blocks,
        embed_dim_per_stage=dims, num_attention_heads_per_stage=[heads << stage for stage in range(4)],
        window_size_per_stage=windows, global_attention_blocks=whole,
        window_positional_embedding_background_size=[positions, positions])
    return Sam2Model(Sam2Config(vision_config=dict(backbone_config=trunk, backbone_channel_list=dims[::-1])))


def draw(name: str, seed: int) -> torch.nn.Module:
    """The model with weights of a seed, of which none is 0 or 1: a term that another code forgets is seen."""
    torch.manual_seed(seed)
    model = build(name)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif "pos_embed" in key or "no_memory" in key:
                tensor.normal_(0, 0.1)
            elif tensor.ndim == 1:
                tensor += 0.05 * torch.randn(tensor.shape)
                if key.endswith("bn.weight") and ("token_mixer" in key or ".conv2." in key):
                    # What a RepViT adds to its input over and over stays as large as that.
                    tensor *= 0.3
            elif "embed" not in key or "patch" in key or "mask_embed" in key:
                # As wide sums give numbers of their inputs' size: transformers' own 0.02 leaves next to nothing.
                tensor.normal_(0, tensor[0].numel() ** -0.5)
        model.shared_image_embedding.positional_embedding.copy_(
            model.prompt_encoder.shared_embedding.positional_embedding)
    return model.eval()


def preprocessed(picture: np.ndarray) -> torch.Tensor:
    """(1, 3, S, S) of an RGB picture (height, width, 3): what torchvision's ToTensor, Resize and Normalize make of it."""
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    pixels = functional.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True)
    return (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(DEVIATION).view(1, 3, 1, 1)


def case(model: torch.nn.Module, picture: np.ndarray, asked: list[dict]) -> dict[str, torch.Tensor]:
    """What the model computes of a picture and prompts, as reference.py's case.safetensors holds it.

    Beside its tensors: the maps of strides 8 and 4 as skips.0 and skips.1, and for prompt k, pk.one, which of the four masks
    a caller gets who asks for one.
    """
    height, width = picture.shape[:2]
    scale = torch.tensor([SIZE / width, SIZE / height])
    pixels = preprocessed(picture)
    maps = model.get_image_embeddings(pixels)
    tensors = {"input_image": pixels, "skips.1": maps[0], "skips.0": maps[1], "image_embedding": maps[2]}
    for index, prompt in enumerate(asked):
        arguments = {}
        if "points" in prompt:
            arguments["input_points"] = torch.tensor([[prompt["points"]]]) * scale
            arguments["input_labels"] = torch.tensor([[prompt["labels"]]])
        if "box" in prompt:
            arguments["input_boxes"] = torch.tensor([[prompt["box"]]]) * torch.cat([scale, scale])
        if "mask_from" in prompt:
            before = f"p{prompt['mask_from']}."
            best = 1 + tensors[before + "iou_all"][0, 1:].argmax()
            arguments["input_masks"] = tensors[f"p{index}.mask_input"] = \
                tensors[before + "low_res_logits_all"][:, best, None]

        def ask(several: bool, dynamic: bool) -> tuple[torch.Tensor, torch.Tensor]:
            model.mask_decoder.dynamic_multimask_via_stability = dynamic
            found = model(image_embeddings=maps, multimask_output=several, **arguments)
            return found.pred_masks[0], found.iou_scores[0]

        (first, first_iou), (others, others_iou), (one, _) = ask(False, False), ask(True, False), ask(False, True)
        every = torch.cat([first, others], 1)
        tensors |= {
            f"p{index}.low_res_logits_all": every, f"p{index}.iou_all": torch.cat([first_iou, others_iou], 1),
            f"p{index}.one": torch.tensor([i for i in range(4) if torch.equal(every[0, i], one[0, 0])][:1])}
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def published(name: str) -> str | None:
    """The name in Meta's package; None for a copy. The kinds of points are cut apart by ``save``."""
    fixed = {
        "no_memory_embedding": "no_mem_embed",
        "shared_image_embedding.positional_embedding": "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "prompt_encoder.shared_embedding.positional_embedding": None,
    }
    if name in fixed:
        return fixed[name]
    if name.startswith("vision_encoder.backbone.timm_model."):
        return "image_encoder.trunk.body." + name.split(".", 3)[3]
    for old, new in (
        (r"^vision_encoder\.backbone\.", "image_encoder.trunk."), (r"patch_embed\.projection", "patch_embed.proj"),
        (r"^vision_encoder\.neck\.convs\.(\d)\.", r"image_encoder.neck.convs.\1.conv."),
        (r"^prompt_encoder\.mask_embed\.conv(\d)", lambda m: f"prompt_encoder.mask_downscaling.{3 * int(m[1]) - 3}"),
        (r"^prompt_encoder\.mask_embed\.layer_norm(\d)",
         lambda m: f"prompt_encoder.mask_downscaling.{3 * int(m[1]) - 2}"),
        (r"upscale_conv1", "output_upscaling.0"), (r"upscale_layer_norm", "output_upscaling.1"),
        (r"upscale_conv2", "output_upscaling.3"), (r"layer_norm_final_attn", "norm_final_attn"),
        (r"\.layer_norm(\d)", r".norm\1"), (r"\.o_proj", ".out_proj"),
        (r"\.layers\.0\.(weight|bias)$", r".layers.1.\1"), (r"\.proj_in", ".layers.0"),
        (r"\.mlp\.proj_out", ".mlp.layers.1"), (r"\.proj_out", ".layers.2"),
        (r"^(prompt_encoder|mask_decoder)\.", r"sam_\1."),
    ):
        name = re.sub(old, new, name)
    return name


def save(model: torch.nn.Module, directory: pathlib.Path) -> None:
    """sam.pth, as Meta publishes a model, and sam.safetensors, as transformers saves it, without its config.json."""
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, directory / "sam.safetensors")
    renamed = {}
    for name, tensor in weights.items():
        if name == "prompt_encoder.point_embed.weight":
            for kind in range(4):
                renamed[f"sam_prompt_encoder.point_embeddings.{kind}.weight"] = tensor[kind:kind + 1].clone()
        elif published(name):
            renamed[published(name)] = tensor
    # One of those that a video needs and a picture does not.
    renamed["maskmem_tpos_enc"] = torch.zeros(7, 1, 1, 64)
    torch.save({"model": renamed}, directory / "sam.pth")


def load(directory: pathlib.Path) -> torch.nn.Module:
    """The model that ``save`` left in a folder."""
    from safetensors.torch import load_file

    model = build(json.loads((directory / "geometry.json").read_text())["name"])
    model.load_state_dict(load_file(directory / "sam.safetensors"))
    return model.eval()


class Encoder(torch.nn.Module):
    """From the model's input to the maps that its mask decoder takes."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        vision = self.model.vision_encoder(image, return_dict=True)
        fine, middle, coarse = vision.fpn_hidden_states
        decoder = self.model.mask_decoder
        return (
            coarse + self.model.no_memory_embedding.view(1, -1, 1, 1), decoder.conv_s1(middle), decoder.conv_s0(fine))


class Decoder(torch.nn.Module):
    """From the maps and points to low-resolution logits and IoU, of all four masks."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.positions = torch.nn.Parameter(model.get_image_wide_positional_embeddings())

    def forward(
        self, image_embeddings: torch.Tensor, middle: torch.Tensor, fine: torch.Tensor, point_coords: torch.Tensor,
        point_labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        sparse, dense = self.model.prompt_encoder(point_coords[:, None], point_labels[:, None].int(), None, None)
        decoder = self.model.mask_decoder
        decoder.dynamic_multimask_via_stability = False
        masks, iou, _, _ = decoder(
            image_embeddings=image_embeddings, image_positional_embeddings=self.positions,
            sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True,
            high_resolution_features=[fine, middle])
        return masks[:, 0], iou[:, 0]
