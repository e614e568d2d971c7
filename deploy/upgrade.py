"""An older and a newer release in one cluster: see deploy/upgrade."""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import zlib

from beds import PATIENCE, ROOT, Failure, end_by_signals, square, tail, until, until_ready


class Release:
    def __init__(self, name, program):
        self.name, self.program = name, pathlib.Path(program).resolve()
        places = [folder / "weights" for folder in [self.program.parent, *self.program.parents]]
        self.weights = next((place for place in places if (place / "manifest.json").exists()), None)
        if not os.access(self.program, os.X_OK) or self.weights is None:
            raise SystemExit(f"deploy/upgrade: {program} is no program with a folder `weights` beside or above it")
        self.tiny = self.weights / "kirie-tiny.safetensors"

    def command(self, *words):
        return [str(self.program), *map(str, words)]

    def __call__(self, *words, ok=True):
        done = subprocess.run(self.command(*words), capture_output=True, text=True)
        if ok and done.returncode:
            raise Failure(f"{self.name}: kirie {' '.join(map(str, words))}: {done.stderr.strip()[-400:]}")
        return done if not ok else done.stdout

    def knows(self, *words):
        return self(*words, "--help", ok=False).returncode == 0


def older_release(text):
    path = pathlib.Path(text)
    if path.exists():
        return Release("older", path / "kirie" if path.is_dir() else path)
    revision = subprocess.run(["git", "rev-parse", "--verify", f"{text}^{{commit}}"], cwd=ROOT, capture_output=True, text=True)
    if revision.returncode:
        raise SystemExit(f"deploy/upgrade: --older {text} is neither a program nor a revision of this repository")
    commit = revision.stdout.strip()[:12]
    folder = ROOT / ".build" / "older" / commit
    program = folder / ".build" / "release" / "kirie"
    if not program.exists():
        print(f"building {commit} in {folder}", flush=True)
        if not folder.exists():
            subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
        subprocess.run(["git", "checkout", "-q", commit], cwd=folder, check=True)
        subprocess.run(["swift", "build", "-c", "release", "--product", "kirie"], cwd=folder, check=True)
    return Release("older", program)


class Cluster:
    def __init__(self, generator):
        self.random = generator
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kirie-upgrade-"))
        self.socket = self.folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.processes = {}
        self.accepted, self.pictures = {}, 0
        self.start("redis", ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder),
                             "--appendonly", "yes", "--save", "", "--maxmemory-policy", "volatile-lru"])
        until(lambda: self.redis("PING", ok=False).strip() == "PONG", "Redis")

    def start(self, name, words):
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def work(self, release, role, model, *options):
        name = f"{release.name}-{role}" + ("-new" if "--new" in options else "")
        options = [option for option in options if option != "--new"]
        self.start(name, release.command(role, "--redis", self.url, "--name", name, "--threads", "1", "--lease", "5",
                                         "--model", model, *options))
        until_ready(self.processes[name], self.folder / f"{name}.log", lambda: name in self.workers(), name)

    def leave(self, *names):
        for name in names:
            self.processes[name].send_signal(signal.SIGTERM)
        for name in names:
            status = self.processes.pop(name).wait(PATIENCE)
            if status:
                raise Failure(f"{name} did not drain: status {status}: {tail(self.folder / f'{name}.log')}")

    def redis(self, *words, ok=True):
        done = subprocess.run(["redis-cli", "-s", str(self.socket), *map(str, words)], capture_output=True, text=True)
        if ok and (done.returncode or done.stdout.startswith("ERR")):
            raise Failure(f"{words[:3]}: {done.stdout}{done.stderr}")
        return done.stdout

    def workers(self):
        flat = self.redis("--json", "HVALS", "kirie:workers")
        return {beat["name"]: beat for beat in map(json.loads, json.loads(flat))}

    def revision(self):
        return self.redis("FCALL_RO", "kirie_version", "0").split()[1]

    def picture(self):
        data, point = square(self.random, 256)
        path = self.folder / f"{self.pictures}.png"
        self.pictures += 1
        path.write_bytes(data)
        return path, point

    def jobs(self, tag, count, pictures=None):
        """A file of jobs, and what each asks."""
        pictures = pictures or [self.picture() for _ in range(max(1, count // 4))]
        asked = {}
        path = self.folder / f"{tag}.jsonl"
        with open(path, "w") as file:
            for number in range(count):
                image, (x, y) = pictures[number % len(pictures)]
                point = [x + self.random.randrange(-5, 6), y + self.random.randrange(-5, 6)]
                asked[f"{tag}-{number}"] = (image, point)
                file.write(json.dumps({"id": f"{tag}-{number}", "image": str(image), "prompts": [{"points": [point]}]}))
                file.write("\n")
        return path, asked

    def submit(self, release, tag, count, model=None, pictures=None):
        path, asked = self.jobs(tag, count, pictures)
        text = release("submit", "--jobs", path, "--wait", "--redis", self.url, *(["--model", model] if model else []))
        answers = {answer["id"]: answer for answer in map(json.loads, text.splitlines())}
        if set(answers) != set(asked):
            raise Failure(f"{tag}: no answer for {sorted(set(asked) - set(answers))[:4]}")
        self.accepted.update(asked)
        return asked, answers

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Masks:
    """What each release finds alone, with the same weights."""

    def __init__(self, cluster, releases):
        self.cluster, self.releases, self.kept = cluster, releases, {}

    def alone(self, release, model, image, point):
        embedding = self.cluster.folder / f"{image.stem}-{release.name}-{pathlib.Path(model).parent.parent.name}.kemb"
        if not embedding.exists():
            release("encode", image, "--model", model, "-o", embedding)
        text = release("decode", embedding, "--model", model, "--point", f"{point[0]},{point[1]}", "--json")
        return [mask["segmentation"] for mask in json.loads(text)["masks"]]

    def compare(self, tag, model, asked, answers):
        """How many masks are those of one release alone; an answer that is none's is wrong."""
        like = collections.Counter()
        for name, (image, point) in asked.items():
            found = [mask["segmentation"] for mask in answers[name].get("masks", [])]
            same = [release.name for release in self.releases if self.alone(release, model, image, point) == found]
            if not same:
                raise Failure(f"{tag}: the mask of {name} is that of neither release alone")
            like[" and ".join(same)] += 1
        return ", ".join(f"{count} as {who} alone" for who, count in like.items())


def run(older, newer, count, generator):
    cluster = Cluster(generator)
    masks = Masks(cluster, [older, newer])
    model = older.tiny

    def said(tag, text):
        print(f"{tag:12} {text}", flush=True)

    def round(tag, release, what, model_file=model, **options):
        asked, answers = cluster.submit(release, tag, count, **options)
        said(tag, f"{what}: {count} jobs done; {masks.compare(tag, model_file, asked, answers)}")
        return asked, answers

    try:
        cluster.work(older, "encoder", model)
        cluster.work(older, "decoder", model)
        before = cluster.revision()
        round("older", older, f"the older release alone (functions {before})")

        newer("queues", "--json", "--partitions", "16", "--redis", cluster.url)
        after = cluster.revision()
        if int(after) < int(before):
            raise Failure(f"the newer release put functions {before} back to {after}")
        round("functions", older, f"the newer release's functions, {after}, under the older one's workers")
        round("client", newer, "a newer client, older workers")

        cluster.work(newer, "decoder", model)
        cluster.work(newer, "encoder", model)
        beats = cluster.workers()
        for release in [older, newer]:
            seen = {worker["name"] for worker in json.loads(release("workers", "--json", "--redis", cluster.url))["workers"]}
            if not set(beats) <= seen:
                raise Failure(f"the {release.name} release does not see {set(beats) - seen}")
        same = {role: len({beat["model"] for beat in beats.values() if beat["role"] == role}) == 1
                for role in ["encoder", "decoder"]}
        said("heartbeats", "each sees the four workers of both; the same weights have "
             + ("one identifier" if all(same.values()) else f"one identifier: {same}") + " in both releases")
        round("mixed", newer, "both releases' workers, newer client")
        round("mixed-older", older, "both releases' workers, older client")

        cluster.leave("older-encoder", "newer-decoder")
        round("records-1", newer, "the newer release encodes, the older decodes")
        cluster.work(newer, "decoder", model)
        cluster.work(older, "encoder", model)
        cluster.leave("newer-encoder", "older-decoder")
        round("records-2", newer, "the older release encodes, the newer decodes")

        # While jobs come: the older ones drain, newer ones have come before.
        cluster.work(newer, "encoder", model)
        cluster.work(older, "decoder", model)
        path, asked = cluster.jobs("rolling", 4 * count)
        flow = subprocess.Popen(newer.command("submit", "--jobs", path, "--wait", "--redis", cluster.url),
                                stdout=subprocess.PIPE, text=True)
        first = flow.stdout.readline()
        cluster.leave("older-decoder", "older-encoder")
        answers = {answer["id"]: answer for answer in map(json.loads, [first, *flow.stdout])}
        if flow.wait() or set(answers) != set(asked):
            raise Failure(f"rolling: {len(answers)} of {len(asked)} answers, status {flow.returncode}")
        cluster.accepted.update(asked)
        said("rolling", f"older workers drain (exit 0) under load: {len(asked)} jobs done; "
             + masks.compare("rolling", model, asked, answers))

        # Other weights, for a picture whose embedding by the former ones is there.
        pictures = [cluster.picture() for _ in range(2)]
        asked, first = cluster.submit(newer, "weights-1", count, pictures=pictures)
        masks.compare("weights-1", model, asked, first)
        if zlib.crc32(newer.tiny.read_bytes()) == zlib.crc32(older.tiny.read_bytes()):
            said("weights", "both releases come with the same weights: nothing to change")
        else:
            cluster.work(newer, "encoder", newer.tiny, "--new")
            cluster.work(newer, "decoder", newer.tiny, "--new")
            cluster.leave("newer-encoder", "newer-decoder")
            names = {beat["name"]: beat["model"] for beat in cluster.workers().values()}
            masks.releases = [newer]
            asked, second = cluster.submit(newer, "weights-2", count, model=names["newer-encoder-new"], pictures=pictures)
            said("weights", f"other weights, the same pictures: {count} jobs done; "
                 + masks.compare("weights-2", newer.tiny, asked, second) + "; no embedding of the former weights was used")
            masks.releases = [older, newer]
            cluster.leave("newer-encoder-new", "newer-decoder-new")
            cluster.work(newer, "encoder", model)
            cluster.work(newer, "decoder", model)

        # And back.
        cluster.leave("newer-encoder", "newer-decoder")
        try:
            cluster.work(older, "encoder", model)
            cluster.work(older, "decoder", model)
        except Failure as failure:
            said("downgrade", f"refused: {failure}")
        else:
            round("downgrade", older, f"the older release alone again, with functions {cluster.revision()}")
            if int(cluster.revision()) < int(after):
                raise Failure("the older release put the functions back")

        # Redis's own count.
        total = collections.Counter()
        for partition in range(16):
            flat = json.loads(cluster.redis("--json", "FCALL_RO", "kirie_stats", 1, f"kirie:{{{partition}}}:"))
            for name, value in zip(flat[::2], flat[1::2]):
                if str(value).isdigit():
                    total[name.split(":")[0]] += int(value)
        left = {name: total[name] for name in ["parked", "queued", "delayed", "in_work", "failed", "dead", "expired"]
                if total[name]}
        said("count", f"{len(cluster.accepted)} jobs submitted, {total['in']} accepted, {total['done']} done; left {left}")
        if total["in"] != total["done"] or total["done"] != len(cluster.accepted) or left:
            raise Failure("the count does not come out even")
    finally:
        cluster.close()


def main():
    parser = argparse.ArgumentParser(prog="deploy/upgrade")
    parser.add_argument("--older", required=True)
    parser.add_argument("--newer", default=os.environ.get("KIRIE") or ROOT / ".build" / "release" / "kirie")
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 20))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    end_by_signals("deploy/upgrade")
    try:
        run(older_release(options.older), Release("newer", options.newer), options.jobs, random.Random(options.seed))
    except Failure as failure:
        raise SystemExit(f"deploy/upgrade: {failure}")


main()
