"""A contact sheet: what models make of the same clicks and boxes, side by side.

    python sheet.py --models OLDER.safetensors RUN/checkpoint.pt --sizes 384 384 --prompts prompts.json --out sheet.jpg
    python sheet.py --models … --sizes … --data DATA --count 20 --out sheet.jpg

prompts.json: [{"image": PATH, "point": [x, y]} or {"image": PATH, "box": [x0, y0, x1, y1]}, …]. With --data, held-out
pictures are drawn with one click or box each, and the IoU stands above each mask. A click shows the highest scored mask.
"""

import argparse
import json
import pathlib

import cv2
import numpy as np
import torch
from PIL import Image

import evaluate
from predictor import Predictor
from prompts import farthest_interior, tight_box

TILE = 288


def drawn(data, count, seed):
    """Prompts on held-out pictures, evenly over the sets, every third a box."""
    rng = np.random.default_rng(seed)
    sets = [folder for folder in sorted(data.iterdir()) if (folder / "heldout/images").is_dir()]
    chosen = []
    for i in range(count):
        folder = sets[i % len(sets)] / "heldout"
        paths = sorted((folder / "images").iterdir())
        path = paths[rng.integers(len(paths))]
        labels = np.asarray(Image.open(folder / "masks" / (path.stem + ".png"))).astype(np.int64)
        masks = evaluate.instances(labels)
        if not len(masks):
            continue
        mask = masks[rng.integers(len(masks))]
        entry = {"image": path, "mask": mask}
        if i % 3 == 2:
            entry["box"] = [int(v) for v in tight_box(mask)]
        else:
            entry["point"] = farthest_interior(mask)
        chosen.append(entry)
    return chosen


def predicted(predictor, image, entry):
    """The mask of one prompt and its score."""
    predictor.look(image)
    if "box" in entry:
        logits, score = predictor.predict(np.array(entry["box"], np.float32).reshape(1, 2, 2), [[2, 3]])
        k = 0
    else:
        logits, score = predictor.predict(np.array(entry["point"], np.float32).reshape(1, 1, 2), [[1]])
        k = 1 + int(score[0, 1:].argmax())
    return predictor.enlarge(logits[:, k])[0], float(score[0, k])


def tile(image, mask, entry, text):
    """The picture with the mask in colour, its outline and the prompt, TILE pixels square."""
    shown = image.astype(np.float32)
    shown[mask] = 0.5 * shown[mask] + 0.5 * np.array([255, 120, 0])
    shown = shown.astype(np.uint8)
    scale = TILE / max(image.shape[:2])
    outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(1 / scale))
    cv2.drawContours(shown, outline, -1, (255, 255, 255), width)
    if "box" in entry:
        left, top, right, bottom = (int(v) for v in entry["box"])
        cv2.rectangle(shown, (left, top), (right, bottom), (0, 255, 0), 2 * width)
    else:
        centre = tuple(int(v) for v in entry["point"])
        cv2.circle(shown, centre, 5 * width, (255, 255, 255), -1)
        cv2.circle(shown, centre, 4 * width, (0, 160, 0), -1)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    shown = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
    result = np.full((shown.shape[0] + 16, TILE, 3), 255, np.uint8)
    result[16 : 16 + shown.shape[0], : shown.shape[1]] = shown
    cv2.putText(result, text, (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    parser.add_argument("--prompts", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--columns", type=int, default=2, help="prompts in a row")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    predictors = [Predictor(evaluate.load(path), size) for path, size in zip(arguments.models, arguments.sizes)]
    entries = json.loads(arguments.prompts.read_text()) if arguments.prompts else []
    if arguments.data:
        entries += drawn(arguments.data, arguments.count, arguments.seed)
    cells = []
    for entry in entries:
        image = np.array(Image.open(entry["image"]).convert("RGB"))
        row = []
        for predictor in predictors:
            mask, score = predicted(predictor, image, entry)
            text = f"score {score:.2f}"
            if "mask" in entry:
                text += f"  IoU {evaluate.overlap(mask[None], entry['mask'][None])[0]:.2f}"
            row.append(tile(image, mask, entry, text))
        cells.append(np.hstack([*row, np.full((len(row[0]), 8, 3), 255, np.uint8)]))
    while len(cells) % arguments.columns:
        cells.append(np.full_like(cells[0], 255))
    rows = []
    for i in range(0, len(cells), arguments.columns):
        row = cells[i : i + arguments.columns]
        height = max(len(cell) for cell in row)
        rows.append(np.hstack([np.pad(c, ((0, height - len(c)), (0, 0), (0, 0)), constant_values=255) for c in row]))
    Image.fromarray(np.vstack(rows)).save(arguments.out, quality=85)


if __name__ == "__main__":
    main()
