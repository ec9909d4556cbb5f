"""The page of `make app` when many come: who finds no place gets a sentence; nobody sees the server or runs code."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import urlsplit

import pytest
from pages import ROOT, serving
from tornado.httpclient import HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.websocket import websocket_connect

pytestmark = pytest.mark.slow
SERVER = re.compile(rf"Traceback|site-packages|\.py\b|{re.escape(str(ROOT))}|{re.escape(str(Path.home()))}")
FULL = "All places are taken. Please reload this page in a minute or two."


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page with places for two, which are free again after ten seconds."""
    short = "--MappingKernelManager.cull_interval=1", "--Places.places=2", "--Places.gone=10"
    with serving("app", *short, folder=tmp_path_factory.mktemp("app")) as address:
        yield address


def visit(*addresses: str) -> list[HTTPResponse]:
    """The answers to visitors who come ten a second."""

    async def come(number: int, address: str) -> HTTPResponse:
        await asyncio.sleep(number / 10)
        return await client.fetch(address, raise_error=False, request_timeout=300, follow_redirects=False)

    async def all_come() -> list[HTTPResponse]:
        return await asyncio.gather(*(come(number, address) for number, address in enumerate(addresses)))

    client = SimpleAsyncHTTPClient(max_clients=len(addresses), force_instance=True)
    return asyncio.run(all_come())


def first_place(page: str) -> HTTPResponse:
    """The answer to a visitor who comes again and again until there is a place."""
    start = monotonic()
    while (answer := visit(page)[0]).code == 503 and monotonic() < start + 300:
        sleep(1)
    assert answer.code == 200
    return answer


def kernel_of(answer: HTTPResponse) -> str:
    """The name of the kernel that a page was given."""
    found = re.search(r'"kernelId": *"([-\w]+)"', answer.body.decode())
    assert found
    return found[1]


def test_a_kernel_that_has_waited_for_a_visitor_waits_for_the_browser_too(page: str) -> None:
    first_place(page)
    sleep(25)  # the next kernel gets ready, and then waits for longer than a visitor may be away
    kernel = kernel_of(first_place(page))
    sleep(4)  # idle kernels are looked for each second
    assert visit(f"{page}api/kernels/{kernel}")[0].code == 200


def test_who_finds_no_place_is_told_so_and_finds_one_later(page: str) -> None:
    first_place(page)
    answers = visit(*[page] * 12)
    full = [answer for answer in answers if answer.code != 200]
    assert len(full) >= 10
    assert {answer.code for answer in full} == {503}
    assert all(FULL in answer.body.decode() for answer in full)
    first_place(page)
    first_place(page)


@pytest.mark.parametrize(
    "path",
    [
        "voila/files/poem.ipynb",
        "voila/files/voila.py",
        "voila/files/..%2fREADME.md",
        "voila/templates/lab",
        "voila/templates/lab/static/..%2f..%2f..%2fconf.json",
        "voila/static/..%2fapp.py",
        "api/kernels/aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa",
        "api/contents",
        "terminals/1",
        "?template=/etc",
        "no/such/page",
    ],
)
def test_no_page_shows_anything_of_the_server(page: str, path: str) -> None:
    (answer,) = visit(page + path)
    assert not SERVER.search((answer.body or b"").decode())
    assert answer.code >= 300 or path.startswith("?")


def test_nothing_that_a_visitor_sends_is_run(page: str, tmp_path: Path) -> None:
    answer = first_place(page)
    assert not SERVER.search(answer.body.decode())
    header = {"msg_id": "1", "username": "", "session": "1", "version": "5.3"}
    code = {"code": f"open({str(tmp_path / 'run')!r}, 'w')", "silent": False}
    parts = {"parent_header": {}, "metadata": {}, "buffers": [], "channel": "shell"}
    messages = [
        {"header": header | {"msg_type": "execute_request"}, "content": code} | parts,
        {"header": header | {"msg_type": "kernel_info_request", "msg_id": "2"}, "content": {}} | parts,
    ]

    async def send() -> None:
        socket = await websocket_connect(f"ws://{urlsplit(page).netloc}/api/kernels/{kernel_of(answer)}/channels")
        for message in messages:
            await socket.write_message(json.dumps(message))
        while json.loads(await socket.read_message() or "{}").get("msg_type") != "kernel_info_reply":
            pass
        socket.close()

    asyncio.run(asyncio.wait_for(send(), 300))
    assert not (tmp_path / "run").exists()
