"""Draws scenes with exact masks ahead of training: objects made of parts, lit, shadowed, overlapping.

    python scenes.py --cache CACHE --scenes SCENES --shards 40

Each shard is an array (N, S, S, 5) uint8: red, green, blue, part label, whole label.
"""

import argparse
import os
import pathlib

import cv2
import numpy as np

import data
import materials
import objects

SIZE = 384
SHARD = 200


class Painter:
    """A canvas with two label layers; what is painted later lies in front."""

    def __init__(self, rng, photographs):
        self.rng = rng
        self.photographs = photographs
        self.image = np.zeros((SIZE, SIZE, 3), np.float32)
        self.parts = np.zeros((SIZE, SIZE), np.uint8)
        self.wholes = np.zeros((SIZE, SIZE), np.uint8)
        angle = rng.uniform(0, 2 * np.pi)
        tilt = rng.uniform(0.3, 1.2)
        self.light = np.array([np.cos(angle) * np.sin(tilt), -abs(np.sin(angle)) * np.sin(tilt), np.cos(tilt)])
        self.last_part = self.last_whole = 0

    def shadow(self, mask, strength, shift, blur):
        """Darkens what is painted so far below a shifted, blurred mask."""
        moved = cv2.warpAffine(mask.astype(np.float32), np.float32([[1, 0, shift[0]], [0, 1, shift[1]]]), (SIZE, SIZE))
        small = cv2.resize(moved, (SIZE // 4, SIZE // 4), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), max(0.5, blur / 4))
        self.image *= 1 - strength * cv2.resize(small, (SIZE, SIZE))[..., None]

    def fill(self, polygons, texture=None, flat=False, opacity=1.0):
        """Paints one part: the union of polygons (each (n, 2) in pixels). Returns its mask."""
        rng = self.rng
        soft = np.zeros((SIZE, SIZE), np.uint8)
        for polygon in polygons:
            cv2.fillPoly(soft, [np.round(np.asarray(polygon) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        mask = (soft > 127).astype(np.uint8)
        if not mask.any():
            return mask
        left, top, width, height = cv2.boundingRect((soft > 0).astype(np.uint8))
        window = np.s_[top : top + height, left : left + width]
        if texture is None:
            texture = materials.surface(rng, height, width, self.photographs)
        elif texture.ndim == 3:
            texture = cv2.resize(texture, (width, height))
        if not flat and rng.random() < 0.85:
            factor, shine = materials.relief(rng, mask[window], self.light)
            texture = texture * factor[..., None] + shine[..., None]
        alpha = opacity * soft[window].astype(np.float32)[..., None] / 255
        self.image[window] = self.image[window] * (1 - alpha) + texture * alpha
        return mask

    def add(self, thing):
        """Paints an object, back to front, and labels it. Parts below 12 pixels belong to the whole alone."""
        rng = self.rng
        silhouette = np.zeros((SIZE, SIZE), np.uint8)
        for part in thing.parts:
            for polygon in part.polygons:
                cv2.fillPoly(silhouette, [np.round(polygon).astype(np.int32)], 1)
        if silhouette.sum() < 40 or self.last_part > 220:
            return
        extent = float(np.sqrt(silhouette.sum()))
        if rng.random() < 0.75:
            shift = -self.light[:2] * extent * rng.uniform(0.02, 0.3) + [0, 0.04 * extent]
            self.shadow(silhouette, rng.uniform(0.2, 0.75), shift, rng.uniform(0.01, 0.15) * extent)
        self.last_whole += 1
        for part in thing.parts:
            texture = None
            if part.colour is not None:
                texture = np.array(part.colour, np.float32)
                if rng.random() < 0.4:
                    texture = np.broadcast_to(texture, (32, 32, 3)) + 14 * materials.noise(rng, 32, 32)[..., None]
            mask = self.fill(part.polygons, texture, part.flat, part.opacity)
            if part.labelled and mask.sum() >= 12:
                self.last_part += 1
                self.parts[mask > 0] = self.last_part
            elif not part.labelled:
                pass
            self.wholes[mask > 0] = self.last_whole
            if part.text:
                self.write(mask)

    def write(self, mask):
        """Writes glyph-like clutter inside a mask; it stays part of what it is written on."""
        rng = self.rng
        left, top, width, height = cv2.boundingRect(mask)
        if width < 12 or height < 8:
            return
        layer = np.zeros((SIZE, SIZE), np.uint8)
        letters = "ABCDEFGHKLMNOPRSTUVWXYZabcdeghiklmnoprstuvy0123456789&%+-"
        rows = int(rng.integers(1, 5))
        scale = rng.uniform(0.5, 0.95) * height / rows / 30
        for row in range(rows):
            word = "".join(rng.choice(list(letters), int(rng.integers(2, 14))))
            corner = (int(left + 0.06 * width), int(top + (row + 0.8) * height / rows))
            thickness = max(1, int(round(scale * rng.uniform(1, 3))))
            cv2.putText(layer, word, corner, int(rng.integers(0, 8)), scale, 255, thickness, cv2.LINE_AA)
        alpha = (layer * mask).astype(np.float32)[..., None] / 255
        self.image = self.image * (1 - alpha) + materials.colour(rng) * alpha


def backdrop(painter):
    """Fills the canvas: a photograph, a wall with a floor, or one surface; floors and walls are labelled at times."""
    rng = painter.rng
    choice = rng.random()
    if choice < 0.3:
        photograph = painter.photographs(rng)
        h, w = photograph.shape[:2]
        side = int(rng.uniform(0.5, 1.0) * min(h, w))
        top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
        image = cv2.resize(photograph[top : top + side, left : left + side], (SIZE, SIZE)).astype(np.float32)
        if rng.random() < 0.6:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 7))
        painter.image = image
    elif choice < 0.7:
        painter.image = materials.surface(rng, SIZE, SIZE, painter.photographs).copy()
        horizon = rng.uniform(0.25, 0.75) * SIZE
        slope = rng.normal(0, 0.04) * SIZE
        floor = np.array([[0, horizon - slope], [SIZE, horizon + slope], [SIZE, SIZE], [0, SIZE]], np.float32)
        texture = materials.surface(rng, SIZE, SIZE, painter.photographs)
        pinch = rng.uniform(0.5, 2)
        corners = np.float32([[0, horizon], [SIZE, horizon], [SIZE * (1 + pinch), SIZE], [-SIZE * pinch, SIZE]])
        square = np.float32([[0, 0], [SIZE, 0], [SIZE, SIZE], [0, SIZE]])
        texture = cv2.warpPerspective(
            texture, cv2.getPerspectiveTransform(square, corners), (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT
        )
        mask = np.zeros((SIZE, SIZE), np.uint8)
        cv2.fillPoly(mask, [np.round(floor).astype(np.int32)], 1)
        painter.image = np.where(mask[..., None] > 0, texture, painter.image)
        if rng.random() < 0.5:
            painter.last_part, painter.last_whole = 2, 2
            painter.parts[:] = painter.wholes[:] = 1 + mask
    else:
        painter.image = materials.surface(rng, SIZE, SIZE, painter.photographs).copy()
    if rng.random() < 0.6:
        factor = rng.uniform(0.5, 1.0) + (1 - 0.4 * rng.random()) * materials.ramp(rng, SIZE, SIZE)
        painter.image *= np.clip(factor, 0, 1.5)[..., None]


def draw(rng, photographs):
    """One scene (S, S, 5) uint8."""
    painter = Painter(rng, photographs)
    backdrop(painter)
    if rng.random() < 0.08:
        things = objects.crowd(rng, SIZE)
    else:
        count = int(rng.integers(2, 14))
        sizes = np.sort(SIZE * np.exp(rng.uniform(np.log(0.07), np.log(0.75), count)))[::-1]
        sizes = np.where(rng.random(count) < 0.2, rng.permutation(sizes), sizes)
        things = [objects.draw(rng, rng.uniform(-0.05, 1.05, 2) * SIZE, size) for size in sizes]
    for i, thing in enumerate(things):
        painter.add(thing)
        if i + 1 < len(things) and rng.random() < 0.05:  # What follows is in focus, what is painted is not.
            painter.image = cv2.GaussianBlur(painter.image, (0, 0), rng.uniform(0.5, 2.0))
    image = painter.image
    if rng.random() < 0.5:
        image = image * (1 + 0.25 * rng.standard_normal() * materials.noise(rng, SIZE, SIZE, 2)[..., None] * 0.4)
    if rng.random() < 0.3:
        image = image * rng.uniform(0.8, 1.2, 3)
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
    image = np.clip(image, 0, 255).astype(np.uint8)
    return np.dstack([image, painter.parts, painter.wholes])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--scenes", type=pathlib.Path, required=True)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    arguments.scenes.mkdir(parents=True, exist_ok=True)
    corpus = data.Corpus(arguments.cache, validation=False)
    usable = [i for i, row in enumerate(corpus.rows) if row["set"] != "nuclei_dsb2018"]

    def photographs(rng):
        return corpus.picture(int(rng.choice(usable))).image

    for number in range(arguments.shards):
        path = arguments.scenes / f"shard-{arguments.seed:02d}-{number:03d}.npy"
        if path.exists():
            continue
        rng = np.random.default_rng((arguments.seed, number))
        shard = np.stack([draw(rng, photographs) for _ in range(SHARD)])
        temporary = path.with_suffix(".new")
        with open(temporary, "wb") as file:
            np.save(file, shard)
        os.replace(temporary, path)
        print(f"{path.name}: {SHARD} scenes", flush=True)


if __name__ == "__main__":
    main()
