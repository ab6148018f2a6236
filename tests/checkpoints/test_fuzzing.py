"""Mutated files are read or refused with an error: no crash, no hang, little memory."""

import json
import resource
import time

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from tests.bad_checkpoints import run_in_child
from tests.fuzzing import Fuzzer, seeds
from volo.checkpoints.mmengine_loader import load_from_volo
from volo.checkpoints.reading import select_weights
from volo.errors import VoloError
from volo.token_label.maps import read_label_map

FILES = 10_000
#: Megabytes that reading these files, of at most 10 MB, may add to the process.
MEMORY = 500


def read(path):
    if path.suffix == '.pt':
        read_label_map(path)
    else:
        checkpoint = load_from_volo(str(path))
        use(checkpoint, seen=set())
        select_weights(checkpoint, str(path))


def use(value, seen):
    """Read all data in a checkpoint, which crashes if it points to bad memory."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        if not value.is_meta and value.numel() < 1e6:
            value.detach().to_dense().double().sum()
    elif isinstance(value, HistoryBuffer):
        str(value.data)
    elif isinstance(value, (dict, list, tuple, set, frozenset)):
        for item in (*value, *(value.values() if isinstance(value, dict) else ())):
            use(item, seen)
        use(getattr(value, '__dict__', None), seen)
    else:
        str(np.asarray(value))


def fuzz(folder):
    """Read mutated files; return what happened."""
    folder.mkdir()
    contents = seeds()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        read(folder / name)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fuzzer, slowest, refused, failures = Fuzzer(0), 0.0, 0, []
    for index in range(FILES):
        name = list(contents)[index % len(contents)]
        (folder / name).write_bytes(fuzzer.mutate(name, contents[name]))
        (folder / 'last').write_text(f'file {index}, {name}')
        start = time.process_time()
        try:
            read(folder / name)
        except VoloError as error:
            refused += 1
            if 'weights_only=False' in str(error):
                failures.append(f'{index}, {name}: {error}')
        except Exception as error:
            failures.append(f'{index}, {name}: {error!r}')
        slowest = max(slowest, time.process_time() - start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    return dict(
        files=FILES,
        refused=refused,
        failures=failures,
        slowest_seconds=round(slowest, 2),
        megabytes=memory // 1024,
    )


@pytest.mark.slow
def test_mutated_files_are_read_or_refused(tmp_path):
    def work():
        torch.set_num_threads(1)
        (tmp_path / 'report').write_text(json.dumps(fuzz(tmp_path / 'files')))

    status = run_in_child(work, seconds=600)

    assert status == 0, f'{(tmp_path / "files/last").read_text()}: exit status {status}'
    report = json.loads((tmp_path / 'report').read_text())
    print(report)
    assert report['failures'] == []
    assert FILES / 2 < report['refused'] < FILES
    assert report['megabytes'] < MEMORY
