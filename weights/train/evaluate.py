"""Measures a model on labelled pictures.

    python evaluate.py --checkpoint RUN/checkpoint.pt --size 384 --data DATA [--clicks 5] [--every 12] [--sets coco_pan_ccby …]

Below DATA lie sets, each with `heldout/images` and `heldout/masks` (0 void, 1…N instances). Instances below 100 pixels are
left out; of more than 20 in a picture, 20 are taken at even steps through the ascending labels. Every pixel counts.

Of the masks chosen at one click that are good (IoU of at least 0.8), `stable` is the median of the stability score: the
share of the mask above -1 that lies above 1, at the size of the logits. `error` is the mean error of the predicted IoU.
The checkpoint may also be an exported TinyViT model.
"""

import argparse
import json
import pathlib
import sys

import cv2
import numpy as np
import torch
from PIL import Image

import data
import model as models
from model import Sam
from predictor import Predictor
from prompts import farthest_interior, tight_box

# The sets that this project's first models were measured on.
FIRST = ("ccp_clothing", "coco_pan_ccby", "feral_cats", "nuclei_dsb2018", "staple_pantry")

SMALLEST = 100
MOST = 20


def instances(labels, most=MOST):
    """Boolean masks (N, H, W) of the instances that are measured."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    ids = np.flatnonzero(areas >= SMALLEST)
    if len(ids) > most:
        ids = ids[np.arange(most) * len(ids) // most]
    return labels[None] == ids[:, None, None]


def overlap(a, b):
    """IoU of boolean masks (N, H, W)."""
    both = (a & b).sum(axis=(1, 2))
    return both / np.maximum(1, (a | b).sum(axis=(1, 2)))


def correction(mask, wanted):
    """The next click (x, y, kind): the farthest interior point of the largest 8-connected error region, or None.

    Where a missed and a surplus region are of one size, the missed one is taken; among equal ones, the first in raster
    order.
    """
    best = None
    for kind, wrong in ((1, wanted & ~mask), (0, mask & ~wanted)):
        count, components, statistics, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8), connectivity=8)
        for i in range(1, count):
            area = int(statistics[i, cv2.CC_STAT_AREA])
            if best is None or area > best[0]:
                best = (area, kind, i, components, statistics[i])
    if best is None:
        return None
    _, kind, i, components, box = best
    left, top, width, height = (int(v) for v in box[:4])
    x, y = farthest_interior(components[top : top + height, left : left + width] == i)
    return left + x, top + y, kind


def stability(logits, offset=1.0):
    """The stability score of logits (N, g, g) as the automatic mask generator defines it."""
    inner, outer = ((logits > limit).sum(dim=(-2, -1)).float() for limit in (offset, -offset))
    return (inner / outer.clamp(min=1)).numpy()


def measure(predictor, image, masks, clicks):
    """Scores per instance: click, best, box (N,), and IoU after each of `clicks` clicks (N, clicks)."""
    predictor.look(image)
    count = len(masks)
    boxes = np.array([tight_box(mask) for mask in masks], np.float32).reshape(count, 2, 2)
    logits, _ = predictor.predict(boxes, np.tile([2, 3], (count, 1)))
    box = overlap(predictor.enlarge(logits[:, 0]), masks)

    points = np.array([farthest_interior(mask) for mask in masks], np.float32).reshape(count, 1, 2)
    kinds = np.ones((count, 1), np.int64)
    logits, predicted = predictor.predict(points, kinds)
    three = np.stack([overlap(predictor.enlarge(logits[:, k]), masks) for k in (1, 2, 3)], axis=1)
    chosen = predicted[:, 1:].argmax(dim=1)
    best, click = three.max(axis=1), three[np.arange(count), chosen.numpy()]
    current = logits[torch.arange(count), 1 + chosen]
    scores = predicted[torch.arange(count), 1 + chosen].numpy()
    steady = stability(current)
    history = [click]
    shown = predictor.enlarge(current)
    for _ in range(1, clicks):
        following = [correction(shown[i], masks[i]) for i in range(count)]
        # A mask without error keeps its last click: nothing is left to be corrected.
        following = [f or (*points[i, -1], kinds[i, -1]) for i, f in enumerate(following)]
        points = np.concatenate([points, np.array([f[:2] for f in following], np.float32)[:, None]], axis=1)
        kinds = np.concatenate([kinds, np.array([[f[2]] for f in following], np.int64)], axis=1)
        logits, _ = predictor.predict(points, kinds, current.unsqueeze(1))
        done = (history[-1] == 1)
        current = torch.where(torch.from_numpy(done).view(-1, 1, 1), current, logits[:, 0])
        shown = predictor.enlarge(current)
        history.append(overlap(shown, masks))
    return {"click": click, "best": best, "box": box, "score": scores, "steady": steady, "history": np.stack(history, axis=1)}


def summarise(scores, clicks):
    """Means over the instances of a set."""
    history = np.concatenate([s["history"] for s in scores])
    row = {name: float(np.concatenate([s[name] for s in scores]).mean()) for name in ("click", "best", "box")}
    for k in (3, 5):
        if k <= clicks:
            row[f"clicks{k}"] = float(history[:, k - 1].mean())
    if clicks >= 20:
        reached = history[:, :20] >= 0.9
        row["noc90"] = float(np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, 20).mean())
    scores, steady = (np.concatenate([s[name] for s in scores]) for name in ("score", "steady"))
    good = history[:, 0] >= 0.8
    row["stable"] = float(np.median(steady[good])) if good.any() else 0.0
    row["error"] = float(np.abs(scores - history[:, 0]).mean())
    row["instances"] = len(history)
    return row


def overall(rows):
    """The mean over sets of each score."""
    keys = [key for key in next(iter(rows.values())) if key != "instances"]
    mean = {key: float(np.mean([row[key] for row in rows.values()])) for key in keys}
    mean["instances"] = sum(row["instances"] for row in rows.values())
    return mean


def validate(model, cache, size, clicks=3, most=5):
    """Quick scores on the validation split of the packed training pictures: the mean over sets."""
    predictor = Predictor(model, size)
    corpus = data.Corpus(cache, validation=True)
    rows = {}
    for name, indices in corpus.by_set.items():
        scores = []
        for index in indices:
            picture = corpus.picture(index)
            masks = instances(picture.parts, most)
            if len(masks):
                scores.append(measure(predictor, np.ascontiguousarray(picture.image), masks, clicks))
        if scores:
            rows[name] = summarise(scores, clicks)
    return {"mean": overall(rows), **rows}


def table(rows):
    """Rows by set as text."""
    keys = list(next(iter(rows.values())))
    lines = [f"{'set':<24}" + "".join(f"{key:>11}" for key in keys)]
    for name, row in rows.items():
        cells = "".join(f"{row[k]:>11d}" if k == "instances" else f"{row[k]:>11.3f}" for k in keys)
        lines.append(f"{name:<24}{cells}")
    return "\n".join(lines)


def load(path):
    """The averaged model of a checkpoint, or an exported TinyViT model."""
    if path.suffix == ".safetensors":
        return models.tiny_vit(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = Sam(models.shaped(state["shape"]))
    model.load_state_dict(state["average"])
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--part", default="heldout", help="the folder of a set that holds images and masks")
    parser.add_argument("--clicks", type=int, default=5, help="20 also gives the number of clicks to 90 percent")
    parser.add_argument("--every", type=int, default=1, help="take only every n-th picture")
    parser.add_argument("--sets", nargs="*", help="these sets alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    predictor = Predictor(load(arguments.checkpoint), arguments.size)
    rows = {}
    for folder in sorted(arguments.data.iterdir()):
        images = folder / arguments.part / "images"
        if not images.is_dir() or (arguments.sets and folder.name not in arguments.sets):
            continue
        scores = []
        for path in sorted(images.iterdir())[:: arguments.every]:
            labels = np.asarray(Image.open(images.parent / "masks" / (path.stem + ".png"))).astype(np.int64)
            masks = instances(labels)
            if len(masks):
                image = np.array(Image.open(path).convert("RGB"))
                scores.append(measure(predictor, image, masks, arguments.clicks))
        if scores:
            rows[folder.name] = summarise(scores, arguments.clicks)
        print(f"{folder.name}: {len(scores)} pictures", file=sys.stderr, flush=True)
    groups = {"mean of the first five": FIRST, "mean of COCO": [name for name in rows if name.startswith("coco")]}
    means = {name: overall({k: rows[k] for k in keys if k in rows}) for name, keys in groups.items() if set(keys) & set(rows)}
    rows = {**rows, **means, "mean over sets": overall(rows)}
    print(json.dumps(rows, indent=1) if arguments.json else table(rows))


if __name__ == "__main__":
    main()
