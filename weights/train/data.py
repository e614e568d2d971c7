"""Labelled pictures: packing them into flat arrays, and drawing augmented training examples from them.

    python data.py pack --data DATA --cache CACHE
    python data.py squeeze --cache CACHE --archive pictures.zip [--longest 384]
    python data.py unsqueeze --archive pictures.zip --cache CACHE

Squeezed, all pictures fit into a file of some 50 MB, which travels to a machine with an accelerator.

A packed picture has two layers of labels: `parts` (a sleeve, a wheel, a coat) and `wholes` (a person, a car). Where a set
has no such nesting the two are equal. 0 is void in both.
"""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import zipfile

import cv2
import numpy as np
from PIL import Image

import prompts

@dataclasses.dataclass(frozen=True)
class Use:
    """How a set is used.

    share: how often an example comes from it (relative; by kind and by what its labels are worth rather than by its size).
    donor: how often a pasted instance comes from it (relative). open: whether instances are pasted onto its pictures.
    zoom: how much more its pictures are magnified, for sets of small things.
    """

    share: float
    donor: float = 0.0
    open: bool = True
    zoom: float = 1.0


SETS = {
    # Everyday scenes, indoors and out.
    "coco_inst_ccby": Use(0.115, donor=0.12),
    "coco_pan_ccby": Use(0.10, donor=0.06),
    "coco_val_ccby": Use(0.06, donor=0.12),
    "coco128_ccby": Use(0.01, donor=0.01),
    "campus_indoor": Use(0.05),
    "campus_road": Use(0.02),
    # People and what they wear; animals.
    "ccp_clothing": Use(0.10, donor=0.10),
    "feral_cats": Use(0.055, donor=0.08),
    "oxford_pets": Use(0.065, donor=0.12),
    "wild_animals": Use(0.075, donor=0.12),
    # Things on tables and shelves.
    "staple_pantry": Use(0.075, donor=0.09),
    "fruit_own": Use(0.05, donor=0.06),
    "circuit_boards": Use(0.035, donor=0.03),
    "chicken_parts": Use(0.025, donor=0.01),
    "book_shelves": Use(0.045, donor=0.03),
    # Streets, cars, buildings; from above.
    "facade_street": Use(0.06),
    "street_trashbags": Use(0.035, donor=0.04),
    "car_damage": Use(0.015),
    "aerial_buildings": Use(0.03, zoom=1.2),
    # Heaps and micrographs.
    "granular_heap": Use(0.025, donor=0.01, zoom=1.1),
    "nuclei_dsb2018": Use(0.05, open=False, zoom=1.2),
    "microscope_flakes": Use(0.015, open=False),
    # What `engine.py` labelled, where there is such a folder.
    "engine": Use(0.18, donor=0.08),
}

# Share in percent of a set's training pictures that are kept for validation.
VALIDATION = 3

# Pictures with a longer side than this are packed smaller.
LONGEST = 768

# What the mean of the normalisation looks like as a pixel: the padding of the inference frame.
PADDING = (124, 116, 104)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture (H, W, 3) uint8 with its two label layers (H, W) uint16."""

    image: np.ndarray
    parts: np.ndarray
    wholes: np.ndarray


def load(image, mask):
    """A picture file and its label file as arrays, no larger than LONGEST."""
    image = np.asarray(Image.open(image).convert("RGB"))
    labels = np.asarray(Image.open(mask)).astype(np.uint16)
    shrink = LONGEST / max(image.shape[:2])
    if shrink < 1:
        size = (round(image.shape[1] * shrink), round(image.shape[0] * shrink))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    return image, labels


def pack(data, cache):
    """Reads every training picture below `data` and writes flat arrays into `cache`."""

    def entries():
        for name in SETS:
            stuff = {}
            segments = data / name / "segments.json"
            if segments.exists():
                for stem, labels in json.loads(segments.read_text()).items():
                    stuff[stem] = [e["label"] for e in labels if not e["isthing"]]
            if name == "engine" and not (data / name).is_dir():
                continue
            for path in sorted((data / name / "images").iterdir()):
                digest = int(hashlib.sha256(path.stem.encode()).hexdigest()[:8], 16)
                row = {"set": name, "stem": path.stem, "stuff": stuff.get(path.stem, [])}
                row["validation"] = digest % 100 < VALIDATION
                yield row, *load(path, data / name / "masks" / (path.stem + ".png"))

    return write(cache, entries())


def write(cache, entries):
    """Writes a cache of flat arrays: of rows (set, stem, stuff, validation) with a picture and its labels each."""
    cache.mkdir(parents=True, exist_ok=True)
    rows, pixels, labelled = [], 0, 0
    with open(cache / "images.bin", "wb") as images, open(cache / "labels.bin", "wb") as labels:
        for row, image, parts in entries:
            layers = [parts, (parts > 0).astype(np.uint16)] if row["set"] == "ccp_clothing" else [parts]
            image.tofile(images)
            np.stack(layers).tofile(labels)
            place = {"image": 3 * pixels, "labels": labelled, "layers": len(layers)}
            rows.append({**row, **place, "height": image.shape[0], "width": image.shape[1]})
            pixels += parts.size
            labelled += parts.size * len(layers)
    (cache / "index.json").write_text(json.dumps(rows))
    return rows


def inventory(labels):
    """Rows (label, left, top, right, bottom, area) of the instances of a label map; right and bottom are inside."""
    place = np.flatnonzero(labels)
    order = np.argsort(labels.ravel()[place], kind="stable")
    place = place[order]
    ids, first, areas = np.unique(labels.ravel()[place], return_index=True, return_counts=True)
    if not len(ids):
        return np.zeros((0, 6), np.int64)
    y, x = np.divmod(place, labels.shape[1])
    edges = [edge.reduceat(axis, first) for edge in (np.minimum, np.maximum) for axis in (x, y)]
    return np.stack([ids, *edges, areas], axis=1).astype(np.int64)


def squeeze(cache, archive, longest, quality, part=0, parts=1):
    """Writes a cache, or every `parts`-th picture of it, into a small file of smaller pictures, to be taken elsewhere.

    Labels lie in the red (low byte) and green (high byte) of a lossless picture; the index has their inventory.
    """
    rows = json.loads((cache / "index.json").read_text())
    corpora = {split: Corpus(cache, split) for split in (False, True)}
    index, counts = [], {False: 0, True: 0}
    with zipfile.ZipFile(archive, "w") as file:
        for number, row in enumerate(rows):
            split = row["validation"]
            counts[split] += 1
            if number % parts != part:
                continue
            picture = corpora[split].picture(counts[split] - 1)
            shrink = min(1, longest / max(row["height"], row["width"]))
            size = (round(row["width"] * shrink), round(row["height"] * shrink))
            image = cv2.resize(np.asarray(picture.image), size, interpolation=cv2.INTER_AREA)
            labels = cv2.resize(np.asarray(picture.parts), size, interpolation=cv2.INTER_NEAREST)
            instances = inventory(labels).tolist()
            labels = np.dstack([labels & 255, labels >> 8, np.zeros_like(labels)]).astype(np.uint8)
            for name, pixels, chosen in (("picture", image, quality), ("labels", labels, 101)):
                coded = cv2.imencode(".webp", pixels[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, chosen])[1]
                file.writestr(f"{len(index)}.{name}.webp", coded.tobytes())
            index.append({key: row[key] for key in ("set", "stem", "stuff", "validation")} | {"instances": instances})
        file.writestr("index.json", json.dumps(index), zipfile.ZIP_DEFLATED)
    return index


def squeezed(archives):
    """The entries of small files, read by many threads: rows, each with its picture and its labels."""

    def decode(row, *coded):
        image, labels = (cv2.imdecode(np.frombuffer(c, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for c in coded)
        return row, np.ascontiguousarray(image), labels[..., 0] + 256 * labels[..., 1].astype(np.uint16)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for archive in archives:
            with zipfile.ZipFile(archive) as file:
                tasks = []
                for number, row in enumerate(json.loads(file.read("index.json"))):
                    coded = (file.read(f"{number}.{name}.webp") for name in ("picture", "labels"))
                    tasks.append(pool.submit(decode, row, *coded))
                for task in tasks:
                    yield task.result()


class Corpus:
    """The packed pictures of one split, mapped into memory."""

    def __init__(self, cache, validation):
        cache = pathlib.Path(cache)
        rows = json.loads((cache / "index.json").read_text())
        self.rows = [row for row in rows if row["validation"] == validation]
        self.images = np.memmap(cache / "images.bin", np.uint8, "r")
        self.labels = np.memmap(cache / "labels.bin", np.uint16, "r")
        self.by_set = {name: [i for i, row in enumerate(self.rows) if row["set"] == name] for name in SETS}

    def picture(self, index):
        row = self.rows[index]
        height, width, layers = row["height"], row["width"], row["layers"]
        image = self.images[row["image"] :][: 3 * height * width].reshape(height, width, 3)
        labels = self.labels[row["labels"] :][: layers * height * width].reshape(layers, height, width)
        return Picture(image, labels[0], labels[-1])


class Scenes:
    """Drawn scenes, as shards that a generator may still be adding to."""

    def __init__(self, folder):
        self.folder = folder and pathlib.Path(folder)
        self.shards = {}

    def refresh(self):
        for path in sorted(self.folder.glob("shard-*.npy")) if self.folder else ():
            if path.name not in self.shards:
                self.shards[path.name] = np.load(path, mmap_mode="r")
        return bool(self.shards)

    def draw(self, rng):
        """A random scene; a shard is (N, S, S, 5) uint8: red, green, blue, part, whole."""
        shard = self.shards[list(self.shards)[rng.integers(len(self.shards))]]
        scene = shard[rng.integers(len(shard))]
        return Picture(
            np.ascontiguousarray(scene[..., :3]), scene[..., 3].astype(np.uint16), scene[..., 4].astype(np.uint16)
        )


def warp(picture, matrix, size):
    """Applies an affine map to a picture and its labels; outside lie the padding colour and void."""
    image = picture.image
    shrink = 1 / max(1e-6, float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))))
    if shrink > 1.4:  # Without an average first, strong shrinking would alias.
        smaller = cv2.resize(image, None, fx=1.2 / shrink, fy=1.2 / shrink, interpolation=cv2.INTER_AREA)
        scale = np.array([[image.shape[1] / smaller.shape[1], 0, 0], [0, image.shape[0] / smaller.shape[0], 0]])
        scale[:, 2] = 0.5 * (np.diag(scale) - 1)
        inner = matrix @ np.vstack([scale, [0, 0, 1]])
        image = cv2.warpAffine(smaller, inner, (size, size), flags=cv2.INTER_LINEAR, borderValue=PADDING)
    else:
        image = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=PADDING)
    parts, wholes = (
        cv2.warpAffine(np.asarray(layer), matrix, (size, size), flags=cv2.INTER_NEAREST, borderValue=0)
        for layer in (picture.parts, picture.wholes)
    )
    return Picture(image, parts, wholes)


def framing(rng, height, width, size, zoom=1.0):
    """A random affine map (2, 3) from a picture into the frame; often the very one of inference.

    `zoom` magnifies further.
    """
    flip = rng.random() < 0.5
    longest = size / max(height, width)
    if rng.random() < 0.35:
        scale, aspect, angle = longest, 1.0, 0.0
        x, y = 0.0, 0.0
        matrix = np.array([[scale, 0, 0], [0, scale, 0]])
        if flip:
            matrix = np.array([[-scale, 0, scale * width - 1 * scale], [0, scale, 0]])
        matrix[:, 2] += 0.5 * scale - 0.5
        return matrix
    scale = longest * float(np.exp(rng.uniform(np.log(0.6), np.log(2.5)))) * zoom
    aspect = float(np.exp(rng.normal(0, 0.1)))
    angle = rng.normal(0, 0.1) if rng.random() < 0.96 else rng.uniform(-np.pi, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([scale * aspect * (-1 if flip else 1), scale / aspect])
    # A random point of the picture comes to lie at a random point around the middle of the frame.
    spread = 0.5 * max(0.0, 1 - longest / scale)
    source = np.array([width * (0.5 + rng.uniform(-spread, spread)), height * (0.5 + rng.uniform(-spread, spread))])
    target = size * (0.5 + rng.uniform(-0.12, 0.12, 2))
    return np.hstack([matrix, (target - matrix @ source)[:, None]])


def recolour(rng, image):
    """Photometric noise: exposure, contrast, tint, saturation, grey, blur, grain, compression."""
    x = image.astype(np.float32)
    if rng.random() < 0.6:
        x = x * rng.uniform(0.7, 1.35) + rng.uniform(-22, 22)
        mean = x.mean()
        x = (x - mean) * rng.uniform(0.7, 1.35) + mean
        x = x * rng.uniform(0.88, 1.13, 3).astype(np.float32)
    if rng.random() < 0.4:
        grey = x.mean(axis=2, keepdims=True)
        x = grey + (x - grey) * rng.uniform(0.2, 1.8)
    choice = rng.random()
    if choice < 0.06:
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    elif choice < 0.1:
        x = x[..., rng.permutation(3)]
    elif choice < 0.11:
        x = 255 - x
    x = np.clip(x, 0, 255)
    if rng.random() < 0.25:
        x = 255 * np.power(x / 255, np.exp(rng.normal(0, 0.25)))
    choice = rng.random()
    if choice < 0.12:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.3))
    elif choice < 0.27:
        x = x + rng.normal(0, rng.uniform(2, 14), x.shape if rng.random() < 0.6 else x.shape[:2] + (1,))
    x = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.12:
        x = cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))])[1], 1)
    return x


def paste(rng, picture, donor, chosen):
    """Lays the instance `chosen` of the donor's wholes over the picture, with its parts."""
    size = picture.image.shape[0]
    ys, xs = np.nonzero(donor.wholes == chosen)
    if len(ys) < 200:
        return picture
    top, left, bottom, right = ys.min(), xs.min(), ys.max() + 1, xs.max() + 1
    extent = max(bottom - top, right - left)
    scale = size * float(np.exp(rng.uniform(np.log(0.15), np.log(0.85)))) / extent
    scale = min(scale, 2.0)
    angle = rng.normal(0, 0.25)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([scale * (-1 if rng.random() < 0.5 else 1), scale])
    source = np.array([(left + right) / 2, (top + bottom) / 2])
    target = size * rng.uniform(0.1, 0.9, 2)
    matrix = np.hstack([matrix, (target - matrix @ source)[:, None]])
    pasted = warp(donor, matrix, size)
    mask = pasted.wholes == chosen
    if mask.sum() < 40:
        return picture
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), rng.uniform(0.4, 1.0))[..., None]
    front = recolour(rng, pasted.image).astype(np.float32) if rng.random() < 0.5 else pasted.image.astype(np.float32)
    back = picture.image.astype(np.float32)
    if rng.random() < 0.4:  # A shadow that falls to one side.
        shift = np.float32([[1, 0, rng.uniform(-0.06, 0.06) * size], [0, 1, rng.uniform(0, 0.05) * size]])
        shadow = cv2.warpAffine(mask.astype(np.float32), shift, (size, size))
        shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(1, 0.04 * size))
        back = back * (1 - rng.uniform(0.2, 0.6) * shadow[..., None])
    image = np.clip(back * (1 - soft) + front * soft, 0, 255).astype(np.uint8)
    parts, wholes = picture.parts.copy(), picture.wholes.copy()
    inner = pasted.parts[mask]
    parts[mask] = np.where(inner > 0, inner.astype(np.int64) + int(parts.max()), 0).astype(np.uint16)
    wholes[mask] = int(wholes.max()) + 1
    return Picture(image, parts, wholes)


def curriculum(text):
    """`0:192,6000:256` as pairs of a first step and the picture size from there on."""
    return [tuple(int(n) for n in part.split(":")) for part in text.split(",")]


class Examples:
    """Draws training examples; an example depends on the seed and its number alone (and on the scenes at hand)."""

    def __init__(self, cache, scenes, seed, sizes, prompts_per_image, batch, workers, scene_share, validation=False):
        self.corpus = Corpus(cache, validation)
        self.scenes = Scenes(scenes)
        self.seed, self.sizes, self.count, self.batch, self.workers = seed, sizes, prompts_per_image, batch, workers
        self.size = sizes[0][1]
        self.scene_share = scene_share
        self.names = [name for name in SETS if self.corpus.by_set[name]]
        shares, donors = (np.array([getattr(SETS[n], key) for n in self.names]) for key in ("share", "donor"))
        self.shares, self.donors = shares / shares.sum(), donors / donors.sum()
        cv2.setNumThreads(1)

    def source(self, rng):
        """A framed picture and whether more may be pasted onto it."""
        if rng.random() < self.scene_share and self.scenes.shards:
            picture = self.scenes.draw(rng)
            return warp(picture, framing(rng, *picture.parts.shape, self.size), self.size), rng.random() < 0.3
        name = self.names[rng.choice(len(self.names), p=self.shares)]
        picture = self.corpus.picture(int(rng.choice(self.corpus.by_set[name])))
        framed = warp(picture, framing(rng, *picture.parts.shape, self.size, SETS[name].zoom), self.size)
        return framed, SETS[name].open and rng.random() < 0.5

    def donor(self, rng):
        """A picture and one of its instances that may be cut out."""
        name = self.names[rng.choice(len(self.names), p=self.donors)]
        index = int(rng.choice(self.corpus.by_set[name]))
        picture = self.corpus.picture(index)
        if name == "ccp_clothing" and rng.random() < 0.3:
            picture = Picture(picture.image, picture.parts, picture.parts)
        areas = np.bincount(np.asarray(picture.wholes).ravel())
        areas[[0, *(label for label in self.corpus.rows[index]["stuff"] if label < len(areas))]] = 0
        instances = np.flatnonzero(areas >= 200)
        return (picture, int(rng.choice(instances))) if len(instances) else None

    def example(self, rng):
        while True:
            picture, open_to_paste = self.source(rng)
            if open_to_paste:
                for _ in range(1 + int(rng.random() < 0.5) + int(rng.random() < 0.4)):
                    donor = self.donor(rng)
                    if donor:
                        picture = paste(rng, picture, *donor)
            drawn = prompts.draw(rng, picture.parts, picture.wholes, self.count)
            if drawn:
                image = recolour(rng, picture.image)
                image[(picture.image == PADDING).all(axis=2)] = PADDING
                return (image, *drawn)

    def __len__(self):
        return 1 << 31

    def __getitem__(self, number):
        """Batch `number`, that of one worker at one step.

        images (B, S, S, 3), targets (B, P, S/4, S/4) in 0…16, points (B, P, 2, 2), kinds (B, P, 2).
        """
        rng = np.random.default_rng((self.seed, number))
        self.scenes.refresh()
        self.size = [size for first, size in self.sizes if first <= number // self.workers][-1]
        columns = zip(*(self.example(rng) for _ in range(self.batch)))
        return tuple(np.stack(column) for column in columns)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["pack", "squeeze", "unsqueeze"])
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--archive", type=pathlib.Path, nargs="*", default=[], help="to squeeze, the pictures go to all in turns")
    parser.add_argument("--longest", type=int, default=384, help="the longer side of squeezed pictures")
    parser.add_argument("--quality", type=int, default=75)
    arguments = parser.parse_args()
    if arguments.command == "pack":
        rows = pack(arguments.data, arguments.cache)
    elif arguments.command == "squeeze":
        turns = enumerate(arguments.archive)
        numbers = (arguments.longest, arguments.quality)
        rows = [row for i, a in turns for row in squeeze(arguments.cache, a, *numbers, i, len(arguments.archive))]
    else:
        rows = write(arguments.cache, squeezed(arguments.archive))
    for name in SETS:
        chosen = [row for row in rows if row["set"] == name]
        print(f"{name}: {len(chosen)} pictures, {sum(row['validation'] for row in chosen)} for validation")


if __name__ == "__main__":
    main()
