"""Poems, masks and tables as HTML: what is on the page, in which colour, and that typed text never becomes markup."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter

from course_lib import show
from course_lib.batches import IGNORE, make_example
from course_lib.poems import Poem
from course_lib.roles import END, Message, example_segments
from course_lib.show.html import GREY, INK, RED, Html
from course_lib.tokenizer import CharacterTokenizer

RAIN = Poem("春夜喜雨", "杜甫", ("好雨知時節，當春乃發生。", "隨風潛入夜，潤物細無聲。"))
GLOSS = """
    Welcome Rain on a Spring Night
    A good rain knows its season.
    It slips into the night.
"""
NASTY = '<script>alert("&amp;")</script>'


def page(html: str) -> ElementTree.Element:
    """The HTML as a tree; markup that is not closed raises."""
    return ElementTree.fromstring(f"<page>{html}</page>")


def words(html: str) -> list[str]:
    return [text.strip() for text in page(html).itertext() if text.strip()]


def coloured(html: str) -> list[tuple[str, str, str]]:
    """(token, label, colour) of each token that a mask draws."""
    found = []
    for cell in page(html).iter("span"):
        if "inline-block" in cell.get("style", ""):
            above, below = cell.findall("span")
            (colour,) = re.findall(r";color:(#\w+)", cell.get("style", ""))
            found.append((above.text or "", below.text or "", colour))
    return found


@pytest.fixture(scope="module")
def tokenizer() -> CharacterTokenizer:
    tokenizer = CharacterTokenizer.train([RAIN.title + RAIN.text + "請用以下題目寫一首詩"], min_count=1)
    tokenizer.add_role_tokens()
    return tokenizer


# --- verse ----------------------------------------------------------------------------------------


def test_a_poem_is_set_row_by_row_with_its_gloss_beside_it() -> None:
    rows = [list(row) for row in page(show.poem(RAIN, GLOSS)).iter("tr")]
    assert ["".join(row[0].itertext()) for row in rows] == ["春夜喜雨 杜甫", *RAIN.couplets]
    assert [row[1].text for row in rows] == [line.strip() for line in GLOSS.strip().split("\n")]


def test_without_a_gloss_there_is_one_column() -> None:
    rows = list(page(show.poem(RAIN)).iter("tr"))
    assert [len(row) for row in rows] == [1, 1, 1]


def test_an_empty_row_stays_a_gap() -> None:
    assert words(show.verse("題", "一\n\n二")) == ["題", "一", "二"]
    assert len(list(page(show.verse("題", "一\n\n二")).iter("tr"))) == 4


def test_plain_text_keeps_its_rows_and_shows_every_newline() -> None:
    html = show.plain("題\n一。\n\n")
    assert "".join(page(html).itertext()) == "題↵\n一。↵\n↵\n"
    assert "white-space:pre-wrap" in html


@pytest.mark.parametrize("gloss", ["title only", "title\none\ntwo\nthree"])
def test_a_gloss_with_the_wrong_number_of_rows_is_refused(gloss: str) -> None:
    with pytest.raises(ValueError, match=r"the gloss has \d rows; the title and the verse have 3"):
        show.poem(RAIN, gloss)


# --- tokens ---------------------------------------------------------------------------------------


def test_the_mask_shows_prompt_grey_poem_ink_and_end_red(tokenizer: CharacterTokenizer) -> None:
    example = make_example(tokenizer, example_segments(RAIN), context=256)
    tokens = show.tokens(tokenizer, example.input_ids)
    drawn = coloured(show.mask(tokens, example.labels))
    response = RAIN.text.replace("\n", "↵")
    prompt = ["<INS>", *"請用以下題目寫一首詩", "<INP>", *RAIN.title, "<RES>"]
    assert [token for token, _, _ in drawn] == [*prompt, *response, "<EOS>"]
    assert [label for _, label, _ in drawn] == [str(label) for label in example.labels]
    assert [colour for _, _, colour in drawn] == ([GREY] * len(prompt) + [INK] * len(response) + [RED])


def test_an_end_mark_that_is_not_learned_is_grey() -> None:
    assert coloured(show.mask([END], [IGNORE]))[0][2] == GREY


def test_a_typed_end_mark_is_ink_like_any_text(tokenizer: CharacterTokenizer) -> None:
    ids = tokenizer.encode(END)
    drawn = coloured(show.mask(show.tokens(tokenizer, ids), ids))
    assert [(token, colour) for token, _, colour in drawn] == [(c, INK) for c in END]


def test_the_mask_begins_a_row_at_each_role_and_after_each_newline(tokenizer: CharacterTokenizer) -> None:
    example = make_example(tokenizer, example_segments(RAIN), context=256)
    html = show.mask(show.tokens(tokenizer, example.input_ids), example.labels)
    rows = [row for row in page(html).iter("div") if "nowrap" in row.get("style", "")]
    assert ["".join(cell[0].text or "" for cell in row) for row in rows] == [
        "<INS>請用以下題目寫一首詩",
        "<INP>春夜喜雨",
        "<RES>好雨知時節，當春乃發生。↵",
        "隨風潛入夜，潤物細無聲。<EOS>",
    ]


def test_the_mask_says_how_much_is_learned() -> None:
    assert "2 of 3 tokens are learned" in show.mask(["a", "b", END], [IGNORE, 7, 2])


def test_a_mask_needs_a_label_for_each_token() -> None:
    with pytest.raises(ValueError, match="2 tokens and 1 labels"):
        show.mask(["a", "b"], [IGNORE])


# --- tables and conversations ---------------------------------------------------------------------


def test_a_table_sets_numbers_to_the_right_and_words_to_the_left() -> None:
    html = show.table(["split", "poems", "share"], [("train", 53669, 0.5)])
    cells = [(cell.text, re.findall(r"text-align:(\w+)", cell.get("style", ""))) for cell in page(html).iter("td")]
    assert cells == [("train", ["left"]), ("53,669", ["right"]), ("0.5", ["right"])]
    assert [cell.text for cell in page(html).iter("th")] == ["split", "poems", "share"]


def test_no_row_of_a_table_ends_within_an_interval() -> None:
    html = show.table(["", "", ""], [["93 [87, 97]", "0.1 [-0.5, 0.7]", "春, 夏 and 2, 3"]])
    found = [cell.text for cell in page(html).iter("td")]
    assert found == ["93 [87,\N{NO-BREAK SPACE}97]", "0.1 [-0.5,\N{NO-BREAK SPACE}0.7]", "春, 夏 and 2, 3"]


def test_a_row_that_does_not_fit_its_header_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, the header has 2"):
        show.table(["a", "b"], [("only one",)])


def test_a_chat_window_hides_the_system_message() -> None:
    messages: list[Message] = [
        {"role": "system", "content": "先聽"},
        {"role": "user", "content": "我怕"},
        {"role": "assistant", "content": "你很累"},
    ]
    assert words(show.chat(messages, ["listen", "I fear", "you are tired"])) == [
        "我怕",
        "I fear",
        "你很累",
        "you are tired",
    ]
    sides = [
        re.findall(r"text-align:(right|left);margin", d.get("style", "")) for d in page(show.chat(messages)).iter("div")
    ]
    assert [side for found in sides for side in found] == ["right", "left"]
    with pytest.raises(ValueError, match="1 translations for 3 messages"):
        show.chat(messages, ["listen"])


def test_a_poem_in_a_chat_window_keeps_its_rows() -> None:
    html = show.chat([{"role": "assistant", "content": RAIN.text}])
    (bubble,) = (div for div in page(html).iter("div") if div.text == RAIN.text)
    assert "white-space:pre-line" in bubble.get("style", "")


# --- pieces ---------------------------------------------------------------------------------------


def test_a_piece_displays_itself_and_its_stored_text_never_changes() -> None:
    piece = show.verse("甲", "一")
    assert isinstance(piece, str)
    data, _ = DisplayFormatter().format(piece)
    assert data == {"text/html": str(piece), "text/plain": "<Html>"}
    assert type(data["text/html"]) is str


def test_columns_keep_order_and_captions() -> None:
    html = show.columns({"before": show.verse("甲", "一"), "after": show.verse("乙", "二")})
    assert words(html) == ["before", "甲", "一", "after", "乙", "二"]


def test_pieces_are_stacked_in_order_and_a_plain_string_becomes_a_paragraph() -> None:
    html = show.stack(show.verse("甲", "一"), "a < b", show.columns({"after": show.verse("乙", "二")}))
    assert isinstance(html, Html)
    assert words(html) == ["甲", "一", "a < b", "after", "乙", "二"]
    assert [paragraph.text for paragraph in page(html).iter("p")] == ["a < b"]


# --- escaping -------------------------------------------------------------------------------------


@given(st.text(alphabet=st.sampled_from("<>&\"'/ab春\n"), max_size=12))
def test_whatever_is_typed_stays_text(typed: str) -> None:
    message: Message = {"role": "user", "content": typed}
    pieces = {
        "verse": show.verse(typed, typed, author=typed),
        "plain": show.plain(typed),
        "gloss": show.verse("題", "一", gloss=f"x{typed.replace(chr(10), '')}\ny"),
        "table": show.table([typed], [(typed,)]),
        "columns": show.columns({typed: typed}),
        "stack": show.stack(typed),
        "chat": show.chat([message], [typed]),
        "mask": show.mask([typed, "a"], [1, 2]),
    }
    for name, html in pieces.items():
        tags = {element.tag for element in page(html).iter()}
        assert tags <= {"page", "div", "span", "table", "thead", "tbody", "tr", "td", "th", "br", "p"}, name


def test_a_script_in_a_title_is_shown_and_not_run() -> None:
    html = show.verse(NASTY, NASTY, author=NASTY)
    assert "<script" not in html
    assert words(html) == [NASTY, NASTY, NASTY]
