"""Clear errors for missing and broken files, for any OpenMMLab data set."""

from pathlib import Path

from PIL import Image

from volo.errors import DataError

#: Keys of a sample that name its files.
FILE_KEYS = ('img_path', 'seg_map_path')


class ChecksFiles:
    """Mixin in front of an mmengine data set: its errors name folder and file."""

    def load_data_list(self) -> list[dict]:
        """List the samples.

        Raises:
            DataError: A folder is missing, or there is no sample in it.
        """
        folders = [self.data_root, *self.data_prefix.values()]
        for folder in filter(None, folders):
            if '://' not in folder and not Path(folder).is_dir():
                raise DataError(
                    f'{folder}: no such folder ({type(self).__name__}). Put the data '
                    'there, or say where it is with --cfg-options data_root=FOLDER'
                )
        try:
            samples = super().load_data_list()
        except (OSError, RuntimeError, AssertionError) as error:
            raise DataError(f'{self._pictures()}: {error}') from error
        if not samples:
            raise DataError(
                f'{self._pictures()}: no pictures found. Are suffix and folder right?'
            )
        return samples

    def prepare_data(self, idx: int) -> dict:
        """Load a sample and run the pipeline on it.

        Raises:
            DataError: A file of the sample is missing or broken.
        """
        try:
            return super().prepare_data(idx)
        # SyntaxError is what Pillow raises for some broken PNGs.
        except (OSError, SyntaxError, AssertionError) as error:
            info = self.get_data_info(idx)
            for path in (info[key] for key in FILE_KEYS if info.get(key)):
                problem = _reading_problem(path)
                if problem:
                    raise DataError(
                        f'{path}: {problem}. Restore the file or remove the sample'
                    ) from error
            raise

    def _pictures(self) -> str:
        """Return the folder that was searched for pictures."""
        return next(filter(None, self.data_prefix.values()), self.data_root)


def _reading_problem(path: str) -> str:
    """Return why a picture cannot be read, or '' if it can."""
    if not Path(path).exists():
        return 'no such file'
    try:
        with Image.open(path) as picture:
            picture.load()
    except (OSError, SyntaxError) as error:
        # Pillow names the buffer it was given, which says nothing to the user.
        reason = 'not a picture' if 'cannot identify' in str(error) else str(error)
        return f'broken picture ({reason})'
    return ''
