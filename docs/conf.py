"""Configuration of Sphinx; ``make docs`` builds the pages into ``docs/_build/html``."""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

from volo.version import __version__

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
#: Pages whose text is a file of the repository; theirs is added at its end.
REPOSITORY_PAGES = {
    'index': ROOT / 'README.md',
    'recipes': ROOT / 'configs/README.md',
    'contributing': ROOT / 'CONTRIBUTING.md',
    'changelog': ROOT / 'CHANGELOG.md',
}
LOCAL_LINK = re.compile(r'(?<=]\()(?!https?:|#)([^)#\s]+)')

project = 'VOLO on OpenMMLab'
author = 'The VOLO on OpenMMLab authors'
project_copyright = author
release = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'{project} {release}'

myst_heading_anchors = 3

autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def read_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Read files of the repository as pages, and make links lead to pages.

    A link in Markdown is relative to its file and ends in a file of the repository.
    Sphinx needs it relative to the page, checks that its target exists, and offers a
    target that is no page as a download.
    """
    file = REPOSITORY_PAGES.get(docname)
    if file is not None:
        app.env.note_dependency(str(file))
        source[0] = f'{file.read_text()}\n{source[0]}'
    folder = (file or DOCS / docname).parent
    pages = {path: DOCS / f'{name}.md' for name, path in REPOSITORY_PAGES.items()}

    def relocate(link: re.Match) -> str:
        target = (folder / link[1]).resolve()
        return os.path.relpath(pages.get(target, target), (DOCS / docname).parent)

    source[0] = LOCAL_LINK.sub(relocate, source[0])


def skip_constants(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool:
    """Leave out constants, whose comments are for readers of the code."""
    return skip or not (callable(obj) or isinstance(obj, property))


def setup(app: Sphinx) -> None:
    """Connect the events."""
    app.connect('source-read', read_page)
    app.connect('autodoc-skip-member', skip_constants)
