"""Real processes for the operators' tests: a redis-server, the program's roles, Prometheus; and how to wait for them."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Clients"))

import gateway  # noqa: E402

ROOT = gateway.ROOT
DEPLOY = ROOT / "deploy"
PATIENCE = int(os.environ.get("KIRIE_PATIENCE", gateway.PATIENCE))


def until(condition, what, patience=PATIENCE):
    """Waits for what other processes do meanwhile."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(what() if callable(what) else what)
        time.sleep(0.02)
    return found


def run(*command, ok=(0,), **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode not in ok:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Place:
    """A folder with a short name and processes, both of which go at the end of a test."""

    def __init__(self, test):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kirie-ops-", dir="/tmp"))
        self.processes = []
        test.addClassCleanup(self.close) if isinstance(test, type) else test.addCleanup(self.close)

    def start(self, *command, name=None, **options):
        log = open(self.folder / f"{name or pathlib.Path(str(command[0])).name}.log", "ab")
        process = subprocess.Popen(
            [str(word) for word in command], stdout=options.pop("stdout", log), stderr=log, stdin=subprocess.DEVNULL,
            **options)
        log.close()
        self.processes.append(process)
        return process

    def kirie(self, *arguments, redis=None, environment={}, **options):
        """A role of the program, named after its first word in the logs."""
        address = ["--redis", redis] if redis else []
        return self.start(
            gateway.program(), *arguments, *address, name=str(arguments[0]), env={**os.environ, **environment}, **options)

    def redis(self, *options, port=0):
        socket = self.folder / "redis.sock"
        process = self.start(
            "redis-server", "--port", port, "--unixsocket", socket, "--dir", self.folder, "--save", "", *options)
        until(lambda: self.pings(process, socket), "redis-server answers")
        return process, f"unix://{socket}"

    def pings(self, process, socket):
        if process.poll() is not None:
            raise AssertionError(self.log("redis-server"))
        done = subprocess.run(["redis-cli", "-s", socket, "ping"], capture_output=True, text=True)
        return done.stdout.startswith("PONG")

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def stop(self, process, number=signal.SIGTERM):
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        try:
            return process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def close(self):
        for process in reversed(self.processes):
            self.stop(process)
        shutil.rmtree(self.folder, ignore_errors=True)


def ask(url, body=None, headers={}, method=None):
    """Status and JSON (or text); 0 and nothing where nobody listens."""
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    request = urllib.request.Request(
        url, data=data, method=method, headers={"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            status, kind, content = response.status, response.headers.get("Content-Type", ""), response.read()
    except urllib.error.HTTPError as error:
        with error:
            status, kind, content = error.code, error.headers.get("Content-Type", ""), error.read()
    except (ConnectionError, urllib.error.URLError):
        return 0, None
    return status, json.loads(content) if "json" in kind else content.decode(errors="replace")


class Prometheus:
    """Debian's Prometheus, asking one address."""

    def __init__(self, place, target, interval="1s"):
        port = gateway.free_port()
        (place.folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {interval}}}\n"
            f"scrape_configs: [{{job_name: kirie-gateway, static_configs: [{{targets: ['{target}']}}]}}]\n")
        place.start(
            "prometheus", f"--config.file={place.folder}/prometheus.yml", f"--web.listen-address=127.0.0.1:{port}",
            f"--storage.tsdb.path={place.folder}/data")
        self.url = f"http://127.0.0.1:{port}/api/v1/query?"

    def value(self, query):
        """The one number that a query has, as an autoscaler reads it; None for no answer."""
        status, answer = ask(self.url + urllib.parse.urlencode({"query": query}))
        if status != 200 or not answer["data"]["result"]:
            return None
        results = answer["data"]["result"]
        assert len(results) == 1, results
        return float(results[0]["value"][1])


def flags(*command):
    """The options that `kirie COMMAND --help` knows."""
    text = run(gateway.program(), *command, "--help")
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text.split("USAGE:")[1]))


def without_comments(path):
    return re.sub(r"^\s*#.*$", "", pathlib.Path(path).read_text(), flags=re.MULTILINE)
