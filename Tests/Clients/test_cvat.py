"""CVAT's interactors as its server calls them, its decoder for the browser, and cvat-sdk's auto-annotation functions."""

import base64
import json
import pathlib
import subprocess
import tempfile
import unittest

import cvat_sdk.auto_annotation as cvataa
import cvat_sdk.models as models
import numpy
import onnxruntime
import PIL.Image
from cvat_cli._internal.agent_driver_interaction import (
    AgentInteractionFunctionDriver, _InteractionFunctionContextImpl, _InteractionPromptsImpl)
from cvat_cli._internal.common import FunctionLoader
from cvat_sdk.auto_annotation.driver import _AnnotationMapper, _DetectionFunctionContextImpl
from cvat_sdk.masks import decode_mask

from gateway import PHOTO, ROOT, Gateway, base64_of, best, mask_of, picture

BLOB = "pth-facebookresearch-sam-vit-h"
PUBLISHED = ROOT / ".build" / "published" / "bin" / "python"
EXAMPLE = ROOT / "deploy" / "examples" / "cvat_kirie.py"


def invoke(gateway, body, function=None, path="/api/function_invocations", base=None, **headers):
    """A call as CVAT's lambda manager makes it."""
    head = {
        "x-nuclio-project-name": "cvat", "x-nuclio-function-namespace": "nuclio",
        "x-nuclio-invoke-via": "domain-name", **headers,
    }
    if function:
        head |= {"x-nuclio-function-name": function, "x-nuclio-path": "/"}
    return gateway.post(path, body, head, base)


class InteractorTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway()
        cls.photo = PHOTO.read_bytes()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def body(self, positive=(), negative=(), box=None):
        return {
            "image": base64_of(self.photo), "pos_points": list(positive), "neg_points": list(negative), "obj_bbox": box}

    def expected(self, prompt):
        return mask_of(best(self.gateway.segment(self.photo, [prompt], multimask=True))["segmentation"])

    def test_functions_are_listed_as_cvat_reads_them(self):
        functions = self.gateway.exchange("/api/functions")[2]
        self.assertEqual(list(functions), ["kirie"])
        for data in (functions["kirie"], self.gateway.exchange("/api/functions/kirie")[2]):
            # The fields that cvat/apps/lambda_manager/views.py takes, by the names that it takes them by.
            annotations = data["metadata"]["annotations"]
            self.assertEqual(data["metadata"]["name"], "kirie")
            self.assertEqual(annotations["type"], "interactor")
            self.assertEqual(json.loads(annotations["spec"] or "[]"), [])
            self.assertEqual((int(annotations["min_pos_points"]), int(annotations["min_neg_points"])), (0, 0))
            self.assertTrue(annotations["startswith_box_optional"])
            self.assertEqual(int(annotations["version"]), 2)
            self.assertEqual(data["status"]["state"], "ready")
            self.assertEqual(f"http://127.0.0.1:{data['status']['httpPort']}", self.gateway.url)
            self.assertTrue(data["spec"]["description"])
        self.assertEqual(self.gateway.exchange("/api/functions/other")[0], 404)
        self.assertEqual(self.gateway.exchange(f"/api/functions/{BLOB}")[2]["metadata"]["name"], BLOB)

    def test_masks_of_points_and_boxes(self):
        cases = [
            (self.body([[512, 400]]), {"points": [[512, 400]], "labels": [1]}),
            (self.body([[512, 400], [600, 420]], [[100, 700]]),
             {"points": [[512, 400], [600, 420], [100, 700]], "labels": [1, 1, 0]}),
            (self.body(box=[[700, 550], [300, 250]]), {"box": [300, 250, 700, 550]}),
            (self.body([[512, 400]], box=[300, 250, 700, 550]),
             {"points": [[512, 400]], "labels": [1], "box": [300, 250, 700, 550]}),
            (self.body([[512, 400]], box=[]), {"points": [[512, 400]], "labels": [1]}),
        ]
        for body, prompt in cases:
            for function, path in [("kirie", "/api/function_invocations"), (None, "/")]:
                status, answer = invoke(self.gateway, body, function, path)
                self.assertEqual(status, 200, answer)
                self.assertTrue(numpy.array_equal(numpy.array(answer["mask"], bool), self.expected(prompt)))
                self.assertTrue(answer["model"])

    def test_bad_input_has_the_functions_shape(self):
        for body, words in [
            (b"", "at least one point"), (b"{", "not JSON"), (self.body(), "at least one point"),
            (self.body([[1]]), "pos_points[0]"), (self.body([["a", 2]]), "pos_points[0]"),
            (self.body([[512, 400]], box=[[1, 2]]), "obj_bbox"), (self.body([[99999, 400]]), "outside the picture"),
            ({"pos_points": [[1, 2]]}, "image"), ({**self.body([[1, 2]]), "image": "AAAA"}, "picture"),
            ({**self.body([[1, 2]]), "image": 7}, "image"),
        ]:
            status, answer = invoke(self.gateway, body, "kirie")
            self.assertIn(status, (400, 422), answer)
            self.assertIn(words, answer["error"])
        self.assertEqual(invoke(self.gateway, self.body([[1, 2]]), "other")[0], 404)

    def test_a_model_of_another_shape_has_no_blob(self):
        status, answer = invoke(self.gateway, self.body([[512, 400]]), BLOB)
        self.assertEqual(status, 422)
        self.assertIn("use the function kirie", answer["error"])

    def test_a_key_is_the_namespace_of_functions(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder, "keys.jsonl")
            key, line = self.gateway.key("cvat")
            keys.write_text(line)
            url = self.gateway.another("--keys", keys)
            status, answer = invoke(self.gateway, self.body([[512, 400]]), "kirie", base=url)
            self.assertEqual(status, 401)
            self.assertIn("API key", answer["error"])
            status, answer = invoke(
                self.gateway, self.body([[512, 400]]), "kirie", base=url, **{"x-nuclio-function-namespace": key})
            self.assertEqual(status, 200)
            self.assertEqual(self.gateway.exchange("/api/functions", base=url)[0], 401)


class Annotating(unittest.TestCase):
    """deploy/examples/cvat_kirie.py, loaded and called by cvat-cli's and cvat-sdk's own code."""

    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway()
        cls.image = PIL.Image.open(PHOTO)

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def load(self, **parameters):
        return FunctionLoader(None, EXAMPLE, {"url": self.gateway.url, **parameters}).load()

    def detect(self, function, frame="a.jpg", task=("car",), **context):
        """What `annotate_task` does with a frame, up to the upload."""
        import logging

        labels = [
            models.Label(id=70 + index, name=name, type="any", attributes=[], sublabels=[])
            for index, name in enumerate(task)
        ]
        mapper = _AnnotationMapper(
            logging.getLogger("cvat"), function.spec.labels, labels, allow_unmatched_labels=True,
            conv_mask_to_poly=context.get("conv_mask_to_poly", False))
        found = function.detect(_DetectionFunctionContextImpl(frame_name=frame, **context), self.image)
        tags, shapes = mapper.validate_and_remap(found, 5)
        self.assertEqual(tags, [])
        return shapes

    def pixels(self, shape):
        return decode_mask(shape.points, image_width=1024, image_height=768)

    def expected(self, prompt):
        import io

        file = io.BytesIO()
        self.image.convert("RGB").save(file, "PNG", compress_level=1)
        return mask_of(best(self.gateway.segment(file.getvalue(), [prompt], multimask=True))["segmentation"])

    def test_given_prompts(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(
                {"a.jpg": [{"box": [300, 250, 700, 550], "label": "car"}, {"points": [[512, 400]], "label": "dog"}]},
                file)
            file.flush()
            function = self.load(prompts=file.name, labels="car,dog")
            self.assertIsInstance(function.spec, cvataa.DetectionFunctionSpec)
            shapes = self.detect(function, task=("dog", "car"))
            self.assertEqual([(shape.type.value, shape.label_id, shape.frame) for shape in shapes],
                             [("mask", 71, 5), ("mask", 70, 5)])
            for shape, prompt in zip(shapes, [{"box": [300, 250, 700, 550]}, {"points": [[512, 400]], "labels": [1]}]):
                self.assertTrue(numpy.array_equal(self.pixels(shape), self.expected(prompt)))
            self.assertEqual(len(self.detect(function, task=("dog",))), 1)
            self.assertEqual(self.detect(function, frame="b.jpg"), [])
            polygons = self.detect(function, task=("dog", "car"), conv_mask_to_poly=True)
            self.assertEqual({shape.type.value for shape in polygons}, {"polygon"})
            self.assertTrue(all(len(shape.points) >= 6 for shape in polygons))

    def test_whole_pictures(self):
        function = self.load(label="car", points_per_side=4, threshold=0.5)
        few = self.detect(function, conf_threshold=0.99)
        shapes = self.detect(function)
        self.assertTrue(shapes)
        self.assertLessEqual(len(few), len(shapes))
        self.assertTrue(all(self.pixels(shape).any() for shape in shapes))

    def test_interactor(self):
        function = self.load(kind="interactor")
        fields = AgentInteractionFunctionDriver.get_remote_function_fields(function.spec)
        self.assertEqual(fields, {"min_pos_points": 0, "min_neg_points": 0, "startswith_box_optional": True})
        context = _InteractionFunctionContextImpl()
        uploaded = function.preprocess_image(context, self.image)

        def click(positive=(), negative=(), box=None):
            return function.detect(
                context, uploaded,
                _InteractionPromptsImpl(pos_points=tuple(positive), neg_points=tuple(negative), bounding_box=box))

        shape, = click([(512.0, 400.0)], [(100.0, 700.0)])
        self.assertEqual(shape.type, "mask")
        wanted = self.expected({"points": [[512, 400], [100, 700]], "labels": [1, 0]})
        self.assertTrue(numpy.array_equal(self.pixels(shape), wanted))
        confidence, = shape.attributes
        self.assertEqual(confidence.spec_id, cvataa.InteractionResultAttributes.CONFIDENCE)
        self.assertTrue(0 <= float(confidence.value) <= 1)
        shape, = click(box=((300.0, 250.0), (700.0, 550.0)))
        self.assertTrue(numpy.array_equal(self.pixels(shape), self.expected({"box": [300, 250, 700, 550]})))
        self.assertEqual(click(), [])


if not PUBLISHED.exists():
    # Said whether or not anybody asks for skips: PyTorch is a gigabyte, so only deploy/parity installs it.
    print(f"skipped: the browser's decoder on a blob: {PUBLISHED} is not there, deploy/parity installs it", flush=True)


@unittest.skipUnless(PUBLISHED.exists(), f"{PUBLISHED} is not there: deploy/parity installs it")
class BrowserDecoderTests(unittest.TestCase):
    """The blob, decoded as CVAT's plugin for the browser does it: onnxruntime runs its decoder."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        subprocess.run(
            [PUBLISHED, pathlib.Path(__file__).with_name("cvat_decoder.py"), cls.folder.name], check=True,
            capture_output=True)
        cls.gateway = Gateway("--model", f"{cls.folder.name}/sam.pth", "--precision", "fp32")
        cls.decoder = onnxruntime.InferenceSession(
            f"{cls.folder.name}/decoder.onnx", providers=["CPUExecutionProvider"])
        cls.file = picture(9, 640, 400)
        status, answer = invoke(
            cls.gateway, {"image": base64_of(cls.file), "pos_points": [], "neg_points": []}, BLOB)
        assert status == 200, answer
        cls.blob = base64.b64decode(answer["blob"])

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()
        cls.folder.cleanup()

    def decode(self, positive, negative):
        """What cvat-ui/plugins/sam feeds its decoder."""
        scale = 1024 / 640
        clicks = [*positive, *negative]
        coordinates = numpy.array([[x * scale, y * scale] for x, y in clicks] + [[0, 0]], numpy.float32)[None]
        labels = numpy.array([1] * len(positive) + [0] * len(negative) + [-1], numpy.float32)[None]
        mask, _, left, top, right, bottom = self.decoder.run(
            None,
            {
                "image_embeddings": numpy.frombuffer(self.blob, "<f4").reshape(1, 256, 64, 64),
                "point_coords": coordinates, "point_labels": labels,
                "orig_im_size": numpy.array([400, 640], numpy.float32),
                "mask_input": numpy.zeros((1, 1, 256, 256), numpy.float32),
                "has_mask_input": numpy.zeros(1, numpy.float32),
            })
        whole = numpy.zeros((400, 640), bool)
        whole[top:bottom + 1, left:right + 1] = mask[0, 0] > 0
        return whole

    def test_the_blob_is_what_the_browser_takes(self):
        self.assertEqual(len(self.blob), 4 * 256 * 64 * 64)

    def test_the_browser_s_mask_is_the_cluster_s(self):
        cases = [
            # With one click the browser's decoder chooses among the three readings, with more it takes the one.
            ([[192, 200]], [], True), ([[192, 200], [230, 220], [170, 180]], [[500, 200]], False),
        ]
        for positive, negative, three in cases:
            browser = self.decode(positive, negative)
            answer = self.gateway.segment(
                self.file,
                [{"points": positive + negative, "labels": [1] * len(positive) + [0] * len(negative)}],
                multimask=three)
            cluster = mask_of(best(answer)["segmentation"])
            different = int((browser != cluster).sum())
            print(f"{len(positive) + len(negative)} clicks: {different} of {cluster.size} pixels differ, "
                  f"{int(cluster.sum())} on the object")
            self.assertTrue(0 < cluster.sum() < cluster.size)
            # Two libraries add up in different orders: a pixel whose logit is zero but for that may fall either way.
            self.assertLessEqual(different, cluster.size // 10_000)


if __name__ == "__main__":
    unittest.main()
