"""Sam: encoder, prompt encoder and decoder, and the numbers that give them their size."""

import dataclasses

import torch
from torch import nn

from mask_decoder import MaskDecoder
from prompt_encoder import PromptEncoder
from tiny_vit import TinyViT

# Segment Anything's channel statistics, for RGB in 0…255.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a model is made of; the image size is no part of it."""

    widths: tuple = (40, 80, 160, 192)
    depths: tuple = (2, 2, 4, 2)
    heads: tuple = (2, 5, 5, 6)
    windows: tuple = (8, 8, 8, 8)
    strides: tuple = (2, 2, 1)
    decoder_width: int = 128
    decoder_hidden: int = 512


class Sam(nn.Module):
    """Segment Anything with a TinyViT encoder."""

    def __init__(self, shape=Shape()):
        super().__init__()
        self.shape = shape
        self.image_encoder = TinyViT(
            shape.widths, shape.depths, shape.heads, shape.windows, shape.strides, shape.decoder_width
        )
        self.prompt_encoder = PromptEncoder(shape.decoder_width)
        self.mask_decoder = MaskDecoder(shape.decoder_width, hidden=shape.decoder_hidden)

    def encode(self, images):
        """Normalised pictures (B, 3, S, S) to embeddings (B, C, S/16, S/16)."""
        return self.image_encoder(images)

    def decode(self, embeddings, coordinates, labels, masks=None, prompts_per_image=1):
        """Prompts (B·P, T, 2) and (B·P, T) to logits (B·P, 4, S/4, S/4) and predicted IoU (B·P, 4)."""
        grid = embeddings.shape[-1]
        sparse, dense = self.prompt_encoder(coordinates, labels, masks, grid, 16 * grid)
        positions = self.prompt_encoder.pe_layer.grid(grid).to(embeddings.dtype)
        return self.mask_decoder(embeddings, positions, sparse, dense, prompts_per_image)


def normalise(pictures):
    """uint8 (B, H, W, 3) to normalised (B, 3, H, W) float, channels last in memory."""
    x = torch.as_tensor(pictures).permute(0, 3, 1, 2).float()
    mean = torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(PIXEL_STD).view(1, 3, 1, 1)
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)
