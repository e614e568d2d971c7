"""Whatever comes to the routes of other clients is answered in their own shape, and never by a fault of ours."""

import copy
import json
import os
import random
import tempfile
import pathlib
import time
import unittest
import warnings

from inference_sdk import InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError

from gateway import Gateway, base64_of, picture

FILE = base64_of(picture(2, 64, 48))
IMAGE = {"type": "base64", "value": FILE}
POINT = {"x": 20, "y": 24, "positive": True}
SEGMENT = {
    "image": IMAGE, "image_id": "a", "format": "rle", "multimask_output": True, "save_logits_to_cache": True,
    "load_logits_from_cache": True, "sam2_version_id": "hiera_tiny",
    "prompts": {"prompts": [{"points": [POINT]}, {"box": {"x": 20, "y": 20, "width": 9, "height": 9}}]},
}
REGION = {
    "type": "keypointlabels", "is_positive": True, "original_width": 64, "original_height": 48,
    "value": {"x": 30, "y": 50, "width": 1, "keypointlabels": ["Car"]},
}
# Path, a body that is right, and where an error's words stand.
ROUTES = [
    ("/sam/embed_image", {"image": IMAGE, "image_id": "b", "format": "binary"}, "message"),
    ("/sam/segment_image", {
        "image": IMAGE, "image_id": "b", "point_coords": [[20, 24], [1, 2]], "point_labels": [1, 0], "format": "json",
        "has_mask_input": True, "use_mask_input_cache": True, "mask_input": [[[1, 1], [5, 5], [1, 9]]]}, "message"),
    ("/sam2/embed_image", {"image": IMAGE, "image_id": "c"}, "message"),
    ("/sam2/segment_image", SEGMENT, "message"),
    ("/sam3/visual_segment", {**SEGMENT, "format": "polygon"}, "message"),
    ("/predict", {
        "tasks": [{"id": 1, "data": {"i": "data:image/png;base64," + FILE}}, {"id": 2, "data": {"i": "kirie:" + "0" * 64}}],
        "label_config": '<View><Image name="img" value="$i"/><BrushLabels name="b" toName="img"><Label value="Car"/>'
                        "</BrushLabels></View>",
        "params": {"context": {"result": [REGION, {**REGION, "type": "rectanglelabels", "value": {
            "x": 1, "y": 2, "width": 30, "height": 40, "rectanglelabels": ["Car"]}}], "max_points": 40}}}, "detail"),
    ("/setup", {"project": "1.2", "schema": "<View/>"}, "detail"),
    ("/webhook", {"action": "ANNOTATION_CREATED"}, "detail"),
    ("/api/function_invocations", {
        "image": FILE, "pos_points": [[20, 24]], "neg_points": [[1, 1]], "obj_bbox": [[1, 1], [40, 40]]}, "error"),
]
JUNK = [
    None, True, False, 0, -1, 3, 1.5, -0.0, 1e308, -1e308, 2**63, 10**40, "", "a", "\u0000", "é\U0001F600", "1", "x" * 5000, [], [[]],
    [None], [1, 2], [[1, 2]], [["a", "b"]], [[1e300, 1e300]], {}, {"x": 1}, {"prompts": {}}, {"value": None},
    {"type": "url", "value": "http://127.0.0.1/"}, {"points": []}, [{"points": [{}]}], "data:image/png;base64,", "kirie:",
    "/data/upload/../../etc/passwd", "<View", "<View/>", "AAAA", [REGION] * 3,
]


def places(value, path=()):
    """Where something may be put in the place of something else."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, element in inner:
        yield from places(element, (*path, key))


def changed(body, random):
    body = copy.deepcopy(body)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        path = random.choice(list(places(body)))
        if not path:
            return random.choice(JUNK)
        parent = body
        for key in path[:-1]:
            parent = parent[key]
        action = random.random()
        if action < 0.15:
            del parent[path[-1]]
        elif action < 0.25 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[path[-1]]))
        else:
            parent[path[-1]] = copy.deepcopy(random.choice(JUNK))
    return body


class BadBodyTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        warnings.simplefilter("ignore")
        cls.gateway = Gateway()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def check(self, path, words, body):
        status, head, answer = self.gateway.exchange(
            path, body if isinstance(body, bytes) else json.dumps(body).encode())
        told = f"{path} answered {status} {str(answer)[:300]} to {json.dumps(body)[:2000] if not isinstance(body, bytes) else body[:200]}"
        self.assertTrue(status < 500, told)
        if status >= 400:
            self.assertIsInstance(answer.get(words), str, told)
            self.assertTrue(answer[words], told)
        return status

    def test_what_is_right_is_taken(self):
        for path, body, words in ROUTES:
            self.assertLess(self.check(path, words, body), 300)

    def test_changed_bodies(self):
        seed = int(os.environ.get("KIRIE_SEED") or time.time())
        print(f"KIRIE_SEED={seed}")
        source = random.Random(seed)
        statuses = {}
        for path, body, words in ROUTES:
            for _ in range(150):
                status = self.check(path, words, changed(body, source))
                statuses[status] = statuses.get(status, 0) + 1
        print(f"answers by status: {dict(sorted(statuses.items()))}")
        self.assertGreater(statuses.get(400, 0), 100)

    def test_broken_json(self):
        for path, body, words in ROUTES:
            text = json.dumps(body).encode()
            for broken in (
                text[:-1], text[: len(text) // 2], b"\xff\xfe", b"{" * 100_000, b"[" * 100_000 + b"]" * 100_000,
                b'{"image":1,"image":2}', b"null", b'"a"', b"\x00" * 1000, text + b"x",
            ):
                self.assertEqual(self.check(path, words, broken), 400)

    def test_a_picture_too_large_is_refused_before_it_is_read(self):
        import http.client
        import urllib.parse

        for path, _, words in ROUTES:
            connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.gateway.url).netloc, timeout=60)
            connection.putrequest("POST", path)
            connection.putheader("Content-Length", str(1 << 40))
            connection.endheaders()
            answer = connection.getresponse()
            self.assertEqual(answer.status, 413)
            self.assertTrue(json.loads(answer.read())[words])
            connection.close()

    def test_too_many_requests_say_when_to_come_back(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder, "keys.jsonl")
            key, line = self.gateway.key("slow", "--requests-per-second", "0.001")
            keys.write_text(line)
            url = self.gateway.another("--keys", keys)
            body = {"api_key": key, "image": IMAGE}
            self.assertEqual(self.gateway.post("/sam2/embed_image", body, base=url)[0], 200)
            status, head, answer = self.gateway.exchange("/sam2/embed_image", body, base=url)
            self.assertEqual(status, 429)
            self.assertGreaterEqual(int(head["Retry-After"]), 1)
            self.assertIn("requests a second", answer["message"])
            with self.assertRaises(HTTPCallErrorError) as raised:
                InferenceHTTPClient(url, key).sam3_embed_image(FILE)
            self.assertEqual(raised.exception.status_code, 429)
            self.assertIn("requests a second", raised.exception.api_message)


class WithoutWorkersTests(unittest.TestCase):
    def test_the_client_is_told_to_come_back(self):
        warnings.simplefilter("ignore")
        gateway = Gateway("--encoders", "0", "--decoders", "0")
        try:
            for path, body, words in ROUTES:
                if path in ("/setup", "/webhook"):
                    continue
                status, head, answer = gateway.exchange(path, body)
                self.assertEqual(status, 503, answer)
                self.assertTrue(head["Retry-After"])
                self.assertIn("no worker", answer[words])
            with self.assertRaises(HTTPCallErrorError) as raised:
                InferenceHTTPClient(gateway.url, "k").sam3_visual_segment(FILE)
            self.assertEqual(raised.exception.status_code, 503)
        finally:
            gateway.stop()


if __name__ == "__main__":
    unittest.main()
