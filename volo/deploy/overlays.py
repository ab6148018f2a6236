"""Predictions drawn on their images, with a legend beside them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: Fonts with more letters than Pillow's own, the first that is installed.
_FONTS = ('NotoSansCJK-Regular.ttc', 'DejaVuSans.ttf', 'arial.ttf')

_INK, _GRAY, _TRACK = (32, 33, 36), (112, 117, 122), (225, 228, 232)
_BLUE = (26, 115, 232)


def draw_segmentation(
    image: np.ndarray,
    mask: np.ndarray,
    classes: Sequence[str],
    palette: np.ndarray,
    opacity: float = 0.5,
    steady: bool = False,
) -> Image.Image:
    """Color the pixels of an image by class, with outlines and a legend.

    Args:
        image: RGB, uint8 (H, W, 3).
        mask: Index of the class, uint8 (H, W).
        classes: Names of the classes.
        palette: Their colors, RGB, uint8 (classes, 3).
        opacity: Of the colors, from 0 to 1. Outlines are opaque.
        steady: List all classes in their own order, for the frames of a video.
            Otherwise those of the mask, the largest first.

    Returns:
        The overlay. Images below 320 pixels are enlarged, those above 4096 reduced.
    """
    shares = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
    painted = np.array(_fit(Image.fromarray(image), Image.Resampling.BICUBIC))
    mask = np.asarray(_fit(Image.fromarray(mask), Image.Resampling.NEAREST))
    palette = np.asarray(palette, np.uint8)
    painted = _paint(
        painted, mask, palette, opacity, max(_unit_of(painted.shape) // 18, 1)
    )
    order = range(len(classes)) if steady else np.argsort(-shares, kind='stable')
    rows = [(classes[i], shares[i], tuple(palette[i])) for i in order]
    return _add_panel(
        painted, [row for row in rows if steady or row[1] > 0], bars=False
    )


def draw_classification(
    image: np.ndarray, names: Sequence[str], scores: Sequence[float]
) -> Image.Image:
    """Write the best classes of an image beside it, with bars.

    Args:
        image: RGB, uint8 (H, W, 3).
        names: Names of the classes, the best first.
        scores: Their probabilities.
    """
    rows = [(name, score, _BLUE) for name, score in zip(names, scores, strict=True)]
    painted = np.asarray(_fit(Image.fromarray(image), Image.Resampling.BICUBIC))
    return _add_panel(painted, rows, bars=True)


def _fit(image: Image.Image, resample: Image.Resampling) -> Image.Image:
    """Enlarge an image below 320 pixels by a whole factor; reduce one above 4096."""
    longest = max(image.size)
    factor = min(max(-(-320 // longest), 1), 4096 / longest)
    if factor == 1:
        return image
    return image.resize([max(round(side * factor), 1) for side in image.size], resample)


def _unit_of(shape: Sequence[int]) -> int:
    """Return the size of the letters for an image (H, W, ...), in pixels."""
    return int(np.clip((shape[0] * shape[1]) ** 0.5 / 32, 13, 80))


def _font_for(text: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font. Pillow's own has the letters of ASCII alone."""
    for name in () if text.isascii() else _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:  # not installed
            continue
    return ImageFont.load_default(size)


def _paint(
    image: np.ndarray,
    mask: np.ndarray,
    palette: np.ndarray,
    opacity: float,
    line: int,
) -> np.ndarray:
    """Color an image by class, with opaque outlines on both sides of each border."""
    painted = image.copy()
    for top in range(0, len(mask), 256):  # in bands, which take little memory
        above = min(top, line)
        band = mask[top - above : top + 256 + line]
        edges = np.zeros(band.shape, bool)
        for step in range(1, line + 1):
            for a, b in (band, edges), (band.T, edges.T):
                differ = a[step:] != a[:-step]
                b[step:] |= differ
                b[:-step] |= differ
        edges, band = (x[above : above + 256] for x in (edges, band))
        colors, pixels = palette[band], painted[top : top + 256]
        mixed = pixels + (colors.astype(np.float32) - pixels) * opacity
        pixels[:] = np.where(edges[..., None], colors, mixed.round())
    return painted


def _add_panel(
    image: np.ndarray, rows: Sequence[tuple[str, float, tuple | None]], bars: bool
) -> Image.Image:
    """Add a legend at the right: color, name and share of each class, or a bar."""
    unit = _unit_of(image.shape)
    font = _font_for(''.join(name for name, _, _ in rows), unit)
    step = unit * 5 // 2 if bars else unit * 7 // 4
    fitting = max((len(image) - unit) // step, 1)
    columns = min(-(-len(rows) // fitting), 3)
    if len(rows) > columns * fitting:
        shown = columns * fitting - 1
        rows = [*rows[:shown], (f'and {len(rows) - shown} more', 0.0, None)]
    name_width = max([int(font.getlength(name)) for name, _, _ in rows], default=0)
    width = unit * 7 + name_width
    panel = Image.new('RGB', (width * columns + unit, len(image)), 'white')
    draw = ImageDraw.Draw(panel)
    for i, (name, share, color) in enumerate(rows):
        x, y = i // fitting * width + unit, unit // 2 + i % fitting * step + unit // 3
        left, right = x + (0 if bars else unit * 8 // 5), x + width - unit
        draw.text((left, y + unit // 2), name, _INK if color else _GRAY, font, 'lm')
        if color is None:
            continue
        text = f'{share:.1%}' if share >= 0.001 or not share else '<0.1%'
        draw.text((right, y + unit // 2), text, _GRAY, font, 'rm')
        if bars:
            y, height = y + unit * 13 // 10, max(unit // 3, 3)
            for end, fill in (right, _TRACK), (x + (right - x) * share, color):
                box = (x, y, max(end, x + height), y + height)
                draw.rounded_rectangle(box, height // 2, fill)
        else:
            draw.rounded_rectangle((x, y, x + unit, y + unit), unit // 5, color)
    whole = Image.new('RGB', (image.shape[1] + panel.width, len(image)))
    whole.paste(Image.fromarray(image), (0, 0))
    whole.paste(panel, (image.shape[1], 0))
    return whole
