"""Pages of the site that are kept elsewhere, and links to them: hooks of mkdocs.

Links in the sources are those that work in the repository, where people read them, too. Here they
become links between pages.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))  # mkdocs loads a hook by its path alone

from api import api_page

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/README.md"))
PAGES = {  # by what they are made of
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples/README.md",
    **{f"examples/{name}": f"examples/{name}.md" for name in EXAMPLES},
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)\s#]+)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    made = {page: _content(ROOT / source) for source, page in PAGES.items()}
    # Files that pages link to, such as a workflow.
    shown = {f"examples/{file.name}": file.read_text() for file in ROOT.glob("examples/*.yml")}
    for page, text in {**made, **shown, "api.md": api_page(ROOT)}.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")
    folder = source if source in PAGES and (ROOT / source).is_dir() else posixpath.dirname(source)

    def turned(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        to = PAGES.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(to, posixpath.dirname(here) or ".")

    return LINK.sub(turned, markdown)


def _content(source: Path) -> str:
    """A page's text; for a folder its README, and its files."""
    if source.is_file():
        return source.read_text()
    files = [path for path in sorted(source.iterdir()) if path.suffix in (".py", ".yaml")]
    shown = [f"## {file.name}\n\n```{file.suffix[1:]}\n{file.read_text()}```\n" for file in files]
    return "\n".join([(source / "README.md").read_text(), *shown])
