from pathlib import Path

import pytest

from volo.datasets.findings import KINDS, Finding


def test_a_finding_has_the_remedy_of_its_kind():
    finding = Finding('mask-size', 'a.png', '4x4')
    assert finding.remedy == KINDS['mask-size'].remedy
    assert str(finding) == f'a.png: 4x4. {finding.remedy}'


def test_a_finding_may_replace_the_remedy():
    finding = Finding('mask-size', 'a.png', '4x4', 'Turn it')
    assert str(finding) == 'a.png: 4x4. Turn it'


def test_unknown_kinds_are_refused():
    with pytest.raises(KeyError, match='mask-color'):
        Finding('mask-color', 'a.png', '4x4')


def test_equal_findings_are_one():
    findings = {Finding('mask-size', 'a.png', value) for value in ('4x4', '4x4', '5')}
    assert len(findings) == 2


@pytest.mark.parametrize('kind', KINDS.values(), ids=list(KINDS))
def test_titles_head_a_group_and_remedies_are_sentences(kind):
    assert kind.title[0].islower() and kind.remedy[0].isupper()
    assert not kind.title.endswith('.') and not kind.remedy.endswith('.')


def test_the_guide_lists_every_kind():
    guide = (Path(__file__).parents[2] / 'docs/check_dataset.md').read_text()
    assert [k for k in KINDS if f'| `{k}` |' not in guide] == []
