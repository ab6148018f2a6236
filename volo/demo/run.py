"""The demo's stages, each one of the commands that a user types."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from volo.datasets.shapes import generate_shapes_dataset
from volo.errors import VoloError
from volo.paths import config_path, package_data_root

from .pictures import draw_curves, draw_predictions

CLASSIFIER = 'volo_tiny_shapes'
SEGMENTOR = 'volo_tiny_upernet_shapes'

#: What the demo must reach to end in success, in percent.
MIN_TOP1 = 85.0
MIN_MIOU = 60.0


class DemoError(VoloError):
    """A stage failed, or the results are not what they should be."""


def run_demo(work_dir: Path, max_epochs: int, max_iters: int, pictures: int) -> None:
    """Draw a data set, pretrain, train segmentation twice, evaluate, draw.

    An earlier run in ``work_dir`` is kept: it is renamed to ``work_dir.1``, ``.2``
    and so on.

    Args:
        work_dir: Where everything goes.
        max_epochs: Epochs of the classifier.
        max_iters: Iterations of each of the two segmentors.
        pictures: Training pictures a class.

    Raises:
        DemoError: A command failed, or a result misses its bar.
    """
    console = Console(highlight=False)
    _keep_earlier_run(work_dir, console)
    data = work_dir / 'data'

    console.rule(f'[bold]1/5 Drawing pictures of seven shapes into {data}')
    generate_shapes_dataset(data, train_per_class=pictures)

    console.rule('[bold]2/5 Pretraining VOLO-tiny: which shape is it?')
    classifier = _train(
        CLASSIFIER, work_dir / 'classifier', data, max_epochs=max_epochs
    )

    length = dict(max_iters=max_iters, val_interval=max(1, max_iters // 5))
    console.rule('[bold]3/5 Segmentation with UPerNet from that backbone')
    backbone = 'model.backbone.init_cfg'
    pretrained = _train(
        SEGMENTOR,
        work_dir / 'segmentor',
        data,
        f'{backbone}.type=Pretrained',
        f'{backbone}.checkpoint={classifier}',
        **length,
    )

    console.rule('[bold]4/5 The same from scratch')
    scratch = _train(SEGMENTOR, work_dir / 'segmentor_from_scratch', data, **length)

    console.rule('[bold]5/5 Evaluation and pictures')
    top1 = _evaluate(CLASSIFIER, classifier, data)['accuracy/top1']
    miou = _evaluate(SEGMENTOR, pretrained, data)['mIoU']
    miou_scratch = _evaluate(SEGMENTOR, scratch, data)['mIoU']
    drawn = [
        draw_predictions(data, classifier, pretrained, work_dir / 'predictions.png'),
        draw_curves(
            [checkpoint.parent for checkpoint in (classifier, pretrained, scratch)],
            work_dir / 'curves.png',
        ),
    ]

    table = Table('', 'result', 'wanted')
    table.add_row('classification, top-1', f'{top1:.1f} %', f'>= {MIN_TOP1:.0f} %')
    table.add_row('segmentation, mIoU', f'{miou:.1f} %', f'>= {MIN_MIOU:.0f} %')
    table.add_row('  from scratch', f'{miou_scratch:.1f} %', 'less')
    console.print(table)
    console.print(
        'Look at:', *drawn, 'Checkpoints:', classifier, pretrained, sep='\n  '
    )
    if top1 < MIN_TOP1 or miou < MIN_MIOU or miou <= miou_scratch:
        raise DemoError('the demo ran to its end, but a result is not what is wanted')


def _keep_earlier_run(work_dir: Path, console: Console) -> None:
    if not work_dir.exists():
        return
    numbers = (
        re.fullmatch(rf'{work_dir.name}\.(\d+)', p.name) for p in _peers(work_dir)
    )
    last = max((int(match[1]) for match in numbers if match), default=0)
    kept = work_dir.rename(work_dir.with_name(f'{work_dir.name}.{last + 1}'))
    console.print(f'The earlier run is kept in {kept}')


def _peers(path: Path) -> list[Path]:
    return list(path.parent.iterdir())


def _train(
    config: str, work_dir: Path, data: Path, *options: str, **train_cfg: int
) -> Path:
    """Train a shipped config and return its last checkpoint."""
    options += tuple(f'train_cfg.{key}={value}' for key, value in train_cfg.items())
    _run('train', config, '--work-dir', work_dir, data=data, options=options)
    return Path((work_dir / 'last_checkpoint').read_text())


def _evaluate(config: str, checkpoint: Path, data: Path) -> dict[str, float]:
    """Evaluate a checkpoint with ``tools/test.py`` and return its metrics."""
    work_dir = checkpoint.parent / 'test'
    out = checkpoint.parent / 'metrics.json'
    _run('test', config, checkpoint, '--work-dir', work_dir, '--out', out, data=data)
    return json.loads(out.read_text())


def _run(
    tool: str,
    config: str,
    *arguments: str | Path,
    data: Path,
    options: tuple[str, ...] = (),
) -> None:
    """Run a tool as a user does, showing the command and its output."""
    tool_path = package_data_root() / 'tools' / f'{tool}.py'
    command = [sys.executable, tool_path, config_path(config), *arguments]
    command += ['--cfg-options', f'data_root={data}', *options]
    here = Path.cwd()
    shown = ['python', *(_relative(part, here) for part in command[1:])]
    print(f'$ {shlex.join(shown)}', flush=True)
    with subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
        # Threads that wait leave the core to the data workers.
        env={'OMP_WAIT_POLICY': 'PASSIVE', **os.environ},
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if _is_progress(line):
                print('  ' + line.partition(' - INFO - ')[2].rstrip(), flush=True)
    if process.returncode:
        print(*lines[-30:], sep='', file=sys.stderr)
        raise DemoError(f'{tool}.py {config} failed: its last lines are above')


def _relative(part: str | Path, folder: Path) -> str:
    path = Path(part)
    return str(path.relative_to(folder) if path.is_relative_to(folder) else part)


def _is_progress(line: str) -> bool:
    """Tell the lines about training and evaluation from the set-up's hundreds."""
    return bool(re.search(r' - INFO - (Iter|Epoch)\((train|val|test)\)', line))
