#!/usr/bin/env python3
"""The work of deploy/compare: measures and prints a table of medians and ratios."""
import argparse, json, os, pathlib, subprocess, sys

RUNS = 5


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--kirie", required=True)
    a.add_argument("--peers", required=True)
    a.add_argument("--work", type=pathlib.Path, required=True)
    a = a.parse_args()
    threads = len(os.sched_getaffinity(0))

    def peer(model, what, peers, threads=threads):
        return json.loads(subprocess.run(
            [sys.executable, a.peers, "time", a.work / model, "--what", what, "--peers", peers, "--runs", str(RUNS),
             "--threads", str(threads)], check=True, stdout=subprocess.PIPE).stdout)

    def kirie(part, model, *flags, runs=RUNS, threads=threads):
        return json.loads(subprocess.run(
            [a.kirie, "bench", part, "--model", a.work / model / "sam.pth", "--json", "--runs", str(runs),
             "--threads", str(threads), *flags], check=True, stdout=subprocess.PIPE).stdout)

    print(f"{threads} threads, medians of {RUNS} runs ({4 * RUNS} for one decode), milliseconds")
    print(f"{'':42s}{'peer':>10s}{'kirie':>10s}{'times':>8s}{'at least':>10s}{'aim':>6s}")

    def row(name, theirs, mine, least, aim):
        print(f"{name:42s}{theirs:10.1f}{mine:10.1f}{theirs / mine:7.2f}x{least:9.2f}x{aim:5.1f}x", flush=True)

    for precision, least, aim in (("fp32", 1.35, 1.5), ("bf16", 1.35, 1.6)):
        theirs = peer("vit_b", "encoder", "openvino")[f"encoder openvino {precision}"]["median"]
        mine = kirie("encode", "vit_b", "--precision", precision)
        row(f"ViT-B encode {precision}, OpenVINO", theirs, mine["median_ms"], least, aim)
        memory = mine["peak_rss_mb"]
    theirs = peer("vit_b", "encoder", "ort")["encoder onnxruntime fp32"]["median"]
    row("ViT-B encode fp32, ONNX Runtime", theirs, kirie("encode", "vit_b", "--precision", "fp32")["median_ms"], 1, 1)
    theirs = peer("mobile", "encoder", "openvino")["encoder openvino bf16"]["median"]
    row("MobileSAM encode bf16, OpenVINO", theirs, kirie("encode", "mobile", "--precision", "bf16")["median_ms"], 1.5, 2.5)
    low = "decoder_low onnxruntime fp32"
    for count, least, aim in sorted({(threads, 4, 8), (1, 3.5, 6)}, reverse=True):
        theirs = peer("vit_b", "decoder", "ort", count)[low]["median"]
        mine = kirie("decode", "vit_b", "--all", runs=4 * RUNS, threads=count)["median_ms"]
        row(f"decode one click, {count} thread(s), ONNX Runtime", theirs, mine, least, aim)
    theirs = peer("vit_b", "decoder", "ort")[low]["median"]
    mine = kirie("decode", "vit_b", "--all", "--prompts", "64")["median_ms"] / 64
    row("64 prompts in one batch, each, ONNX Runtime", theirs, mine, 6, 12)
    print(f"ViT-B bf16 encode, peak memory: {memory:.0f} MB (at most 700, aim 450)")


if __name__ == "__main__":
    main()
