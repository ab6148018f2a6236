import os
from pathlib import Path

import pytest

from volo.deploy.sources import Item, find_items, name_outputs
from volo.errors import DataError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(items):
    return [item.name for item in items]


def test_a_folder_gives_its_images_and_videos_with_their_sub_folders(tmp_path):
    touch(tmp_path, 'b.JPG', 'a/x.png', 'a/b/y.tif', 'clip.MP4', 'note.md', '.hid.png')
    items = find_items([str(tmp_path)])
    assert names(items) == ['b.JPG', 'clip.MP4', 'a/x.png', 'a/b/y.tif']
    assert [item.kind for item in items] == ['image', 'video', 'image', 'image']
    assert items[2].path == str(tmp_path / 'a/x.png')


def test_paths_are_absolute_and_each_file_comes_once(tmp_path, monkeypatch):
    touch(tmp_path, 'a.png', 'b.png')
    monkeypatch.chdir(tmp_path)
    items = find_items(['b.png', '.', str(tmp_path / 'a.png')])
    assert [item.path for item in items] == [
        str(tmp_path / 'b.png'),
        str(tmp_path / 'a.png'),
    ]


def test_a_pattern_keeps_the_folders_that_it_leaves_open(tmp_path):
    touch(tmp_path, 'x/1/a.png', 'x/2/a.png', 'x/2/b.txt', 'y/3/a.png')
    assert names(find_items([f'{tmp_path}/x/*/*'])) == ['1/a.png', '2/a.png']
    assert names(find_items([f'{tmp_path}/x*'])) == ['x/1/a.png', 'x/2/a.png']
    assert names(find_items([f'{tmp_path}/**/a.png']))[-1] == 'y/3/a.png'


def test_an_existing_file_is_not_taken_for_a_pattern(tmp_path):
    touch(tmp_path, 'a[1].png', 'a1.png')
    assert names(find_items([f'{tmp_path}/a[1].png'])) == ['a[1].png']


def test_a_list_has_paths_relative_to_itself(tmp_path):
    touch(tmp_path, 'x/a.png')
    (tmp_path / 'list.txt').write_text('x/a.png\n\n  y/missing.png  \n')
    items = find_items([str(tmp_path / 'list.txt')])
    assert [item.path for item in items] == [
        str(tmp_path / 'x/a.png'),
        str(tmp_path / 'y/missing.png'),
    ]
    assert names(items) == ['x/a.png', 'y/missing.png']


def test_a_number_is_a_camera_unless_a_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_items(['0']) == [Item('camera', '0', 'camera0')]
    (tmp_path / '0').touch()
    assert find_items(['0'])[0].kind == 'image'


@pytest.mark.parametrize('way', ['.', '**/*.png', '*'])
def test_the_folder_of_the_outputs_is_left_out(tmp_path, monkeypatch, way):
    touch(tmp_path, 'a.png', 'out/masks/a.png')
    monkeypatch.chdir(tmp_path)
    assert names(find_items([way], skip=Path('out'))) == ['a.png']


def test_a_link_to_a_folder_above_ends(tmp_path):
    touch(tmp_path, 'a.png', 'b/c.png')
    os.symlink(tmp_path, tmp_path / 'b/loop')
    assert names(find_items([str(tmp_path)])) == ['a.png', 'b/c.png']


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('imgaes', r'imgaes: no such file, folder.*Did you mean .*images\?'),
        ('empty', 'empty: no images or videos found'),
        ('images/*.gif', 'no images or videos found'),
        ('none.txt', 'none.txt: no images or videos found'),
        ('-1', '-1: no such file'),
    ],
)
def test_a_source_without_anything_is_an_error(tmp_path, monkeypatch, source, message):
    touch(tmp_path, 'images/a.png', 'none.txt')
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        find_items([source])


def items(*paths):
    return [Item('video' if p.endswith('.mp4') else 'image', f'/{p}', p) for p in paths]


def test_equal_names_do_not_collide():
    same = [Item('image', f'/{i}/a.png', 'a.png') for i in range(3)]
    assert names(name_outputs([*items('a.jpg', 'b/a.jpg'), *same], {})) == [
        'a',
        'b/a',
        'a.png',
        'a.png-2',
        'a.png-3',
    ]


def test_masks_of_a_video_do_not_mix_with_a_folder_of_the_same_name():
    named = name_outputs(items('clip.mp4', 'clip/000000.png', 'clip.png'), {})
    assert names(named) == ['clip.mp4', 'clip/000000', 'clip']


def test_names_of_earlier_runs_stay_theirs():
    taken = {'a': '/other/a.png', 'B': '/b.jpg', 'c': '/c.jpg'}
    named = name_outputs(items('a.jpg', 'b.jpg', 'c.jpg'), taken)
    assert names(named) == ['a.jpg', 'b', 'c']


def test_names_that_are_too_long_for_a_file_are_shortened():
    long = [f'd/{"ä" * 120}{i}.png' for i in range(2)]
    first, second = names(name_outputs(items(*long), {}))
    assert first != second and first.startswith('d/äää')
    assert max(len(os.fsencode(name)) for name in (first, second)) < 200
