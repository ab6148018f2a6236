"""The options of the demo."""

import dataclasses
from pathlib import Path

DEFAULT_DATA_ROOT = Path('data/shapes')
# The classifier starts from the weights of the annotator.
ANNOTATOR_EPOCHS = 10
CLASSIFIER_EPOCHS = 2


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """Options of the demo.

    Attributes:
        work_dir: Folder of all results.
        data_root: Folder of the dataset.
        images_per_class: Training images per class. A fifth as many are drawn for
            validation.
        epochs: Epochs of the annotator and of the classifier each. None:
            :data:`ANNOTATOR_EPOCHS` and :data:`CLASSIFIER_EPOCHS`.
        iterations: Iterations of each segmentor. None: the config's.
        check: Fail if the results are worse than required.
    """

    work_dir: Path = Path('work_dirs/demo')
    data_root: Path = DEFAULT_DATA_ROOT
    images_per_class: int = 400
    epochs: int | None = None
    iterations: int | None = None
    check: bool = True

    def __post_init__(self) -> None:
        """Check the numbers now: a stage would fail minutes later."""
        for name in ('images_per_class', 'epochs', 'iterations'):
            value = getattr(self, name)
            if value is not None and value < 1:
                from volo.errors import (
                    ConfigError,
                )  # seconds, which --help need not take

                raise ConfigError(f'{name} must be at least 1, got {value}')
