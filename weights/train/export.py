"""Writes a trained model for the engine, and a golden case to hold the engine against.

    python export.py --checkpoint RUN/checkpoint.pt --size 384 --out kirie-tiny.safetensors [--case case.safetensors]

Of several checkpoints the mean is written: of runs that began close together it is as good as the best of them, or better.
The weights are float16, in the order of the names. `prompt_encoder` and `mask_decoder` bear the published names. The
encoder's batch normalisations are folded into its convolutions:

    image_encoder.stem.{weight,bias}                        3 by 3, stride 2, then ReLU6
    image_encoder.blocks.N.expand.{weight,bias}             1 by 1, then ReLU6; absent where nothing is widened
    image_encoder.blocks.N.depthwise.{weight,bias}          (C, 1, k, k), then ReLU6
    image_encoder.blocks.N.project.{weight,bias}            1 by 1; the input is added where stride is 1 and widths agree
    image_encoder.neck.laterals.I.weight, …1.bias           1 by 1, from strides 8 (averaged 2 by 2), 16 and 32 (repeated)
    image_encoder.neck.{norm1,conv1,norm2,conv2,norm3}.…    n = norm1(sum), n + relu(norm2(conv1(relu(n)))), norm3(conv2)
    image_encoder.skips.{0,1}.{weight,bias}                 1 by 1, from strides 8 and 4, added while a mask is scaled up:
                                                            before the norm, and before the last GELU

The laterals and the skips take what the last block of their stride gives. With a stride of 2, padding is TensorFlow's "same"
on even sizes: (k - 2) / 2 rows before, the rest of k - 2 after. Norms are over channels, with epsilon 1e-6. What tensors
cannot say stands in the metadata: `kirie.name`, `kirie.encoder` (efficientnet-lite), `kirie.image_size` and
`kirie.block_strides` (one entry a block).

`--slope S` makes the logits S times as steep and changes no mask: the stability score then tells good masks from bad ones
at the thresholds that others use. It is folded into the last layers of the hypernetworks, and its inverse into the first
one of the mask prompt.

The case holds float32 tensors computed by this program from the float16 weights, in full precision: `input_image`
(1, 3, S, S), `image_embedding` (1, C, S/16, S/16), `skips.0` and `skips.1`, and for one click `points` (1, 1, 2) in pixels of
the picture, `labels` (1, 1), `low_res_logits` (1, 4, S/4, S/4) and `iou` (1, 4); likewise for a box, with names that begin
with `box.`, and for two clicks upon the first one's logits of token 0, with names that begin with `refined.`. The picture is
saved beside it as PNG.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import evaluate
import objects
import scenes
from efficientnet_lite import EPSILON, Unit
from predictor import Predictor

# What everything mode asks of this model's masks where nobody says it: on photographs its best masks of objects have scores
# above these, which are lower than those that the published models are asked for.
EVERYTHING = {"pred_iou_thresh": 0.6, "stability_score_thresh": 0.8, "min_mask_region_area": 80}


def rounded(model):
    """The model with its folded batch normalisations and float parameters rounded through float16."""
    for module in model.modules():
        if isinstance(module, Unit):
            weight, bias = module.folded()
            module.conv.weight.data, module.norm.bias.data = weight.detach(), bias.detach()
            module.norm.weight.data = torch.ones_like(bias)
            module.norm.running_mean = torch.zeros_like(bias)
            module.norm.running_var = torch.full_like(bias, 1 - EPSILON)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "running" not in name:
            tensor.data = tensor.data.half().float()
    return model


@torch.no_grad()
def sharpened(model, slope):
    """The model with logits that are `slope` times as steep, and the same masks."""
    for mlp in model.mask_decoder.output_hypernetworks_mlps:
        mlp.layers[-1].weight *= slope
        mlp.layers[-1].bias *= slope
    model.prompt_encoder.mask_downscaling[0].weight /= slope
    return model


def tensors(model):
    """The tensors of the file by name, from a rounded model."""
    named = {}
    for name, tensor in sorted(model.state_dict().items()):
        if ".norm.running" in name or name.endswith(".norm.weight"):
            continue
        name = name.replace(".conv.weight", ".weight").replace(".norm.bias", ".bias")
        named[name] = tensor.half().contiguous()
    return named


def mean(models):
    """The first model with the mean of all their parameters and running statistics."""
    first, *others = models
    with torch.no_grad():
        for mine, *theirs in zip(first.state_dict().values(), *(model.state_dict().values() for model in others)):
            if mine.is_floating_point():
                mine.copy_(torch.stack([mine, *theirs]).mean(dim=0))
    return first


def metadata(model, size, name):
    """The strings that go into the file's header."""
    return {
        "format": "pt",
        "kirie.name": name,
        "kirie.encoder": "efficientnet-lite",
        "kirie.image_size": str(size),
        "kirie.block_strides": json.dumps([block.stride for block in model.image_encoder.blocks]),
        "kirie.everything": json.dumps(EVERYTHING, separators=(",", ":")),
    }


def picture():
    """One drawn scene with surfaces of the program's own, (320, 384, 3) uint8."""
    rng = np.random.default_rng(20)

    def photographs(generator):
        clouds = generator.normal(120, 40, (8, 8, 3)).clip(0, 255).astype(np.uint8)
        return np.kron(clouds, np.ones((40, 40, 1), np.uint8))

    painter = scenes.Painter(rng, photographs)
    scenes.backdrop(painter)
    for x, y, size, kind in ((250, 150, 230, objects.cup), (120, 210, 180, objects.fruit), (60, 90, 150, objects.vessel)):
        painter.add(objects.place(rng, kind(rng), np.array([x, y], float), size, upright=True))
    return np.clip(painter.image, 0, 255).astype(np.uint8)[:320]


def case(model, size, path):
    """Writes the golden case and its picture."""
    image = picture()
    Image.fromarray(image).save(path.with_suffix(".png"))
    predictor = Predictor(model, size)
    predictor.look(image)
    tensors = {"input_image": predictor.frame(image), "image_embedding": predictor.features.embeddings}
    tensors |= {f"skips.{i}": skip for i, skip in enumerate(predictor.features.skips)}
    prompts = {
        "": ([[[250, 160]]], [[1]]),
        "box.": ([[[140, 85], [362, 215]]], [[2, 3]]),
        "refined.": ([[[250, 160], [110, 180]]], [[1, 0]]),
    }
    for name, (points, kinds) in prompts.items():
        masks = tensors["low_res_logits"][:, :1] if name == "refined." else None
        logits, iou = predictor.predict(points, kinds, masks)
        tensors[f"{name}low_res_logits"] = logits
        tensors[f"{name}iou"] = iou
        tensors[f"{name}points"] = torch.tensor(points, dtype=torch.float32)
        tensors[f"{name}labels"] = torch.tensor(kinds, dtype=torch.float32)
    save_file({k: v.detach().float().contiguous() for k, v in tensors.items()}, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--name", default="kirie-tiny")
    parser.add_argument("--slope", type=float, default=1.0, help="how much steeper the logits become")
    parser.add_argument("--case", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = mean([evaluate.load(path) for path in arguments.checkpoint])
    model = rounded(sharpened(model, arguments.slope))
    named = tensors(model)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(named, arguments.out, metadata(model, arguments.size, arguments.name))
    parameters = sum(tensor.numel() for tensor in named.values())
    print(f"{arguments.out}: {len(named)} tensors, {parameters} parameters, {arguments.out.stat().st_size} bytes")
    if arguments.case:
        case(model, arguments.size, arguments.case)


if __name__ == "__main__":
    main()
