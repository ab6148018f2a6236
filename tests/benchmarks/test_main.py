import json
import re

import pytest

from tests.toy import run_tool

pytestmark = pytest.mark.slow


def rows(output):
    """Return the cells of a table, one list per row."""
    return [
        re.split(r'\s*│\s*', line)[1:-1] for line in output.splitlines() if '│' in line
    ]


def test_token_loss_compares_sparse_with_dense():
    done = run_tool('benchmarks', '--repeats', 1, 'token-loss', '--batch-size', 8)
    assert done.returncode == 0, done.stderr
    dense, sparse = rows(done.stdout)
    assert (dense[0], sparse[0]) == ('dense', 'sparse')
    # Allocations do not depend on how busy the machine is.
    assert float(sparse[4]) < 0.5
    assert 'threads, torch' in done.stdout


def test_label_maps_compares_packed_with_folder():
    done = run_tool('benchmarks', '--repeats', 1, 'label-maps', '--count', 20)
    assert done.returncode == 0, done.stderr
    assert [row[0] for row in rows(done.stdout)] == ['folder', 'packed']


def test_pipeline_compares_with_images_alone(toy):
    done = run_tool(
        *('benchmarks', '--repeats', 1, 'pipeline'),
        'configs/volo_tiny_token_label_shapes.py',
        *('--data-root', toy / 'data', '--count', 8),
    )
    assert done.returncode == 0, done.stderr
    assert [row[0] for row in rows(done.stdout)] == [
        *('images alone', 'label maps, .pt', 'label maps, packed')
    ]


def test_models_files_match_the_table(tmp_path):
    done = run_tool(
        *('benchmarks', 'models', '--arch', 'tiny', '--models', 'ours'),
        *('--img-size', 32, '--batch-size', 1, '--compile', 'eager'),
        *('--repeats', 2, '--calls', 2, '--out', f'{tmp_path}/'),
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / 'models_tiny_inference.json').read_text())
    assert data['options']['repeats'] == 2 and len(data['rows'][0]['seconds']) == 2
    (cells,) = rows(done.stdout)
    assert (
        f'| {" | ".join(cells)} |'
        in (tmp_path / 'models_tiny_inference.md').read_text()
    )


def test_reliability_compares_with_mmengine(tmp_path):
    done = run_tool(
        *('benchmarks', '--repeats', 1, 'reliability'),
        *('configs/volo_tiny_shapes.py', '--batch-size', 2, '--num-workers', 1),
        *('--out', f'{tmp_path}/'),
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / 'reliability.json').read_text())
    assert [len(row['ours_seconds']) for row in data['rows']] == [1, 1]
    assert rows(done.stdout)[0][0] == 'training iteration'


def test_impossible_commands_fail_with_a_message(toy):
    done = run_tool('benchmarks', 'token-loss', '--device', 'cuda')
    assert done.returncode == 2 and 'there is no GPU' in done.stderr
    done = run_tool('benchmarks', 'pipeline', toy / 'classify.py')
    assert done.returncode == 2 and 'no TokenLabelDataset' in done.stderr
