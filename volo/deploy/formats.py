"""File formats of exported models: how each is made and written."""

import contextlib
import functools
import importlib
import importlib.util
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from volo.errors import ConfigError, did_you_mean

from .graph import Graph

#: Where each format keeps the metadata, as one JSON text.
METADATA_KEY = 'volo'

#: A trace of smaller images would take an axis of one token for a broadcast one.
SMALLEST_SIDE = 17

_OPSET = 18


class Capture:
    """A graph and the sizes that its file will take.

    Args:
        graph: What is exported.
        size: Height and width of the images in pixels; None: any, from
            :data:`SMALLEST_SIDE` on. The batch is always free.
    """

    def __init__(self, graph: Graph, size: tuple[int, int] | None) -> None:
        self.graph = graph
        self.size = size
        height, width = size or (97, 180)  # two sizes that are no multiples of 16
        self.example = torch.zeros(2, height, width, 3, dtype=torch.uint8)

    @functools.cached_property
    def program(self) -> torch.export.ExportedProgram:
        """What ``torch.export`` makes of the graph."""
        free = torch.export.Dim.DYNAMIC
        axes = {0: free}
        if self.size is None:
            axes |= {1: free(min=SMALLEST_SIDE), 2: free(min=SMALLEST_SIDE)}
        # Else the graph would not take a batch of one image.
        fx_config: Any = importlib.import_module('torch.fx.experimental._config')
        with fx_config.patch(backed_size_oblivious=True), torch.no_grad():
            return torch.export.export(
                self.graph, (self.example,), dynamic_shapes=(axes,), strict=False
            )


#: Writes a file, with metadata.
Save = Callable[[Path, dict[str, Any]], None]


class Format(NamedTuple):
    """A file format.

    Attributes:
        suffix: Of the file.
        extra: Of the package, which installs what the format needs; '' for none.
        modules: What the format needs.
        convert: Return the function that writes a captured graph. Its second argument:
            whether weights are stored in float16.
    """

    suffix: str
    extra: str
    modules: tuple[str, ...]
    convert: Callable[[Capture, bool], Save]


def _convert_to_onnx(capture: Capture, half: bool) -> Save:
    program = torch.onnx.export(
        capture.program,
        (),
        dynamo=True,
        verbose=False,
        opset_version=_OPSET,
        input_names=['images'],
        output_names=list(capture.graph.output_names),
    )
    assert program is not None
    model = program.model_proto

    def save(path: Path, metadata: dict[str, Any]) -> None:
        import onnx

        onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
        onnx.save(model, path)

    return save


def _convert_to_openvino(capture: Capture, half: bool) -> Save:
    import openvino

    height, width = capture.size or (-1, -1)
    shape = openvino.PartialShape([-1, height, width, 3])
    with torch.no_grad():
        model = openvino.convert_model(
            capture.graph, example_input=(capture.example,), input=[shape]
        )
    model.inputs[0].get_tensor().set_names({'images'})
    for output, name in zip(model.outputs, capture.graph.output_names, strict=True):
        output.get_tensor().set_names({name})

    def save(path: Path, metadata: dict[str, Any]) -> None:
        model.set_rt_info(json.dumps(metadata), [METADATA_KEY])
        openvino.save_model(model, path, compress_to_fp16=half)

    return save


def _convert_to_pt2(capture: Capture, half: bool) -> Save:
    program = capture.program

    def save(path: Path, metadata: dict[str, Any]) -> None:
        extra = {f'{METADATA_KEY}.json': json.dumps(metadata)}
        torch.export.save(program, path, extra_files=extra)

    return save


#: By the name that ``--format`` takes.
FORMATS = dict(
    onnx=Format('.onnx', 'onnx', ('onnx', 'onnxscript'), _convert_to_onnx),
    openvino=Format('.xml', 'openvino', ('openvino',), _convert_to_openvino),
    pt2=Format('.pt2', '', (), _convert_to_pt2),
)


def find_format(name: str) -> Format:
    """Return a format by its name, after checking that it can be written here.

    Raises:
        ConfigError: There is no such format, or it needs a package that is absent.
    """
    if name not in FORMATS:
        raise ConfigError(
            f'--format {name}: unknown, only {", ".join(FORMATS)}'
            f'{did_you_mean(name, FORMATS)}'
        )
    found = FORMATS[name]
    require(found.modules, found.extra, f'--format {name}')
    return found


def require(modules: tuple[str, ...], extra: str, purpose: str) -> None:
    """Check that packages are installed.

    Args:
        modules: Their names.
        extra: Of this package, which installs them.
        purpose: What needs them.

    Raises:
        ConfigError: One is absent.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f'{purpose} needs {module}, which is not installed: '
                f"pip install 'volo[{extra}]'"
            )


def convert(name: str, capture: Capture, half: bool = False) -> Save:
    """Convert a captured graph to a format.

    Args:
        name: A key of :data:`FORMATS`.
        capture: The graph.
        half: Store weights in float16, where the format has a way to.

    Returns:
        A function that writes the file, with metadata.

    Raises:
        ConfigError: The format cannot hold an operator of the graph.
    """
    try:
        with _quiet():
            return find_format(name).convert(capture, half)
    except ConfigError:
        raise
    except Exception as error:  # each exporter has errors of its own
        raise ConfigError(
            f'--format {name} cannot hold this model: {_name_operator(error)}'
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what exporters say about each other and about checks of shapes."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


def _name_operator(error: BaseException) -> str:
    """Return the operator that an exporter stopped at, else the error's first line."""
    text = ''
    cause: BaseException | None = error
    while cause is not None:
        text += f'{cause}\n'
        cause = cause.__cause__
    operators = re.findall(r'(?:aten|prims|torchvision|volo)(?:::|\.)[\w.]+', text)
    if operators:
        return f'operator {operators[0]}'
    return f'{type(error).__name__}: {str(error).strip().splitlines()[0]}'
