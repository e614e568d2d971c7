#!/usr/bin/env python3
"""Writes the WebP and TIFF fixtures beside it, pictures whose orientation stands in odd places, and formats.json: what Pillow makes of them.

    python3 -m venv .venv && .venv/bin/pip install pillow numpy opencv-python-headless pycocotools
    .venv/bin/python Tests/ImagingTests/Fixtures/make_formats.py

Made with Pillow 13.0.0 (libwebp 1.6.0, libtiff 4.7.2) and NumPy 2.4.6. Pixels are kept as their FNV-1a hash, 64 bits.
"""
import io, json, pathlib, struct, zlib
import numpy as np
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
MASK64 = (1 << 64) - 1
expected = {}


def fnv(data):
    h = 0xCBF29CE484222325
    for b in bytes(data):
        h = ((h ^ b) * 0x100000001B3) & MASK64
    return f"{h:016x}"


def noise(count, seed=0):
    i = np.arange(count, dtype=np.uint64) + np.uint64(seed * 1_000_003 + 1)
    with np.errstate(over="ignore"):
        i = (i ^ (i >> np.uint64(15))) * np.uint64(0x9E3779B97F4A7C15)
        i = (i ^ (i >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (i >> np.uint64(56)).astype(np.uint8)


def photo(w, h, channels=3):
    y, x = np.mgrid[0:h, 0:w].astype(float)
    planes = [127 + 90 * np.sin(x / (7 + 3 * c) + c) * np.cos(y / (9 - c)) for c in range(channels)]
    p = np.stack(planes, -1)
    p[(x - w * 0.6) ** 2 + (y - h * 0.4) ** 2 < (h * 0.25) ** 2] = [230, 40, 60, 90][:channels]
    p += noise(h * w * channels, 3).reshape(h, w, channels) / 16.0
    return np.clip(p, 0, 255).astype(np.uint8)


def keep(name, data, rgb=None):
    (HERE / name).write_bytes(data)
    if rgb is None:
        rgb = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    expected[name] = dict(width=rgb.shape[1], height=rgb.shape[0], fnv=fnv(np.ascontiguousarray(rgb).tobytes()))


def saved(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def exif(orientation, order="<"):
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def xmp(orientation, as_element=False):
    inner = (f"<rdf:Description><tiff:Orientation>{orientation}</tiff:Orientation></rdf:Description>" if as_element
             else f'<rdf:Description tiff:Orientation="{orientation}"/>')
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>{inner}</rdf:RDF></x:xmpmeta>'.encode()


def webps():
    w, h = 45, 31
    rgb = Image.fromarray(photo(w, h))
    rgba = Image.fromarray(np.dstack([photo(w, h), noise(w * h, 11).reshape(h, w) & 0xC0]))
    small = rgb.crop((0, 0, 13, 8))
    keep("lossy.webp", saved(rgb, "WEBP", quality=80))
    keep("lossless.webp", saved(rgb, "WEBP", lossless=True))
    keep("lossy-alpha.webp", saved(rgba, "WEBP", quality=70, alpha_quality=90, exact=True))
    keep("lossless-alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True))
    keep("tiny.webp", saved(rgb.crop((0, 0, 1, 1)), "WEBP", lossless=True))
    keep("exif6.webp", saved(small, "WEBP", lossless=True, exif=exif(6, ">")))
    keep("exif-prefixed3.webp", saved(small, "WEBP", lossless=True, exif=b"Exif\0\0" + exif(3)))
    keep("xmp8.webp", saved(small, "WEBP", lossless=True, xmp=xmp(8)))
    frames = [Image.fromarray(photo(w, h)), Image.fromarray(255 - photo(w, h))]
    keep("animated.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    keep("animated-lossy.webp", saved(
        rgba, "WEBP", save_all=True, append_images=[rgba.transpose(0)], quality=60, exact=True))
    # A first frame that covers a part of its canvas only.
    data = saved(small, "WEBP", lossless=True)
    pixels = data[12:12 + 8 + (len(data) - 20)]
    u24 = lambda v: struct.pack("<I", v)[:3]
    def riff(*chunks):
        body = b"WEBP" + b"".join(k + struct.pack("<I", len(d)) + d + b"\0" * (len(d) % 2) for k, d in chunks)
        return b"RIFF" + struct.pack("<I", len(body)) + body
    frame = u24(2) + u24(3) + u24(12) + u24(7) + u24(100) + b"\0" + pixels
    keep("offset-frame.webp", riff(
        (b"VP8X", bytes([2, 0, 0, 0]) + u24(29) + u24(19)), (b"ANIM", bytes([9, 9, 9, 255, 0, 0])), (b"ANMF", frame)))


def tiff(samples, bits, photometric, order="<", tile=None, rows=None, planar=False, extra=(), colors=None,
         orientation=None, big=False, deflate=False, xmp_packet=None, more=b"", fill=1, format=None):
    """A TIFF of one's own; samples is (H, W, C) of whole numbers."""
    h, w, c = samples.shape
    def packed(part):
        out = b""
        for row in part:
            flat = row.reshape(-1)
            if bits == 16:
                out += flat.astype(order + "u2").tobytes()
            else:
                out += np.packbits(((flat[:, None].astype(int) >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)).tobytes()
        if fill == 2:
            out = bytes(int(f"{b:08b}"[::-1], 2) for b in out)
        return zlib.compress(out, 9) if deflate else out
    blocks = []
    for plane in range(c if planar else 1):
        layer = samples[:, :, plane:plane + 1] if planar else samples
        if tile:
            tw, th = tile
            for y in range(0, h, th):
                for x in range(0, w, tw):
                    block = np.zeros((th, tw, layer.shape[2]), samples.dtype)
                    part = layer[y:y + th, x:x + tw]
                    block[:part.shape[0], :part.shape[1]] = part
                    blocks.append(packed(block))
        else:
            for y in range(0, h, rows or h):
                blocks.append(packed(layer[y:y + (rows or h)]))
    tags = {256: (4, [w]), 257: (4, [h]), 258: (3, [bits] * c), 259: (3, [8 if deflate else 1]), 262: (3, [photometric]),
            277: (3, [c]), 284: (3, [2 if planar else 1])}
    if tile:
        tags |= {322: (4, [tile[0]]), 323: (4, [tile[1]]), 324: (4, blocks), 325: (4, [len(b) for b in blocks])}
    else:
        tags |= {273: (4, blocks), 278: (4, [rows or h]), 279: (4, [len(b) for b in blocks])}
    if extra: tags[338] = (3, list(extra))
    if colors is not None: tags[320] = (3, colors)
    if orientation: tags[274] = (3, [orientation])
    if xmp_packet: tags[700] = (1, list(xmp_packet))
    if fill == 2: tags[266] = (3, [2])
    if format: tags[339] = (3, [format] * c)
    head, count, entry = (16, "Q", 20) if big else (8, "H", 12)
    data = bytearray((b"II" if order == "<" else b"MM") + (struct.pack(order + "HHHQ", 43, 8, 0, head) if big
                                                           else struct.pack(order + "HI", 42, head)))
    place = head + struct.calcsize(order + count) + entry * len(tags) + (8 if big else 4)
    body = b""
    def put(b):
        nonlocal body
        at = place + len(body)
        body += b + b"\0" * (len(b) % 2)
        return at
    directory = b""
    for tag, (kind, values) in sorted(tags.items()):
        if values and isinstance(values[0], bytes):
            values = [put(b) for b in values]
        raw = struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind] * len(values), *values)
        room = 8 if big else 4
        value = raw.ljust(room, b"\0") if len(raw) <= room else struct.pack(order + ("Q" if big else "I"), put(raw))
        directory += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, len(values)) + value
    after = place + len(body) if more else 0
    data += struct.pack(order + count, len(tags)) + directory + struct.pack(order + ("Q" if big else "I"), after) + body
    if more:
        # A second directory of a single pixel.
        data += struct.pack(order + "H", 8) + b"".join(
            struct.pack(order + "HHII", t, 4, 1, v) for t, v in
            [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (278, 1), (279, 1)]) + struct.pack(order + "I", 0)
    return bytes(data)


def tiffs():
    w, h = 21, 13
    wide = (noise(w * h * 5, 15).astype(np.uint32) << 8 | noise(w * h * 5, 16)).reshape(h, w, 5)
    byte = (wide >> 8).astype(np.uint8)
    gray = lambda levels: np.repeat(levels.astype(np.uint8).reshape(h, w, 1), 3, 2)
    for bits in (1, 2, 4, 8):
        part = wide[:, :, :1] >> (16 - bits)
        keep(f"gray{bits}.tif", tiff(part, bits, 1, rows=5))
        keep(f"white-is-zero{bits}.tif", tiff(part, bits, 0, order=">"))
        keep(f"palette{bits}.tif", tiff(
            part, bits, 3, colors=[int(v) << 8 | 7 for v in noise(3 << bits, 17)]))
    # Pillow clips grey of 16 bits at 255 and shifts nothing; the upper byte is what is wanted here, as of PNG.
    for name, order in (("little", "<"), ("big", ">")):
        keep(f"gray16-{name}.tif", tiff(wide[:, :, :1], 16, 1, order=order, rows=4), gray(byte[:, :, 0]))
    keep("white-is-zero16.tif", tiff(wide[:, :, :1], 16, 0), gray(255 - byte[:, :, 0]))
    keep("gray12.tif", tiff(wide[:, :, :1] >> 4, 12, 1), gray(byte[:, :, 0]))
    keep("gray-alpha8.tif", tiff(byte[:, :, :2], 8, 1, extra=(2,)))
    keep("rgb8.tif", tiff(byte[:, :, :3], 8, 2, rows=3))
    keep("rgb8-bigtiff.tif", tiff(byte[:, :, :3], 8, 2, big=True))
    # Pillow takes big files for small ones where the order is big-endian.
    keep("rgb8-bigtiff-big.tif", tiff(byte[:, :, :3], 8, 2, order=">", big=True), byte[:, :, :3])
    keep("rgb8-tiles.tif", tiff(byte[:, :, :3], 8, 2, tile=(16, 16), deflate=True))
    keep("rgb8-planes.tif", tiff(byte[:, :, :3], 8, 2, planar=True, rows=5))
    keep("rgb8-planes-tiles.tif", tiff(byte[:, :, :3], 8, 2, planar=True, tile=(16, 16)),
         byte[:, :, :3])  # as stored; Pillow's raw decoder has no such tiles
    keep("gray1-reversed.tif", tiff(byte[:, :, :1] >> 7, 1, 1, fill=2))
    keep("rgbx8.tif", tiff(byte[:, :, :4], 8, 2, extra=(0,)))
    keep("rgba8.tif", tiff(byte[:, :, :4], 8, 2, extra=(2,)))
    keep("rgba8-associated.tif", tiff(byte[:, :, :4], 8, 2, extra=(1,)))
    keep("rgb16.tif", tiff(wide[:, :, :3], 16, 2, order=">", rows=4))
    keep("rgb16-deflate.tif", tiff(wide[:, :, :3], 16, 2, deflate=True))
    keep("rgba16-associated.tif", tiff(wide[:, :, :4], 16, 2, extra=(1,)))
    keep("cmyk8.tif", tiff(byte[:, :, :4], 8, 5, rows=6))
    keep("cmykx8.tif", tiff(byte, 8, 5, extra=(0,)))
    keep("cmyk16.tif", tiff(wide[:, :, :4], 16, 5))
    for orientation in (2, 3, 6, 7):
        keep(f"orientation{orientation}.tif", tiff(byte[:, :, :3], 8, 2, orientation=orientation))
    keep("orientation6-deflate.tif", tiff(byte[:, :, :3], 8, 2, orientation=6, deflate=True))
    keep("xmp8.tif", tiff(byte[:, :, :3], 8, 2, xmp_packet=xmp(8)))
    keep("pages.tif", tiff(byte[:, :, :3], 8, 2, more=b"one"))
    rgb = Image.fromarray(photo(w, h))
    for name in ("tiff_lzw", "packbits", "jpeg", "tiff_adobe_deflate"):
        keep(f"{name.replace('tiff_', '')}.tif", saved(rgb, "TIFF", compression=name))
    keep("lzw-predictor.tif", saved(rgb, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}))
    keep("jpeg-ycbcr.tif", saved(rgb.convert("YCbCr"), "TIFF", compression="jpeg"))
    keep("jpeg-gray.tif", saved(rgb.convert("L"), "TIFF", compression="jpeg"))
    keep("group4.tif", saved(rgb.convert("1"), "TIFF", compression="group4"))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def orientations():
    """PNG and JPEG whose orientation does not stand in plain EXIF."""
    w, h = 9, 6
    pixels = noise(w * h * 3, 21).reshape(h, w, 3)
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    def png(*extra, after=b""):
        return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) + b"".join(extra)
                + chunk(b"IDAT", zlib.compress(raw)) + after + chunk(b"IEND", b""))
    def itxt(text, packed=False):
        return chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([packed, 0]) + b"\0\0" + (zlib.compress(text) if packed else text))
    profile = b"\nexif\n%8d\n" % (len(exif(5)) + 6) + (b"Exif\0\0" + exif(5)).hex().encode() + b"\n"
    keep("exif-prefixed.png", png(chunk(b"eXIf", b"Exif\0\0" + exif(6, ">"))))
    keep("exif-last.png", png(after=chunk(b"eXIf", exif(6))))
    keep("xmp-itxt.png", png(itxt(xmp(6))))
    keep("xmp-itxt-packed.png", png(itxt(xmp(7, True), True)))
    keep("xmp-text.png", png(chunk(b"tEXt", b"XML:com.adobe.xmp\0" + xmp(3))))
    keep("xmp-last.png", png(after=itxt(xmp(8))))
    keep("profile-text.png", png(chunk(b"tEXt", b"Raw profile type exif\0" + profile)))
    keep("profile-packed.png", png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile))))
    keep("exif-before-xmp.png", png(itxt(xmp(6)), chunk(b"eXIf", exif(1))))
    keep("exif-bad-before-xmp.png", png(itxt(xmp(6)), chunk(b"eXIf", exif(9))))
    plain = saved(Image.fromarray(photo(21, 14)), "JPEG", quality=90, subsampling=0)
    def jpeg(*segments):
        return plain[:2] + b"".join(struct.pack(">BBH", 255, m, len(d) + 2) + d for m, d in segments) + plain[2:]
    space = b"http://ns.adobe.com/xap/1.0/\0"
    keep("xmp6.jpg", jpeg((0xE1, space + xmp(6))))
    keep("xmp-element5.jpg", jpeg((0xE1, space + xmp(5, True))))
    keep("exif-prefixed8.jpg", jpeg((0xE1, b"Exif\0\0Exif\0\0" + exif(8))))
    keep("exif-split6.jpg", jpeg((0xE1, b"Exif\0\0" + exif(6)[:12]), (0xE1, b"Exif\0\0" + exif(6)[12:])))
    keep("exif1-xmp6.jpg", jpeg((0xE1, space + xmp(6)), (0xE1, b"Exif\0\0" + exif(1))))


if __name__ == "__main__":
    webps()
    tiffs()
    orientations()
    (HERE / "formats.json").write_text(
        "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in expected.items()) + "\n}\n")
