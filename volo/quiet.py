"""Importing the OpenMMLab libraries without their notes about optional parts."""

import contextlib
import io
import warnings
from collections.abc import Iterator

#: What mmsegmentation and mmpretrain print while they are imported.
NOTES = ('Could not import OneDL',)
#: The start of mmcv's warning that its operators are absent; VOLO uses none.
WARNING = 'Fail to import ``MultiScaleDeformableAttention``'


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Hide :data:`NOTES` and :data:`WARNING`; print all else after the imports."""
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.filterwarnings('ignore', WARNING)
            yield
    finally:
        for line in printed.getvalue().splitlines():
            if line not in NOTES:
                print(line)
