"""The stages of the demo, from drawing a dataset to a table of results."""

import dataclasses
import os
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from mmpretrain import ImageClassificationInferencer
from mmseg.apis import inference_model, init_model
from PIL import Image

from volo.engine.resuming import move_aside
from volo.errors import ConfigError, VoloError
from volo.paths import config_path, package_data_root
from volo.visualization.curves import read_curves

from .commands import relative, run_tool, thread_settings
from .figures import draw_curves, draw_predictions
from .results import last_checkpoint, read_metric
from .shapes import SHAPE_CLASSES, generate_shapes_dataset

ANNOTATOR_CONFIG = 'volo_tiny_shapes'
CLASSIFIER_CONFIG = 'volo_tiny_token_label_shapes'
SEGMENTOR_CONFIG = 'volo_tiny_upernet_shapes'
DEFAULT_DATA_ROOT = Path('data/shapes')
STAGES = 7

# The second training goes on from the first.
ANNOTATOR_EPOCHS = 10
CLASSIFIER_EPOCHS = 2

MIN_TOP1 = 85.0
"""Top-1 accuracy in percent that a demo of full length must reach."""
MIN_MIOU = 60.0
"""mIoU in percent that it must reach with pretraining."""
MIN_GAIN = 5.0
"""Points of mIoU by which pretraining must win over training from scratch."""

# Of each class, to look at.
_SHOWN_PER_CLASS = 2


class DemoError(VoloError):
    """The demo ran to its end, but the results are not what they must be."""


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """What can be varied.

    Attributes:
        work_dir: Folder of all results.
        data_root: Folder of the dataset.
        images_per_class: Training images of each class; a fifth as many are
            drawn for validation.
        epochs: Length of the annotator's and of the classifier's training; None for
            the demo's own.
        iterations: Length of each segmentor's training; None for the config's.
        check: Demand that the results reach the bars.
    """

    work_dir: Path = Path('work_dirs/demo')
    data_root: Path = DEFAULT_DATA_ROOT
    images_per_class: int = 400
    epochs: int | None = None
    iterations: int | None = None
    check: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that would fail minutes later."""
        for name in ('images_per_class', 'epochs', 'iterations'):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f'{name} must be at least 1, got {value}')


@dataclasses.dataclass(frozen=True)
class DemoResults:
    """Metrics on the validation images, in percent."""

    top1: float
    miou_pretrained: float
    miou_scratch: float

    def shortcomings(self) -> list[str]:
        """Say which bars are missed; empty if none is."""
        missed = []
        if self.top1 < MIN_TOP1:
            missed.append(f'top-1 {self.top1:.1f} % is below {MIN_TOP1:.0f} %')
        if self.miou_pretrained < MIN_MIOU:
            missed.append(
                f'mIoU {self.miou_pretrained:.1f} % is below {MIN_MIOU:.0f} %, '
                'with pretraining'
            )
        gain = self.miou_pretrained - self.miou_scratch
        if gain < MIN_GAIN:
            missed.append(
                f'pretraining gains {gain:.1f} points of mIoU, less than {MIN_GAIN:.0f}'
            )
        return missed


class Demo:
    """Runs the stages one after the other.

    Everything goes below ``options.work_dir``, but for the dataset.
    """

    def __init__(self, options: DemoOptions) -> None:
        self.options = options
        work_dir = options.work_dir
        self.annotator_dir = work_dir / 'annotator'
        self.label_maps_dir = work_dir / 'token_labels'
        self.classifier_dir = work_dir / 'classifier'
        self.segmentor_dirs = {
            'pretrained': work_dir / 'segmentor_pretrained',
            'from scratch': work_dir / 'segmentor_scratch',
        }
        self.curves_path = work_dir / 'curves.png'
        self.predictions_path = work_dir / 'predictions.png'
        self._tools = package_data_root() / 'tools'
        self._started = time.monotonic()
        self._stage = 0

    def run(self) -> DemoResults:
        """Run all stages.

        Returns:
            The metrics.

        Raises:
            DemoError: A bar is missed, and ``options.check`` is on.
            VoloError: A stage fails.
        """
        self._print_setting()
        self._draw_data()
        self._train_annotator()
        self._annotate()
        self._pretrain()
        self._segment()
        results = self._evaluate()
        self._draw_figures()
        self._print_results(results)
        missed = results.shortcomings()
        if missed and self.options.check:
            raise DemoError('; '.join(missed))
        return results

    # --- Stages ---

    def _draw_data(self) -> None:
        options = self.options
        self._header(f'draw images of shapes into {relative(options.data_root)}')
        generate_shapes_dataset(
            options.data_root,
            train_per_class=options.images_per_class,
            val_per_class=max(1, options.images_per_class // 5),
        )
        for split in ('train', 'val'):
            count = sum(1 for _ in options.data_root.glob(f'images/{split}/*/*.jpg'))
            print(f'  {split}: {count} images of {len(SHAPE_CLASSES)} classes')

    def _train_annotator(self) -> None:
        self._header('train VOLO-tiny to name the shapes, with plain labels')
        epochs = self.options.epochs or ANNOTATOR_EPOCHS
        cfg_options = [*self._data_options(), f'train_cfg.max_epochs={epochs}']
        self._train(ANNOTATOR_CONFIG, self.annotator_dir, cfg_options)

    def _annotate(self) -> None:
        self._header('let it say what it sees in every part of every image')
        log = self.options.work_dir / 'token_labels.log'
        run_tool(
            self._tools / 'generate_token_labels.py',
            [
                relative(self.options.data_root / 'images/train'),
                relative(self.label_maps_dir),
                '--config',
                relative(config_path(ANNOTATOR_CONFIG)),
                '--checkpoint',
                relative(last_checkpoint(self.annotator_dir)),
                '--packed',
            ],
            log,
        )
        print(f'  {log.read_text().splitlines()[-1]}')

    def _pretrain(self) -> None:
        self._header('go on with token labels: every token on its own target')
        epochs = self.options.epochs or CLASSIFIER_EPOCHS
        # Label maps are looked for below the dataset.
        label_root = os.path.relpath(self.label_maps_dir, self.options.data_root)
        cfg_options = [
            *self._data_options(),
            f'train_cfg.max_epochs={epochs}',
            f'load_from={relative(last_checkpoint(self.annotator_dir))}',
            f'train_dataloader.dataset.label_root={label_root}',
            # As in published fine-tuning: a small rate, and the label mixed in.
            'optim_wrapper.optimizer.lr=1e-4',
            'model.ground_truth=True',
        ]
        self._train(CLASSIFIER_CONFIG, self.classifier_dir, cfg_options)

    def _segment(self) -> None:
        self._header('train UPerNet to outline them: pretrained, then from scratch')
        cfg_options = self._data_options()
        if self.options.iterations is not None:
            cfg_options += [
                f'train_cfg.max_iters={self.options.iterations}',
                f'train_cfg.val_interval={max(1, self.options.iterations // 5)}',
            ]
        pretrained = relative(last_checkpoint(self.classifier_dir))
        init_options = [
            'model.backbone.init_cfg.type=Pretrained',
            f'model.backbone.init_cfg.checkpoint={pretrained}',
        ]
        for (name, run_dir), extra in zip(
            self.segmentor_dirs.items(), (init_options, []), strict=True
        ):
            print(f'  -- {name}')
            self._train(SEGMENTOR_CONFIG, run_dir, cfg_options + extra)

    def _evaluate(self) -> DemoResults:
        self._header('evaluate the last checkpoints on the validation images')
        return DemoResults(
            self._test(CLASSIFIER_CONFIG, self.classifier_dir, 'accuracy/top1'),
            *(
                self._test(SEGMENTOR_CONFIG, run_dir, 'mIoU')
                for run_dir in self.segmentor_dirs.values()
            ),
        )

    def _draw_figures(self) -> None:
        self._header('draw training curves and predictions')
        draw_curves(
            read_curves(self.classifier_dir),
            {name: read_curves(path) for name, path in self.segmentor_dirs.items()},
            self.curves_path,
        )
        with warnings.catch_warnings():
            # About losses and metrics, none of which is used here.
            warnings.simplefilter('ignore')
            self._draw_predictions()

    def _draw_predictions(self) -> None:
        # One thread: this process may have started with threads that spin.
        torch.set_num_threads(1)
        # The first ones, not the best ones.
        images = [
            path
            for name in SHAPE_CLASSES
            for path in sorted(
                (self.options.data_root / 'images/val' / name).glob('*.jpg')
            )[:_SHOWN_PER_CLASS]
        ]
        classify = ImageClassificationInferencer(
            str(config_path(CLASSIFIER_CONFIG)),
            pretrained=str(last_checkpoint(self.classifier_dir)),
            device='cpu',
        )
        classified = classify([str(path) for path in images])
        masks = {'truth': [self._true_mask(path) for path in images]}
        for name, run_dir in self.segmentor_dirs.items():
            segmentor = init_model(
                str(config_path(SEGMENTOR_CONFIG)),
                str(last_checkpoint(run_dir)),
                device='cpu',
            )
            masks[name] = [
                inference_model(segmentor, str(path)).pred_sem_seg.data[0].numpy()
                for path in images
            ]
        draw_predictions(
            images,
            [
                (result['pred_class'], path.parent.name)
                for result, path in zip(classified, images, strict=True)
            ],
            masks,
            self.predictions_path,
        )

    def _true_mask(self, image: Path) -> np.ndarray:
        name = image.relative_to(self.options.data_root / 'images')
        path = self.options.data_root / 'masks' / name.with_suffix('.png')
        with Image.open(path) as mask:
            return np.asarray(mask)

    # --- Commands ---

    def _data_options(self) -> list[str]:
        if self.options.data_root == DEFAULT_DATA_ROOT:
            return []
        return [f'data_root={relative(self.options.data_root)}']

    def _train(self, config: str, run_dir: Path, cfg_options: list[str]) -> None:
        self._run('train', config, [], run_dir, cfg_options)

    def _test(self, config: str, run_dir: Path, metric: str) -> float:
        out = run_dir / 'metrics.json'
        arguments = [relative(last_checkpoint(run_dir)), '--out', relative(out)]
        self._run('test', config, arguments, run_dir / 'test', self._data_options())
        return read_metric(out, metric)

    def _run(
        self,
        tool: str,
        config: str,
        arguments: list[str],
        work_dir: Path,
        cfg_options: list[str],
    ) -> None:
        arguments = [
            relative(config_path(config)),
            *arguments,
            '--work-dir',
            relative(work_dir),
        ]
        if cfg_options:
            arguments += ['--cfg-options', *cfg_options]
        run_tool(self._tools / f'{tool}.py', arguments, work_dir / 'console.log')

    # --- Reports ---

    def _print_setting(self) -> None:
        print('VOLO in miniature. Every command below can be typed again, best with')
        print(' '.join(f'{key}={value}' for key, value in thread_settings().items()))

    def _header(self, title: str) -> None:
        self._stage += 1
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        print(
            f'\n[{self._stage}/{STAGES}] {title}  (after {minutes}:{seconds:02d})',
            flush=True,
        )

    def _print_results(self, results: DemoResults) -> None:
        minutes, seconds = divmod(round(time.monotonic() - self._started), 60)
        pretrained_dir, scratch_dir = self.segmentor_dirs.values()
        print(f'\nResults after {minutes}:{seconds:02d} minutes')
        for label, value, bar in (
            ('classification, top-1', results.top1, MIN_TOP1),
            ('segmentation, mIoU, pretrained', results.miou_pretrained, MIN_MIOU),
            ('segmentation, mIoU, from scratch', results.miou_scratch, None),
        ):
            note = f'   (at least {bar:.0f} %)' if bar is not None else ''
            print(f'  {label:34}{value:6.2f} %{note}')
        print('\nTo look at')
        for label, path in (
            ('predictions', self.predictions_path),
            ('training curves', self.curves_path),
            ('label maps', self.label_maps_dir),
            ('classifier', last_checkpoint(self.classifier_dir)),
            ('segmentor, pretrained', last_checkpoint(pretrained_dir)),
            ('segmentor, from scratch', last_checkpoint(scratch_dir)),
            ('dataset', self.options.data_root),
        ):
            print(f'  {label:26}{relative(path)}')


def run_demo(options: DemoOptions) -> DemoResults:
    """Run the demo; the results of an earlier one are moved aside, not lost.

    Raises:
        DemoError: A bar is missed, and ``options.check`` is on.
        VoloError: A stage fails.
    """
    earlier = move_aside(options.work_dir)
    if earlier is not None:
        print(f'Earlier results are now in {relative(earlier)}')
    return Demo(options).run()
