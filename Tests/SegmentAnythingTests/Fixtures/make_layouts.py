#!/usr/bin/env python3
"""Makes layouts.json: the names and shapes of the tensors of real models, and the two names of each in both layouts.

    python3 -m venv .venv && .venv/bin/pip install torch torchvision segment-anything transformers ultralytics
    .venv/bin/python make_layouts.py

A transformers SamModel gets the weights of a segment_anything Sam under the names that are written down here, and both
must give the same masks: that proves the names. The ViT-B and MobileSAM models are those that were published.
"""
import json, pathlib, re
import torch
from functools import partial
from segment_anything.build_sam import sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig
from ultralytics.models.sam.modules.tiny_encoder import TinyViT

HERE = pathlib.Path(__file__).parent


def decoder_halves(channels, mlp, size, grid):
    return dict(
        prompt_encoder=PromptEncoder(embed_dim=channels, image_embedding_size=(grid, grid),
                                     input_image_size=(size, size), mask_in_chans=16),
        mask_decoder=MaskDecoder(num_multimask_outputs=3, transformer_dim=channels, iou_head_depth=3,
                                 iou_head_hidden_dim=channels,
                                 transformer=TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=mlp, num_heads=8)))


def small():
    encoder = ImageEncoderViT(
        img_size=64, patch_size=8, embed_dim=24, depth=3, num_heads=3, mlp_ratio=2, out_chans=32, qkv_bias=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rel_pos=True, global_attn_indexes=[1], window_size=5)
    return Sam(image_encoder=encoder, **decoder_halves(32, 40, 64, 8)).eval()


def hugging_face():
    vision = SamVisionConfig(hidden_size=24, output_channels=32, num_hidden_layers=3, num_attention_heads=3, image_size=64,
                             patch_size=8, window_size=5, global_attn_indexes=[1], mlp_ratio=2.0, mlp_dim=48, num_pos_feats=16)
    prompt = SamPromptEncoderConfig(hidden_size=32, image_size=64, patch_size=8, mask_input_channels=16)
    decoder = SamMaskDecoderConfig(hidden_size=32, mlp_dim=40, iou_head_hidden_dim=32)
    return SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)).eval()


def their_name(name):
    """The published name in transformers' words."""
    if name == "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix":
        return "shared_image_embedding.positional_embedding"
    name = name.replace("image_encoder.", "vision_encoder.", 1).replace("patch_embed.proj.", "patch_embed.projection.")
    name = re.sub(r"vision_encoder\.blocks\.", "vision_encoder.layers.", name)
    for old, new in (("0", "conv1"), ("1", "layer_norm1"), ("2", "conv2"), ("3", "layer_norm2")):
        name = name.replace(f"neck.{old}.", f"neck.{new}.")
    for old, new in (("0", "conv1"), ("1", "layer_norm1"), ("3", "conv2"), ("4", "layer_norm2"), ("6", "conv3")):
        name = name.replace(f"mask_downscaling.{old}.", f"mask_embed.{new}.")
    for old, new in (("0", "upscale_conv1"), ("1", "upscale_layer_norm"), ("3", "upscale_conv2")):
        name = name.replace(f"output_upscaling.{old}.", f"{new}.")
    name = name.replace("point_embeddings.", "point_embed.").replace(".norm_final_attn.", ".layer_norm_final_attn.")
    name = re.sub(r"\.norm(\d)\.", r".layer_norm\1.", name)
    if "hypernetworks" in name or "iou_prediction_head" in name:
        for old, new in (("0", "proj_in"), ("1", "layers.0"), ("2", "proj_out")):
            name = re.sub(rf"\.layers\.{old}\.(weight|bias)$", rf".{new}.\1", name)
    return name


def shapes(model):
    return {name: list(t.shape) for name, t in model.state_dict().items()}


torch.manual_seed(3)
ours, theirs = small(), hugging_face()
with torch.no_grad():
    for p in ours.parameters():
        p.normal_(0, 0.2)
pairs = {their_name(name): name for name in ours.state_dict()}
state = {hf: ours.state_dict()[name] for hf, name in pairs.items()}
missing, unexpected = theirs.load_state_dict(state, strict=False)
assert set(missing) <= {"prompt_encoder.shared_embedding.positional_embedding"} and not unexpected, (missing, unexpected)
theirs.prompt_encoder.shared_embedding.positional_embedding = theirs.shared_image_embedding.positional_embedding
image, points, labels = torch.randn(1, 3, 64, 64), torch.tensor([[[30.0, 20.0], [5.0, 50.0]]]), torch.tensor([[1, 0]])
with torch.no_grad():
    embedding = ours.image_encoder(image)
    sparse, dense = ours.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    masks, iou = ours.mask_decoder(image_embeddings=embedding, image_pe=ours.prompt_encoder.get_dense_pe(),
                                   sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True)
    out = theirs(pixel_values=image, input_points=points[None], input_labels=labels[None], multimask_output=True)
assert torch.allclose(masks, out.pred_masks[:, 0], atol=1e-3, rtol=1e-3), (masks - out.pred_masks[:, 0]).abs().max()
assert torch.allclose(iou, out.iou_scores[:, 0], atol=1e-3, rtol=1e-3)

base = sam_model_registry["vit_b"]()
tiny = TinyViT(img_size=1024, in_chans=3, num_classes=1000, embed_dims=[64, 128, 160, 320], depths=[2, 2, 6, 2],
               num_heads=[2, 4, 5, 10], window_sizes=[7, 7, 14, 7], mlp_ratio=4.0, drop_rate=0.0, drop_path_rate=0.0,
               use_checkpoint=False, mbconv_expand_ratio=4.0, local_conv_size=3, layer_lr_decay=0.8)
mobile = Sam(image_encoder=tiny, **decoder_halves(256, 2048, 1024, 64))
narrow = TinyViT(img_size=512, in_chans=3, num_classes=0, embed_dims=[32, 48, 96, 320], depths=[1, 2, 3, 1],
                 num_heads=[1, 2, 3, 4], window_sizes=[7, 8, 8, 4], mlp_ratio=3.0, drop_rate=0.0, drop_path_rate=0.0,
                 use_checkpoint=False, mbconv_expand_ratio=3.0, local_conv_size=3, layer_lr_decay=0.8)
other = Sam(image_encoder=narrow, **decoder_halves(256, 512, 512, 32))
layouts = {"small": shapes(ours), "hugging_face": shapes(theirs), "vit_b": shapes(base), "mobile": shapes(mobile),
           "narrow_tiny": shapes(other), "pairs": pairs}
integers = sorted(n for n, t in mobile.state_dict().items() if t.dtype == torch.int64)
layouts["integers"] = {name: [] for name in integers}
lines = [json.dumps(k) + ":{" + ",\n".join(f"{json.dumps(n)}:{json.dumps(s, separators=(',', ':'))}" for n, s in v.items()) + "}"
         for k, v in layouts.items()]
(HERE / "layouts.json").write_text("{" + ",\n".join(lines) + "}\n")
print("made layouts.json,", (HERE / "layouts.json").stat().st_size, "bytes; both models agree on the masks")
