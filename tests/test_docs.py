import ast
import re

import pytest

from tests.forked import ROOT

#: A test as docs name it: in a file, or in the file that was named last.
NAMED = re.compile(r'`(tests/[\w/]+\.py)?(?:::(\w+))?`')


def named_tests(path):
    """List the tests that a document names."""
    found, last = [], None
    for file, test in NAMED.findall(path.read_text()):
        last = file or last
        if file or test:
            found.append((last, test))
    return found


@pytest.mark.parametrize('path', sorted(ROOT.glob('docs/*.md')), ids=lambda p: p.stem)
def test_the_tests_behind_promises_exist(path):
    for file, test in named_tests(path):
        tree = ast.parse((ROOT / file).read_text())
        names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert not test or test in names, f'{file} has no {test}'


def test_every_promise_of_reliability_has_one():
    assert len(named_tests(ROOT / 'docs/reliability.md')) > 30
