"""How Sphinx sets the site. `scripts/build_site.py` collects the pages that it reads."""

import re
from typing import Any

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

project = "From rambling to answering"
language = "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]

# Notebooks: their stored outputs, never run here.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["attrs_block", "dollarmath"]
myst_heading_anchors = 3

# The reference: docstrings are plain text, with names between single backticks.
default_role = "code"
smartquotes = False
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100

# The pages: no request to another host.
html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = project
html_theme_options: dict[str, list[str]] = {"top_of_page_buttons": []}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "static/seal.svg"
html_copy_source = False
html_show_copyright = False
html_use_index = False
html_domain_indices = False
html_search_language = "both"
html_math_renderer = "mathml"

OPTION = re.compile(r"Annotated\[(.*?), <typer\.models\.\w+ object at 0x[0-9a-f]+>\]")
CHINESE = {
    "Back to top": "回到顶部",
    "Home": "首页",
    "Next": "下一页",
    "On this page": "本页内容",
    "Previous": "上一页",
    "Search": "搜索",
    "Skip to content": "跳到正文",
}
CAPTIONS = {"The course": "英文版", "Reference": "参考（英文）", "Set up": "安装（英文）"}  # in the sidebar


class SearchBoth(SearchEnglish):
    """Words in English. In Chinese, where no space divides words: each pair of neighbours, and each character."""

    lang = "both"
    js_splitter_code = r"""
var splitQuery = (query) => {
  const pairs = [...query.matchAll(/(?=([㐀-鿿]{2}))/gu)].map((found) => found[1]);
  const words = query.match(/(?:_|[^\s\p{P}\p{S}㐀-鿿])+|[㐀-鿿]/gu) || [];
  return [...pairs, ...words.filter((word) => !pairs.length || !/[㐀-鿿]/.test(word))];
};
"""

    def split(self, input: str) -> list[str]:
        """The words of a text."""
        return re.findall("(?=([㐀-鿿]{2}))", input) + re.findall(r"[^\W㐀-鿿]+|[㐀-鿿]", input)


def mathml(self: Any, node: Any) -> None:
    """Write a formula as MathML, which browsers draw by themselves."""
    self.body.append(convert(node.astext(), display="block" if node.tagname == "math_block" else "inline"))
    raise SkipNode


def speak(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Name the language of a page, and set the words around a Chinese page in Chinese."""
    if page == "zh" or "/zh/" in page or page.endswith(".zh-CN"):
        context |= {"language": "zh-CN", "docstitle": "从写个不停到有问有答"}
        context["_"] = context["gettext"] = lambda text: CHINESE.get(text, text)
        top, *parts = re.split('(?=<p class="caption")', context["furo_navigation_tree"])
        tree = top + "".join(sorted(parts, key=lambda part: ">中文版<" not in part))  # it stands first here
        for caption, chinese in CAPTIONS.items():
            tree = tree.replace(f">{caption}</span>", f">{chinese}</span>")
        context["furo_navigation_tree"] = tree


def docstring(app: Sphinx, what: str, name: str, described: Any, options: Any, lines: list[str]) -> None:
    """Set a docstring as it is meant: indented lines are code, and below `Raises:` each line is an error."""
    text = re.sub(r"\n\n(?=    )", "\n\n::\n\n", "\n".join(lines))
    before, _, errors = text.partition("Raises:\n")
    lines[:] = (before + re.sub(r"^    (?=[\w.]+:)", ":raises ", errors, flags=re.MULTILINE)).split("\n")


def skip(app: Sphinx, what: str, name: str, member: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out fields without a description, and functions of other packages. None leaves the choice to Sphinx."""
    field = str(member.__doc__).startswith("Alias for field number")
    foreign = callable(member) and not str(getattr(member, "__module__", "course_lib")).startswith("course_lib")
    return field or foreign or None


def signature(
    app: Sphinx, what: str, name: str, described: Any, options: Any, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """The arguments of a command, without what Typer needs to know about them."""
    return arguments and OPTION.sub(r"\1", arguments), returns


def setup(app: Sphinx) -> None:
    """Add to Sphinx what this file defines."""
    app.add_search_language(SearchBoth)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("html-page-context", speak, priority=900)  # after the theme has made the sidebar
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
