"""What went wrong, said once: the errors that a user is meant to read.

Every message names the file, key or value at fault and the way out. The
command lines in ``tools/`` print it alone, without a traceback; library users
catch :class:`VoloError`.
"""


class VoloError(Exception):
    """Base class of all errors that the user can mend."""


class ConfigError(VoloError, ValueError):
    """A config, an option or an argument asks for what does not exist."""


class DataError(VoloError, ValueError):
    """A data set, picture or mask is missing, broken or inconsistent."""


class MissingLabelMapError(DataError):
    """A picture has no label map."""


class CheckpointError(VoloError, ValueError):
    """A weights file is missing, broken, unsafe or of another model."""


class TrainingError(VoloError, RuntimeError):
    """Training cannot go on: it diverged, a process is stuck, the disk is full."""


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """A signal asked training to stop; what was trained so far is on disk."""

    #: The exit status that says so: EX_TEMPFAIL of sysexits.h, "try again later".
    EXIT_STATUS = 75
