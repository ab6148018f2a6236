"""The command ``volo``, and what all command lines in ``tools/`` share.

Importing the package ``volo`` takes seconds, because it imports torch and the OpenMMLab
libraries. So this module is outside it, and a tool imports ``volo`` after its arguments
are parsed: ``--help`` and a wrong option answer at once.
"""

import argparse
import ast
import difflib
import os
import runpy
import sys
import types
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent

#: Commands of ``volo`` and the files in ``tools/`` that they run.
COMMANDS = dict(
    init='init.py',
    check='check_dataset.py',
    train='train.py',
    test='test.py',
    predict='predict.py',
    export='export.py',
    report='report.py',
    label='generate_token_labels.py',
    pack='pack_token_labels.py',
    show='show_token_labels.py',
    convert='convert_checkpoint.py',
    plot='plot_logs.py',
)


def main() -> None:
    """Run ``volo COMMAND [options]``."""
    commands = find_commands()
    name, *arguments = sys.argv[1:] or ['--help']
    if name in ('-h', '--help'):
        print(overview(commands))
        return
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=1)
        hint = f' Did you mean {near[0]}?' if near else ''
        print(f'error: volo has no command {name!r}.{hint}', file=sys.stderr)
        print(f'Commands: {", ".join(commands)}', file=sys.stderr)
        sys.exit(2)
    path = commands[name]
    sys.argv = [f'volo {name}', *arguments]
    if path.name == '__main__.py':
        sys.path.insert(0, str(path.parents[1]))
        runpy.run_module(path.parent.name, run_name='__main__', alter_sys=True)
    else:
        run_file(path)


def run_file(path: Path) -> None:
    """Run a Python file as the program.

    ``runpy.run_path`` would set ``sys.argv[0]``, and with it the name in usage lines.
    """
    program = types.ModuleType('__main__')
    program.__file__ = str(path)  # processes that multiprocessing spawns read it
    sys.modules['__main__'] = program
    exec(compile(path.read_bytes(), path, 'exec'), vars(program))


def find_commands() -> dict[str, Path]:
    """Return the commands of this installation and their Python files.

    A wheel has the tools in ``volo/.mim``, a checkout at its root. Only a checkout has
    the demo.
    """
    in_wheel = ROOT / 'volo/.mim/tools'
    tools = in_wheel if in_wheel.is_dir() else ROOT / 'tools'
    commands = {name: tools / file for name, file in COMMANDS.items()}
    if tools != in_wheel:
        commands['demo'] = ROOT / 'demo/__main__.py'
    return {name: path for name, path in commands.items() if path.is_file()}


def overview(commands: dict[str, Path]) -> str:
    """Return the help of ``volo``: each command with the first line of its file."""
    lines = ['usage: volo COMMAND [options]', '']
    for name, path in commands.items():
        text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
        lines.append(f'  {name:<9}{text.partition(chr(10))[0]}')
    lines += [
        '',
        'volo COMMAND --help lists the options of a command. CONFIG is a file or the',
        'name of a config that comes with volo, such as volo_d1_imagenet.',
    ]
    return '\n'.join(lines)


def run_tool(
    parser: argparse.ArgumentParser, main: Callable[[argparse.Namespace], None]
) -> None:
    """Parse the arguments, then import ``volo`` and run a tool.

    Args:
        parser: The tool's parser.
        main: What the tool does with its arguments. It imports what it needs.
    """
    args = parser.parse_args()
    from volo.engine.cli import run_cli

    run_cli(lambda: main(args))


def tool_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help shows a description as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def runner_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that training and evaluation share."""
    parser = tool_parser(description)
    parser.add_argument('config', help='config file, or name of a config of volo')
    parser.add_argument(
        '--work-dir',
        help='folder of logs and results (work_dirs/<name of the config>)',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 on a GPU, bfloat16 on a CPU',
    )
    parser.add_argument(
        '--compile', action='store_true', help='compile the model with torch.compile'
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes (none: this is the only one)',
    )
    # From torch.distributed.launch; torchrun sets LOCAL_RANK instead.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )
    return parser


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options`` to a parser."""
    from mmengine.config import DictAction

    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, such as data_root=DIR: dotted keys, '
        'lists as "[a,b]"',
    )


def export_local_rank(local_rank: int) -> None:
    """Set LOCAL_RANK, which mmengine reads, from an old launcher's argument."""
    os.environ.setdefault('LOCAL_RANK', str(local_rank))


def natural(text: str) -> int:
    """Parse an integer of at least 0, as a ``type`` of argparse."""
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def positive(text: str) -> int:
    """Parse an integer of at least 1, as a ``type`` of argparse."""
    value = natural(text)
    if value == 0:
        raise ValueError
    return value


if __name__ == '__main__':
    main()
