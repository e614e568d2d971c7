#!/usr/bin/env python3
"""Makes lora/ beside this file: adapters of the model in nano/ as PEFT saves them, and what PEFT's own merge makes of it.

    python3 -m venv .venv && .venv/bin/pip install torch safetensors transformers peft
    .venv/bin/python make_lora.py

The layers that are adapted stand in a tree of modules under the names that the model has in Meta's package, in transformers, or
with queries, keys and values apart; PEFT goes by these names and knows nothing of the rest. expected.safetensors has the
tensors that change, under the published names and after the name of the case.
"""
import json, pathlib, shutil
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
BASE = torch.load(HERE / "nano" / "sam.pth", weights_only=True)
BLOCK, LAYER = "image_encoder.blocks.1.", "mask_decoder.transformer.layers.0."
HEAD = "mask_decoder.iou_prediction_head.layers."
# Trained whole.
TRAINED = "mask_decoder.transformer.final_attn_token_to_image.out_proj"
CASES = {
    # By the module's name: the published one, and which third of its rows it is.
    "published": (dict(r=3, lora_alpha=7, modules_to_save=[TRAINED], bias="lora_only"), {
        name: (name, None) for name in [
            BLOCK + "attn.qkv", BLOCK + "mlp.lin1", LAYER + "self_attn.q_proj", HEAD + "2", "image_encoder.neck.0",
            "image_encoder.neck.2", "mask_decoder.mask_tokens", TRAINED]}, "sam.module."),
    "hugging_face": (dict(r=4, lora_alpha=2.5, use_rslora=True, rank_pattern={"attn.qkv": 2},
                          alpha_pattern={"attn.qkv": 5}), {
        "vision_encoder.layers.1.attn.qkv": (BLOCK + "attn.qkv", None),
        "vision_encoder.layers.1.mlp.lin1": (BLOCK + "mlp.lin1", None),
        "vision_encoder.neck.conv1": ("image_encoder.neck.0", None),
        "mask_decoder.transformer.layers.0.self_attn.q_proj": (LAYER + "self_attn.q_proj", None),
        "mask_decoder.iou_prediction_head.proj_in": (HEAD + "0", None),
        "mask_decoder.iou_prediction_head.layers.0": (HEAD + "1", None),
        "mask_decoder.iou_prediction_head.proj_out": (HEAD + "2", None)}, ""),
    "apart": (dict(r=2, lora_alpha=4), {
        "blocks.1.attn.q_proj": (BLOCK + "attn.qkv", 0), "blocks.1.attn.v_proj": (BLOCK + "attn.qkv", 2)}, ""),
}


def tree(names):
    root = nn.Module()
    for name, (published, third) in names.items():
        weight = BASE[published + ".weight"]
        if third is not None:
            weight = weight.chunk(3)[third]
        bias = BASE.get(published + ".bias")
        if weight.dim() == 4:
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=bias is not None)
        elif "tokens" in name:
            layer = nn.Embedding(*weight.shape)
        else:
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        layer.weight.data.copy_(weight)
        if bias is not None:
            layer.bias.data.copy_(bias if third is None else bias.chunk(3)[third])
        module = root
        for part in name.split(".")[:-1]:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.add_module(name.split(".")[-1], layer)
    return root


expected = {}
for index, (case, (options, names, prefix)) in enumerate(CASES.items()):
    torch.manual_seed(index)
    names = {prefix + name: place for name, place in names.items()}
    model = get_peft_model(
        tree(names), LoraConfig(target_modules=[name for name in names if TRAINED not in name], **options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    out = HERE / "lora" / case
    shutil.rmtree(out, ignore_errors=True)
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    print(case, sorted(load_file(out / "adapter_model.safetensors")))
    merged = model.merge_and_unload().state_dict()
    for name, (published, third) in names.items():
        for kind in ("weight", "bias"):
            tensor = merged.get(f"{name}.{kind}")
            if tensor is None:
                continue
            if third is not None:
                full = expected.get(f"{case}.{published}.{kind}", BASE[f"{published}.{kind}"].clone())
                full.chunk(3)[third].copy_(tensor)
                tensor = full
            if not torch.equal(tensor, BASE[f"{published}.{kind}"]):
                expected[f"{case}.{published}.{kind}"] = tensor.detach().contiguous().clone()
save_file(expected, HERE / "lora" / "expected.safetensors")
for path in sorted((HERE / "lora").rglob("*")):
    print(path.relative_to(HERE), path.stat().st_size if path.is_file() else "")
