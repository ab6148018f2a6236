"""From a config and a checkpoint to files for other runtimes, checked against it."""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmpretrain.models import ImageClassifier

from volo.errors import ConfigError, VoloError, did_you_mean
from volo.files import describe_write_error, write_atomically

from . import standalone
from .formats import FORMATS, Capture, Save, convert, find_format
from .graph import build_graph
from .loading import load_model
from .metadata import describe, test_rule
from .parity import Parity, find_images, make_batches, measure_parity
from .preprocessing import last_size
from .runtimes import open_exported, require_runtime

#: The file beside the exported ones that says what is in them.
LABELS = 'labels.json'


class ParityError(VoloError, RuntimeError):
    """An exported file computes something else than the model."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to export, and how good it must be.

    Attributes:
        formats: Keys of :data:`volo.deploy.formats.FORMATS`.
        dtype: Of the weights, a key of :data:`TOLERANCES`.
        size: Height and width of the images in pixels; None: as ``dynamic`` says.
        dynamic: Take images of any size. If it is not set, segmentors do, and
            classifiers take what the test pipeline makes.
        logits: Return the logits too. Segmentors do anyway if the config evaluates
            with slide inference or resized images.
        images: Files and folders to compare on; none: the validation set.
        tolerance: Largest difference of logits; None: that of the dtype.
    """

    formats: Sequence[str]
    dtype: str = 'float32'
    size: tuple[int, int] | None = None
    dynamic: bool = False
    logits: bool = False
    images: Sequence[str] = ()
    tolerance: float | None = None


#: For each dtype, the largest difference of logits and the least share of equal classes
#: that a file may have.
TOLERANCES = dict(float32=(1e-3, 0.999), float16=(0.1, 0.99))


def export(
    cfg: Config, checkpoint: str, out: str | Path, options: Options
) -> dict[Path, Parity]:
    """Export a model, and keep the files that compute what it does.

    Args:
        cfg: From :func:`volo.engine.launch.load_config`.
        checkpoint: Checkpoint file, or ``URL#sha256=<hash>``.
        out: Folder of the files. Those of an earlier export of the same name are
            removed.
        options: What to export.

    Returns:
        The files, and how far each is from the model.

    Raises:
        ConfigError: A format or its runtime is not installed, or cannot hold the model.
        CheckpointError: The checkpoint does not belong to the config.
        DataError: There are no images to compare on.
        ParityError: A file is further from the model than it may be; it is removed.
    """
    if options.dtype not in TOLERANCES:
        raise ConfigError(
            f'--dtype {options.dtype}: unknown, only {", ".join(TOLERANCES)}'
            f'{did_you_mean(options.dtype, TOLERANCES)}'
        )
    for name in options.formats:
        require_runtime(find_format(name).suffix)
    model, dataset_meta = load_model(cfg, checkpoint)
    images = find_images(cfg, options.images)
    difference, equal = TOLERANCES[options.dtype]
    if options.tolerance is not None:
        difference = options.tolerance
    half = options.dtype == 'float16'
    size, logits = _settle(cfg, model, options)
    exported = {}
    captures: dict[bool, Capture] = {}
    for name in options.formats:
        # OpenVINO stores weights in float16 by itself, and chooses what it computes in.
        half_graph = half and name != 'openvino'
        if half_graph not in captures:
            graph = build_graph(model, logits, half_graph)
            captures[half_graph] = Capture(graph, size)
        capture = captures[half_graph]
        metadata = describe(cfg, model, capture.graph, dataset_meta, size)
        metadata['dtype'] = options.dtype
        metadata['parity'] = None
        stem = 'model' if options.dtype == 'float32' else f'model_{options.dtype}'
        path = Path(out) / f'{stem}{FORMATS[name].suffix}'
        try:
            parity = _write_checked(
                convert(name, capture, half),
                path,
                metadata,
                lambda path: measure_parity(
                    open_exported(path), model, make_batches(images, size)
                ),
                (difference, equal),
            )
            _write_labels(path, metadata)
        except OSError as error:
            raise ConfigError(describe_write_error(path, error)) from error
        exported[path] = parity
    return exported


def _settle(
    cfg: Config, model: Any, options: Options
) -> tuple[tuple[int, int] | None, bool]:
    """Return the size of the images, and whether logits are returned."""
    rule = test_rule(cfg)
    if isinstance(model, ImageClassifier):
        size = None if options.dynamic else options.size or last_size(rule)
        return size, options.logits
    resizes = any('resize' in step for step in rule['steps'])
    slides = model.test_cfg.get('mode') == 'slide'
    if (resizes or slides) and not options.logits:
        print_log(
            'The file returns logits: slide inference and predictions of resized '
            'images need them.',
            logger='current',
        )
    return options.size, options.logits or resizes or slides


def _write_checked(
    save: Save,
    path: Path,
    metadata: dict[str, Any],
    measure: Callable[[Path], Parity],
    limits: tuple[float, float],
) -> Parity:
    """Write a file, compare it, and move it to its place if it is good enough.

    ``metadata`` gets the figures before it is written for the second time.
    """
    for old in (path, path.with_suffix('.bin')):
        if old == path or path.suffix == '.xml':
            old.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.export-', dir=path.parent) as folder:
        # Two folders: a runtime may have mapped the first file into its memory.
        first, second = Path(folder) / 'compared', Path(folder) / 'final'
        for place in (first, second):
            place.mkdir()
        save(first / path.name, metadata)
        parity = measure(first / path.name)
        if not parity.is_within(*limits):
            difference, equal = limits
            raise ParityError(
                f'{path} computes something else than the model and is removed: '
                f'{parity}; allowed are {difference:g} and {equal:.3%}'
            )
        metadata['parity'] = dataclasses.asdict(parity)
        save(second / path.name, metadata)
        for file in second.iterdir():
            file.replace(path.with_name(file.name))
    return parity


def _write_labels(path: Path, metadata: dict[str, Any]) -> None:
    """Write the metadata beside a file, together with those of other formats."""
    labels = path.with_name(LABELS)
    own = ('outputs', 'dtype', 'parity', 'input')
    files = {path.name: {key: metadata[key] for key in own}}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        others = json.loads(labels.read_text()).get('files', {})
        files |= {
            name: entry
            for name, entry in others.items()
            if name != path.name and path.with_name(name).is_file()
        }
    shared = {key: value for key, value in metadata.items() if key not in own}
    content = json.dumps({**shared, 'files': files}, indent=2) + '\n'
    write_atomically(labels, content.encode())
    # It runs the files without this package.
    write_atomically(
        path.with_name('predict.py'), Path(standalone.__file__).read_bytes()
    )
