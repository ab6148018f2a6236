import json

import pytest

from volo.deploy.predict_records import (
    LINES_NAME,
    Part,
    check_settings,
    merge_parts,
    remove_partial_files,
)
from volo.errors import ConfigError


def line(folder, source, name=None, **more):
    """Return a record whose mask exists."""
    name = name or source
    (folder / 'masks').mkdir(exist_ok=True)
    (folder / 'masks' / name).touch()
    return {'source': source, 'name': name, 'mask': f'masks/{name}', **more}


def write(folder, rank, *records):
    part = Part(folder, rank)
    for record in records:
        part.add(record)
    part.close()


def sources(folder):
    lines = (folder / LINES_NAME).read_text().splitlines()
    return [json.loads(text)['source'] for text in lines]


def test_parts_of_all_processes_become_one_file_in_the_order_of_the_sources(tmp_path):
    write(tmp_path, 0, line(tmp_path, 'c'), line(tmp_path, 'a'))
    write(tmp_path, 1, line(tmp_path, 'b', name='b-2'))
    names = merge_parts(tmp_path, ['mask'], order=['a', 'b', 'c'])
    assert names == {'a': 'a', 'b': 'b-2', 'c': 'c'}
    assert sources(tmp_path) == ['a', 'b', 'c']
    assert not list(tmp_path.glob('*part*'))


def test_a_part_that_a_kill_cut_short_loses_its_last_line_only(tmp_path):
    write(tmp_path, 0, line(tmp_path, 'a'), line(tmp_path, 'b'))
    path = tmp_path / 'predictions.part0.jsonl'
    path.write_bytes(path.read_bytes()[:-3])
    assert merge_parts(tmp_path, ['mask']) == {'a': 'a'}
    write(tmp_path, 0, line(tmp_path, 'b'))
    merge_parts(tmp_path, ['mask'])
    assert sources(tmp_path) == ['a', 'b']


def test_nothing_comes_twice_when_merging_was_killed(tmp_path):
    write(tmp_path, 0, line(tmp_path, 'a'))
    part = tmp_path / 'predictions.part0.jsonl'
    content = part.read_bytes()
    merge_parts(tmp_path, ['mask'])
    part.write_bytes(content)  # as if it had not been removed yet
    merge_parts(tmp_path, ['mask'])
    assert sources(tmp_path) == ['a']


def test_lines_that_are_not_complete_are_dropped(tmp_path):
    gone = line(tmp_path, 'gone')
    write(tmp_path, 0, gone, line(tmp_path, 'early', error='stopped'))
    write(tmp_path, 1, {'source': 'x', 'name': 'x'}, line(tmp_path, 'whole'))
    (tmp_path / gone['mask']).unlink()
    assert merge_parts(tmp_path, ['mask']) == {'whole': 'whole'}
    assert sources(tmp_path) == ['whole']


def test_files_that_a_kill_left_are_removed(tmp_path):
    left = tmp_path / 'masks/.a.png.123.partial', tmp_path / 'overlays/.b.partial.mp4'
    for path in left:
        path.parent.mkdir()
        path.touch()
    write(tmp_path, 0, line(tmp_path, 'a'))
    remove_partial_files(tmp_path)
    assert not any(path.exists() for path in left)
    assert (tmp_path / 'masks/a').exists()


def test_lines_of_other_sources_stay_in_front(tmp_path):
    write(tmp_path, 0, line(tmp_path, 'z'), line(tmp_path, 'y'))
    merge_parts(tmp_path, [])
    write(tmp_path, 0, line(tmp_path, 'b'), line(tmp_path, 'a'))
    merge_parts(tmp_path, [], order=['a', 'b'])
    assert sources(tmp_path) == ['z', 'y', 'a', 'b']


def test_predictions_of_another_model_are_not_mixed(tmp_path):
    folder = tmp_path / 'new'
    check_settings(folder, {'checkpoint': 'x', 'config': 'y'})
    check_settings(folder, {'checkpoint': 'x', 'config': 'y'})
    with pytest.raises(ConfigError, match='predictions of another config. Choose'):
        check_settings(folder, {'checkpoint': 'x', 'config': 'z'})
