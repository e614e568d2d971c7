#!/usr/bin/env python3
"""Writes the fixtures beside it and in SegmentationTests/Fixtures: small pictures and what Pillow, OpenCV and pycocotools make of them.

    python3 -m venv .venv && .venv/bin/pip install pillow numpy opencv-python-headless pycocotools
    .venv/bin/python Tests/ImagingTests/Fixtures/make_fixtures.py    (Debian: apt install libturbojpeg0, for one YCCK file)

Made with Pillow 13.0.0, OpenCV 5.0.0, NumPy 2.4.6. Pixels are kept as their FNV-1a hash, 64 bits.
"""
import ctypes, io, json, pathlib, struct, zlib
import cv2
import numpy as np
from PIL import Image, ImageOps
from pycocotools import mask as coco

HERE = pathlib.Path(__file__).parent
RLE = HERE.parent.parent / "SegmentationTests" / "Fixtures"
MASK64 = (1 << 64) - 1


def fnv(data):
    h = 0xCBF29CE484222325
    for b in bytes(data):
        h = ((h ^ b) * 0x100000001B3) & MASK64
    return f"{h:016x}"


def noise(count, seed=0):
    """Bytes that the tests make again: the upper byte of a scrambled index."""
    i = np.arange(count, dtype=np.uint64) + np.uint64(seed * 1_000_003 + 1)
    with np.errstate(over="ignore"):
        i = (i ^ (i >> np.uint64(15))) * np.uint64(0x9E3779B97F4A7C15)
        i = (i ^ (i >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (i >> np.uint64(56)).astype(np.uint8)


def photo(w, h, channels=3):
    """A picture with slopes, edges and a little noise."""
    y, x = np.mgrid[0:h, 0:w].astype(float)
    planes = [127 + 90 * np.sin(x / (7 + 3 * c) + c) * np.cos(y / (9 - c)) for c in range(channels)]
    p = np.stack(planes, -1)
    p[(x - w * 0.6) ** 2 + (y - h * 0.4) ** 2 < (h * 0.25) ** 2] = [230, 40, 60, 90][:channels]
    p[(x > w * 0.1) & (x < w * 0.35) & (y > h * 0.55)] = [20, 200, 240, 10][:channels]
    p += noise(h * w * channels, 3).reshape(h, w, channels) / 16.0
    return np.clip(p, 0, 255).astype(np.uint8)


expected = {}


def keep(name, data, rgb=None):
    """One fixture and its pixels: Pillow's, unless another answer is given."""
    (HERE / name).write_bytes(data)
    if rgb is None:
        rgb = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    expected[name] = dict(width=rgb.shape[1], height=rgb.shape[0], fnv=fnv(np.ascontiguousarray(rgb).tobytes()))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(w, h, color, bits, samples, *extra, interlace=0):
    """A PNG of one's own; samples is (H, W, C) of whole numbers. Every row has another filter type."""
    channels = samples.shape[2]

    def rows(part):
        out, bpp = b"", max(1, channels * bits // 8)
        before = None
        for k, row in enumerate(part):
            flat = row.reshape(-1)
            if bits == 16:
                raw = flat.astype(">u2").tobytes()
            elif bits == 8:
                raw = flat.astype(np.uint8).tobytes()
            else:
                raw = np.packbits(
                    ((flat[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).reshape(-1)).tobytes()
            before = before or bytes(len(raw))
            left = bytes(bpp) + raw
            kind = k % 5
            line = bytearray()
            for i, v in enumerate(raw):
                a, b = left[i], before[i]
                c = before[i - bpp] if i >= bpp else 0
                p = a + b - c
                paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
                line.append((v - [0, a, b, (a + b) // 2, paeth][kind]) & 255)
            out += bytes([kind]) + bytes(line)
            before = raw
        return out

    if interlace:
        adam7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        raw = b"".join(rows(s) for x, y, dx, dy in adam7 if (s := samples[y::dy, x::dx]).size)
    else:
        raw = rows(samples)
    packed = zlib.compress(raw, 9)
    half = len(packed) // 2
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, color, 0, 0, interlace))
            + b"".join(extra) + chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:]) + chunk(b"IEND", b""))


def exif(orientation, order):
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(
        order + "IHHHIHHHHII", 8, 2, 0x0112, 3, 1, orientation, 0, 0x0128, 3, 1, 0x20000) + bytes(4)


def pngs():
    w, h = 19, 13
    gama = chunk(b"gAMA", struct.pack(">I", 100000))
    wide = (noise(w * h * 4, 5).astype(np.uint32) << 8 | noise(w * h * 4, 6)).reshape(h, w, 4)
    for interlace in (0, 1):
        i = "i" if interlace else ""
        for bits in (1, 2, 4, 8):
            s = wide[:, :, :1] >> (16 - bits)
            keep(f"gray{bits}{i}.png", png(w, h, 0, bits, s, gama, interlace=interlace))
            keep(f"palette{bits}{i}.png", png(
                w, h, 3, bits, s % 13, *[chunk(b"PLTE", noise(3 * min(11, 2 ** bits), 7).tobytes())],
                chunk(b"tRNS", b"\0\x80"), interlace=interlace))
        upper = (wide >> 8).astype(np.uint8)
        # Pillow clips 16-bit grey at 255; the upper byte is what is wanted here.
        keep(f"gray16{i}.png", png(w, h, 0, 16, wide[:, :, :1], gama, interlace=interlace),
             np.repeat(upper[:, :, :1], 3, 2))
        keep(f"gray-alpha8{i}.png", png(w, h, 4, 8, wide[:, :, :2] >> 8, gama, interlace=interlace))
        keep(f"gray-alpha16{i}.png", png(w, h, 4, 16, wide[:, :, :2], gama, interlace=interlace))
        keep(f"rgb8{i}.png", png(w, h, 2, 8, wide[:, :, :3] >> 8, gama, chunk(b"tRNS", bytes(6)), interlace=interlace))
        keep(f"rgb16{i}.png", png(w, h, 2, 16, wide[:, :, :3], gama, interlace=interlace))
        keep(f"rgba8{i}.png", png(w, h, 6, 8, wide >> 8, gama, interlace=interlace))
        opaque = np.concatenate([wide[:, :, :3], np.full_like(wide[:, :, :1], 65535)], 2)
        keep(f"rgba16{i}.png", png(w, h, 6, 16, opaque, gama, interlace=interlace))
    keep("profile.png", png(w, h, 2, 8, wide[:, :, :3] >> 8, chunk(b"sRGB", b"\0"),
                            chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
                            chunk(b"tEXt", b"Comment\0kirie"), chunk(b"pHYs", struct.pack(">IIB", 1, 1, 0))))
    keep("turned.png", png(w, h, 2, 8, wide[:, :, :3] >> 8, chunk(b"eXIf", exif(6, ">"))))
    keep("one.png", png(1, 1, 2, 8, wide[:1, :1, :3] >> 8))


def jpegs():
    w, h = 61, 47
    rgb = Image.fromarray(photo(w, h))

    def save(im, **options):
        out = io.BytesIO()
        im.save(out, "JPEG", **options)
        return out.getvalue()

    for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
        keep(f"baseline{name}.jpg", save(rgb, quality=88, subsampling=sampling))
        keep(f"progressive{name}.jpg", save(rgb, quality=88, subsampling=sampling, progressive=True))
    for name, factor in (("411", 0x411111), ("440", 0x121111)):
        ok, data = cv2.imencode(".jpg", np.ascontiguousarray(photo(w, h)[:, :, ::-1]), [
            cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor])
        keep(f"baseline{name}.jpg", data.tobytes())
    keep("restarts.jpg", save(rgb, quality=70, restart_marker_blocks=3))
    keep("rgb.jpg", save(rgb, quality=90, keep_rgb=True))
    keep("gray.jpg", save(rgb.convert("L"), quality=90))
    keep("gray-progressive.jpg", save(rgb.convert("L"), quality=90, progressive=True))
    keep("tiny.jpg", save(rgb.crop((0, 0, 1, 1)), quality=90))
    keep("narrow.jpg", save(rgb.crop((0, 0, 3, 47)), quality=90))
    keep("cmyk.jpg", save(Image.fromarray(photo(w, h, 4), "CMYK"), quality=90))
    turbo = ctypes.CDLL("libturbojpeg.so.0")
    turbo.tjInitCompress.restype = ctypes.c_void_p
    out, size = ctypes.c_void_p(), ctypes.c_ulong()
    ink = np.ascontiguousarray(photo(w, h, 4))
    if turbo.tjCompress2(ctypes.c_void_p(turbo.tjInitCompress()), ink.ctypes.data_as(ctypes.c_void_p), w, 0, h, 11,
                         ctypes.byref(out), ctypes.byref(size), 2, 90, 0):
        raise SystemExit("TurboJPEG cannot write YCCK")
    keep("ycck.jpg", ctypes.string_at(out, size.value))
    small = rgb.crop((0, 0, 21, 14))
    for orientation in range(1, 9):
        order = "<>"[orientation % 2]
        keep(f"orientation{orientation}.jpg",
             save(small, quality=90, subsampling=0, exif=b"Exif\0\0" + exif(orientation, order)))


def resizes(resampling, name):
    cases = []
    for channels in (3, 1):
        for w, h, tw, th in [(180, 120, 102, 68), (37, 53, 64, 91), (64, 64, 32, 32), (101, 7, 13, 29), (1, 1, 5, 4),
                             (9, 1, 3, 1), (1, 9, 1, 20), (50, 40, 50, 13), (50, 40, 21, 40), (33, 21, 1, 1),
                             (255, 3, 2, 3), (320, 240, 1024, 768), (23, 17, 24, 18), (1000, 2, 7, 2),
                             (30, 300, 20, 100), (49, 500, 20, 204), (40, 90, 80, 45), (100, 200, 60, 119),
                             (100, 200, 60, 120), (100, 200, 60, 121), (60, 61, 90, 60), (61, 60, 30, 90)]:
            if channels == 1 and w > 200:
                continue
            pixels = noise(w * h * channels, w + h).reshape((h, w, channels) if channels == 3 else (h, w))
            out = np.asarray(Image.fromarray(pixels).resize((tw, th), resampling))
            case = dict(channels=channels, size=[w, h], target=[tw, th], fnv=fnv(np.ascontiguousarray(out).tobytes()))
            if out.size <= 60:
                case["pixels"] = out.reshape(-1).tolist()
            cases.append(case)
    (HERE / name).write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


def masks():
    """Masks from hard to soft: noise of several densities, blobs, and shapes that break tracers."""
    for seed, (h, w, density) in enumerate([(12, 16, 0.5), (9, 9, 0.3), (16, 7, 0.7), (11, 23, 0.5), (1, 1, 1.1),
                                            (1, 9, 0.5), (9, 1, 0.5), (20, 20, 0.9)]):
        yield (noise(h * w, 40 + seed).reshape(h, w) < density * 256).astype(np.uint8)
    for seed, (h, w) in enumerate([(40, 61), (65, 33), (64, 64), (130, 100)]):
        soft = cv2.GaussianBlur(noise(h * w, 60 + seed).reshape(h, w).astype(np.float32), (0, 0), 3)
        yield (soft > 127).astype(np.uint8)
    for picture in ["11111 10001 10101 10001 11111", "10101 01010 10101", "111 111 111", "000 000", "010 111 010",
                    "1111111 1000001 1011101 1010101 1011101 1000001 1111111"]:
        yield np.array([[int(c) for c in row] for row in picture.split()], np.uint8)


def contours():
    cases = []
    for m in masks():
        rings, tree = cv2.findContours(m.copy(), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        tree = tree[0] if len(rings) else []
        cases.append(dict(
            rows=["".join(map(str, row)) for row in m.tolist()],
            exteriors=[r.reshape(-1, 2).tolist() for r, t in zip(rings, tree) if t[3] < 0],
            holes=[r.reshape(-1, 2).tolist() for r, t in zip(rings, tree) if t[3] >= 0]))
    (HERE / "contours.json").write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")


def run_lengths():
    cases = []
    for m in masks():
        rle = coco.encode(np.asfortranarray(m))
        counts, value, run = [], 0, 0
        for v in m.T.reshape(-1).tolist():
            if v != value:
                counts.append(run)
                value, run = v, 0
            run += 1
        cases.append(dict(
            rows=["".join(map(str, row)) for row in m.tolist()], compressed=rle["counts"].decode(),
            counts=counts + [run], area=int(coco.area(rle)), bbox=[int(v) for v in coco.toBbox(rle)]))
    (RLE / "run-lengths.json").write_text(
        "[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    RLE.mkdir(exist_ok=True)
    pngs()
    jpegs()
    resizes(Image.Resampling.BILINEAR, "resizes.json")
    resizes(Image.Resampling.BICUBIC, "resizes-bicubic.json")
    contours()
    run_lengths()
    (HERE / "expected.json").write_text(
        "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in expected.items()) + "\n}\n")
