"""Run the stages of the demo, from drawing a dataset to a table of results."""

import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from volo.engine.resuming import move_aside
from volo.paths import config_path, package_data_root
from volo.visualization.curves import read_curves

from .commands import relative, run_tool, thread_settings
from .figures import draw_curves
from .options import ANNOTATOR_EPOCHS, CLASSIFIER_EPOCHS, DEFAULT_DATA_ROOT, DemoOptions
from .predictions import predict_and_draw
from .results import (
    MIN_MIOU,
    MIN_TOP1,
    DemoError,
    DemoResults,
    last_checkpoint,
    read_metric,
)
from .shapes import SHAPE_CLASSES
from .shapes_dataset import generate_shapes_dataset

ANNOTATOR_CONFIG = 'volo_tiny_shapes'
CLASSIFIER_CONFIG = 'volo_tiny_token_label_shapes'
SEGMENTOR_CONFIG = 'volo_tiny_upernet_shapes'
STAGES = 7


class Demo:
    """Run the stages.

    All results go below ``options.work_dir``; the dataset goes to
    ``options.data_root``.
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
            DemoError: A result is worse than required, and ``options.check`` is on.
            VoloError: A stage fails.
        """
        self._print_introduction()
        self._draw_data()
        # The segmentor from scratch needs no other stage: a second core trains it.
        with ThreadPoolExecutor(1) as beside:
            scratch = beside.submit(self._segment, 'from scratch', [], 'scratch: ')
            self._train_annotator()
            self._annotate()
            self._pretrain()
            self._segment_pretrained()
            scratch.result()
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
        self._header(f'draw synthetic shapes into {relative(options.data_root)}')
        generate_shapes_dataset(
            options.data_root,
            train_per_class=options.images_per_class,
            val_per_class=max(1, options.images_per_class // 5),
        )
        for split in ('train', 'val'):
            count = sum(1 for _ in options.data_root.glob(f'images/{split}/*/*.jpg'))
            print(f'  {split}: {count} images of {len(SHAPE_CLASSES)} classes')

    def _train_annotator(self) -> None:
        self._header(
            'train VOLO-tiny as a classifier, with plain labels; beside it, train '
            'UPerNet for segmentation from scratch'
        )
        epochs = self.options.epochs or ANNOTATOR_EPOCHS
        cfg_options = [*self._data_options(), f'train_cfg.max_epochs={epochs}']
        self._train(ANNOTATOR_CONFIG, self.annotator_dir, cfg_options)

    def _annotate(self) -> None:
        self._header('generate token labels: classify every part of every image')
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
        self._header('continue with token labels: a target for every token')
        epochs = self.options.epochs or CLASSIFIER_EPOCHS
        # The config's label_root is relative to data_root.
        label_root = os.path.relpath(self.label_maps_dir, self.options.data_root)
        cfg_options = [
            *self._data_options(),
            f'train_cfg.max_epochs={epochs}',
            f'load_from={relative(last_checkpoint(self.annotator_dir))}',
            f'train_dataloader.dataset.label_root={label_root}',
            # As in published fine-tuning: a small learning rate, and the image's label
            # mixed into the targets.
            'optim_wrapper.optimizer.lr=1e-4',
            'model.ground_truth=True',
        ]
        self._train(CLASSIFIER_CONFIG, self.classifier_dir, cfg_options)

    def _segment_pretrained(self) -> None:
        self._header('train UPerNet for segmentation, from the pretrained weights')
        checkpoint = relative(last_checkpoint(self.classifier_dir))
        init_options = [
            'model.backbone.init_cfg.type=Pretrained',
            f'model.backbone.init_cfg.checkpoint={checkpoint}',
        ]
        self._segment('pretrained', init_options)

    def _segment(self, name: str, init_options: list[str], label: str = '') -> None:
        cfg_options = self._data_options()
        if self.options.iterations is not None:
            cfg_options += [
                f'train_cfg.max_iters={self.options.iterations}',
                f'train_cfg.val_interval={max(1, self.options.iterations // 5)}',
            ]
        run_dir = self.segmentor_dirs[name]
        self._train(SEGMENTOR_CONFIG, run_dir, cfg_options + init_options, label)

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
            {
                'plain labels': read_curves(self.annotator_dir),
                'token labels': read_curves(self.classifier_dir),
            },
            {name: read_curves(path) for name, path in self.segmentor_dirs.items()},
            self.curves_path,
        )
        with warnings.catch_warnings():
            # About losses and metrics, which prediction does not use.
            warnings.simplefilter('ignore')
            predict_and_draw(
                self.options.data_root,
                self._model(CLASSIFIER_CONFIG, self.classifier_dir),
                {
                    name: self._model(SEGMENTOR_CONFIG, run_dir)
                    for name, run_dir in self.segmentor_dirs.items()
                },
                self.predictions_path,
            )

    def _model(self, config: str, run_dir: Path) -> tuple[Path, Path]:
        return config_path(config), last_checkpoint(run_dir)

    # --- Commands ---

    def _data_options(self) -> list[str]:
        if self.options.data_root == DEFAULT_DATA_ROOT:
            return []
        return [f'data_root={relative(self.options.data_root)}']

    def _train(
        self, config: str, run_dir: Path, cfg_options: list[str], label: str = ''
    ) -> None:
        self._run('train', config, [], run_dir, cfg_options, label)

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
        label: str = '',
    ) -> None:
        arguments = [
            relative(config_path(config)),
            *arguments,
            '--work-dir',
            relative(work_dir),
        ]
        if cfg_options:
            arguments += ['--cfg-options', *cfg_options]
        log = work_dir / 'console.log'
        run_tool(self._tools / f'{tool}.py', arguments, log, label)

    # --- Output ---

    def _print_introduction(self) -> None:
        settings = [f'{key}={value}' for key, value in thread_settings().items()]
        print('VOLO in miniature. To repeat a command below, set')
        print(' '.join(settings))

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
        print('\nFiles')
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
    """Run the demo. Earlier results are renamed, not overwritten.

    Raises:
        DemoError: A result is worse than required, and ``options.check`` is on.
        VoloError: A stage fails.
    """
    earlier = move_aside(options.work_dir)
    if earlier is not None:
        print(f'Earlier results were moved to {relative(earlier)}')
    return Demo(options).run()
