#!/usr/bin/env python3
"""Writes the fixtures beside it: small CLIP models with drawn weights, a small vocabulary, and what `transformers` makes of
texts and pictures by them.

    python3 -m venv .venv && .venv/bin/pip install torch transformers pillow numpy safetensors
    .venv/bin/python Tests/TextMatchingTests/Fixtures/make_clip.py

Made with transformers 5.24.0, tokenizers 0.23.3, torch 2.13.0, Pillow 13.0.0. Each model has a folder:

    nano    quick GELU, heads of 16, `eos_token_id` 2: texts are read off at the largest token; vocab.json and merges.txt
    wide    GELU, heads of 24 and 20, texts read off at their end token, other colours; tokenizer.json
    openai  nano's weights under OpenAI's names: state.pt, a state_dict in fp16, and script.pt, a TorchScript archive
"""
import json, pathlib, random
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

HERE = pathlib.Path(__file__).parent
CORPUS = """a photo of a dog. a photo of the cat, sitting on some chairs; two dogs' bowls and the cat's tail. a red car, a blue
car and 3 trucks in the street of a town. people walk, they're running and we've seen them: it isn't far, i'd say, and i'll go.
une photo d'un chat et d'un chien à la plage, très près de l'eau. ein foto von größen, straßen und flüssen. фото собаки и кошки
на улице. 犬の写真と猫の写真。 강아지 사진과 고양이 사진. صورة كلب وقطة. कुत्ते की तस्वीर. a close-up photo of the flowers, !!! ... ??? 100 200 2024
the bottle on the table, the tables and chairs, a picture of some trees, the treetop and the house, houses with windows"""
TEXTS = [
    "", " ", "a", "A Dog", "a  photo\tof\n the\u00a0CAT ", "two dogs' bowls", "they're we've it's i'd i'll don't I'M", "'s't're",
    "3 trucks, 100 cars 2024", "!!! wow ... ???", "a.b.c", "à la plage", "a\u0300 la plage", "Stra\u00dfe GR\u00d6SSEN", "\u0130stanbul I\u0307",
    "\u039f\u03a3 \u039f\u0394\u039f\u03a3", "фото Собаки", "犬の写真", "강아지 사진", "\u1100\u1161\u11a8 decomposed", "صورة كلب", "कुत्ते की", "\U0001f436 dog \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a\x00b\x07c", "\u200bzero\ufeff", "\u2028line\u0085next\u180emongol", "<|startoftext|>", "a <|endoftext|> b", "<|ENDOFTEXT|>>", "x<|endoftext|>y",
    "<|startoftext|", "½ Ⅷ ٣ ⑦", "ǅ ʰ ª", "e\u0301\u0323", "\ufb01 \ufb03", "\u2019s curly\u2019t", "http://a.b/c?d=e&f=g#h", "a photo of a dog. " * 40, "dog" * 300, "!" * 200,
    "\U00010400 \U0001d400", "\u0958 \u0f43", "\u212b \u2126", "_under_score_", "tab\tin", "\u3000wide\u3000", "snake_case camelCase", "\uffff\U0010ffff",
]


def byte_letters():
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in kept]
    return {**{b: chr(b) for b in kept}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def learn(merge_count):
    """Merges of the corpus, the most frequent pair first, and of several the first in order."""
    letters = byte_letters()
    words = {}
    for word in CORPUS.lower().replace(",", " , ").replace(".", " . ").split():
        symbols = [letters[b] for b in word.encode()]
        symbols[-1] += "</w>"
        words[tuple(symbols)] = words.get(tuple(symbols), 0) + 1
    merges = []
    while len(merges) < merge_count:
        pairs = {}
        for symbols, count in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] = pairs.get(pair, 0) + count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        joined = {}
        for symbols, count in words.items():
            out, i = [], 0
            while i < len(symbols):
                if symbols[i:i + 2] == best:
                    out.append("".join(best))
                    i += 2
                else:
                    out.append(symbols[i])
                    i += 1
            joined[tuple(out)] = joined.get(tuple(out), 0) + count
        words = joined
    ordered = sorted(letters.values(), key=lambda c: (ord(c) >= 256, ord(c)))
    tokens = ordered + [c + "</w>" for c in ordered] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    assert len(set(tokens)) == len(tokens)
    return {token: i for i, token in enumerate(tokens)}, merges


def picture(width, height, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([127 + 100 * np.sin(x / (5 + 2 * c) + c) * np.cos(y / (7 - c)) for c in range(3)], -1)
    return Image.fromarray(np.clip(base + rng.normal(0, 25, base.shape), 0, 255).astype(np.uint8))


def openai_names(state):
    """The tensors of `transformers` under the names of OpenAI's code."""
    whole = {
        "logit_scale": "logit_scale", "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding"}
    out = {}
    for name, tensor in state.items():
        if name in whole:
            out[whole[name]] = tensor
        elif name == "text_projection.weight":
            out["text_projection"] = tensor.T.contiguous()
        elif name == "visual_projection.weight":
            out["visual.proj"] = tensor.T.contiguous()
        elif ".k_proj." in name or ".v_proj." in name or "position_ids" in name:
            continue
        else:
            for a, b in [("text_model.encoder.layers", "transformer.resblocks"), ("text_model.final_layer_norm", "ln_final"),
                         ("vision_model.encoder.layers", "visual.transformer.resblocks"),
                         ("vision_model.pre_layrnorm", "visual.ln_pre"), ("vision_model.post_layernorm", "visual.ln_post"),
                         ("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"),
                         ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")]:
                name_ = name if a not in name else name.replace(a, b)
                name, original = name_, name
            if ".q_proj." in name:
                kind = name.rsplit(".", 1)[1]
                source = next(k for k in state if k.endswith(f"q_proj.{kind}") and state[k] is tensor)
                joint = torch.cat([state[source.replace("q_proj", f"{p}_proj")] for p in "qkv"])
                name, tensor = name.replace(f"self_attn.q_proj.{kind}", f"attn.in_proj_{kind}"), joint
            out[name] = tensor
    return out


class Node(torch.nn.Module):
    """A module of nothing but parameters and modules, for an archive with the published names."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def script_module(state):
    root = Node()
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            if part not in node._modules:
                node.add_module(part, Node())
            node = node._modules[part]
        node.register_parameter(leaf, torch.nn.Parameter(tensor, requires_grad=False))
    # As published, sizes are buffers beside the weights.
    for name, value in (("input_resolution", 32), ("context_length", 24), ("vocab_size", 1)):
        root.register_buffer(name, torch.tensor(value))
    return torch.jit.script(root)


def write(name, config, seed, mean, std):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    vocabulary, merges = learn(300 if name == "nano" else 200)
    torch.manual_seed(seed)
    config["text_config"]["vocab_size"] = len(vocabulary)
    end = vocabulary["<|endoftext|>"]
    config["text_config"].update(bos_token_id=end - 1, eos_token_id=2 if name == "nano" else end, pad_token_id=1)
    model = CLIPModel(CLIPConfig(**config)).eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if key == "logit_scale":
                continue
            # As wide as trained weights are: drawn as published, small models would tell nothing apart.
            if tensor.ndim > 1 and "embedding" not in key:
                tensor.normal_(0, 1.2 / tensor[0].numel() ** 0.5)
            elif tensor.ndim > 1 or "class_embedding" in key:
                tensor.normal_(0, 0.5)
            elif key.endswith("weight"):
                tensor.normal_(1, 0.1)
            else:
                tensor.normal_(0, 0.1)
    state = {k: v.half() for k, v in model.state_dict().items() if "position_ids" not in k}
    state["logit_scale"] = model.logit_scale.detach().float()
    model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    saved = json.loads(model.config.to_json_string(use_diff=False))
    keep = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps",
            "vocab_size", "max_position_embeddings", "eos_token_id", "image_size", "patch_size")
    small = {"model_type": "clip", "projection_dim": saved["projection_dim"]}
    for part in ("text_config", "vision_config"):
        small[part] = {k: saved[part][k] for k in keep if k in saved[part]}
    (folder / "config.json").write_text(json.dumps(small, indent=1) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}) + "\n")

    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges)
    if name == "nano":
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    else:
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    length = config["text_config"]["max_position_embeddings"]
    texts = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    long = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in TEXTS]

    side = config["vision_config"]["image_size"]
    pictures = [picture(40, 57, seed), picture(91, 33, seed + 1), picture(side, side, seed + 2)]
    for index, image in enumerate(pictures):
        image.save(folder / f"picture{index}.png")
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side, image_mean=mean, image_std=std)
    pixels = torch.tensor(np.stack(processor(pictures)["pixel_values"]))
    with torch.no_grad():
        text = model.text_projection(model.text_model(**texts).pooler_output)
        image = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        whole = model(pixel_values=pixels, **texts).logits_per_image
    scale = float(model.logit_scale.detach().exp())
    check = scale * torch.nn.functional.normalize(image) @ torch.nn.functional.normalize(text).T
    assert (check - whole).abs().max() < 1e-3
    save_file({"text_embeds": text, "image_embeds": image, "pixel_values": pixels.contiguous()}, folder / "case.safetensors")
    (folder / "case.json").write_text(json.dumps(dict(
        texts=TEXTS, padded=texts["input_ids"].tolist(), tokens=long, logit_scale=scale), ensure_ascii=True) + "\n")
    return state


def main():
    published = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    state = write("nano", dict(
        projection_dim=24,
        text_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                         max_position_embeddings=24, projection_dim=24, hidden_act="quick_gelu"),
        vision_config=dict(hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=3, image_size=32,
                           patch_size=8, projection_dim=24, hidden_act="quick_gelu")), 7, *published)
    write("wide", dict(
        projection_dim=40,
        text_config=dict(hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=2,
                         max_position_embeddings=77, projection_dim=40, hidden_act="gelu"),
        vision_config=dict(hidden_size=60, intermediate_size=100, num_hidden_layers=2, num_attention_heads=3, image_size=42,
                           patch_size=14, projection_dim=40, hidden_act="gelu", layer_norm_eps=1e-6)),
        11, [0.5, 0.4, 0.3], [0.2, 0.25, 0.3])
    folder = HERE / "openai"
    folder.mkdir(exist_ok=True)
    own = openai_names(state)
    # OpenAI's files have no configuration, and heads of 64 numbers in every size; these are smaller.
    (folder / "config.json").write_text((HERE / "nano" / "config.json").read_text())
    torch.save(own, folder / "state.pt")
    torch.jit.save(script_module(own), folder / "script.pt")


if __name__ == "__main__":
    main()
