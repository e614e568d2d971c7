#!/usr/bin/env python3
"""Holds everything mode against the published SamAutomaticMaskGenerator, on the same weights and pictures.

    deploy/everything                     ViT-B's shape, MobileSAM's and the shipped model, with and without crops
    deploy/everything mobile tiny --kirie .build/release/kirie --image photo.jpg
    deploy/everything fast --pictures FOLDER
    deploy/everything memory decoders

Weights of the published shapes are drawn from a seed, and the thresholds are set so that some 50 to 500 masks are kept;
the shipped model runs in the program that trained it. A mask of either side has to have a counterpart of IoU 0.99 in the
other, unless a score of it lies within 0.001 of a threshold. Times are of the whole generator without the image's encode.
`fast` holds --fast against the plain way, on the pictures of a folder or on those that come with the project; `memory` is
the peak on 12 megapixels of noise with MobileSAM's shape; `decoders` times one job on one decoder and on two, one thread
each. Leave the machine alone meanwhile.

The first run makes a virtual environment and installs the published packages from PyPI. Exit status 0 if every figure is
within its bound, 1 if not, 2 where something is missing.
"""
from __future__ import annotations

import argparse, json, os, pathlib, runpy, statistics, subprocess, sys, tempfile, time
from published import environment, workers

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ("vit_b", "mobile", "tiny")
CASES = (*MODELS, "fast", "memory", "decoders")
TIMES = 15  # how many times faster than the published generator, at 32 x 32 points of ViT-B's shape
FAST_TIMES, FAST_AREA = 2, 0.95  # --fast beside the plain way: the mean of pictures
MEMORY = 600  # MB at most, 12 megapixels, MobileSAM's shape, every mask kept
DECODERS = 1.7  # times faster with two decoders than with one


def settle_torchvision() -> None:
    """Gives PyPI's torchvision the one operator that the generator needs, where its compiled part is left out."""
    import torch

    runpy.run_path(str(ROOT / "deploy" / "published" / "reference.py"))["name_torchvision"]()
    from torchvision.ops import boxes as operations
    try:
        operations.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        return
    except (NotImplementedError, RuntimeError):
        pass

    def nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
        """torchvision's own, by its C++ code's order of operations."""
        order = torch.sort(scores, dim=0, descending=True, stable=True)[1]
        x0, y0, x1, y1 = boxes[order].unbind(1)
        areas = (x1 - x0) * (y1 - y0)
        dropped = torch.zeros(len(order), dtype=torch.bool)
        kept = []
        for i in range(len(order)):
            if dropped[i]:
                continue
            kept.append(int(order[i]))
            width = (torch.minimum(x1[i], x1[i + 1:]) - torch.maximum(x0[i], x0[i + 1:])).clamp(min=0)
            height = (torch.minimum(y1[i], y1[i + 1:]) - torch.maximum(y0[i], y0[i + 1:])).clamp(min=0)
            shared = width * height
            dropped[i + 1:] |= shared / (areas[i] + areas[i + 1:] - shared) > threshold
        return torch.tensor(kept, dtype=torch.int64)

    operations.nms = nms


class ShippedPredictor:
    """The shipped model behind the interface of the published SamPredictor."""

    def __init__(self, path: pathlib.Path) -> None:
        import torch
        from safetensors import safe_open
        from segment_anything.utils.transforms import ResizeLongestSide

        sys.path.insert(0, str(ROOT / "weights" / "train"))
        import model, predictor

        with safe_open(path, "pt") as file:
            self.size = int(file.metadata()["kirie.image_size"])
        self.theirs = predictor.Predictor(model.exported(path).eval().requires_grad_(False), self.size)
        self.transform = ResizeLongestSide(self.size)
        self.device = torch.device("cpu")
        self.model = argparse.Namespace(mask_threshold=0.0)

    def set_image(self, image) -> None:
        self.theirs.look(image)

    def reset_image(self) -> None:
        pass

    def predict_torch(self, points, labels, multimask_output=True, return_logits=True):
        import torch
        import torch.nn.functional as F

        with torch.no_grad():
            points = F.pad(points.float(), (0, 0, 0, 1))
            kinds = F.pad(labels.long(), (0, 1), value=-1)
            logits, scores = self.theirs.model.decode(
                self.theirs.features, points, kinds, None, prompts_per_image=len(points))
            x = F.interpolate(logits[:, 1:], (self.size, self.size), mode="bilinear", align_corners=False)
            x = x[..., : self.theirs.scaled[0], : self.theirs.scaled[1]]
            masks = F.interpolate(x, self.theirs.original, mode="bilinear", align_corners=False)
        return masks, scores[:, 1:], logits[:, 1:]


class Generator:
    """The published generator, with the time that it spends outside the image encoder."""

    def __init__(self, code, model, predictor=None, **settings) -> None:
        class Stub:
            class image_encoder:
                img_size = 1024

        self.theirs = code.SamAutomaticMaskGenerator(model or Stub(), output_mode="coco_rle", **settings)
        if predictor:
            self.theirs.predictor = predictor
        self.encoding = 0.0
        set_image = self.theirs.predictor.set_image

        def timed(*arguments) -> None:
            start = time.perf_counter()
            set_image(*arguments)
            self.encoding += time.perf_counter() - start

        self.theirs.predictor.set_image = timed

    def run(self, picture) -> tuple[list[dict], float]:
        self.encoding = 0.0
        start = time.perf_counter()
        masks = self.theirs.generate(picture)
        return masks, time.perf_counter() - start - self.encoding


def thresholds(code, model, predictor, picture) -> dict:
    """Settings with which the published generator keeps some 50 to 500 masks, found on the masks of a coarse grid."""
    import numpy as np, torch
    from torchvision.ops import boxes as operations

    loose = Generator(code, model, predictor, points_per_side=16, pred_iou_thresh=0.0, stability_score_thresh=0.0,
                      box_nms_thresh=1.0).run(picture)[0]
    iou = np.array([mask["predicted_iou"] for mask in loose])
    stability = np.nan_to_num(np.array([mask["stability_score"] for mask in loose]))
    corners = np.array([mask["bbox"] for mask in loose], np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]

    def share(values, quantile: float) -> float:
        return round(min(max(float(np.quantile(values, quantile)), 0.0), 1.0), 4)

    for quantile in (0.3, 0.6, 0.9):
        found = dict(pred_iou_thresh=share(iou, quantile), stability_score_thresh=share(stability, quantile))
        good = (iou > found["pred_iou_thresh"]) & (stability >= found["stability_score_thresh"])
        for nms in (0.7, 0.8, 0.9, 0.95, 0.98, 0.99):
            kept = operations.nms(torch.tensor(corners[good]), torch.tensor(iou[good]), nms)
            # The full grid has four times as many points, and finds some more.
            if 45 <= len(kept) <= 150:
                return found | dict(box_nms_thresh=nms)
    # Drawn weights make masks of noise, whose boxes all are the whole picture: none is dropped for lying on another one.
    return dict(
        pred_iou_thresh=share(iou, 0.95), stability_score_thresh=0.0, box_nms_thresh=1.0, crop_nms_thresh=1.0)


def kirie_flags(settings: dict) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]


class Table:
    failed = False

    def row(self, name: str, value: str, good: bool) -> None:
        self.failed |= not good
        print(f"  {name:58s} {value:>24s}  {'PASS' if good else 'FAIL'}", flush=True)

    def said(self, name: str, value: str) -> None:
        print(f"  {name:58s} {value:>24s}", flush=True)


def unmatched(masks: list[dict], others: list[dict], settings: dict) -> tuple[int, int]:
    """How many masks have no counterpart of IoU 0.99, and how many of those no score near a threshold excuses."""
    import numpy as np
    from pycocotools import mask as runs

    if not masks or not others:
        return len(masks), len(masks)
    iou = runs.iou([m["segmentation"] for m in masks], [m["segmentation"] for m in others], [0] * len(others))
    alone = [index for index, best in enumerate(np.max(iou, axis=1)) if best < 0.99]

    def near(mask: dict) -> bool:
        return abs(mask["predicted_iou"] - settings["pred_iou_thresh"]) <= 1e-3 \
            or abs(mask["stability_score"] - settings["stability_score_thresh"]) <= 1e-3

    return len(alone), sum(not near(masks[index]) for index in alone)


def check(options: argparse.Namespace, kirie: str, table: Table, name: str, work: pathlib.Path) -> None:
    """All layers of crops of one model."""
    import numpy as np, torch
    from PIL import Image

    picture = np.asarray(Image.open(options.image).convert("RGB"))
    reference = runpy.run_path(str(options.reference))
    import segment_anything as code
    if name == "tiny":
        model, predictor = None, ShippedPredictor(ROOT / "weights" / "kirie-tiny.safetensors")
        flags = ["--model", "kirie-tiny"]
    else:
        geometry = reference["GEOMETRIES"][name]
        code = reference["package"](geometry)
        model, predictor = reference["draw"](geometry, 7), None
        torch.save(model.state_dict(), work / "sam.pth")
        flags = ["--model", str(work / "sam.pth")] + (["--image-size", "1024"] if name == "mobile" else [])
    flags += ["--precision", "fp32"]
    found = thresholds(code, model, predictor, picture)
    for crops in map(int, options.crops.split(",")):
        settings = found | dict(crop_n_layers=crops, min_mask_region_area=0) | (dict(points_per_side=16) if crops else {})
        theirs, seconds = Generator(code, model, predictor, **settings).run(picture)
        print(f"{name}, {crops} layers of crops, {' '.join(kirie_flags(settings))}", flush=True)
        compare(options, kirie, table, name, crops, settings, flags, theirs, seconds, work)


def compare(
    options: argparse.Namespace, kirie: str, table: Table, name: str, crops: int, settings: dict, flags: list[str],
    theirs: list[dict], seconds: float, work: pathlib.Path,
) -> None:
    """Kirie's masks and times beside those of the published generator."""

    run(kirie, "everything", str(options.image), *flags, *kirie_flags(settings), "-o", str(work / f"out{crops}"),
        "--convert-to-rle")
    ours = json.loads((work / f"out{crops}" / f"{options.image.stem}.json").read_text())
    table.row("masks: published, Kirie", f"{len(theirs)}, {len(ours)}",
              abs(len(theirs) - len(ours)) <= max(1, 0.01 * len(theirs)))
    for label, side, other in (("published masks", theirs, ours), ("Kirie's masks", ours, theirs)):
        alone, unexcused = unmatched(side, other, settings)
        table.row(f"{label} without a counterpart; of those not excused", f"{alone}, {unexcused}", unexcused == 0)
    if crops == 0:
        figures = json.loads(run(kirie, "bench", "everything", str(options.image), *flags, *kirie_flags(settings), "--runs",
                                 "3", "--json"))
        ratio = seconds / figures["median_s"]
        cores = figures["threads"]
        table.said(f"seconds on {cores} threads: published, Kirie fp32", f"{seconds:.1f}, {figures['median_s']:.2f}")
        if name == "vit_b":
            table.row(f"times faster, at least {TIMES}", f"{ratio:.1f}", ratio >= TIMES)
        else:
            table.said("times faster", f"{ratio:.1f}")
        draft = figures["fast"]
        table.said("--fast: times faster, area and masks found",
                   f"{draft['times']:.2f}, {draft['area_found']:.3f}, {draft['masks_found']:.3f}")
        automatic = json.loads(run(
            kirie, "bench", "everything", str(options.image), *flags[:-2], *kirie_flags(settings), "--runs", "3", "--json"))
        table.said(f"in the automatic precision, {automatic['precision']}: seconds, times",
                   f"{automatic['median_s']:.2f}, {seconds / automatic['median_s']:.1f}")


def run(kirie: str, *words: str, variables: dict[str, str] | None = None) -> str:
    """What kirie prints."""
    done = subprocess.run([kirie, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    if done.returncode:
        sys.exit(f"deploy/everything: kirie {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def fast(options: argparse.Namespace, kirie: str, table: Table) -> None:
    """--fast beside the plain way, the shipped model."""
    folder = options.pictures
    pictures = sorted(folder.glob("*.jpg")) if folder else [
        ROOT / "deploy" / "sample.jpg", *sorted((ROOT / "Sources" / "Gateway" / "Pages" / "samples").glob("*.jpg"))]
    print(f"--fast and the plain way, kirie-tiny, {len(pictures)} pictures", flush=True)
    found = []
    for picture in pictures:
        figures = json.loads(run(kirie, "bench", "everything", str(picture), "--runs", "5", "--json"))["fast"]
        found.append(figures)
        table.said(f"{picture.stem}: times faster, area found", f"{figures['times']:.2f}, {figures['area_found']:.3f}")
    times, area = (statistics.mean(one[name] for one in found) for name in ("times", "area_found"))
    # The bounds are for many pictures; the few that come with the project tell less.
    if folder:
        table.row(f"times faster, at least {FAST_TIMES}", f"{times:.2f}", times >= FAST_TIMES)
        table.row(f"of the masks' area at IoU 0.9, at least {FAST_AREA}", f"{area:.3f}", area >= FAST_AREA)
    else:
        table.said("times faster, area found", f"{times:.2f}, {area:.3f}")


def memory(kirie: str, table: Table, work: pathlib.Path) -> None:
    """The peak on a large picture whose masks have many runs, before any of them is suppressed."""
    import numpy as np
    from PIL import Image

    print("memory, MobileSAM's shape, 12 megapixels of noise, no thresholds", flush=True)
    picture = work / "noise.png"
    noise = np.random.default_rng(1).integers(0, 256, (3000, 4000, 3), np.uint8)
    Image.fromarray(noise).save(picture)
    figures = json.loads(run(
        kirie, "bench", "everything", str(picture), "--random", "mobile", "--pred-iou-thresh", "0",
        "--stability-score-thresh", "0", "--runs", "1", "--json"))
    table.row(f"peak in MB, at most {MEMORY}", f"{figures['peak_rss_mb']:.0f}", figures["peak_rss_mb"] <= MEMORY)


def decoders(options: argparse.Namespace, kirie: str, table: Table, work: pathlib.Path) -> None:
    """One job of everything mode on one decoder and on two, from the command to its answer; in turn, medians of five."""
    import numpy as np, torch
    from PIL import Image
    import segment_anything as code

    reference = runpy.run_path(str(options.reference))
    model = reference["draw"](reference["GEOMETRIES"]["vit_b"], 7)
    torch.save(model.state_dict(), work / "sam.pth")
    settings = thresholds(code, model, None, np.asarray(Image.open(options.image).convert("RGB")))
    print(f"one job on one decoder and on two, one thread each, ViT-B's shape, from command to answer, "
          f"{' '.join(kirie_flags(settings))}", flush=True)
    weights = ["--model", str(work / "sam.pth")]
    roles = [["encoder", *weights], *[["decoder", *weights, "--threads", "1"]] * 2]
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for number in range(5):
        for count in seconds:
            with workers.cluster(kirie, work, roles[:1 + count]) as variables:
                run(kirie, "cache", "warm", str(options.image), variables=variables)
                start = time.perf_counter()
                run(kirie, "everything", str(options.image), *kirie_flags(settings), "--json", "--redis",
                    variables["KIRIE_REDIS"])
                seconds[count].append(time.perf_counter() - start)
    one, two = (statistics.median(seconds[count]) for count in (1, 2))
    table.said("seconds with one, with two", f"{one:.2f}, {two:.2f}")
    table.row(f"times faster, at least {DECODERS}", f"{one / two:.2f}", one / two >= DECODERS)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="deploy/everything", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--image", type=pathlib.Path, default=ROOT / "deploy" / "sample.jpg", help="a photograph")
    parser.add_argument("--pictures", type=pathlib.Path, help="JPEG files for `fast`; its bounds are for a dozen or more")
    parser.add_argument("--crops", default="0,1", help="layers of crops to try; default: 0,1")
    environment.add_arguments(parser)
    options = parser.parse_args()
    for case in options.cases:
        if case not in CASES:
            parser.error(f"{case} is no case; there are {', '.join(CASES)}")
    kirie = environment.enter(options, pathlib.Path(tempfile.gettempdir()), disk=1.5, memory=6)
    settle_torchvision()
    print(environment.versions())
    table = Table()
    for case in options.cases or CASES:
        with tempfile.TemporaryDirectory(prefix="kirie-everything-") as work:
            if case in MODELS:
                check(options, kirie, table, case, pathlib.Path(work))
            elif case == "fast":
                fast(options, kirie, table)
            elif case == "memory":
                memory(kirie, table, pathlib.Path(work))
            else:
                decoders(options, kirie, table, pathlib.Path(work))
    print("FAIL" if table.failed else "PASS")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
