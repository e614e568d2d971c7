"""Backup and restore of Redis, as the runbook says it, with jobs at every stage; and what an empty one loses."""

import json
import os
import shutil
import signal
import subprocess
import unittest

import cluster
from cluster import DEPLOY, gateway, run, until

PROMPT = {"prompts": [{"points": [[96, 120]]}]}


class Backup(unittest.TestCase):
    def setUp(self):
        self.place = cluster.Place(self)
        self.data = self.place.folder / "data"
        self.data.mkdir()
        self.socket = self.place.folder / "redis.sock"
        self.address = f"unix://{self.socket}"
        self.server = self.begin()
        self.workers = {}
        self.pictures = []
        for seed in range(60, 66):
            self.pictures.append(self.place.folder / f"{seed}.png")
            self.pictures[-1].write_bytes(gateway.picture(seed))

    def begin(self, *options):
        server = self.place.start(
            "redis-server", DEPLOY / "redis" / "kirie.conf", "--port", "0", "--unixsocket", self.socket, "--dir",
            self.data, "--appendfsync", "always", *options)
        until(lambda: self.place.pings(server, self.socket), "redis-server answers")
        return server

    def redis(self, *words):
        return run("redis-cli", "-s", self.socket, *words).strip()

    def start(self, role):
        before = self.names()
        self.workers[role] = self.place.kirie(role, "--threads", "1", "--lease", "2", redis=self.address)
        until(lambda: len(self.names()) > len(before), f"{role}: {self.place.log(role)}")

    def names(self):
        done = subprocess.run(
            [gateway.program(), "workers", "--json", "--redis", self.address], capture_output=True, text=True)
        return [worker["name"] for worker in json.loads(done.stdout)["workers"]] if done.returncode == 0 else []

    def submit(self, *names, wait=False):
        """A job for each name, on one picture after the other."""
        lines = [json.dumps({"id": name, "image": str(self.pictures[number % len(self.pictures)]), **PROMPT})
                 for number, name in enumerate(names)]
        return subprocess.run(
            [gateway.program(), "submit", "--jobs", "-", "--redis", self.address, *(["--wait"] if wait else [])],
            input="\n".join(lines), capture_output=True, text=True)

    def states(self, *names):
        done = subprocess.run(
            [gateway.program(), "status", *names, "--redis", self.address], capture_output=True, text=True)
        return {each["id"]: each["state"] for each in map(json.loads, done.stdout.splitlines())}

    def masks(self, *names):
        text = run(gateway.program(), "wait", *names, "--timeout", cluster.PATIENCE, "--redis", self.address)
        return {answer["id"]: [mask["segmentation"] for mask in answer["masks"]]
                for answer in map(json.loads, text.splitlines())}

    def fill(self):
        """Jobs that are done, in work, queued, and waiting for their embedding."""
        self.start("encoder")
        self.start("decoder")
        self.assertEqual(self.submit("done-0", "done-1", "done-2", wait=True).returncode, 0)
        self.assertEqual(self.place.stop(self.workers["encoder"]), 0)
        # A decoder that stands still with work in its hands; what comes behind it is queued.
        self.workers["decoder"].send_signal(signal.SIGSTOP)
        self.submit("queued-0", "queued-1", "queued-2")
        self.submit("parked-0", "parked-1", "parked-2", "parked-3", "parked-4", "parked-5")
        self.names_of_open = [f"queued-{n}" for n in range(3)] + [f"parked-{n}" for n in range(6)]
        self.before = self.states("done-0", "done-1", "done-2", *self.names_of_open)
        self.assertEqual(set(self.before.values()), {"done", "queued", "waiting_embedding"})
        self.first = self.masks("done-0", "done-1", "done-2")

    def lose(self):
        """What the disk held and what the process knew; the workers' machines, too."""
        self.place.stop(self.server, signal.SIGKILL)
        self.workers["decoder"].kill()
        shutil.rmtree(self.data)
        self.data.mkdir()

    def finish(self):
        """Everything that the copy knew is there and ends; what came after it is unknown, and may be sent again."""
        self.assertEqual(self.states(*self.before), self.before)
        self.assertEqual(set(self.states("later-0", "later-1").values()), {"unknown"})
        self.assertEqual(self.masks("done-0", "done-1", "done-2"), self.first)
        self.start("encoder")
        self.start("decoder")
        masks = self.masks(*self.names_of_open)
        self.assertEqual(len(masks), 9)
        for number in range(3):
            self.assertEqual(masks[f"queued-{number}"], self.first[f"done-{number}"])
        self.assertEqual(self.submit("later-0", "later-1", wait=True).returncode, 0)
        self.assertEqual(set(self.states(*self.before, "later-0", "later-1").values()), {"done"})

    def test_a_snapshot(self):
        self.fill()
        self.assertIn("started", self.redis("BGSAVE"))
        until(lambda: "rdb_bgsave_in_progress:0" in self.redis("INFO", "persistence"), "the snapshot")
        copy = self.place.folder / "backup.rdb"
        shutil.copy(self.data / "dump.rdb", copy)
        self.submit("later-0", "later-1")
        self.lose()
        shutil.copy(copy, self.data / "dump.rdb")
        self.server = self.begin("--appendonly", "no")
        self.redis("CONFIG", "SET", "appendonly", "yes")
        until(lambda: "aof_rewrite_in_progress:0" in self.redis("INFO", "persistence")
              and "aof_rewrite_scheduled:0" in self.redis("INFO", "persistence"), "the log")
        subprocess.run(["redis-cli", "-s", self.socket, "SHUTDOWN"], capture_output=True)
        self.server.wait(cluster.PATIENCE)
        self.server = self.begin()
        self.finish()

    def test_a_copy_of_the_log(self):
        self.fill()
        self.redis("CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
        copy = self.place.folder / "appendonlydir"
        shutil.copytree(self.data / "appendonlydir", copy)
        self.redis("CONFIG", "SET", "auto-aof-rewrite-percentage", "100")
        self.submit("later-0", "later-1")
        self.lose()
        shutil.copytree(copy, self.data / "appendonlydir")
        self.server = self.begin()
        self.finish()

    def test_an_empty_redis_is_made_at_home_by_whoever_runs(self):
        self.start("encoder")
        self.start("decoder")
        port = gateway.free_port()
        self.place.kirie("gateway", "serve", "--listen", f"127.0.0.1:{port}", redis=self.address)
        until(lambda: cluster.ask(f"http://127.0.0.1:{port}/readyz")[0] == 200, "the gateway is ready")
        self.assertEqual(self.submit("done-0", wait=True).returncode, 0)
        self.workers["decoder"].send_signal(signal.SIGSTOP)
        self.submit("lost-0", "lost-1")
        self.place.stop(self.server, signal.SIGKILL)
        shutil.rmtree(self.data)
        self.data.mkdir()
        self.server = self.begin()
        self.workers["decoder"].send_signal(signal.SIGCONT)
        until(lambda: len(self.names()) == 2, lambda: f"both workers are seen again: {self.names()}")
        self.assertEqual(set(self.states("done-0", "lost-0", "lost-1").values()), {"unknown"})
        self.assertEqual(self.submit("lost-0", "lost-1", wait=True).returncode, 0)
        until(lambda: cluster.ask(f"http://127.0.0.1:{port}/readyz")[0] == 200, "the gateway is ready again")
        line = {"image": {"base64": gateway.base64_of(gateway.picture(60))}, **PROMPT}
        status, answer = cluster.ask(f"http://127.0.0.1:{port}/v1/segment", line)
        self.assertEqual((status, answer["state"]), (200, "done"), answer)


if __name__ == "__main__":
    unittest.main()
