"""Prompts: what a person would click or draw, made from label maps and from the errors of a mask."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

# Instances smaller than this at the training frame are not asked for.
SMALLEST = 24


def farthest_interior(mask):
    """(x, y) of the pixel of a boolean mask that lies farthest from its outside; ties to the first in raster order.

    The picture's edge counts as outside.
    """
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(distance)), mask.shape)
    return int(x), int(y)


def tight_box(mask):
    """(left, top, right, bottom) of a boolean mask; right and bottom are the last column and row inside."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    return columns[0], rows[0], columns[-1], rows[-1]


def draw(rng, parts, wholes, count):
    """Chooses `count` instances with a prompt each; None if there is none of a fair size.

    Returns targets (P, S/4, S/4) uint8, the covered pixels of each 4 by 4 cell; points (P, 2, 2) float32, x and y; and
    kinds (P, 2): a click is a foreground point and a padding, a box is two corners.
    """
    size = parts.shape[0]
    candidates = []
    for layer in (parts, wholes):
        areas = np.bincount(layer.ravel())
        areas[0] = 0
        ids = np.flatnonzero(areas >= SMALLEST)
        candidates.append((layer, ids))
    if not len(candidates[0][1]) and not len(candidates[1][1]):
        return None
    targets = np.zeros((count, size // 4, size // 4), np.uint8)
    points = np.zeros((count, 2, 2), np.float32)
    kinds = np.zeros((count, 2), np.int64)
    pools = [[], []]
    for i in range(count):
        k = 0 if rng.random() < 0.8 else 1
        if not len(candidates[k][1]):
            k = 1 - k
        layer, ids = candidates[k]
        if not pools[k]:
            pools[k] = list(rng.permutation(ids))
        mask = layer == pools[k].pop()
        targets[i] = cv2.resize(mask.astype(np.uint8) * 16, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        choice = rng.random()
        if choice < 0.65:
            if choice < 0.4:
                x, y = farthest_interior(mask)
            else:
                ys, xs = np.nonzero(mask)
                j = rng.integers(len(xs))
                x, y = xs[j], ys[j]
            points[i, 0] = x, y
            kinds[i] = 1, -1
        else:
            box = np.array(tight_box(mask), np.float32)
            sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
            noise = rng.normal(0, 1, 4) * np.minimum(0.1 * sides, 0.02 * size + 2) * (rng.random() < 0.75)
            points[i] = np.clip(box + noise, 0, size - 1).reshape(2, 2)
            kinds[i] = 2, 3
    return targets, points, kinds


def corrections(rng, logits, targets):
    """One more click per prompt, from where the mask is wrong.

    logits: (N, g, g), targets: (N, g, g) booleans, numpy. Half of the clicks are the farthest interior point of the
    larger error region, the others any wrong cell. Returns points (N, 1, 2) in pixels of the frame and kinds (N, 1).
    """
    count, grid, _ = targets.shape
    predicted = logits > 0
    points = np.zeros((count, 1, 2), np.float32)
    kinds = np.zeros((count, 1), np.int64)
    for i in range(count):
        missed = targets[i] & ~predicted[i]
        extra = predicted[i] & ~targets[i]
        wrong = missed | extra
        if not wrong.any():
            wrong = missed = targets[i] if targets[i].any() else np.ones_like(missed)
        if rng.random() < 0.5:
            region = missed if missed.sum() >= extra.sum() and missed.any() else (extra if extra.any() else missed)
            _, components = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)
            areas = np.bincount(components.ravel())
            areas[0] = 0
            x, y = farthest_interior(components == int(np.argmax(areas)))
        else:
            ys, xs = np.nonzero(wrong)
            j = rng.integers(len(xs))
            x, y = xs[j], ys[j]
        points[i, 0] = 4 * np.array([x, y]) + rng.uniform(0, 3, 2)
        kinds[i, 0] = int(missed[y, x])
    return torch.from_numpy(points), torch.from_numpy(kinds)


def depth(inside):
    """How far each cell of masks (N, g, g) lies from the nearest cell outside, in cells; the border counts as outside."""
    padded = F.pad(inside, (1, 1, 1, 1))
    length = padded.shape[1]
    at = torch.arange(length, device=inside.device, dtype=torch.float32)
    rows = at.view(1, -1, 1)
    above = rows - torch.where(padded, -1.0, rows).cummax(dim=1).values
    below = torch.where(padded, 2.0 * length, rows).flip(1).cummin(dim=1).values.flip(1) - rows
    column = torch.minimum(above, below).square()[:, 1:-1]
    across = (at.view(-1, 1) - at).square()[1:-1]
    chunks = [(part.unsqueeze(2) + across).amin(dim=3) for part in column.split(128)]
    return torch.cat(chunks).sqrt()


def corrections_at_once(generator, logits, targets):
    """What `corrections` does, for many prompts on a GPU: logits (N, g, g) and targets (N, g, g) booleans, on its device.

    The inmost cell is sought in all error regions of the larger kind.
    """
    count, grid, _ = targets.shape
    predicted = logits > 0
    missed, extra = targets & ~predicted, predicted & ~targets
    clean = ~(missed | extra).flatten(1).any(dim=1).view(-1, 1, 1)
    missed = missed | (clean & targets)
    missed = missed | ~(missed | extra).flatten(1).any(dim=1).view(-1, 1, 1)
    more = missed.flatten(1).sum(dim=1) >= extra.flatten(1).sum(dim=1)
    inner = torch.where(more.view(-1, 1, 1), missed, extra)
    noise = torch.rand((count, grid * grid), generator=generator, device=logits.device)
    inmost = depth(inner).flatten(1) + 0.1 * noise * inner.flatten(1)
    anywhere = (missed | extra).flatten(1) * (1 + noise)
    central = torch.rand((count, 1), generator=generator, device=logits.device) < 0.5
    place = torch.where(central, inmost, anywhere).argmax(dim=1)
    kinds = missed.flatten(1).gather(1, place.unsqueeze(1)).long()
    x, y = place % grid, place // grid
    jitter = 3 * torch.rand((count, 2), generator=generator, device=logits.device)
    return (4 * torch.stack([x, y], dim=1) + jitter).unsqueeze(1), kinds
