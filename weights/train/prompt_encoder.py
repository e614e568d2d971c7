"""The prompt encoder of Segment Anything (Kirillov et al. 2023, https://arxiv.org/abs/2304.02643, appendix A)."""

import math

import torch
from torch import nn

from model_parts import LayerNorm2d


class PositionEmbedding(nn.Module):
    """Random Fourier features: coordinates in [0, 1] to sines and cosines."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, width // 2))

    def encode(self, unit):
        """(…, 2) as x, y in [0, 1] to (…, width)."""
        with torch.autocast(unit.device.type, enabled=False):  # In bfloat16 a coordinate would lose its pixels.
            angles = (2 * math.pi) * ((2 * unit.float() - 1) @ self.positional_encoding_gaussian_matrix.float())
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def grid(self, size):
        """The encoding of each cell's centre: (1, width, size, size)."""
        device = self.positional_encoding_gaussian_matrix.device
        centres = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) / size
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        return self.encode(torch.stack([x, y], dim=-1)).permute(2, 0, 1).unsqueeze(0)


class PromptEncoder(nn.Module):
    """Points, box corners and a low-resolution mask to sparse and dense embeddings."""

    def __init__(self, width, mask_width=16):
        super().__init__()
        self.pe_layer = PositionEmbedding(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.no_mask_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_width // 4, 2, 2),
            LayerNorm2d(mask_width // 4),
            nn.GELU(),
            nn.Conv2d(mask_width // 4, mask_width, 2, 2),
            LayerNorm2d(mask_width),
            nn.GELU(),
            nn.Conv2d(mask_width, width, 1),
        )

    def forward(self, coordinates, labels, masks, grid, image_size):
        """Encodes N prompts.

        coordinates: (N, T, 2), x and y in pixels of the input frame. labels: (N, T): 0 background, 1 foreground,
        2 and 3 the corners of a box, -1 padding. masks: (N, 1, 4 grid, 4 grid) logits, or None.
        Returns sparse (N, T, width) and dense (N, width, grid, grid) or (1, width, 1, 1).
        """
        sparse = self.pe_layer.encode((coordinates + 0.5) / image_size)
        kinds = torch.cat([self.not_a_point_embed.weight] + [e.weight for e in self.point_embeddings])
        sparse = sparse * (labels >= 0).unsqueeze(-1) + kinds[labels + 1]
        if masks is None:
            return sparse, self.no_mask_embed.weight.view(1, -1, 1, 1)
        return sparse, self.mask_downscaling(masks)
