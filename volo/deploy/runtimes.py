"""Runtimes of exported models, with one interface."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from volo.errors import CheckpointError, ConfigError

from .formats import FORMATS, METADATA_KEY, SMALLEST_SIDE, require


class Runtime:
    """An exported model in memory.

    Attributes:
        path: Its file.
        metadata: What the file says about itself, see :mod:`volo.deploy.metadata`.

    Args:
        path: The file.
        threads: CPU threads; None: as many as the runtime chooses.
    """

    #: What to call it, and the packages it needs.
    name = ''
    modules: tuple[str, ...] = ()

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        self.metadata: dict[str, Any] = json.loads(self.open(threads))

    def open(self, threads: int | None) -> str:
        """Load the file and return its metadata, a JSON text."""
        raise NotImplementedError

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Predict.

        Args:
            images: uint8 RGB, shape (B, H, W, 3).

        Returns:
            The outputs by name, see :data:`volo.deploy.graph.OUTPUTS`.

        Raises:
            ConfigError: The file takes images of another size.
        """
        sides = images.shape[1:3]
        size = self.metadata['input']['size']
        if size and tuple(size) != sides or min(sides) < SMALLEST_SIDE:
            takes = (
                f'{size[0]}x{size[1]} pixels'
                if size
                else (f'{SMALLEST_SIDE} pixels and more on each side')
            )
            raise ConfigError(
                f'{self.path} takes images of {takes}, not {sides[0]}x{sides[1]} '
                '(height x width): resize them, or export with --dynamic'
            )
        return self.compute(np.ascontiguousarray(images))

    def compute(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the file."""
        raise NotImplementedError


class OnnxRuntime(Runtime):
    """ONNX Runtime, for ``.onnx`` files."""

    name = 'ONNX Runtime'
    modules = ('onnxruntime',)

    def open(self, threads: int | None) -> str:
        """Load the file and return its metadata, a JSON text."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(
            self.path, options, providers=['CPUExecutionProvider']
        )
        self._names = [output.name for output in self._session.get_outputs()]
        return self._session.get_modelmeta().custom_metadata_map[METADATA_KEY]

    def compute(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the file."""
        outputs = self._session.run(None, {'images': images})
        return dict(zip(self._names, outputs, strict=True))


class OpenVINO(Runtime):
    """OpenVINO, for ``.xml`` files with their ``.bin``.

    It computes in float32, also on CPUs where its default is bfloat16.
    """

    name = 'OpenVINO'
    modules = ('openvino',)

    def open(self, threads: int | None) -> str:
        """Load the file and return its metadata, a JSON text."""
        import openvino

        options: dict[str, Any] = dict(INFERENCE_PRECISION_HINT='f32')
        if threads:
            options['INFERENCE_NUM_THREADS'] = threads
        core = openvino.Core()
        model = core.read_model(self.path)
        metadata = model.get_rt_info([METADATA_KEY]).value
        self._model = core.compile_model(model, 'CPU', options)
        self._names = [output.get_any_name() for output in self._model.outputs]
        return metadata

    def compute(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the file."""
        outputs = self._model([images])
        return {name: np.array(outputs[name]) for name in self._names}


class ExportedProgram(Runtime):
    """PyTorch, for ``.pt2`` files of ``torch.export``."""

    name = 'PyTorch'

    def open(self, threads: int | None) -> str:
        """Load the file and return its metadata, a JSON text."""
        import torch

        extra = {f'{METADATA_KEY}.json': ''}
        self._module = torch.export.load(self.path, extra_files=extra).module()
        if threads:
            torch.set_num_threads(threads)
        return extra[f'{METADATA_KEY}.json']

    def compute(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the file."""
        import torch

        with torch.no_grad():
            outputs = self._module(torch.from_numpy(images))
        names = self.metadata['outputs']
        return {
            name: output.numpy() for name, output in zip(names, outputs, strict=True)
        }


RUNTIMES: dict[str, type[Runtime]] = {
    '.onnx': OnnxRuntime,
    '.xml': OpenVINO,
    '.pt2': ExportedProgram,
}


def open_exported(
    path: str | os.PathLike, task: str = '', threads: int | None = None
) -> Runtime:
    """Load an exported model.

    Args:
        path: A file that ``tools/export.py`` wrote.
        task: The task it must have, see :data:`volo.deploy.graph.OUTPUTS`; '' for any.
        threads: CPU threads; None: as many as the runtime chooses.

    Raises:
        ConfigError: The suffix belongs to no format, or the runtime is not installed.
        CheckpointError: The file is missing, damaged, not from ``tools/export.py`` or
            of another task.
    """
    path = Path(path)
    if path.suffix not in RUNTIMES:
        raise ConfigError(
            f'{path}: {path.suffix or "no suffix"} is no exported format, only '
            f'{", ".join(RUNTIMES)}'
        )
    if not path.is_file():
        raise CheckpointError(f'{path}: no such exported model')
    runtime = require_runtime(path.suffix)
    try:
        opened = runtime(path, threads)
    except Exception as error:  # each runtime has errors of its own
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f'{path} cannot be opened by {runtime.name}: damaged, or not written by '
            f'tools/export.py ({reason[0]}). Export the model again'
        ) from error
    if task and opened.metadata['task'] != task:
        raise CheckpointError(
            f'{path} was exported for {opened.metadata["task"]}, not for {task}: use a '
            'config of its task'
        )
    return opened


def require_runtime(suffix: str) -> type[Runtime]:
    """Return the runtime of a suffix, after checking that it is installed.

    Raises:
        ConfigError: It is not.
    """
    runtime = RUNTIMES[suffix]
    extra = next(f.extra for f in FORMATS.values() if f.suffix == suffix)
    require(runtime.modules, extra, f'{runtime.name}, for {suffix} files,')
    return runtime
