"""mmengine's access to local files, with atomic writing."""

import os

from mmengine.fileio import LocalBackend, register_backend

from volo.errors import TrainingError
from volo.files import describe_write_error, write_atomically


class AtomicBackend(LocalBackend):
    """Local files, each of which holds its old content or all of its new content."""

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write a file of bytes.

        Raises:
            TrainingError: The file cannot be written. The old one is unchanged.
        """
        try:
            write_atomically(filepath, obj)
        except OSError as error:
            raise TrainingError(
                f'{describe_write_error(filepath, error, len(obj))}. The files already '
                'there are complete: free some space, then continue with --resume'
            ) from error

    def put_text(
        self, obj: str, filepath: str | os.PathLike, encoding: str = 'utf-8'
    ) -> None:
        """Write a file of text.

        Raises:
            TrainingError: As in :meth:`put`.
        """
        self.put(obj.encode(encoding), filepath)


def register_atomic_backend() -> None:
    """Make mmengine write local files through :class:`AtomicBackend`.

    From then on every file that mmengine writes under a path without a prefix such as
    ``s3://`` is written atomically: checkpoints, ``last_checkpoint``, dumped configs.
    """
    register_backend('atomic', AtomicBackend, prefixes='', force=True)
