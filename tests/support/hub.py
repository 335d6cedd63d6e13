"""A stand-in for the model hub: one repository, served from a folder on this machine."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(folder: Path, name: str, cut: int = 0) -> Iterator[str]:
    """Serve `folder` as the repository `name`; yields the address. `cut` bytes are missing at the end of weights."""
    files = sorted(path.name for path in folder.iterdir() if path.is_file())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            short = body[:-cut] if cut and len(body) > 10_000 else body
            if self.command != "HEAD":
                self.wfile.write(short)
            if len(short) < len(body):
                self.close_connection = True

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = urlparse(self.path).path
            if path.startswith(f"/api/models/{name}"):
                listing = {"id": name, "modelId": name, "sha": COMMIT, "private": False, "gated": False}
                if "/tree/" in path:
                    tree = [
                        {"type": "file", "path": file, "size": (folder / file).stat().st_size, "oid": "0" * 40}
                        for file in files
                    ]
                    return self._answer(json.dumps(tree).encode(), Content_Type="application/json")
                listing["siblings"] = [{"rfilename": file} for file in files]
                return self._answer(json.dumps(listing).encode(), Content_Type="application/json")
            file = path.rsplit("/", 1)[-1]
            if path.startswith(f"/{name}/resolve/") and file in files:
                return self._answer((folder / file).read_bytes(), ETag=f'"{file}"', X_Repo_Commit=COMMIT)
            self._answer(b"{}", 404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
