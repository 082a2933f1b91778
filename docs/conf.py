"""The documentation site: ``scripts/docs`` builds it into docs/_build/html."""

from __future__ import annotations

import importlib.metadata
import os
import posixpath
import re
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

project = "tornado-mcsession"
release = version = importlib.metadata.version(project)
author = "the authors of tornado-mcsession"
copyright = author  # Sphinx's name for the line at the foot of each page

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpicky = True
# What is not this package's has no page here.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(collections|datetime|asyncio|_asyncio|concurrent|ssl|time|tornado|opentelemetry"
        r"|prometheus_client)(\..*)?",
    ),
    (
        r"py:class",
        r"RequestHandler|Application|TracebackType|IOStream|HTTPHeaders|Carried|ids.CookieSecret"
        r"|.*\._T",
    ),
]

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "../demo/static/icon.svg"
html_theme_options = {
    "navigation_with_keys": True,
    "top_of_page_buttons": [],
}
html_show_sphinx = False

# Headings have the anchors that they have where the pages are read as files.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
default_role = "py:obj"
autodoc_preserve_defaults = True

# Pages lead to files beside them (tests, the demo) by relative links. The site leads to
# them at this address of the repository, or only names them where none is given. A link
# that shows the name of a page's file, as [login.md](login.md), shows the title of the
# page on the site, or that of the section it leads to.
REPOSITORY = os.environ.get("DOCS_REPOSITORY", "").rstrip("/")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")
NAME = re.compile(r"[\w-]+\.md")
ELSEWHERE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}


def rewrite_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Rewrite the links of a page that leave docs/ or show the name of a file."""
    folder = (DOCS / docname).parent

    def lead(link: re.Match[str]) -> str:
        text, target, fragment = link.groups()
        path = (folder / target).resolve()
        shown = "" if NAME.fullmatch(text) else text
        if path.is_relative_to(DOCS) and path.suffix == ".md":
            return f"[{shown}]({target}{fragment or ''})"
        if path.is_relative_to(DOCS) or not path.exists():
            return link[0]
        name = path.relative_to(ROOT).as_posix()
        if name in ELSEWHERE:
            there = posixpath.relpath(
                ELSEWHERE[name], posixpath.dirname(docname) or "."
            )
            return f"[{shown}]({there}{fragment or ''})"
        return f"[{text}]({REPOSITORY}/{name})" if REPOSITORY else text

    source[0] = LINK.sub(lead, source[0])


def setup(app: Sphinx) -> None:
    app.connect("source-read", rewrite_links)
