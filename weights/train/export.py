"""Writes a trained model for the engine, and a golden case to hold the engine against.

    python export.py --checkpoint RUN/checkpoint.pt --size 384 --out kirie-tiny.safetensors [--case case.safetensors]

Of several checkpoints the mean is written: of runs that began close together it is as good as the best of them, or better.
The weights are float16 under the published parameter names, in the order of the names. What tensors cannot say stands in
the metadata: `kirie.image_size`, `kirie.strides` (of the three patch mergings), `kirie.window_sizes`, `kirie.head_counts`
(one entry a stage; the first stage has no attention and its entries mean nothing) and `kirie.name`.

The case holds float32 tensors computed by this program from the float16 weights, in full precision: `input_image`
(1, 3, S, S), `image_embedding` (1, C, S/16, S/16), and for one click `points` (1, 1, 2) in pixels of the picture, `labels`
(1, 1), `low_res_logits` (1, 4, S/4, S/4) and `iou` (1, 4); likewise for a box, with names that begin with `box.`, and for two
clicks upon the first one's logits of token 0, with names that begin with `refined.`. The picture is saved beside it as PNG.
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
from predictor import Predictor


def rounded(model):
    """The model with its float parameters rounded through float16."""
    for tensor in list(model.parameters()) + list(model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.half().float()
    return model


def mean(models):
    """The first model with the mean of all their parameters and running statistics."""
    first, *others = models
    with torch.no_grad():
        for mine, *theirs in zip(first.state_dict().values(), *(model.state_dict().values() for model in others)):
            if mine.is_floating_point():
                mine.copy_(torch.stack([mine, *theirs]).mean(dim=0))
    return first


def metadata(shape, size, name):
    """The strings that go into the file's header."""
    return {
        "format": "pt",
        "kirie.name": name,
        "kirie.image_size": str(size),
        "kirie.strides": json.dumps(list(shape.strides)),
        "kirie.window_sizes": json.dumps(list(shape.windows)),
        "kirie.head_counts": json.dumps(list(shape.heads)),
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
    tensors = {"input_image": predictor.frame(image), "image_embedding": predictor.embedding}
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
    parser.add_argument("--case", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = rounded(mean([evaluate.load(path) for path in arguments.checkpoint]))
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor.to(torch.int32)).contiguous()
        for name, tensor in sorted(model.state_dict().items())
        if not name.endswith("num_batches_tracked")
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, arguments.out, metadata(model.shape, arguments.size, arguments.name))
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{arguments.out}: {len(tensors)} tensors, {parameters} parameters, {arguments.out.stat().st_size} bytes")
    if arguments.case:
        case(model, arguments.size, arguments.case)


if __name__ == "__main__":
    main()
