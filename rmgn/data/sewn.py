"""What is sewn onto cloth: plackets and buttons, pockets, drawstrings, flies, belts."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from rmgn.data.canvas import U8, WIDTH, Canvas
from rmgn.data.fabrics import TEXEL, draw_colour


def add_zip(canvas: Canvas, rng: Generator, depth: float) -> None:
    """A zip from the neck down to `depth` metres: its tape, its teeth, the pull."""
    half = rng.uniform(0.006, 0.011)
    tape = draw_colour(rng) if rng.random() < 0.25 else np.full(3, rng.choice([0.04, 0.04, 0.85]))
    metal = np.full(3, rng.uniform(0.3, 0.8)) if rng.random() < 0.6 else tape
    for down in np.arange(0.0, depth, 0.003):
        canvas.disc((0, down), 0.004, tape)
    for down in np.arange(0.0, depth, 0.006):
        canvas.disc((0, down), 0.002, metal)
    for side in (-1, 1):
        canvas.line(np.array([[side * half, 0.0], [side * half, depth]]), 0.002, 0.3)
    canvas.disc((0, 0.02), 0.006, metal)
    canvas.disc((0, 0.03), 0.004, metal)


def add_placket(canvas: Canvas, rng: Generator, depth: float) -> None:
    """A strip with buttons from the neck down to `depth` metres."""
    half = rng.uniform(0.011, 0.016)
    edge = np.array([[half, 0.0], [half, depth]])
    canvas.line(edge, 0.0025, 0.45)
    canvas.line(edge * [-1, 1], 0.002, rng.uniform(0.1, 0.3))
    if depth < 0.3:
        canvas.line(np.array([[-half, depth], [half, depth]]), 0.002, 0.4)
    colour = np.full(3, rng.choice([0.92, 0.1, 0.6])) if rng.random() < 0.7 else draw_colour(rng)
    step = rng.uniform(0.06, 0.1) if depth > 0.3 else rng.uniform(0.035, 0.06)
    radius = rng.uniform(0.0045, 0.0065)
    for down in np.arange(0.012, depth - 0.01, step):
        canvas.disc((0, down), radius + 0.001, np.zeros(3), 0.35)
        canvas.disc((0, down), radius, colour)


def add_pocket(canvas: Canvas, rng: Generator) -> None:
    """A patch pocket over the heart."""
    x, y, w, h = 0.045, rng.uniform(0.1, 0.14), rng.uniform(0.09, 0.11), rng.uniform(0.1, 0.12)
    tip = rng.choice([0, 0.015])
    box = np.array([[x, y], [x, y + h], [x + w / 2, y + h + tip], [x + w, y + h], [x + w, y], [x, y]])
    canvas.line(box, 0.002, 0.35)
    canvas.line(np.array([[x, y + 0.018], [x + w, y + 0.018]]), 0.002, 0.2)


def add_hoodie_front(canvas: Canvas, rng: Generator, length: float) -> None:
    """Drawstrings from the hood and a pouch pocket above the hem."""
    tone = draw_colour(rng) if rng.random() < 0.5 else np.full(3, 0.93, np.float32)
    for side in (-1, 1):
        end = rng.uniform(0.09, 0.17)
        sway = rng.normal(0, 0.006)
        for down in np.arange(0.0, end, 0.003):
            canvas.disc((side * 0.028 + sway * down / end, down), 0.003, tone)
    if rng.random() < 0.75:
        low, high, wide = length - 0.055, length - rng.uniform(0.2, 0.25), rng.uniform(0.1, 0.13)
        pouch = np.array([[-wide, low], [-wide, low - 0.05], [-0.65 * wide, high], [0.65 * wide, high],
                          [wide, low - 0.05], [wide, low]])  # fmt: skip
        canvas.line(pouch, 0.003, 0.4)


def lower_overlay(rng: Generator, kind: str) -> U8:
    """Fly, pockets, waistband, belt and seams of trousers, shorts or a skirt."""
    canvas = Canvas()
    band = rng.uniform(0.03, 0.045)
    thread = rng.uniform(0.15, 0.4)
    dress_belt = kind != "skirt" and rng.random() < 0.35
    canvas.line(np.array([[-0.4, band], [0.4, band]]), 0.003, 0.45)
    if kind != "skirt":
        canvas.line(np.array([[0, 0], [0, 0.3]]), 0.003, 0.5)
        fly = np.array([[0.028, band], [0.03, 0.11], [0.022, 0.15], [0.0, 0.175]])
        canvas.line(fly, 0.002, thread)
        slant = rng.uniform(0.02, 0.05) if kind == "jeans" else rng.uniform(0.0, 0.03)
        for side in (-1, 1):
            start = 0.085 + slant
            pocket = np.array([[start, band], [start + 0.012, 0.075], [start + 0.04, 0.105], [0.19, 0.115]])
            if kind != "jeans":
                pocket = np.array([[start + 0.01, band], [0.165, 0.17]])
            canvas.line(pocket * [side, 1], 0.003, 0.45)
        canvas.disc((0, band / 2), 0.008, np.full(3, rng.uniform(0.3, 0.75)))
    if kind == "jeans" or rng.random() < 0.2:
        for loop in (-0.1, 0.1):
            canvas.line(np.array([[loop, 0], [loop, band + 0.004]]), 0.01, 0.4)
    if dress_belt:
        colour = np.array([[0.08, 0.07, 0.07], [0.32, 0.2, 0.12], [0.55, 0.4, 0.27], [0.9, 0.9, 0.88]])[
            rng.integers(4)
        ]
        canvas.paint(np.full((max(3, int(band / TEXEL) - 3), WIDTH), 255, np.uint8), (0, 2), colour)
        buckle = np.zeros((14, 18), np.uint8)
        cv2.rectangle(buckle, (2, 1), (15, 12), 255, 2)
        canvas.paint_box(buckle, (WIDTH // 2, int(band / 2 / TEXEL)), np.full(3, 0.7))
    return canvas.result()
