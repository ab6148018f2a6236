"""Predict images with the exported model in this folder.

    python predict.py IMAGE_OR_FOLDER... --out DIR [--model model.onnx]

Needs numpy, Pillow, and onnxruntime for .onnx or openvino for .xml. DIR gets
predictions.jsonl, overlays and, for segmentation, masks with the index of each pixel's
class. Exit status: 1 if a file could not be read or the runtime is not installed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.gif')
RUNTIMES = {'.onnx': 'onnxruntime', '.xml': 'openvino'}
Run = Callable[[np.ndarray], dict[str, np.ndarray]]


def open_model(path: Path) -> Run:
    """Return a function from RGB images, uint8 (B, H, W, 3), to the outputs by name."""
    if path.suffix == '.onnx':
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        names = [output.name for output in session.get_outputs()]
        return lambda x: dict(zip(names, session.run(None, {'images': x}), strict=True))
    import openvino

    options = {'INFERENCE_PRECISION_HINT': 'f32'}  # bfloat16 on some CPUs otherwise
    model = openvino.Core().compile_model(str(path), 'CPU', options)
    names = [output.get_any_name() for output in model.outputs]
    return lambda x: dict(zip(names, model([x]).to_tuple(), strict=True))


def resize(image: Image.Image, size: Any, method: Any, smooth: bool) -> Image.Image:
    """Resize to a width and height. Not smooth: as OpenCV and PyTorch do."""
    if smooth:
        return image.resize(size, method)
    steps = (image.width / size[0], 0, 0, 0, image.height / size[1], 0)
    return image.transform(size, Image.Transform.AFFINE, steps, method)


def prepare(image: np.ndarray, steps: Sequence[dict[str, Any]]) -> np.ndarray:
    """Resize and crop an RGB image (H, W, 3) as the model's test pipeline does."""
    x = Image.fromarray(image)
    for step in steps:
        width, height = x.size
        if 'crop' in step:  # smaller images are padded with black
            top, left = (
                round((old - new) / 2) if old > new else (old - new + 1) // 2
                for old, new in zip((height, width), step['crop'], strict=True)
            )
            x = x.crop((left, top, left + step['crop'][1], top + step['crop'][0]))
            continue
        size, long, short = step['size'], max(x.size), min(x.size)
        if step['resize'] == 'exact':
            height, width = size
        elif step['resize'] == 'short':
            height, width = int(size * height / short), int(size * width / short)
        else:  # as large as fits
            ratio = min(size[0] / long, size[1] / short)
            height, width = int(height * ratio + 0.5), int(width * ratio + 0.5)
        method = Image.Resampling[step['interpolation'].upper()]
        x = resize(x, (width, height), method, step['antialias'])
    return np.array(x)


def slide(run: Run, image: np.ndarray, window: Any, stride: Any) -> np.ndarray:
    """Return the mean logits (C, H, W) of overlapping windows, as mmsegmentation."""
    last = [max(image.shape[i] - window[i], 0) for i in (0, 1)]
    tops, lefts = (
        [min(start, end) for start in range(0, end + step, step)]
        for end, step in zip(last, stride, strict=True)
    )
    total, count = np.zeros(()), np.zeros(image.shape[:2], np.float32)
    for top in tops:
        for left in lefts:
            place = slice(top, top + window[0]), slice(left, left + window[1])
            logits = run(image[place][None].copy())['logits'][0]
            if not total.ndim:
                total = np.zeros((len(logits), *count.shape), np.float32)
            total[:, place[0], place[1]] += logits
            count[place] += 1
    return total / count


def segment(run: Run, image: np.ndarray, labels: dict[str, Any]) -> np.ndarray:
    """Return the class of each pixel of an RGB image, uint8 (H, W)."""
    x, test = prepare(image, labels['resize']['steps']), labels['inference']
    if test.get('mode') == 'slide':
        logits = slide(run, x, test['crop_size'], test['stride'])
    elif x.shape == image.shape:
        return run(x[None])['classes'][0]
    else:
        logits = run(x[None])['logits'][0]
    size, way = image.shape[1::-1], Image.Resampling.BILINEAR
    images = [resize(Image.fromarray(layer), size, way, False) for layer in logits]
    layers = np.stack([np.asarray(image) for image in images])
    if len(layers) == 1:  # the logit of class 1
        probability = 1 / (1 + np.exp(-layers[0]))
        return (probability > labels['threshold']).astype(np.uint8)
    return layers.argmax(axis=0).astype(np.uint8)


def paint(image: np.ndarray, mask: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Color an RGB image (H, W, 3) by the classes of a mask (H, W), with outlines."""
    edges = np.zeros(mask.shape, bool)
    edges[1:] |= mask[1:] != mask[:-1]
    edges[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    painted = colors[mask]
    return np.where(edges[..., None], painted, painted // 2 + image // 2)


def add_legend(image: np.ndarray, rows: Sequence[tuple[str, float, tuple]]) -> Any:
    """Write names and shares beside an image, with their colors."""
    unit = max(int((image.shape[0] * image.shape[1]) ** 0.5 / 32), 13)
    font = ImageFont.load_default(unit)
    width = unit * 9 + max(int(font.getlength(name)) for name, _, _ in rows)
    whole = Image.new('RGB', (image.shape[1] + width, len(image)), 'white')
    whole.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(whole)
    for i, (name, share, color) in enumerate(rows):
        x, y = image.shape[1] + unit, unit + i * unit * 7 // 4
        draw.rounded_rectangle((x, y, x + unit, y + unit), unit // 5, color)
        left, right, y = x + unit * 8 // 5, whole.width - unit, y + unit // 2
        draw.text((left, y), name, (32, 33, 36), font, 'lm')
        draw.text((right, y), f'{share:.1%}', (112, 117, 122), font, 'rm')
    return whole


def predict(run: Run, image: np.ndarray, labels: dict[str, Any]) -> tuple:
    """Return the classes of an RGB image for a JSON line, and drawings by folder."""
    names = labels['classes']
    if labels['task'] == 'classification':
        inputs = prepare(image, labels['resize']['steps'])[None]
        scores = run(inputs)['probabilities'][0]
        best = np.argsort(-scores)[:5].tolist()
        rows = [(names[i], float(scores[i]), (26, 115, 232)) for i in best]
        return rows, {'overlays': add_legend(image, rows)}
    array = segment(run, image, labels)
    shares = np.bincount(array.ravel(), minlength=len(names)) / array.size
    random = np.random.default_rng(0).integers(40, 256, (len(names), 3))
    colors = np.array(labels['palette'] or random, np.uint8)
    rows = [(names[i], shares[i], tuple(colors[i])) for i in np.argsort(-shares)]
    overlay = add_legend(paint(image, array, colors), [r for r in rows if r[1] > 0])
    mask = Image.fromarray(array)
    mask.putpalette(colors.tobytes())
    return rows, {'masks': mask, 'overlays': overlay}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('sources', nargs='+', type=Path, help='images and folders')
    parser.add_argument('--out', type=Path, required=True, help='folder of the outputs')
    parser.add_argument('--model', type=Path, help='default: one in this folder')
    args, here = parser.parse_args(), Path(__file__).parent
    labels = json.loads((here / 'labels.json').read_text(encoding='utf-8'))
    files = [args.model] if args.model else [here / name for name in labels['files']]
    usable = [file for file in files if find_spec(RUNTIMES.get(file.suffix, '-'))]
    if not usable:
        names = ' or '.join({RUNTIMES.get(f.suffix, 'volo predict') for f in files})
        sys.exit(f'error: not installed: {names}, which runs these files')
    run = open_model(usable[0])
    failed, lines, upright = 0, [], labels['upright']
    for source in args.sources:
        root = source if source.is_dir() else source.parent
        for path in sorted(source.rglob('*')) if source.is_dir() else [source]:
            if path != source and path.suffix.lower() not in SUFFIXES:
                continue
            try:
                with Image.open(path) as file:
                    file = ImageOps.exif_transpose(file) if upright else file
                    image = np.array(file.convert('RGB'))
            except Exception as error:  # decoders raise whatever they run into
                print(f'{path}: {error}', file=sys.stderr)
                failed += 1
                continue
            rows, drawings = predict(run, image, labels)
            for folder, drawing in drawings.items():
                target = args.out / folder / f'{path.relative_to(root)}.png'
                target.parent.mkdir(parents=True, exist_ok=True)
                drawing.save(target)
            key = 'score' if len(drawings) == 1 else 'share'
            found = [{'name': name, key: value} for name, value, _ in rows]
            lines.append(json.dumps({'source': str(path), 'classes': found}))
    (args.out / 'predictions.jsonl').write_text(''.join(f'{line}\n' for line in lines))
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
