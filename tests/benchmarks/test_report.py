import json

import pytest

from benchmarks.report import Report


@pytest.fixture
def report():
    return Report(
        name='sizes',
        title='two sizes',
        options=dict(device='cpu', batch_size=3),
        columns={'what': '{name}', 'cm': '{size:.2f}', 'range': '{low:.1f}-{high:.1f}'},
        rows=[
            dict(name='small', size=1.23456, low=1.0, high=1.5, all=[1.0, 1.5]),
            dict(name='large', size=20.0, low=19.96, high=20.04, all=[19.96, 20.04]),
        ],
    )


def table(markdown):
    """Return the cells of a Markdown table below its header."""
    lines = [line for line in markdown.splitlines() if line.startswith('|')]
    return [[cell.strip() for cell in line[1:-1].split('|')] for line in lines[2:]]


def test_both_files_hold_the_same_numbers(report, tmp_path):
    json_path, markdown_path = report.write(str(tmp_path))
    data = json.loads(json_path.read_text())
    assert data['rows'] == report.rows
    cells = table(markdown_path.read_text())
    assert cells == [['small', '1.23', '1.0-1.5'], ['large', '20.00', '20.0-20.0']]
    assert cells == [
        [form.format_map(row) for form in report.columns.values()]
        for row in data['rows']
    ]


def test_both_files_hold_machine_and_options(report, tmp_path):
    json_path, markdown_path = report.write(str(tmp_path))
    data = json.loads(json_path.read_text())
    assert data['options'] == report.options
    assert 'threads, torch' in data['machine']
    assert data['machine'] in markdown_path.read_text()
    assert 'batch_size 3' in markdown_path.read_text()


@pytest.mark.parametrize(
    ('out', 'expected'),
    [
        ('', 'sizes.json'),
        ('new/', 'new/sizes.json'),
        ('new/h100', 'new/h100.json'),
        # A dot in the name does not begin a suffix.
        ('torch2.11', 'torch2.11.json'),
    ],
)
def test_out_is_a_folder_or_a_path_without_suffix(report, tmp_path, out, expected):
    paths = report.write(f'{tmp_path}/{out}' if out else str(tmp_path))
    assert paths[0] == tmp_path / expected
    assert [path.is_file() for path in paths] == [True, True]


def test_the_screen_shows_the_cells(report, capsys):
    report.show()
    shown = capsys.readouterr().out
    assert all(cell in shown for row in report.cells() for cell in row)
