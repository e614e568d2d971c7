"""A Redis and workers of one's own for a measurement, gone when it ends."""
from __future__ import annotations

import contextlib, json, os, pathlib, subprocess, sys, time
from typing import Iterator


@contextlib.contextmanager
def cluster(kirie: str, work: pathlib.Path, roles: list[list[str]]) -> Iterator[dict[str, str]]:
    """Starts a redis-server and `kirie ROLE…` for each role, and gives the environment in which kirie finds them, once all
    of them announce themselves; stops them in the end."""
    program = f"deploy/{pathlib.Path(sys.argv[0]).stem}"
    socket = work / "redis.sock"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        children = [subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(work)], **quiet)]
    except FileNotFoundError:
        sys.exit(f"{program}: redis-server is not on the PATH: apt-get install redis-server")
    deadline = time.monotonic() + 60
    try:
        while not socket.exists():
            if children[0].poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{program}: redis-server does not start: try it by hand")
            time.sleep(0.02)
        variables = os.environ | {"KIRIE_REDIS": f"unix://{socket}"}
        children += [subprocess.Popen([kirie, *role], env=variables, **quiet) for role in roles]
        while True:
            done = subprocess.run(
                [kirie, "workers", "--json"], env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            if done.returncode == 0 and len(json.loads(done.stdout).get("workers", [])) == len(roles):
                break
            if time.monotonic() > deadline:
                sys.exit(f"{program}: the workers do not announce themselves: try kirie {' '.join(roles[0])} by hand")
            time.sleep(0.1)
        yield variables
    finally:
        for child in reversed(children):
            child.terminate()
            child.wait()
        socket.unlink(missing_ok=True)
