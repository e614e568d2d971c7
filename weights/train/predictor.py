"""Prediction as the published predictor does it: the frame, coordinates, and masks at the picture's own size."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from model import PIXEL_MEAN, PIXEL_STD


class Predictor:
    """One picture's features, and masks for many prompts upon it."""

    def __init__(self, model, image_size):
        self.model, self.size = model, image_size

    def frame(self, image):
        """uint8 (H, W, 3) to (1, 3, S, S): the longest side scaled to S, normalised, zeros to the right and below."""
        height, width = image.shape[:2]
        scale = self.size / max(height, width)
        self.original = (height, width)
        self.scaled = (int(height * scale + 0.5), int(width * scale + 0.5))
        resized = Image.fromarray(image).resize(self.scaled[::-1], Image.Resampling.BILINEAR)
        x = (np.asarray(resized, np.float32) - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)
        x = torch.from_numpy(x).permute(2, 0, 1).unsqueeze(0)
        return F.pad(x, (0, self.size - self.scaled[1], 0, self.size - self.scaled[0]))

    @torch.no_grad()
    def look(self, image):
        self.features = self.model.encode(self.frame(image))

    @torch.no_grad()
    def predict(self, points, kinds, masks=None):
        """points (N, T, 2) in the picture's pixels, kinds (N, T), masks (N, 1, S/4, S/4).

        Returns logits (N, 4, S/4, S/4) and predicted IoU (N, 4). Without a box a padding point is added.
        """
        points = torch.as_tensor(np.asarray(points), dtype=torch.float32)
        kinds = torch.as_tensor(np.asarray(kinds), dtype=torch.long)
        ratio = [self.scaled[1] / self.original[1], self.scaled[0] / self.original[0]]
        points = points * torch.tensor(ratio)
        if not (kinds >= 2).any():
            points = F.pad(points, (0, 0, 0, 1))
            kinds = F.pad(kinds, (0, 1), value=-1)
        return self.model.decode(self.features, points, kinds, masks, prompts_per_image=len(points))

    @torch.no_grad()
    def enlarge(self, logits):
        """(N, S/4, S/4) to boolean masks (N, H, W): bilinear to the frame, cropped, bilinear to the picture."""
        x = F.interpolate(logits.unsqueeze(1).float(), (self.size, self.size), mode="bilinear", align_corners=False)
        x = x[..., : self.scaled[0], : self.scaled[1]]
        x = F.interpolate(x, self.original, mode="bilinear", align_corners=False)
        return (x[:, 0] > 0).numpy()
