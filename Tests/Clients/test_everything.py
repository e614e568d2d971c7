"""Everything mode and texts over HTTP, and their files as the tools that people have read them."""

import csv
import json
import pathlib
import subprocess
import tempfile
import time
import unittest

import numpy
from PIL import Image
from pycocotools import mask as runs
from pycocotools.coco import COCO

import gateway
from test_api import connect, upload as send

STILL_LIFE = gateway.ROOT / "Sources" / "Gateway" / "Pages" / "samples" / "still-life.jpg"
JSON = {"Content-Type": "application/json"}


def setUpModule():
    global kirie
    import test_api

    kirie = test_api.kirie = gateway.Gateway("--model", "kirie-tiny")


def tearDownModule():
    kirie.stop()


def ask(path, body, headers={}):
    return kirie.exchange(path, json.dumps(body).encode(), {**JSON, **headers})


class Everything(unittest.TestCase):
    def test_the_masks_are_those_of_the_command(self):
        sha = send(STILL_LIFE.read_bytes())
        status, head, answer = ask("/v1/everything", {"image": {"sha256": sha}, "everything": {"points_per_side": 16}})
        self.assertEqual(status, 200, answer)
        self.assertGreater(len(answer["masks"]), 5)
        with tempfile.TemporaryDirectory() as folder:
            command = [gateway.program(), "everything", STILL_LIFE, "--points-per-side", "16", "--redis", kirie.redis]
            subprocess.run([*command, "-o", f"{folder}/masks", "--write", "masks,rle"], check=True, capture_output=True)
            records = json.loads(pathlib.Path(folder, "masks", "still-life.json").read_text())
            self.assertEqual(
                [one["segmentation"] for one in records], [one["segmentation"] for one in answer["masks"]])
            rows = list(csv.DictReader(open(pathlib.Path(folder, "masks", "still-life", "metadata.csv"))))
            self.assertEqual(len(rows), len(records))
            for row, record in zip(rows, records):
                picture = numpy.array(Image.open(pathlib.Path(folder, "masks", "still-life", f"{row['id']}.png")))
                mask = runs.decode(record["segmentation"])
                self.assertTrue(numpy.array_equal(picture, mask * 255))
                self.assertEqual(int(row["area"]), mask.sum())
                self.assertEqual(int(row["area"]), int(runs.area(record["segmentation"])))

    def test_a_dataset_is_one_for_pycocotools(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/dataset.json"
            subprocess.run(
                [gateway.program(), "everything", STILL_LIFE, gateway.PHOTO, "--model", "kirie-tiny", "--points-per-side",
                 "12", "-o", path], check=True, capture_output=True)
            dataset = COCO(path)
            self.assertEqual(len(dataset.getImgIds()), 2)
            for one in dataset.loadAnns(dataset.getAnnIds()):
                mask = dataset.annToMask(one)
                self.assertEqual(mask.sum(), one["area"])
                self.assertEqual([int(n) for n in runs.toBbox(one["segmentation"])], one["bbox"])

    def test_a_job_of_many_parts_is_one_job(self):
        sha = send(gateway.PHOTO.read_bytes())
        status, head, answer = ask(
            "/v1/everything", {"image": {"sha256": sha}, "everything": {"points_per_side": 20, "points_per_batch": 8}},
            {"Prefer": "respond-async"})
        self.assertEqual(status, 202, answer)
        deadline, parts = time.monotonic() + gateway.PATIENCE, None
        while True:
            status, _, job = kirie.exchange(head["Location"])
            self.assertEqual(status, 200)
            parts = job.get("parts", parts)
            if job["state"] == "done":
                break
            self.assertIn(job["state"], ("queued", "in_work", "waiting_parts", "waiting_embedding"))
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.assertGreater(len(job["result"]["masks"]), 2)

    def test_masks_come_as_they_are_found(self):
        sha = send(gateway.PHOTO.read_bytes())
        # A job that is done before anyone looks shows nothing on its way; then a larger one is asked for.
        for side in (24, 48, 64):
            everything = {"points_per_side": side, "points_per_batch": 8}
            status, head, answer = ask(
                "/v1/everything", {"image": {"sha256": sha}, "everything": everything}, {"Prefer": "respond-async"})
            self.assertEqual(status, 202, answer)
            connection = connect()
            connection.request("GET", head["Location"] + "/events?masks=1")
            seen = list(gateway.events(connection.getresponse()))
            self.assertEqual(seen[-1][0], "done")
            found = [one for name, data in seen if name == "masks" for one in data["masks"]]
            if found:
                break
        self.assertTrue(found)
        self.assertTrue(all(data["provisional"] and data["id"] == answer["id"] for name, data in seen if name == "masks"))
        # They are weighed against each other in the end: no more stay than were found.
        kept = [json.dumps(one["segmentation"]) for one in seen[-1][1]["masks"]]
        self.assertTrue(set(kept) & {json.dumps(one["segmentation"]) for one in found})
        connection = connect()
        connection.request("GET", head["Location"] + "/events")
        self.assertNotIn("masks", [name for name, _ in gateway.events(connection.getresponse())])
        connection = connect()
        connection.request("GET", head["Location"] + "/events?masks=all")
        self.assertEqual(connection.getresponse().status, 400)

    def test_examples_rank_what_was_found(self):
        sha = send(STILL_LIFE.read_bytes())
        status, _, answer = ask(
            "/v1/everything", {"image": {"sha256": sha}, "everything": {"like": [[917, 556]], "like_thresh": 0.3}})
        self.assertEqual(status, 200, answer)
        scores = [one["similarity"] for one in answer["masks"]]
        self.assertTrue(scores and scores == sorted(scores, reverse=True) and min(scores) >= 0.3)

    def test_nonsense_is_said(self):
        sha = send(STILL_LIFE.read_bytes())
        for everything, words in (
            ({"points_per_side": 10000}, "10000"), ({"points": 3}, "no such parameter"), (7, "everything"),
            ({"point_grids": [[[0.5, 2]]]}, "0 to 1"), ({"like": [[1, 2, 3]]}, "points [x, y]"),
            ({"like": [[99999, 5]]}, "outside"),
        ):
            status, head, answer = ask("/v1/everything", {"image": {"sha256": sha}, "everything": everything})
            self.assertIn(status, (400, 422), answer)
            self.assertIn("problem+json", head["Content-Type"])
            self.assertIn(words, json.dumps(answer), everything)


class Texts(unittest.TestCase):
    def test_a_word_finds_its_things(self):
        sha = send(STILL_LIFE.read_bytes())
        prompt = {"image": {"sha256": sha}, "prompts": [{"text": "lemon"}, {"text": "a lemon"}]}
        status, _, answer = ask("/v1/segment", prompt)
        self.assertEqual(status, 200, answer)
        first, second = answer["masks"]
        self.assertEqual((first["prompt"], second["prompt"]), (0, 1))
        self.assertEqual(first["segmentation"], second["segmentation"])
        self.assertGreater(first["similarity"], 0.3)
        # In front of the others, to the right.
        self.assertGreater(first["bbox"][0], 500)

    def test_one_unknown_word_is_no_fault_of_the_others(self):
        sha = send(STILL_LIFE.read_bytes())
        prompts = [{"text": "lemon"}, {"text": "xylotomy"}, {"points": [[917, 556]]}]
        status, _, answer = ask("/v1/segment", {"image": {"sha256": sha}, "prompts": prompts, "instances": "all"})
        self.assertEqual(status, 200, answer)
        self.assertEqual({one["prompt"] for one in answer["masks"]}, {0, 2})
        self.assertEqual([one["prompt"] for one in answer["errors"]], [1])
        self.assertIn("vocabulary", answer["errors"][0]["error"])

    def test_a_vocabulary_names_what_is_found(self):
        sha = send(STILL_LIFE.read_bytes())
        vocabulary = ["lemon", "cup", "car"]
        status, _, answer = ask("/v1/everything", {"image": {"sha256": sha}, "everything": {"labels": vocabulary}})
        self.assertEqual(status, 200, answer)
        there = sorted((one["label"], one["area"], one["bbox"], round(one["similarity"], 4)) for one in answer["masks"])
        self.assertIn("lemon", {label for label, *_ in there})
        self.assertNotIn("car", {label for label, *_ in there})
        # The process itself says the same, and its files tools read.
        with tempfile.TemporaryDirectory() as folder:
            words = [word for label in vocabulary for word in ("--label", label)]
            subprocess.run(
                [gateway.program(), "everything", STILL_LIFE, "--model", "kirie-tiny", *words, "-o", folder, "--write",
                 "coco,classes,yolo,masks,rle"], check=True, capture_output=True)
            stem = pathlib.Path(folder) / STILL_LIFE.stem
            dataset = COCO(f"{folder}/annotations.json")
            names = {one["id"]: one["name"] for one in dataset.loadCats(dataset.getCatIds())}
            self.assertEqual([names[number] for number in sorted(names)], vocabulary)
            annotations = dataset.loadAnns(dataset.getAnnIds())
            # The cluster keeps embeddings in 16 bits, which moves a few pixels at the edges.
            here = sorted((names[one["category_id"]], one["area"]) for one in annotations)
            self.assertEqual([label for label, _ in here], [label for label, *_ in there])
            for (_, mine), (_, theirs, *_) in zip(here, there):
                self.assertAlmostEqual(mine, theirs, delta=0.02 * theirs)
            self.assertEqual(pathlib.Path(f"{folder}/classes.txt").read_text().split("\n")[:3], vocabulary)
            classes = numpy.array(Image.open(f"{stem}-classes.png"))
            for one in annotations:
                mask = dataset.annToMask(one).astype(bool)
                self.assertGreater((classes[mask] == one["category_id"]).mean(), 0.5)
            lines = stem.with_suffix(".txt").read_text().splitlines()
            self.assertEqual(
                sorted(vocabulary[int(line.split()[0])] for line in lines), [label for label, *_ in there])
            rows = list(csv.DictReader(open(f"{stem}/metadata.csv")))
            self.assertEqual(sorted(row["label"] for row in rows), [label for label, *_ in there])
            records = json.loads(pathlib.Path(f"{stem}.json").read_text())
            self.assertEqual(sorted(one["label"] for one in records), [label for label, *_ in there])

    def test_a_vocabulary_that_makes_no_sense_is_refused(self):
        sha = send(STILL_LIFE.read_bytes())
        for labels, words in (
            (["lemon", "giraffe"], "nearest"), (["lemon", "lemon"], "once more"), ("lemon", "list of texts"),
            ([" "], "empty"),
        ):
            status, head, answer = ask("/v1/everything", {"image": {"sha256": sha}, "everything": {"labels": labels}})
            self.assertIn(status, (400, 422), answer)
            self.assertIn(words, json.dumps(answer), labels)

    def test_words_that_mean_nothing_are_refused(self):
        sha = send(STILL_LIFE.read_bytes())
        for text, words in (("", "empty"), ("x" * 5000, "bytes"), ("giraffe", "nearest"), ("レモン", "vocabulary")):
            status, head, answer = ask("/v1/segment", {"image": {"sha256": sha}, "prompts": [{"text": text}]})
            self.assertIn(status, (400, 422), answer)
            self.assertIn(words, json.dumps(answer, ensure_ascii=False), text)

    def test_capabilities_say_so(self):
        status, _, answer = kirie.exchange("/v1/capabilities")
        self.assertEqual(status, 200)
        self.assertTrue(answer["everything"] and "text" in answer["prompts"])


if __name__ == "__main__":
    unittest.main()
