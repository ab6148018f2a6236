import contextlib
import hashlib
import io
import socket
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
import safetensors.torch
import torch

from tests.bad_checkpoints import WEIGHTS, make_malicious
from tests.web_server import WebServer, sha256
from volo.checkpoints import fetching
from volo.checkpoints.fetching import fetch, locate
from volo.checkpoints.reading import read_weights
from volo.checkpoints.trust import TRUST_VARIABLE
from volo.errors import CheckpointError

CONTENT = b'what a checkpoint holds ' * 100
HASH = sha256(CONTENT)
OTHER_HASH = sha256(b'something else')


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    server = WebServer()
    with contextlib.closing(server):
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """torch.hub's cache of checkpoints: a folder that does not exist yet."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    return tmp_path / 'home/hub/checkpoints'


@pytest.fixture
def said(monkeypatch):
    texts = []
    monkeypatch.setattr(fetching, 'print_log', lambda text, **_: texts.append(text))
    return texts


def files(folder):
    return [path.name for path in folder.glob('*')]


@pytest.mark.parametrize('path', ['/d1_224_84.2.pth.tar', '/get', '/', '/x.pth?n=1&m'])
def test_hash_in_the_fragment(web, cache, path):
    path = fetch(f'{web.add(path, CONTENT)}#sha256={HASH.upper()}')

    assert path.read_bytes() == CONTENT
    assert files(cache) == [path.name]


@pytest.mark.parametrize('digits', [8, 12, 64])
def test_hash_in_the_name_as_torch_hub_has_it(web, cache, digits):
    name = f'volo-d1-{HASH[:digits]}.pth.tar'

    path = fetch(web.add(f'/a/{name}', CONTENT))

    assert path == cache / name and path.read_bytes() == CONTENT


def test_suffix_is_kept(web):
    url = f'{web.add("/x.safetensors", CONTENT)}#sha256={HASH}'

    assert fetch(url).suffix == '.safetensors'


def test_another_hash_is_refused_and_nothing_kept(web, cache):
    url = web.add('/x.pth', CONTENT)

    with pytest.raises(CheckpointError, match='refused and not kept') as caught:
        fetch(f'{url}#sha256={OTHER_HASH}')

    assert all(text in str(caught.value) for text in (url, OTHER_HASH, HASH))
    assert files(cache) == []


def test_another_hash_than_in_the_name_is_refused(web, cache):
    # OpenMMLab puts a date into names, which looks like a hash.
    url = web.add('/vgg-20210208.pth', CONTENT)

    with pytest.raises(CheckpointError, match=rf'be 20210208\.\.\. but is {HASH}'):
        fetch(url)

    assert files(cache) == []


def test_the_hash_in_the_fragment_has_precedence(web):
    url = web.add('/vgg-20210208.pth', CONTENT)

    assert fetch(f'{url}#sha256={HASH}').read_bytes() == CONTENT


@pytest.mark.parametrize(
    'name', ['x.pth', 'd1-1234567.pth', 'volo-d1', 'x-deadbeefg.p']
)
def test_nothing_is_fetched_without_a_hash(web, cache, name):
    url = web.add(f'/{name}', CONTENT)

    with pytest.raises(CheckpointError, match='was not fetched') as caught:
        fetch(url)

    assert f'{url}#sha256=<64 hex digits>' in str(caught.value)
    assert 'sha256sum' in str(caught.value) and TRUST_VARIABLE in str(caught.value)
    assert web.requests == [] and files(cache) == []


@pytest.mark.parametrize(
    'fragment', ['', 'sha256=', f'sha256={HASH[:8]}', f'md5={HASH}', f'sha256={HASH}0']
)
def test_malformed_hash(web, fragment):
    url = web.add(f'/x-{HASH[:8]}.pth', CONTENT)

    with pytest.raises(CheckpointError, match='sha256= and 64 hex digits'):
        fetch(f'{url}#{fragment}')

    assert web.requests == []


def test_trusted_urls_need_no_hash(web, cache, said, monkeypatch):
    monkeypatch.setenv(TRUST_VARIABLE, '1')
    first, second = web.add('/a/x.pth', CONTENT), web.add('/b/x.pth', b'other')

    assert fetch(first).read_bytes() == CONTENT
    assert fetch(second).read_bytes() == b'other'
    assert fetch(first).read_bytes() == CONTENT
    assert web.requests == ['/a/x.pth', '/b/x.pth']
    assert f'{first} is not checked' in said[0] and TRUST_VARIABLE in said[0]


def test_trusted_urls_with_a_wrong_hash_are_refused(web, cache, monkeypatch):
    monkeypatch.setenv(TRUST_VARIABLE, '1')

    with pytest.raises(CheckpointError, match='refused and not kept'):
        fetch(f'{web.add("/x.pth", CONTENT)}#sha256={OTHER_HASH}')


def test_a_cached_file_is_not_fetched_again(web):
    urls = [
        f'{web.add("/x.pth", CONTENT)}#sha256={HASH}',
        web.add(f'/x-{HASH[:8]}.pth', CONTENT),
    ]
    paths = [fetch(url) for url in urls]
    web.files.clear()

    assert [fetch(url) for url in urls] == paths
    assert len(web.requests) == 2


def test_files_of_one_name_are_kept_apart(web):
    first = f'{web.add("/a/x.pth", CONTENT)}#sha256={HASH}'
    second = f'{web.add("/b/x.pth", b"something else")}#sha256={OTHER_HASH}'

    paths = [fetch(first), fetch(second)]

    assert [path.read_bytes() for path in paths] == [CONTENT, b'something else']


def test_a_damaged_file_in_the_cache_is_fetched_again(web):
    url = f'{web.add("/x.pth", CONTENT)}#sha256={HASH}'
    fetch(url).write_bytes(b'damaged')

    assert fetch(url).read_bytes() == CONTENT
    assert len(web.requests) == 2


def test_a_changed_file_in_the_cache_is_not_used(web):
    url = f'{web.add("/x.pth", CONTENT)}#sha256={HASH}'
    fetch(url).write_bytes(b'changed')
    web.files.clear()

    with pytest.raises(CheckpointError, match='HTTP 404'):
        fetch(url)


def test_not_found(web, cache):
    with pytest.raises(CheckpointError, match='HTTP 404') as caught:
        fetch(f'{web.url}/x.pth#sha256={HASH}')

    assert f'{web.url}/x.pth' in str(caught.value)
    assert files(cache) == []


def test_truncated_download(web, cache):
    url = web.add('/x.pth', CONTENT)
    web.lengths['/x.pth'] = len(CONTENT) + 1000

    with pytest.raises(CheckpointError, match='2,400 of 3,400 bytes|more expected'):
        fetch(f'{url}#sha256={HASH}')

    assert files(cache) == []


def test_connection_refused(cache):
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(CheckpointError, match=r'cannot be fetched \(.*refused'):
        fetch(f'http://127.0.0.1:{port}/x.pth#sha256={HASH}')


def test_timeout(cache, monkeypatch):
    monkeypatch.setattr(fetching, 'TIMEOUT', 0.1)
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(CheckpointError, match=r'cannot be fetched \(.*timed out'):
            fetch(f'http://127.0.0.1:{port}/x.pth#sha256={HASH}')

    assert files(cache) == []


@pytest.mark.parametrize(
    'url',
    ['http://[x', 'http://host:port/x', 'http:///x', 'http://h/\u00e9', 'https://'],
)
def test_invalid_url(url):
    with pytest.raises(CheckpointError, match='not a valid URL|cannot be fetched'):
        fetch(f'{url}#sha256={HASH}')


@pytest.mark.parametrize('path', ['/..', '/a/%2e%2e%2fx', '/a\\..\\x', '/x%00.pth'])
def test_no_url_leads_out_of_the_cache(web, cache, path):
    path = fetch(f'{web.add(path, CONTENT)}#sha256={HASH}')

    assert path.parent == cache and files(cache) == [path.name]


def test_cache_that_cannot_be_written(web, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'file'))

    with pytest.raises(CheckpointError, match='cannot be kept.*Not a directory'):
        fetch(f'{web.add("/x.pth", CONTENT)}#sha256={HASH}')


class Swapping:
    """A SHA-256 that replaces a file as soon as it was hashed."""

    def __init__(self, path, content):
        self.path, self.content, self.digest = path, content, hashlib.sha256()
        self.update = self.digest.update

    def hexdigest(self):
        self.path.with_name('new').write_bytes(self.content)
        self.path.with_name('new').replace(self.path)
        return self.digest.hexdigest()


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_the_file_that_was_hashed_is_read(web, cache, monkeypatch, suffix):
    def content(weights):
        if suffix == '.safetensors':
            return safetensors.torch.save(weights)
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        return buffer.getvalue()

    good, other = content(WEIGHTS), content(dict(weight=torch.zeros(1)))
    url = f'{web.add("/x" + suffix, good)}#sha256={sha256(good)}'
    path = fetch(url)
    swapping = types.SimpleNamespace(sha256=lambda: Swapping(path, other))
    monkeypatch.setattr(fetching, 'hashlib', swapping)

    weights = read_weights(url)

    assert path.read_bytes() == other
    assert torch.equal(weights['weight'], WEIGHTS['weight'])


@pytest.mark.parametrize('mode', [0o755, 0o775, 0o777, 0o1777])
def test_a_cache_that_everybody_can_write_to_is_named(web, cache, said, mode):
    cache.mkdir(parents=True)
    cache.chmod(mode)
    url = f'{web.add("/x.pth", CONTENT)}#sha256={HASH}'

    for _ in range(2):
        fetch(url)
        warnings = [text for text in said if f'chmod o-w {cache}' in text]
        assert len(warnings) == (mode & 0o002 > 0)
        said.clear()


def fetch_at_once(url, count=4):
    """Call ``fetch`` from threads: their locks exclude each other as in processes."""
    start = threading.Barrier(count)

    def call():
        start.wait()
        return fetch(url)

    with ThreadPoolExecutor(count) as pool:
        calls = [pool.submit(call) for _ in range(count)]
        return {call.result() for call in calls}


def test_one_of_several_processes_downloads(web, cache):
    (path,) = fetch_at_once(f'{web.add("/x.pth", CONTENT)}#sha256={HASH}')

    assert path.read_bytes() == CONTENT
    assert len(web.requests) == 1


def test_all_processes_download_without_locks(web, cache, monkeypatch):
    def refuse(*_):
        raise OSError('no locks available')

    monkeypatch.setattr(fetching.fcntl, 'flock', refuse)

    (path,) = fetch_at_once(f'{web.add("/x.pth", CONTENT)}#sha256={HASH}')

    assert path.read_bytes() == CONTENT
    assert files(cache) == [path.name]


def test_weights_are_read_from_a_url(web):
    buffer = io.BytesIO()
    torch.save(WEIGHTS, buffer)
    url = web.add('/x.pth', buffer.getvalue())

    weights = read_weights(f'{url}#sha256={sha256(buffer.getvalue())}')

    assert torch.equal(weights['weight'], WEIGHTS['weight'])


def test_a_malicious_file_with_the_right_hash_is_refused(web, tmp_path):
    path, canary = make_malicious('torch.save', tmp_path)
    url = web.add('/x.pth', path.read_bytes())

    with pytest.raises(CheckpointError, match='refused, and nothing in it was run'):
        read_weights(f'{url}#sha256={sha256(path.read_bytes())}')

    assert not canary.exists()


@pytest.mark.parametrize('scheme', ['torchvision', 'modelzoo', 'openmmlab', 'mmcls'])
def test_names_in_tables(web, monkeypatch, scheme):
    url = web.add(f'/net-{HASH[:8]}.pth', CONTENT)
    monkeypatch.setitem(fetching._TABLES, scheme, lambda: dict(net=url))

    assert locate(f'{scheme}://net').read_bytes() == CONTENT

    with pytest.raises(CheckpointError, match=rf'{scheme}://nett: .* Did you mean net'):
        locate(f'{scheme}://nett')


def test_renamed_names_in_tables(web, monkeypatch):
    url = web.add(f'/net-{HASH[:8]}.pth', CONTENT)
    monkeypatch.setitem(fetching._TABLES, 'open-mmlab', lambda: dict(new=url))
    renamed = dict(old='new')
    monkeypatch.setattr(fetching, 'get_deprecated_model_names', lambda: renamed)

    assert locate('open-mmlab://old').read_bytes() == CONTENT


@pytest.mark.parametrize('scheme', fetching._TABLES)
def test_most_urls_in_the_tables_have_hashes(scheme, monkeypatch):
    fetched, refused = [], []
    monkeypatch.setattr(fetching, '_download', lambda url, *_: fetched.append(url))
    for name in fetching._TABLES[scheme]():
        try:
            locate(f'{scheme}://{name}')
        except CheckpointError:
            refused.append(name)

    assert len(fetched) > 30 and len(refused) < 20


def test_a_name_that_is_a_local_file(monkeypatch):
    monkeypatch.setitem(fetching._TABLES, 'openmmlab', lambda: dict(net='net.pth'))

    with pytest.raises(CheckpointError, match='local file net.pth'):
        locate('openmmlab://net')


@pytest.mark.parametrize('scheme', ['s3', 'petrel', 'pavi', 'ftp', 'file', 'mm:s3'])
def test_other_schemes_are_refused(scheme):
    with pytest.raises(CheckpointError, match=f'not fetched from {scheme}://'):
        locate(f'{scheme}://bucket/x.pth')


def test_uppercase_scheme(web):
    url = f'{web.add("/x.pth", CONTENT)}#sha256={HASH}'

    assert locate(url.replace('http', 'HTTP')).read_bytes() == CONTENT


def test_local_files_are_not_copied(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')

    assert (
        locate(tmp_path / 'x.pth') == locate(f'{tmp_path}/x.pth') == tmp_path / 'x.pth'
    )
    assert str(locate('~/x.pth')) == '/home/me/x.pth'
