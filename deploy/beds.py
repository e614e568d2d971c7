"""What the proofs on real clusters share: ways to wait, a connection to Redis, pictures, and the end by a signal.

See deploy/failover, deploy/hosts, deploy/plan, deploy/tenants and deploy/upgrade.
"""

import os
import pathlib
import signal
import socket
import struct
import sys
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
# In seconds, for whatever is waited for: a bound to what hangs, which no verdict depends on.
PATIENCE = int(os.environ.get("KIRIE_PATIENCE", 300))


class Failure(Exception):
    """What does not hold or does not work, in a sentence."""


def until(condition, what, pause=0.02):
    """What the condition finds, once it finds something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"{what} did not come within {PATIENCE} s")
        time.sleep(pause)
    return found


def until_ready(process, log, condition, what):
    """Waits until what was started is ready; where it ends instead its log says why."""
    until(lambda: condition() or process.poll() is not None, what)
    if process.poll() is not None:
        raise Failure(f"{what} ended: {tail(log)}")


def tail(log):
    """The last a program said, for a message."""
    return log.read_text(errors="replace").strip()[-400:]


def free_port(below=65_536):
    """A TCP port of this machine that was free a moment ago."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        if port < below:
            return port


def end_by_signals(program):
    """Lets a signal end the program as a fault does, so that nothing is left behind; a second one must not disturb that."""

    def end(number, frame):
        signal.signal(number, signal.SIG_IGN)
        sys.exit(f"{program}: ended by a signal")

    signal.signal(signal.SIGTERM, end)


def connect(place):
    """A connection to a Unix socket where the place is a path, to a TCP port of this machine where it is a number."""
    if isinstance(place, int):
        connection = socket.create_connection(("127.0.0.1", place))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(place))
    # The kernel's own limit: Python's would ask it twice for each message, and what is measured shares the cores.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", PATIENCE, 0))
    return connection


class Redis:
    """Redis's own protocol over a connection; commands may be sent ahead of the replies to earlier ones."""

    def __init__(self, connection):
        self.socket, self.file = connection, connection.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()
        self.socket.close()

    def send(self, *words):
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))

    def read(self):
        """The next reply: an int, a str, a list of such, or None."""
        line = self.file.readline()
        if not line:
            raise ConnectionError(f"Redis has closed the connection, or not answered for {PATIENCE} s")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Failure(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest.decode()
        count = int(rest)
        if count < 0:
            return None
        if kind == b"*":
            return [self.read() for _ in range(count)]
        return self.file.read(count + 2)[:-2].decode(errors="replace")

    def __call__(self, *words):
        self.send(*words)
        return self.read()

    def all(self, commands):
        """The replies to commands that are sent at once."""
        for command in commands:
            self.send(*command)
        return [self.read() for _ in commands]


def png(rows, channels):
    """A PNG of rows of bytes, with one channel in grey, with three in RGB."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", len(rows[0]) // channels, len(rows), 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


DARK = bytes(value & 63 for value in range(256))


def square(generator, side):
    """A PNG of dark noise and a bright square, and the point in the square's middle: each is another picture."""
    left, top = generator.randrange(side // 2), generator.randrange(side // 2)
    rows = [bytearray(generator.randbytes(side).translate(DARK)) for _ in range(side)]
    for row in rows[top:top + side // 3]:
        row[left:left + side // 3] = b"\xe0" * (side // 3)
    return png(rows, 1), (left + side // 6, top + side // 6)
