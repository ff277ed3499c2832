"""Settings of the web book. `make book` runs tools/make_book.py, which prepares what Sphinx reads and calls Sphinx."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tools")]

import transforms  # noqa: E402  (lies beside this file)
from places import setting  # noqa: E402

import minidiff  # noqa: E402

project, author, version = "minidiff", "the minidiff authors", minidiff.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["README.md"]  # the index includes parts of it

nb_execution_mode = "off"  # shows the stored outputs
nb_mime_priority_overrides = [("*", "application/vnd.jupyter.widget-view+json", None)]  # it would hide the picture
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

html_theme = "sphinx_book_theme"
html_title = "minidiff"
html_favicon = "book/favicon.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_static_path = ["book"]
html_css_files = ["book.css"]
html_copy_source = False  # the copies lack what Colab needs; the buttons lead to the notebooks themselves
html_show_sourcelink = False
html_use_index = html_domain_indices = False  # the search and the table of modules do better
html_theme_options = {
    "repository_url": f"https://github.com/{setting()['repository']}",
    "repository_branch": setting()["branch"],
    "use_repository_button": True,
    "use_download_button": False,
    "navbar_persistent": [],  # the search field in the sidebar is enough
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
}
mathjax_path = "mathjax.js"  # MathJax 3; 4 would load its fonts from the network


def setup(app):
    app.connect("autodoc-skip-member", transforms.says_nothing)
    app.connect("autodoc-process-docstring", transforms.plain_docstring)
    app.connect("doctree-read", transforms.number_equations)
