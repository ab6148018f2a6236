"""No tool and no API runs code from a checkpoint."""

import contextlib

import pytest
import timm
import torch
from mmpretrain import ImageClassificationInferencer
from mmseg.apis import MMSegInferencer, init_model

import volo  # noqa: F401  registers what the configs name
from tests.bad_checkpoints import make_malicious, with_malicious_configs
from tests.web_server import WebServer
from volo.checkpoints.reading import read_checkpoint
from volo.checkpoints.trust import TRUST_VARIABLE
from volo.errors import CheckpointError

pytestmark = pytest.mark.slow

#: Entry point -> tool and arguments, with {source} for the checkpoint.
TOOLS = {
    'load_from': 'train.py {toy}/classify.py --work-dir {out} --cfg-options '
    'train_cfg.max_epochs=1 load_from={source}',
    'resume': 'train.py {toy}/classify.py --work-dir {out} --resume {source}',
    'init_cfg': 'train.py {toy}/classify.py --work-dir {out} --cfg-options '
    'model.backbone.init_cfg.type=Pretrained train_cfg.max_epochs=1 '
    'model.backbone.init_cfg.checkpoint={source}',
    'test': 'test.py {toy}/classify.py {source} --work-dir {out}',
    'convert': 'convert_checkpoint.py {source} {out}.pth',
    'annotator of timm': 'generate_token_labels.py {toy}/data/images/val {out} '
    '--timm test_vit --num-classes 7 --checkpoint {source} --workers 0',
    'annotator of a config': 'generate_token_labels.py {toy}/data/images/val {out} '
    '--config {toy}/classify.py --checkpoint {source} --workers 0',
}
FOLDER_OF_TIMM = (
    'generate_token_labels.py {toy}/data/images/val {out} --timm local-dir:{source}'
)

#: Entry point -> a call with the folder of the configs and a checkpoint.
APIS = {
    'mmseg': lambda toy, source: init_model(
        str(toy / 'segment.py'), source, device='cpu'
    ),
    'mmseg, inferencer': lambda toy, source: MMSegInferencer(
        str(toy / 'segment.py'), source, device='cpu'
    ),
    'mmseg, weights alone': lambda toy, source: MMSegInferencer(
        None, source, device='cpu'
    ),
    'mmpretrain': lambda toy, source: ImageClassificationInferencer(
        str(toy / 'classify.py'), source, device='cpu'
    ),
}


@pytest.fixture
def run_tool(forked, toy, tmp_path):
    """Run one of TOOLS; return its exit status and its output."""

    def run(command, source, **environment):
        places = dict(toy=toy, out=tmp_path / 'out', source=source)
        running = forked.start(
            *(part.format(**places) for part in command.split()),
            TORCH_HOME=str(tmp_path / 'home'),
            no_proxy='*',
            **environment,
        )
        return running.wait(), running.output

    return run


@pytest.fixture
def malicious(tmp_path):
    """A file that creates another one, the canary, when it is unpickled."""
    path, canary = make_malicious('torch.save', tmp_path)
    yield path
    assert not canary.exists()


@pytest.fixture
def wrong_hash(malicious, tmp_path, monkeypatch):
    """The URL of that file, with the hash of another."""
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    web = WebServer()
    with contextlib.closing(web):
        yield f'{web.add("/x.pth", malicious.read_bytes())}#sha256={"0" * 64}'
    assert not list((tmp_path / 'home/hub/checkpoints').glob('*'))


def assert_refused(status, output, source):
    assert status == 2
    lines = output.splitlines()
    assert lines[-1].startswith('error: ') and source in lines[-1]
    assert 'Traceback' not in output


@pytest.mark.parametrize('entry', TOOLS)
def test_no_tool_runs_a_malicious_file(run_tool, malicious, entry):
    status, output = run_tool(TOOLS[entry], malicious)

    assert_refused(status, output, str(malicious))
    assert 'was refused, and nothing in it was run' in output


@pytest.mark.parametrize('entry', TOOLS)
def test_no_tool_takes_a_file_with_another_hash(run_tool, wrong_hash, entry):
    status, output = run_tool(TOOLS[entry], wrong_hash)

    assert_refused(status, output, wrong_hash.partition('#')[0])
    assert 'refused and not kept: its SHA-256 should be 000' in output


def test_no_folder_of_timm_is_run(run_tool, malicious, tmp_path):
    """timm opens such folders itself."""
    (tmp_path / 'model').mkdir()
    malicious.rename(tmp_path / 'model/pytorch_model.bin')
    (tmp_path / 'model/config.json').write_text('{"architecture": "test_vit"}')

    status, output = run_tool(FOLDER_OF_TIMM, tmp_path / 'model')

    assert_refused(status, output, str(tmp_path / 'model'))
    assert 'weights_only=True blocked' in output


@pytest.mark.parametrize('entry', APIS)
def test_no_api_runs_a_malicious_file(toy, malicious, entry):
    with pytest.raises(CheckpointError, match='was refused, and nothing in it was run'):
        APIS[entry](toy, str(malicious))


@pytest.mark.parametrize('entry', APIS)
def test_no_api_takes_a_file_with_another_hash(toy, wrong_hash, entry):
    with pytest.raises(CheckpointError, match='refused and not kept'):
        APIS[entry](toy, wrong_hash)


@pytest.fixture
def canary(tmp_path):
    """A file that the configs in the checkpoints below create when they run."""
    return tmp_path / 'canary'


@pytest.fixture
def classifier(trained, tmp_path, canary):
    checkpoint = read_checkpoint(trained / 'classify/epoch_2.pth')
    torch.save(with_malicious_configs(checkpoint, canary), tmp_path / 'x.pth')
    return tmp_path / 'x.pth'


@pytest.fixture
def segmentor(trained, tmp_path, canary):
    checkpoint = read_checkpoint(trained / 'segment/iter_4.pth')
    torch.save(with_malicious_configs(checkpoint, canary), tmp_path / 'y.pth')
    return tmp_path / 'y.pth'


@pytest.fixture
def vit(tmp_path, canary):
    model = timm.create_model('test_vit', num_classes=7)
    checkpoint = with_malicious_configs(dict(state_dict=model.state_dict()), canary)
    torch.save(checkpoint, tmp_path / 'z.pth')
    return tmp_path / 'z.pth'


@pytest.mark.parametrize('entry', TOOLS)
def test_no_tool_runs_a_config_in_a_good_file(run_tool, request, canary, entry):
    kind = 'vit' if entry == 'annotator of timm' else 'classifier'

    status, output = run_tool(TOOLS[entry], request.getfixturevalue(kind))

    assert status == 0, output
    assert 'is not defined in message_hub' not in output
    assert not canary.exists()


@pytest.mark.parametrize('entry', ['mmseg', 'mmseg, inferencer', 'mmpretrain'])
def test_no_api_runs_a_config_in_a_good_file(trained, request, canary, entry):
    kind = 'classifier' if entry == 'mmpretrain' else 'segmentor'

    APIS[entry](trained, str(request.getfixturevalue(kind)))

    assert not canary.exists()


def test_an_inferencer_that_needs_the_config_runs_none(trained, segmentor, canary):
    with pytest.raises(ValueError, match='Cannot find the config'):
        APIS['mmseg, weights alone'](trained, str(segmentor))

    assert not canary.exists()


def test_trust_runs_it(trained, segmentor, canary, monkeypatch):
    """Without this, the tests above could look for a canary that nothing creates."""
    monkeypatch.setenv(TRUST_VARIABLE, '1')

    with contextlib.suppress(AttributeError):  # there is no model in that config
        APIS['mmseg, weights alone'](trained, str(segmentor))

    assert canary.exists()


def test_trust_runs_it_when_resuming(run_tool, classifier, canary):
    status, output = run_tool(TOOLS['resume'], classifier, **{TRUST_VARIABLE: '1'})

    assert status == 0, output
    assert canary.exists()
