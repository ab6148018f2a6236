"""Send the logs of a training to experiment trackers, by mmengine's backends."""

import importlib
import os
from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config

from volo.errors import ConfigError

#: The trackers of ``tools/train.py --track``: mmengine's backend, and its package.
TRACKERS = dict(
    tensorboard=('TensorboardVisBackend', 'torch.utils.tensorboard'),
    wandb=('WandbVisBackend', 'wandb'),
    mlflow=('MLflowVisBackend', 'mlflow'),
)


def add_trackers(cfg: Config, names: Iterable[str]) -> None:
    """Add trackers to the config's visualizer, beside its other backends.

    A tracker that the config has already keeps its options.

    Args:
        cfg: From :func:`volo.engine.launch.load_config`.
        names: Keys of :data:`TRACKERS`.

    Raises:
        ConfigError: There is no such tracker, or its package is not installed.
    """
    visualizer = cfg.get('visualizer') or dict(
        type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
    )
    backends = visualizer.get('vis_backends') or []
    backends = list(backends) if isinstance(backends, list | tuple) else [backends]
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f'no tracker {name!r}: there are {", ".join(TRACKERS)}')
        backend, module = TRACKERS[name]
        try:
            # Report a missing package now, not when the Runner is built.
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(
                f'--track {name}: {error}: install the extra volo[{name}], or: '
                f'pip install {name}'
            ) from error
        if all(_type_name(existing) != backend for existing in backends):
            options = _options(name, Path(cfg.filename).stem)
            backends.append(dict(type=backend, **options))
    visualizer['vis_backends'] = backends
    cfg.visualizer = visualizer


def _type_name(backend: dict) -> str:
    """Return the class name of a backend, given by name, scoped name or class."""
    kind = backend['type']
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def _options(tracker: str, run: str) -> dict:
    """Return the options by which a backend names the run."""
    if tracker == 'wandb':
        return dict(init_kwargs=dict(project='volo', name=run))
    if tracker == 'mlflow':
        # MLflow 3.13 and later refuse the backend's default, plain files. This is
        # MLflow's own default, where `mlflow ui` looks.
        uri = os.environ.get('MLFLOW_TRACKING_URI', 'sqlite:///mlflow.db')
        return dict(exp_name='volo', run_name=run, tracking_uri=uri)
    return {}
