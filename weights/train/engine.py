"""Labels pictures with the model itself, for training: the data engine of the paper, without people.

    python engine.py --kirie KIRIE --pictures FOLDER… --out DATA/engine [--masks FOLDER…]

Kirillov et al. 2023 (https://arxiv.org/abs/2304.02643, section 4) label pictures by everything mode and keep what is sure:
each picture is asked with a grid of points as a whole, and its four quarters by themselves, in which all things are twice as
large. A mask stays where its score and its stability are high and where a mask that was found in a quarter (or, for one too
large for a quarter, one of the other points) agrees with it. Masks are laid down largest first, so that a part lies upon its
whole. Where a folder of label maps belongs to a folder of pictures, those labels stay and lie on top.

The folder that is written has the form of a set of labelled pictures: `images` and `masks` (0 void, 1…N).
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np
from PIL import Image
from pycocotools import mask as coco

# Pictures with a longer side than this are labelled smaller, as they are trained on.
LONGEST = 768


def everything(kirie, folder, out, options):
    """Runs everything mode on the pictures of a folder: the records of each by the picture's stem."""
    command = [
        kirie, "everything", str(folder), "-o", str(out), "--convert-to-rle", "--crop-n-layers", "1",
        "--crop-nms-thresh", "1", "--box-nms-thresh", "0.8", "--min-mask-region-area", "80",
        "--points-per-side", str(options.points), "--pred-iou-thresh", str(options.score),
        "--stability-score-thresh", str(options.stability),
    ]
    subprocess.run(command, check=True)
    return {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}


def overlaps(first, second):
    """IoU of every mask of one list of records with every one of another, (N, M)."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    return coco.iou([r["segmentation"] for r in first], [r["segmentation"] for r in second], [0] * len(second))


def agreed(records, size, least):
    """The records of the whole picture with which one found in a quarter of it agrees, or that are too large for that.

    A large mask must have been found from at least two points: everything mode's non-maximum suppression at 0.8 lets
    near duplicates through, and those that have one count.
    """
    height, width = size
    whole = [r for r in records if r["crop_box"][2:] == [width, height]]
    parts = [r for r in records if r["crop_box"][2:] != [width, height]]
    near = overlaps(whole, parts)
    twins = overlaps(whole, whole) - np.eye(len(whole))
    kept = []
    for i, record in enumerate(whole):
        _, _, w, h = record["bbox"]
        large = w > 0.55 * width or h > 0.55 * height
        found = twins[i] if large else near[i]
        if found.size and found.max() >= (least - 0.1 if large else least):
            kept.append(record)
    return kept


def label_map(records, size, given):
    """uint16 (H, W): the masks, largest first, and above them the labels that were given."""
    labels = np.zeros(size, np.uint16)
    next_label = 1
    for record in sorted(records, key=lambda r: -r["area"]):
        mask = coco.decode(record["segmentation"]).astype(bool)
        # What is mostly labelled already is left to those who labelled it; so are twins of what lies there.
        if given is not None and (given[mask] > 0).mean() > 0.3:
            continue
        below = np.bincount(labels[mask], minlength=2)
        if below[1:].max(initial=0) > 0.8 * mask.sum() and mask.sum() > 0.8 * (labels == below[1:].argmax() + 1).sum():
            continue
        labels[mask] = next_label
        next_label += 1
    if given is not None:
        top = given > 0
        labels[top] = given[top].astype(np.int64) + next_label
    return labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kirie", required=True, help="the program")
    parser.add_argument("--pictures", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--masks", type=pathlib.Path, nargs="*", default=[], help="label maps for the first of the folders")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--points", type=int, default=24)
    parser.add_argument("--score", type=float, default=0.8)
    parser.add_argument("--stability", type=float, default=0.92)
    parser.add_argument("--agreement", type=float, default=0.75)
    parser.add_argument("--every", type=int, default=1, help="take only every n-th picture of each folder")
    options = parser.parse_args()
    for name in ("images", "masks"):
        (options.out / name).mkdir(parents=True, exist_ok=True)
    found = pictures = 0
    for number, folder in enumerate(options.pictures):
        given = options.masks[number] if number < len(options.masks) else None
        with tempfile.TemporaryDirectory() as work:
            work = pathlib.Path(work)
            (work / "pictures").mkdir()
            for path in sorted(p for p in folder.iterdir() if p.is_file())[:: options.every]:
                image = Image.open(path).convert("RGB")
                image.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
                image.save(work / "pictures" / f"{folder.parent.name}-{path.stem}.png")
            for stem, records in everything(options.kirie, work / "pictures", work / "masks", options).items():
                image = Image.open(work / "pictures" / f"{stem}.png")
                size = image.size[::-1]
                labels = None
                if given is not None:
                    file = Image.open(given / f"{stem.removeprefix(folder.parent.name + '-')}.png")
                    labels = np.asarray(file.resize(image.size, Image.Resampling.NEAREST)).astype(np.int64)
                kept = agreed(records, size, options.agreement)
                result = label_map(kept, size, labels)
                if not result.any():
                    continue
                shutil.copy(work / "pictures" / f"{stem}.png", options.out / "images" / f"{stem}.png")
                Image.fromarray(result).save(options.out / "masks" / f"{stem}.png")
                found += len(np.unique(result)) - 1 - (len(np.unique(labels)) - 1 if labels is not None else 0)
                pictures += 1
        print(f"{folder}: {pictures} pictures, {found} new instances so far", flush=True)


if __name__ == "__main__":
    main()
