"""Objects for drawn scenes, as parts of polygons: vessels, boxes, vehicles, creatures, plants, furniture, signs, clutter.

An object is drawn in a unit frame (x to the right, y down, about -0.5…0.5), then turned, scaled and moved.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Part:
    """Polygons of one surface. `labelled` parts get a mask of their own; the others belong to the whole alone."""

    polygons: list
    labelled: bool = True
    colour: object = None
    flat: bool = False
    opacity: float = 1.0
    text: bool = False


@dataclasses.dataclass
class Thing:
    """Parts, back to front."""

    parts: list


def smooth(points, count=60, closed=True):
    """A Catmull-Rom spline through points (n, 2)."""
    points = np.asarray(points, np.float64)
    n = len(points)
    t = np.linspace(0, n if closed else n - 1, count, endpoint=not closed)
    i = np.minimum(t.astype(int), n - 1 if closed else n - 2)
    f = (t - i)[:, None]
    if closed:
        a, b, c, d = (points[(i + k) % n] for k in (-1, 0, 1, 2))
    else:
        a, b, c, d = (points[np.clip(i + k, 0, n - 1)] for k in (-1, 0, 1, 2))
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)


def ellipse(x, y, rx, ry, angle=0.0, begin=0.0, end=2 * np.pi, count=48):
    t = np.linspace(begin, end, count)
    px, py = rx * np.cos(t), ry * np.sin(t)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x + cos * px - sin * py, y + sin * px + cos * py], axis=1)


def box(left, top, right, bottom, radius=0.0):
    if radius <= 0:
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
    r = min(radius, (right - left) / 2, (bottom - top) / 2)
    corners = [(right - r, top + r, -0.5), (right - r, bottom - r, 0), (left + r, bottom - r, 0.5), (left + r, top + r, 1)]
    return np.vstack([ellipse(x, y, r, r, 0, a * np.pi, (a + 0.5) * np.pi, 8) for x, y, a in corners])


def stroke(points, widths):
    """A ribbon along points (n, 2) with half widths (n,) or a number."""
    points = np.asarray(points, float)
    tangent = np.gradient(points, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    widths = np.broadcast_to(np.asarray(widths, float), (len(points),))[:, None]
    return np.vstack([points + normal * widths, (points - normal * widths)[::-1]])


def capsule(a, b, ra, rb):
    """A limb from a to b."""
    t = np.linspace(0, 1, 12)[:, None]
    spine = np.asarray(a) * (1 - t) + np.asarray(b) * t
    ribbon = stroke(spine, ra * (1 - t[:, 0]) + rb * t[:, 0])
    return [ribbon, ellipse(*a, ra, ra, count=20), ellipse(*b, rb, rb, count=20)]


def blob(rng, x=0.0, y=0.0, radius=0.5, rough=0.3):
    count = int(rng.integers(4, 11))
    angles = np.sort((np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count)
    radii = radius * (1 + rough * rng.uniform(-1, 1, count))
    return smooth(np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1))


def lathe(profile):
    """A body of revolution seen from the side: half widths and heights (n, 2) to an outline."""
    half = smooth(profile, 50, closed=False)
    return np.vstack([half, (half * [-1, 1])[::-1]])


def shape(rng):
    """A plain shape, at times with a hole's cover, a rim or a dot on it."""
    kind = rng.integers(6)
    if kind == 0:
        outline = blob(rng, rough=rng.uniform(0.1, 0.6))
    elif kind == 1:
        outline = ellipse(0, 0, 0.5, 0.5 * rng.uniform(0.3, 1))
    elif kind == 2:
        h = 0.5 * rng.uniform(0.2, 1)
        outline = box(-0.5, -h, 0.5, h, rng.choice([0, 0.05, 0.2]))
    elif kind == 3:
        n = int(rng.integers(3, 8))
        outline = ellipse(0, 0, 0.5, 0.5, rng.uniform(0, 6), count=n + 1)
    elif kind == 4:
        n = int(rng.integers(4, 10))
        t = np.arange(2 * n) * np.pi / n
        r = np.where(np.arange(2 * n) % 2, 0.5 * rng.uniform(0.3, 0.75), 0.5)
        outline = np.stack([r * np.cos(t), r * np.sin(t)], axis=1)
    else:
        outline = rng.uniform(-0.5, 0.5, (int(rng.integers(3, 6)), 2))
        centre = outline.mean(axis=0)
        outline = outline[np.argsort(np.arctan2(*(outline - centre).T))]
    parts = [Part([outline], flat=rng.random() < 0.3, text=rng.random() < 0.12)]
    if rng.random() < 0.35:
        inner = rng.uniform(0.3, 0.85)
        parts.append(Part([outline * inner], flat=rng.random() < 0.5, text=rng.random() < 0.2))
        if rng.random() < 0.3:
            parts.append(Part([outline * inner * 0.5]))
    return parts


def vessel(rng):
    """A bottle, jar, vase or glass with a cap, a label, its contents."""
    neck = rng.uniform(0.05, 0.28)
    belly = rng.uniform(max(neck, 0.12), 0.38)
    shoulder = rng.uniform(-0.3, 0.05)
    profile = [(neck, -0.45), (neck * rng.uniform(0.9, 1.1), shoulder - 0.08), (belly, shoulder + 0.12)]
    profile += [(belly * rng.uniform(0.75, 1.1), 0.25), (belly * rng.uniform(0.6, 1.0), 0.48), (0.0, 0.5)]
    parts = [Part([lathe(profile)])]
    if rng.random() < 0.6:
        parts.append(Part([box(-neck * 1.15, -0.52, neck * 1.15, -0.52 + rng.uniform(0.06, 0.18), 0.01)]))
    else:
        parts.append(Part([ellipse(0, -0.45, neck, neck * rng.uniform(0.15, 0.4))]))
    if rng.random() < 0.6:
        top = shoulder + rng.uniform(0.1, 0.2)
        low = rng.uniform(top + 0.08, 0.42)
        parts.append(Part([box(-belly * 0.92, top, belly * 0.92, low)], flat=rng.random() < 0.5, text=rng.random() < 0.7))
    return parts


def cup(rng):
    """A cup, bowl or pot from slightly above."""
    wide, low, high = rng.uniform(0.25, 0.45), rng.uniform(0.12, 0.4), rng.uniform(0.25, 0.8)
    tilt = rng.uniform(0.12, 0.4)
    low = min(low, wide)
    parts = []
    if rng.random() < 0.4:
        parts.append(Part([ellipse(0, high / 2, 0.5, 0.5 * tilt)]))
    if rng.random() < 0.6:
        side = rng.choice([-1, 1])
        loop = ellipse(side * wide, 0, rng.uniform(0.1, 0.18), high * rng.uniform(0.2, 0.35), count=40)
        parts.append(Part([stroke(loop, rng.uniform(0.015, 0.04))], labelled=rng.random() < 0.7))
    body = [(wide, -high / 2), ((wide + low) / 2 * rng.uniform(0.9, 1.15), 0), (low, high / 2), (0, high / 2 + low * tilt)]
    parts.append(Part([lathe(body)], labelled=True))
    parts.append(Part([ellipse(0, -high / 2, wide, wide * tilt)], labelled=False))
    parts.append(Part([ellipse(0, -high / 2 + 0.02, wide * 0.88, wide * tilt * 0.82)], flat=rng.random() < 0.5))
    return parts


def carton(rng):
    """A box or a book with three visible faces."""
    w, h, d = rng.uniform(0.25, 0.6), rng.uniform(0.08, 0.6), rng.uniform(0.1, 0.35)
    skew = rng.uniform(0.2, 0.9) * rng.choice([-1, 1])
    lift = rng.uniform(0.2, 0.7)
    front = box(-w / 2, -h / 2, w / 2, h / 2)
    shift = np.array([d * skew, -d * lift])
    top = np.array([front[0], front[1], front[1] + shift, front[0] + shift])
    edge = (front[1], front[2]) if skew > 0 else (front[0], front[3])
    side = np.array([edge[0], edge[0] + shift, edge[1] + shift, edge[1]])
    flat = rng.random() < 0.7
    parts = [Part([side], flat=flat), Part([top], flat=flat, text=rng.random() < 0.2)]
    parts.append(Part([front], flat=flat, text=rng.random() < 0.5))
    if rng.random() < 0.3:
        parts.append(Part([front * rng.uniform(0.4, 0.8)], flat=True, text=rng.random() < 0.5))
    return parts


def car(rng):
    """A car, van or truck from the side."""
    body = rng.uniform(0.12, 0.2)
    roof = rng.uniform(0.1, 0.24)
    a, b = rng.uniform(-0.48, -0.2), rng.uniform(0.1, 0.46)
    cabin = [(a, -0.02), (a + rng.uniform(0, 0.14), -roof), (b - rng.uniform(0, 0.14), -roof), (b, -0.02)]
    hull = np.vstack([box(-0.5, -0.02, 0.5, body, 0.06)])
    parts = [Part([hull, np.array(cabin)])]
    windows = []
    inner = np.array(cabin) * [0.9, 0.8] + [0.05 * (a + b), -0.025]
    cut = rng.uniform(0.35, 0.65)
    upper, lower = inner[1] * (1 - cut) + inner[2] * cut, inner[0] * (1 - cut) + inner[3] * cut
    gap = np.array([0.012, 0])
    windows.append(np.array([inner[0], inner[1], upper - gap, lower - gap]))
    windows.append(np.array([lower + gap, upper + gap, inner[2], inner[3]]))
    tone = rng.uniform(10, 120) * np.array([1, 1.02, 1.08])
    for window in windows:
        parts.append(Part([window], colour=tone, flat=True))
    if rng.random() < 0.7:
        x = lower[0]
        line = stroke([[x, -0.01], [x, body * 0.5], [x, body]], 0.003)
        parts.append(Part([line], labelled=False, colour=(20, 20, 20), flat=True))
    radius = rng.uniform(0.075, 0.125)
    for x in (-rng.uniform(0.25, 0.36), rng.uniform(0.24, 0.36)):
        parts.append(Part([ellipse(x, body, radius, radius)], colour=rng.uniform(5, 50) * np.ones(3)))
        parts.append(Part([ellipse(x, body, radius * 0.62, radius * 0.62)], colour=rng.uniform(60, 230) * np.ones(3)))
    for x, shade in ((-0.46, (200, 40, 30)), (0.46, (240, 230, 190))):
        parts.append(Part([ellipse(x, 0.05, 0.03, 0.022)], colour=shade))
    return parts


def house(rng):
    """A building with a roof, windows and a door."""
    w, h = rng.uniform(0.3, 0.5), rng.uniform(0.3, 0.6)
    parts = [Part([box(-w, -h / 2, w, h / 2)], flat=True)]
    if rng.random() < 0.7:
        over, peak = rng.uniform(0, 0.08), rng.uniform(0.1, 0.3)
        ridge = rng.uniform(0, w)
        roof = [[-w - over, -h / 2], [-ridge, -h / 2 - peak], [ridge, -h / 2 - peak], [w + over, -h / 2]]
        parts.append(Part([np.array(roof)], flat=True))
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    tone = rng.uniform(20, 240, 3)
    for r in range(rows):
        for c in range(columns):
            x = -w + 2 * w * (c + 0.5) / columns
            y = -h / 2 + h * (r + 0.5) / rows
            sx, sy = 0.6 * w / columns, 0.3 * h / rows
            parts.append(Part([box(x - sx, y - sy, x + sx, y + sy)], colour=tone * rng.uniform(0.8, 1.1), flat=True))
    x = rng.uniform(-0.6, 0.6) * w
    parts.append(Part([box(x - 0.06, h / 2 - 0.2, x + 0.06, h / 2)], flat=True))
    return parts


def creature(rng):
    """A four-legged animal or a bird-like one."""
    coat = rng.uniform(20, 235, 3) * 0.4 + rng.uniform(10, 140)
    long, thick = rng.uniform(0.2, 0.32), rng.uniform(0.1, 0.18)
    parts = []
    tail = smooth([(-long, -0.02), (-long - 0.1, rng.uniform(-0.2, 0.1)), (-long - 0.18, rng.uniform(-0.35, 0.15))], 20, False)
    legs = []
    for x in (-long * 0.8, -long * 0.5, long * 0.5, long * 0.8):
        foot = (x + rng.uniform(-0.08, 0.08), 0.42)
        legs += capsule((x, 0.05), foot, rng.uniform(0.035, 0.06), 0.03)
    head_x, head_y, r = long + rng.uniform(0.02, 0.12), -thick - rng.uniform(0.02, 0.16), rng.uniform(0.08, 0.14)
    torso = [ellipse(0, 0, long * 1.15, thick, rng.uniform(-0.15, 0.15))] + capsule((long * 0.8, 0), (head_x, head_y), thick * 0.7, r * 0.7)
    ears = [np.array([(head_x + s * r * 0.7, head_y - r * 1.6), (head_x + s * r * 0.95, head_y - r * 0.2), (head_x, head_y - r * 0.8)]) for s in (-1, 1)]
    head = [ellipse(head_x, head_y, r, r * 0.92), ellipse(head_x + r * 0.7, head_y + r * 0.3, r * 0.55, r * 0.42)] + ears
    textured = rng.random() < 0.5
    first = None if textured else coat
    parts.append(Part([stroke(tail, 0.025)] + legs + torso, colour=first))
    parts.append(Part(head, colour=None if textured and rng.random() < 0.5 else coat))
    parts.append(Part([ellipse(head_x + r * 0.25, head_y - r * 0.15, r * 0.13, r * 0.13)], colour=(15, 12, 10), labelled=False))
    return parts


def person(rng):
    """A standing figure in clothes."""
    skin = np.array([230, 190, 160]) * rng.uniform(0.35, 1.05)
    hip, knee, lift = rng.uniform(0.05, 0.08), rng.uniform(-0.04, 0.04), rng.uniform(-0.1, 0.12)
    parts = []
    legs = []
    for side in (-1, 1):
        legs += capsule((side * hip * 0.7, 0.06), (side * hip + knee, 0.42), 0.05, 0.032)
    skirt = rng.random() < 0.3
    shoes = [ellipse(side * hip + knee + 0.015, 0.46, 0.045, 0.025) for side in (-1, 1)]
    parts.append(Part(legs, colour=skin if skirt else None))
    for shoe in shoes:
        parts.append(Part([shoe]))
    if skirt:
        parts.append(Part([np.array([(-0.08, 0), (0.08, 0), (0.14, 0.28), (-0.14, 0.28)])]))
    hands, sleeves = [], []
    for side in (-1, 1):
        elbow = (side * rng.uniform(0.13, 0.2), rng.uniform(-0.1, 0.0))
        hand = (side * rng.uniform(0.08, 0.26), rng.uniform(-0.12, 0.12) + lift)
        sleeves += capsule((side * 0.09, -0.2), elbow, 0.04, 0.032) + capsule(elbow, hand, 0.032, 0.024)
        hands.append(ellipse(*hand, 0.026, 0.03))
    torso = smooth([(-0.1, -0.23), (0.1, -0.23), (0.09, -0.05), (0.1, 0.08), (-0.1, 0.08), (-0.09, -0.05)])
    for hand in hands:
        parts.append(Part([hand], colour=skin))
    parts.append(Part([torso] + sleeves, text=rng.random() < 0.15))
    r = rng.uniform(0.055, 0.075)
    hair = rng.uniform(5, 120) * np.array([1, 0.85, 0.7])
    longhair = [blob(rng, 0, -0.31, r * 1.35, 0.1)] if rng.random() < 0.4 else []
    if longhair:
        parts.append(Part(longhair, colour=hair))
    parts.append(Part([ellipse(0, -0.32, r * 0.85, r)] + capsule((0, -0.3), (0, -0.22), 0.03, 0.035), colour=skin))
    parts.append(Part([ellipse(0, -0.345, r * 1.0, r * 0.95, 0, np.pi, 2 * np.pi)], colour=hair))
    if rng.random() < 0.3:
        side = rng.choice([-1, 1])
        x, y = side * 0.2, lift + 0.12
        parts.append(Part([box(x - 0.06, y - 0.04, x + 0.06, y + 0.07, 0.02)]))
    return parts


def fruit(rng):
    """A round fruit with stem and leaf, or a cluster of them."""
    parts = []
    tint = np.array([rng.uniform(120, 255), rng.uniform(20, 230), rng.uniform(10, 90)])
    count = 1 if rng.random() < 0.6 else int(rng.integers(3, 9))
    radius = 0.42 if count == 1 else rng.uniform(0.14, 0.24)
    for _ in range(count):
        x, y = (0, 0) if count == 1 else rng.uniform(-0.32, 0.32, 2)
        own = tint * rng.uniform(0.8, 1.15, 3)
        parts.append(Part([blob(rng, x, y, radius, 0.06)], colour=own if rng.random() < 0.85 else None))
    if rng.random() < 0.6:
        stem = smooth([(0, -radius * 0.8), (0.02, -radius - 0.05), (rng.uniform(-0.08, 0.08), -radius - 0.12)], 12, False)
        parts.append(Part([stroke(stem, 0.015)], colour=(90, 60, 30), labelled=False))
        if rng.random() < 0.6:
            leaf = [(0, -radius), (0.1, -radius - 0.1), (0.24, -radius - 0.06), (0.12, -radius + 0.01)]
            parts.append(Part([smooth(leaf)], colour=(60, rng.uniform(90, 170), 40)))
    return parts


def plant(rng):
    """A pot with leaves, or a tree."""
    green = np.array([rng.uniform(20, 110), rng.uniform(70, 190), rng.uniform(10, 90)])
    parts = []
    if rng.random() < 0.5:
        parts.append(Part([stroke([(0, 0.5), (0.01, 0.2), (0, 0.0)], rng.uniform(0.02, 0.06))], colour=(80, 58, 40)))
        crown = [blob(rng, rng.uniform(-0.2, 0.2), rng.uniform(-0.35, 0.0), rng.uniform(0.14, 0.28), 0.25) for _ in range(7)]
        parts.append(Part(crown, colour=green if rng.random() < 0.5 else None))
        return parts
    leaves = []
    for _ in range(int(rng.integers(5, 14))):
        angle = rng.uniform(-1.2, 1.2)
        length = rng.uniform(0.25, 0.5)
        tip = np.array([np.sin(angle), -np.cos(angle)]) * length
        bend = tip * 0.55 + rng.normal(0, 0.05, 2)
        leaves.append(stroke(smooth([(0, 0.12), bend, tip], 16, False), rng.uniform(0.02, 0.06) * np.sin(np.linspace(0.3, np.pi, 16))))
    parts.append(Part(leaves, colour=green))
    top, low = rng.uniform(0.15, 0.26), rng.uniform(0.1, 0.2)
    parts.append(Part([np.array([(-top, 0.12), (top, 0.12), (low, 0.5), (-low, 0.5)])]))
    return parts


def furniture(rng):
    """A chair, table or lamp of slabs and legs."""
    kind = rng.integers(3)
    wood = None if rng.random() < 0.5 else rng.uniform(20, 220, 3)
    if kind == 0:
        legs = [box(x - 0.02, 0.05, x + 0.02, 0.5) for x in (-0.24, -0.14, 0.16, 0.24)]
        back = [box(-0.26, -0.5, 0.26, -0.15, 0.03)] if rng.random() < 0.6 else [box(-0.26 + 0.13 * i, -0.5, -0.2 + 0.13 * i, 0.03) for i in range(5)]
        return [Part(legs, colour=wood), Part(back, colour=wood), Part([np.array([(-0.27, 0), (0.27, 0), (0.33, 0.1), (-0.31, 0.1)])])]
    if kind == 1:
        legs = [box(x - 0.02, -0.1, x + 0.02, 0.4) for x in (-0.42, 0.42, -0.3, 0.3)]
        return [Part(legs, colour=wood), Part([np.array([(-0.36, -0.22), (0.36, -0.22), (0.5, -0.08), (-0.5, -0.08)])], colour=wood)]
    shade = np.array([(-0.12, -0.5), (0.12, -0.5), (rng.uniform(0.15, 0.3), -0.15), (-rng.uniform(0.15, 0.3), -0.15)])
    return [
        Part([box(-0.012, -0.2, 0.012, 0.45)], colour=wood),
        Part([ellipse(0, 0.46, 0.14, 0.04)], colour=wood),
        Part([shade]),
    ]


def frame(rng):
    """A screen, sign or picture in a frame, at times on a stand."""
    w, h = 0.5, rng.uniform(0.2, 0.5)
    rim = rng.uniform(0.01, 0.07)
    parts = []
    if rng.random() < 0.4:
        parts.append(Part([box(-0.03, h - 0.02, 0.03, h + 0.16), box(-0.15, h + 0.14, 0.15, h + 0.17)]))
    parts.append(Part([box(-w, -h, w, h, rng.choice([0, 0.04]))], flat=True))
    parts.append(Part([box(-w + rim, -h + rim, w - rim, h - rim)], flat=True, text=rng.random() < 0.4))
    return parts


def keyboard(rng):
    """A panel with rows of buttons."""
    rows, columns = int(rng.integers(2, 6)), int(rng.integers(2, 8))
    h = 0.5 * min(1.0, rows / columns * rng.uniform(0.7, 1.3))
    parts = [Part([box(-0.5, -h, 0.5, h, 0.04)])]
    tone = rng.uniform(20, 240, 3)
    round_keys = rng.random() < 0.4
    for r in range(rows):
        for c in range(columns):
            x, y = -0.46 + 0.92 * (c + 0.5) / columns, -h * 0.9 + 1.8 * h * (r + 0.5) / rows
            sx, sy = 0.38 / columns, 0.72 * h / rows
            key = ellipse(x, y, min(sx, sy), min(sx, sy)) if round_keys else box(x - sx, y - sy, x + sx, y + sy, 0.01)
            parts.append(Part([key], colour=tone * rng.uniform(0.85, 1.1)))
    return parts


def rods(rng):
    """Thin things: cables, sticks, cutlery, rings."""
    kind = rng.integers(4)
    if kind == 0:
        line = smooth(rng.uniform(-0.5, 0.5, (int(rng.integers(3, 7)), 2)), 70, False)
        return [Part([stroke(line, rng.uniform(0.01, 0.05))])]
    if kind == 1:
        ring = ellipse(0, 0, 0.45, 0.45 * rng.uniform(0.4, 1), count=60)
        return [Part([stroke(ring, rng.uniform(0.02, 0.1))])]
    if kind == 2:
        bowl = ellipse(0, -0.36, rng.uniform(0.06, 0.11), 0.14)
        return [Part([stroke([(0, -0.25), (0.003, 0.1), (0, 0.5)], rng.uniform(0.012, 0.03)), bowl], colour=rng.uniform(90, 230) * np.ones(3))]
    gap = rng.uniform(0.06, 0.2)
    bars = [box(x - 0.015, -0.4, x + 0.015, 0.4) for x in np.arange(-0.48, 0.5, gap)]
    return [Part(bars + [box(-0.5, -0.3, 0.5, -0.25), box(-0.5, 0.2, 0.5, 0.25)])]


def dish(rng):
    """A plate with food on it."""
    tilt = rng.uniform(0.3, 1.0)
    parts = [Part([ellipse(0, 0, 0.5, 0.5 * tilt)]), Part([ellipse(0, 0, 0.36, 0.36 * tilt)], labelled=False)]
    for _ in range(int(rng.integers(1, 7))):
        x, y = rng.uniform(-0.24, 0.24, 2)
        outline = blob(rng, 0, 0, rng.uniform(0.05, 0.16), 0.3) + [x, y * tilt]
        parts.append(Part([outline]))
    return parts


def garment(rng):
    """A shirt or a bag, as it lies or hangs."""
    if rng.random() < 0.5:
        body = smooth([(-0.2, -0.35), (0.2, -0.35), (0.25, 0.0), (0.28, 0.45), (-0.28, 0.45), (-0.25, 0.0)])
        arms = [np.array([(s * 0.18, -0.36), (s * 0.5, rng.uniform(-0.1, 0.2)), (s * 0.4, rng.uniform(0.1, 0.3)), (s * 0.2, -0.1)]) for s in (-1, 1)]
        return [Part([body] + arms, text=rng.random() < 0.3), Part([ellipse(0, -0.36, 0.1, 0.05)])]
    strap = stroke(ellipse(0, -0.12, 0.22, 0.36, 0, np.pi, 2 * np.pi, 30), rng.uniform(0.012, 0.03))
    return [Part([strap]), Part([blob(rng, 0, 0.2, 0.34, 0.12) * [1, 0.8]]), Part([box(-0.1, 0.08, 0.1, 0.18, 0.03)])]


KINDS = {
    shape: 5, vessel: 2, cup: 2, carton: 2, car: 1.5, house: 1, creature: 1.5, person: 2, fruit: 2, plant: 1.5,
    furniture: 1, frame: 1.2, keyboard: 0.7, rods: 1, dish: 1, garment: 1,
}  # fmt: skip


def place(rng, parts, centre, size, upright):
    """Turns, stretches, shears, scales and moves the parts into the scene."""
    angle = rng.normal(0, 0.15) if upright else rng.uniform(-np.pi, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    stretch = np.exp(rng.normal(0, 0.15))
    flip = rng.choice([-1, 1])
    shear = rng.normal(0, 0.12)
    matrix = size * np.array([[cos, -sin], [sin, cos]]) @ np.array([[stretch * flip, shear], [0, 1 / stretch]])
    for part in parts:
        part.polygons = [polygon @ matrix.T + centre for polygon in part.polygons]
    return Thing(parts)


def draw(rng, centre, size):
    """A random object of about `size` pixels around `centre`."""
    weights = np.array(list(KINDS.values()))
    kind = list(KINDS)[rng.choice(len(KINDS), p=weights / weights.sum())]
    return place(rng, kind(rng), centre, size, upright=rng.random() < 0.7)


def crowd(rng, extent):
    """Many alike: cells, coins, berries, bottles in rows."""
    kind = list(KINDS)[rng.integers(len(KINDS))] if rng.random() < 0.3 else None
    count = int(rng.integers(12, 60))
    size = extent * rng.uniform(0.5, 1.1) / np.sqrt(count)
    tint = rng.uniform(20, 240, 3)
    things = []
    for _ in range(count):
        if kind:
            parts = kind(rng)
        else:
            parts = [Part([blob(rng, 0, 0, 0.45, 0.15)], colour=tint * rng.uniform(0.7, 1.2))]
        things.append(place(rng, parts, rng.uniform(0, extent, 2), size * rng.uniform(0.7, 1.3), upright=False))
    return things
