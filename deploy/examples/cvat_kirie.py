"""Kirie as an auto-annotation function of CVAT: masks for whole tasks, and an interactor for CVAT's AI agents.

    pip install 'cvat-cli' 'cvat-sdk[masks]'
    # every picture of task 7: what a grid of clicks finds
    cvat-cli --server-host https://cvat.example task auto-annotate 7 --function-file cvat_kirie.py \
        -p url=str:http://127.0.0.1:8080 -p label=str:object --allow-unmatched-labels
    # boxes and points that are known beforehand: {"a.jpg": [{"box": [10, 20, 300, 400], "label": "car"}], ...}
    cvat-cli … task auto-annotate 7 --function-file cvat_kirie.py -p prompts=str:prompts.json -p labels=str:car,person
    # an interactor that annotators click with
    cvat-cli … function create-native Kirie --function-file cvat_kirie.py -p kind=str:interactor
    cvat-cli … function run-agent ID --function-file cvat_kirie.py -p kind=str:interactor

Parameters: url, key (an API key, or $KIRIE_KEY), model, kind (detector or interactor), label, labels, prompts,
points_per_side (8), threshold (0.8: the least predicted IoU), overlap (0.7: boxes that overlap more are one object),
max_points (200: of a mask's polygons together).
"""

from __future__ import annotations

import io
import json
import os
import urllib.error
import urllib.request

import cvat_sdk.auto_annotation as cvataa
import cvat_sdk.models as models
import numpy
import PIL.Image
from cvat_sdk.masks import encode_mask


class Kirie:
    """The gateway's interface, as far as it is needed here."""

    def __init__(self, url: str, key: str | None, model: str | None):
        self.url, self.key, self.model = url.rstrip("/"), key, model

    def call(self, path: str, body: bytes, kind: str) -> dict:
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": kind})
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        try:
            with urllib.request.urlopen(request, timeout=300) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                detail = error.read().decode(errors="replace")
            raise RuntimeError(f"{self.url}{path} answered {error.code}: {detail}") from error

    def upload(self, image: PIL.Image.Image) -> str:
        """Puts a picture into the cluster, pixel for pixel; returns its name."""
        file = io.BytesIO()
        image.convert("RGB").save(file, "PNG", compress_level=1)
        return self.call("/v1/images", file.getvalue(), "image/png")["sha256"]

    def segment(self, sha256: str, prompts: list[dict], **members) -> dict:
        line = {"image": {"sha256": sha256}, "prompts": prompts, "multimask": True, **members}
        if self.model:
            line["model"] = self.model
        return self.call("/v1/segment", json.dumps(line).encode(), "application/json")


def bitmap(run: dict) -> numpy.ndarray:
    """The pixels of COCO's compressed run lengths, as (H, W) of bool."""
    counts: list[int] = []
    value = shift = 0
    for sign in run["counts"].encode():
        bits = sign - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    height, width = run["size"]
    kinds = numpy.arange(len(counts)) % 2 == 1
    return numpy.repeat(kinds, counts).reshape(width, height).T


def overlap(one: list[float], other: list[float]) -> float:
    """Intersection over union of two boxes of x, y, width, height."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    return common / max(one[2] * one[3] + other[2] * other[3] - common, 1)


class Detector:
    """Masks of whole pictures: of given prompts, or of what a grid of clicks finds."""

    def __init__(self, kirie: Kirie, labels: list[str], prompts: dict | None, options: dict):
        self.kirie, self.prompts, self.options = kirie, prompts, options
        self.spec = cvataa.DetectionFunctionSpec(
            labels=[cvataa.label_spec(name, index) for index, name in enumerate(labels)])
        self.labels = {name: index for index, name in enumerate(labels)}

    def detect(
        self, context: cvataa.DetectionFunctionContext, image: PIL.Image.Image
    ) -> list[models.LabeledShapeRequest]:
        asked = self.asked(context.frame_name, image)
        if not asked:
            return []
        polygons = context.conv_mask_to_poly
        answer = self.kirie.segment(
            self.kirie.upload(image),
            [{name: value for name, value in prompt.items() if name != "label"} for prompt in asked],
            **({"output": "polygon", "polygon": {"max_points": self.options["max_points"]}} if polygons else {}),
        )
        threshold = context.conf_threshold
        shapes = []
        for mask in self.kept(answer["masks"], threshold):
            name = asked[mask["prompt"]].get("label", next(iter(self.labels)))
            if name in self.labels:
                shapes += self.shapes(self.labels[name], mask, polygons)
        return shapes

    def asked(self, frame: str, image: PIL.Image.Image) -> list[dict]:
        if self.prompts is not None:
            return self.prompts.get(frame) or self.prompts.get(os.path.basename(frame)) or []
        count = self.options["points_per_side"]
        steps = [(index + 0.5) / count for index in range(count)]
        return [{"points": [[x * image.width, y * image.height]], "labels": [1]} for y in steps for x in steps]

    def kept(self, masks: list[dict], threshold: float | None) -> list[dict]:
        if self.prompts is not None:
            best = {}
            for mask in masks:
                best.setdefault(mask["prompt"], mask)
            return [mask for mask in best.values() if mask["area"] and mask["score"] >= (threshold or 0)]
        least = self.options["threshold"] if threshold is None else threshold
        kept: list[dict] = []
        for mask in sorted(masks, key=lambda mask: -mask["score"]):
            if mask["area"] and mask["score"] >= least and all(
                overlap(mask["bbox"], other["bbox"]) < self.options["overlap"] for other in kept
            ):
                kept.append(mask)
        return kept

    @staticmethod
    def shapes(label: int, mask: dict, polygons: bool) -> list[models.LabeledShapeRequest]:
        if polygons:
            # CVAT's polygons have no holes.
            return [
                cvataa.polygon(label, [float(number) for number in region["exterior"]])
                for region in mask["regions"] if len(region["exterior"]) >= 6
            ]
        return [cvataa.mask(label, encode_mask(bitmap(mask["segmentation"])))]


class Uploaded:
    """A picture that is in the cluster."""

    # No dataclass: cvat-cli loads this file without naming it, where those cannot be made.
    def __init__(self, image: PIL.Image.Image, sha256: str):
        self.image, self.sha256 = image, sha256


class Interactor:
    """A mask for what somebody clicks on."""

    spec = cvataa.InteractionFunctionSpec(min_pos_points=0, min_neg_points=0, min_bounding_boxes=0)

    def __init__(self, kirie: Kirie):
        self.kirie = kirie

    def preprocess_image(
        self, context: cvataa.InteractionFunctionContext, image: PIL.Image.Image
    ) -> Uploaded:
        return Uploaded(image, self.kirie.upload(image))

    def detect(
        self, context: cvataa.InteractionFunctionContext, pp_image: Uploaded, prompts: cvataa.InteractionPrompts
    ) -> list[cvataa.InteractionResultShape]:
        points = [*prompts.pos_points, *prompts.neg_points]
        prompt: dict = {}
        if points:
            prompt["points"] = [list(point) for point in points]
            prompt["labels"] = [1] * len(prompts.pos_points) + [0] * len(prompts.neg_points)
        if prompts.bounding_box:
            (x0, y0), (x1, y1) = prompts.bounding_box
            prompt["box"] = [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]
        if not prompt:
            return []
        try:
            answer = self.kirie.segment(pp_image.sha256, [prompt])
        except RuntimeError as error:
            if "unknown-image" not in str(error):
                raise
            # It was not asked about for so long that the cluster has let it go.
            answer = self.kirie.segment(self.kirie.upload(pp_image.image), [prompt])
        mask = answer["masks"][0]
        if not mask["area"]:
            return []
        score = models.AttributeValRequest(
            spec_id=int(cvataa.InteractionResultAttributes.CONFIDENCE), value=f"{min(max(mask['score'], 0), 1):.4f}")
        return [
            cvataa.InteractionResultShape(
                type="mask", points=encode_mask(bitmap(mask["segmentation"])), attributes=[score])
        ]


def create(
    url: str = "http://127.0.0.1:8080", key: str = "", model: str = "", kind: str = "detector", label: str = "object",
    labels: str = "", prompts: str = "", points_per_side: int = 8, threshold: float = 0.8, overlap: float = 0.7,
    max_points: int = 200,
) -> Detector | Interactor:
    """The function, as cvat-cli asks for it."""
    kirie = Kirie(url, key or os.environ.get("KIRIE_KEY"), model or None)
    if kind == "interactor":
        return Interactor(kirie)
    if kind != "detector":
        raise ValueError("kind: detector or interactor is expected")
    known = None
    if prompts:
        with open(prompts, encoding="utf-8") as file:
            known = json.load(file)
    names = [name.strip() for name in labels.split(",") if name.strip()] or [label]
    options = dict(
        points_per_side=points_per_side, threshold=threshold, overlap=overlap, max_points=max_points)
    return Detector(kirie, names, known, options)
