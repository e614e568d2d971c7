"""Failovers of Redis under load, with every job counted: see deploy/failover."""

import argparse
import collections
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from beds import PATIENCE, ROOT, Failure, free_port, until, until_ready

# What each setting promises of accepted jobs whose primary is gone for good, where the replica lagged.
BOUNDS = {
    "plain": "what replicas had not got yet",
    "wait": "none while a replica that has them is promoted",
    "min-replicas": "min-replicas-max-lag seconds of jobs, and one more",
    "cluster": "what replicas had not got yet",
    "cluster-wait": "none while a replica that has them is promoted",
    "reshard": "none",
}


class Bed:
    """Servers and roles of one setting, in a folder of their own; all end with it."""

    def __init__(self, kirie):
        self.kirie = kirie
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kirie-failover-", dir="/tmp"))
        self.processes = []
        self.watchers = []
        self.environment = dict(os.environ, HOME=str(self.folder), KIRIE_MODEL="kirie-tiny")

    def close(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *words, log):
        process = subprocess.Popen(
            list(map(str, words)), stdout=open(self.folder / log, "ab"), stderr=subprocess.STDOUT, env=self.environment
        )
        self.processes.append(process)
        return process

    def server(self, *lines, sentinel=False):
        port = free_port(below=50_000)  # a cluster's bus listens 10,000 further up
        place = self.folder / str(port)
        place.mkdir()
        settings = ["bind 127.0.0.1", f"port {port}", f"dir {place}", 'save ""', "repl-diskless-sync-delay 0", *lines]
        (place / "redis.conf").write_text("\n".join(settings) + "\n")
        process = self.start(
            "redis-server", place / "redis.conf", *(["--sentinel"] if sentinel else []), log=f"{port}.log"
        )
        answers = ("PONG", "LOADING")
        until_ready(
            process, self.folder / f"{port}.log", lambda: any(word in self.redis(port, "PING") for word in answers),
            f"server {port}")
        return port, process

    def redis(self, port, *words):
        done = subprocess.run(["redis-cli", "-p", str(port), *map(str, words)], capture_output=True, text=True)
        return done.stdout

    def run(self, *words, given=None):
        return subprocess.run(
            [str(self.kirie), *map(str, words)], input=given, capture_output=True, text=True, env=self.environment
        )

    def names(self, port):
        """Whether all sentinels, where there are any, name this server as the primary."""
        asked = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        return all(str(port) in self.redis(watcher, *asked).split() for watcher in self.watchers)

    # Which Redis

    def sentinels(self, *lines):
        primary, process = self.server(*lines)
        replica, second = self.server(*lines, f"replicaof 127.0.0.1 {primary}")
        watch = [
            f"sentinel monitor main 127.0.0.1 {primary} 2",
            "sentinel down-after-milliseconds main 1000",
            "sentinel failover-timeout main 5000",
        ]
        ports = [self.server(*watch, sentinel=True)[0] for _ in range(3)]
        for port in ports:
            until(
                lambda: "\nnum-slaves\n1\n" in (told := self.redis(port, "SENTINEL", "MASTER", "main"))
                and "\nnum-other-sentinels\n2\n" in told,
                "sentinels that know each other",
            )
        self.watchers = ports
        self.environment["KIRIE_REDIS"] = "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/main"
        return process, second, primary, replica

    def cluster(self, replicas=1):
        lines = ["cluster-enabled yes", "cluster-node-timeout 1500", "cluster-replica-validity-factor 0"]
        nodes = dict(self.server(*lines) for _ in range(3 * (1 + replicas)))
        made = subprocess.run(
            ["redis-cli", "--cluster", "create", *(f"127.0.0.1:{port}" for port in nodes), "--cluster-yes"]
            + (["--cluster-replicas", str(replicas)] if replicas else []),
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise Failure(made.stdout + made.stderr)
        ports = list(nodes)
        for port in ports:
            until(lambda: "cluster_state:ok" in self.redis(port, "CLUSTER", "INFO"), "a cluster that stands")
        for port in ports[3:]:
            until(lambda: "master_link_status:up" in self.redis(port, "INFO", "replication"), "replicas with the data")
        self.environment["KIRIE_REDIS"] = f"redis://127.0.0.1:{ports[0]}"
        return nodes, ports

    # The load

    def roles(self):
        for role in ("encoder", "decoder"):
            self.start(self.kirie, role, "--name", role, "--threads", "1", "--lease", "5", log=f"{role}.log")
        until(lambda: self.run("workers", "--json").stdout.count('"name"') >= 2, "workers that are there")
        warm = self.run("submit", ROOT / "deploy/sample.jpg", "--point", "920,560", "--wait")
        if warm.returncode:
            raise Failure(warm.stderr)


class Load:
    """Job lines at a steady rate into `kirie submit`, and what it says of each."""

    def __init__(self, bed, count, rate, options):
        self.bed, self.rate, self.options = bed, rate, ["--when-full", "wait", *options]
        picture = str(ROOT / "deploy/sample.jpg")
        self.lines = [
            json.dumps({"id": f"j{n}", "image": picture, "prompts": [{"points": [[300 + n % 400, 200 + n % 300]]}]})
            for n in range(count)
        ]
        self.accepted = {}
        self.restarts = 0

    def verdicts(self, process):
        for line in process.stdout:
            said = json.loads(line)
            if said.get("state") not in ("refused", None) and "id" in said:
                self.accepted.setdefault(said["id"], time.monotonic())

    def submit(self, lines, rate):
        process = subprocess.Popen(
            [str(self.bed.kirie), "submit", "--jobs", "-", *self.options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.bed.folder / "submit.log", "ab"),
            text=True, bufsize=1, env=self.bed.environment,
        )
        reader = threading.Thread(target=self.verdicts, args=(process,))
        reader.start()
        began = time.monotonic()
        try:
            for number, line in enumerate(lines):
                if rate:
                    time.sleep(max(0, began + number / rate - time.monotonic()))
                process.stdin.write(line + "\n")
            process.stdin.close()
        except BrokenPipeError:
            pass
        process.wait()
        reader.join()

    def run(self):
        """As the README says: after whatever went wrong, the same command again."""
        self.submit(self.lines, self.rate)
        for _ in range(20):
            left = [line for line in self.lines if json.loads(line)["id"] not in self.accepted]
            if not left:
                return
            self.restarts += 1
            self.submit(left, None)
        raise Failure(f"{len(left)} jobs were never accepted: {(self.bed.folder / 'submit.log').read_text()[-600:]}")

    def count(self):
        ids = "\n".join(self.accepted)
        waited = self.bed.run("wait", "-", "--timeout", PATIENCE, given=ids)
        states = collections.Counter()
        for line in waited.stdout.splitlines():
            states[json.loads(line).get("state", "unknown")] += 1
        return states


def scene(name, kirie, seconds, rate, lag):
    bed = Bed(kirie)
    try:
        options, moved = [], 0
        if name in ("plain", "wait", "min-replicas"):
            lines = ["min-replicas-to-write 1", "min-replicas-max-lag 1"] if name == "min-replicas" else []
            primary, replica, owner, heir = bed.sentinels(*lines)
        else:
            nodes, ports = bed.cluster(replicas=0 if name == "reshard" else 1)
        if name.endswith("wait"):
            options = ["--wait-replicas", "1"]
        bed.roles()
        if name.startswith("cluster"):
            owner = home(bed, ports)
            heir = replica_of(bed, owner)
            primary, replica = nodes[owner], nodes[heir]
        load = Load(bed, int(seconds * rate), rate, options)
        thread = threading.Thread(target=load.run, daemon=True)
        thread.start()
        began = time.monotonic()
        time.sleep(seconds / 3)
        if name == "reshard":
            for _ in range(2):
                moved += reshard(bed, ports)
            killed = None
        else:
            # What is in the replica's socket would reach it all the same: so it is cut off, and cannot come back.
            replica.send_signal(signal.SIGSTOP)
            bed.redis(owner, "CLIENT", "KILL", "TYPE", "replica")
            time.sleep(lag)
            primary.kill()
            killed = time.monotonic()
            replica.send_signal(signal.SIGCONT)
            # Back earlier, and empty, it would be the primary again: it keeps nothing on its disk here. For the same reason
            # it comes as a replica: sentinels make it one only eight seconds later, and may promote it until then.
            until(lambda: is_primary(bed, heir) and bed.names(heir), "a replica that is promoted")
            follows = [] if name.startswith("cluster") else ["--replicaof", "127.0.0.1", heir]
            bed.start("redis-server", bed.folder / str(owner) / "redis.conf", *follows, log=f"{owner}.log")
        thread.join()
        took = time.monotonic() - began
        states = load.count()
        lost = len(load.accepted) - states["done"]
        after = [at for at in load.accepted.values() if killed and at > killed]
        report = {
            "accepted": len(load.accepted), "answered": states["done"], "lost": lost,
            "submits begun again": load.restarts, "seconds": round(took, 1),
        }
        if after:
            report["accepting again after"] = f"{min(after) - killed:.2f} s"
        if moved:
            report["slots moved"] = moved
        print(f"{name:13}", ", ".join(f"{key} {value}" for key, value in report.items()) + f"; bound: {BOUNDS[name]}",
              flush=True)
        others = {state: number for state, number in states.items() if state not in ("done", "unknown")}
        limit = {"plain": (lag + 1) * rate, "cluster": (lag + 1) * rate, "min-replicas": 2 * rate + rate}.get(name, 0)
        if others or lost > limit:
            raise Failure(f"{name}: {lost} lost where at most {limit:.0f} may be, {others or 'none'} in other states")
    finally:
        bed.close()


def is_primary(bed, port):
    return "role:master" in bed.redis(port, "INFO", "replication")


def home(bed, ports):
    """The primary on which the picture, and so every job, is."""
    return next(
        port for port in ports
        if is_primary(bed, port) and bed.redis(port, "--scan", "--pattern", "*:embedding:*").strip()
    )


def replica_of(bed, owner):
    told = bed.redis(owner, "INFO", "replication")
    return int(told.split("slave0:")[1].split("port=")[1].split(",")[0])


def reshard(bed, ports):
    """Moves slots of the node that has the jobs to the next one, keys and all, while jobs go on."""
    owner = home(bed, ports)
    target = ports[(ports.index(owner) + 1) % len(ports)]
    names = {port: bed.redis(port, "CLUSTER", "MYID").strip() for port in ports}
    done = subprocess.run(
        ["redis-cli", "--cluster", "reshard", f"127.0.0.1:{ports[0]}", "--cluster-from", names[owner], "--cluster-to",
         names[target], "--cluster-slots", "5000", "--cluster-yes", "--cluster-pipeline", "64"],
        capture_output=True, text=True)
    if done.returncode:
        raise Failure(done.stdout[-600:] + done.stderr[-600:])
    return done.stdout.count("Moving slot ") // 2  # once in the plan


def main():
    parser = argparse.ArgumentParser(prog="deploy/failover", description=__doc__)
    parser.add_argument("--rate", type=float, default=100, help="jobs a second")
    parser.add_argument("--seconds", type=float, default=12, help="of each setting")
    parser.add_argument("--lag", type=float, default=1.5, help="seconds for which the replica hears nothing before the kill")
    parser.add_argument("--only", action="append", choices=list(BOUNDS), help="a setting; may be given several times")
    parser.add_argument("--kirie", default=ROOT / ".build/release/kirie", help="the program")
    arguments = parser.parse_args()
    kirie = pathlib.Path(arguments.kirie).resolve()
    if not os.access(kirie, os.X_OK):
        raise SystemExit(f"deploy/failover: there is no program {kirie}: run deploy/build")
    try:
        for name in arguments.only or BOUNDS:
            scene(name, kirie, arguments.seconds, arguments.rate, arguments.lag)
    except Failure as failure:
        print(f"deploy/failover: {failure}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
