"""The resources of the machine."""

import math
import os
from pathlib import Path


def usable_cpus(cgroup: Path = Path('/sys/fs/cgroup')) -> int:
    """Count the CPUs that this process may use.

    Args:
        cgroup: The kernel's folder of container limits, version 1 or 2.

    Returns:
        The smaller of the CPU affinity and the limit of the container, at least 1.
    """
    if hasattr(os, 'sched_getaffinity'):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    try:
        if (cgroup / 'cpu.max').exists():
            quota, period = map(int, (cgroup / 'cpu.max').read_text().split())
        else:
            quota = int((cgroup / 'cpu/cpu.cfs_quota_us').read_text())
            period = int((cgroup / 'cpu/cpu.cfs_period_us').read_text())
    except (OSError, ValueError):  # no cgroup, or no limit: 'max'
        return cpus
    # Version 1 has -1 for no limit.
    return max(1, min(cpus, math.ceil(quota / period))) if quota > 0 else cpus
