"""Imports run one way: a package imports only from packages below it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: From top to bottom, as in docs/architecture.md. The modules of a row are peers.
LEVELS = [
    ('tools', 'benchmarks', 'volo.__main__'),
    ('demo',),
    ('volo.own_data',),
    ('volo.deploy', 'volo.doctor', 'volo.annotators'),
    ('volo.visualization',),
    ('volo.engine',),
    ('volo.models',),
    ('volo.token_label',),
    ('volo.checkpoints',),
    ('volo.datasets', 'volo.ops'),
    ('volo.model_zoo',),
    ('volo.paths', 'volo.files', 'volo.machine'),
    ('volo.errors', 'volo.quiet', 'volo.version'),
]
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}


def package_of(module: str) -> str:
    """Return the package of LEVELS that a module belongs to, or ''."""
    parts = module.split('.')
    return next((p for p in ('.'.join(parts[:2]), parts[0]) if p in LEVEL_OF), '')


def imported_modules(path: Path, root: Path) -> set[str]:
    """Return the absolute names that a file imports, inside functions too."""
    package = path.relative_to(root).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = '.'.join([*base, *filter(None, [node.module])])
            found.update(f'{source}.{alias.name}' for alias in node.names)
    return found


def upward_imports(root: Path) -> list[str]:
    """List the imports that do not run downwards, as 'file imports module'."""
    faults = []
    for folder in ('tools', 'benchmarks', 'demo', 'volo'):
        for path in sorted((root / folder).rglob('*.py')):
            name = '.'.join(path.relative_to(root).with_suffix('').parts)
            own = package_of(name.removesuffix('.__init__'))
            for module in sorted(imported_modules(path, root)):
                other = package_of(module)
                # volo/__init__.py, the face of the package, imports what it likes.
                if not own or not other or own == other:
                    continue
                if LEVEL_OF[other] <= LEVEL_OF[own]:
                    faults.append(f'{path.relative_to(root)} imports {module}')
    return faults


def test_imports_run_downwards():
    assert upward_imports(ROOT) == []


def test_every_module_has_a_level():
    modules = {
        f'volo.{path.stem}'
        for path in (ROOT / 'volo').iterdir()
        if (path.suffix == '.py' or (path / '__init__.py').exists())
    }
    assert modules - {'volo.__init__'} <= LEVEL_OF.keys()


@pytest.mark.parametrize(
    'line',
    [
        'from volo.engine.launch import train',
        'from volo.engine import launch',
        'import volo.engine.launch',
        'from ..engine import launch',
        'def f():\n    from volo.engine import launch',
    ],
)
def test_an_upward_import_is_found(tmp_path, line):
    path = tmp_path / 'volo/models/new.py'
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert upward_imports(tmp_path)[0].startswith('volo/models/new.py imports volo.eng')
