"""Trains a small Segment Anything that begins with a pretrained trunk and with an older model's decoder.

    python train.py --cache CACHE --run RUN --trunk TRUNK.pth --teacher OLDER.safetensors --steps 20000 --sizes 0:192,6000:256

The run's folder holds `checkpoint.pt` (resumed from when present, replaced as a whole; the one before it stays as
`checkpoint.old.pt`) and `average.pt` (the averaged weights alone, in half precision); log lines go to standard output. A
step's data, prompts and number of refinements depend on the seed and the step alone. SIGTERM ends the run after a checkpoint; a stopped main process (SIGSTOP) pauses all of it, and so does a
file named PAUSE in the run's folder or in the one above, for as long as it lies there.

Each worker process has one thread and its share of the batch, and the gradients are averaged once a step: on a machine that
others use too, threads that meet at every layer would mostly wait for one another.
For the first steps the embedding is pulled towards the teacher's own, so that its decoder, with which the model begins, can
read it. The learning rate is constant after its warm-up (with `--hold`, until that step; then it falls as 1/√step, which asks
for no end) and falls as a cosine over the last `--cooldown` steps, so a run can be prolonged by giving a larger `--steps`
to a checkpoint from before its cooldown. With `--cooldown-minutes` it falls
from the first step of that run on, and the run ends when the time is over; what is over is kept in the checkpoint, so a
cooldown may be stopped and go on, at another size too.
"""

import argparse
import copy
import dataclasses
import datetime
import math
import os
import pathlib
import signal
import time

import numpy as np
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing

import data
import efficientnet_lite
import evaluate
import losses
import model as models
import prompts
from model import Sam, Shape, normalise
from muon import Muon


class Average:
    """An exponential moving average of a model's parameters; its statistics stay as they are."""

    def __init__(self, model, decay):
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model, step):
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), [p.detach() for p in model.parameters()], 1 - decay)


def learning_rate(step, elapsed, arguments):
    """Linear warm-up, a plateau, the inverse square root, and a cosine to a hundredth over the last steps or minutes.

    elapsed: the share of `--cooldown-minutes` that is over.
    """
    rate = arguments.rate * min(1.0, (step + 1) / arguments.warmup)
    if arguments.hold:
        rate *= min(1.0, (arguments.hold / (step + 1)) ** 0.5)
    begin = arguments.steps - arguments.cooldown
    progress = max(elapsed, (step - begin) / max(1, arguments.cooldown))
    if progress > 0:
        rate *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return rate


def passes(rng):
    """How often the decoder runs on one batch: mostly with one click where the first mask was wrong, at times with more."""
    return int(rng.choice([1, 2, 3, 5], p=[0.3, 0.5, 0.15, 0.05]))


def pull(embeddings, wanted):
    """The relative squared error of embeddings."""
    return (embeddings.float() - wanted.float()).square().sum() / wanted.float().square().sum()


def correct(seed, logits, targets):
    """A click per prompt where the mask is wrong, on the processor that the masks are on."""
    if logits.device.type == "cpu":
        return prompts.corrections(np.random.default_rng(seed), logits.numpy(), targets.numpy())
    mixed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return prompts.corrections_at_once(torch.Generator(logits.device).manual_seed(mixed), logits, targets)


def forward(model, batch, seed, rounds, teacher=None, strength=0.0):
    """The losses of one batch: those of the first pass of the decoder and, where there are more, of the last one.

    The passes between only make the masks that the next clicks correct. Also returns the pull towards the teacher.
    """
    kind = batch[0].device.type
    images, targets, points, kinds = batch
    count = targets.shape[1]
    targets = targets.flatten(0, 1)
    points, kinds = points.flatten(0, 1), kinds.flatten(0, 1)
    clicked = (kinds[:, 0] == 1).float()
    results, pulled = [], torch.zeros((), device=kind)
    images = normalise(images)
    with torch.autocast(kind, dtype=torch.bfloat16):
        features = model.encode(images)
        if strength > 0:
            with torch.no_grad():
                wanted = teacher.encode(images).embeddings
            pulled = strength * pull(features.embeddings, wanted)
    masks = None
    for i in range(rounds):
        with torch.set_grad_enabled(i in (0, rounds - 1)), torch.autocast(kind, dtype=torch.bfloat16):
            logits, predicted = model.decode(features, points, kinds, masks, count)
        if i == 0:
            weights = (1 - 0.5 * clicked, 0.5 + 0.5 * clicked)
            results.append(losses.measure(logits, predicted, targets, *weights, choosing=clicked))
        elif i == rounds - 1:
            results.append(losses.measure(logits, predicted, targets, 1.0, 0.0))
        if i == rounds - 1:
            break
        with torch.no_grad():
            # After a click the best scored of three goes on; after more, the single mask.
            chosen = torch.where((clicked > 0) & (i == 0), 1 + predicted[:, 1:].argmax(dim=1), 0)
            masks = logits.detach()[torch.arange(len(logits), device=kind), chosen].unsqueeze(1).float()
            more, more_kinds = correct((*seed, i), masks[:, 0], targets >= 8)
            points = torch.cat([more, points], dim=1)
            kinds = torch.cat([more_kinds, kinds], dim=1)
    return results, pulled


def save(path, **state):
    """Writes beside the file and renames, so that a checkpoint is whole or absent; the last one stays as `.old.pt`."""
    temporary = path.with_suffix(".new")
    torch.save(state, temporary)
    if path.exists():
        os.replace(path, path.with_suffix(".old.pt"))
    os.replace(temporary, path)


def pause(run):
    """Waits while a file named PAUSE lies in the run's folder or above it; returns the seconds."""
    began = time.monotonic()
    while any((folder / "PAUSE").exists() for folder in (run, run.parent)):
        time.sleep(1)
    return time.monotonic() - began


def deaf(_):
    """Lets the loading process outlive a SIGTERM to the whole group: the main process ends it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def optimizers(model, arguments):
    """AdamW at a lower rate for the pretrained trunk; for the rest Muon for matrices (kernels count as such), else AdamW.

    Matrices and kernels decay. A group's rate is `factor` times that of the run.
    """
    trunk = {id(p) for p in model.image_encoder.trunk()}
    groups = {"trunk kernels": [], "trunk": [], "kernels": [], "plain": []}
    matrices = []
    for name, p in model.named_parameters():
        plain = p.ndim < 2 or "embed.weight" in name or "embeddings" in name or "token" in name
        if id(p) in trunk:
            groups["trunk" if plain else "trunk kernels"].append(p)
        elif not plain and arguments.muon and min(p.shape[0], p[0].numel()) >= 32:
            matrices.append(p)
        else:
            groups["plain" if plain else "kernels"].append(p)
    adam = [
        {
            "params": parameters,
            "weight_decay": arguments.decay if "kernels" in name else 0.0,
            "factor": arguments.trunk_rate if "trunk" in name else 1.0,
        }
        for name, parameters in groups.items()
    ]
    kind = {"fused": True} if next(model.parameters()).is_cuda else {"foreach": True}
    result = [torch.optim.AdamW(adam, lr=arguments.rate, betas=(0.9, 0.98), **kind)]
    if matrices:
        muon = [{"params": matrices, "factor": 1.0}]
        result.append(Muon(muon, lr=arguments.rate, scale=arguments.muon, weight_decay=arguments.decay))
    return result


def average_gradients(model, stop, elapsed, workers):
    """Averages the gradients over the workers; also returns whether any wants to stop, and their mean clock."""
    if workers == 1:
        return stop, elapsed
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    flat = torch.cat([g.reshape(-1) for g in gradients] + [torch.tensor([float(stop), elapsed])])
    distributed.all_reduce(flat)
    flat /= workers
    offset = 0
    for parameter, gradient in zip(model.parameters(), gradients):
        count = gradient.numel()
        parameter.grad = flat[offset : offset + count].view_as(gradient)
        offset += count
    return float(flat[-2]) > 0, float(flat[-1])


def work(rank, arguments):
    """The training loop of one worker; the first one logs, validates and saves."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(arguments.seed)
    workers = arguments.workers
    stopping = []
    if rank == 0:
        signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    else:
        deaf(rank)
    if workers > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{arguments.run}/rendezvous", rank=rank, world_size=workers,
            timeout=datetime.timedelta(hours=24),
        )
    path = arguments.run / "checkpoint.pt"
    model = Sam(Shape(stages=getattr(efficientnet_lite, arguments.stages), neck=arguments.neck))
    teacher = None
    if arguments.teacher and (not path.exists() or arguments.pull):
        teacher = models.tiny_vit(arguments.teacher).to(memory_format=torch.channels_last)
        models.begin(model, teacher, arguments.trunk)
    if arguments.begin and not path.exists():
        if arguments.begin.suffix == ".safetensors":
            model.load_state_dict(models.exported(arguments.begin, arguments.begin_slope).state_dict())
        else:
            model.load_state_dict(torch.load(arguments.begin, map_location="cpu", weights_only=True)["average"])
    model = model.to(memory_format=torch.channels_last)
    average = Average(model, arguments.average)
    updates = optimizers(model, arguments)
    step, cooled = 0, 0.0
    if path.exists():
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        average.model.load_state_dict(state["average"])
        for optimizer, saved in zip(updates, state["optimizers"]):
            optimizer.load_state_dict(saved)
        step, cooled = state["step"], state["cooled"] if arguments.cooldown_minutes else 0.0
        if rank == 0:
            print(f"resumed at step {step}", flush=True)

    def checkpoint():
        if rank == 0:
            parts = {"model": model.state_dict(), "average": average.model.state_dict()}
            parts["optimizers"] = [optimizer.state_dict() for optimizer in updates]
            small = {name: t.half() if t.is_floating_point() else t for name, t in average.model.state_dict().items()}
            torch.save({"step": step, "shape": dataclasses.asdict(model.shape), "average": small}, path.with_name("average.pt"))
            save(path, step=step, cooled=elapsed, shape=dataclasses.asdict(model.shape), **parts)

    share = arguments.batch // workers
    examples = data.Examples(
        arguments.cache, arguments.scenes, arguments.seed, arguments.sizes, arguments.prompts, share, workers,
        arguments.scene_share,
    )
    numbers = range(step * workers + rank, arguments.steps * workers, workers)
    loader = iter(
        torch.utils.data.DataLoader(
            examples, batch_size=None, sampler=numbers, num_workers=arguments.loaders, prefetch_factor=4,
            worker_init_fn=deaf,
        )
    )
    saved = began = time.monotonic()
    window = []
    model.train()
    stop, elapsed = False, cooled
    beginning = time.monotonic()
    while step < arguments.steps and not stop:
        waited = pause(arguments.run)
        began, beginning = began + waited, beginning + waited
        rate = learning_rate(step, elapsed, arguments)
        for group in (group for optimizer in updates for group in optimizer.param_groups):
            group["lr"] = rate * group["factor"]
        # The number of passes is the same for all workers, so that none waits for another.
        rounds = passes(np.random.default_rng((arguments.seed, step)))
        strength = max(0.0, arguments.pull_weight * (1 - step / arguments.pull)) if arguments.pull else 0.0
        results, pulled = forward(model, next(loader), (arguments.seed, step, rank), rounds, teacher, strength)
        loss = sum(result.total for result in results) / len(results) + pulled
        model.zero_grad(set_to_none=True)
        loss.backward()
        if arguments.cooldown_minutes:
            elapsed = cooled + (time.monotonic() - beginning) / (60 * arguments.cooldown_minutes)
        stop, elapsed = average_gradients(model, bool(stopping) or elapsed >= 1, elapsed, workers)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        if math.isfinite(float(norm)):
            for optimizer in updates:
                optimizer.step()
            if rank == 0:
                average.update(model, step)
        step += 1
        first, last = results[0], results[-1]
        corrected = last.single if rounds > 1 else torch.full_like(last.single, math.nan)
        shown = [first.mask, first.iou, first.single, first.best, first.chosen, corrected, norm, pulled.detach()]
        window.append(torch.stack(shown))
        if rank == 0 and step % 50 == 0:
            now = time.monotonic()
            mean = torch.stack(window).nanmean(dim=0).tolist()
            print(
                f"step {step} rate {rate:.2e} mask {mean[0]:.4f} iou {mean[1]:.4f} | IoU single {mean[2]:.3f} "
                f"best {mean[3]:.3f} chosen {mean[4]:.3f} corrected {mean[5]:.3f} | norm {mean[6]:.2f} pull {mean[7]:.3f} "
                f"{50 * arguments.batch / (now - began):.1f} images/s {time.strftime('%H:%M:%S', time.gmtime())}",
                flush=True,
            )
            began, window = now, []
        if rank == 0 and arguments.validate_every and step % arguments.validate_every == 0:
            rows = evaluate.validate(average.model, arguments.cache, arguments.sizes[-1][1])
            print(f"validation at step {step}\n{evaluate.table(rows)}", flush=True)
            began = time.monotonic()
        if time.monotonic() - saved > 60 * arguments.checkpoint_minutes:
            checkpoint()
            saved = time.monotonic()
    checkpoint()
    if rank == 0:
        print(f"stopped at step {step}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--scenes", type=pathlib.Path, help="drawn scenes, as scenes.py writes them")
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--stages", default="LITE2", choices=["LITE0", "LITE1", "LITE2"], help="the trunk's shape")
    parser.add_argument("--neck", type=int, default=192, help="channels between the neck's convolutions")
    parser.add_argument("--trunk", type=pathlib.Path, help="published weights of the trunk, to begin with")
    parser.add_argument("--teacher", type=pathlib.Path, help="an exported TinyViT model, to begin with")
    parser.add_argument("--pull", type=int, default=0, help="steps for which the embedding is pulled to the teacher's")
    parser.add_argument("--pull-weight", type=float, default=4.0)
    parser.add_argument("--begin", type=pathlib.Path, help="averaged weights (average.pt), or an exported file, that a new run begins with")
    parser.add_argument("--begin-slope", type=float, default=8.0, help="the slope that the exported file was written with")
    parser.add_argument("--trunk-rate", type=float, default=0.3, help="the trunk's share of the rate")
    parser.add_argument("--sizes", type=data.curriculum, default="0:256", help="picture sizes, STEP:SIZE,STEP:SIZE…")
    parser.add_argument("--batch", type=int, default=16, help="pictures a step, over all workers")
    parser.add_argument("--prompts", type=int, default=8, help="prompts a picture")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--hold", type=int, default=0, help="the step from which on the rate falls as 1/√step; 0: never")
    parser.add_argument("--cooldown", type=int, default=0)
    parser.add_argument("--cooldown-minutes", type=float, help="let this run be a cooldown of that time, then end")
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--muon", type=float, default=0.5, help="RMS of Muon's updates per learning rate; 0: AdamW alone")
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--average", type=float, default=0.999)
    parser.add_argument("--scene-share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that train")
    parser.add_argument("--loaders", type=int, default=1, help="processes that prepare pictures, for each of them")
    parser.add_argument("--validate-every", type=int, default=0)
    parser.add_argument("--checkpoint-minutes", type=float, default=5)
    arguments = parser.parse_args()
    arguments.run.mkdir(parents=True, exist_ok=True)
    arguments.run = arguments.run.resolve()
    (arguments.run / "rendezvous").unlink(missing_ok=True)
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=work, args=(rank, arguments)) for rank in range(1, arguments.workers)]
    for process in others:
        process.start()
    work(0, arguments)
    for process in others:
        process.join()


if __name__ == "__main__":
    main()
