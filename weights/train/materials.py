"""Surfaces for drawn scenes: colours, patterns, noise, patches of training photographs, and light upon them."""

import colorsys

import cv2
import numpy as np


def colour(rng):
    """A random colour (3,) float32 in 0…255; muted ones are more frequent than loud ones."""
    saturation = rng.beta(1.3, 1.8)
    value = rng.uniform(0.08, 1.0)
    return 255 * np.array(colorsys.hsv_to_rgb(rng.random(), saturation, value), np.float32)


def noise(rng, height, width, coarsest=None):
    """Cloudy noise (H, W) float32 around 0, with standard deviation near 1."""
    total = np.zeros((height, width), np.float32)
    cells = coarsest or int(rng.integers(2, 12))
    weight = 1.0
    falloff = rng.uniform(0.35, 0.8)
    while cells < max(height, width) and weight > 0.05:
        rows, columns = max(2, cells * height // max(height, width) + 1), max(2, cells * width // max(height, width) + 1)
        grid = rng.standard_normal((rows, columns)).astype(np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * falloff
    return total / (total.std() + 1e-6)


def ramp(rng, height, width):
    """A linear ramp (H, W) float32 from 0 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    t = x * np.cos(angle) + y * np.sin(angle)
    return (t - t.min()) / (t.max() - t.min() + 1e-6)


def pattern(rng, height, width):
    """A pattern (H, W) float32 in 0…1: stripes, checks, dots, rings or planks, turned at random."""
    angle = rng.uniform(0, np.pi) if rng.random() < 0.6 else rng.choice([0, np.pi / 2])
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = -x * np.sin(angle) + y * np.cos(angle)
    period = max(3.0, max(height, width) * float(np.exp(rng.uniform(np.log(0.03), np.log(0.4)))))
    kind = rng.integers(5)
    sharp = rng.uniform(1.5, 20)
    if kind == 0:
        t = np.sin(2 * np.pi * u / period + rng.uniform(0, 6))
    elif kind == 1:
        t = np.sin(2 * np.pi * u / period) * np.sin(2 * np.pi * v / period)
    elif kind == 2:
        t = 0.6 - np.hypot(u % period - period / 2, v % period - period / 2) / (period * 0.5)
    elif kind == 3:
        t = np.sin(2 * np.pi * np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height)) / period)
    else:
        offset = (v // (period * 0.6)).astype(np.int32) * 7919 % 13 / 13
        t = 0.93 - 2 * np.abs(((u / (2.3 * period) + offset) % 1) - 0.5)
        t = np.minimum(t, 0.93 - 2 * np.abs((v / (period * 0.6)) % 1 - 0.5)) + 0.04
    return 1 / (1 + np.exp(-np.clip(sharp * t, -20, 20)))


def surface(rng, height, width, photographs):
    """A texture (H, W, 3) float32 in 0…255. `photographs` is a function of the generator that returns a photograph."""
    base = colour(rng)
    choice = rng.random()
    if choice < 0.28:
        out = np.broadcast_to(base, (height, width, 3)).astype(np.float32)
    elif choice < 0.42:
        t = ramp(rng, height, width)[..., None]
        out = base * (1 - t) + colour(rng) * t
    elif choice < 0.58:
        t = np.clip(0.5 + rng.uniform(0.08, 0.5) * noise(rng, height, width), 0, 1)[..., None]
        other = colour(rng) if rng.random() < 0.5 else base * rng.uniform(0.4, 0.85)
        out = base * (1 - t) + other * t
    elif choice < 0.74:
        t = pattern(rng, height, width)[..., None]
        other = colour(rng) if rng.random() < 0.6 else base * rng.uniform(0.4, 0.9)
        out = base * (1 - t) + other * t
    else:
        photograph = photographs(rng)
        h, w = photograph.shape[:2]
        side = int(rng.uniform(0.12, 0.9) * min(h, w))
        top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
        crop = photograph[top : top + side, left : left + side]
        out = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA if side > width else cv2.INTER_LINEAR)
        out = out.astype(np.float32)
        if rng.random() < 0.4:
            tint = rng.uniform(0.2, 0.7)
            out = out * (1 - tint) + base * tint * (0.4 + out.mean(axis=2, keepdims=True) / 255)
    if rng.random() < 0.35:
        out = out + rng.uniform(2, 12) * noise(rng, height, width, int(rng.integers(20, 90)))[..., None]
    return out


def relief(rng, mask, light):
    """Light on a shape as if it were inflated: a factor (H, W) and a highlight (H, W), both float32.

    mask: (H, W) uint8 0 or 1. light: (3,) unit vector towards the lamp.
    """
    distance = cv2.distanceTransform(cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0), cv2.DIST_L2, 3)
    distance = distance[1:-1, 1:-1]
    radius = max(1.0, float(distance.max()))
    bevel = radius * rng.uniform(0.25, 1.0)
    t = np.clip(distance / bevel, 0, 1)
    height = np.sqrt(1 - (1 - t) ** 2) * bevel * rng.uniform(0.4, 1.0)
    height = cv2.GaussianBlur(height, (0, 0), max(0.6, 0.1 * bevel))
    gx, gy = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    length = np.sqrt(gx * gx + gy * gy + 1)
    facing = np.clip((-gx * light[0] - gy * light[1] + light[2]) / length, 0, 1)
    ambient = rng.uniform(0.3, 0.7)
    factor = ambient + (1.25 - ambient) * facing
    shine = np.power(facing, rng.uniform(10, 60)) * rng.uniform(0, 160) if rng.random() < 0.5 else 0 * facing
    return factor.astype(np.float32), shine.astype(np.float32)
