"""Pages in chromium, from a folder on this machine's own address."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, which ends in '/'."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextmanager
def tab_on(browser: Any, address: str, **settings: Any) -> Iterator[Any]:
    """A tab that refuses requests to other places; at its end, nothing may have gone wrong in it."""
    context = browser.new_context(**settings)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address.rstrip("/"))
    tab, troubles = context.new_page(), []
    tab.on("request", lambda each: troubles.append(each.url) if not each.url.startswith((address, "data:")) else None)
    tab.on("console", lambda each: troubles.append(each.text) if each.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("dialog", lambda dialog: (troubles.append("a dialog"), dialog.dismiss()))
    yield tab
    assert troubles == []
    context.close()
