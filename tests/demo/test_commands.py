import pytest

from demo.commands import CommandError, run_tool, thread_settings


def test_progress_is_shown_and_everything_kept(tmp_path, capsys):
    tool = tmp_path / 'tool.py'
    tool.write_text(
        "import sys; print('set-up'); print(sys.argv[1])\n"
        "print('mmengine - INFO - Iter(train) [1/3] base_lr: 1 lr: 1')\n"
    )
    run_tool(tool, ['two words'], tmp_path / 'logs/console.log')
    shown = capsys.readouterr().out
    assert "tool.py 'two words'" in shown and 'Iter(train) [1/3] lr: 1' in shown
    assert 'set-up' not in shown and 'base_lr' not in shown
    log = (tmp_path / 'logs/console.log').read_text()
    assert log.startswith('set-up\ntwo words\n')


def test_a_failure_shows_the_end_of_the_output(tmp_path):
    tool = tmp_path / 'tool.py'
    tool.write_text("raise SystemExit('no such thing')")
    with pytest.raises(CommandError, match='(?s)status 1.*no such thing.*console.log'):
        run_tool(tool, [], tmp_path / 'console.log')


def test_waiting_threads_sleep_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv('OMP_WAIT_POLICY', raising=False)
    assert thread_settings()['OMP_WAIT_POLICY'] == 'PASSIVE'
    monkeypatch.setenv('OMP_WAIT_POLICY', 'ACTIVE')
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert thread_settings() == dict(OMP_WAIT_POLICY='ACTIVE', OMP_NUM_THREADS='3')


@pytest.mark.parametrize('cpus, threads', [(1, '1'), (2, '1'), (4, '3'), (64, '4')])
def test_a_core_is_left_to_the_loaders_worker(monkeypatch, cpus, threads):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr('demo.commands.usable_cpus', lambda: cpus)
    assert thread_settings()['OMP_NUM_THREADS'] == threads
