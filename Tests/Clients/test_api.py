"""The HTTP interface, asked as programs ask it, against a real cluster."""

import base64
import hashlib
import http.client
import io
import json
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

import numpy
from PIL import Image

import gateway


def setUpModule():
    global kirie
    kirie = gateway.Gateway()


def tearDownModule():
    kirie.stop()


def connect(base=None):
    address = urllib.parse.urlsplit(base or kirie.url)
    return http.client.HTTPConnection(address.hostname, address.port, timeout=gateway.PATIENCE)


def upload(file, base=None, headers={}):
    status, head, answer = kirie.exchange(
        "/v1/images", file, {"Content-Type": "application/octet-stream", **headers}, base)
    assert status in (200, 201), answer
    return answer["sha256"]


def click(sha, x, y, **members):
    return {"image": {"sha256": sha}, "prompts": [{"points": [[x, y]]}], **members}


class Pictures(unittest.TestCase):
    def test_a_picture_is_named_by_its_content(self):
        file = gateway.picture(1)
        status, head, answer = kirie.exchange("/v1/images", file, {"Content-Type": "image/png"})
        self.assertEqual(status, 201)
        self.assertEqual(answer["sha256"], hashlib.sha256(file).hexdigest())
        self.assertEqual((answer["width"], answer["height"], answer["bytes"]), (320, 240, len(file)))
        self.assertEqual(head["Location"], f"/v1/images/{answer['sha256']}")
        self.assertEqual(kirie.exchange("/v1/images", file, {"Content-Type": "image/png"})[0], 200)
        status, head, content = kirie.exchange(f"/v1/images/{answer['sha256']}/content")
        self.assertEqual((status, content, head["Content-Type"]), (200, file, "image/png"))
        tag = {"If-None-Match": head["ETag"]}
        self.assertEqual(kirie.exchange(f"/v1/images/{answer['sha256']}/content", headers=tag)[0], 304)

    def test_a_picture_of_many_parts_arrives_whole(self):
        noise = numpy.random.default_rng(2).integers(0, 256, (1200, 1100, 3), dtype=numpy.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
        self.assertGreater(len(file.getvalue()), 3 << 20)
        sha = upload(file.getvalue())
        self.assertEqual(kirie.exchange(f"/v1/images/{sha}/content")[2], file.getvalue())

    def test_forms_of_browsers_and_of_curl(self):
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            file.write(gateway.picture(3))
            file.flush()
            line = json.dumps({"prompts": [{"points": [[96, 120]]}]})
            done = subprocess.run(
                ["curl", "-sS", f"{kirie.url}/v1/segment", "-F", f"image=@{file.name}", "-F", f"job={line}"],
                capture_output=True, check=True)
        answer = json.loads(done.stdout)
        self.assertEqual(answer["state"], "done")
        self.assertEqual(answer["image"]["sha256"], hashlib.sha256(gateway.picture(3)).hexdigest())

    def test_what_is_too_large_is_refused_before_it_is_kept(self):
        small = kirie.another("--image-limit", "10000")
        status, head, answer = kirie.exchange("/v1/images", bytes(20000), {"Content-Type": "image/png"}, small)
        self.assertEqual((status, answer["code"]), (413, "too-large"))
        # Announced as too large: the answer comes before the body.
        connection = connect(small)
        connection.putrequest("POST", "/v1/images")
        connection.putheader("Content-Length", str(1 << 40))
        connection.endheaders()
        self.assertEqual(connection.getresponse().status, 413)

    def test_files_that_are_no_pictures(self):
        for file in [b"", b"no picture", gateway.picture(1)[:20]]:
            status, head, answer = kirie.exchange("/v1/images", file, {"Content-Type": "image/png"})
            self.assertEqual(status, 422, answer)
            self.assertEqual(head["Content-Type"], "application/problem+json")
        # Only the head is looked at when it comes; that the rest is missing is found when it is encoded.
        sha = upload(gateway.picture(1)[:400])
        status, head, answer = kirie.exchange("/v1/segment", click(sha, 96, 120))
        self.assertEqual((status, answer["code"]), (422, "job-failed"))

    def test_warming(self):
        sha = upload(gateway.picture(4))
        status, head, answer = kirie.exchange(f"/v1/images/{sha}/warm", b"", method="PUT")
        self.assertIn(status, (200, 202))
        if status == 202:
            connection = connect()
            connection.request("GET", head["Location"] + "/events")
            response = connection.getresponse()
            self.assertEqual(list(gateway.events(response))[-1][0], "done")
        status, head, answer = kirie.exchange(f"/v1/images/{sha}/warm", b"", method="PUT")
        self.assertEqual((status, answer["state"]), (200, "ready"))
        self.assertIn("ready", kirie.exchange(f"/v1/images/{sha}")[2]["models"].values())


class Masks(unittest.TestCase):
    def test_the_answer_is_that_of_submit(self):
        file = gateway.picture(5)
        with tempfile.NamedTemporaryFile(suffix=".png") as picture:
            picture.write(file)
            picture.flush()
            submitted = kirie.submit(picture.name, "--point", "96,120", "--multimask")
        answer = kirie.post("/v1/segment", click(upload(file), 96, 120, multimask=True))[1]
        for name in ["id", "path", "partition", "timings_ms"]:
            submitted.pop(name, None), answer.pop(name, None)
        self.assertEqual(answer, submitted)

    def test_many_prompts_and_one_that_is_wrong(self):
        sha = upload(gateway.picture(6))
        answer = kirie.post("/v1/segment", {"image": {"sha256": sha}, "prompts": [
            {"points": [[96, 120]]}, {"points": [[9000, 9000]]}, {"box": [190, 70, 275, 170]}]})[1]
        self.assertEqual(sorted({mask["prompt"] for mask in answer["masks"]}), [0, 2])
        self.assertEqual([error["prompt"] for error in answer["errors"]], [1])

    def test_outlines_with_holes_and_a_budget(self):
        sha = upload(gateway.picture(7))
        answer = kirie.post("/v1/segment", click(sha, 96, 120, output="polygon", polygon={"max_points": 40}))[1]
        mask = answer["masks"][0]
        self.assertLessEqual(
            sum(len(region["exterior"]) // 2 + sum(len(hole) // 2 for hole in region["holes"])
                for region in mask["regions"]), 40)

    def test_pictures_in_place_of_json(self):
        file = gateway.picture(8)
        sha = upload(file)
        answer = kirie.post("/v1/segment", click(sha, 96, 120))[1]
        expected = gateway.mask_of(gateway.best(answer)["segmentation"])
        status, head, png = kirie.exchange("/v1/segment", click(sha, 96, 120), {"Accept": "image/png"})
        self.assertEqual(head["Content-Type"], "image/png")
        mask = numpy.array(Image.open(io.BytesIO(png)))
        self.assertTrue(((mask == 255) == expected).all() and set(numpy.unique(mask)) <= {0, 255})
        png = kirie.exchange("/v1/segment?view=cutout", click(sha, 96, 120))[2]
        cutout = numpy.array(Image.open(io.BytesIO(png)))
        pixels = numpy.array(Image.open(io.BytesIO(file)))
        self.assertEqual(cutout.shape, pixels.shape[:2] + (4,))
        self.assertTrue(((cutout[..., 3] == 255) == expected).all())
        self.assertTrue((cutout[expected][:, :3] == pixels[expected]).all())
        by_type = kirie.exchange("/v1/segment", click(sha, 96, 120), {"Accept": "image/png; view=cutout"})[2]
        self.assertEqual(by_type, png)
        overlay = numpy.array(Image.open(io.BytesIO(kirie.exchange("/v1/segment?view=overlay", click(sha, 96, 120))[2])))
        self.assertEqual(overlay.shape, pixels.shape)
        self.assertTrue((overlay != pixels).any())
        x, y, width, height = gateway.best(answer)["bbox"]
        png = kirie.exchange(f"/v1/jobs/{answer['id']}/masks/0?view=cutout&crop=1")[2]
        self.assertEqual(Image.open(io.BytesIO(png)).size, (width, height))

    def test_an_earlier_mask_is_the_prompt_of_the_next(self):
        sha = upload(gateway.picture(9))
        first = kirie.post("/v1/segment", click(sha, 96, 120, multimask=True, refine=True))[1]
        self.assertNotIn("logits", json.dumps(first))
        full = kirie.post("/v1/segment", click(sha, 96, 120, multimask=True, logits=True))[1]
        prompt = {"points": [[96, 120], [40, 40]], "labels": [1, 0]}
        for index in range(3):
            by_name = kirie.post("/v1/segment", {"image": {"sha256": sha}, "prompts": [
                {**prompt, "mask": {"job": first["id"], "index": index}}]})[1]
            by_value = kirie.post("/v1/segment", {"image": {"sha256": sha}, "prompts": [
                {**prompt, "mask": full["masks"][index]["logits"]}]})[1]
            self.assertEqual(by_name["masks"], by_value["masks"])
        for job, code in [("unknown", 422), (kirie.post("/v1/segment", click(sha, 96, 120))[1]["id"], 422)]:
            status, head, answer = kirie.exchange("/v1/segment", {"image": {"sha256": sha}, "prompts": [
                {**prompt, "mask": {"job": job, "index": 0}}]})
            self.assertEqual((status, answer["code"]), (code, "no-such-mask"))


class Jobs(unittest.TestCase):
    def test_an_answer_that_is_fetched_later(self):
        sha = upload(gateway.picture(10))
        status, head, answer = kirie.exchange(
            "/v1/segment", click(sha, 96, 120, meta={"shelf": 4}), {"Prefer": "respond-async"})
        self.assertEqual((status, head["Preference-Applied"]), (202, "respond-async"))
        connection = connect()
        connection.request("GET", f"{head['Location']}/events")
        name, data = list(gateway.events(connection.getresponse()))[-1]
        self.assertEqual((name, data["id"], data["meta"]), ("done", answer["id"], {"shelf": 4}))
        status, head, job = kirie.exchange(head["Location"])
        self.assertEqual((job["state"], job["result"]["masks"]), ("done", data["masks"]))
        self.assertIn("immutable", head["Cache-Control"])
        self.assertEqual(kirie.exchange(f"/v1/jobs/{job['id']}", headers={"If-None-Match": head["ETag"]})[0], 304)

    def test_events_of_several_jobs_and_of_the_queues(self):
        sha = upload(gateway.picture(11))
        ids = [
            kirie.exchange("/v1/segment", click(sha, 90 + n, 120), {"Prefer": "respond-async"})[2]["id"] for n in range(5)]
        connection = connect()
        connection.request("GET", "/v1/events?" + "&".join(f"job={id}" for id in ids))
        ended = {data["id"] for name, data in gateway.events(connection.getresponse()) if name == "done"}
        self.assertEqual(ended, set(ids))
        connection = connect()
        connection.request("GET", "/v1/events")
        name, data = next(gateway.events(connection.getresponse()))
        self.assertEqual(name, "queues")
        self.assertEqual({worker["role"] for worker in data["workers"]}, {"encoder", "decoder"})

    def test_cancelling(self):
        alone = kirie.another("--scale-from-zero")
        line = click(upload(gateway.picture(12)), 96, 120, model="0" * 32 + ":2:fp32:fp16")
        answer = kirie.exchange("/v1/segment", line, {"Prefer": "respond-async"}, alone)[2]
        self.assertEqual(kirie.exchange(f"/v1/jobs/{answer['id']}", method="DELETE")[2]["state"], "cancelled")
        self.assertEqual(kirie.exchange(f"/v1/jobs/{answer['id']}")[2]["state"], "cancelled")
        self.assertEqual(kirie.exchange("/v1/jobs/nobody", method="DELETE")[0], 404)

    def test_a_jobs_file(self):
        sha = upload(gateway.picture(13))
        lines = [
            {"id": "", "image": {"sha256": sha}}, {**click(sha, 96, 120), "meta": 7}, {"image": "/etc/passwd"},
            {"image": {"base64": base64.b64encode(gateway.picture(14)).decode()}, "prompts": [{"points": [[96, 120]]}]}]
        body = "\n".join(json.dumps(line) for line in lines).encode()
        kind = {"Content-Type": "application/x-ndjson"}
        status, head, text = kirie.exchange("/v1/jobs", body, kind)
        answers = {answer["line"]: answer for answer in map(json.loads, text.splitlines())}
        self.assertEqual(status, 200)
        self.assertEqual([answers[2]["state"], answers[2]["meta"], answers[4]["state"]], ["done", 7, "done"])
        self.assertIn("error", answers[1])
        self.assertIn("never a path", answers[3]["error"])
        status, head, text = kirie.exchange("/v1/jobs", json.dumps(lines[1]).encode(), {**kind, "Prefer": "respond-async"})
        self.assertEqual((status, json.loads(text)["meta"]), (202, 7))
        self.assertEqual(kirie.exchange("/v1/jobs", b"{}", {"Content-Type": "application/json"})[0], 415)


class Slots(unittest.TestCase):
    """A model that nobody serves makes a job wait, whatever the machine does meanwhile."""

    def setUp(self):
        self.alone = kirie.another("--scale-from-zero")
        self.line = click(upload(gateway.picture(15)), 96, 120, model="1" * 32 + ":2:fp32:fp16", id=f"slot-{id(self)}")

    def waiting(self, state):
        deadline = time.monotonic() + gateway.PATIENCE
        while time.monotonic() < deadline:
            status, head, job = kirie.exchange(f"/v1/jobs/{self.line['id']}")
            if status == 200 and job["state"] == state:
                return
        self.fail(f"the job did not become {state}")

    def test_a_newer_request_of_a_slot_drops_the_older(self):
        outcome = {}

        def ask():
            outcome["first"] = kirie.exchange("/v1/segment", {**self.line, "slot": "page"}, base=self.alone)

        thread = threading.Thread(target=ask)
        thread.start()
        self.waiting("waiting_embedding")
        newer = click(self.line["image"]["sha256"], 96, 120, slot="page")
        self.assertEqual(kirie.exchange("/v1/segment", newer, base=self.alone)[0], 200)
        thread.join(gateway.PATIENCE)
        self.assertEqual((outcome["first"][0], outcome["first"][2]["code"]), (409, "superseded"))
        self.waiting("cancelled")

    def test_a_client_that_leaves_drops_its_job(self):
        connection = connect(self.alone)
        connection.request("POST", "/v1/segment", json.dumps(self.line), {"Content-Type": "application/json"})
        self.waiting("waiting_embedding")
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        self.waiting("cancelled")


class Manners(unittest.TestCase):
    def test_problems_say_what_where_and_why(self):
        sha = upload(gateway.picture(16))
        for body, status, code, field in [
            (b"{", 400, "bad-json", None), (b'{"a":1,"a":2}', 400, "bad-json", None), (b"[" * 100000, 400, "bad-json", None),
            (b"[]", 400, "bad-job-line", None), (b"{}", 400, "bad-job-line", None),
            (click(sha, 1e9, 1e9), 422, "unusable-job", "prompts[0]"), ({"image": "/etc/passwd"}, 422, "path-not-allowed", "image"),
            (click("0" * 64, 1, 1), 404, "unknown-image", None), (click(sha, 1, 1, model="nobody"), 404, "unknown-model", None),
            (click(sha, 1, 1, slot="no slot"), 400, "bad-job-line", "slot"),
        ]:
            found, head, answer = kirie.exchange("/v1/segment", body, {"X-Request-Id": "mine"})
            self.assertEqual((found, answer["code"]), (status, code), answer)
            self.assertEqual((head["Content-Type"], head["X-Request-Id"]), ("application/problem+json", "mine"))
            self.assertEqual((answer["status"], answer["request_id"]), (status, "mine"))
            if field:
                self.assertEqual(answer["field"], field)

    def test_methods_and_paths(self):
        status, head, answer = kirie.exchange("/v1/segment", method="GET")
        self.assertEqual((status, head["Allow"]), (405, "POST"))
        self.assertEqual(kirie.exchange("/nowhere")[0], 404)
        self.assertEqual(kirie.exchange("/../../etc/passwd")[0], 404)
        status, head, content = kirie.exchange("/", method="HEAD")
        self.assertEqual((status, content), (200, b""))
        self.assertGreater(int(head["Content-Length"]), 1000)

    def test_a_full_cluster_names_a_time(self):
        sha = upload(gateway.picture(17))
        partition = int(sha[:8], 16) % 16
        prefix = f"kirie:{{{partition}}}:"

        def limit(jobs):
            subprocess.run(
                ["redis-cli", "-s", kirie.redis.removeprefix("unix://"), "FCALL", "kirie_limits", "1", prefix,
                 "jobs:interactive", str(jobs)], check=True, capture_output=True)

        limit(0)
        self.addCleanup(limit, 100000)
        status, head, answer = kirie.exchange("/v1/segment", click(sha, 1, 1))
        self.assertEqual((status, answer["code"]), (429, "backpressure"))
        self.assertGreaterEqual(int(head["Retry-After"]), 1)

    def test_no_worker_names_a_time(self):
        alone = kirie.another("--namespace", "nobody")
        status, head, answer = kirie.exchange("/v1/segment", click("0" * 64, 1, 1), base=alone)
        self.assertEqual((status, answer["code"]), (503, "no-worker"))
        self.assertGreaterEqual(int(head["Retry-After"]), 1)

    def test_cross_origin_only_where_asked(self):
        alone = kirie.another("--cors", "https://labels.example")
        status, head, _ = kirie.exchange("/v1/queues", headers={"Origin": "https://labels.example"}, base=alone)
        self.assertEqual((status, head["Access-Control-Allow-Origin"]), (200, "https://labels.example"))
        self.assertEqual(kirie.exchange("/v1/queues", headers={"Origin": "https://evil.example"}, base=alone)[0], 403)
        self.assertEqual(kirie.exchange("/v1/queues", headers={"Origin": kirie.url})[0], 200)

    def test_a_name_that_is_not_ours(self):
        status, _, answer = kirie.exchange("/v1/queues", headers={"Host": "evil.example"})
        self.assertEqual((status, answer["code"]), (421, "foreign-host"))

    def test_shutdown_ends_streams_and_finishes_answers(self):
        process = gateway.Process(
            "gateway", "--redis", kirie.redis, "--listen", f"127.0.0.1:{gateway.free_port()}", "--scale-from-zero")
        self.addCleanup(process.stop)
        base = process.wait_for("KIRIE_GATEWAY").rstrip("/")
        stream = connect(base)
        stream.request("GET", "/v1/events")
        response = stream.getresponse()
        self.assertEqual(next(gateway.events(response))[0], "queues")
        process.process.terminate()
        for _ in gateway.events(response):
            pass
        self.assertEqual(process.process.wait(gateway.PATIENCE), 0)


class Cache(unittest.TestCase):
    def test_embeddings_are_counted_and_dropped(self):
        first, second = (upload(gateway.picture(seed)) for seed in (61, 62))
        for sha in (first, second):
            self.assertEqual(kirie.exchange("/v1/segment", click(sha, 96, 120))[0], 200)
        status, _, figures = kirie.exchange("/v1/cache")
        self.assertEqual(status, 200)
        self.assertGreaterEqual(figures["entries"], 2)
        printed = subprocess.run(
            [gateway.program(), "cache", "stats", "--json", "--redis", kirie.redis], check=True, capture_output=True)
        self.assertEqual(figures.keys(), json.loads(printed.stdout).keys())

        def drop(query):
            status, _, answer = kirie.exchange(f"/v1/cache?{query}", method="DELETE")
            return status, answer.get("removed", answer.get("field", answer.get("code")))

        self.assertEqual(drop(f"image={first}"), (200, 1))
        self.assertEqual(drop(f"image={first}&image={second}"), (200, 1))
        # It is encoded again.
        self.assertEqual(kirie.exchange("/v1/segment", click(second, 96, 120))[0], 200)
        name = kirie.exchange("/v1/capabilities")[2]["models"][0]["name"]
        status, removed = drop(f"model={name}")
        self.assertEqual(status, 200)
        self.assertGreaterEqual(removed, 1)
        self.assertEqual(drop("all=true"), (200, 0))
        # Nothing is emptied by a slip.
        self.assertEqual(drop(""), (400, "bad-query"))
        self.assertEqual(drop(f"all=true&image={first}"), (400, "bad-query"))
        self.assertEqual(drop("all=yes"), (400, "all"))
        self.assertEqual(drop("image=../x"), (400, "image"))
        self.assertEqual(drop("model=nobody")[0], 404)


class Traces(unittest.TestCase):
    def test_a_trace_is_in_the_log_of_each_worker(self):
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        line = click(upload(gateway.picture(63)), 96, 120)
        status, _, answer = kirie.exchange("/v1/segment", line, {"traceparent": trace})
        self.assertEqual(status, 200)
        logs = [path.read_text(errors="replace") for path in pathlib.Path(kirie.folder).rglob("*.log")]
        lines = [line for log in logs for line in log.splitlines() if f"job={answer['id']}" in line]
        for what in ("encoded", "decoded"):
            told = [line for line in lines if f" {what}" in line]
            self.assertEqual(len(told), 1, (what, lines))
            self.assertIn(trace, told[0])


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.file = tempfile.NamedTemporaryFile("w", suffix=".jsonl")
        cls.keys = {}
        for name, options in [
            ("reader", ["--scope", "read"]), ("submitter", ["--scope", "read", "--scope", "submit", "--masks-per-day", "2"]),
            ("operator", ["--scope", "read", "--scope", "operate"]), ("hasty", ["--scope", "read", "--requests-per-second", "1"]),
        ]:
            cls.keys[name], line = kirie.key(name, *options)
            assert cls.keys[name] not in line
            cls.file.write(line)
        cls.file.flush()
        cls.base = kirie.another("--keys", cls.file.name)

    def ask(self, name, path, body=None, method=None):
        headers = {"Authorization": f"Bearer {self.keys[name]}"} if name else {}
        return kirie.exchange(path, body, headers, self.base, method)

    def test_scopes(self):
        self.assertEqual(self.ask(None, "/v1/queues")[0], 401)
        self.assertEqual(kirie.exchange("/v1/queues", headers={"Authorization": "Bearer wrong"}, base=self.base)[0], 401)
        self.assertEqual(self.ask(None, "/")[0], 200)
        self.assertEqual(self.ask(None, "/healthz")[0], 200)
        self.assertEqual(self.ask("reader", "/v1/queues")[0], 200)
        self.assertEqual(self.ask("reader", "/v1/segment", click("0" * 64, 1, 1))[0], 403)
        self.assertEqual(self.ask("reader", "/v1/dead/0/1-1", method="DELETE")[0], 403)
        self.assertEqual(self.ask("operator", "/v1/dead/0/1-1", method="DELETE")[0], 404)
        self.assertEqual(self.ask("reader", "/v1/cache")[0], 200)
        self.assertEqual(self.ask("reader", "/v1/cache?all=true", method="DELETE")[0], 403)
        self.assertEqual(self.ask("reader", "/v1/capabilities")[2]["authentication"]["scopes"], ["read"])

    def test_a_rate(self):
        answers = [self.ask("hasty", "/v1/workers") for _ in range(4)]
        self.assertIn(429, [status for status, _, _ in answers])
        refused = next(answer for answer in answers if answer[0] == 429)
        self.assertEqual(refused[2]["code"], "rate-limited")
        self.assertGreaterEqual(int(refused[1]["Retry-After"]), 1)

    def test_a_quota_for_all_gateways_together(self):
        file = gateway.picture(18)
        sha = upload(file, self.base, {"Authorization": f"Bearer {self.keys['submitter']}"})
        other = kirie.another("--keys", self.file.name)
        headers = {"Authorization": f"Bearer {self.keys['submitter']}"}
        self.assertEqual(kirie.exchange("/v1/segment", click(sha, 96, 120), headers, self.base)[0], 200)
        self.assertEqual(kirie.exchange("/v1/segment", click(sha, 96, 120), headers, other)[0], 200)
        status, head, answer = kirie.exchange("/v1/segment", click(sha, 96, 120), headers, self.base)
        self.assertEqual((status, answer["code"]), (429, "quota"))

    def test_without_keys_only_this_machine_is_served(self):
        done = subprocess.run(
            [gateway.program(), "gateway", "--redis", kirie.redis, "--listen", "0.0.0.0:0"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("loopback", done.stderr)


if __name__ == "__main__":
    unittest.main()
