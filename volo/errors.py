"""Errors for the user, and the phrases that they share.

Every message says what is wrong, where, and what to do. The command lines in
``tools/`` print the message alone, without a traceback; library users catch
:class:`VoloError`.
"""

import difflib
import os
from collections.abc import Iterable


class VoloError(Exception):
    """Base class of all errors that the user can fix."""


class ConfigError(VoloError, ValueError):
    """A config, an option or an argument names something that does not exist."""


class DataError(VoloError, ValueError):
    """A dataset, an image or a mask is missing, broken or inconsistent."""


class MissingLabelMapError(DataError):
    """An image has no label map."""


class CheckpointError(VoloError, ValueError):
    """A checkpoint is missing, broken, unsafe or belongs to another model."""


class TrainingError(VoloError, RuntimeError):
    """Training cannot continue: it diverged, a process hangs, the disk is full."""


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """A signal stopped training; the progress is on disk."""

    #: The exit status: EX_TEMPFAIL of sysexits.h, "try again later".
    EXIT_STATUS = 75


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ' Did you mean X?' for the known name closest to ``name``, or ''.

    Args:
        name: What the user wrote.
        known: What exists.
        cutoff: How similar the two must be, from 0 to 1.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f' Did you mean {near[0]}?' if near else ''


def some(items: Iterable[object], most: int = 4) -> str:
    """Return the first items as text: 'a, b and 3 more', or 'none'."""
    names = [str(item) for item in items]
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return (', '.join(names[:most]) + more) or 'none'


def require_rank(launcher: str) -> None:
    """Check that a launcher has told this process its rank.

    Raises:
        ConfigError: ``RANK`` or ``WORLD_SIZE`` is not in the environment.
    """
    missing = [name for name in ('RANK', 'WORLD_SIZE') if name not in os.environ]
    if missing:
        raise ConfigError(
            f'--launcher {launcher}: {" and ".join(missing)} not in the environment; '
            'start with tools/dist_train.sh, tools/slurm_train.sh or torchrun'
        )
