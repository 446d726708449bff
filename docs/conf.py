"""The settings of the documentation site: `sphinx-build -W --keep-going -b html docs site`."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

import nnx_site  # noqa: E402  # it is in the folder of the line above

import nnx  # noqa: E402

# autodoc imports the modules that it documents; these two are attributes of nnx.
sys.modules.update({"nnx.schedules": nnx.schedules, "nnx.convert": nnx.convert})

project, author, project_copyright = "nnx", "the authors of nnx", "the authors of nnx"
version = release = nnx.__version__

repository = nnx_site.repository()  # [project.urls] Repository of pyproject.toml, "" while it has none

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "nnx_site",
]
templates_path = ["_templates"]
exclude_patterns = [
    "_build",
    "examples",
    "jupyter_execute",
    *(f"gallery/*.{end}" for end in ("ipynb", "py*", "json", "zip")),
]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
default_role = "py:obj"  # `Dense` in a docstring is a link where there is such an object, else code

suppress_warnings = ["sphinx_gallery.space_in_filename"]  # the folder of the checkout may have a space

# Pages
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # GitHub's anchors
nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS / "_build" / "notebooks")
nb_execution_in_temp = True
nb_execution_excludepatterns = ["*.md"]  # tests/test_docs.py runs the pages' blocks
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

# The reference
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's Parameters have the types
autodoc_class_signature = "mixed"
maximum_signature_line_length = 88
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
add_module_names = False
viewcode_line_numbers = True

# The examples
sphinx_gallery_conf = {
    "examples_dirs": ["examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "reset_modules": ("nnx_site.as_on_the_pages",),
    "remove_config_comments": True,
    "show_memory": False,
    "capture_repr": (),
    "min_reported_time": 10,
    "plot_gallery": True,
    "image_scrapers": ("matplotlib", "nnx_site.figures"),
    "write_computation_times": False,
    "notebook_images": False,
}

# The look
html_theme = "pydata_sphinx_theme"
html_title = f"nnx {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {
        "text": "nnx",
        "image_light": "_static/icon.svg",
        "image_dark": "_static/icon.svg",
        "alt_text": "nnx",
    },
    "github_url": repository,
    "show_prev_next": True,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "pygments_light_style": "github-light",
    "pygments_dark_style": "github-dark",
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "coming-from": ["sidebar-nav-bs"]}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
