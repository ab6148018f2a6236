"""What happens to trainings, for the configs of tests to import."""

import os
import resource
import signal

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends this process a signal as ``SIGNAL_AT`` in the environment says.

    ``SIGNAL_AT='SIGTERM before_train_iter 3'`` does so when three iterations are done,
    with the same config as the run that is left alone.
    """

    def __getattribute__(self, name: str):
        wanted = os.environ.get('SIGNAL_AT', '').split()
        if wanted and name == wanted[1]:
            return self._send
        return super().__getattribute__(name)

    def _send(self, runner, **_) -> None:
        name, _, iteration = os.environ['SIGNAL_AT'].split()
        if runner.iter == int(iteration):
            os.kill(os.getpid(), getattr(signal, name))


@HOOKS.register_module()
class QuotaHook(Hook):
    """Lets this process write no file that is larger than ``QUOTA_AT`` says.

    ``QUOTA_AT='3 1000000'``: from the fourth iteration on, no file above a megabyte.
    """

    def before_train_iter(self, runner, **_) -> None:
        iteration, size = map(int, os.environ.get('QUOTA_AT', '-1 0').split())
        if runner.iter == iteration:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
