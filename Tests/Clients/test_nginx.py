"""The site of deploy/nginx before a real gateway: Debian's nginx as an ordinary process, with a certificate of its own."""

import contextlib
import hashlib
import http.client
import io
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
import urllib.parse

import numpy
from PIL import Image

import gateway

SITE = gateway.ROOT / "deploy" / "nginx" / "kirie.conf"
NAME = "kirie.example"
# Somebody else's address (RFC 5737), which no log may take for a client's.
FORGED = "203.0.113.9"


def setUpModule():
    global kirie, process, proxy, key
    for program in ["nginx", "openssl", "curl"]:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
            raise RuntimeError(f"{program} is not there: install it with deploy/packages {program}")
    kirie = gateway.Gateway()
    key, line = kirie.key("people")
    keys = os.path.join(kirie.folder, "keys.jsonl")
    with open(keys, "w") as file:
        file.write(line)
    process = gateway.Process(
        "gateway", "--redis", kirie.redis, "--listen", f"127.0.0.1:{gateway.free_port()}", "--keys", keys,
        "--host-name", NAME, "--trusted-proxy", "127.0.0.1", "--scale-from-zero")
    kirie.processes.append(process)
    proxy = Proxy(urllib.parse.urlsplit(process.wait_for("KIRIE_GATEWAY")).port)


def tearDownModule():
    proxy.stop()
    kirie.stop()


class Proxy:
    """nginx with the site as it lies in deploy/, but for ports, paths and the certificate."""

    def __init__(self, behind):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kirie-nginx-"))
        # nginx's workers have another user than its master where that is root.
        self.folder.chmod(0o755)
        self.behind = behind
        self.plain, self.secure = gateway.free_port(), gateway.free_port()
        self.certificate = self.folder / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", self.folder / "key.pem",
             "-out", self.certificate], check=True, capture_output=True)
        (self.folder / "kirie.conf").write_text(self.site(behind))
        user = "user www-data;" if os.geteuid() == 0 else ""
        # What Debian's nginx.conf says that a site may stumble over, and folders of its own.
        (self.folder / "nginx.conf").write_text(f"""
            {user}
            daemon off;
            worker_processes 1;
            pid nginx.pid;
            events {{ worker_connections 2048; }}
            http {{
                sendfile on;
                tcp_nopush on;
                types_hash_max_size 2048;
                include /etc/nginx/mime.types;
                default_type application/octet-stream;
                ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
                ssl_prefer_server_ciphers on;
                gzip on;
                access_log off;
                client_body_temp_path body;
                proxy_temp_path proxy;
                fastcgi_temp_path fastcgi;
                uwsgi_temp_path uwsgi;
                scgi_temp_path scgi;
                include kirie.conf;
            }}""")
        self.command = ["nginx", "-p", str(self.folder), "-e", "error.log", "-c", "nginx.conf"]
        self.environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}
        self.check = subprocess.run([*self.command, "-t"], capture_output=True, text=True, env=self.environment)
        if self.check.returncode:
            raise RuntimeError(self.check.stderr)
        self.process = subprocess.Popen(self.command, env=self.environment)
        deadline = time.monotonic() + gateway.PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.secure)).close()
                break
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "error.log").read_text())

    def site(self, behind):
        text = SITE.read_text()
        for old, new in [
            (r"server 127\.0\.0\.1:8080;", f"server 127.0.0.1:{behind};"),
            (r"listen (80|443)", lambda port: f"listen 127.0.0.1:{self.port(port[1])}"),
            (r"listen \[::\]:(80|443)", lambda port: f"listen [::1]:{self.port(port[1])}"),
            (r"/etc/letsencrypt/live/kirie\.example/fullchain\.pem", str(self.certificate)),
            (r"/etc/letsencrypt/live/kirie\.example/privkey\.pem", str(self.folder / "key.pem")),
            (r"/var/log/nginx/", f"{self.folder}/"),
        ]:
            text, count = re.subn(old, new, text)
            assert count, f"{old} is not in {SITE}"
        with socket.socket(socket.AF_INET6) as probe:
            try:
                probe.bind(("::1", 0))
            except OSError:
                text = re.sub(r"listen \[::1\].*", "", text)
        return text

    def port(self, number):
        return self.plain if number == "80" else self.secure

    def context(self, **versions):
        context = ssl.create_default_context(cafile=self.certificate)
        for name, version in versions.items():
            setattr(context, name, version)
        return context

    def connect(self, source="127.0.0.1", context=None):
        """A connection from one of the machine's own addresses, by TLS, its certificate checked."""
        plain = socket.create_connection(
            ("127.0.0.1", self.secure), timeout=gateway.PATIENCE, source_address=(source, 0))
        connection = http.client.HTTPConnection(NAME, self.secure, timeout=gateway.PATIENCE)
        connection.sock = (context or self.context()).wrap_socket(plain, server_hostname=NAME)
        return connection

    def ask(self, path, body=None, headers={}, method=None, source="127.0.0.1"):
        """Status, headers and content."""
        with contextlib.closing(self.connect(source)) as connection:
            send(connection, path, body, headers, method)
            response = connection.getresponse()
            content = response.read()
            if content and response.getheader("Content-Type", "").split(";")[0].endswith(("/json", "+json")):
                content = json.loads(content)
            return response.status, response.headers, content

    def curl(self, path, *options, version="--http2"):
        """What curl, which knows HTTP/2, gets."""
        address = f"https://{NAME}:{self.secure}{path}"
        return subprocess.Popen(
            ["curl", "-sS", version, "-N", "--cacert", self.certificate, "--resolve", f"{NAME}:{self.secure}:127.0.0.1",
             "-H", f"Authorization: Bearer {key}", address, *map(str, options)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def log(self, name="kirie.access.log"):
        return (self.folder / name).read_text()

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)


def send(connection, path, body=None, headers={}, method=None):
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
    connection.request(
        method or ("GET" if body is None else "POST"), path, body, {"Authorization": f"Bearer {key}", **headers})


def noise(side):
    """A PNG file that is as large as its pixels: nothing in it can be packed."""
    pixels = numpy.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=numpy.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def logged(identifier):
    """The gateway's own line of a request."""
    process.log.seek(0)
    lines = [line for line in process.log.read().decode().splitlines() if f"request={identifier}" in line]
    assert len(lines) == 1, lines
    return dict(re.findall(r"(\w+)=(\S+)", lines[0]))


def until(condition):
    """Waits for what another process does meanwhile."""
    deadline = time.monotonic() + gateway.PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"


class Site(unittest.TestCase):
    def test_nginx_has_no_complaint(self):
        self.assertNotIn("warn", proxy.check.stderr)

    def test_tls(self):
        for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
            with contextlib.closing(proxy.connect(context=proxy.context(maximum_version=version))) as connection:
                self.assertEqual(connection.sock.version(), version.name.replace("_", "."))
                send(connection, "/healthz")
                response = connection.getresponse()
                self.assertEqual((response.status, json.load(response)), (200, {"status": "healthy"}))
                self.assertIn("max-age", response.getheader("Strict-Transport-Security"))
        old = proxy.context(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with self.assertRaises(ssl.SSLError):
            proxy.connect(context=old)

    def test_http_leads_to_https(self):
        for method in ["GET", "POST"]:
            connection = http.client.HTTPConnection("127.0.0.1", proxy.plain, timeout=gateway.PATIENCE)
            connection.request(method, "/v1/queues?a=b", headers={"Host": "evil.example"})
            response = connection.getresponse()
            response.read()
            connection.close()
            self.assertEqual((response.status, response.getheader("Location")), (308, f"https://{NAME}/v1/queues?a=b"))

    def test_clicks_and_pages(self):
        file = gateway.picture(31)
        sha = proxy.ask("/v1/images", file, {"Content-Type": "image/png"})[2]["sha256"]
        status, _, answer = proxy.ask(
            "/v1/segment", {"image": {"sha256": sha}, "prompts": [{"points": [[96, 120]]}]})
        self.assertEqual((status, answer["state"]), (200, "done"))
        status, head, page = proxy.ask("/")
        self.assertEqual((status, head["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertIn(b"<html", page)
        # Packed on the way, and still the same to a client that has it.
        with contextlib.closing(proxy.connect()) as connection:
            send(connection, "/", headers={"Accept-Encoding": "gzip"})
            response = connection.getresponse()
            response.read()
            self.assertEqual(response.getheader("Content-Encoding"), "gzip")
            send(connection, "/", headers={"If-None-Match": response.getheader("ETag")})
            self.assertEqual(connection.getresponse().status, 304)

    def test_the_name_and_the_origin_reach_the_gateway(self):
        own, foreign = {"Origin": f"https://{NAME}:{proxy.secure}"}, {"Origin": "https://evil.example"}
        self.assertEqual(proxy.ask("/v1/queues", headers=own)[0], 200)
        self.assertEqual(proxy.ask("/v1/queues", headers=foreign)[0], 403)
        self.assertEqual(proxy.ask("/v1/queues", headers={"Host": "evil.example"})[0], 421)
        self.assertEqual(proxy.ask("/v1/queues", headers={"Authorization": "Bearer wrong"}, source="127.0.0.5")[0], 401)

    def test_metrics_are_not_for_the_outside(self):
        self.assertEqual(proxy.ask("/metrics")[0], 404)


class Streams(unittest.TestCase):
    def test_events_arrive_one_by_one(self):
        sha = proxy.ask("/v1/images", gateway.picture(32), {"Content-Type": "image/png"})[2]["sha256"]
        # Of a model that nobody serves: the job stays open until it is cancelled.
        job = {"image": {"sha256": sha}, "prompts": [{"points": [[96, 120]]}], "model": "2" * 32 + ":2:fp32:fp16"}
        for stream in ["HTTP/1.1", "HTTP/2"]:
            status, head, answer = proxy.ask("/v1/segment", job, {"Prefer": "respond-async"})
            self.assertEqual(status, 202, answer)
            with contextlib.ExitStack() as stack:
                if stream == "HTTP/2":
                    curl = stack.enter_context(proxy.curl(head["Location"] + "/events"))
                    stack.callback(curl.kill)
                    arriving = gateway.events(curl.stdout)
                else:
                    connection = stack.enter_context(contextlib.closing(proxy.connect()))
                    send(connection, head["Location"] + "/events")
                    arriving = gateway.events(connection.getresponse())
                # The stream is open, and nothing more comes before the job ends.
                name, data = next(arriving)
                self.assertEqual((name, data["state"]), ("state", "waiting_embedding"))
                self.assertEqual(proxy.ask(head["Location"], method="DELETE")[2]["state"], "cancelled")
                name, data = list(arriving)[-1]
                self.assertEqual((name, data["state"]), ("failed", "cancelled"))

    def test_the_queues_are_told_every_second(self):
        with contextlib.closing(proxy.connect()) as connection:
            send(connection, "/v1/events")
            arriving = gateway.events(connection.getresponse())
            self.assertEqual([next(arriving)[0] for _ in range(3)], ["queues"] * 3)

    def test_lines_of_a_jobs_file_arrive_one_by_one(self):
        sha = proxy.ask("/v1/images", gateway.picture(33), {"Content-Type": "image/png"})[2]["sha256"]
        held = {"id": "held", "image": {"sha256": sha}, "prompts": [{"points": [[96, 120]]}]}
        body = "\n".join(json.dumps(line) for line in [{**held, "id": ""}, held]).encode()
        with contextlib.closing(proxy.connect()) as connection:
            # Of a model that nobody serves: the second line's job stays open until it is cancelled.
            model = "3" * 32 + ":2:fp32:fp16"
            send(connection, f"/v1/jobs?model={model}", body, {"Content-Type": "application/x-ndjson"})
            response = connection.getresponse()
            self.assertEqual(json.loads(response.readline())["line"], 1)
            until(lambda: proxy.ask("/v1/jobs/held", method="DELETE")[0] == 200)
            answer = json.loads(response.readline())
            self.assertEqual((answer["id"], answer["state"]), ("held", "cancelled"))


class Uploads(unittest.TestCase):
    def test_fifty_megabytes_arrive_whole(self):
        file = noise(4200)
        self.assertGreater(len(file), 50_000_000)
        digest = hashlib.sha256(file).hexdigest()
        for number, version in enumerate(["--http1.1", "--http2"]):
            with tempfile.NamedTemporaryFile(suffix=".png") as picture:
                picture.write(file)
                picture.flush()
                curl = proxy.curl(
                    "/v1/images", "-T", picture.name, "-X", "POST", "-H", "Content-Type: image/png", "-w",
                    "\n%{http_version} %{http_code}", version=version)
                out, err = curl.communicate(timeout=gateway.PATIENCE)
            answer, status = out.decode().rsplit("\n", 1)
            self.assertEqual(status.split(), [["1.1", "2"][number], ["201", "200"][number]], (out, err))
            self.assertEqual(json.loads(answer)["sha256"], digest)
            self.assertEqual(json.loads(answer)["bytes"], len(file))
        self.assertEqual(hashlib.sha256(proxy.ask(f"/v1/images/{digest}/content")[2]).hexdigest(), digest)

    def test_a_body_is_not_waited_for(self):
        # The gateway refuses by the head alone: nginx has not kept the body, of which nothing was sent.
        with contextlib.closing(proxy.connect()) as connection:
            connection.putrequest("POST", "/v1/images")
            connection.putheader("Authorization", f"Bearer {key}")
            connection.putheader("Content-Length", str(1 << 40))
            connection.endheaders()
            response = connection.getresponse()
            self.assertEqual((response.status, json.load(response)["code"]), (413, "too-large"))

    def test_a_body_without_a_length_is_ended_by_the_gateway(self):
        with contextlib.closing(proxy.connect()) as connection:
            connection.putrequest("POST", "/v1/images")
            connection.putheader("Authorization", f"Bearer {key}")
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
            with contextlib.suppress(OSError):
                for _ in range(200):
                    connection.send(chunk)
            with contextlib.suppress(OSError, http.client.HTTPException):
                response = connection.getresponse()
                self.assertEqual((response.status, json.load(response)["code"]), (413, "too-large"))
        self.assertEqual(proxy.ask("/healthz")[0], 200)


class Addresses(unittest.TestCase):
    """The machine has more addresses than one: clients come from 127.0.0.2 and 127.0.0.3, nginx from 127.0.0.1."""

    def test_through_nginx_it_is_the_clients_own(self):
        for number, headers in enumerate([
            {}, {"X-Forwarded-For": FORGED}, {"X-Forwarded-For": f"{FORGED}, 127.0.0.1"},
            {"Forwarded": f"for={FORGED}"}, {"X-Real-IP": FORGED, "x-forwarded-for": FORGED},
        ]):
            identifier = f"through-nginx-{number}"
            self.assertEqual(
                proxy.ask("/v1/workers", headers={"X-Request-Id": identifier, **headers}, source="127.0.0.2")[0], 200)
            self.assertEqual(logged(identifier)["client"], "127.0.0.2")

    def test_past_nginx_nobody_is_believed(self):
        connection = http.client.HTTPConnection(
            "127.0.0.1", proxy.behind, timeout=gateway.PATIENCE, source_address=("127.0.0.3", 0))
        send(connection, "/v1/workers", headers={"X-Request-Id": "past-nginx", "X-Forwarded-For": FORGED})
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()
        self.assertEqual(logged("past-nginx")["client"], "127.0.0.3")

    def test_ids_and_traces_go_through(self):
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        status, head, _ = proxy.ask(
            "/v1/workers", headers={"X-Request-Id": "mine", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
        self.assertEqual((head["X-Request-Id"], logged("mine")["trace"]), ("mine", trace))
        # nginx writes its line when the answer is out.
        until(lambda: " mine " in proxy.log())
        # Where there is none, or none that is fit for a log, it is nginx's, and the same in both logs.
        for headers in [{}, {"X-Request-Id": 'a"b'}, {"X-Request-Id": "a" * 129}]:
            given = proxy.ask("/v1/workers", headers=headers)[1]["X-Request-Id"]
            self.assertRegex(given, "^[0-9a-f]{32}$")
            self.assertEqual(logged(given)["status"], "200")
            until(lambda: f" {given} " in proxy.log())

    def test_no_key_is_logged(self):
        with contextlib.closing(proxy.connect()) as connection:
            connection.request("GET", f"/v1/workers?api_key={key}", headers={"X-Request-Id": "by-query"})
            self.assertEqual(connection.getresponse().status, 200)
        until(lambda: " by-query " in proxy.log())
        self.assertEqual(logged("by-query")["status"], "200")
        self.assertNotIn(key, proxy.log())
        process.log.seek(0)
        self.assertNotIn(key.encode(), process.log.read())


class Limits(unittest.TestCase):
    def test_one_address_holds_so_many_streams(self):
        limit = int(re.search(r"limit_conn kirie_connections (\d+);", SITE.read_text())[1])
        with contextlib.ExitStack() as stack:
            context = proxy.context()
            for _ in range(limit):
                connection = stack.enter_context(contextlib.closing(proxy.connect("127.0.0.4", context)))
                send(connection, "/v1/events")
                self.assertEqual(connection.getresponse().status, 200)
            status, head, answer = proxy.ask("/v1/workers", source="127.0.0.4")
            self.assertEqual((status, answer["status"], answer["code"]), (429, 429, "rate-limited"))
            self.assertEqual(head["Content-Type"], "application/problem+json")
            self.assertEqual((head["Retry-After"], head["X-Request-Id"]), ("1", answer["request_id"]))
            # Others are served.
            self.assertEqual(proxy.ask("/v1/workers", source="127.0.0.6")[0], 200)

    def test_a_gateway_that_is_gone(self):
        other = Proxy(gateway.free_port())
        self.addCleanup(other.stop)
        status, head, answer = other.ask("/v1/workers")
        self.assertEqual((status, answer["status"], answer["code"]), (503, 503, "no-gateway"))
        self.assertEqual((head["Content-Type"], head["Retry-After"]), ("application/problem+json", "5"))


if __name__ == "__main__":
    unittest.main()
