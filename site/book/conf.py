"""How Sphinx sets the site. `scripts/build_site.py` collects the pages that it reads."""

import posixpath
import re
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode, document, reference
from latex2mathml.converter import convert
from sphinx import package_dir
from sphinx.addnodes import pending_xref
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

highlight_language = "none"  # a block that names no language may be a table or a tree

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
html_static_path = ["static", f"{package_dir}/locale/zh_CN/LC_MESSAGES/sphinx.js"]
html_css_files = ["site.css"]
html_favicon = "static/seal.svg"
html_copy_source = False
html_show_copyright = False
html_additional_pages = {"search.zh-CN": "search.html"}
html_use_index = False
html_domain_indices = False
html_search_language = "both"
html_math_renderer = "mathml"

README_PAGES = {"README.md": "index", "README.zh-CN.md": "zh"}  # the site has pages of its own in place of these
OPTION = re.compile(r"Annotated\[(.*?), <typer\.models\.\w+ object at 0x[0-9a-f]+>\]")
CHINESE = {
    "Back to top": "回到顶部",
    "Home": "首页",
    "Made with ": "主题：",
    "Next": "下一页",
    "On this page": "本页内容",
    "Previous": "上一页",
    "Search": "搜索",
    "Skip to content": "跳到正文",
}
LABELS = {  # the theme has no other languages for these
    '="Link to this heading"': '="本节的链接"',
    '="Toggle Light / Dark / Auto color theme"': '="切换浅色、深色或自动"',
    '="Toggle navigation of ': '="展开或收起：',
    '="Toggle site navigation sidebar"': '="打开或收起网站目录"',
    '="Toggle table of contents sidebar"': '="打开或收起本页目录"',
    "<title>Auto light/dark, in dark mode<": "<title>自动，现在是深色<",
    "<title>Auto light/dark, in light mode<": "<title>自动，现在是浅色<",
    "<title>Contents<": "<title>本页目录<",
    "<title>Dark mode<": "<title>深色<",
    "<title>Expand<": "<title>展开<",
    "<title>Light mode<": "<title>浅色<",
    "<title>Menu<": "<title>网站目录<",
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


def is_chinese(page: str) -> bool:
    """Whether a page is written in Chinese."""
    return page == "zh" or "/zh/" in page or page.endswith(".zh-CN")


def speak(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Name the language of a page, set the words around a Chinese page in Chinese, and stay in that language."""
    for side in ("prev", "next"):
        if neighbour := context.get(side):
            there = posixpath.normpath(posixpath.join(posixpath.dirname(page), neighbour["link"]))
            context[side] = neighbour if is_chinese(there.removesuffix(".html")) == is_chinese(page) else None
    if is_chinese(page):
        context |= {"language": "zh-CN", "docstitle": "从写个不停到有问有答", "show_sphinx": False}
        context["_"] = context["gettext"] = lambda text: CHINESE.get(text, text)
        pathto, own = context["pathto"], {"index": "zh", "search": "search.zh-CN"}
        context["pathto"] = lambda to, *how: pathto(own.get(to, to), *how)
        app.add_js_file("sphinx.js")  # for this page: what the search says
        if page.startswith("search"):
            app.add_js_file("search.zh-CN.js")
        top, *parts = re.split('(?=<p class="caption")', context["furo_navigation_tree"])
        tree = top + "".join(sorted(parts, key=lambda part: ">中文版<" not in part))  # it stands first here
        for caption, chinese in CAPTIONS.items():
            tree = tree.replace(f">{caption}</span>", f">{chinese}</span>")
        context["furo_navigation_tree"] = tree


def relabel(app: Sphinx, error: Exception | None) -> None:
    """Set the labels of the theme in Chinese on the Chinese pages."""
    for path in Path(app.outdir).rglob("*.html"):
        if is_chinese(path.relative_to(app.outdir).with_suffix("").as_posix()):
            text = path.read_text("utf-8")
            for english, chinese in LABELS.items():
                text = text.replace(english, chinese)
            path.write_text(text, "utf-8", newline="\n")


def relink(app: Sphinx, doctree: document) -> None:
    """Send each link to a file that the site lacks to the repository; without an address only its words stay."""
    for link in list(doctree.findall(pending_xref)):
        if link["reftype"] != "myst" or link["refdomain"]:
            continue  # it leads to a page of the site
        target, _, anchor = link["reftarget"].partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(app.env.docname), target))
        if file in README_PAGES:
            link.attributes |= {"refdomain": "doc", "reftarget": README_PAGES[file], "reftargetid": anchor or None}
        elif Path(app.config.repository, file).exists():
            address = f"{app.config.address}/{file}" + (f"#{anchor}" if anchor else "")
            words = link.children
            link.replace_self(reference("", "", *words, refuri=address) if app.config.address else words)


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
    app.add_config_value("repository", "", "env", str)  # the folder of the repository
    app.add_config_value("address", "", "env", str)  # where its files can be read
    app.add_search_language(SearchBoth)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("doctree-read", relink)
    app.connect("html-page-context", speak, priority=900)  # after the theme has made the sidebar
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    app.connect("build-finished", relabel)
