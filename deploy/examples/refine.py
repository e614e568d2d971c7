#!/usr/bin/env python3
"""Cuts an object out of a picture over HTTP, with a second click that takes something away.

    kirie up                                                                    # in another terminal
    python3 deploy/examples/refine.py photo.jpg cutout.png 920,560 700,640      # the object; not this

Needs nothing but Python. KIRIE_GATEWAY is the address that `kirie up` prints; KIRIE_KEY a key where one is asked for.
"""

import json
import os
import sys
import urllib.request

GATEWAY = os.environ.get("KIRIE_GATEWAY", "http://127.0.0.1:8080/").rstrip("/")


def ask(path, body, kind="application/json"):
    """The answer to a POST, as it came."""
    headers = {"Content-Type": kind}
    if os.environ.get("KIRIE_KEY"):
        headers["Authorization"] = f"Bearer {os.environ['KIRIE_KEY']}"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(GATEWAY + path, data=data, headers=headers)
    with urllib.request.urlopen(request) as response:
        return response.read()


def main(picture, cutout, *clicks):
    points = [[float(number) for number in click.split(",")] for click in clicks]
    with open(picture, "rb") as file:
        # Once: from here on the picture is known by its content.
        image = json.loads(ask("/v1/images", file.read(), "application/octet-stream"))
    line = {"image": {"sha256": image["sha256"]}, "multimask": True, "refine": True}
    first = json.loads(ask("/v1/segment", {**line, "prompts": [{"points": points[:1]}]}))
    best = max(range(len(first["masks"])), key=lambda index: first["masks"][index]["score"])
    print(f"{len(first['masks'])} readings; the best has {first['masks'][best]['area']} pixels")
    # The mask of the first answer, by its name: its logits stay where they are.
    prompt = {
        "points": points,
        "labels": [1] + [0] * (len(points) - 1),
        "mask": {"job": first["id"], "index": best},
    }
    with open(cutout, "wb") as file:
        file.write(ask("/v1/segment?view=cutout&crop=1", {**line, "multimask": False, "prompts": [prompt]}))
    print(f"wrote {cutout}")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
