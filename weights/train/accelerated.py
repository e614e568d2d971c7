"""Trains for some minutes on a machine with a GPU, from the small files that travel there.

    python accelerated.py --archives pictures-*.zip --begin average.pt --out OUT --minutes 8 --sizes 0:320:128,0.4:384:96

The archives are what `data.py squeeze` writes; `--begin` and what comes back, OUT/average.pt, are the averaged weights alone, in
half precision, as train.py leaves them beside its checkpoint. The rate rises for `--warmup` steps and falls as a cosine over
the minutes, so that the weights can be used as they are. Sizes are SHARE:SIZE:BATCH, from that share of the time on.
`--only` trains parameters whose name begins so, and leaves all others as they are. Everything is done by one process, and
nothing waits for the device but the log, which is why a step that is not finite is dropped by the device itself.
"""

import argparse
import dataclasses
import math
import os
import pathlib
import time

import numpy as np
import torch

import data
import model as models
import train
from batches import Batches, Pictures


def schedule(text):
    """`0:320:128,0.5:384:96` as triples of a share of the time, the picture size and the batch from there on."""
    parts = [part.split(":") for part in text.split(",")]
    return [(float(share), int(size), int(batch)) for share, size, batch in parts]


def gradients(parameters):
    """Gives parameters their gradients as parts of one flat tensor, which is returned."""
    flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
    offset = 0
    for p in parameters:
        p.grad = flat[offset:].as_strided(p.shape, p.stride(), flat[offset:].storage_offset())
        offset += p.numel()
    return flat


def save(average, step, out):
    """Writes the averaged weights beside the last ones and renames."""
    state = {name: t.cpu().half() if t.is_floating_point() else t.cpu() for name, t in average.model.state_dict().items()}
    torch.save({"step": step, "shape": dataclasses.asdict(average.model.shape), "average": state}, out / "average.new")
    os.replace(out / "average.new", out / "average.pt")


class Trainer:
    """A model with its average and its optimizers."""

    def __init__(self, arguments):
        state = torch.load(arguments.begin, map_location="cpu", weights_only=True)
        model = models.Sam(models.shaped(state["shape"]))
        model.load_state_dict(state["average"])
        self.model = model.to(arguments.device, memory_format=torch.channels_last).train()
        for name, p in model.named_parameters():
            p.requires_grad_(name.startswith(arguments.only))
        self.average = train.Average(model, arguments.average)
        self.optimizers = train.optimizers(model, arguments)
        self.flat = gradients([p for p in model.parameters() if p.requires_grad])

    def step(self, batch, seed, rounds, rate, step):
        """One step; returns figures for the log as a tensor on the device."""
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = rate * group["factor"]
        results, _ = train.forward(self.model, batch, seed, rounds)
        self.flat.zero_()
        (sum(result.total for result in results) / len(results)).backward()
        norm = self.flat.norm()
        finite = torch.isfinite(norm)
        self.flat.mul_(1 / norm.clamp(min=1)).copy_(torch.where(finite, self.flat, 0))
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.model, step)
        first, last = results[0], results[-1]
        corrected = last.single if rounds > 1 else torch.full_like(last.single, math.nan)
        return torch.stack([first.mask, first.iou, first.single, first.best, first.chosen, corrected, norm]).detach()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--begin", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--sizes", type=schedule, default="0:320:128,0.4:384:96")
    parser.add_argument("--longest", type=int, default=512, help="the longer side of the pictures in the archives")
    parser.add_argument("--prompts", type=int, default=8, help="prompts a picture")
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument("--trunk-rate", type=float, default=0.3, help="the trunk's share of the rate")
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--muon", type=float, default=0.5)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--average", type=float, default=0.998)
    parser.add_argument("--pasted", type=float, default=0.5, help="how often objects are pasted onto a picture")
    parser.add_argument("--boxes", type=float, default=0.4, help="the share of boxes among the prompts")
    parser.add_argument("--only", default="", help="the beginning of the names of the parameters that are trained")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=1_000_000, help="ends after so many")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    trainer = Trainer(arguments)
    began = time.monotonic()
    pictures = Pictures(data.squeezed(arguments.archives), arguments.longest, arguments.device)
    print(f"{len(pictures.images)} pictures in {time.monotonic() - began:.1f} s", flush=True)
    began = shown = saved = time.monotonic()
    step, seen, size, window = 0, 0, None, []
    while step < arguments.steps:
        elapsed = (time.monotonic() - began) / (60 * arguments.minutes)
        if elapsed >= 1:
            break
        now = [entry for entry in arguments.sizes if entry[0] <= elapsed][-1]
        if now[1:] != size:
            size = now[1:]
            batches = Batches(pictures, arguments.seed, *size, arguments.prompts, arguments.pasted, arguments.boxes)
        rate = arguments.rate * min(1, (step + 1) / arguments.warmup) * 0.5 * (1 + math.cos(math.pi * elapsed))
        rounds = train.passes(np.random.default_rng((arguments.seed, step)))
        window.append(trainer.step(batches.draw(step), (arguments.seed, step, 0), rounds, rate, step))
        step, seen = step + 1, seen + size[1]
        if step % 50 == 0:
            mean = torch.stack(window).nanmean(dim=0).tolist()
            now = time.monotonic()
            print(
                f"step {step} size {size[0]} rate {rate:.2e} mask {mean[0]:.4f} iou {mean[1]:.4f} | IoU single {mean[2]:.3f} "
                f"best {mean[3]:.3f} chosen {mean[4]:.3f} corrected {mean[5]:.3f} | norm {mean[6]:.2f} "
                f"{seen / (now - shown):.0f} images/s {now - began:.0f} s",
                flush=True,
            )
            shown, seen, window = now, 0, []
            if now - saved > 60:
                save(trainer.average, step, arguments.out)
                saved = now
    save(trainer.average, step, arguments.out)
    print(f"ended at step {step}", flush=True)


if __name__ == "__main__":
    main()
