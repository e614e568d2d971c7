"""How steep the logits must be for the stability score to tell good masks from bad ones at the published thresholds.

    python stability.py --checkpoint RUN/checkpoint.pt --size 384 --cache CACHE

Masks chosen at one click on the validation pictures. A slope S changes no mask; it takes the offset of the stability score
from 1 to 1/S of what the logits are now. Prints, for a row of slopes, the share of good masks (IoU of at least 0.8) and of
bad ones (below 0.5) that pass 0.88 and 0.95, for `export.py --slope`.
"""

import argparse
import pathlib

import numpy as np
import torch

import data
import evaluate
from predictor import Predictor
from prompts import farthest_interior

SLOPES = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor(evaluate.load(arguments.checkpoint), arguments.size)
    corpus = data.Corpus(arguments.cache, validation=True)
    overlaps, steady = [], []
    for index in range(len(corpus.rows)):
        picture = corpus.picture(index)
        masks = evaluate.instances(picture.parts, 5)
        if not len(masks):
            continue
        predictor.look(np.ascontiguousarray(picture.image))
        points = np.array([farthest_interior(mask) for mask in masks], np.float32).reshape(-1, 1, 2)
        logits, predicted = predictor.predict(points, np.ones((len(masks), 1), np.int64))
        chosen = logits[torch.arange(len(masks)), 1 + predicted[:, 1:].argmax(dim=1)]
        overlaps.append(evaluate.overlap(predictor.enlarge(chosen), masks))
        steady.append(np.stack([evaluate.stability(chosen, 1 / slope) for slope in SLOPES], axis=1))
    overlaps, steady = np.concatenate(overlaps), np.concatenate(steady)
    good, bad = overlaps >= 0.8, overlaps < 0.5
    print(f"{good.sum()} good masks, {bad.sum()} bad ones of {len(overlaps)}")
    print(f"{'slope':>6}" + "".join(f"{name:>12}" for name in ("good 0.88", "bad 0.88", "good 0.95", "bad 0.95", "median good")))
    for i, slope in enumerate(SLOPES):
        shares = [(steady[group, i] >= limit).mean() for limit in (0.88, 0.95) for group in (good, bad)]
        print(f"{slope:>6}" + "".join(f"{share:>12.3f}" for share in (*shares, np.median(steady[good, i]))))


if __name__ == "__main__":
    main()
