"""Draws the weights of a ViT-B of the published shape from a seed, and exports their decoder as ONNX.

    .build/published/bin/python cvat_decoder.py DIRECTORY

The export is that of segment-anything's scripts/export_onnx_model.py with --return-single-mask, with the outputs that
CVAT's plugin for the browser reads: the mask as far as its bounds, the low-resolution logits, and the bounds. Writes
DIRECTORY/sam.pth and DIRECTORY/decoder.onnx.
"""

import importlib.util
import pathlib
import sys
import warnings

import torch
from torch.nn import functional

published = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "published" / "reference.py"
specification = importlib.util.spec_from_file_location("reference", published)
reference = importlib.util.module_from_spec(specification)
specification.loader.exec_module(reference)
reference.name_torchvision()

from segment_anything import sam_model_registry  # noqa: E402
from segment_anything.utils.onnx import SamOnnxModel  # noqa: E402

directory = pathlib.Path(sys.argv[1])
torch.manual_seed(15)
sam = sam_model_registry["vit_b"]()
with torch.no_grad():
    for parameter in sam.parameters():
        # Freshly made biases are zeros, which would hide a mistake in them.
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.02)
torch.save(sam.state_dict(), directory / "sam.pth")



class Decoder(SamOnnxModel):
    def mask_postprocessing(self, masks, orig_im_size):
        # The release on PyPI takes the crop as a Python number, which tracing keeps for good; the repository's later code,
        # of which this is, does not.
        masks = functional.interpolate(masks, size=(self.img_size, self.img_size), mode="bilinear", align_corners=False)
        size = self.resize_longest_image_size(orig_im_size, self.img_size)
        masks = masks[..., : size[0], : size[1]]
        original = orig_im_size.to(torch.int64)
        return functional.interpolate(masks, size=(original[0], original[1]), mode="bilinear", align_corners=False)

    def forward(self, *inputs):
        masks, _, low_res_masks = super().forward(*inputs)
        rows = torch.nonzero((masks[0, 0] > 0).any(dim=1)).flatten()
        columns = torch.nonzero((masks[0, 0] > 0).any(dim=0)).flatten()
        xtl, ytl, xbr, ybr = columns.min(), rows.min(), columns.max(), rows.max()
        return masks[..., ytl : ybr + 1, xtl : xbr + 1], low_res_masks, xtl, ytl, xbr, ybr


model = Decoder(sam, return_single_mask=True)
embed, size = sam.prompt_encoder.embed_dim, sam.prompt_encoder.image_embedding_size
inputs = {
    "image_embeddings": torch.randn(1, embed, *size),
    "point_coords": torch.randint(0, 1024, (1, 5, 2)).float(),
    "point_labels": torch.randint(0, 4, (1, 5)).float(),
    "mask_input": torch.randn(1, 1, 4 * size[0], 4 * size[1]),
    "has_mask_input": torch.tensor([1.0]),
    "orig_im_size": torch.tensor([1500.0, 2250.0]),
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.onnx.export(
        model, tuple(inputs.values()), str(directory / "decoder.onnx"), input_names=list(inputs),
        output_names=["masks", "low_res_masks", "xtl", "ytl", "xbr", "ybr"], opset_version=17, dynamo=False,
        dynamic_axes={"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}},
    )
