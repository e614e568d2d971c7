"""Crops around masks as the engine cuts them (Sources/TextMatching/CandidateCrops.swift), and masks out of run lengths."""

import math

import numpy as np
from PIL import Image

BACKGROUND = 127


def decoded(encoding):
    """COCO's {"size": [height, width], "counts": …}, compressed or not, as a boolean mask."""
    height, width = encoding["size"]
    counts = encoding["counts"]
    if isinstance(counts, str):
        text, counts, place = counts.encode(), [], 0
        while place < len(text):
            value = shift = 0
            while True:
                bits = text[place] - 48
                value |= (bits & 31) << shift
                shift += 5
                place += 1
                if not bits & 32:
                    break
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def box(mask):
    """[x, y, width, height], all 0 of an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [0, 0, 0, 0]
    return [int(v) for v in (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)]


def square(around, width, height, margin):
    """Left, top and side of the square around a box, moved into the picture where it fits."""
    longer = max(around[2], around[3], 1)
    side = min(max(longer, width, height), max(1, math.ceil(longer * (1 + margin))))

    def start(first, count, extent):
        centred = first + count // 2 - side // 2
        return min(max(centred, 0), extent - side) if side <= extent else int((extent - side) / 2)

    return start(around[0], around[2], width), start(around[1], around[3], height), side


def crop(image, mask, margin, surroundings, size):
    """The crop of a candidate, uint8 (size, size, 3): what is not on the object is dimmed towards the background."""
    height, width = mask.shape
    left, top, side = square(box(mask), width, height, margin)
    cut = np.full((side, side, 3), BACKGROUND, np.uint8)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    inside = image[y0:y1, x0:x1]
    weight = round(surroundings * 256)
    dimmed = ((inside.astype(np.int32) * weight + BACKGROUND * (256 - weight) + 128) >> 8).astype(np.uint8)
    cut[y0 - top : y1 - top, x0 - left : x1 - left] = np.where(mask[y0:y1, x0:x1, None], inside, dimmed)
    return np.asarray(Image.fromarray(cut).resize((size, size), Image.Resampling.BILINEAR))
