"""Clients that mean harm, and those that only know no better: with real sockets, beside one that means well.

Each is answered or let go; the gateway's memory stays bounded, and the clicks of the others go on.
"""

import base64
import http.client
import json
import os
import random
import resource
import select
import socket
import struct
import threading
import time
import unittest
import urllib.parse
import zlib

import gateway

# Whatever is done to it, the gateway holds no more than this beyond what it had.
MOST_MEMORY = 150 << 20


def setUpModule():
    global kirie, process, base, address, click
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    kirie = gateway.Gateway()
    process = gateway.Process(
        "gateway", "--redis", kirie.redis, "--listen", f"127.0.0.1:{gateway.free_port()}", "--connection-limit", "3000")
    base = process.wait_for("KIRIE_GATEWAY").rstrip("/")
    address = urllib.parse.urlsplit(base)
    sha = kirie.exchange("/v1/images", gateway.picture(1), {"Content-Type": "image/png"})[2]["sha256"]
    click = {"image": {"sha256": sha}, "prompts": [{"points": [[96, 120]]}]}


def tearDownModule():
    process.stop()
    kirie.stop()


def memory():
    """Bytes that the gateway has to itself."""
    with open(f"/proc/{process.process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


def connected():
    connection = socket.create_connection((address.hostname, address.port), timeout=gateway.PATIENCE)
    return connection


def said(connection):
    """All that the gateway says until it closes the connection or has given one answer."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


class Hostile(unittest.TestCase):
    def setUp(self):
        self.before = memory()

    def tearDown(self):
        # A well-meant click is answered all the same, and what was held is given back.
        status, _, answer = kirie.exchange("/v1/segment", click, base=base)
        self.assertEqual((status, answer["state"]), (200, "done"))
        self.assertIsNone(process.process.poll())
        self.assertLess(memory() - self.before, MOST_MEMORY)

    def test_what_stands_between_the_separators_of_headers_and_queries_may_be_nothing(self):
        """Whatever a reader of lists takes apart: each is answered, and the gateway lives."""
        seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
        print(f"seed {seed}", flush=True)
        draw = random.Random(seed)
        separators = [";", ",", "=", '"', "/", ":", " ", "-", "%", "[", "]", "*", "@", ".", "00", "q=", "W/"]
        values = separators + [a + b for a in separators for b in separators]
        values += ["".join(draw.choices(separators, k=draw.randrange(3, 9))) for _ in range(200)]
        headers = ["Prefer", "Accept", "Authorization", "Content-Type", "If-None-Match", "Origin", "X-Forwarded-For",
                   "traceparent", "X-Request-Id", "x-nuclio-function-name", "x-nuclio-function-namespace", "Host",
                   "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Range", "Cookie"]
        body = json.dumps(click).encode()
        bare = f"POST /v1/segment HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        sent = [f"{bare}Content-Length: {len(body)}\r\n{header}: {value}\r\nConnection: close\r\n\r\n".encode() + body
                for header in headers for value in draw.sample(values, 60) + separators]
        paths = ["/v1/images/{}", "/v1/jobs/{}", "/v1/jobs/{}/masks/{}", "/v1/dead/{}/{}", "/api/functions/{}", "/assets/{}",
                 "/v1/events?job={}", "/v1/dead?limit={}", "/v1/cache?image={}", "/v1/queues?{}", "/{}"]
        sent += [f"GET {path.replace('{}', urllib.parse.quote(value, safe=safe))} HTTP/1.1\r\nHost: {address.netloc}\r\n"
                 "Connection: close\r\n\r\n".encode()
                 for path in paths for value in draw.sample(values, 30) for safe in ("", "%;,=/:[]*@.-") if path[1:] + value]
        for request in sent:
            with connected() as connection:
                connection.settimeout(gateway.PATIENCE)
                connection.sendall(request)
                try:
                    head = connection.recv(4096)
                except ConnectionResetError:
                    head = b""
            self.assertIsNone(process.process.poll(), request)
            if b"Transfer-Encoding" not in request and b"Content-Length" not in request.split(b"\r\n", 3)[2]:
                self.assertRegex(head[:12], rb"^HTTP/1\.1 [2345]\d\d", request)

    def test_heads_that_never_end(self):
        for head in [b"GET / HTTP/1.1\r\n" + b"X-A: " + b"a" * 200000, b"GET /" + b"a" * 200000,
                     b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(5000)) + b"\r\n"]:
            with connected() as connection:
                try:
                    connection.sendall(head)
                    status, _ = said(connection)
                    self.assertIn(status, (400, 431))
                except (ConnectionError, http.client.BadStatusLine):
                    pass  # closed while we were still talking

    def test_an_answer_says_what_is_wrong_with_a_head(self):
        for head, status, code in [
            (b"DELETE /v1/cache?image=" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431, "too-large-head"),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 20000 + b"\r\n\r\n", 431, "too-large-head"),
            (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n", 431, "too-large-head"),
            (b"GET / HTTP/9.9\r\n\r\n", 400, "malformed-request"),
        ]:
            # Alone, and behind a request on the same connection that is answered first.
            for before in [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"]:
                with connected() as connection:
                    connection.sendall(before + head)
                    answers = b"".join(iter(lambda: connection.recv(1 << 16), b""))
                if before:
                    self.assertTrue(answers.startswith(b"HTTP/1.1 200 "), answers[:200])
                    answers = answers[answers.index(b"HTTP/1.1 ", 1):]
                lines, _, body = answers.partition(b"\r\n\r\n")
                self.assertTrue(lines.startswith(b"HTTP/1.1 %d " % status), lines)
                self.assertIn(b"content-type: application/problem+json", lines.lower())
                self.assertIn(b"connection: close", lines.lower())
                problem = json.loads(body)
                self.assertEqual((problem["status"], problem["code"]), (status, code))
                self.assertIn(f"x-request-id: {problem['request_id']}".encode(), lines.lower())

    def test_what_is_no_http(self):
        for words in [b"\x16\x03\x01\x02\x00" + bytes(100), b"SSH-2.0-x\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", bytes(1000),
                      b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                      b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                      b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]:
            with connected() as connection:
                connection.sendall(words)
                connection.shutdown(socket.SHUT_WR)
                try:
                    status, _ = said(connection)
                    self.assertTrue(400 <= status < 500, status)
                except (ConnectionError, http.client.HTTPException):
                    pass

    def test_json_that_is_a_bomb(self):
        for body in [b"[" * 1000000, b'{"a":' * 200000, b'{"image":{"sha256":"' + b"0" * 64 + b'"},"prompts":[' + b"{}," * 300000 + b"{}]}",
                     b'{"a":"' + b"\\u0000" * 100000 + b'"}', b"{" + b",".join(b'"%d":0' % n for n in range(100000)) + b"}",
                     b'{"image":1e999999}', b'{"image":{"sha256":"a"},"image":{"sha256":"b"}}', b"\xff\xfe{}", b'"' + b"a" * 5000000]:
            status, _, answer = kirie.exchange("/v1/segment", body, base=base)
            self.assertIn(status, (400, 404, 413, 422), answer)
            self.assertLess(len(json.dumps(answer)), 4000)

    def test_bodies_that_are_too_large(self):
        with connected() as connection:
            connection.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
            self.assertEqual(said(connection)[0], 413)
        # Without a length it is counted as it comes.
        with connected() as connection:
            connection.sendall(b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
            deadline = time.monotonic() + gateway.PATIENCE
            with self.assertRaises(ConnectionError):
                # It never ends by itself: the gateway ends it.
                while time.monotonic() < deadline:
                    connection.sendall(chunk)
                    self.assertLess(memory() - self.before, MOST_MEMORY)

    def test_forms_that_lie(self):
        head = b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        for body in [b"", b"--b", b"--b\r\n" + b"a" * 100000, b"--b\r\nContent-Disposition: form-data; name=image\r\n\r\n" + b"a" * 100,
                     b"--c\r\n\r\n--c--", b"".join(b"--b\r\nContent-Disposition: form-data; name=x%d\r\n\r\n1\r\n" % n for n in range(1000)) + b"--b--",
                     b"--b\r\nContent-Disposition: form-data; name=job\r\n\r\n" + b" " * (2 << 20) + b"\r\n--b--"]:
            with connected() as connection:
                try:
                    connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                except ConnectionError:
                    continue
                status, _ = said(connection)
                self.assertIn(status, (400, 413, 422), body[:60])
        # Cut off in the middle: the other side is gone, and nothing of it stays.
        with connected() as connection:
            connection.sendall(head + b"Content-Length: 1000\r\n\r\n--b\r\n")

    def test_paths_that_climb(self):
        for path in ["/assets/../../../etc/passwd", "/assets/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/samples/..%5c..%5cx", "//etc/passwd",
                     "/assets/%00", "/v1/images/../jobs/x", "/v1/jobs/%2e%2e%2fx", "/v1/images/" + "%41" * 3000, "/%ff%fe"]:
            with connected() as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                status, content = said(connection)
                self.assertIn(status, (400, 404, 405), path)
                self.assertNotIn(b"root:", content)

    def test_pictures_that_are_bombs(self):
        def png(width, height):
            def chunk(kind, data):
                return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(
                b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
        for width, height in [(60000, 60000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (0, 5)]:
            status, _, answer = kirie.exchange("/v1/images", png(width, height), {"Content-Type": "image/png"}, base)
            if status in (200, 201):
                line = {**click, "image": {"sha256": answer["sha256"]}}
                status, _, answer = kirie.exchange("/v1/segment", line, base=base)
            self.assertIn(status, (413, 422), answer)

    def test_addresses_where_none_is_allowed(self):
        for image in [{"url": "http://127.0.0.1:6379/"}, "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", {"path": "/etc/passwd"}]:
            status, _, answer = kirie.exchange("/v1/segment", {**click, "image": image}, base=base)
            self.assertIn(status, (400, 422), answer)
        # Where fetching is on, what is not public is refused by the address that is connected to, whatever its name is.
        fetching = kirie.another("--fetch-urls")
        port = urllib.parse.urlsplit(kirie.url).port
        for url in [f"http://127.0.0.1:{port}/healthz", f"http://localhost:{port}/healthz", f"http://[::1]:{port}/", "http://10.0.0.1/",
                    "http://169.254.169.254/latest/meta-data", "http://192.168.1.1/", f"http://[::ffff:127.0.0.1]:{port}/",
                    f"http://0.0.0.0:{port}/", "http://2130706433/", "http://[fe80::1]/", "http://100.64.0.1/"]:
            status, _, answer = kirie.exchange("/v1/segment", {**click, "image": {"url": url}}, base=fetching)
            self.assertEqual((status, answer["code"]), (422, "bad-url"), answer)
            self.assertIn("not public", answer["detail"])
        for url in ["file:///etc/passwd", "gopher://a", "http://a b", ""]:
            status, _, answer = kirie.exchange("/v1/segment", {**click, "image": {"url": url}}, base=fetching)
            self.assertEqual((status, answer["code"]), (422, "bad-url"), answer)

    def test_pages_of_other_origins(self):
        for headers in [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"},
                        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, {"Origin": "http://127.0.0.1:1"}]:
            for path, body in [("/v1/segment", click), ("/v1/queues", None), ("/v1/images", gateway.picture(2))]:
                self.assertIn(kirie.exchange(path, body, headers, base)[0], (403, 421), headers)

    def test_guessed_keys(self):
        file = os.path.join(kirie.folder, "keys.jsonl")
        _, line = kirie.key("one")
        with open(file, "w") as keys:
            keys.write(line)
        other = kirie.another("--keys", file)
        answers = [kirie.exchange("/v1/queues", headers={"Authorization": f"Bearer {n}"}, base=other)[0] for n in range(30)]
        self.assertEqual(set(answers), {401, 429})

    def test_connections_that_say_nothing(self):
        held = [connected() for _ in range(500)]
        started = [connected() for _ in range(100)]
        for connection in started:
            connection.sendall(b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc")
        status, _, answer = kirie.exchange("/v1/segment", click, base=base)
        self.assertEqual(status, 200)
        for connection in held + started:
            connection.close()

    def test_a_thousand_event_streams(self):
        streams = []
        for _ in range(1000):
            connection = connected()
            connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            streams.append(connection)
        # Each was answered; none of them reads on.
        for connection in streams:
            self.assertTrue(connection.recv(12).startswith(b"HTTP/1.1 200"))
        status, _, answer = kirie.exchange("/v1/segment", click, base=base)
        self.assertEqual(status, 200)
        self.assertLess(memory() - self.before, MOST_MEMORY)
        for connection in streams:
            connection.close()

    def test_readers_of_a_byte_at_a_time(self):
        sha = click["image"]["sha256"]
        slow = []
        for _ in range(50):
            connection = connected()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            for _ in range(20):
                connection.sendall(f"GET /v1/images/{sha}/content HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            slow.append(connection)
        for connection in slow:
            connection.recv(1)
        status, _, answer = kirie.exchange("/v1/segment", click, base=base)
        self.assertEqual(status, 200)
        self.assertLess(memory() - self.before, MOST_MEMORY)
        for connection in slow:
            connection.close()

    def test_clients_that_stop_in_the_middle(self):
        hasty = urllib.parse.urlsplit(kirie.another("--client-timeout", "0.5"))
        for words in [b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc",
                      b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"]:
            with socket.create_connection((hasty.hostname, hasty.port), timeout=gateway.PATIENCE) as connection:
                connection.sendall(words)
                # It is let go of, with or without a word.
                try:
                    while connection.recv(65536):
                        pass
                except ConnectionResetError:
                    pass
        # One that asks for more than the sockets hold, and reads nothing of it.
        noise = random.Random(3)
        file = gateway.picture(4) + noise.randbytes(1 << 20)
        sha = kirie.exchange("/v1/images", file, {"Content-Type": "image/png"})[2]["sha256"]
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.connect((hasty.hostname, hasty.port))
            connection.settimeout(gateway.PATIENCE)
            for _ in range(16):
                connection.sendall(f"GET /v1/images/{sha}/content HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            poll = select.poll()
            poll.register(connection, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
            self.assertTrue(poll.poll(gateway.PATIENCE * 1000))

    def test_noise(self):
        seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
        print(f"seed {seed}", flush=True)
        noise = random.Random(seed)
        good = json.dumps(click).encode()
        for _ in range(300):
            body = bytearray(good)
            for _ in range(noise.randrange(1, 6)):
                body[noise.randrange(len(body))] = noise.randrange(256)
            status, _, answer = kirie.exchange("/v1/segment", bytes(body), base=base)
            self.assertLess(status, 500, (bytes(body), answer))


if __name__ == "__main__":
    unittest.main()
