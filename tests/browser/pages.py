"""What a learner uses, in the words of the tests: a server, a notebook in JupyterLab, the title box, the chat box."""

import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from PIL import Image, ImageOps
from playwright.sync_api import Browser, Dialog, Locator, Page, expect

PATIENCE = 120  # seconds that any one thing may take; a quiet machine needs three
ADDRESS = re.compile(r"http://(?:localhost|127\.0\.0\.1):\d+/\S*")
ROOT = Path(__file__).resolve().parents[2]
LOOKS = Path(__file__).with_name("looks.js").read_text("utf-8")
CURRENT = "window.jupyterapp.shell.currentWidget"


@contextmanager
def serving(target: str, *options: str, folder: Path, **environment: str) -> Iterator[str]:
    """Start the server that `make TARGET` starts, yield the address it prints, and end the server.

    The command is the Makefile's, with this Python and with `options`. The server keeps its own files in `folder`.
    """
    planned = subprocess.run(
        ["make", "-n", "--no-print-directory", target], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    command = [sys.executable, *shlex.split(planned.splitlines()[-1])[1:], "--no-browser", *options]
    own = {"JUPYTER_CONFIG_DIR": f"{folder}/config", "JUPYTER_RUNTIME_DIR": f"{folder}/runtime"}
    settings = os.environ | own | {"JUPYTER_PREFER_ENV_PATH": "1", "IPYTHONDIR": f"{folder}/ipython"} | environment
    with subprocess.Popen(
        command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ) as server:
        assert server.stdout
        lines = []
        try:
            for line in server.stdout:
                lines.append(line)
                if address := ADDRESS.search(line):
                    break
            else:
                raise AssertionError("the server ended at once:\n" + "".join(lines))
            threading.Thread(target=server.stdout.read, daemon=True).start()  # a full pipe would stop the server
            yield address[0]
        finally:
            server.terminate()


@contextmanager
def window(browser: Browser) -> Iterator[Page]:
    """A browser window of 1280 by 900. A dialog box fails the test: a typed script would show one."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, device_scale_factor=2)
    page.set_default_timeout(PATIENCE * 1000)
    dialogs: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    yield page
    page.close()
    assert not dialogs, dialogs


class Notebook:
    """A notebook open in JupyterLab, its kernel ready."""

    def __init__(self, page: Page, lab: str, path: str) -> None:
        self.page = page
        # Its own workspace, so that the notebooks of other windows are not opened too.
        own = f"/lab/workspaces/{uuid4().hex}/tree/{path}"
        page.goto(urlsplit(lab)._replace(path=own).geturl(), wait_until="domcontentloaded")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        # A cell that runs before the kernel has described itself is sometimes lost.
        self.script(
            "const s = current.context.sessionContext; await current.context.ready; await s.ready;"
            "await s.session.kernel.info"
        )

    def script(self, body: str, argument: object = None) -> object:
        """Run JavaScript on the page; `current` is the notebook's panel, `x` the argument."""
        late = f"new Promise((_, fail) => setTimeout(() => fail(new Error('not done in time')), {PATIENCE * 1000}))"
        done = f"(async () => {{ const current = {CURRENT}; {body} }})()"
        return self.page.evaluate(f"x => Promise.race([{done}, {late}])", argument)

    def command(self, name: str, **arguments: str) -> object:
        """Run one of JupyterLab's commands, as its menus do, and wait for its end."""
        return self.script("return await window.jupyterapp.commands.execute(...x)", [name, arguments])

    def cell(self, text: str) -> Locator:
        """The code cell that contains `text`. It becomes the active cell and is scrolled into view."""
        index = self.script(
            "const c = current.content;"
            "const has = w => w.model.type === 'code' && w.model.sharedModel.source.includes(x);"
            "const i = c.widgets.findIndex(has);"
            "c.deselectAll(); c.activeCellIndex = i; await c.scrollToItem(i, 'center'); return i",
            text,
        )
        assert index != -1, f"no code cell has {text!r}"
        return self.page.locator(f'.jp-Cell[data-windowed-list-index="{index}"]')

    def run_through(self, text: str) -> Locator:
        """Run the cells up to and including the one that contains `text`."""
        cell = self.cell(text)
        self.command("notebook:run-all-above")
        self.cell(text)
        self.command("notebook:run-cell")
        return cell

    def troubles(self) -> list[str]:
        """The tracebacks and warnings in the outputs."""
        kinds = ("error", "stderr")
        return self.page.locator(
            ",".join(f'[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in kinds)
        ).all_inner_texts()

    def ask_kernel(self, expression: str) -> str:
        """The repr of a Python expression in the kernel, after the kernel has run all earlier requests."""
        reply = self.script(
            "const ask = {code: '', silent: true, user_expressions: {x}};"
            "const future = current.context.sessionContext.session.kernel.requestExecute(ask);"
            "return (await future.done).content.user_expressions.x",
            expression,
        )
        assert isinstance(reply, dict)
        assert reply["status"] == "ok", reply
        return str(reply["data"]["text/plain"])


class Box:
    """The title box. Tests find its controls as a screen reader does: by role and name."""

    def __init__(self, within: Locator) -> None:
        self.within = within
        self.title = within.get_by_role("textbox", name="Title", exact=True)
        self.write = within.get_by_role("button", name="Write", exact=True)
        self.another = within.get_by_role("button", name="Another", exact=True)
        self.stop = within.get_by_role("button", name="Stop", exact=True)
        self.temperature = within.get_by_role("spinbutton", name="Temperature", exact=True)
        self.top_p = within.get_by_role("spinbutton", name="Top-p", exact=True)
        self.seed = within.get_by_role("spinbutton", name="Seed", exact=True)
        self.best_of = within.get_by_role("spinbutton", name="Best of", exact=True)
        self.instruction = within.get_by_role("combobox", name="Instruction", exact=True)
        self.whole = within.locator("[role=status]").locator("xpath=ancestor::*[contains(@class, 'widget-vbox')]").first
        self.paper = within.locator("div:has(> [role=status])").last
        self.columns = self.paper.locator('[style*="vertical-rl"]')

    def put(self, title: str) -> None:
        """Type a title and press Enter."""
        self.title.fill(title)
        self.title.press("Enter")

    def says(self, pattern: str) -> str:
        """Wait until the state line below the poem matches, and return it."""
        status = self.within.get_by_role("status").filter(has_text=re.compile(pattern))
        status.wait_for()
        return status.inner_text()

    def poem(self) -> list[str]:
        """The columns on the page, title first, without the tone signs."""
        texts = self.columns.evaluate_all(f"columns => {{ {LOOKS}; return columns.map(unmarked); }}")
        return [text for text in texts if text]

    def rest(self) -> None:
        """Stop the poem, and wait until nothing is written any more."""
        self.stop.wait_for()
        if self.stop.is_enabled():
            self.stop.click()
        self.within.locator("button:disabled", has_text="Stop").wait_for()

    def film(self, path: Path, last: str) -> None:
        """Save what the box shows, until it shows the text `last`, as a film. It is shown four times, then rests."""
        frames: list[Image.Image] = []
        end = False
        while not end:
            end = self.whole.get_by_text(last).count() > 0
            frame = Image.open(BytesIO(self.whole.screenshot())).convert("RGB")
            if not frames or frame.tobytes() != frames[-1].tobytes():
                frames.append(frame)
        width, height = (max(sides) for sides in zip(*(frame.size for frame in frames), strict=True))
        drawn = [ImageOps.pad(frame, (width, height), color="white", centering=(0, 0)) for frame in frames]
        palette = drawn[-1].quantize(48)  # the same for all: then only what changes is stored
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in drawn]
        lasts = [*[100] * (len(frames) - 1), 6000]  # milliseconds
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=lasts, loop=3, optimize=True)

    def copied(self) -> str:
        """The poem as the clipboard has it after a reader has selected it with its title, and copied it."""
        self.columns.first.locator("xpath=..").evaluate("verse => getSelection().selectAllChildren(verse)")
        return str(self.within.page.evaluate("(document.execCommand('copy'), navigator.clipboard.readText())"))

    def rows(self) -> list[str]:
        """The names of the controls, row by row as they stand on the page."""
        names = ("title", "write", "another", "stop", "instruction", "seed", "best_of", "temperature", "top_p")
        rows: list[list[str]] = []
        middle = -1.0
        for name in names:
            place = getattr(self, name).bounding_box()
            before, middle = middle, place["y"] + place["height"] / 2
            if abs(middle - before) > 12:  # rows are 32 pixels high
                rows.append([])
            rows[-1].append(name)
        return [" ".join(row) for row in rows]

    def clipped(self) -> list[str]:
        """The parts that stick out of the box or hide some of their content."""
        return self._look("clipped")

    def pale(self) -> list[str]:
        """The parts whose text has too little contrast with its background."""
        return self._look("pale")

    def _look(self, how: str) -> list[str]:
        return self.whole.evaluate(f"e => {{ {LOOKS}; return {how}(e); }}")


class Talk(Box):
    """The chat box, found as a screen reader finds it."""

    def __init__(self, within: Locator) -> None:
        super().__init__(within)
        self.system = within.get_by_role("textbox", name="System line", exact=True)
        self.message = within.get_by_role("textbox", name="Message", exact=True)
        self.send, self.stop, self.another, self.clear = (
            within.get_by_role("button", name=name, exact=True) for name in ("Send", "Stop", "Another", "Clear")
        )
        self.turns = within.locator("button").filter(has_text=re.compile("[一-龥]"))
        self.seen, self.read = (within.locator("[tabindex='0']:has(> [lang])").nth(side) for side in (0, 1))

    def begin(self) -> None:
        """A new conversation, at the usual pace."""
        self.clear.click()
        self.says("Ready")

    def say(self, message: str) -> None:
        """Type a message, press Enter, and wait until it is on the page."""
        said = self.seen.get_by_text(re.compile("^user"))
        before = said.count()
        self.message.fill(message)
        self.message.press("Enter")
        expect(said).to_have_count(before + 1, timeout=PATIENCE * 1000)
