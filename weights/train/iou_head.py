"""Trains the head that predicts IoU anew, alone and last, so that it picks the right one of three masks more often.

    python iou_head.py --checkpoint RUN/checkpoint.pt --size 384 --cache CACHE --out RUN/headed.pt [--examples 300]

All else stays as it is, so the inputs of the head (the IoU token after the transformer) and the true IoU of its four masks
are gathered once, from training pictures as they are at inference and from disturbed ones, for clicks, boxes and corrected
masks. The head minimises the squared error and, for first clicks, what the choice among the three masks costs: one minus the
expected IoU under a softmax of the predictions. Validation pictures tell when it is best.
"""

import argparse
import copy
import pathlib

import numpy as np
import torch

import data
import evaluate
import losses
import prompts
from model import normalise


@torch.no_grad()
def gather(model, examples, first, count, rounds=2):
    """Inputs of the head (N, C), true IoU (N, 4) and whether a prompt is a first click (N)."""
    inputs, actual, clicks, seen = [], [], [], []
    handle = model.mask_decoder.iou_prediction_head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for number in range(first, first + count):
        images, targets, points, kinds = (torch.from_numpy(column) for column in examples[number])
        per_image = targets.shape[1]
        targets, points, kinds = (x.flatten(0, 1) for x in (targets, points, kinds))
        rng, masks = np.random.default_rng(number), None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = model.encode(normalise(images))
        for i in range(rounds):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits, predicted = model.decode(features, points, kinds, masks, per_image)
            inputs.append(seen.pop().float())
            actual.append(losses.mask_losses(logits, targets, 1)[1])
            clicked = (kinds[:, 0] == 1) & (i == 0)
            clicks.append(clicked)
            chosen = torch.where(clicked, 1 + predicted[:, 1:].argmax(dim=1), 0)
            masks = logits[torch.arange(len(logits)), chosen].unsqueeze(1).float()
            more, more_kinds = prompts.corrections(rng, masks[:, 0].numpy(), (targets >= 8).numpy())
            points, kinds = torch.cat([more, points], dim=1), torch.cat([more_kinds, kinds], dim=1)
        if (number - first) % 50 == 49:
            print(f"{number - first + 1} of {count} batches", flush=True)
    handle.remove()
    return torch.cat(inputs), torch.cat(actual), torch.cat(clicks)


def cost(head, inputs, actual, clicks, choice):
    """What is minimised: the squared error, and `choice` times what choosing by the predictions costs."""
    predicted = head(inputs)
    lost = losses.choice(predicted[:, 1:], actual[:, 1:]) * clicks
    return (predicted - actual).square().mean() + choice * lost.mean()


@torch.no_grad()
def report(head, inputs, actual, clicks):
    """Chosen and best IoU at first clicks, and the root of the mean squared error."""
    predicted = head(inputs)
    chosen = actual[:, 1:].gather(1, predicted[:, 1:].argmax(dim=1, keepdim=True))[clicks].mean()
    error = (predicted - actual).square().mean().sqrt()
    return float(chosen), float(actual[clicks][:, 1:].max(dim=1).values.mean()), float(error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--examples", type=int, default=300, help="batches of 8 pictures")
    parser.add_argument("--choice", type=float, default=0.2)
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = evaluate.load(arguments.checkpoint)
    sizes = [(0, arguments.size)]
    training = gather(model, data.Examples(arguments.cache, None, 11, sizes, 8, 8, 1, 0.0), 0, arguments.examples)
    held = data.Examples(arguments.cache, None, 12, sizes, 8, 8, 1, 0.0, validation=True)
    validation = gather(model, held, 0, max(20, arguments.examples // 6))
    head = model.mask_decoder.iou_prediction_head
    best, kept = report(head, *validation), copy.deepcopy(head.state_dict())
    print(f"before: training {report(head, *training)}, validation {best}", flush=True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-4, weight_decay=arguments.decay)
    count, batch = len(training[0]), 256
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, arguments.epochs * (count // batch))
    for epoch in range(arguments.epochs):
        order = torch.randperm(count)
        for i in range(count // batch):
            rows = order[i * batch : (i + 1) * batch]
            optimizer.zero_grad()
            cost(head, *(column[rows] for column in training), arguments.choice).backward()
            optimizer.step()
            schedule.step()
        now = report(head, *validation)
        if now[0] > best[0]:
            best, kept = now, copy.deepcopy(head.state_dict())
        print(f"epoch {epoch}: training {report(head, *training)}, validation {now}", flush=True)
    head.load_state_dict(kept)
    state = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True)
    torch.save({"shape": state["shape"], "step": state["step"], "average": model.state_dict()}, arguments.out)
    print(f"kept: validation {best}")


if __name__ == "__main__":
    main()
