"""What training minimises: focal and dice loss on masks, the best of three outputs, and the error of the predicted IoU."""

import dataclasses

import torch
import torch.nn.functional as F

FOCAL_WEIGHT = 20.0
DICE_WEIGHT = 1.0
IOU_WEIGHT = 4.0

# The share of the two outputs that were not the best, so that none of the three starves.
OTHERS = 0.05


@dataclasses.dataclass
class Losses:
    """Scalars of one pass: the sum to minimise, and parts of it for the log."""

    total: torch.Tensor
    mask: float
    iou: float
    single: float
    best: float
    chosen: float


def focal(logits, targets):
    """Focal loss for targets in [0, 1]: the cross-entropy times the squared error of the probability.

    For targets of 0 and 1 it is the usual one with gamma 2. A cell that the instance covers by a third is asked for a
    third, which puts the zero crossing of the interpolated logits where the outline is.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (entropy * (logits.sigmoid() - targets).square()).mean(dim=(-2, -1))


def dice(logits, targets):
    """One minus the soft Dice coefficient, over the last two axes."""
    probability = logits.sigmoid()
    overlap = (probability * targets).sum(dim=(-2, -1))
    return 1 - (2 * overlap + 1) / (probability.square().sum(dim=(-2, -1)) + targets.square().sum(dim=(-2, -1)) + 1)


def intersection_over_union(logits, targets):
    """IoU of the masks above zero with the cells covered by half or more."""
    predicted, wanted = logits > 0, targets >= 0.5
    overlap = (predicted & wanted).sum(dim=(-2, -1)).float()
    return overlap / (predicted | wanted).sum(dim=(-2, -1)).float().clamp(min=1)


def measure(logits, predicted, targets, single_weight, multi_weight):
    """Losses of one pass.

    logits: (N, 4, g, g), predicted: (N, 4), targets: (N, g, g) in [0, 1], the weights: (N,) or numbers.
    """
    logits, predicted = logits.float(), predicted.float()
    wanted = targets.unsqueeze(1).expand_as(logits)
    mask = FOCAL_WEIGHT * focal(logits, wanted) + DICE_WEIGHT * dice(logits, wanted)
    with torch.no_grad():
        actual = intersection_over_union(logits, wanted)
    best = mask[:, 1:].min(dim=1).values
    multi = (1 - OTHERS) * best + OTHERS * mask[:, 1:].mean(dim=1)
    masks = (single_weight * mask[:, 0] + multi_weight * multi).mean()
    iou = (predicted - actual).square().mean()
    chosen = actual[:, 1:].gather(1, predicted[:, 1:].argmax(dim=1, keepdim=True))
    return Losses(
        total=masks + IOU_WEIGHT * iou,
        mask=float(masks.detach()),
        iou=float(iou.detach()),
        single=float(actual[:, 0].mean()),
        best=float(actual[:, 1:].max(dim=1).values.mean()),
        chosen=float(chosen.mean()),
    )
