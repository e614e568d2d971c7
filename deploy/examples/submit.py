#!/usr/bin/env python3
"""Submits a photo and a prompt to a Kirie cluster, waits, and saves the mask as a PNG. Needs redis-py, nothing else.

    submit.py photo.jpg mask.png --point 500,375 --box 10,20,400,300 --redis redis://localhost:6379/0

The functions that it calls are described in Sources/Cluster/Cluster.docc/Protocol.md.
"""
import argparse, hashlib, json, os, struct, sys, uuid, zlib
import redis

def runs(text):  # COCO's compressed run lengths: 5 bits a character, each from the third on as a difference
    counts, at = [], 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[at]) - 48
            value |= (bits & 31) << shift
            more, at, shift = bits & 32, at + 1, shift + 5
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts

def png(segmentation):  # run lengths go down the columns, starting with background; a PNG goes along the rows
    height, width = segmentation["size"]
    column_major = b"".join((b"\0", b"\xff")[i % 2] * n for i, n in enumerate(runs(segmentation["counts"])))
    rows = b"".join(b"\0" + column_major[y::height] for y in range(height))
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("image"), options.add_argument("mask")
options.add_argument("--point", action="append", default=[], metavar="X,Y[,LABEL]")
options.add_argument("--box", metavar="X0,Y0,X1,Y1")
options.add_argument("--redis", default=os.environ.get("KIRIE_REDIS", "redis://localhost:6379/0"))
given = options.parse_args()
points = [[float(n) for n in point.split(",")] for point in given.point]
prompt = {"points": [p[:2] for p in points], "labels": [int(p[2]) if len(p) > 2 else 1 for p in points]} if points else {}
if given.box:
    prompt["box"] = [float(n) for n in given.box.split(",")]

server = redis.Redis.from_url(given.redis, password=os.environ.get("KIRIE_REDIS_PASSWORD"))
photo = open(given.image, "rb").read()
sha = hashlib.sha256(photo).hexdigest()
prefix = "kirie:{%d}:" % (int(sha[:8], 16) % int(server.hget("kirie:cluster", "partitions") or 16))
model = server.hget("kirie:models", "default") or sys.exit("no worker has announced a model: start kirie up")
job, line = uuid.uuid4().hex, json.dumps({"image": {"sha256": sha}, "prompts": [prompt], "output": "rle"})
server.fcall("kirie_image", 1, prefix, sha, photo)
server.fcall("kirie_submit", 1, prefix, "", job, "interactive", sha, model, 0, line)
server.blmove(prefix + "done:" + job, prefix + "done:" + job, 0)
result = server.get(prefix + "result:" + job)
if result is None:
    sys.exit("%s: %s" % tuple((server.hget(prefix + "job:" + job, f) or b"").decode() for f in ("state", "error")))
best = max(json.loads(result)["masks"], key=lambda mask: mask["score"])
open(given.mask, "wb").write(png(best["segmentation"]))
print("%s: score %.3f, %d pixels" % (given.mask, best["score"], best["area"]))
