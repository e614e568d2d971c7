#!/usr/bin/env python3
"""The work of deploy/compare: measures and prints a table of medians and ratios, then what has no peer."""
import argparse, json, os, pathlib, subprocess, sys, tempfile


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--kirie", required=True)
    a.add_argument("--peers", required=True)
    a.add_argument("--work", type=pathlib.Path, required=True)
    a.add_argument("--data", type=pathlib.Path, required=True)
    a.add_argument("--runs", type=int, default=5)
    a.add_argument("--parts", default="table,quality,growth", help="what to do, of table, quality and growth")
    a = a.parse_args()
    bench = Bench(a)
    if "table" in a.parts:
        table(bench)
    if "quality" in a.parts:
        quality(bench)
    if "growth" in a.parts:
        growth(bench)


class Bench:
    def __init__(self, a):
        self.kirie_path, self.peers, self.work, self.data, self.runs = a.kirie, a.peers, a.work, a.data, a.runs
        self.threads = len(os.sched_getaffinity(0))
        self.memory = {}

    def peer(self, model, what, name, key, threads=None):
        """The median of one peer in milliseconds."""
        found = json.loads(output(
            sys.executable, self.peers, "time", self.work / model, "--what", what, "--peers", name, "--runs", self.runs,
            "--threads", threads or self.threads))
        return found[key]["median"]

    def kirie(self, part, *flags, model=None, runs=None, threads=None):
        """The median of one of Kirie's benchmarks in milliseconds, on the peers' weights where a model is named."""
        if model:
            flags += ("--model", self.work / model / "sam.pth")
        found = self.bench(part, *flags, runs=runs, threads=threads)
        self.memory[part, found["precision"]] = found["peak_rss_mb"]
        return found["median_ms"]

    def rate(self, part, *flags, runs):
        """Calls a second of all streams together."""
        return self.bench(part, *flags, runs=runs)["per_second"]

    def bench(self, part, *flags, runs=None, threads=None):
        return json.loads(output(
            self.kirie_path, "bench", part, "--json", "--runs", runs or self.runs, "--threads", threads or self.threads,
            *flags))


def output(*command):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE).stdout


def table(bench):
    threads, runs = bench.threads, bench.runs
    print(f"{threads} threads, medians of {runs} runs ({4 * runs} for one decode), milliseconds")
    print(f"{'':46s}{'peer':>10s}{'kirie':>10s}{'times':>8s}{'at least':>10s}{'aim':>6s}")

    def row(name, theirs, mine, least, aim):
        print(f"{name:46s}{theirs:10.1f}{mine:10.1f}{theirs / mine:7.2f}x{least:9.2f}x{aim:5.1f}x", flush=True)

    for precision, least, aim in (("fp32", 1.35, 1.5), ("bf16", 1.35, 1.6)):
        theirs = bench.peer("vit_b", "encoder", "openvino", f"encoder openvino {precision}")
        mine = bench.kirie("encode", "--precision", precision, model="vit_b")
        row(f"ViT-B encode {precision}, OpenVINO", theirs, mine, least, aim)
    memory = bench.memory["encode", "bf16"]
    theirs = bench.peer("mobile", "encoder", "openvino", "encoder openvino bf16")
    row("MobileSAM encode bf16, OpenVINO", theirs, bench.kirie("encode", "--precision", "bf16", model="mobile"), 1.5, 2.5)
    low = "decoder_low onnxruntime fp32"
    alone = {}
    for count, least, aim in sorted({(threads, 4, 8), (1, 3.5, 6)}, reverse=True):
        alone[count] = bench.peer("vit_b", "decoder", "ort", low, count)
        for precision in ("bf16", "fp32"):
            mine = bench.kirie("decode", "--all", "--precision", precision, model="vit_b", runs=4 * runs, threads=count)
            row(f"decode one click {precision}, {count} thread(s), ONNX Runtime", alone[count], mine, least, aim)
    for precision in ("bf16", "fp32"):
        mine = bench.kirie("decode", "--all", "--prompts", 64, "--precision", precision, model="vit_b") / 64
        row(f"64 prompts in one batch {precision}, each, ONNX Runtime", alone[threads], mine, 6, 12)
    for model, name in (("vit_b", "ViT-B"), ("mobile", "MobileSAM")):
        mine = bench.kirie("encode", "--precision", "int8", model=model)
        print(f"{name} encode int8 (experimental, no peer): {mine:.1f} ms")
    mine = bench.kirie("decode", "--picture", "1800x1200", model="vit_b", runs=4 * runs)
    print(f"a mask of 1800 x 1200, scaled, cut and run-length encoded: {mine:.2f} ms (at most 2.5, aim 1)")
    print(f"peak memory of a ViT-B encode in bf16: {memory:.0f} MB (at most 700, aim 450)", flush=True)


def quality(bench):
    import numpy
    from safetensors.numpy import load_file

    for precision, least in (("bf16", "at least 0.98 a set, 0.99 in all, where it is the default"), ("int8", "experimental")):
        found = json.loads(output(bench.kirie_path, "bench", "quality", bench.data, "--precision", precision, "--json"))
        sets = ", ".join(f"{name} {row['mean_iou']:.4f}" for name, row in sorted(found["sets"].items()))
        everything = found["all"]
        print(
            f"{found['model']}'s {precision} masks against fp32 ({least}): mean IoU {everything['mean_iou']:.4f} over "
            f"{everything['masks']} masks; {sets}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for model in ("vit_b", "mobile"):
            embeddings = {}
            for precision in ("fp32", "bf16", "int8"):
                file = f"{folder}/{precision}.safetensors"
                output(
                    bench.kirie_path, "encode", "deploy/sample.jpg", "--model", bench.work / model / "sam.pth",
                    "--precision", precision, "-o", file)
                embeddings[precision] = max(load_file(file).values(), key=lambda x: x.size).astype(float).ravel()
            exact = embeddings.pop("fp32")
            for precision, other in embeddings.items():
                cosine = numpy.dot(exact, other) / numpy.linalg.norm(exact) / numpy.linalg.norm(other)
                print(
                    f"{precision} embedding against fp32, {model}, random weights: cosine {cosine:.6f} (at least 0.999)",
                    flush=True)


def growth(bench):
    def line(name, values):
        print(f"{name}: " + ", ".join(f"{key} {value:.1f} ms" for key, value in values), flush=True)

    sizes = (256, 512, 768, 1024)
    line("ViT-B encode by the model's image size", [
        (size, bench.kirie("encode", "--random", "vit_b", "--image-size", size, runs=3)) for size in sizes])
    counts = sorted({1, *(2 ** i for i in range(8) if 2 ** i < bench.threads), bench.threads})
    line("ViT-B encode by threads", [
        (count, bench.kirie("encode", "--random", "vit_b", threads=count, runs=3)) for count in counts])
    line("MobileSAM encode by threads", [
        (count, bench.kirie("encode", "--random", "mobile", threads=count, runs=3)) for count in counts])
    # As many encoders or decoders at a time as `--concurrency` gives a worker; the threads are shared.
    for part, runs in (("encode", 4), ("decode", 40)):
        rates = [(n, bench.rate(part, "--random", "mobile", "--streams", n, runs=runs)) for n in (1, 2, 4)]
        print(f"MobileSAM {part}s a second by streams: " + ", ".join(f"{n} {rate:.1f}" for n, rate in rates), flush=True)
    line("decode of a batch by its prompts", [
        (prompts, bench.kirie("decode", "--random", "vit_b", "--prompts", prompts)) for prompts in (1, 2, 4, 16, 64)])


if __name__ == "__main__":
    main()
