"""A gateway with a cluster behind it, for tests: real processes, and a Redis of their own."""

import atexit
import base64
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import numpy
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
PHOTO = ROOT / "deploy" / "sample.jpg"
# Whatever a test waits for comes by then, however busy the machine is.
PATIENCE = 300


def program():
    """The program under test: $KIRIE, or the package's own release build."""
    path = os.environ.get("KIRIE") or ROOT / ".build" / "release" / "kirie"
    if not os.access(path, os.X_OK):
        raise RuntimeError(f"{path} is not there: build it with deploy/build, or set KIRIE")
    return str(path)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """A process whose standard output is read line by line until it says what it was started for."""

    def __init__(self, *arguments):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [program(), *map(str, arguments)], stdout=subprocess.PIPE, stderr=self.log
        )
        self.text = b""

    def wait_for(self, name):
        """The value of the line NAME=VALUE."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = re.search(rf"^{name}=(.*)$".encode(), self.text, re.MULTILINE)
            if found and b"\n" in self.text[found.start():]:
                return found.group(1).decode().strip()
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(left, 0))
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                tail = self.tail()
                self.stop()
                raise RuntimeError(f"{name} was not said; the log ends: {tail}")
            self.text += chunk

    def tail(self):
        self.log.seek(0)
        return self.log.read()[-4000:].decode(errors="replace")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Gateway:
    """`kirie up` with one encoder and one decoder; `options` go to it, such as --model."""

    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix="kirie-clients-")
        self.processes = []
        atexit.register(self.stop)
        up = self._start(
            "up", "--data", self.folder, "--listen", f"127.0.0.1:{free_port()}", "--lease", "60", *options
        )
        self.redis = up.wait_for("KIRIE_REDIS")
        self.url = up.wait_for("KIRIE_GATEWAY").rstrip("/")

    def _start(self, *arguments):
        process = Process(*arguments)
        self.processes.append(process)
        return process

    def another(self, *options):
        """The address of a second gateway on the same cluster."""
        gateway = self._start("gateway", "--redis", self.redis, "--listen", f"127.0.0.1:{free_port()}", *options)
        return gateway.wait_for("KIRIE_GATEWAY").rstrip("/")

    def key(self, name, *options):
        """A new API key, and the line of it for the file of keys."""
        made = subprocess.run(
            [program(), "gateway", "key", name, *options], capture_output=True, text=True, check=True
        )
        return re.search(r"kirie_[0-9a-f]{64}", made.stderr).group(0), made.stdout

    def stop(self):
        for process in reversed(self.processes):
            process.stop()
        self.processes = []
        shutil.rmtree(self.folder, ignore_errors=True)

    # What the tests hold other clients' answers against.

    def segment(self, image, prompts, **members):
        """The answer of /v1/segment; `image` is a file's bytes."""
        line = {"image": {"base64": base64.b64encode(image).decode()}, "prompts": prompts, **members}
        return self.post("/v1/segment", line)[1]

    def submit(self, path, *options):
        """What `kirie submit … --wait` prints."""
        done = subprocess.run(
            [program(), "submit", str(path), "--redis", self.redis, "--wait", *map(str, options)],
            capture_output=True, check=True,
        )
        return json.loads(done.stdout)

    def post(self, path, body, headers={}, base=None):
        """Status and JSON (or bytes) of a POST."""
        status, _, content = self.exchange(path, body, headers, base)
        return status, content

    def exchange(self, path, body=None, headers={}, base=None, method=None):
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        request = urllib.request.Request(
            (base or self.url) + path, data=data, method=method,
            headers={"Content-Type": "application/json", **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                status, head, content = response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                status, head, content = error.code, error.headers, error.read()
        if head.get("Content-Type", "").split(";")[0].endswith(("/json", "+json")):
            content = json.loads(content)
        return status, head, content


def base64_of(image):
    return base64.b64encode(image).decode()


def mask_of(run):
    """The pixels of COCO's compressed run lengths, by pycocotools, which wrote the format."""
    from pycocotools import mask

    return mask.decode({"size": run["size"], "counts": run["counts"].encode()}).astype(bool)


def best(answer, prompt=0):
    """The mask of a prompt with the highest score."""
    masks = [mask for mask in answer["masks"] if mask["prompt"] == prompt]
    return max(masks, key=lambda mask: mask["score"])


def picture(seed, width=320, height=240):
    """A PNG file of its own for each seed: a bright disc and a bright square before dark noise."""
    random = numpy.random.default_rng(seed)
    pixels = random.integers(0, 60, (height, width, 3), dtype=numpy.uint8)
    y, x = numpy.mgrid[:height, :width]
    pixels[(x - width * 0.3) ** 2 + (y - height * 0.5) ** 2 < (height * 0.25) ** 2] = [230, 200, 40]
    pixels[int(height * 0.3):int(height * 0.7), int(width * 0.6):int(width * 0.85)] = [60, 120, 230]
    file = tempfile.SpooledTemporaryFile()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file.read()


def events(stream):
    """The server-sent events of an answer as they arrive."""
    name, data = None, []
    for line in iter(stream.readline, b""):
        line = line.decode().rstrip("\r\n")
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data.append(line[6:])
        elif line == "" and name:
            yield name, json.loads("\n".join(data))
            name, data = None, []
