"""Sam: encoder, prompt encoder and decoder, and the numbers that give them their size."""

import dataclasses
import functools
import math

import safetensors.torch
import torch
from torch import nn

import efficientnet_lite
from efficientnet_lite import EfficientNetLite
from mask_decoder import MaskDecoder
from model_parts import PIXEL_MEAN, PIXEL_STD
from prompt_encoder import PromptEncoder
from tiny_vit import TinyViT


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a model is made of; the image size is no part of it."""

    stages: tuple = efficientnet_lite.LITE2
    neck: int = 192
    decoder_width: int = 128
    decoder_hidden: int = 512

    def encoder(self):
        return EfficientNetLite(self.stages, self.neck, self.decoder_width)


@dataclasses.dataclass(frozen=True)
class TinyViTShape:
    """The shape of this project's first models; they have no skips."""

    widths: tuple = (40, 80, 160, 192)
    depths: tuple = (2, 2, 4, 2)
    heads: tuple = (2, 5, 5, 6)
    windows: tuple = (8, 8, 8, 8)
    strides: tuple = (2, 2, 1)
    decoder_width: int = 128
    decoder_hidden: int = 512

    def encoder(self):
        return TinyViT(self.widths, self.depths, self.heads, self.windows, self.strides, self.decoder_width)


@dataclasses.dataclass(frozen=True)
class Features:
    """What the decoder needs of pictures: embeddings (B, C, g, g), and skips of (B, C/4, 2g, 2g) and (B, C/8, 4g, 4g)."""

    embeddings: torch.Tensor
    skips: tuple = ()


class Sam(nn.Module):
    """Segment Anything with a small encoder."""

    def __init__(self, shape=Shape()):
        super().__init__()
        self.shape = shape
        self.image_encoder = shape.encoder()
        self.prompt_encoder = PromptEncoder(shape.decoder_width)
        self.mask_decoder = MaskDecoder(shape.decoder_width, hidden=shape.decoder_hidden)

    def encode(self, images):
        """Features of normalised pictures (B, 3, S, S)."""
        encoded = self.image_encoder(images)
        return Features(*encoded) if isinstance(encoded, tuple) else Features(encoded)

    def decode(self, features, coordinates, labels, masks=None, prompts_per_image=1):
        """Prompts (B·P, T, 2) and (B·P, T) to logits (B·P, 4, S/4, S/4) and predicted IoU (B·P, 4)."""
        embeddings = features.embeddings
        grid = embeddings.shape[-1]
        sparse, dense = self.prompt_encoder(coordinates, labels, masks, grid, 16 * grid)
        positions = self.prompt_encoder.pe_layer.grid(grid).to(embeddings.dtype)
        return self.mask_decoder(embeddings, features.skips, positions, sparse, dense, prompts_per_image)


@functools.cache
def statistics(device):
    """The channels' mean and standard deviation (1, 3, 1, 1)."""
    return [torch.tensor(numbers, device=device).view(1, 3, 1, 1) for numbers in (PIXEL_MEAN, PIXEL_STD)]


def normalise(pictures):
    """Pictures (B, H, W, 3) of 0…255 to normalised (B, 3, H, W) float, channels last in memory."""
    x = torch.as_tensor(pictures).permute(0, 3, 1, 2).float()
    mean, std = statistics(x.device)
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


def tiny_vit(path):
    """The TinyViT model of an exported file; a smaller window takes the part of its bias tables that it uses."""
    model = Sam(TinyViTShape())
    own = model.state_dict()
    for name, tensor in safetensors.torch.load_file(path).items():
        if name.endswith("attention_bias_idxs"):
            continue
        if name.endswith("attention_biases") and tensor.shape != own[name].shape:
            theirs, mine = (math.isqrt(t.shape[1]) for t in (tensor, own[name]))
            tensor = tensor.view(-1, theirs, theirs)[:, :mine, :mine].flatten(1)
        own[name].copy_(tensor)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def exported(path, slope=1.0):
    """The model of a file that `export.py` wrote, to be trained on: its folded convolutions get normalisations that do nothing.

    `slope` is the one that the file was written with; the logits become as flat again as training expects them.
    """
    named = safetensors.torch.load_file(path)
    model = Sam(Shape(neck=named["image_encoder.neck.norm1.weight"].shape[0]))
    own = model.state_dict()
    for name, tensor in own.items():
        if ".norm.running_var" in name:
            tensor.fill_(1 - efficientnet_lite.EPSILON)
        elif name.endswith(".norm.weight") or ".norm.running_mean" in name:
            tensor.fill_(float(name.endswith("weight")))
        else:
            tensor.copy_(named[name.replace(".conv.weight", ".weight").replace(".norm.bias", ".bias")])
    for mlp in model.mask_decoder.output_hypernetworks_mlps:
        mlp.layers[-1].weight /= slope
        mlp.layers[-1].bias /= slope
    model.prompt_encoder.mask_downscaling[0].weight *= slope
    return model


def shaped(entries):
    """The shape that a checkpoint names: its fields, lists as tuples."""
    stages = tuple(tuple(stage) for stage in entries["stages"])
    return Shape(**{**entries, "stages": stages})


@torch.no_grad()
def begin(model, teacher, trunk):
    """Begins a model with a teacher's decoder and the last norm of its neck, and a file of published trunk weights."""
    model.prompt_encoder.load_state_dict(teacher.prompt_encoder.state_dict())
    model.mask_decoder.load_state_dict(teacher.mask_decoder.state_dict())
    model.image_encoder.neck.norm3.load_state_dict(teacher.image_encoder.neck[3].state_dict())
    efficientnet_lite.begin_trunk(model.image_encoder, torch.load(trunk, map_location="cpu", weights_only=True))
