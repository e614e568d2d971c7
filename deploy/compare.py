#!/usr/bin/env python3
"""The work of deploy/compare: measures and prints a table of medians and ratios, then what has no peer."""
import argparse, json, os, pathlib, statistics, subprocess, sys, tempfile


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--kirie", required=True)
    a.add_argument("--peers", required=True)
    a.add_argument("--work", type=pathlib.Path, required=True)
    a.add_argument("--data", type=pathlib.Path, required=True)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--runs", type=int, default=5)
    a.add_argument("--parts", default="table,quality,growth", help="what to do, of table, quality and growth")
    a = a.parse_args()
    bench = Bench(a)
    if limit():
        print(f"KIRIE_MAX_ISA={limit()}: Kirie uses no more of the processor than that, its peers use all of it")
    if "table" in a.parts:
        table(bench)
    if "quality" in a.parts and a.data.is_dir():
        quality(bench)
    elif "quality" in a.parts:
        print(f"quality: not measured: there are no labelled pictures in {a.data}")
    if "growth" in a.parts:
        growth(bench)


class Bench:
    def __init__(self, a):
        self.kirie_path, self.peers, self.work, self.data = a.kirie, a.peers, a.work, a.data
        self.rounds, self.runs = a.rounds, a.runs
        self.threads = len(os.sched_getaffinity(0))
        self.memory = {}

    def peer(self, model, what, name, threads=None):
        """The medians of one peer in milliseconds, by part and precision."""
        found = json.loads(output(
            sys.executable, self.peers, "time", self.work / model, "--what", what, "--peers", name, "--runs", self.runs,
            "--threads", threads or self.threads))
        return {key: value["median"] for key, value in found.items()}

    def kirie(self, part, *flags, model=None, runs=None, threads=None, isa=None):
        """The median of one of Kirie's benchmarks in milliseconds, on the peers' weights where a model is named.

        isa: the most that it may use of the processor.
        """
        if model:
            flags += self.weights(model)
        found = self.bench(part, *flags, runs=runs, threads=threads, isa=isa)
        self.memory[part, found["precision"]] = found["peak_rss_mb"]
        return found["median_ms"]

    def weights(self, model):
        """How the peers' weights of a model are named; a TinyViT's file does not tell the size of its pictures."""
        size = ("--image-size", 1024) if model == "mobile" else ()
        return ("--model", self.work / model / "sam.pth", *size)

    def rate(self, part, *flags, runs):
        """Calls a second of all streams together."""
        return self.bench(part, *flags, runs=runs)["per_second"]

    def bench(self, part, *flags, runs=None, threads=None, isa=None):
        environment = dict(os.environ, KIRIE_MAX_ISA=isa) if isa else None
        return json.loads(output(
            self.kirie_path, "bench", part, "--json", "--runs", runs or self.runs, "--threads", threads or self.threads,
            *flags, environment=environment))


class Absent(Exception):
    """Something that this machine, or what KIRIE_MAX_ISA leaves of it, does not have: it is said, and the rest goes on."""


def output(*command, environment=None):
    words = [str(word) for word in command]
    run = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    complaint = run.stderr.decode(errors="replace")
    if run.returncode != 0 and "This processor has no" in complaint:
        raise Absent(complaint[complaint.index("This processor has no"):].splitlines()[0])
    if run.returncode != 0:
        sys.exit(f"deploy/compare: {' '.join(words)} ended with {run.returncode}:\n{complaint}")
    return run.stdout


def said(name, measure):
    """What measure() returns; nothing where the machine does not have it, which is said under the name."""
    try:
        return measure()
    except Absent as reason:
        print(f"{name}: not measured: {reason}", flush=True)
        return None


class Row:
    """One comparison, measured round by round, each side in turn: a shared machine is faster at times than at others."""

    def __init__(self, name, least, aim):
        self.name, self.least, self.aim, self.rounds, self.absent = name, least, aim, [], None

    def add(self, theirs, name, mine):
        """theirs: a peer's medians, of which this row's has a name; mine: a function that measures Kirie."""
        if name not in theirs:
            self.absent = self.absent or f"the peer has no {name} here"
        if self.absent:
            return
        try:
            self.rounds.append((theirs[name], mine()))
        except Absent as reason:
            self.absent = reason

    def print(self):
        if self.absent:
            print(f"{self.name}: not measured: {self.absent}", flush=True)
            return
        theirs, mine = (statistics.median(side) for side in zip(*self.rounds))
        ratios = [theirs / mine for theirs, mine in self.rounds]
        print(
            f"{self.name:46s}{theirs:10.1f}{mine:10.1f}{statistics.median(ratios):7.2f}x{self.least:9.2f}x{self.aim:5.1f}x"
            f"   {min(ratios):.2f} to {max(ratios):.2f}", flush=True)


def table(bench):
    threads, runs = bench.threads, bench.runs
    print(
        f"{threads} threads; medians of {bench.rounds} rounds of {runs} runs on each side ({4 * runs} for one decode), "
        f"milliseconds; times: the median of the rounds' ratios, and from which to which they go")
    print(f"{'':46s}{'peer':>10s}{'kirie':>10s}{'times':>8s}{'at least':>10s}{'aim':>6s}")

    rows = [Row(f"ViT-B encode {precision}, OpenVINO", 1.35, aim) for precision, aim in (("fp32", 1.5), ("bf16", 1.6))]
    has_tiles = "amx_bf16" in pathlib.Path("/proc/cpuinfo").read_text() and limit() in (None, "amx")
    untiled = []
    for _ in range(bench.rounds):
        theirs = bench.peer("vit_b", "encoder", "openvino")
        for row, precision in zip(rows, ("fp32", "bf16")):
            row.add(
                theirs, f"encoder openvino {precision}",
                lambda: bench.kirie("encode", "--precision", precision, model="vit_b"))
        if has_tiles:
            untiled.append(bench.kirie("encode", "--precision", "fp32", model="vit_b", isa="avx512"))
    for row in rows:
        row.print()
    if has_tiles:
        ratios = [theirs / mine for (theirs, _), mine in zip(rows[0].rounds, untiled)]
        print(
            f"ViT-B encode fp32 without AMX (KIRIE_MAX_ISA=avx512): {statistics.median(untiled):.1f} ms, "
            f"{statistics.median(ratios):.2f}x", flush=True)
    memory = {precision: bench.memory.get(("encode", precision)) for precision in ("fp32", "bf16")}

    row = Row("MobileSAM encode bf16, OpenVINO", 1.5, 2.5)
    for _ in range(bench.rounds):
        row.add(
            bench.peer("mobile", "encoder", "openvino"), "encoder openvino bf16",
            lambda: bench.kirie("encode", "--precision", "bf16", model="mobile", runs=3 * runs))
    row.print()

    for count, least, aim in sorted({(threads, 4, 8), (1, 3.5, 6)}, reverse=True):
        one = {p: Row(f"decode one click {p}, {count} thread(s), ONNX Runtime", least, aim) for p in ("bf16", "fp32")}
        many = {p: Row(f"64 prompts in one batch {p}, each, ONNX Runtime", 6, 12) for p in ("bf16", "fp32")}
        for _ in range(bench.rounds):
            theirs, name = bench.peer("vit_b", "decoder", "ort", count), "decoder_low onnxruntime fp32"
            for precision in one:
                flags = ("decode", "--all", "--precision", precision)
                one[precision].add(
                    theirs, name, lambda: bench.kirie(*flags, model="vit_b", runs=4 * runs, threads=count))
                if count == threads:
                    many[precision].add(
                        theirs, name, lambda: bench.kirie(*flags, "--prompts", 64, model="vit_b") / 64)
        for row in (*one.values(), *(many.values() if count == threads else ())):
            row.print()

    for model, name in (("vit_b", "ViT-B"), ("mobile", "MobileSAM")):
        label = f"{name} encode int8 (experimental, no peer)"
        mine = said(label, lambda: bench.kirie("encode", "--precision", "int8", model=model))
        if mine is not None:
            print(f"{label}: {mine:.1f} ms")
    mine = bench.kirie("decode", "--picture", "1800x1200", model="vit_b", runs=4 * runs)
    print(f"a mask of 1800 x 1200, scaled, cut and run-length encoded: {mine:.2f} ms (at most 2.5, aim 1)")
    for precision, bounds in (("fp32", "at most 1300"), ("bf16", "at most 700, aim 450")):
        if memory[precision] is not None:
            print(f"peak memory of a ViT-B encode in {precision}: {memory[precision]:.0f} MB ({bounds})", flush=True)


def limit():
    """The most of the processor that Kirie may use, as $KIRIE_MAX_ISA says it; None where that says nothing."""
    return os.environ.get("KIRIE_MAX_ISA") or None


def quality(bench):
    import numpy
    from safetensors.numpy import load_file

    for precision, least in (("bf16", "at least 0.98 a set, 0.99 in all, where it is the default"), ("int8", "experimental")):
        flags = ("--precision", precision, "--json")
        found = said(f"{precision} masks", lambda: output(bench.kirie_path, "bench", "quality", bench.data, *flags))
        if found is None:
            continue
        found = json.loads(found)
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
                flags = (*bench.weights(model), "--precision", precision, "-o", file)
                encode = (bench.kirie_path, "encode", "deploy/sample.jpg", *flags)
                if said(f"{precision} embedding of {model}", lambda: output(*encode)) is None:
                    continue
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
