"""Hosts that fail: see deploy/hosts.

Each host is a network namespace with one device, a TUN whose other end this program holds: it carries every packet from
host to host itself. So a cable can be cut in one direction or in both, and packets can be late or lost, on kernels without
netem as on others; TCP on both sides is the kernel's own.
"""

import argparse
import collections
import ctypes
import fcntl
import heapq
import json
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import beds
from beds import PATIENCE, ROOT, Failure

LEASE = 2
CLONE_NEWNET, TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x40000000, 0x400454CA, 0x0001, 0x1000


class Network:
    """Hosts, and the cables between them and the switch that is this program."""

    def __init__(self, names, generator):
        self.random = generator
        self.address = {name: f"10.77.0.{number + 1}" for number, name in enumerate(names)}
        self.space = {name: f"kirie-{os.getpid()}-{name}" for name in names}
        self.number = {socket.inet_aton(address): name for name, address in self.address.items()}
        self.device = {}
        # What happens to packets on their way from a host, and to one.
        self.cut, self.late, self.lost = set(), {}, {}
        self.carried, self.dropped = 0, 0
        self.open = True
        for name in names:
            self.device[name] = self._plug_in(name)
        self.thread = threading.Thread(target=self._carry, daemon=True)
        self.thread.start()

    def _plug_in(self, name):
        space = self.space[name]
        command("ip", "netns", "add", space)
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{space}", os.O_RDONLY)
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {space}")
        try:
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"cable", IFF_TUN | IFF_NO_PI))
        finally:
            libc.setns(home, CLONE_NEWNET)
            os.close(home)
            os.close(there)
        for words in [("addr", "add", f"{self.address[name]}/24", "dev", "cable"),
                      ("link", "set", "cable", "mtu", "9000", "up"), ("link", "set", "lo", "up")]:
            command("ip", "-n", space, *words)
        return device

    def _carry(self):
        host = {device: name for name, device in self.device.items()}
        waiting, order = [], 0
        while self.open:
            pause = max(0, waiting[0][0] - time.monotonic()) if waiting else 0.2
            for device in select.select(list(host), [], [], min(pause, 0.2))[0]:
                for _ in range(64):
                    try:
                        packet = os.read(device, 65536)
                    except BlockingIOError:
                        break
                    target = self.number.get(packet[16:20]) if packet[0] >> 4 == 4 else None
                    if target is None:
                        continue
                    source = host[device]
                    ends = [("from", source), ("to", target)]
                    if any(end in self.cut for end in ends) or any(
                            self.random.random() < self.lost.get(name, 0) for name in (source, target)):
                        self.dropped += 1
                        continue
                    pause = sum(self.random.uniform(*self.late.get(name, (0, 0))) for name in (source, target))
                    if pause:
                        order += 1
                        heapq.heappush(waiting, (time.monotonic() + pause, order, self.device[target], packet))
                    else:
                        self._deliver(self.device[target], packet)
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                self._deliver(*heapq.heappop(waiting)[2:])

    def _deliver(self, device, packet):
        try:
            os.write(device, packet)
            self.carried += 1
        except OSError:
            self.dropped += 1

    def part(self, *names, ways=("from", "to")):
        self.cut |= {(way, name) for way in ways for name in names}

    def mend(self):
        self.cut, self.late, self.lost = set(), {}, {}

    def close(self):
        self.open = False
        self.thread.join()
        for name, space in self.space.items():
            os.close(self.device[name])
            subprocess.run(["ip", "netns", "delete", space], capture_output=True)


def command(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if done.returncode:
        raise Failure(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def until(condition, what):
    return beds.until(condition, what, pause=0.005)


class Redis:
    """Redis's own view, over its Unix socket, which no cable is part of; each time by another connection, for it dies."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *words):
        with beds.Redis(beds.connect(self.path)) as connection:
            return connection(*words)

    def statistics(self):
        """kirie_stats, summed over the partitions."""
        total = collections.Counter()
        for partition in range(16):
            flat = self("FCALL_RO", "kirie_stats", 1, f"kirie:{{{partition}}}:")
            for name, value in zip(flat[::2], flat[1::2]):
                if str(value).isdigit() and not name.startswith(("hist", "age", "rate")):
                    total[name] += int(value)
        return total


class Bed:
    """The hosts with their processes."""

    HOSTS = ["redis", "encoder-1", "encoder-2", "decoder-1", "decoder-2", "gateway", "desk", "desk-2"]

    def __init__(self, kirie, seed):
        self.kirie, self.random = str(kirie), random.Random(seed)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kirie-hosts-"))
        self.disk = self.folder / "disk"
        self.disk.mkdir()
        # A small disk of Redis's own, which can be filled.
        command("mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", self.disk)
        self.clock = self.folder / "clock.txt"
        self.clock.write_text("+0")
        self.processes = {}
        self.network = Network(self.HOSTS, self.random)
        self.redis = Redis(self.folder / "redis.sock")
        self.url = f"redis://{self.network.address['redis']}:6379"

    def begin(self):
        self.start_redis()
        for name in self.HOSTS:
            if name.startswith(("encoder", "decoder")):
                self.start_worker(name)
        made = subprocess.run([self.kirie, "gateway", "key", "hosts"], capture_output=True, text=True, check=True)
        self.key = made.stderr.split()[-1]
        (self.folder / "keys.jsonl").write_text(made.stdout)
        self.gateway = f"http://{self.network.address['gateway']}:8080"
        self.start("gateway", self.kirie, "gateway", "--redis", self.url, "--keys", self.folder / "keys.jsonl",
                   "--listen", f"{self.network.address['gateway']}:8080")
        until(lambda: len(self.ready()) == 4, "four workers")
        until(self.answers, "the gateway")

    def start(self, host, *words, name=None, environment={}):
        log = open(self.folder / f"{name or host}.log", "ab")
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.network.space[host], *map(str, words)], stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, env={**os.environ, **environment})
        self.processes[name or host] = process
        return process

    def start_redis(self):
        # The clock is read from a file at each look, so that it can be stopped; timers run on.
        # glibc's malloc comes before redis-server's jemalloc, which asks for the time while libfaketime starts.
        library = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        libraries = f"{library}:{library.parents[1]}/libc.so.6"
        self.start(
            "redis", "redis-server", ROOT / "deploy" / "redis" / "kirie.conf", "--bind", self.network.address["redis"],
            "--protected-mode", "no", "--unixsocket", self.folder / "redis.sock", "--dir", self.disk, "--appendfsync",
            "always", "--maxmemory", "100mb",
            environment={"LD_PRELOAD": libraries, "FAKETIME_TIMESTAMP_FILE": str(self.clock), "FAKETIME_NO_CACHE": "1",
                         "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"})
        until(self.is_up, "Redis")

    def is_up(self):
        try:
            return self.redis("PING") == "PONG"
        except (OSError, Failure):
            return False

    def start_worker(self, host):
        self.start(host, self.kirie, host.split("-")[0], "--redis", self.url, "--name", host, "--lease", LEASE,
                   "--threads", 1, "--model", "kirie-tiny", environment={"KIRIE_WEIGHTS": str(ROOT / "weights")})

    def ready(self):
        try:
            flat = self.redis("HGETALL", "kirie:workers")
        except (OSError, Failure):
            return []
        return [json.loads(text)["name"] for text in flat[1::2]]

    def load(self, name):
        return json.loads(self.redis("HGET", "kirie:workers", name))

    def tell(self, host, number):
        self.processes[host].send_signal(number)

    def end(self, host, number=signal.SIGKILL):
        self.tell(host, number)
        self.processes.pop(host).wait()

    def answers(self):
        done = subprocess.run(
            ["ip", "netns", "exec", self.network.space["desk-2"], "curl", "-sf", "-m", "5", "-H",
             f"Authorization: Bearer {self.key}", f"{self.gateway}/v1/queues"], capture_output=True)
        return done.returncode == 0

    def close(self):
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self.network.close()
        subprocess.run(["umount", "-l", self.disk])
        shutil.rmtree(self.folder, ignore_errors=True)


class Work:
    """Jobs of one scene, half of them by the command and half over HTTP, and the masks that they have to have."""

    def __init__(self, bed, scene, count):
        self.bed, self.scene = bed, scene
        folder = bed.folder / f"jobs-{scene}"
        folder.mkdir()
        self.expected, self.lines = {}, []
        pictures = []
        for number in range(max(2, count // 4)):
            data, point = beds.square(bed.random, 256)
            path = folder / f"{number}.png"
            path.write_bytes(data)
            pictures.append((path, point))
        for number in range(count):
            path, (x, y) = pictures[number % len(pictures)]
            point = [x + bed.random.randrange(-9, 10), y + bed.random.randrange(-9, 10)]
            name = f"{scene}-{number}"
            self.lines.append({"id": name, "image": str(path), "prompts": [{"points": [point]}]})
            self.expected[name] = (path, point)
        self.jobs = folder / "jobs.jsonl"
        self.jobs.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        self.answers, self.again = {}, 0
        self.thread = threading.Thread(target=self._submit, daemon=True)
        self.began = time.monotonic()
        self.thread.start()

    def _submit(self):
        """The command as a user gives it, and again where it says that it should be."""
        while len(self.answers) < len(self.expected):
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.bed.network.space["desk"], self.bed.kirie, "submit", "--jobs", self.jobs,
                 "--wait", "--when-full", "wait", "--redis", self.bed.url], stdout=subprocess.PIPE,
                stderr=open(self.bed.folder / "submit.log", "ab"), text=True)
            for line in process.stdout:
                answer = json.loads(line)
                if answer.get("masks") is not None:
                    self.answers[answer["id"]] = answer
                else:
                    self.note = line
            self.status = process.wait()
            self.ended = time.monotonic()
            if len(self.answers) < len(self.expected):
                self.again += 1
                if time.monotonic() - self.began > 2 * PATIENCE:
                    return
                time.sleep(0.2)

    def finish(self):
        self.thread.join(2 * PATIENCE + 30)
        missing = sorted(set(self.expected) - set(self.answers))
        if missing:
            raise Failure(f"{self.scene}: no answer for {missing[:5]}: {getattr(self, 'note', '')}")

    def wrong(self):
        """Ids whose mask is not that of one process, from the same type of embedding."""
        wrong, embeddings = [], {}
        for name, (path, point) in self.expected.items():
            if path not in embeddings:
                embeddings[path] = path.with_suffix(".kemb")
                command(self.bed.kirie, "encode", path, "-o", embeddings[path])
            alone = json.loads(command(
                self.bed.kirie, "decode", embeddings[path], "--point", f"{point[0]},{point[1]}", "--json"))
            if [m["segmentation"] for m in alone["masks"]] != [m["segmentation"] for m in self.answers[name]["masks"]]:
                wrong.append(name)
        return wrong


# Scenes: each does something to the bed while jobs come, and mends it.


def calm(bed, work):
    """nothing happens"""


def cable(bed, work):
    """an encoder's and a decoder's cables are cut for three leases"""
    bed.network.part("encoder-1", "decoder-1")
    time.sleep(3 * LEASE)


def packets(bed, work):
    """every cable loses one packet in thirty, and packets are 10 to 60 ms late, so that they overtake each other"""
    for name in bed.HOSTS:
        bed.network.lost[name], bed.network.late[name] = 1 / 60, (0.005, 0.03)
    work.finish()


def deaf(bed, work):
    """what Redis answers an encoder does not arrive, what the encoder asks does"""
    bed.network.part("encoder-2", ways=("to",))
    time.sleep(3 * LEASE)


def partition(bed, work):
    """an encoder that works on a picture is parted from Redis, and comes back with it after its lease"""
    work.finish()
    before = bed.redis.statistics()
    bed.tell("encoder-2", signal.SIGSTOP)
    data, point = beds.square(bed.random, 3000)
    path = bed.folder / "large.png"
    path.write_bytes(data)
    extra = subprocess.Popen(
        ["ip", "netns", "exec", bed.network.space["desk"], bed.kirie, "submit", path, "--point", f"{point[0]},{point[1]}",
         "--wait", "--redis", bed.url], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
    # The moment at which encoder-1 has taken it; where encoder-2 had asked before it stood still, both wait for the lease.
    until(lambda: bed.redis.statistics()["encode_in_work:interactive"] > 0, "an encode in work")
    holder = "encoder-1"
    bed.network.part(holder)
    time.sleep(2 * LEASE)
    bed.tell("encoder-2", signal.SIGCONT)
    answer = json.loads(extra.communicate(timeout=PATIENCE)[0])
    bed.network.mend()
    # It is heard again. What it brings is late and changes nothing, or it has learnt first that its lease is gone and drops
    # it; and it takes work again.
    until(lambda: holder in bed.ready(), "its heartbeat")
    after = bed.redis.statistics()
    if after["encode_reclaimed"] == before["encode_reclaimed"]:
        raise Failure("partition: nobody took the picture over")
    bed.tell("encoder-2", signal.SIGSTOP)
    done = bed.load(holder)["completed"]
    again = Work(bed, "partition-after", 8)
    until(lambda: bed.load(holder)["completed"] > done, "its next work")
    bed.tell("encoder-2", signal.SIGCONT)
    again.finish()
    work.expected.update(again.expected)
    work.answers.update(again.answers)
    work.expected["partition-large"] = (path, list(point))
    work.answers["partition-large"] = answer
    after = bed.redis.statistics()
    late = after["encode_late"] - before["encode_late"]
    return (f"taken over {after['encode_reclaimed'] - before['encode_reclaimed']} times; what it brought was "
            + ("late" if late else "dropped: its lease was gone") + "; it works again")


def disk(bed, work):
    """Redis's disk is full"""
    filler = bed.disk / "filler"
    # Without a buffer: what had no room would be tried once more as the file is closed.
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            pass
    refused = 0
    deadline = time.monotonic() + 3 * LEASE
    while time.monotonic() < deadline:
        try:
            bed.redis("SET", "kirie:filler", "x" * 65536)
        except (OSError, Failure) as error:
            refused += "MISCONF" in str(error)
        time.sleep(0.1)
    filler.unlink(missing_ok=True)
    if not bed.is_up():
        bed.processes.pop("redis").wait()
        bed.start_redis()
        return "Redis ended by itself, as under appendfsync always it does, and was started again"
    return f"MISCONF {refused} times"


def clock(bed, work):
    """Redis's clock stands still for three leases, and goes on three leases later"""
    bed.clock.write_text(time.strftime("%Y-%m-%d %H:%M:%S"))
    work.finish()
    stood = [bed.redis("TIME")[0] for _ in (0, 1) if not time.sleep(1.1)]
    time.sleep(3 * LEASE)
    bed.clock.write_text("+0")
    return f"it stood: {stood[0] == stood[1]}"


def host(bed, work):
    """a decoder's and an encoder's hosts stand still for three leases"""
    for name in ["decoder-2", "encoder-2"]:
        bed.tell(name, signal.SIGSTOP)
    time.sleep(3 * LEASE)
    for name in ["decoder-2", "encoder-2"]:
        bed.tell(name, signal.SIGCONT)


def killed(bed, work):
    """Redis is killed, away for two leases, and starts with its log"""
    bed.end("redis")
    time.sleep(2 * LEASE)
    bed.start_redis()


def empty(bed, work):
    """Redis is killed and starts empty, with nothing of what it knew"""
    bed.end("redis")
    for path in bed.disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    bed.start_redis()
    bed.lost_everything = True


SCENES = [calm, cable, deaf, packets, partition, host, clock, killed, disk, empty]


def play(bed, scene, count):
    bed.lost_everything = False
    before = bed.redis.statistics()
    work = Work(bed, scene.__name__, count)
    until(lambda: bed.redis.statistics()["in:bulk"] > before["in:bulk"], "a first job")
    early, began = len(work.answers), time.monotonic()
    remark = scene(bed, work)
    bed.network.mend()
    mended = time.monotonic()
    until(bed.answers, "the gateway")
    served = time.monotonic() - mended
    work.finish()
    done, late = work.ended - began, work.ended - mended
    until(lambda: len(bed.ready()) == 4, "four workers")
    wrong = work.wrong()
    after = bed.redis.statistics()
    left = {name: after.get(f"{name}:{lane}", 0) for name in ["parked", "queued", "delayed", "in_work"]
            for lane in ["interactive", "bulk"]}
    if bed.lost_everything:
        before = collections.Counter()

    def rise(name):
        return sum(after.get(f"{name}:{lane}", 0) - before.get(f"{name}:{lane}", 0) for lane in ["interactive", "bulk"])

    ended = {name: rise(name) for name in ["done", "failed", "dead", "cancelled", "expired"]}
    balance = rise("in") == sum(ended.values()) and not any(left.values())
    print(f"{scene.__name__:10} {scene.__doc__}\n"
          f"           {len(work.answers)} answers ({early} before it), {len(wrong)} wrong; accepted {rise('in')}, ended "
          + ", ".join(f"{n} {name}" for name, n in ended.items() if n)
          + f"; submitted again {work.again} times; all done {done:.1f} s after it began, "
          + (f"{late:.1f} s after its end" if late > 0 else "before its end")
          + f"; the gateway serves {served:.1f} s after its end"
          + (f"; {remark}" if remark else ""), flush=True)
    if wrong or not balance or ended["done"] != rise("in"):
        raise Failure(f"{scene.__name__}: wrong {wrong}, left {left}, ended {ended}, in {rise('in')}")


def main():
    parser = argparse.ArgumentParser(prog="deploy/hosts")
    parser.add_argument("--jobs", type=int, default=48)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 20))
    parser.add_argument("--only", action="append", choices=[scene.__name__ for scene in SCENES])
    parser.add_argument("--kirie", default=os.environ.get("KIRIE") or ROOT / ".build" / "release" / "kirie")
    options = parser.parse_args()
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        raise SystemExit("deploy/hosts: hosts are made by root, with /dev/net/tun: run it as root (sudo deploy/hosts)")
    if not os.access(options.kirie, os.X_OK):
        raise SystemExit(f"deploy/hosts: there is no {options.kirie}: build it with deploy/build, or give --kirie PATH")
    print(f"seed {options.seed}", flush=True)
    beds.end_by_signals("deploy/hosts")
    try:
        prove(options)
    except Failure as failure:
        raise SystemExit(f"deploy/hosts: {failure}")


def prove(options):
    bed = Bed(options.kirie, options.seed)
    try:
        bed.begin()
        for scene in SCENES:
            if not options.only or scene.__name__ in options.only:
                play(bed, scene, options.jobs)
        print(f"{bed.network.carried} packets carried, {bed.network.dropped} dropped")
    except (Failure, SystemExit):
        for log in sorted(bed.folder.glob("*.log")):
            print(f"--- {log.name}: {log.read_text(errors='replace')[-600:]}", file=sys.stderr)
        raise
    finally:
        bed.close()


main()
