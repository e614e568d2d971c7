"""What training minimises: focal and dice loss on masks, the best of three outputs, and the error of the predicted IoU."""

import dataclasses

import torch
import torch.nn.functional as F

import device_kernels
import native

FOCAL_WEIGHT = 20.0
DICE_WEIGHT = 1.0
IOU_WEIGHT = 6.0

# Weight of what the choice among three masks costs, under a softmax of the predicted IoU at this temperature.
CHOICE_WEIGHT = 0.5
TEMPERATURE = 0.05

# The share of the two outputs that were not the best, so that none of the three starves.
OTHERS = 0.05


@dataclasses.dataclass
class Losses:
    """Scalars of one pass: the sum to minimise, and parts of it for the log."""

    total: torch.Tensor
    mask: torch.Tensor
    iou: torch.Tensor
    single: torch.Tensor
    best: torch.Tensor
    chosen: torch.Tensor


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


def mask_losses(logits, targets, trained):
    """The losses (N, trained) of the first masks and the IoU (N, K) of all: logits (N, K, g, g), targets (N, g, g) in 0…16."""
    if native.takes(logits):
        return native.MaskLoss.apply(logits, targets, trained, FOCAL_WEIGHT, DICE_WEIGHT)
    if device_kernels.takes(logits):
        return device_kernels.MaskLoss.apply(logits, targets, trained, FOCAL_WEIGHT, DICE_WEIGHT)
    logits = logits.float()
    wanted = (targets.float() / 16).unsqueeze(1).expand_as(logits)
    own, their = logits[:, :trained], wanted[:, :trained]
    return FOCAL_WEIGHT * focal(own, their) + DICE_WEIGHT * dice(own, their), intersection_over_union(logits, wanted)


def choice(predicted, actual):
    """What choosing one of three masks (N, 3) by its predicted IoU costs: the best IoU less the expected one (N)."""
    picked = (predicted / TEMPERATURE).softmax(dim=1)
    return actual.max(dim=1).values - (picked * actual).sum(dim=1)


def measure(logits, predicted, targets, single_weight, multi_weight, choosing=None):
    """Losses of one pass.

    logits: (N, 4, g, g), predicted: (N, 4), targets: (N, g, g) uint8 in 0…16, the weights: (N,) or numbers. choosing: (N),
    1 for prompts after which the best scored of three masks is taken.
    """
    predicted = predicted.float()
    trained = logits.shape[1] if torch.is_tensor(multi_weight) or multi_weight else 1
    mask, actual = mask_losses(logits, targets, trained)
    actual = actual.detach()
    masks = single_weight * mask[:, 0]
    if trained > 1:
        best = mask[:, 1:].min(dim=1).values
        masks = masks + multi_weight * ((1 - OTHERS) * best + OTHERS * mask[:, 1:].mean(dim=1))
    masks = masks.mean()
    iou = (predicted - actual).square().mean()
    chosen = actual[:, 1:].gather(1, predicted[:, 1:].argmax(dim=1, keepdim=True))
    total = masks + IOU_WEIGHT * iou
    if choosing is not None:
        total = total + CHOICE_WEIGHT * (choosing * choice(predicted[:, 1:], actual[:, 1:])).mean()
    return Losses(
        total=total,
        mask=masks.detach(),
        iou=iou.detach(),
        single=actual[:, 0].mean(),
        best=actual[:, 1:].max(dim=1).values.mean(),
        chosen=chosen.mean(),
    )
