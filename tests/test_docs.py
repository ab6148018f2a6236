"""The documentation names tests, files, options and objects that exist."""

import ast
import pkgutil
import re

import pytest

from tests.forked import ROOT
from volo_cli import COMMANDS

PAGES = [
    ROOT / 'README.md',
    ROOT / 'CONTRIBUTING.md',
    ROOT / 'configs/README.md',
    *sorted(ROOT.glob('docs/*.md')),
]
#: A test, in a file or in the file that was named last.
TEST = re.compile(r'`(tests/[\w/]+\.py)?(?:::(\w+))?`')
#: A file of the repository, but for the configs that a reader writes.
FILE = re.compile(
    r'\b(?:benchmarks|configs|demo|docs|tests|tools|volo)/(?!my_)[\w/]+\.[a-z]+\b'
)
#: A tool or the benchmarks, with the arguments behind it.
COMMAND = re.compile(
    r'(?:\b(?<!tests/)tools/(?:(?:dist|slurm)_(?=t))?(\w+)\.(?:py|sh)|-m (benchmarks))'
    r'((?:\\\n|[^`\n#])*)'
)

#: The same as a command of `volo`.
VOLO = re.compile(rf'\bvolo ({"|".join(COMMANDS)}) ((?:\\\n|[^`\n#])*)')

each_page = pytest.mark.parametrize(
    'path', PAGES, ids=lambda p: str(p.relative_to(ROOT))
)


def named_tests(path):
    """List the tests that a document names."""
    found, last = [], None
    for file, test in TEST.findall(path.read_text()):
        last = file or last
        if file or test:
            found.append((last, test))
    return found


def options(program):
    """Return the options of a tool or of ``benchmarks``."""
    if program == 'benchmarks':
        sources = sorted(ROOT.glob('benchmarks/*.py'))
    else:
        sources = [ROOT / f'tools/{program}.py', ROOT / 'volo_cli.py']
    text = ''.join(source.read_text() for source in sources)
    return set(re.findall(r"'(--[a-z-]+)'", text))


@each_page
def test_the_tests_behind_promises_exist(path):
    for file, test in named_tests(path):
        tree = ast.parse((ROOT / file).read_text())
        names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert not test or test in names, f'{file} has no {test}'


def test_every_promise_of_reliability_has_one():
    assert len(named_tests(ROOT / 'docs/reliability.md')) > 30


@each_page
def test_files_exist(path):
    for name in FILE.findall(path.read_text()):
        assert (ROOT / name).is_file(), name


@each_page
def test_options_exist(path):
    for tool, module, arguments in COMMAND.findall(path.read_text()):
        used = set(re.findall(r'(?<!\S)\[?(--[a-z-]+)', arguments))
        assert used <= options(tool or module), (tool or module, arguments)
    for command, arguments in VOLO.findall(path.read_text()):
        used = set(re.findall(r'(?<!\S)\[?(--[a-z-]+)', arguments))
        tool = COMMANDS[command].removesuffix('.py')
        assert used <= options(tool), (command, arguments)


def test_options_are_found():
    text = (ROOT / 'README.md').read_text()
    assert ('test', '', True) in [
        (tool, module, '--tta' in arguments)
        for tool, module, arguments in COMMAND.findall(text)
    ]
    assert {'--amp', '--resume'} <= options('train')
    assert VOLO.findall('`volo train NAME --amp`') == [('train', 'NAME --amp')]


@each_page
def test_objects_exist(path):
    for name in re.findall(r'`(volo(?:\.\w+)+)', path.read_text()):
        pkgutil.resolve_name(name)
