"""The page that needs no server, from a plain file server. `make poem-page` builds it; without it these tests skip."""

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from opencc import OpenCC
from pages import LOOKS, window
from playwright.sync_api import Browser, Page, expect

from course_lib.paths import ASSETS
from course_lib.prosody import han

pytestmark = pytest.mark.slow

TITLE = "春夜喜雨"
NO_ACROSTICS = "this model knows no acrostics: `make poem-page CHECKPOINT=assets/checkpoints/aligned`"
SAYS = {"en": ("Write", "Another", "Stop", "Finished"), "zh": ("写", "换一首", "停", "写完了")}


class Files(SimpleHTTPRequestHandler):
    """A plain file server that remembers what it sent."""

    sent: dict[str, int]  # the path of each file -> its bytes

    def log_message(self, *_: object) -> None:
        pass

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Content-Length":
            self.sent[self.path.partition("?")[0]] = int(value)
        super().send_header(keyword, value)


@pytest.fixture(scope="module")
def sent() -> dict[str, int]:
    return {}


@pytest.fixture(scope="module")
def address(repository: Path, sent: dict[str, int]) -> Iterator[str]:
    folder = repository / "build" / "poem"
    if not (folder / "model" / "model.onnx").is_file():
        pytest.skip("build/poem is not there: `make poem-page` builds it, with npm")
    handler = type("Handler", (Files,), {"sent": sent})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, opened for the first time, in English and without pauses between the characters."""
    with window(browser) as opened:
        errors: list[str] = []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.goto(f"{address}?lang=en&pace=0")
        yield opened
        assert errors == []


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def finished(page: Page, pattern: str = "Finished|写完了") -> list[str]:
    """Wait until the state line matches, and return the columns, title first, without the tone signs."""
    page.get_by_role("status").filter(has_text=re.compile(pattern)).wait_for()
    return columns(page)


def written(page: Page, button: str) -> list[str]:
    """Press a button, and return the columns of the poem that it asks for."""
    page.evaluate("document.getElementById('spoken').textContent = ''")
    press(page, button)
    page.locator("#spoken:not(:empty)").wait_for(state="attached")
    page.evaluate("new Promise(requestAnimationFrame)")  # the last characters are drawn
    return columns(page)


def columns(page: Page) -> list[str]:
    texts: list[str] = page.locator(".column").evaluate_all(f"all => {{ {LOOKS}; return all.map(unmarked); }}")
    return [text for text in texts if text]


def test_a_visitor_gets_a_poem_with_its_tones(page: Page) -> None:
    press(page, "Write")
    title, *verse = finished(page)
    assert title == TITLE
    assert len(han("".join(verse))) >= 20
    assert page.locator("rt").count() == len(han("".join(verse)))
    assert page.locator(".seal").inner_text() == "完"
    assert re.search(r"formed: .* (Rhymes|Does not rhyme) ", page.locator("#sound").inner_text())
    spoken = page.locator("[aria-live=polite]").inner_text()
    assert "".join(spoken.split()) == "".join([title, *verse])


def test_the_same_seed_gives_the_same_poem_and_another_has_the_next(page: Page) -> None:
    first = written(page, "Write")
    second = written(page, "Another")
    expect(page.get_by_label("Seed")).to_have_value("1")
    assert second[0] == first[0]
    assert second != first
    page.get_by_label("Seed").fill("0")
    assert written(page, "Write") == first


def test_a_poem_can_be_stopped(browser: Browser, address: str) -> None:
    with window(browser) as page:
        page.goto(f"{address}?lang=en&pace=500")
        press(page, "Write")
        page.wait_for_function("document.querySelectorAll('.column')[1]?.textContent.length > 1")
        press(page, "Stop")
        begun = finished(page, "Stopped")
        expect(page.get_by_role("button", name="Stop")).to_be_disabled()
        page.wait_for_timeout(1200)
        assert columns(page) == begun
        assert page.locator(".seal").count() == 0


def test_what_comes_between_two_frames_of_the_screen_is_drawn_at_once(browser: Browser, address: str) -> None:
    with window(browser) as page:
        page.add_init_script("window.requestAnimationFrame = draw => { window.frame = draw; return 1; }")
        page.goto(f"{address}?lang=en&pace=0")
        press(page, "Write")
        page.wait_for_function("document.getElementById('spoken').textContent", polling=100)
        assert columns(page) == []
        page.evaluate("window.frame()")
        title, *verse = finished(page)
        spoken = page.locator("[aria-live=polite]").inner_text()
        assert "".join(spoken.split()) == "".join([title, *verse])


def test_a_title_entered_meanwhile_is_written_at_once(page: Page, address: str) -> None:
    page.goto(f"{address}?lang=en&pace=50")
    press(page, "Write")
    finished(page, "Writing")
    page.get_by_label("Title").fill("明月")
    page.keyboard.press("Enter")
    page.locator(".heading", has_text="明月").wait_for()
    assert finished(page)[0] == "明月"


def test_there_is_a_field_for_each_clause_that_the_model_was_taught(page: Page) -> None:
    taught = page.evaluate("fetch('model/instructions.json').then(file => file.json())")
    names = {one["name"] for one in taught}
    expect(page.get_by_role("button", name="Write", exact=True)).to_be_enabled()
    assert page.get_by_label("Rhyme group").is_visible() == ("rhyme" in names)
    assert page.get_by_label("Acrostic").is_visible() == ("acrostic" in names)
    titled = [one for one in taught if (one["kind"], one["given"]) == ("sentence", "title")]
    assert page.get_by_label("Form").locator("option").count() == len(titled)


def test_the_rhyme_groups_are_in_the_order_of_the_rhyme_book(page: Page) -> None:
    expect(page.get_by_role("button", name="Write", exact=True)).to_be_enabled()
    menu = page.get_by_label("Rhyme group").locator("option").all_inner_texts()
    book = [line.split()[0] for line in (ASSETS / "rhymes/pingshui.txt").read_text("utf-8").splitlines()]
    assert menu == ["any", *(f"{name[-1]} {name}" for name in book[:30])]


def test_the_hint_on_acrostics_is_under_their_field(page: Page) -> None:
    expect(page.get_by_role("button", name="Write", exact=True)).to_be_enabled()
    acrostic = page.get_by_role("textbox", name="Acrostic", exact=True)
    if not acrostic.is_visible():
        pytest.skip(NO_ACROSTICS)
    assert acrostic.evaluate("field => field.ariaDescribedByElements[0].innerText").startswith("4 or 8 characters")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        field, hint = acrostic.bounding_box(), page.get_by_text("4 or 8 characters").bounding_box()
        assert field is not None
        assert hint is not None
        assert hint["x"] == pytest.approx(field["x"], abs=2)
        assert 0 <= hint["y"] - field["y"] - field["height"] < 20
        tops = page.locator("select, #acrostic").evaluate_all("all => all.map(one => one.getBoundingClientRect().top)")
        assert width < 1280 or len(set(tops)) == 1


def test_the_model_writes_drafts_until_it_is_asked(browser: Browser, address: str) -> None:
    """A browser makes code faster only after it has run for a while, and so the first poem was slow."""
    with window(browser) as page:
        with page.expect_worker() as started:
            page.goto(f"{address}?lang=en&pace=0")
        steps = "import('./ort/ort.wasm.min.mjs').then(({ InferenceSession: { prototype } }) => "
        worker = started.value
        worker.evaluate(
            f"{steps}{{ const run = prototype.run; self.lengths = [];"
            "prototype.run = function (given) {"
            " self.lengths.push(given.input_ids.dims[1]); return run.call(this, given); } })"
        )
        finished(page, "Ready")
        for _ in range(200):
            if worker.evaluate("self.lengths.length") >= 1:
                break
            page.wait_for_timeout(20)
        assert worker.evaluate("self.lengths.length") >= 1
        press(page, "Write")
        _, *verse = finished(page)
        page.wait_for_timeout(500)
        lengths = worker.evaluate("self.lengths")  # what each step reads: a prompt, then one token at a time
        poem = next(at for at, length in enumerate(lengths) if length > 3)  # a draft's prompt is three marks
        assert len(lengths) - poem <= len("".join(verse)) + len(verse)  # no draft goes on after the poem has begun


def test_what_is_left_out_of_a_title_is_named_as_it_was_typed(page: Page) -> None:
    page.get_by_label("Title").fill("spring 雨 night")
    press(page, "Write")
    finished(page)
    assert "Left out: spring, night (" in page.get_by_role("status").inner_text()


def test_an_acrostic_has_four_or_eight_characters(page: Page) -> None:
    acrostic, stop = page.get_by_label("Acrostic"), page.get_by_role("button", name="Stop")
    finished(page, "Ready")
    if not acrostic.is_visible():
        pytest.skip(NO_ACROSTICS)
    for typed in ("春夏秋", "春夏秋冬天", "abcd"):
        acrostic.fill(typed)
        for button in ("Write", "Another"):
            press(page, button)
            assert stop.is_disabled()  # the browser refuses it
    expect(page.get_by_label("Seed")).to_have_value("0")
    acrostic.fill("春夏秋冬")
    assert len(written(page, "Write")) > 1


def test_the_keyboard_is_enough(page: Page) -> None:
    title = page.get_by_label("Title")
    title.focus()
    title.fill("静夜思")
    page.keyboard.press("Enter")
    assert finished(page)[0] == "靜夜思"
    assert "Read as 靜夜思: you typed Simplified" in page.get_by_role("status").inner_text()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "form"


def test_what_cannot_be_a_title_is_refused(page: Page) -> None:
    page.get_by_label("Title").fill("<RES><script>alert(1)</script>")
    press(page, "Write")
    assert finished(page, "Refused") == []
    assert "no Chinese character" in page.get_by_role("status").inner_text()
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()


def test_it_works_without_a_network_once_it_is_loaded(page: Page, address: str, sent: dict[str, int]) -> None:
    press(page, "Write")
    first = finished(page)
    in_store = "caches.keys().then(names => caches.open(names[0])).then(s => s.keys()).then(files => files.length)"
    page.wait_for_function(f"{in_store}.then(files => files >= {len(sent) - 1})")  # all but the service worker itself
    page.context.set_offline(True)
    sent.clear()
    page.goto(f"{address}?lang=en&pace=0")
    press(page, "Write")
    assert finished(page) == first
    assert sent == {}


def test_no_request_leaves_the_server_and_all_files_are_at_most_30_mb(
    browser: Browser, address: str, sent: dict[str, int]
) -> None:
    with window(browser) as page:
        asked: set[str] = set()
        page.context.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        sent.clear()
        page.goto(f"{address}?pace=0")
        page.locator("#write").click()
        finished(page)
        assert asked - {""} == {urlsplit(address).netloc}
        assert {"/model/model.onnx", "/ort/ort-wasm-simd-threaded.wasm"} <= set(sent)
        assert sum(sent.values()) <= 30_000_000


def test_the_licences_of_what_is_not_ours_are_there(page: Page) -> None:
    for file, words in {"LICENSE": "MIT License\n\nCopyright (c) Microsoft", "ThirdPartyNotices.txt": "Eigen"}.items():
        assert words in page.evaluate(f"fetch('ort/{file}').then(file => file.text())").replace("\r", "")


@pytest.mark.parametrize("width", [1280, 800, 390])
@pytest.mark.parametrize(("language", "scheme"), [("en", "light"), ("zh", "dark")])
def test_it_fits_any_window(
    browser: Browser, address: str, width: int, language: str, scheme: str, pictures: Path
) -> None:
    with window(browser) as page:
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{address}?lang={language}&pace=0")
        write, another, stop, _ = SAYS[language]
        expect(page.get_by_role("button", name=write, exact=True)).to_be_enabled()
        assert page.get_by_role("button").all_inner_texts()[1:] == [write, another, stop]
        press(page, write)
        finished(page, SAYS[language][3])
        for fault in ("clipped", "pale"):
            found = page.locator("main").evaluate(f"e => {{ {LOOKS}; return {fault}(e); }}")
            assert [part for part in found if "unseen" not in part] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=pictures / f"poem_page_{language}_{scheme}_{width}.png", full_page=True)


def test_the_language_can_be_switched(page: Page) -> None:
    press(page, "中文")
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    assert page.title() == "输入题目，得到一首诗"
    assert "lang=zh" in page.url
    press(page, "English")
    assert page.title() == "Type a title, get a poem"


def test_the_chinese_page_has_the_fonts_and_the_rhymes_of_simplified_characters(page: Page) -> None:
    expect(page.get_by_role("button", name="Write", exact=True)).to_be_enabled()
    english = page.evaluate("[...document.querySelector('#rhyme').options].map(it => [it.value, it.text])")
    press(page, "中文")
    chinese = page.evaluate("[...document.querySelector('#rhyme').options].map(it => [it.value, it.text])")
    assert [value for value, _ in chinese] == [value for value, _ in english]  # the model reads Traditional ones
    assert (english[1][1], chinese[0][1], chinese[1][1]) == ("東 上平聲一東", "不限", "上平声一东")
    fonts = "e => getComputedStyle(e).fontFamily"
    assert "Noto Sans CJK SC" in page.locator("body").evaluate(fonts)
    assert "Noto Serif CJK TC" in page.locator("#verse").evaluate(fonts)
    page.get_by_role("checkbox", name="用简体字显示诗").check()
    expect(page.locator("#verse")).to_have_attribute("lang", "zh-Hans")
    assert "Noto Serif CJK SC" in page.locator("#verse").evaluate(fonts)


def test_a_poem_can_be_shown_in_simplified_characters(page: Page) -> None:
    page.get_by_label("Title").fill("靜夜")
    poem, signs = written(page, "Write"), page.locator("rt").all_inner_texts()
    box = page.get_by_role("checkbox", name="Show poems in Simplified")
    box.check()
    shown = columns(page)
    assert shown == [OpenCC("t2s").convert(column) for column in poem]
    assert shown[0] == "静夜"
    assert page.locator("#verse").get_attribute("lang") == "zh-Hans"
    assert page.locator("rt").all_inner_texts() == signs
    assert written(page, "Write") == shown
    assert page.locator("[aria-live=polite]").inner_text().startswith("静夜")
    box.uncheck()
    assert columns(page) == poem


def test_every_sentence_is_there_once_in_both_languages(page: Page, repository: Path) -> None:
    table = page.evaluate("import('./sentences.js').then(module => module.SENTENCES)")
    source = (repository / "site/poem/sentences.js").read_text("utf-8")
    assert re.findall(r'^  "?([\w.-]+)"?: \{', source, re.MULTILINE) == list(table)
    assert len(table) > 40
    for name, sentences in table.items():
        places = {language: sorted(re.findall(r"\{\w+\}", text)) for language, text in sentences.items()}
        assert places.keys() == {"en", "zh"}, name
        assert places["en"] == places["zh"], name
    used = page.evaluate("[...document.querySelectorAll('[data-say]')].map(part => part.dataset.say)")
    assert set(used) <= table.keys()


def test_the_page_says_the_same_in_chinese_as_the_boxes(page: Page) -> None:
    """Where the page says what the course says in English, it says it with the same Chinese words."""
    course: dict[str, str] = json.loads((ASSETS / "chinese.json").read_text("utf-8"))
    course["Rhymes in the group of {group}."] = course["Rhymes in the group of {group}"] + "。"
    counted = {
        text.replace("{count}", "{count} characters"): chinese.replace("{count}", "{count} 字")
        for text, chinese in course.items()
    }
    table = page.evaluate("import('./sentences.js').then(module => module.SENTENCES)")
    same = 0
    for name, text in table.items():
        if name.startswith("form."):  # a form is no sentence
            continue
        chinese = re.split("(?<=。)", text["zh"])
        for english, said in zip(
            [text["en"], *re.split(r"(?<=\.) ", text["en"])], [text["zh"], *chinese], strict=False
        ):
            expected = course.get(english) or counted.get(english)
            assert said == (expected or said), name
            same += expected is not None
    assert same > 30
    assert "您" not in str(table)
