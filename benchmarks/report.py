"""Report a measurement: a table on the screen, JSON and Markdown."""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .measure import describe_machine

#: The JSON file holds the versions of these.
LIBRARIES = ('torch', 'timm', 'onedl-mmsegmentation')


def print_table(title: str, columns: Sequence[str], rows: Sequence[list[str]]) -> None:
    """Print a table, at a width of 160 where there is no terminal."""
    table = Table(*columns, title=title, title_justify='left')
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@dataclasses.dataclass(frozen=True)
class Report:
    """The results of a measurement and its options.

    Attributes:
        name: Name of the measurement, and of its files in a folder.
        title: Title of the table, one line.
        options: Options of the measurement, with ``device``.
        columns: Titles of columns, and for each the format of a row, such as
            ``{'images/s': '{images_per_second:.1f}'}``.
        rows: The numbers, not rounded. A row may hold more than the columns show.
    """

    name: str
    title: str
    options: Mapping[str, object]
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, object]]

    def cells(self) -> list[list[str]]:
        """Return the cells of the table, one list per row."""
        return [
            [form.format_map(row) for form in self.columns.values()]
            for row in self.rows
        ]

    def machine(self) -> str:
        """Return the machine that this process runs on, in one line."""
        return describe_machine(str(self.options['device']))

    def show(self, out: str | None = None) -> None:
        """Print the table, and write the files if ``out`` is given."""
        print_table(self.title, list(self.columns), self.cells())
        if out is not None:
            print('written:', *self.write(out))

    def markdown(self) -> str:
        """Return title, table, machine and options as Markdown."""
        lines = [list(self.columns), ['---', *['---:'] * (len(self.columns) - 1)]]
        table = [f'| {" | ".join(line)} |' for line in [*lines, *self.cells()]]
        options = ', '.join(f'{key} {value}' for key, value in self.options.items())
        return '\n\n'.join(
            [self.title, '\n'.join(table), f'{self.machine()}.', f'Options: {options}.']
        )

    def as_dict(self) -> dict[str, object]:
        """Return everything, for JSON."""
        return dict(
            name=self.name,
            title=self.title,
            machine=self.machine(),
            versions={library: version(library) for library in LIBRARIES},
            options=dict(self.options),
            rows=[dict(row) for row in self.rows],
        )

    def write(self, out: str) -> list[Path]:
        """Write a JSON file and a Markdown file.

        Args:
            out: An existing folder or a path that ends with a slash: the files are
                named after the measurement. Otherwise the path of both files without
                the suffix.

        Returns:
            The paths of both files.
        """
        stem = Path(out)
        if out.endswith('/') or stem.is_dir():
            stem = stem / self.name
        stem.parent.mkdir(parents=True, exist_ok=True)
        texts = {'.json': json.dumps(self.as_dict(), indent=2), '.md': self.markdown()}
        paths = [stem.parent / f'{stem.name}{suffix}' for suffix in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(f'{text}\n')
        return paths
