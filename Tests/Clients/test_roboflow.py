"""Roboflow's own client, unmodified, and the raw routes of its server."""

import asyncio
import io
import pathlib
import tempfile
import unittest
import warnings

import cv2
import numpy
from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.entities import ApiKeyTransport
from inference_sdk.http.errors import HTTPCallErrorError

from gateway import PHOTO, Gateway, base64_of, best, mask_of, picture

CLICK = {"x": 512, "y": 400, "positive": True}
AWAY = {"x": 100, "y": 700, "positive": False}
BOX = {"x": 500, "y": 400, "width": 400, "height": 300}


def filled(polygons, shape):
    """The pixels inside outlines as OpenCV draws them: the mask without its holes."""
    mask = numpy.zeros(shape, numpy.uint8)
    if polygons:
        cv2.fillPoly(mask, [numpy.array(ring, numpy.int32) for ring in polygons], 1)
    return mask.astype(bool)


def outer(mask):
    """What that server does to a mask."""
    contours, _ = cv2.findContours(mask.astype(numpy.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour.reshape(-1, 2) for contour in contours]


def canonical(ring):
    """A ring from its smallest corner on, in one direction: where it begins says nothing."""
    ring = [tuple(map(int, corner)) for corner in ring]
    candidates = []
    for turned in (ring, ring[::-1]):
        start = turned.index(min(turned))
        candidates.append(tuple(turned[start:] + turned[:start]))
    return min(candidates)


class RoboflowTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        warnings.simplefilter("ignore")
        cls.gateway = Gateway()
        cls.photo = PHOTO.read_bytes()
        cls.client = InferenceHTTPClient(api_url=cls.gateway.url, api_key="whatever")

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def post(self, path, **body):
        return self.gateway.post(path, body)

    def image(self, file=None):
        return {"type": "base64", "value": base64_of(file or self.photo)}

    # The client.

    def test_segments_by_points_and_boxes_as_the_cluster_does(self):
        prompts = [{"points": [CLICK, AWAY]}, {"box": BOX}, {"points": [CLICK], "box": BOX}]
        expected = self.gateway.segment(
            self.photo,
            [
                {"points": [[512, 400], [100, 700]], "labels": [1, 0]},
                {"box": [300, 250, 700, 550]},
                {"points": [[512, 400]], "labels": [1], "box": [300, 250, 700, 550]},
            ],
            multimask=True,
        )
        for method in (self.client.sam2_segment_image, self.client.sam3_visual_segment):
            answer = method(str(PHOTO), prompts=prompts, mask_input_format="rle")
            self.assertEqual(answer["model"], expected["model"])
            self.assertIsInstance(answer["time"], float)
            self.assertEqual(len(answer["predictions"]), 3)
            for index, prediction in enumerate(answer["predictions"]):
                wanted = best(expected, index)
                self.assertEqual(prediction["masks"], wanted["segmentation"])
                self.assertEqual(prediction["format"], "rle")
                self.assertAlmostEqual(prediction["confidence"], wanted["score"], places=6)

    def test_submit_gives_the_same_mask(self):
        answer = self.client.sam2_segment_image(
            str(PHOTO), prompts=[{"points": [CLICK]}], multimask_output=False, mask_input_format="rle"
        )
        submitted = self.gateway.submit(PHOTO, "--point", "512,400")
        self.assertEqual(answer["predictions"][0]["masks"], submitted["masks"][0]["segmentation"])

    def test_polygons_are_what_opencv_finds(self):
        prompts = [{"points": [CLICK]}, {"box": BOX}]
        runs = self.client.sam3_visual_segment(str(PHOTO), prompts=prompts, mask_input_format="rle")
        for form in ("json", "polygon"):
            answer = self.client.sam3_visual_segment(str(PHOTO), prompts=prompts, mask_input_format=form)
            for drawn, run in zip(answer["predictions"], runs["predictions"]):
                mask = mask_of(run["masks"])
                self.assertEqual(drawn["format"], "polygon")
                self.assertTrue(all(isinstance(x, float) for ring in drawn["masks"] for pair in ring for x in pair))
                self.assertEqual(
                    sorted(map(canonical, drawn["masks"])), sorted(map(canonical, outer(mask))))
                self.assertTrue((filled(drawn["masks"], mask.shape) == filled(outer(mask), mask.shape)).all())

    def test_without_prompts_there_is_an_answer(self):
        answer = self.client.sam2_segment_image(str(PHOTO), mask_input_format="rle")
        expected = self.gateway.segment(self.photo, [{"box": [0, 0, 1024, 768]}], multimask=True)
        self.assertEqual(answer["predictions"][0]["masks"], best(expected)["segmentation"])

    def test_several_pictures_and_arrays(self):
        array = cv2.imdecode(numpy.frombuffer(self.photo, numpy.uint8), cv2.IMREAD_COLOR)
        answers = self.client.sam2_segment_image([str(PHOTO), array], prompts=[{"points": [CLICK]}])
        self.assertEqual(len(answers), 2)
        self.assertTrue(all(answer["predictions"][0]["masks"] for answer in answers))

    def test_asynchronous_twins(self):
        async def run():
            embedded = await self.client.sam3_embed_image_async(str(PHOTO))
            return embedded, await self.client.sam3_visual_segment_async(
                str(PHOTO), prompts=[{"points": [CLICK]}], mask_input_format="rle")

        embedded, answer = asyncio.run(run())
        self.assertEqual(set(embedded), {"image_id", "time", "model"})
        self.assertEqual(answer["predictions"][0]["format"], "rle")

    def test_embeds_under_a_name_that_later_requests_may_use(self):
        answer = self.client.sam3_embed_image(str(PHOTO), image_id="my photo")
        self.assertEqual(answer["image_id"], "my photo")
        status, segmented = self.post(
            "/sam3/visual_segment", image_id="my photo", image={"type": "base64", "value": None}, format="rle",
            prompts={"points": [CLICK]},
        )
        self.assertEqual(status, 200)
        expected = self.gateway.segment(
            self.photo, [{"points": [[512, 400]], "labels": [1]}], multimask=True)
        self.assertEqual(segmented["predictions"][0]["masks"], best(expected)["segmentation"])
        unnamed = self.client.sam3_embed_image(str(PHOTO))["image_id"]
        status, again = self.post("/sam2/segment_image", image_id=unnamed, format="rle", prompts=[{"points": [CLICK]}])
        self.assertEqual(again["predictions"], segmented["predictions"])

    def test_server_and_models(self):
        self.assertEqual(self.client.get_server_info().name, "Kirie")
        models = self.client.list_loaded_models().models
        self.assertEqual([model.task_type for model in models], ["instance-segmentation"])
        self.assertEqual(self.client.load_model("sam2/hiera_tiny").models, models)
        self.assertEqual(self.client.unload_all_models().models, models)
        self.assertEqual(self.gateway.exchange("/healthz")[2], {"status": "healthy"})
        self.assertEqual(self.gateway.exchange("/readiness")[2], {"status": "ready"})

    def test_errors_reach_the_client_in_its_own_words(self):
        cases = [
            ([{"points": [{"x": 99999, "y": 5, "positive": True}]}], "outside the picture"),
            ([{"box": {"x": 1, "y": 1, "width": 0, "height": 3}}], "width and a height above 0"),
            ([{"points": [{"x": "a", "y": 5, "positive": True}]}], "prompts[0].points[0].x"),
        ]
        for prompts, words in cases:
            with self.assertRaises(HTTPCallErrorError) as raised:
                self.client.sam2_segment_image(str(PHOTO), prompts=prompts)
            self.assertEqual(raised.exception.status_code, 400)
            self.assertIn(words, raised.exception.api_message)
        for body, words in [
            (b"{", "not JSON"), (b"[]", "object"), ({"image": {"type": "url", "value": "http://a/b"}}, "by URL"),
            ({"image": {"type": "numpy", "value": "gASV"}}, "base64 is expected"),
            ({"image": {"type": "base64", "value": "%%%"}}, "not base64"),
            ({"image": {"type": "base64", "value": "AAAA"}}, "picture"),
            ({"image_id": "nobody's"}, "no picture is known"), ({}, "a picture is needed"),
            ({"image": self.image(), "format": "tiff"}, "format"), ({"image": self.image(), "prompts": 3}, "prompts"),
            ({"image": [self.image(), self.image()]}, "one picture"),
        ]:
            status, answer = self.gateway.post("/sam2/segment_image", body)
            self.assertEqual(status, 400, answer)
            self.assertIn(words, answer["message"])
        for prompts in ([{"type": "text", "text": "xylotomy"}], [{"type": "visual", "boxes": []}], []):
            with self.assertRaises(HTTPCallErrorError) as raised:
                self.client.sam3_concept_segment(str(PHOTO), prompts=prompts)
            self.assertEqual(raised.exception.status_code, 400)

    def test_concepts_are_words(self):
        prompts = [{"type": "text", "text": "lemon"}, {"type": "text", "text": "a zebra"}]
        for form in ("polygon", "rle"):
            answer = self.client.sam3_concept_segment(str(PHOTO), prompts=prompts, output_prob_thresh=0.3, format=form)
            first, second = answer["prompt_results"]
            self.assertEqual(first["echo"]["text"], "lemon")
            self.assertEqual((first["prompt_index"], second["prompt_index"]), (0, 1))
            self.assertEqual(second["predictions"], [])
            for prediction in first["predictions"]:
                self.assertEqual(prediction["format"], form)
                self.assertGreaterEqual(prediction["confidence"], 0.3)

    # The raw routes.

    def test_embeddings_are_the_record_s_in_both_forms(self):
        status, head, file = self.gateway.exchange(
            "/sam/embed_image", {"image": self.image(), "image_id": "e", "format": "binary"})
        self.assertEqual((status, head["Content-Type"]), (200, "application/octet-stream"))
        array = numpy.load(io.BytesIO(file))
        self.assertEqual((array.dtype, array.ndim, array.shape[0]), (numpy.float32, 4, 1))
        self.assertTrue(numpy.array_equal(array, array.astype(numpy.float16).astype(numpy.float32)))
        self.assertTrue(head["X-Model-Id"])
        status, answer = self.post("/sam/embed_image", image_id="e")
        self.assertEqual(status, 200)
        self.assertTrue(numpy.array_equal(numpy.array(answer["embeddings"], numpy.float32), array))

    def test_sam_1_in_its_three_forms(self):
        body = {"image": self.image(), "point_coords": [[512, 400], [0, 0]], "point_labels": [1, -1]}
        expected = self.gateway.segment(self.photo, [{"points": [[512, 400]], "labels": [1]}], logits=True)
        mask = mask_of(expected["masks"][0]["segmentation"])
        longest = max(outer(mask), key=len)
        status, answer = self.post("/sam/segment_image", **body)
        self.assertEqual(status, 200)
        self.assertEqual(canonical(answer["masks"][0]), canonical(longest))
        self.assertEqual(len(answer["low_res_masks"]), 1)
        self.assertEqual(answer["model"], expected["model"])
        self.assertEqual(
            self.post("/sam/segment_image", **body, format="rle")[1]["masks"], [expected["masks"][0]["segmentation"]])
        status, head, file = self.gateway.exchange("/sam/segment_image", {**body, "format": "binary"})
        arrays = numpy.load(io.BytesIO(file))
        self.assertEqual(set(arrays.files), {"masks", "low_res_masks"})
        self.assertEqual(arrays["masks"].dtype, bool)
        self.assertTrue(numpy.array_equal(arrays["masks"][0], mask))
        logits = expected["masks"][0]["logits"]
        import base64

        wanted = numpy.frombuffer(base64.b64decode(logits["logits"]), "<f4").reshape(logits["side"], -1)
        self.assertTrue(numpy.array_equal(arrays["low_res_masks"], wanted[None]))

    def test_binary_masks_of_several_prompts(self):
        status, _, file = self.gateway.exchange(
            "/sam2/segment_image",
            {"image": self.image(), "format": "binary", "prompts": [{"points": [CLICK]}, {"box": BOX}]},
        )
        arrays = numpy.load(io.BytesIO(file))
        runs = self.post(
            "/sam2/segment_image", image=self.image(), format="rle", prompts=[{"points": [CLICK]}, {"box": BOX}])[1]
        self.assertEqual(arrays["masks"].shape, (2, 768, 1024))
        self.assertEqual(arrays["low_res_masks"].shape[0], 2)
        for mask, prediction in zip(arrays["masks"], runs["predictions"]):
            for found in (mask > 0, mask >= 0.0):
                self.assertTrue(numpy.array_equal(found, mask_of(prediction["masks"])))

    def test_logits_are_saved_and_loaded(self):
        def segment(points, **flags):
            status, answer = self.post(
                "/sam3/visual_segment", image_id="refined", format="rle", multimask_output=False,
                prompts=[{"points": points}], **flags,
            )
            self.assertEqual(status, 200, answer)
            return answer["predictions"][0]["masks"]

        self.assertEqual(self.post("/sam3/embed_image", image=self.image(picture(3)), image_id="refined")[0], 200)
        first, second = {"x": 96, "y": 120, "positive": True}, {"x": 230, "y": 120, "positive": False}
        plain = segment([first, second])
        # Nothing was saved: that is no error.
        self.assertEqual(segment([first, second], load_logits_from_cache=True), plain)
        segment([first], save_logits_to_cache=True)
        refined = segment([first, second], load_logits_from_cache=True)
        prior = self.gateway.segment(
            picture(3), [{"points": [[96, 120]], "labels": [1]}], refine=True)
        expected = self.gateway.segment(
            picture(3),
            [{"points": [[96, 120], [230, 120]], "labels": [1, 0], "mask": {"job": prior["id"], "index": 0}}],
        )
        self.assertEqual(refined, expected["masks"][0]["segmentation"])
        self.assertNotEqual(refined, plain)
        # Other points are no refinement of these.
        self.assertEqual(
            segment([second, {**first, "x": 90}], load_logits_from_cache=True),
            segment([second, {**first, "x": 90}]),
        )

    def test_sam_1_refines_by_its_memory_and_by_what_it_is_given(self):
        body = {"image": self.image(picture(4)), "image_id": "one", "point_coords": [[96, 120]], "point_labels": [1]}
        status, _, file = self.gateway.exchange("/sam/segment_image", {**body, "format": "binary"})
        low = numpy.load(io.BytesIO(file))["low_res_masks"]
        more = {"image_id": "one", "point_coords": [[96, 120], [230, 120]], "point_labels": [1, 0], "format": "rle"}
        remembered = self.post("/sam/segment_image", **more, has_mask_input=True)[1]["masks"]
        buffer = io.BytesIO()
        numpy.save(buffer, low[None])
        given = self.post(
            "/sam/segment_image", **more, has_mask_input=True, mask_input=base64_of(buffer.getvalue()),
            mask_input_format="binary",
        )[1]["masks"]
        self.assertEqual(remembered, given)
        outline = self.post("/sam/segment_image", **{**body, "format": "json"})[1]["low_res_masks"]
        status, drawn = self.post("/sam/segment_image", **more, has_mask_input=True, mask_input=outline)
        self.assertEqual(status, 200, drawn)
        for bad in ("AAAA", [[["x", 1], [2, 3], [4, 5]]], 7):
            status, answer = self.post("/sam/segment_image", **more, has_mask_input=True, mask_input=bad)
            self.assertEqual(status, 400)
            self.assertIn("mask_input", answer["message"])


class KeyTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        warnings.simplefilter("ignore")
        cls.gateway = Gateway()
        cls.folder = tempfile.TemporaryDirectory()
        keys = pathlib.Path(cls.folder.name, "keys.jsonl")
        cls.first, line = cls.gateway.key("first")
        cls.second, other = cls.gateway.key("second")
        keys.write_text(line + other)
        cls.url = cls.gateway.another("--keys", keys)

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()
        cls.folder.cleanup()

    def test_the_key_is_taken_wherever_the_client_puts_it(self):
        photo = base64_of(picture(1))
        prompt = [{"points": [{"x": 96, "y": 120, "positive": True}]}]
        for transport in (ApiKeyTransport.LEGACY, ApiKeyTransport.BOTH, ApiKeyTransport.HEADER):
            client = InferenceHTTPClient(self.url, self.first)
            client.configure(InferenceConfiguration(api_key_transport=transport))
            self.assertEqual(len(client.sam2_segment_image(photo, prompts=prompt)["predictions"]), 1)
            self.assertEqual(len(client.list_loaded_models().models), 1)
            client.get_server_info()
        hosted = InferenceHTTPClient(self.url, self.first)
        hosted.select_api_v0()
        self.assertEqual(len(hosted.sam3_visual_segment(photo, prompts=prompt)["predictions"]), 1)

    def test_others_are_refused_in_the_client_s_words(self):
        for key in ("wrong", None):
            with self.assertRaises(HTTPCallErrorError) as raised:
                InferenceHTTPClient(self.url, key).sam3_embed_image(base64_of(picture(1)))
            self.assertEqual(raised.exception.status_code, 401)
            self.assertIn("API key", raised.exception.api_message)

    def test_pictures_are_fetched_where_that_is_allowed(self):
        url = self.gateway.another("--fetch-urls")
        status, answer = self.gateway.post(
            "/sam3/embed_image", {"image": {"type": "url", "value": self.gateway.url + "/samples/tea.jpg"}}, base=url)
        self.assertEqual(status, 400)
        self.assertIn("not public", answer["message"])

    def test_a_name_belongs_to_one_key(self):
        def embed(key, file, name="shared name"):
            return InferenceHTTPClient(self.url, key).sam3_embed_image(base64_of(file), image_id=name)

        def segment(key):
            return self.gateway.post(
                "/sam3/visual_segment",
                {
                    "api_key": key, "image_id": "shared name", "format": "rle",
                    "prompts": [{"points": [{"x": 96, "y": 120, "positive": True}]}],
                },
                base=self.url,
            )

        embed(self.first, picture(11, 320, 240))
        # Nobody else can read it,
        status, answer = segment(self.second)
        self.assertEqual(status, 400)
        self.assertIn("no picture is known", answer["message"])
        # or put something else in its place;
        embed(self.second, picture(12, 200, 300))
        self.assertEqual(segment(self.first)[1]["predictions"][0]["masks"]["size"], [240, 320])
        self.assertEqual(segment(self.second)[1]["predictions"][0]["masks"]["size"], [300, 200])
        # its owner can.
        embed(self.first, picture(13, 300, 260))
        self.assertEqual(segment(self.first)[1]["predictions"][0]["masks"]["size"], [260, 300])
        self.assertEqual(segment(self.second)[1]["predictions"][0]["masks"]["size"], [300, 200])


if __name__ == "__main__":
    unittest.main()
