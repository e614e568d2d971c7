#!/usr/bin/env python3
"""Times ONNX Runtime, OpenVINO and Kirie on the same weights, each side in turn, and prints medians and their ratios;
then how far bf16 and int8 are from fp32, and how cost grows.

    deploy/compare                            everything: half an hour or more; leave the machine alone meanwhile
    ROUNDS=1 RUNS=2 deploy/compare --parts table
    deploy/compare --parts table --models sam2.1_tiny,edgetam
    deploy/compare --work models --data DIR   keeps the exported models for the next run; DIR has labelled pictures

The first run makes a virtual environment and installs the published packages from PyPI. The peers run the published
code of ViT-B, MobileSAM, SAM 2.1 and EdgeTAM with drawn weights, exported to ONNX; Kirie reads the same weights. Exit
status 0 if every figure is within its bound, 1 if not, 2 where something is missing; a row that this machine cannot have,
or that has no bound, is said and not held. Ratios are held where the processor has AVX512_BF16 and KIRIE_MAX_ISA sets no limit.
"""
from __future__ import annotations

import argparse, hashlib, json, os, pathlib, shutil, signal, statistics, subprocess, sys, tempfile
from typing import Callable, TypeVar
from published import environment

PARTS = ("table", "quality", "growth")
FIRST = {"vit_b": "ViT-B", "mobile": "MobileSAM"}
SECOND = {"sam2.1_tiny": "SAM 2.1 tiny", "sam2.1_base_plus": "SAM 2.1 base+", "edgetam": "EdgeTAM"}
Figure = TypeVar("Figure")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="deploy/compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    environment.add_arguments(parser)
    parser.add_argument(
        "--peers", metavar="PATH", type=pathlib.Path, default=environment.REQUIREMENTS.with_name("runtimes.py"),
        help="another program that exports and times, with the arguments and files of deploy/published/runtimes.py")
    parser.add_argument(
        "--work", metavar="DIR", type=pathlib.Path, help="keeps the models, 2.2 GB; default: kept nowhere")
    parser.add_argument(
        "--data", metavar="DIR", type=pathlib.Path, help="labelled pictures, as `kirie eval` takes them")
    parser.add_argument(
        "--rounds", type=count, default=os.environ.get("ROUNDS") or "3",
        help="how often each side is measured in turn; default: $ROUNDS, else 3")
    parser.add_argument(
        "--runs", type=count, default=os.environ.get("RUNS") or "5",
        help="how many runs a median is of; default: $RUNS, else 5")
    parser.add_argument("--parts", type=some(PARTS), default=PARTS, help=f"some of {','.join(PARTS)}; default: all")
    models = (*FIRST, *SECOND)
    parser.add_argument(
        "--models", type=some(models), default=models, help=f"whose rows of the table: some of {','.join(models)}")
    options = parser.parse_args()
    if not options.peers.is_file():
        parser.error(f"--peers: {options.peers} is not there")
    if options.data and not options.data.is_dir():
        parser.error(f"--data: {options.data} is no folder")
    kirie = environment.enter(options, options.work or pathlib.Path(tempfile.gettempdir()), disk=3, memory=6)
    print(environment.versions())
    with tempfile.TemporaryDirectory(prefix="kirie-compare-") as temporary:
        bench = Bench(options, kirie, options.work or pathlib.Path(temporary))
        if limit():
            print(f"KIRIE_MAX_ISA={limit()}: Kirie uses no more of the processor than that, its peers use all of it")
        if not bench.holds_ratios:
            print("ratios are said and not held: their bounds are for all that a processor with AVX512_BF16 has")
        if "table" in options.parts or "quality" in options.parts:
            quality_takes = FIRST if "quality" in options.parts else ()
            for model in (*FIRST, *SECOND):
                if model in options.models or model in quality_takes:
                    bench.make(model)
        if "table" in options.parts:
            table(bench, options.models)
        if "quality" in options.parts:
            quality(bench)
        if "growth" in options.parts:
            growth(bench)
    for name in bench.broken:
        print(f"not held: {name}")
    print("FAIL" if bench.broken else f"PASS: {bench.held} figures held")
    return 1 if bench.broken else 0


def count(text: str) -> int:
    """A number of rounds or runs."""
    number = int(text)
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError("takes a number from 1 to 1000")
    return number


def some(names: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """Reads some of these names."""
    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        if not set(chosen) <= set(names):
            raise argparse.ArgumentTypeError(f"takes some of {', '.join(names)}, with commas between them")
        return chosen

    return read


class Absent(Exception):
    """Something that this machine, or what KIRIE_MAX_ISA leaves of it, lacks: it is said, and the rest goes on."""


class Bench:
    def __init__(self, options: argparse.Namespace, kirie: str, work: pathlib.Path) -> None:
        self.kirie_path, self.work, self.data = kirie, work, options.data
        self.reference, self.peers = options.reference, options.peers
        self.rounds, self.runs = options.rounds, options.runs
        self.threads = len(os.sched_getaffinity(0))
        self.memory: dict[tuple[str, str], float] = {}
        self.holds_ratios = limit() is None and "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text()
        self.held = 0
        self.broken: list[str] = []

    def hold(self, name: str, good: bool) -> str:
        """Counts a figure that has a bound; returns the word for its line."""
        if good:
            self.held += 1
        else:
            self.broken.append(name)
        return "PASS" if good else "FAIL"

    def make(self, model: str) -> None:
        """The weights of a model and its export, unless they are in the work folder from an earlier run."""
        recipe = hashlib.sha256()
        # What the reference imports lies beside it.
        second = environment.REQUIREMENTS.with_name("segment_anything_2.py")
        for file in (self.reference, self.peers, second, environment.REQUIREMENTS):
            recipe.update(file.read_bytes())
        folder = self.work / model
        mark = folder / "recipe"
        if mark.is_file() and mark.read_text() == recipe.hexdigest():
            return
        environment.say(f"exporting {model}")
        shutil.rmtree(folder, ignore_errors=True)
        output(
            sys.executable, self.reference, "--geometry", model, "--seed", 7, "--image",
            environment.ROOT / "deploy" / "sample.jpg", "--out", folder)
        output(sys.executable, self.peers, "export", folder)
        mark.write_text(recipe.hexdigest())

    def peer(self, model: str, what: str, name: str, threads: int | None = None) -> dict[str, float] | Absent:
        """The medians of one peer in milliseconds, by part and precision, or why there are none."""
        command = [
            sys.executable, self.peers, "time", self.work / model, "--what", what, "--peers", name, "--runs", self.runs,
            "--threads", threads or self.threads]
        run = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if run.returncode < 0:
            return Absent(f"the peer ended with {signal.Signals(-run.returncode).name}")
        if run.returncode > 0:
            return Absent(f"the peer said: {(run.stderr.strip().splitlines() or ['nothing'])[-1]}")
        return {key: value["median"] for key, value in json.loads(run.stdout).items()}

    def kirie(
        self, part: str, *flags: object, model: str | None = None, runs: int | None = None, threads: int | None = None,
        isa: str | None = None
    ) -> float:
        """The median of one of Kirie's benchmarks in milliseconds, on the peers' weights where a model is named.

        isa: the most that it may use of the processor.
        """
        if model:
            flags += self.weights(model)
        found = self.bench(part, *flags, runs=runs, threads=threads, isa=isa)
        self.memory[part, found["precision"]] = found["peak_rss_mb"]
        return found["median_ms"]

    def weights(self, model: str) -> tuple[object, ...]:
        """How the peers' weights of a model are named; a TinyViT's file does not tell the size of its pictures."""
        size = ("--image-size", 1024) if model == "mobile" else ()
        return ("--model", self.work / model / "sam.pth", *size)

    def rate(self, part: str, *flags: object, runs: int) -> float:
        """Calls a second of all streams together."""
        return self.bench(part, *flags, runs=runs)["per_second"]

    def bench(
        self, part: str, *flags: object, runs: int | None = None, threads: int | None = None, isa: str | None = None
    ) -> dict:
        return json.loads(output(
            self.kirie_path, "bench", part, "--json", "--runs", runs or self.runs, "--threads", threads or self.threads,
            *flags, variables=dict(os.environ, KIRIE_MAX_ISA=isa) if isa else None))


def output(*command: object, variables: dict[str, str] | None = None) -> bytes:
    words = [str(word) for word in command]
    run = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables)
    complaint = run.stderr.decode(errors="replace")
    if run.returncode != 0 and "This processor has no" in complaint:
        raise Absent(complaint[complaint.index("This processor has no"):].splitlines()[0])
    if run.returncode != 0:
        sys.exit(f"deploy/compare: {' '.join(words)} ended with {run.returncode}:\n{complaint}")
    return run.stdout


def said(name: str, measure: Callable[[], Figure]) -> Figure | None:
    """What measure() returns; nothing where the machine does not have it, which is said under the name."""
    try:
        return measure()
    except Absent as reason:
        print(f"{name}: not measured: {reason}", flush=True)
        return None


class Row:
    """One comparison, measured round by round, each side in turn: a shared machine is not always equally fast."""

    def __init__(self, name: str, least: float | None = None, aim: float | None = None) -> None:
        """least, aim: bounds of the ratio; None for a row that is said and not held."""
        self.name, self.least, self.aim = name, least, aim
        self.rounds: list[tuple[float, float]] = []
        self.absent: Absent | None = None

    def add(self, theirs: dict[str, float] | Absent, name: str, mine: Callable[[], float]) -> None:
        """theirs: a peer's medians, of which this row's has a name; mine: a function that measures Kirie."""
        if self.absent:
            return
        try:
            if isinstance(theirs, Absent):
                raise theirs
            if name not in theirs:
                raise Absent(f"the peer has no {name} here")
            self.rounds.append((theirs[name], mine()))
        except Absent as reason:
            self.absent = reason

    def print(self, bench: Bench) -> None:
        if self.absent:
            print(f"{self.name}: not measured: {self.absent}", flush=True)
            return
        theirs, mine = (statistics.median(side) for side in zip(*self.rounds))
        ratios = [theirs / mine for theirs, mine in self.rounds]
        ratio = statistics.median(ratios)
        verdict, bounds = "", " " * 16
        if self.least is not None and self.aim is not None:
            bounds = f"{self.least:9.2f}x{self.aim:5.1f}x"
            verdict = bench.hold(self.name, ratio >= self.least) if bench.holds_ratios else ""
        print(
            f"{self.name:46s}{theirs:10.1f}{mine:10.1f}{ratio:7.2f}x{bounds}"
            f"   {min(ratios):.2f} to {max(ratios):.2f} {verdict}".rstrip(), flush=True)


def table(bench: Bench, models: tuple[str, ...]) -> None:
    threads, runs = bench.threads, bench.runs
    print(
        f"{threads} threads; medians of {bench.rounds} rounds of {runs} runs on each side ({4 * runs} for one decode), "
        f"milliseconds; times: the median of the rounds' ratios, and from which to which they go")
    print(f"{'':46s}{'peer':>10s}{'kirie':>10s}{'times':>8s}{'at least':>10s}{'aim':>6s}")

    if "vit_b" in models:
        vit_b_encodes(bench)
    memory = {precision: bench.memory.get(("encode", precision)) for precision in ("fp32", "bf16")}
    if "mobile" in models:
        row = Row("MobileSAM encode bf16, OpenVINO", 1.5, 2.5)
        for _ in range(bench.rounds):
            row.add(
                bench.peer("mobile", "encoder", "openvino"), "encoder openvino bf16",
                lambda: bench.kirie("encode", "--precision", "bf16", model="mobile", runs=3 * runs))
        row.print(bench)
    if "vit_b" in models:
        vit_b_decodes(bench)

    second = {}
    for model, name in SECOND.items():
        if model not in models:
            continue
        # EdgeTAM's are said: nobody set a bound for them.
        encodes, clicks = ((), ()) if model == "edgetam" else ((1.3, 1.8), (3, 6))
        rows = {p: Row(f"{name} encode {p}, OpenVINO", *encodes) for p in ("fp32", "bf16")}
        click = Row(f"{name} one click fp32, ONNX Runtime", *clicks)
        for _ in range(bench.rounds):
            theirs = bench.peer(model, "encoder", "openvino")
            for precision, row in rows.items():
                row.add(
                    theirs, f"encoder openvino {precision}",
                    lambda: bench.kirie("encode", "--precision", precision, model=model))
            second[model] = bench.memory.get(("encode", "fp32"))
            click.add(
                bench.peer(model, "decoder", "ort", threads), "decoder_low onnxruntime fp32",
                lambda: bench.kirie("decode", "--all", "--precision", "fp32", model=model, runs=4 * runs))
        for row in (*rows.values(), click):
            row.print(bench)

    for model, name in FIRST.items():
        label = f"{name} encode int8 (experimental, no peer)"
        mine = said(
            label, lambda: bench.kirie("encode", "--precision", "int8", model=model)) if model in models else None
        if mine is not None:
            print(f"{label}: {mine:.1f} ms")
    if "vit_b" in models:
        mine = bench.kirie("decode", "--picture", "1800x1200", model="vit_b", runs=4 * runs)
        print(f"a mask of 1800 x 1200, scaled, cut and run-length encoded: {mine:.2f} ms (aim 1)")
    peak = second.get("sam2.1_base_plus")
    if peak is not None:
        name = "peak memory of a SAM 2.1 base+ encode in fp32"
        print(f"{name}: {peak:.0f} MB (at most 900, aim 600) {bench.hold(name, peak <= 900)}", flush=True)
    for precision, most, bounds in (("fp32", 1300, "at most 1300"), ("bf16", 700, "at most 700, aim 450")):
        peak = memory[precision]
        if peak is not None:
            name = f"peak memory of a ViT-B encode in {precision}"
            print(f"{name}: {peak:.0f} MB ({bounds}) {bench.hold(name, peak <= most)}", flush=True)


def vit_b_encodes(bench: Bench) -> None:
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
        row.print(bench)
    if has_tiles and not rows[0].absent:
        ratios = [theirs / mine for (theirs, _), mine in zip(rows[0].rounds, untiled)]
        print(
            f"ViT-B encode fp32 without AMX (KIRIE_MAX_ISA=avx512): {statistics.median(untiled):.1f} ms, "
            f"{statistics.median(ratios):.2f}x", flush=True)


def vit_b_decodes(bench: Bench) -> None:
    threads, runs = bench.threads, bench.runs
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
            row.print(bench)


def limit() -> str | None:
    """The most of the processor that Kirie may use, as $KIRIE_MAX_ISA says it; None where that says nothing."""
    return os.environ.get("KIRIE_MAX_ISA") or None


def quality(bench: Bench) -> None:
    import numpy
    from safetensors.numpy import load_file

    if not bench.data:
        print("masks against fp32: not measured: that takes labelled pictures, which --data names")
    bounds = (("bf16", "at least 0.98 a set, 0.99 in all, where it is the default"), ("int8", "experimental"))
    for precision, least in bounds if bench.data else ():
        measure = (bench.kirie_path, "bench", "quality", bench.data, "--precision", precision, "--json")
        printed = said(f"{precision} masks", lambda: output(*measure))
        if printed is None:
            continue
        found = json.loads(printed)
        sets = ", ".join(f"{name} {row['mean_iou']:.4f}" for name, row in sorted(found["sets"].items()))
        everything = found["all"]
        print(
            f"{found['model']}'s {precision} masks against fp32 ({least}): mean IoU {everything['mean_iou']:.4f} over "
            f"{everything['masks']} masks; {sets}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for model in FIRST:
            embeddings = {}
            for precision in ("fp32", "bf16", "int8"):
                file = f"{folder}/{precision}.safetensors"
                flags = (*bench.weights(model), "--precision", precision, "-o", file)
                encode = (bench.kirie_path, "encode", environment.ROOT / "deploy" / "sample.jpg", *flags)
                if said(f"{precision} embedding of {model}", lambda: output(*encode)) is None:
                    continue
                embeddings[precision] = max(load_file(file).values(), key=lambda x: x.size).astype(float).ravel()
            exact = embeddings.pop("fp32")
            for precision, other in embeddings.items():
                cosine = numpy.dot(exact, other) / numpy.linalg.norm(exact) / numpy.linalg.norm(other)
                name = f"{precision} embedding against fp32, {model}, drawn weights"
                verdict = bench.hold(name, cosine >= 0.999)
                print(f"{name}: cosine {cosine:.6f} (at least 0.999) {verdict}", flush=True)


def growth(bench: Bench) -> None:
    def line(name: str, values: list[tuple[int, float]]) -> None:
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
        found = ", ".join(f"{n} {rate:.1f}" for n, rate in rates)
        print(f"MobileSAM {part}s a second by streams: {found}", flush=True)
    line("decode of a batch by its prompts", [
        (prompts, bench.kirie("decode", "--random", "vit_b", "--prompts", prompts)) for prompts in (1, 2, 4, 16, 64)])


if __name__ == "__main__":
    sys.exit(main())
