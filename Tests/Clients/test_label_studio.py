"""Label Studio's protocol of machine-learning backends, its results read back by label-studio-sdk."""

import base64
import hashlib
import io
import pathlib
import tempfile
import unittest

import numpy
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image

from gateway import PHOTO, Gateway, base64_of, best, mask_of, picture


def interface(*tools):
    """A labelling interface with smart prompts and these tools for the answer."""
    labels = '<Label value="Cut &amp; paste"/><Label value="Banana"/>'
    drawn = "".join(f'<{tool} name="{tool.lower()}" toName="img">{labels}</{tool}>' for tool in tools)
    return f"""<View> <!-- <Image name="no" value="$no"/> -->
        <Image name="img" value="$picture" zoom="true"/>
        <KeyPointLabels name="click" toName="img" smart="true">{labels}</KeyPointLabels>
        <RectangleLabels name="box" toName="img" smart='true'>{labels}</RectangleLabels>
        {drawn}</View>"""


def click(x, y, positive=True, newer=False):
    """A click at fractions of the picture."""
    region = {
        "id": "k", "type": "keypointlabels", "from_name": "click", "to_name": "img", "original_width": 1024,
        "original_height": 768, "image_rotation": 0,
        "value": {"x": x * 100, "y": y * 100, "width": 0.3, "keypointlabels": ["Banana"]},
    }
    if newer:
        region["value"]["positive"] = positive
    else:
        region["is_positive"] = positive
    return region


def box(x, y, width, height, label="Banana"):
    return {
        "type": "rectanglelabels", "original_width": 1024, "original_height": 768, "from_name": "box", "to_name": "img",
        "value": {
            "x": x * 100, "y": y * 100, "width": width * 100, "height": height * 100, "rectanglelabels": [label]},
    }


def brush_mask(region):
    """What label-studio-sdk reads of a brush region."""
    pixels = decode_rle(region["value"]["rle"])
    return pixels.reshape(region["original_height"], region["original_width"], 4)[:, :, 3] > 0


class LabelStudioTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway()
        cls.photo = PHOTO.read_bytes()
        cls.uri = "data:image/jpeg;base64," + base64_of(cls.photo)

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def predict(self, tools, regions, uri=None, context=None, base=None, headers={}, tasks=None):
        """One prediction, as Label Studio's api_connector asks for it."""
        body = {
            "tasks": tasks or [{"id": 1, "data": {"picture": uri or self.uri}, "annotations": [], "predictions": []}],
            "model_version": "", "project": "12.1690000000", "label_config": interface(*tools),
            "params": {"login": None, "password": None, "context": {"result": regions, **(context or {})}},
        }
        return self.gateway.post("/predict", body, headers, base)

    def result(self, tools, regions, **options):
        status, answer = self.predict(tools, regions, **options)
        self.assertEqual(status, 200, answer)
        self.assertEqual(len(answer["results"]), 1)
        prediction = answer["results"][0]
        self.assertTrue(prediction["model_version"])
        return prediction

    def expected(self, prompts):
        answer = self.gateway.segment(self.photo, prompts, multimask=True)
        return [mask_of(best(answer, index)["segmentation"]) for index in range(len(prompts))]

    def valid(self, tools, prediction):
        self.assertEqual(LabelInterface(interface(*tools)).validate_prediction(prediction, return_errors=True), [])

    def test_health_and_setup(self):
        self.assertEqual(self.gateway.exchange("/health")[2]["status"], "UP")
        status, answer = self.gateway.post(
            "/setup",
            {"project": "12.169", "schema": interface("BrushLabels"), "hostname": "http://x", "access_token": "t"})
        self.assertEqual(status, 200)
        self.assertTrue(answer["model_version"])
        self.assertEqual(
            self.gateway.post("/webhook", {"action": "ANNOTATION_CREATED", "project": {"id": 1}})[0], 201)
        self.assertEqual(self.gateway.post("/webhook", {"action": "other"})[1], {"status": "Unknown event"})

    def test_brush_of_one_click(self):
        prediction = self.result(["BrushLabels"], [click(0.5, 0.5)])
        region, = prediction["result"]
        self.assertEqual((region["type"], region["from_name"], region["to_name"]), ("brushlabels", "brushlabels", "img"))
        self.assertEqual((region["original_width"], region["original_height"]), (1024, 768))
        self.assertEqual(region["value"]["brushlabels"], ["Banana"])
        mask, = self.expected([{"points": [[512, 384]], "labels": [1]}])
        self.assertTrue(numpy.array_equal(brush_mask(region), mask))
        # To the byte what label-studio-sdk writes itself.
        self.assertEqual(region["value"]["rle"], mask2rle(mask.astype(numpy.uint8) * 255))
        self.valid(["BrushLabels"], prediction)

    def test_several_clicks_some_of_them_negative(self):
        prompt = {"points": [[512, 384], [768, 192], [256, 576]], "labels": [1, 0, 1]}
        mask, = self.expected([prompt])
        for newer in (False, True):
            regions = [click(0.5, 0.5, newer=newer), click(0.75, 0.25, False, newer), click(0.25, 0.75, newer=newer)]
            region, = self.result(["BrushLabels"], regions)["result"]
            self.assertTrue(numpy.array_equal(brush_mask(region), mask))

    def test_rectangles_are_objects_and_clicks_belong_to_them(self):
        one, two = [0.25, 0.25, 0.25, 0.5], [0.5625, 0.25, 0.25, 0.5]
        masks = self.expected([
            {"box": [256, 192, 512, 576], "points": [[384, 384], [10.24, 7.68]], "labels": [1, 0]},
            {"box": [576, 192, 832, 576], "points": [[10.24, 7.68]], "labels": [0]},
        ])
        regions = [box(*one), box(*two), click(0.375, 0.5), click(0.01, 0.01, False)]
        prediction = self.result(["BrushLabels"], regions)
        self.assertEqual(len(prediction["result"]), 2)
        for region, mask in zip(prediction["result"], masks):
            self.assertTrue(numpy.array_equal(brush_mask(region), mask))

    def test_polygons_within_a_budget_of_points(self):
        mask, = self.expected([{"box": [256, 192, 768, 576]}])
        prediction = self.result(["PolygonLabels"], [box(0.25, 0.25, 0.5, 0.5)])
        self.valid(["PolygonLabels"], prediction)
        found = self.drawn(prediction)
        self.assertGreater((found & mask).sum() / (found | mask).sum(), 0.9)
        areas = [abs(self.area(region)) for region in prediction["result"]]
        self.assertEqual(areas, sorted(areas, reverse=True))
        for most in (200, 40, 8):
            few = self.result(["PolygonLabels"], [box(0.25, 0.25, 0.5, 0.5)], context={"max_points": most})
            self.assertLessEqual(sum(len(region["value"]["points"]) for region in few["result"]), most)
            self.assertTrue(few["result"])

    @staticmethod
    def area(region):
        x, y = numpy.array(region["value"]["points"]).T
        return numpy.dot(x, numpy.roll(y, -1)) - numpy.dot(y, numpy.roll(x, -1))

    @staticmethod
    def drawn(prediction):
        import cv2

        pixels = numpy.zeros((768, 1024), numpy.uint8)
        for region in prediction["result"]:
            points = numpy.array(region["value"]["points"]) * [10.24, 7.68]
            cv2.fillPoly(pixels, [points.round().astype(numpy.int32)], 1)
        return pixels.astype(bool)

    def test_rectangles_where_the_project_has_no_other_tool(self):
        prediction = self.result([], [click(0.5, 0.5)])
        region, = prediction["result"]
        self.assertEqual((region["type"], region["from_name"]), ("rectanglelabels", "box"))
        y, x = numpy.nonzero(self.expected([{"points": [[512, 384]], "labels": [1]}])[0])
        value = region["value"]
        for name, wanted in [
            ("x", x.min() / 10.24), ("y", y.min() / 7.68), ("width", (x.max() - x.min() + 1) / 10.24),
            ("height", (y.max() - y.min() + 1) / 7.68),
        ]:
            self.assertAlmostEqual(value[name], wanted, places=3)
        self.assertEqual((value["rotation"], value["rectanglelabels"]), (0, ["Banana"]))
        self.valid([], prediction)

    def test_a_label_that_the_tool_has_not_is_its_first(self):
        region, = self.result(["BrushLabels"], [box(0.25, 0.25, 0.5, 0.5, "Cut & paste")])["result"]
        self.assertEqual(region["value"]["brushlabels"], ["Cut & paste"])
        region, = self.result(["BrushLabels"], [box(0.25, 0.25, 0.5, 0.5, "Other")])["result"]
        self.assertEqual(region["value"]["brushlabels"], ["Cut & paste"])

    def test_the_interactive_frontend(self):
        tools = ["BitmaskLabels", "BrushLabels"]
        ability = self.result_of_event(tools, "capabilities")
        self.assertEqual(ability["type"], "capabilities")
        self.assertEqual(ability["value"]["prompts"], ["point", "box"])
        self.assertIn({"tag": "BitmaskLabels", "output": "mask"}, ability["value"]["targets"])
        region, = self.result(tools, [click(0.5, 0.5, newer=True)], context={"event": "predict"})["result"]
        self.assertEqual(region["type"], "bitmap")
        kind, _, data = region["value"]["imageDataURL"].partition(",")
        self.assertEqual(kind, "data:image/png;base64")
        pixels = numpy.array(Image.open(io.BytesIO(base64.b64decode(data))))
        mask, = self.expected([{"points": [[512, 384]], "labels": [1]}])
        self.assertTrue(numpy.array_equal(pixels > 0, mask))
        self.assertEqual((region["value"]["width"], region["value"]["height"]), (1024, 768))
        self.assertEqual(region["value"]["bitmasklabels"], ["Banana"])
        for tool, kind in [("RectangleLabels", "rectanglelabels"), ("PolygonLabels", "polygonlabels")]:
            region = self.result([tool], [click(0.5, 0.5, newer=True)], context={"event": "predict"})["result"][0]
            self.assertEqual(region["type"], kind)
        self.valid(["BitmaskLabels"], self.result(["BitmaskLabels"], [click(0.5, 0.5)]))

    def result_of_event(self, tools, event, tasks=None, **context):
        status, answer = self.predict(tools, [], context={"event": event, **context}, tasks=tasks)
        self.assertEqual(status, 200, answer)
        return answer["results"][0]["result"][0]

    def ready(self, file):
        """Whether a picture's embedding is there, as the gateway says."""
        digest = hashlib.sha256(file).hexdigest()
        status, _, answer = self.gateway.exchange(f"/v1/images/{digest}")
        return status == 200 and "ready" in answer["models"].values()

    def wait_until_ready(self, files):
        # A job of the picture ends after its embedding is there: that is the event.
        for file in files:
            self.gateway.segment(file, [{"points": [[10, 10]], "labels": [1]}])
            self.assertTrue(self.ready(file))

    def test_pictures_are_encoded_ahead(self):
        files = [picture(100 + index) for index in range(6)]
        tasks = [
            {"id": index, "data": {"picture": "data:image/png;base64," + base64_of(file)}}
            for index, file in enumerate(files)
        ]
        self.assertFalse(any(map(self.ready, files)))
        # Somebody opens a task: nothing is drawn yet, and its picture and those after it are asked for.
        status, answer = self.predict(["BrushLabels"], [], tasks=tasks[:3])
        self.assertEqual((status, answer), (200, {"results": []}))
        for file in files[:3]:
            status, _, known = self.gateway.exchange("/v1/images/" + hashlib.sha256(file).hexdigest())
            self.assertEqual(status, 200)
        acknowledged = self.result_of_event(
            ["BitmaskLabels"], "prewarm", tasks=tasks, frame=3, window=1, direction="forward")
        self.assertEqual(acknowledged["type"], "prewarm_ack")
        value = acknowledged["value"]
        self.assertEqual((value["status"], value["frame_count"]), ("ok", 6))
        self.assertEqual(sorted(value["cached"] + value["pending"]), [3, 4])
        self.wait_until_ready(files[:5])
        self.assertFalse(self.ready(files[5]))
        again = self.result_of_event(["BitmaskLabels"], "prewarm", tasks=tasks, frame=3, window=1)["value"]
        self.assertEqual((again["cached"], again["pending"]), ([3, 4], []))

    def test_pictures_by_their_content_s_name(self):
        digest = self.gateway.exchange("/v1/images", self.photo, {"Content-Type": "image/jpeg"})[2]["sha256"]
        region, = self.result(["BrushLabels"], [click(0.5, 0.5)], uri=f"kirie:{digest}")["result"]
        mask, = self.expected([{"points": [[512, 384]], "labels": [1]}])
        self.assertTrue(numpy.array_equal(brush_mask(region), mask))

    def test_pictures_of_label_studio_s_own_folders(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "media" / "upload" / "1").mkdir(parents=True)
            (root / "files" / "my photos").mkdir(parents=True)
            (root / "media" / "upload" / "1" / "a.jpg").write_bytes(self.photo)
            (root / "files" / "my photos" / "b.jpg").write_bytes(self.photo)
            (root / "secret.jpg").write_bytes(self.photo)
            (root / "media" / "link.jpg").symlink_to(root / "secret.jpg")
            url = self.gateway.another(
                "--label-studio-media", root / "media", "--label-studio-files", root / "files")
            for uri in (
                "/data/upload/1/a.jpg", "http://studio:8080/data/upload/1/a.jpg?x=1",
                "/data/local-files/?d=my%20photos/b.jpg", "/data/local-files/?d=my+photos/b.jpg",
            ):
                prediction = self.result(["BrushLabels"], [click(0.5, 0.5)], uri=uri, base=url)
                self.assertEqual(len(prediction["result"]), 1)
            for uri in (
                "/data/upload/../../secret.jpg", "/data/upload/..%2f..%2fsecret.jpg", "/data/link.jpg", "/data/upload",
                "/data/local-files/?d=../secret.jpg", "/data/local-files/?d=/etc/passwd", "/data/upload/1/none.jpg",
                "/data/upload/1/a.jpg%00",
            ):
                status, answer = self.predict(["BrushLabels"], [click(0.5, 0.5)], uri=uri, base=url)
                self.assertEqual((status, answer["status"]), (404, 404), uri)

    def test_errors_say_what_to_do(self):
        for uri in ("https://example.com/a.jpg", "s3://bucket/a.jpg", "/data/upload/1/a.jpg", "a.jpg", "kirie:12"):
            status, answer = self.predict(["BrushLabels"], [click(0.5, 0.5)], uri=uri)
            self.assertEqual(status, 422, answer)
            self.assertIn("data URI", answer["detail"])
            self.assertIn("/v1/images", answer["detail"])
        for body, words in [
            (b"{", "not JSON"), ({"tasks": [{}], "label_config": "<View>"}, "Image"),
            ({"tasks": [{}], "label_config": interface("BrushLabels"), "params": {"context": {"result": [
                click(0.5, 0.5)]}}}, "data"),
            ({"tasks": [{"data": {}}], "label_config": "<View", "params": {}}, "label_config"),
            ({"tasks": [{"data": {"picture": "data:image/png;base64,AAAA"}}], "label_config": interface("BrushLabels"),
              "params": {"context": {"result": [click(0.5, 0.5)]}}}, "picture"),
        ]:
            status, answer = self.gateway.post("/predict", body)
            self.assertIn(status, (400, 422), answer)
            self.assertIn(words, answer["detail"])
        status, answer = self.predict(["BrushLabels"], [click(7, 0.5)])
        self.assertIn(status, (400, 422))
        self.assertIn("outside the picture", answer["detail"])

    def test_a_key_is_the_password_of_basic_authentication(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder, "keys.jsonl")
            key, line = self.gateway.key("studio")
            keys.write_text(line)
            url = self.gateway.another("--keys", keys)
            self.assertEqual(self.predict(["BrushLabels"], [click(0.5, 0.5)], base=url)[0], 401)
            for header in ("Basic " + base64_of(f"studio:{key}".encode()), f"Bearer {key}", f"Token {key}"):
                status, answer = self.predict(
                    ["BrushLabels"], [click(0.5, 0.5)], base=url, headers={"Authorization": header})
                self.assertEqual(status, 200, answer)


if __name__ == "__main__":
    unittest.main()
