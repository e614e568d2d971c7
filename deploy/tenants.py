"""Tenants that share a cluster: see deploy/tenants."""

import argparse
import hashlib
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from beds import PATIENCE, ROOT, Failure, Redis, connect, png, until, until_ready

PARTITIONS = 8
ONE_PLACE = 5


def rectangles(generator, width=192, height=144):
    """A picture with a few rectangles on a gradient."""
    rows = [bytearray(b for x in range(width) for b in ((x + y) % 256, (2 * x) % 256, (3 * y) % 256)) for y in range(height)]
    for _ in range(5):
        x0, y0 = generator.randrange(width - 40), generator.randrange(height - 40)
        color = bytes(generator.randrange(256) for _ in range(3))
        for y in range(y0, y0 + generator.randrange(20, 40)):
            rows[y][3 * x0:3 * (x0 + 30)] = color * 30

    return png(rows, 3)


class Cluster:
    def __init__(self, program, generator):
        self.random, self.program = generator, str(program)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kirie-tenants-"))
        self.socket = self.folder / "redis.sock"
        self.processes, self.submitted, self.number = {}, {}, 0
        self.start("redis", ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder),
                             "--save", "", "--maxmemory-policy", "volatile-lru"])
        until(self.socket.exists, "Redis")
        self.kirie("queues", "--partitions", PARTITIONS)
        self.redis = Redis(connect(self.socket))
        self.model = None

    def start(self, name, words):
        # Redis and those who ask are on other machines in a fleet: here they come before the workers.
        if name != "redis":
            words = ["nice", "-n", "10", *words]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kirie(self, *words):
        done = subprocess.run([self.program, *map(str, words), "--redis", f"unix://{self.socket}"], capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"kirie {' '.join(map(str, words))}: {done.stderr.strip()[-400:]}")
        return done.stdout

    def work(self, role, threads):
        self.start(role, [self.program, role, "--redis", f"unix://{self.socket}", "--name", role, "--threads", str(threads),
                          "--model", str(ROOT / "weights" / "kirie-tiny.safetensors")])
        until_ready(
            self.processes[role], self.folder / f"{role}.log", lambda: self.redis("HGET", "kirie:workers", role), role)
        self.model = self.redis("HGET", "kirie:models", "default")

    def leave(self, role):
        process = self.processes.pop(role)
        process.send_signal(signal.SIGTERM)
        if process.wait(PATIENCE):
            raise Failure(f"the {role} did not drain")
        self.redis("HDEL", "kirie:workers", role)

    def place(self, sha):
        return int(sha[:8], 16) % PARTITIONS

    def prefix(self, partition):
        return "kirie:{%d}:" % partition

    def pictures(self, count, tenant, partition=None):
        """Puts pictures into the cluster in a tenant's name; all of them of one partition where that is said."""
        found = []
        while len(found) < count:
            file = rectangles(self.random)
            sha = hashlib.sha256(file).hexdigest()
            if partition is not None and self.place(sha) != partition:
                # Bytes behind the end belong to the file and to no pixel.
                file, sha = next(
                    (file + bytes([a, b]), digest) for a in range(256) for b in range(256)
                    if self.place(digest := hashlib.sha256(file + bytes([a, b])).hexdigest()) == partition)
            self.redis("FCALL", "kirie_image", 1, self.prefix(self.place(sha)), sha, file, tenant)
            found.append(sha)
        return found

    def job(self, tenant, sha, lane, client=""):
        """The command that submits a click, and its id."""
        self.number += 1
        name = f"{tenant}~{self.number}"
        line = json.dumps({"image": {"sha256": sha}, "output": "rle",
                           "prompts": [{"points": [[self.random.randrange(192), self.random.randrange(144)]]}]})
        return name, ("FCALL", "kirie_submit", 1, self.prefix(self.place(sha)), client, name, lane, sha, self.model, 0, line)

    def submit(self, tenant, shas, lane):
        for start in range(0, len(shas), 200):
            for reply in self.redis.all([self.job(tenant, sha, lane)[1] for sha in shas[start:start + 200]]):
                if reply[0][2] != 1:
                    raise Failure(f"not accepted: {reply}")
        self.submitted[tenant] = self.submitted.get(tenant, 0) + len(shas)

    def totals(self, what, tenants):
        fields = [f"{tenant}:{what}" for tenant in tenants]
        replies = self.redis.all([("HMGET", self.prefix(p) + "tenants:totals", *fields) for p in range(PARTITIONS)])
        return {tenant: sum(int(reply[i] or 0) for reply in replies) for i, tenant in enumerate(tenants)}

    def unfinished(self):
        replies = self.redis.all([("ZRANGE", self.prefix(p) + "tenants:jobs", 0, -1, "WITHSCORES") for p in range(PARTITIONS)])
        return sum(int(score) for reply in replies for score in reply[1::2])

    def stop(self):
        for process in self.processes.values():
            process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def shares(cluster, options, weights):
    """What each tenant gets of encodes and of decodes while all of them have more to do."""
    tenants = list(weights)
    for tenant, weight in weights.items():
        cluster.kirie("tenants", "set", tenant, "--weight", weight)
    fair = True
    for lane in ["interactive", "bulk"]:
        cluster.work("encoder", options.threads)
        cluster.leave("encoder")
        for tenant in tenants:
            pictures = cluster.pictures(options.pictures, tenant, ONE_PLACE if tenant == tenants[-1] else None)
            cluster.submit(tenant, [sha for sha in pictures for _ in range(options.prompts)], lane)
        for stage, role, what, each in [
            ("encode", "encoder", "encodes", options.pictures), ("decode", "decoder", "out", options.pictures * options.prompts),
        ]:
            before = cluster.totals(what, tenants)
            cluster.work(role, options.threads)
            found = {}

            def nearly():
                nonlocal found
                found = {tenant: count - before[tenant] for tenant, count in cluster.totals(what, tenants).items()}
                return max(found.values()) >= 0.8 * each

            until(nearly, f"most of a tenant's {stage}s")
            fair = report(f"{stage}s, {lane}", found, weights) and fair
            if stage == "encode":
                until(
                    lambda: sum(cluster.totals(what, tenants)[t] - before[t] for t in tenants) == each * len(tenants),
                    "all encodes")
            else:
                until(lambda: cluster.unfinished() == 0, "all jobs")
                cluster.leave("decoder")
                cluster.leave("encoder")
    ended = cluster.totals("out", tenants)
    if any(ended[tenant] != cluster.submitted[tenant] for tenant in tenants):
        raise Failure(f"accepted {cluster.submitted}, ended {ended}")
    print(f"  every one of {sum(ended.values())} accepted jobs ended")
    for tenant in tenants:
        cluster.kirie("tenants", "drop", tenant)
    return fair


def report(what, found, weights):
    worst, parts = 0, []
    for tenant, weight in weights.items():
        share, due = found[tenant] / sum(found.values()), weight / sum(weights.values())
        worst = max(worst, abs(share / due - 1))
        parts.append(f"{tenant} {share:.3f} (due {due:.3f})")
    print(f"  {what}: {', '.join(parts)}: off by {100 * worst:.1f} % at most", flush=True)
    return worst <= 0.1


def flood(socket_path, model, pictures, seed, turn, stop):
    """Keeps some hundred jobs waiting, in a process of its own."""
    generator = random.Random(f"{seed} {turn}")
    redis, number, open_jobs = Redis(connect(socket_path)), 0, 0
    places = sorted({int(sha[:8], 16) % PARTITIONS for sha in pictures})
    while not stop.is_set():
        replies = redis.all([("ZSCORE", "kirie:{%d}:tenants:jobs" % p, "flood") for p in places])
        open_jobs = sum(int(reply or 0) for reply in replies)
        if open_jobs < 400:
            commands = []
            # A few at a time: Redis serves nobody else while it takes them.
            for sha in generator.choices(pictures, k=16):
                number += 1
                line = json.dumps({"image": {"sha256": sha}, "output": "rle", "prompts": [
                    {"points": [[generator.randrange(192), generator.randrange(144)]]}]})
                commands.append(("FCALL", "kirie_submit", 1, "kirie:{%d}:" % (int(sha[:8], 16) % PARTITIONS), "",
                                 f"flood~{turn}-{number}", "interactive", sha, model, 0, line))
            redis.all(commands)
        time.sleep(0.02)


def clicks(cluster, options, rate, count, name):
    """The times from when a click was due until its answer was heard, in ms."""
    client = f"clicks-{name}"
    heard, sent, done = {}, {}, threading.Event()
    listener = Redis(connect(cluster.socket))
    listener("SUBSCRIBE", f"kirie:reply:{client}")

    def listen():
        while len(heard) < count:
            message = listener.read()[2]
            heard[message.split(" ", 1)[0]] = time.monotonic()
        done.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    due = time.monotonic() + 0.1
    for _ in range(count):
        due += cluster.random.expovariate(rate)
        time.sleep(max(0, due - time.monotonic()))
        job, command = cluster.job("clicks", cluster.random.choice(cluster.clicked), "interactive", client)
        sent[job] = due
        if cluster.redis(*command)[0][2] != 1:
            raise Failure(f"{job} was not accepted")
    if not done.wait(PATIENCE):
        raise Failure(f"{count - len(heard)} clicks were not answered")
    listener.socket.close()
    return sorted(1000 * (heard[job] - sent[job]) for job in sent)


def beside_others(cluster, options, rate, flooded, turn):
    """Clicks while another tenant keeps jobs waiting; what of those is done a second, and how many wait at the end."""
    stop = multiprocessing.Event()
    words = (cluster.socket, cluster.model, flooded, options.seed, turn, stop)
    process = multiprocessing.Process(target=flood, args=words, daemon=True)
    process.start()
    try:
        clicks(cluster, options, rate, options.clicks // 10, f"begin-{turn}")
        first, started = cluster.totals("out", ["flood"])["flood"], time.monotonic()
        times = clicks(cluster, options, rate, options.clicks // options.turns, f"beside-{turn}")
        flow = (cluster.totals("out", ["flood"])["flood"] - first) / (time.monotonic() - started)
        return times, flow, cluster.unfinished()
    finally:
        stop.set()
        process.join(PATIENCE)


def beside_a_flood(cluster, options):
    cluster.work("encoder", options.threads)
    cluster.work("decoder", options.threads)
    cluster.clicked = cluster.pictures(8, "clicks")
    flooded = cluster.pictures(40, "flood")
    cluster.submit("clicks", cluster.clicked, "interactive")
    cluster.submit("flood", flooded, "bulk")
    until(lambda: cluster.unfinished() == 0, "all pictures are encoded")
    cluster.leave("encoder")
    # What the decoder can do, one prompt of a picture after the other.
    start, some = time.monotonic(), cluster.clicked * 50
    cluster.submit("clicks", some, "interactive")
    until(lambda: cluster.unfinished() == 0, "the first clicks")
    capacity = len(some) / (time.monotonic() - start)
    rate = options.load * capacity
    print(f"  the decoder does {capacity:.0f} prompts a second; clicks come at {rate:.0f} a second, at random", flush=True)
    ratios, alone, beside, flows = [], [], [], []

    def at(times, part):
        return times[min(len(times) - 1, int(part * len(times)))]

    # By turns, so that a machine that is slower for a while is so for both.
    for turn in range(options.turns):
        clicks(cluster, options, rate, options.clicks // 10, f"warm-{turn}")
        alone.append(clicks(cluster, options, rate, options.clicks // options.turns, f"alone-{turn}"))
        times, flow, waiting = beside_others(cluster, options, rate, flooded, turn)
        beside.append(times)
        flows.append(flow)
        ratios.append(at(times, 0.95) / at(alone[-1], 0.95))
        until(lambda: cluster.unfinished() == 0, "the flood's end")
    ratio = statistics.median(ratios)
    before, after = ([statistics.median(at(times, part) for times in all) for part in (0.5, 0.95)] for all in (alone, beside))
    print(f"  alone: p50 {before[0]:.1f} ms, p95 {before[1]:.1f} ms; beside a flood of {statistics.median(flows):.0f} jobs a second "
          f"in the same lane ({waiting} waiting): p50 {after[0]:.1f} ms, p95 {after[1]:.1f} ms; ratio of p95 {ratio:.2f} "
          f"(median of {', '.join(f'{each:.2f}' for each in ratios)})")
    cluster.leave("decoder")
    return ratio <= 1.5


def main():
    parser = argparse.ArgumentParser(prog="deploy/tenants")
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--clicks", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=5, help="of them, alone and beside the flood")
    parser.add_argument("--load", type=float, default=0.3, help="clicks that come, of those that the decoder can do")
    parser.add_argument("--threads", type=int, default=max(1, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", action="append", choices=["equal", "weighted", "clicks"], default=[])
    parser.add_argument("--kirie", default=os.environ.get("KIRIE", ROOT / ".build" / "release" / "kirie"))
    options = parser.parse_args()
    if not os.access(options.kirie, os.X_OK):
        sys.exit(f"deploy/tenants: {options.kirie} is not there: build it with deploy/build, or name it with --kirie")
    print(f"seed {options.seed}", flush=True)
    scenes = {
        "equal": ("three tenants of equal weight, the third with all pictures in one partition",
                  lambda cluster: shares(cluster, options, {"lab": 1, "archive": 1, "one-place": 1})),
        "weighted": ("weights of 1 and 3", lambda cluster: shares(cluster, options, {"small": 1, "large": 3})),
        "clicks": ("one tenant's clicks beside another's flood", lambda cluster: beside_a_flood(cluster, options)),
    }
    fine = True
    for name, (title, scene) in scenes.items():
        if options.only and name not in options.only:
            continue
        print(f"{name}: {title}", flush=True)
        cluster = Cluster(options.kirie, random.Random(options.seed))
        try:
            fine = scene(cluster) and fine
        except Failure as failure:
            print(f"  {failure}")
            fine = False
        finally:
            cluster.stop()
    print("all within bounds" if fine else "not within bounds")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
