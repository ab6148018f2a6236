"""``python -m volo COMMAND`` is ``volo COMMAND``, for ``torchrun -m volo train``."""

from volo_cli import main

if __name__ == '__main__':
    main()
