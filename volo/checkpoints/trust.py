"""The environment variable that turns the guards on checkpoints off."""

import os

#: Set to 1, this environment variable opens refused files, downloads URLs without a
#: hash and keeps config texts in checkpoints. All three can run arbitrary code.
TRUST_VARIABLE = 'VOLO_TRUST_CHECKPOINTS'


def is_trusted() -> bool:
    """Return whether the user trusts whoever made the checkpoints."""
    return os.environ.get(TRUST_VARIABLE) == '1'
