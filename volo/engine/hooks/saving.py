"""Save checkpoints that a kill, a full disk or a diverged model cannot spoil."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from volo.engine.file_backend import AtomicBackend
from volo.errors import TrainingError, some
from volo.files import PARTIAL_SUFFIX


class _RemovesLater:
    """A file backend that lists what it was asked to remove, and keeps it."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self.outdated: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, filepath: str) -> None:
        self.outdated.append(filepath)

    rmtree = remove


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, without a moment at which a save can be lost.

    An older checkpoint is removed only after the newer one is on disk, the pointer
    ``last_checkpoint`` is written atomically, and weights that are not finite are not
    saved. mmengine 0.10 has no public methods for this: ``_save_checkpoint_with_step``
    and ``_save_best_checkpoint`` are its own.

    Args:
        args: As in ``CheckpointHook``.
        kwargs: As in ``CheckpointHook``.

    Attributes:
        saved_iter: Iterations that the newest checkpoint has seen; -1 if there is none.
        last_ckpt: The path of the newest checkpoint.
    """

    saved_iter = -1
    file_backend: Any  # set by CheckpointHook
    _VALIDATED = 'iter_validated'  # the log shows keys that begin with 'val'

    def before_train(self, runner: Runner) -> None:
        """Remove the partial files of an earlier run that was killed."""
        super().before_train(runner)
        if runner.iter:
            self.saved_iter = runner.iter
            self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        if is_main_process() and '://' not in self.out_dir:
            for path in Path(self.out_dir).glob(f'.*{PARTIAL_SUFFIX}'):
                path.unlink()

    def save_now(self, runner: Runner) -> None:
        """Save in ``after_train_iter``, whatever the interval.

        Within an epoch the file is named as in ``epoch_2_iter_57.pth``: after two whole
        epochs, and 57 iterations in total. The next regular checkpoint replaces it.
        """
        step = runner.iter + 1
        meta = dict(epoch=runner.epoch, iter=step)
        if self.by_epoch:
            name = self.filename_tmpl.format(f'{runner.epoch}_iter_{step}')
            self._save(runner, name, meta, by_epoch=False)
        else:
            self._save_checkpoint_with_step(runner, step, meta)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Record that this iteration is validated, and save the best."""
        runner.message_hub.update_info(self._VALIDATED, runner.iter)
        super().after_val_epoch(runner, metrics)

    @classmethod
    def validated_iter(cls, runner: Runner) -> int | None:
        """Return the iteration of the last validation, None before the first."""
        return runner.message_hub.runtime_info.get(cls._VALIDATED)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save weights that are not finite.

        Raises:
            TrainingError: A tensor of the model holds NaN or infinity.
        """
        for key in ('state_dict', 'ema_state_dict'):
            broken = list(_non_finite(checkpoint.get(key, {}).items()))
            if broken:
                done = checkpoint['meta']['iter']
                raise TrainingError(
                    f'{len(broken)} tensors of the model are not finite after {done} '
                    f'iterations ({some(broken, most=3)}): nothing is saved, the '
                    f'checkpoints in {self.out_dir} are kept. Lower the learning rate '
                    'and continue from them with --resume --hyperparams-from config'
                )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # mmengine removes the outdated checkpoint before it saves.
        kept, outdated = [], []
        if self.max_keep_ckpts > 0:
            kept = [*(i for i in self.keep_ckpt_ids if i != step), step]
            outdated = kept[: -self.max_keep_ckpts]
            # With the outdated: if this run is killed, a resumed one removes them.
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        self._save(runner, self.filename_tmpl.format(step), meta, self.by_epoch)
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept[len(outdated) :])
            kept = list(self.keep_ckpt_ids)
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        names = [self.filename_tmpl.format(i) for i in outdated]
        if self.by_epoch and '://' not in self.out_dir:
            within = Path(self.out_dir).glob(self.filename_tmpl.format('*_iter_*'))
            names += [path.name for path in within]
        self._remove(self.file_backend.join_path(self.out_dir, n) for n in names)

    def _save(self, runner: Runner, filename: str, meta: dict, by_epoch: bool) -> None:
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self.saved_iter = meta['iter']
        if is_main_process():
            pointer = Path(runner.work_dir) / 'last_checkpoint'
            AtomicBackend().put(self.last_ckpt.encode(), pointer)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        backend = self.file_backend
        self.file_backend = _RemovesLater(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
            outdated = self.file_backend.outdated
        finally:
            self.file_backend = backend
        # A run that was resumed from an older checkpoint may have saved the best
        # again under the same name.
        info = runner.message_hub.runtime_info
        best = {info[key] for key in info if key.startswith('best_ckpt')}
        self._remove(path for path in outdated if path not in best)

    def _remove(self, paths: Iterable[str]) -> None:
        if is_main_process():
            for path in paths:
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)
                elif self.file_backend.isdir(path):  # of strategies that shard
                    self.file_backend.rmtree(path)


def _non_finite(tensors: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Name the floating tensors that hold NaN or infinity."""
    for name, value in tensors:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            continue
        # The sum is cheap, and finite unless a value is not or the sum overflows.
        if not torch.isfinite(value.sum()) and not torch.isfinite(value).all():
            yield name
