"""Forecasts of `kirie plan` beside what a real cluster does: see deploy/plan."""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from beds import ROOT, Failure, Redis, connect, free_port, until

PARTITIONS = 16
# How far a forecast may be from what is measured.
BOUNDS = {"jobs/s": 0.15, "p50": 0.15, "p95": 0.25}
LOADS = (0.3, 0.55, 0.8)


class Bystander(Redis):
    """A connection on which much is sent and little is waited for: replies are looked at now and then, for errors."""

    def __init__(self, connection):
        super().__init__(connection)
        self.tail, self.errors = b"", collections.Counter()

    def drop(self):
        """Reads what is there already, and keeps the errors among it."""
        while select.select([self.socket], [], [], 0)[0]:
            self.note()

    def note(self):
        """Waits for more, keeps the errors among it, and gives its lines."""
        data = self.file.read1(1 << 16)
        if not data:
            raise ConnectionError("Redis has closed the connection")
        *lines, self.tail = (self.tail + data).split(b"\r\n")
        for line in lines:
            if line.startswith(b"-"):
                self.errors[line[1:80].decode()] += 1
        return lines


class Pictures:
    """The sample picture in as many files as are needed, each in the partition that the simulation gave it."""

    def __init__(self, seed):
        data = (ROOT / "deploy/sample.jpg").read_bytes()
        # Behind the first segment, where comments may stand.
        end = 4 + int.from_bytes(data[4:6], "big") if data[2:4] == b"\xff\xe0" else 2
        self.head, self.tail = data[:end], data[end:]
        self.size, self.seed, self.made = len(data), seed, {}

    def file(self, number, partition):
        if number not in self.made:
            attempt = 0
            while True:
                text = b"%d %d %8d" % (self.seed, number, attempt)
                data = self.head + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + self.tail
                digest = hashlib.sha256(data).hexdigest()
                if int(digest[:8], 16) % PARTITIONS == partition:
                    break
                attempt += 1
            self.made[number] = (digest, data)
        return self.made[number]


class Bench:
    """What one model takes, each figure a file."""

    def __init__(self, kirie, folder, model, name, runs):
        self.kirie, self.folder, self.model, self.name = kirie, folder, model, name
        sample = ROOT / "deploy/sample.jpg"
        one = ("--threads", 1)
        self.files = [
            self.measure("encode", "encode", *one, "--runs", runs),
            self.measure("picture", "encode", *one, "--runs", runs, "--picture", sample),
            self.measure("prepare", "decode", *one, "--runs", 4 * runs, "--prepare"),
            self.measure("scale", "decode", *one, "--runs", 4 * runs, "--picture", "1024x768"),
            *(
                self.measure(f"decode-{count}", "decode", *one, "--runs", 4 * runs, "--prompts", count)
                for count in (1, 4, 16)
            ),
            self.measure(
                "cluster", "cluster", "--only", "click", "--only", "broker", "--rounds", 1, "--clicks", 30 * runs),
        ]

    def measure(self, name, part, *options):
        file = self.folder / f"{self.name}-{name}.json"
        environment = dict(os.environ, KIRIE_MODEL=str(self.model))
        done = subprocess.run(
            [self.kirie, "bench", part, *map(str, options), "--json"], capture_output=True, text=True, env=environment)
        if done.returncode:
            raise Failure(f"kirie bench {part}: {done.stderr}")
        file.write_text(done.stdout)
        return file.name


class Bed:
    """A redis-server and workers, gone when it is over."""

    def __init__(self, kirie, model, workers):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kirie-plan-", dir="/tmp"))
        self.port, self.processes = free_port(), []
        (self.folder / "redis.conf").write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {self.folder}\nsave \"\"\nappendonly yes\nappendfsync everysec\n"
            "auto-aof-rewrite-min-size 2gb\nmaxmemory 4gb\nmaxmemory-policy volatile-lru\n")
        self.environment = dict(os.environ, HOME=str(self.folder), KIRIE_MODEL=str(model))
        self.start("redis-server", self.folder / "redis.conf", log="redis.log")
        self.redis = until(self.connect, "a redis-server that answers")
        address = f"redis://127.0.0.1:{self.port}"
        for role in ("encoder", "decoder"):
            for place in range(workers):
                # The names that the simulation gives them: they decide who owns which partition.
                self.start(
                    kirie, role, "--redis", address, "--partitions", PARTITIONS, "--threads", 1, "--name",
                    f"{role}-0-{place}", log=f"{role}-{place}.log")
        until(lambda: self.redis("HLEN", "kirie:workers") >= 2 * workers, "workers that are there")
        self.model = self.redis("HGET", "kirie:models", self.redis("HGET", "kirie:models", "default"))
        time.sleep(2.5)  # until every worker knows of the others

    def connect(self):
        try:
            redis = Bystander(connect(self.port))
            return redis if redis("PING") == "PONG" else None
        except (OSError, Failure):
            return None

    def start(self, *words, log):
        process = subprocess.Popen(
            list(map(str, words)), stdout=open(self.folder / log, "ab"), stderr=subprocess.STDOUT, env=self.environment)
        self.processes.append(process)

    def close(self):
        for process in self.processes[1:]:
            process.send_signal(signal.SIGTERM)
        for process in self.processes[1:]:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        self.processes[0].kill()
        self.processes[0].wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def processor_seconds(self):
        """By process: Redis, encoders, decoders."""
        ticks = []
        for process in self.processes:
            fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
        return ticks

    # Jobs

    def put(self, picture):
        digest, data = picture
        self.redis.send("FCALL", "kirie_image", 1, self.prefix(digest), digest, data)

    def prefix(self, digest):
        return "kirie:{%d}:" % (int(digest[:8], 16) % PARTITIONS)

    def submit(self, digest, jobs, lane):
        words = ["FCALL", "kirie_submit", 1, self.prefix(digest), ""]
        for identifier, line in jobs:
            words += [identifier, lane, digest, self.model, 0, line]
        self.redis.send(*words)

    def settle(self):
        """All that was sent is answered, and no job is open."""
        self.redis.send("ECHO", "settled")
        while b"settled" not in self.redis.note():
            pass
        if self.redis.errors:
            raise Failure(f"Redis refused: {dict(self.redis.errors)}")
        until(lambda: self.open() == 0, "the end of all jobs")

    def open(self):
        count = 0
        for partition in range(PARTITIONS):
            fields = self.redis(
                "HMGET", "kirie:{%d}:counters" % partition,
                *(f"{gauge}:{lane}" for gauge in ("parked", "queued", "delayed", "in_work")
                  for lane in ("interactive", "bulk")))
            count += sum(int(field or 0) for field in fields)
        return count

    def times(self, jobs):
        """Of each job when it was submitted and when it was done, by Redis's clock, in milliseconds."""
        by_partition = collections.defaultdict(list)
        for identifier, digest in jobs:
            by_partition[self.prefix(digest)].append(identifier)
        found = {}
        for prefix, identifiers in by_partition.items():
            for start in range(0, len(identifiers), 200):
                part = identifiers[start : start + 200]
                for identifier, fields in zip(part, self.redis("FCALL_RO", "kirie_status", 1, prefix, *part)):
                    told = dict(zip(fields[::2], fields[1::2])) if fields else {}
                    if told.get("state") != "done":
                        raise Failure(f"a job ended as {told}")
                    found[identifier] = tuple(int(told[at]) / 1000 for at in ("submitted", "started", "finished"))
        return found


class Trial:
    """One load on one cluster."""

    def __init__(self, kirie, plan, model, workers, load, seconds, seed, draw):
        self.kirie, self.plan, self.model, self.workers = kirie, plan, model, workers
        self.load, self.seconds, self.seed, self.draw = load, seconds, seed, draw

    def forecast(self, arrivals=None, load=None, seconds=None):
        done = subprocess.run(
            [self.kirie, "plan", self.plan, "--encoders", str(self.workers), "--decoders", str(self.workers), "--load",
             f"{load or self.load:.4f}", "--seconds", str(seconds or self.seconds), "--seed", str(self.seed),
             "--replications", "1", "--json", *(["--arrivals", str(arrivals)] if arrivals else [])],
            capture_output=True, text=True)
        if not done.stdout:
            raise Failure(done.stderr)
        return json.loads(done.stdout)

    def capacity(self):
        """The load at which the forecast falls behind."""
        low, high = 0.01, 0.02
        while not self.forecast(load=high, seconds=40)["overloaded"] and high < 1000:
            low, high = high, 2 * high
        for _ in range(5):
            middle = (low + high) / 2
            if self.forecast(load=middle, seconds=40)["overloaded"]:
                high = middle
            else:
                low = middle
        return low

    def arrivals(self):
        """What the simulation puts to the cluster at this load."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="kirie-plan-", dir="/tmp"))
        try:
            self.forecast(folder / "arrivals.jsonl")
            return [json.loads(line) for line in (folder / "arrivals.jsonl").read_text().splitlines()]
        finally:
            shutil.rmtree(folder)

    def line(self, digest, count):
        points = [[self.draw.randrange(1024), self.draw.randrange(768)] for _ in range(count)]
        prompts = [{"points": [point], "labels": [1]} for point in points]
        return json.dumps({"image": {"sha256": digest}, "prompts": prompts})

    def measure(self, arrivals, pictures):
        bed = Bed(self.kirie, self.model, self.workers)
        try:
            files = {a["picture"]: pictures.file(a["picture"], a["partition"]) for a in arrivals}
            sent = {a["picture"] for a in arrivals if "bytes" in a}
            # What the simulation finds in Redis and in the decoders' memories is brought there.
            for number, picture in files.items():
                if number not in sent:
                    bed.put(picture)
                    bed.submit(picture[0], [(f"w{number}", self.line(picture[0], 1))], "bulk")
            bed.settle()
            work = [
                (a, f"j{index}", self.line(files[a["picture"]][0], a["prompts"])) for index, a in enumerate(arrivals)]
            before = bed.processor_seconds()
            began = time.monotonic() + 0.05
            late = []
            for arrival, identifier, line in work:
                due = began + arrival["at_ms"] / 1000
                while (left := due - time.monotonic()) > 0:
                    time.sleep(left)
                late.append(time.monotonic() - due)
                picture = files[arrival["picture"]]
                if "bytes" in arrival:
                    bed.put(picture)
                bed.submit(picture[0], [(identifier, line)], arrival["lane"])
                bed.redis.drop()
            bed.settle()
            took = time.monotonic() - began
            used = [b - a for a, b in zip(before, bed.processor_seconds())]
            times = bed.times([(identifier, files[a["picture"]][0]) for a, identifier, _ in work])
        finally:
            bed.close()
        return arrivals, [times[identifier] for _, identifier, _ in work], late, used, took, self.workers


class Measured:
    def __init__(self, arrivals, times, late, used, took, workers):
        counted = [(a, t) for a, t in zip(arrivals, times) if a["counts"]]
        self.waits = {
            lane: sorted(t[2] - t[0] for a, t in counted if a["lane"] == lane) for lane in ("interactive", "bulk")}
        # The counted time by Redis's clock: arrivals were submitted when they were due.
        offset = sorted(t[0] - a["at_ms"] for a, t in zip(arrivals, times))[len(times) // 2]
        first = min(a["at_ms"] for a, _ in counted)
        last = max(a["at_ms"] for a, _ in counted)
        self.rate = sum(first <= t[2] - offset < last for t in times) / ((last - first) / 1000)
        self.late = sorted(late)[int(0.99 * len(late))] * 1000
        self.use = [used[0] / took, sum(used[1 : 1 + workers]) / took, sum(used[1 + workers :]) / took]

    def quantile(self, lane, part):
        waits = self.waits[lane]
        return waits[min(len(waits) - 1, int(part * len(waits)))] if waits else 0


def plan_file(file, name, bench, pictures, client, info):
    lanes = {
        "interactive": {
            "pictures_per_day": 86400, "new": 0.5, "seen_among": 20, "jobs_a_picture": {"mean": 6},
            "seconds_between_jobs": 0.4,
        },
        "bulk": {"pictures_per_day": 8640, "new": 1, "jobs_a_picture": 3, "prompts_a_job": 4},
    }
    plan = {
        "models": [{"name": name, "bench": bench.files, **info}],
        "embedding": {"dtype": "fp16", "ttl_s": 600},
        "load": lanes,
        "pictures": [{"bytes": pictures.size, "megapixels": 1024 * 768 / 1e6}],
        "workers": {"partitions": PARTITIONS, "client_ms": client, "decoder_cache_bytes": 1 << 30},
        "machines": {"all": {"cores": os.cpu_count()}},
        "network": {"gigabits": 20, "round_trip_ms": 0.06},
    }
    file.write_text(json.dumps(plan, indent=1) + "\n")


def client_milliseconds():
    """What this program takes of a core to submit a job."""
    left, right = socket.socketpair()
    right.setblocking(False)
    redis = Bystander(left)
    before = time.process_time()
    for index in range(2000):
        redis.send("FCALL", "kirie_submit", 1, "kirie:{3}:", "", f"j{index}", "interactive", "a" * 64, "b" * 64, 0, "c" * 80)
        redis.drop()
        try:
            while right.recv(1 << 16):
                pass
        except BlockingIOError:
            pass
    return (time.process_time() - before) / 2000 * 1000 + 0.05


def main():
    parser = argparse.ArgumentParser(prog="deploy/plan", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 20))
    parser.add_argument("--only", choices=["kirie-tiny", "mobile"], help="one of the two models")
    parser.add_argument("--workers", type=int, action="append", help="encoders, and as many decoders: 1, 2 and 3")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS, help="parts of what the cluster can carry")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; medians are held")
    parser.add_argument("--seconds", type=float, help="of each run; else 8 and 14")
    parser.add_argument("--keep", type=pathlib.Path, help="leave plans, figures and waits in this folder")
    parser.add_argument("--reuse", action="store_true", help="take the figures that --keep left there")
    parser.add_argument(
        "--recall", action="store_true", help="measure nothing: forecast anew beside the waits that --keep left there")
    parser.add_argument("--kirie", default=ROOT / ".build/release/kirie", help="the program")
    arguments = parser.parse_args()
    kirie = str(pathlib.Path(arguments.kirie).resolve())
    if not os.access(kirie, os.X_OK):
        raise SystemExit(f"deploy/plan: there is no program {kirie}: run deploy/build")
    folder = arguments.keep or pathlib.Path(tempfile.mkdtemp(prefix="kirie-plan-", dir="/tmp"))
    folder.mkdir(exist_ok=True)
    print(f"seed {arguments.seed}, {os.cpu_count()} cores", flush=True)
    try:
        good = prove(kirie, folder, arguments)
    except Failure as failure:
        print(f"deploy/plan: {failure}", file=sys.stderr)
        raise SystemExit(1)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(0 if good else 1)


def prove(kirie, folder, arguments):
    pictures = Pictures(arguments.seed)
    client = client_milliseconds()
    drawn = folder / "mobile.safetensors"
    models = {"kirie-tiny": "kirie-tiny", "mobile": drawn}
    if arguments.only != "kirie-tiny" and not arguments.recall and not drawn.exists():
        subprocess.run([kirie, "model", "draw", "mobile", "-o", drawn], check=True)
    failed = total = 0
    print("model      workers  load     jobs/s  measured  ratio |   p50 ms  measured  ratio |   p95 ms  measured  ratio")
    for name, model in models.items():
        if arguments.only not in (None, name):
            continue
        for workers in arguments.workers or (1, 2, 3):
            found = compare(kirie, folder, arguments, name, model, workers, pictures, client)
            for part, (forecast, rounds) in found.items():
                bad = report(name, workers, part, forecast, rounds)
                failed, total = failed + bad, total + len(BOUNDS)
        print(f"{name}: {pace(folder, name, arguments)}", flush=True)
    print(f"{total - failed} of {total} within their bounds: p50 and jobs/s 15 %, p95 25 %")
    return failed == 0


def compare(kirie, folder, arguments, name, model, workers, pictures, client):
    """Of each load the forecast, of the medians of the figures of all rounds, and what each round measured."""
    stem, seconds = f"{name}-{workers}", arguments.seconds or (8 if name == "kirie-tiny" else 14)
    found, loads, arrivals = {part: [] for part in arguments.loads}, {}, {}
    for number in range(arguments.rounds):
        draw = random.Random(arguments.seed)
        plan = folder / f"{stem}-{number}.json"
        if not arguments.recall and not (arguments.reuse and plan.exists()):
            # Anew in each round: the pace of a machine that others share goes up and down by a tenth within minutes, and
            # the waits shall not be held against that of another time.
            bench = Bench(kirie, folder, model, plan.stem, 20 if name == "kirie-tiny" else 8)
            info = {"embedding_values": 128 * 24 * 24} if name == "kirie-tiny" else {}
            plan_file(plan, name, bench, pictures, client, info)
        trial = Trial(kirie, plan, model, workers, 1, seconds, arguments.seed, draw)
        if not arguments.recall and not loads:
            most = trial.capacity()
            for part in arguments.loads:
                # They are the seed's and the load's, whatever the figures: the same in every round.
                trial.load = loads[part] = part * most
                arrivals[part] = trial.arrivals()
        for part in arguments.loads:
            waits = folder / f"{stem}-{part}-{arguments.seed}-{number}-waits.json"
            if arguments.recall:
                kept = json.loads(waits.read_text())
                loads[part], measured = kept["load"], kept["measured"]
            else:
                measured = trial.measure(arrivals[part], pictures)
                if arguments.keep:
                    waits.write_text(json.dumps({"load": loads[part], "measured": measured}) + "\n")
            found[part].append(Measured(*measured))
    plan = merged_plan(folder, stem, arguments.rounds)
    return {
        part: (Trial(kirie, plan, model, workers, loads[part], seconds, arguments.seed, None).forecast(), rounds)
        for part, rounds in found.items()}


def merged_plan(folder, stem, rounds):
    """A plan whose figures are the medians of those of all rounds."""
    plans = [json.loads((folder / f"{stem}-{number}.json").read_text()) for number in range(rounds)]
    files = []
    for names in zip(*(plan["models"][0]["bench"] for plan in plans)):
        file = folder / names[0].replace(f"{stem}-0-", f"{stem}-")
        file.write_text(json.dumps(median_of([json.loads((folder / name).read_text()) for name in names])) + "\n")
        files.append(file.name)
    plans[0]["models"][0]["bench"] = files
    plan = folder / f"{stem}.json"
    plan.write_text(json.dumps(plans[0], indent=1) + "\n")
    return plan


def pace(folder, name, arguments):
    """How steady the machine was: what one and the same work took in each round."""
    told = []
    for work, title in (("encode", "an encode"), ("decode-1", "a click's decode")):
        files = [
            folder / f"{name}-{workers}-{number}-{work}.json"
            for workers in arguments.workers or (1, 2, 3) for number in range(arguments.rounds)]
        times = [json.loads(file.read_text())["median_ms"] for file in files]
        told.append(f"{title} took {min(times):.2f} to {max(times):.2f} ms")
    return ", ".join(told) + ": where that is far apart, so are forecasts and what is measured"


def median_of(values):
    """Of objects of one shape, member by member."""
    if isinstance(values[0], dict):
        return {key: median_of([value[key] for value in values]) for key in values[0]}
    if isinstance(values[0], float):
        return statistics.median(values)
    if isinstance(values[0], int) and not isinstance(values[0], bool):
        return statistics.median_low(values)
    return values[0]


def report(name, workers, part, forecast, rounds):
    """A row: what was forecast, and the median of what the rounds measured."""
    waits = forecast["waits"]["interactive"]
    rows = {
        "jobs/s": (forecast["answers_per_second"], [measured.rate for measured in rounds]),
        "p50": (waits["by_redis"]["p50_ms"], [measured.quantile("interactive", 0.5) for measured in rounds]),
        "p95": (waits["by_redis"]["p95_ms"], [measured.quantile("interactive", 0.95) for measured in rounds]),
    }
    text, bad = f"{name:10} {workers}+{workers}      {part:4.0%}  ", 0
    for kind, (expected, all) in rows.items():
        seen = statistics.median(all)
        ratio = expected / max(1e-9, seen)
        fails = abs(ratio - 1) > BOUNDS[kind]
        bad += fails
        text += f" {expected:8.1f}  {seen:8.1f}  {ratio:5.2f}{'!' if fails else ' '}|"
    print(f"{text} {'FAIL' if bad else 'PASS'}", flush=True)
    bulk = forecast["waits"].get("bulk", {}).get("p50", {}).get("ms", 0)
    uses = {use["of"].split()[0]: use for use in forecast["uses"]}
    middle = rounds[len(rounds) // 2]
    told = "/".join(f"{use:.2f}" for use in middle.use)
    each = "; ".join(f"{kind} {', '.join(f'{one:.1f}' for one in all)}" for kind, (_, all) in rows.items())
    print(
        f"    each round: {each}; bulk p50 {bulk:.1f} and {middle.quantile('bulk', 0.5):.1f} ms; of a core "
        f"Redis/encoders/decoders {told}; forecast Redis {uses['Redis']['busy']:.2f}, all {uses['Redis']['cores']:.2f} of the "
        f"machine; p99 of lateness {middle.late:.1f} ms", file=sys.stderr, flush=True)
    return bad


if __name__ == "__main__":
    main()
