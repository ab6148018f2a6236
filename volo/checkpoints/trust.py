"""The one way round the guards against what is in other people's checkpoints."""

import os

#: Set to 1, this environment variable opens refused files, fetches addresses without
#: a hash and hands config texts in checkpoints on: all of them can run any code.
TRUST_VARIABLE = 'VOLO_TRUST_CHECKPOINTS'


def is_trusted() -> bool:
    """Tell whether the user vouches for whoever made the checkpoints."""
    return os.environ.get(TRUST_VARIABLE) == '1'
