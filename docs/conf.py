"""Site: how Sphinx makes the documentation. `make docs` builds it, without a network."""

import inspect
import os
import sys
import warnings
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

# One cache for all examples, so that each frozen network is compiled once and sees an image once.
os.environ.setdefault("HYBRIDUS_CACHE", str(HERE / "_build" / "cache"))
# Links of estimators drawn in the gallery, seen from its pages.
os.environ["HYBRIDUS_DOCS"] = ".."

from hybridus import __version__  # noqa: E402

project = "hybridus"
author = "The hybridus developers"
copyright = "the hybridus developers, BSD-3-Clause"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "command_line",
]
exclude_patterns = ["_build", "examples", "api/generated/*.py"]
templates_path = ["_templates"]
# A name in backticks is a link where it is one of ours, and code where it is not.
default_role = "py:obj"
highlight_language = "none"  # of blocks that name none: commands and what they print
suppress_warnings = ["config.cache"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# The reference: a page for each public name, written from its docstring.
autosummary_generate = True
autosummary_generate_overwrite = True
autodoc_typehints = "none"  # types stand in the docstrings
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "hybridus"
html_static_path = ["_static"]
html_css_files = ["hybridus.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "hybridus"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "collapse_navigation": True,
    "navigation_with_keys": False,
    "back_to_top_button": False,
}
html_context = {"default_mode": "auto"}
html_sidebars = {"start": [], "questions": [], "results": [], "changelog": [], "contributing": []}

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 0,
    "remove_config_comments": True,
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "backreferences_dir": "api/generated/backreferences",
    "doc_module": ("hybridus",),
    "matplotlib_animations": False,
    "ignore_repr_types": r"matplotlib|hybridus\.report",  # pictures, which are shown already
    "image_scrapers": ("matplotlib",),
    "reset_modules": ("matplotlib", "examples_share.forget_the_last_one"),
}


def _skip_what_others_document(app, what, name, obj, skip, options):
    """Leave out what scikit-learn and others hand down: its place is in their documentation."""
    home = getattr(inspect.unwrap(getattr(obj, "fget", obj) or obj), "__module__", "") or ""
    if callable(getattr(obj, "fget", obj)) and home and not home.startswith("hybridus"):
        return True
    return skip


def setup(app):
    """Connect what is our own."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    app.connect("autodoc-skip-member", _skip_what_others_document)
    return {"parallel_read_safe": False, "version": installed("sphinx")}
