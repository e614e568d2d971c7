"""Trains a small Segment Anything from nothing.

    python train.py --cache CACHE --scenes SCENES --run RUN --size 256 --steps 20000 --cooldown 4000

The run's folder holds `checkpoint.pt` (resumed from when present, replaced as a whole), `log` lines go to standard output.
A step's data, prompts and number of refinements depend on the seed and the step alone. SIGTERM ends the run after a
checkpoint; a stopped main process (SIGSTOP) pauses all of it.

Each worker process has one thread and its share of the batch, and the gradients are averaged once a step: on a machine that
others use too, threads that meet at every layer would mostly wait for one another.
The learning rate is constant after its warm-up and falls as a cosine over the last `--cooldown` steps, so a run
can be prolonged by giving a larger `--steps` to a checkpoint from before its cooldown. With `--cooldown-minutes` it falls
from the first step of that run on, and the run ends when the time is over; what is over is kept in the checkpoint, so a
cooldown may be stopped and go on, at another size too.
"""

import argparse
import copy
import datetime
import math
import os
import pathlib
import signal
import time

import numpy as np
import safetensors.torch
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing

import data
import evaluate
import losses
import prompts
from model import Sam, normalise
from muon import Muon


class Average:
    """An exponential moving average of a model's parameters and of its running statistics."""

    def __init__(self, model, decay):
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model, step):
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), [p.detach() for p in model.parameters()], 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers()):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


def learning_rate(step, elapsed, arguments):
    """Linear warm-up, a plateau, and a cosine to a hundredth over the last steps, or over the minutes given.

    elapsed: the share of `--cooldown-minutes` that is over.
    """
    rate = arguments.rate * min(1.0, (step + 1) / arguments.warmup)
    begin = arguments.steps - arguments.cooldown
    progress = max(elapsed, (step - begin) / max(1, arguments.cooldown))
    if progress > 0:
        rate *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return rate


def passes(rng):
    """How often the decoder runs on one batch: once, or with clicks where the last mask was wrong."""
    return int(rng.choice([1, 2, 3, 5], p=[0.55, 0.25, 0.12, 0.08]))


def forward(model, batch, rng, rounds):
    """The losses of one batch: those of the first pass of the decoder and, where there are more, of the last one.

    The passes between only make the masks that the next clicks correct.
    """
    images, targets, points, kinds = batch
    count = targets.shape[1]
    targets = targets.flatten(0, 1).float() / 16
    points, kinds = points.flatten(0, 1), kinds.flatten(0, 1)
    clicked = (kinds[:, 0] == 1).float()
    results = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = model.encode(normalise(images))
    masks = None
    for i in range(rounds):
        with torch.set_grad_enabled(i in (0, rounds - 1)), torch.autocast("cpu", dtype=torch.bfloat16):
            logits, predicted = model.decode(embeddings, points, kinds, masks, count)
        if i == 0:
            results.append(losses.measure(logits, predicted, targets, 1 - 0.5 * clicked, 0.5 + 0.5 * clicked))
        elif i == rounds - 1:
            results.append(losses.measure(logits, predicted, targets, 1.0, 0.0))
        if i == rounds - 1:
            break
        with torch.no_grad():
            # After a click the best scored of three goes on; after more, the single mask.
            chosen = torch.where((clicked > 0) & (i == 0), 1 + predicted[:, 1:].argmax(dim=1), 0)
            masks = logits.detach()[torch.arange(len(logits)), chosen].unsqueeze(1).float()
            more, more_kinds = prompts.corrections(rng, masks[:, 0].numpy(), (targets >= 0.5).numpy())
            points = torch.cat([more, points], dim=1)
            kinds = torch.cat([more_kinds, kinds], dim=1)
    return results


def save(path, **state):
    """Writes beside the file and renames, so that a checkpoint is whole or absent."""
    temporary = path.with_suffix(".new")
    torch.save(state, temporary)
    os.replace(temporary, path)


def deaf(_):
    """Lets the loading process outlive a SIGTERM to the whole group: the main process ends it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def initialise(model, path):
    """Begins with the weights of an exported file; a smaller window takes the part of its bias tables that it uses."""
    own = model.state_dict()
    for name, tensor in safetensors.torch.load_file(path).items():
        if name.endswith("attention_bias_idxs"):
            continue
        if name.endswith("attention_biases") and tensor.shape != own[name].shape:
            theirs, mine = (math.isqrt(t.shape[1]) for t in (tensor, own[name]))
            tensor = tensor.view(-1, theirs, theirs)[:, :mine, :mine].flatten(1)
        own[name].copy_(tensor)


def optimizers(model, arguments):
    """Muon for the matrices of layers (kernels count as matrices), AdamW for all else; decay for matrices and kernels."""
    matrices, kernels, plain = [], [], []
    for name, p in model.named_parameters():
        if p.ndim < 2 or "embed.weight" in name or "embeddings" in name or "token" in name or "biases" in name:
            plain.append(p)
        elif arguments.muon and min(p.shape[0], p[0].numel()) >= 32:
            matrices.append(p)
        else:
            kernels.append(p)
    decay = arguments.decay
    adam = [{"params": kernels, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]
    result = [torch.optim.AdamW(adam, lr=arguments.rate, betas=(0.9, 0.98), foreach=True)]
    if matrices:
        result.append(Muon(matrices, lr=arguments.rate, scale=arguments.muon, weight_decay=decay))
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
    model = Sam().to(memory_format=torch.channels_last)
    if arguments.init:
        initialise(model, arguments.init)
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
            save(path, step=step, cooled=elapsed, optimizers=[optimizer.state_dict() for optimizer in updates], **parts)

    share = arguments.batch // workers
    examples = data.Examples(
        arguments.cache, arguments.scenes, arguments.seed, arguments.size, arguments.prompts, share,
        arguments.scene_share,
    )
    numbers = range(step * workers + rank, arguments.steps * workers, workers)
    loader = iter(
        torch.utils.data.DataLoader(
            examples, batch_size=None, sampler=numbers, num_workers=1, prefetch_factor=6, worker_init_fn=deaf
        )
    )
    saved = began = time.monotonic()
    window = []
    model.train()
    stop, elapsed = False, cooled
    beginning = time.monotonic()
    while step < arguments.steps and not stop:
        rate = learning_rate(step, elapsed, arguments)
        for group in (group for optimizer in updates for group in optimizer.param_groups):
            group["lr"] = rate
        # The number of passes is the same for all workers, so that none waits for another.
        rounds = passes(np.random.default_rng((arguments.seed, step)))
        results = forward(model, next(loader), np.random.default_rng((arguments.seed, step, rank)), rounds)
        loss = sum(result.total for result in results) / len(results)
        model.zero_grad(set_to_none=True)
        loss.backward()
        if arguments.cooldown_minutes:
            elapsed = cooled + (time.monotonic() - beginning) / (60 * arguments.cooldown_minutes)
        stop, elapsed = average_gradients(model, bool(stopping) or elapsed >= 1, elapsed, workers)
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True))
        if math.isfinite(norm):
            for optimizer in updates:
                optimizer.step()
            if rank == 0:
                average.update(model, step)
        step += 1
        first, last = results[0], results[-1]
        window.append([first.mask, first.iou, first.single, first.best, first.chosen, last.single, norm])
        if rank == 0 and step % 50 == 0:
            now = time.monotonic()
            mean = np.mean(window, axis=0)
            print(
                f"step {step} rate {rate:.2e} mask {mean[0]:.4f} iou {mean[1]:.4f} | IoU single {mean[2]:.3f} "
                f"best {mean[3]:.3f} chosen {mean[4]:.3f} corrected {mean[5]:.3f} | norm {mean[6]:.2f} "
                f"{50 * arguments.batch / (now - began):.1f} images/s {time.strftime('%H:%M:%S', time.gmtime())}",
                flush=True,
            )
            began, window = now, []
        if rank == 0 and step % arguments.validate_every == 0:
            rows = evaluate.validate(average.model, arguments.cache, arguments.size)
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
    parser.add_argument("--scenes", type=pathlib.Path, required=True)
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--init", type=pathlib.Path, help="weights to begin with, as export.py writes them")
    parser.add_argument("--batch", type=int, default=16, help="pictures a step, over all workers")
    parser.add_argument("--prompts", type=int, default=8, help="prompts a picture")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--cooldown", type=int, default=0)
    parser.add_argument("--cooldown-minutes", type=float, help="let this run be a cooldown of that time, then end")
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--muon", type=float, default=0.5, help="RMS of Muon's updates per learning rate; 0: AdamW alone")
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--average", type=float, default=0.998)
    parser.add_argument("--scene-share", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--validate-every", type=int, default=500)
    parser.add_argument("--checkpoint-minutes", type=float, default=3)
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
