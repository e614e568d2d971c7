"""The mask decoder of Segment Anything: a two-way transformer and dynamic masks (appendix A of the paper)."""

import torch
import torch.nn.functional as F
from torch import nn

import device_kernels
import native
from model_parts import LayerNorm2d


class Attention(nn.Module):
    """Attention with an inner width of width / downsample."""

    def __init__(self, width, heads, downsample=1):
        super().__init__()
        inner = width // downsample
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q, k, v):
        q, k, v = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        # Plain products: with heads this narrow they are faster than the fused kernel, above all backwards.
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return self.out_proj((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))


class TransformerMLP(nn.Module):
    """Two layers with ReLU, named `lin1` and `lin2`."""

    def __init__(self, width, hidden):
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x):
        return self.lin2(F.relu(self.lin1(x)))


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves, then to the picture; then the picture attends to the tokens."""

    def __init__(self, width, heads, hidden, first):
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = TransformerMLP(width, hidden)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, 2)

    def forward(self, queries, keys, query_positions, key_positions):
        if self.first:
            queries = self.self_attn(queries, queries, queries)
        else:
            q = queries + query_positions
            queries = queries + self.self_attn(q, q, queries)
        queries = self.norm1(queries)
        k = keys + key_positions
        queries = self.norm2(queries + self.cross_attn_token_to_image(queries + query_positions, k, keys))
        queries = self.norm3(queries + self.mlp(queries))
        keys = self.norm4(keys + self.cross_attn_image_to_token(k, queries + query_positions, queries))
        return queries, keys


class TwoWayTransformer(nn.Module):
    """Two blocks and a last look of the tokens at the picture."""

    def __init__(self, width, heads, hidden, depth=2):
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(width, heads, hidden, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(width, heads, 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, keys, key_positions, tokens):
        queries = tokens
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, key_positions)
        attended = self.final_attn_token_to_image(queries + tokens, keys + key_positions, keys)
        return self.norm_final_attn(queries + attended), keys


class Perceptron(nn.Module):
    """Three layers with ReLU between, named `layers.0` to `layers.2`."""

    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)])

    def forward(self, x):
        return self.layers[2](F.relu(self.layers[1](F.relu(self.layers[0](x)))))


def doubled(layer, x):
    """A transposed convolution of size and stride 2; on a GPU as a product of each cell and a copy."""
    if not (x.is_cuda and device_kernels.products):
        return layer(x)
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
    cells = F.linear(x.permute(0, 2, 3, 1), weight, layer.bias.repeat(4)).unflatten(3, (2, 2, -1))
    return cells.permute(0, 1, 3, 2, 4, 5).flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)


class MaskDecoder(nn.Module):
    """Embeddings to four masks and their predicted IoU; token 0 is the single mask, 1 to 3 the ambiguous ones."""

    def __init__(self, width, heads=8, hidden=512, masks=4):
        super().__init__()
        self.transformer = TwoWayTransformer(width, heads, hidden)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(masks, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, 2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Perceptron(width, width, width // 8) for _ in range(masks))
        self.iou_prediction_head = Perceptron(width, width, masks)

    def upscale(self, x, skips, prompts_per_image):
        """(B·P, C, g, g) to (B·P, C/8, 4g, 4g); skips of (B, C/4, 2g, 2g) and (B, C/8, 4g, 4g) are added on the way."""
        first, norm, active, second, last = self.output_upscaling
        if not skips:
            return self.output_upscaling(x)
        coarse, fine = skips
        x = doubled(first, x)
        x = norm((x.unflatten(0, (-1, prompts_per_image)) + coarse.unsqueeze(1)).flatten(0, 1))
        x = doubled(second, active(x))
        if native.takes(x):
            return native.SkipGELU.apply(x, fine)
        return last((x.unflatten(0, (-1, prompts_per_image)) + fine.unsqueeze(1)).flatten(0, 1))

    def forward(self, embeddings, skips, positions, sparse, dense, prompts_per_image):
        """embeddings (B, C, g, g), sparse (B·P, T, C) to logits (B·P, 4, 4g, 4g) and IoU (B·P, 4)."""
        count = sparse.shape[0]
        grid = embeddings.shape[-1]
        fixed = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).unsqueeze(0).expand(count, -1, -1)
        tokens = torch.cat([fixed, sparse], dim=1)
        keys = embeddings.repeat_interleave(prompts_per_image, dim=0) + dense
        keys = keys.flatten(2).transpose(1, 2)
        tokens, keys = self.transformer(keys, positions.flatten(2).transpose(1, 2), tokens)
        upscaled = self.upscale(keys.transpose(1, 2).unflatten(2, (grid, grid)), skips, prompts_per_image)
        kernels = torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        # The channels lie last in memory: a flattened view of them, where `flatten(2)` would copy.
        pixels = upscaled.permute(0, 2, 3, 1).flatten(1, 2)
        logits = (kernels @ pixels.transpose(1, 2)).unflatten(2, (4 * grid, 4 * grid))
        return logits, self.iou_prediction_head(tokens[:, 0])
