"""Draw critters: signed distances to simple shapes become coverages, and coverages are composited by one matrix product.

A layer has one colour per animal, so the picture is sum_k weight_k * colour_k with weight_k = coverage_k * prod_{j in front}
(1 - coverage_j). Everything is smooth in the factors almost everywhere, works on any device and at any resolution.
Distance functions of circles, boxes and capsules: Inigo Quilez, "2D distance functions".
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minidiff.data.factors import Factors
from minidiff.data.species import Shape, shapes

CREAM, PINK, BLACK, WHITE = (0.98, 0.95, 0.88), (0.95, 0.60, 0.62), (0.09, 0.08, 0.10), (1.0, 1.0, 1.0)
THROAT = (0.42, 0.07, 0.10)
FRAMES = (0.86, 0.08, 0.50)  # of glasses: a colour that no coat and no eye has
PARTS = (
    "background",
    "ears",
    "head",
    "pattern",
    "muzzle",
    "eyes",
    "pupils",
    "nose",
    "mouth",
    "glasses",
    "hat",
)
EYE_X, EYE_Y = 0.42, -0.12  # shared by all species, as in aligned photographs
GAZE = 0.11  # how far the iris wanders, in head radii


class Layer(NamedTuple):
    part: str | None  # of PARTS; None for what is too faint to be one
    coverage: Tensor  # (B, H, W) in [0, 1]
    colour: Tensor  # (B, 3) in [0, 1]


def render(factors: Factors, size: int = 64, chunk: int = 64, rows: Sequence[Shape] | None = None) -> Tensor:
    """Pictures of the animals, (B, 3, size, size) in [-1, 1], drawn `chunk` at a time. Raises ValueError for size < 8.

    `rows` are the shapes that `factors.species` counts through, by default those of SPECIES.
    """
    if size < 8:
        raise ValueError(f"size: expected at least 8 pixels, got {size}")
    return torch.cat([_render(factors[start : start + chunk], size, rows) for start in range(0, len(factors), chunk)])


def semantic_map(factors: Factors, size: int = 64) -> Tensor:
    """Which of PARTS each pixel shows, (B, size, size) long.

    Whiskers are no part: under such thin and translucent lines a pixel still shows what lies below.
    """
    layers, weights = _composite(factors, size)
    areas = [k for k, layer in enumerate(layers) if layer.part]
    layers, weights = [layers[k] for k in areas], weights[:, areas]
    parts = torch.zeros(len(factors), len(PARTS), size, size, dtype=weights.dtype, device=weights.device)
    index = torch.tensor([PARTS.index(layer.part) for layer in layers], device=weights.device)
    return parts.index_add(1, index, weights).argmax(1)


def _render(factors: Factors, size: int, rows: Sequence[Shape] | None) -> Tensor:
    layers, weights = _composite(factors, size, rows)
    colours = torch.stack([layer.colour for layer in layers], dim=2)  # (B, 3, K)
    images = torch.bmm(colours, weights.flatten(2))  # (B, 3, H*W)
    return (2 * images - 1).unflatten(2, (size, size))


def _composite(factors: Factors, size: int, rows: Sequence[Shape] | None = None) -> tuple[list[Layer], Tensor]:
    """The layers, front to back, and their weights (B, K, H, W), which sum to 1 at every pixel."""
    layers = list(_layers(factors, size, rows))[::-1]
    weights, light = [], 1.0
    for layer in layers:
        weights.append(layer.coverage * light)
        light = light - weights[-1]
    return layers, torch.stack(weights, dim=1)


def _layers(f: Factors, size: int, rows: Sequence[Shape] | None = None) -> Iterator[Layer]:
    """The layers of a picture from back to front."""
    dtype = f.size.dtype
    shape = shapes(f.species, dtype, rows)
    column = {name: value[:, None, None] for name, value in f.tensors().items() if value.dim() == 1}
    baby = column["baby"].to(dtype)

    # pixel centres in the face's own frame: moved, turned, measured in head radii
    axis = (torch.arange(size, dtype=dtype, device=f.size.device) + 0.5) * (2 / size) - 1
    radius = column["size"] * (1 - 0.12 * baby)
    cos, sin = column["tilt"].cos() / radius, column["tilt"].sin() / radius
    dx, dy = axis[None, None, :] - column["x"], axis[None, :, None] - column["y"]
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # (B, H, W)
    side = u.abs()  # the face is symmetric: draw one half, get both
    pixel = (2 / size) / radius

    def cover(distance: Tensor) -> Tensor:
        return (0.5 - distance / pixel).clamp(0, 1)

    def flat(colour: tuple) -> Tensor:
        return torch.tensor(colour, dtype=dtype, device=u.device).expand(len(f), 3)

    def mix(a: Tensor, b: Tensor, amount: Tensor | float) -> Tensor:
        return a + (b - a) * (amount.flatten()[:, None] if isinstance(amount, Tensor) else amount)

    coat, bright = f.coat, (f.coat.mean(1, keepdim=True) > 0.45).to(dtype)
    dark = mix(coat, flat(CREAM), 0.55) * (1 - bright) + 0.45 * coat * bright  # markings: lighter on a dark coat

    # background, with a little shade towards the floor
    yield Layer("background", torch.ones_like(u), f.background)
    yield Layer("background", (0.10 + 0.10 * axis)[None, :, None].expand_as(u), flat(BLACK))

    # ears: a cone from base to tip
    length = column["ear_length"] * (1 - 0.2 * baby)
    tip = (
        shape["ear_base_x"] + (shape["ear_tip_x"] - shape["ear_base_x"]) * length,
        shape["ear_base_y"] + (shape["ear_tip_y"] - shape["ear_base_y"]) * length,
    )
    distance = cone(
        side, v, (shape["ear_base_x"], shape["ear_base_y"]), tip, shape["ear_base_radius"], shape["ear_tip_radius"]
    )
    ear, ear_colour = cover(distance), mix(coat, dark, shape["ear_dark"])
    yield Layer("ears", ear, ear_colour)
    yield Layer("ears", cover(distance + 0.13) * shape["ear_inner"], mix(coat, flat(PINK), 0.75))

    # head, its markings and its shade
    width = shape["head_width"] * (1 + shape["chin"] * v)
    head = cover(ellipse(u / width, v / shape["head_height"], shape["head_height"]))
    yield Layer("head", head, coat)
    yield Layer("pattern", head * _markings(f, u, v, side, pixel), dark)
    yield Layer("head", head * (0.12 * (v + 0.6)).clamp(0, 0.2), flat(BLACK))
    yield Layer("ears", ear * shape["ear_front"], ear_colour)

    # muzzle: two lobes
    grow = 1 - 0.15 * baby
    lobe_x = (side - shape["muzzle_x"] * grow) / (shape["muzzle_width"] * grow)
    lobe_y = (v - shape["muzzle_y"]) / (shape["muzzle_height"] * grow)
    muzzle = cover(ellipse(lobe_x, lobe_y, shape["muzzle_height"])) * head
    yield Layer("muzzle", muzzle, mix(coat, flat(CREAM), shape["muzzle_light"]))

    # mouth: a chord and an arc that a smile bends down and sadness up, open between them; the line up to the nose
    smile = column["smile"]
    mouth_y = shape["muzzle_y"] + 0.16 - 0.06 * smile
    arc = v - mouth_y - 0.32 * smile * (1 - (side / 0.38).square())  # 0 on the arc
    inside = torch.maximum((v - mouth_y) * arc / 0.10, side - 0.38)  # below 0 between chord and arc
    yield Layer("mouth", cover(inside), flat(THROAT))
    line = torch.maximum(arc.abs() - 0.04, side - 0.38)
    stem = torch.maximum((v - shape["muzzle_y"] + 0.02).abs() - 0.10, side - 0.025)
    yield Layer("mouth", cover(torch.minimum(line, stem)), flat(BLACK))

    # nose
    nose_y = shape["muzzle_y"] - 0.17
    nose_v = (v - nose_y) / shape["nose_height"]
    nose = ellipse(u / shape["nose_width"] / (1 - 0.35 * nose_v), nose_v, shape["nose_height"])  # narrower below
    yield Layer("nose", cover(nose), mix(flat(BLACK), flat(PINK), shape["nose_pink"]))

    # eyes: white, iris, pupil, glint; the last three follow the gaze
    big = column["eye_size"] * (1 + 0.18 * baby)
    eye_h, eye_v = shape["eye_height"] * big, v - EYE_Y - 0.06 * baby
    white = cover(ellipse((side - EYE_X) / (shape["eye_width"] * big), eye_v / eye_h, eye_h))
    yield Layer("eyes", white, flat(WHITE))
    iris_x = (u - GAZE * column["gaze_x"]).abs() - EYE_X
    iris_y = eye_v - 0.8 * GAZE * column["gaze_y"]
    iris_r = 0.18 * big
    yield Layer("eyes", cover(ellipse(iris_x / iris_r, iris_y / iris_r, iris_r)) * white, f.eye)
    pupil_r = 0.11 * big
    pupil = ellipse(iris_x / (pupil_r * shape["pupil_width"]), iris_y / pupil_r, pupil_r * shape["pupil_width"])
    yield Layer("pupils", cover(pupil) * white, flat(BLACK))

    # whiskers: three thin rays on each side
    ray = ((side - 0.3) * 0.16 + 0.02 - (v - shape["muzzle_y"]).abs()).abs()
    ray = torch.minimum(ray, (v - shape["muzzle_y"]).abs())
    whisker = torch.maximum(ray - 0.012, (side - 0.80).abs() - 0.34)
    yield Layer(None, cover(whisker) * 0.5 * shape["whiskers"], flat(CREAM))

    # accessories, where worn
    worn = column["glasses"].to(dtype)
    lens = ((side - EYE_X).square() + eye_v.square()).sqrt() - 0.35
    bridge = torch.maximum((v - EYE_Y - 0.06 * baby + 0.05).abs() - 0.04, side - 0.10)
    yield Layer("glasses", cover(lens) * 0.22 * worn, flat(WHITE))
    yield Layer("glasses", cover(torch.minimum(lens.abs() - 0.05, bridge)) * worn, flat(FRAMES))
    worn = column["hat"].to(dtype)
    brim_y = 0.06 - shape["head_height"]
    crown = torch.maximum(side - 0.44 + 0.08 * (v - brim_y), (v - brim_y + 0.30).abs() - 0.30)
    brim = torch.maximum(side - 0.74, (v - brim_y).abs() - 0.085)
    band = torch.maximum(side - 0.44, (v - brim_y + 0.15).abs() - 0.07)
    yield Layer("hat", cover(torch.minimum(crown, brim)) * worn, f.hat_colour)
    yield Layer("hat", cover(band) * worn, f.hat_colour * 0.45)


def _markings(f: Factors, u: Tensor, v: Tensor, side: Tensor, pixel: Tensor) -> Tensor:
    """Where the coat is marked, (B, H, W) in [0, 1], for PATTERNS plain, striped, spotted and patched."""
    marking = f.marking[:, None, None]

    def above(wave: Tensor, slope: float) -> Tensor:  # a wave of this slope, cut at 0, one pixel soft
        return (0.5 + wave / (slope * pixel)).clamp(0, 1)

    forehead = above((13 * u).cos() - 0.1, 13) * above(-0.48 - v - 0.25 * side, 1)
    cheeks = above((13 * (v + 0.25 * side)).cos() - 0.1, 13) * above(side - 0.68, 1)
    striped = torch.maximum(forehead, cheeks)
    spotted = above((7 * u + 6.3 * marking).cos() * (7 * v + 12.6 * marking).cos() - 0.45, 7)
    patch_x = torch.where(marking < 0.5, u - 0.42, u + 0.42)
    patched = above(0.46 - (patch_x.square() + (v + 0.18 + 0.2 * (marking - 0.5)).square()).sqrt(), 1)
    masks = torch.stack([torch.zeros_like(u), striped, spotted, patched], dim=1)
    return masks[torch.arange(len(f), device=u.device), f.pattern]


def ellipse(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """About the distance to an ellipse, from coordinates divided by its half axes, the smaller of which is `radius`."""
    return ((x.square() + y.square()).sqrt() - 1) * radius


def cone(x: Tensor, y: Tensor, base: tuple, tip: tuple, base_radius: Tensor, tip_radius: Tensor) -> Tensor:
    """Distance to a capsule whose radius runs from `base_radius` at `base` to `tip_radius` at `tip`."""
    bx, by = tip[0] - base[0], tip[1] - base[1]
    px, py = x - base[0], y - base[1]
    along = ((px * bx + py * by) / (bx.square() + by.square())).clamp(0, 1)
    gap = ((px - along * bx).square() + (py - along * by).square()).sqrt()
    return gap - base_radius - along * (tip_radius - base_radius)
