#!/usr/bin/env python3
"""Makes nano/everything.json with the published SamAutomaticMaskGenerator, on the model and the picture of nano/.

    python make_everything.py

Needs torch, torchvision with its operators or deploy/everything.py beside them, segment-anything, opencv-python-headless, pycocotools, pillow and
numpy. Each case: the settings by their published names, the plan's crops as generate_crop_boxes has them, and the records
without the numbers' last digits.
"""
import json, pathlib, sys
import numpy as np
import torch
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(ROOT / "deploy"))
import everything, runpy

everything.settle_torchvision()
import segment_anything
from segment_anything.utils.amg import generate_crop_boxes

CASES = [
    dict(points_per_side=5, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0),
    dict(points_per_side=6, pred_iou_thresh=0.03, stability_score_thresh=0.3, stability_score_offset=0.002,
         box_nms_thresh=0.999),
    dict(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0, stability_score_offset=0.05,
         box_nms_thresh=1.0, crop_n_layers=1, crop_nms_thresh=1.0, crop_n_points_downscale_factor=2),
    dict(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0, min_mask_region_area=200),
]
reference = runpy.run_path(str(ROOT / "deploy" / "published" / "reference.py"))
model = reference["build"](reference["GEOMETRIES"]["nano"])
model.load_state_dict(torch.load(HERE / "nano" / "sam.pth", weights_only=True))
picture = np.asarray(Image.open(HERE / "nano" / "landscape.jpg").convert("RGB"))
cases = []
for settings in CASES:
    masks = segment_anything.SamAutomaticMaskGenerator(model.eval(), output_mode="coco_rle", **settings).generate(picture)
    boxes, layers = generate_crop_boxes(
        picture.shape[:2], settings.get("crop_n_layers", 0), 512 / 1500)
    for mask in masks[8:]:  # of masks of noise a few are enough; of the others their size tells
        mask["segmentation"] = None
    cases.append(dict(settings=settings, crops=boxes, layers=layers, masks=masks))
    print(settings, len(masks))
plans = []
for width, height, count, ratio in ((1117, 745, 2, 512 / 1500), (64, 48, 3, 0.25), (4000, 3000, 1, 0.5), (7, 9, 2, 0.3)):
    boxes, layers = generate_crop_boxes((height, width), count, ratio)
    plans.append(dict(width=width, height=height, layers=count, ratio=ratio, boxes=boxes, of=layers))
(HERE / "nano" / "everything.json").write_text(json.dumps(dict(cases=cases, plans=plans)))
