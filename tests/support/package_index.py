"""A stand-in for a package index: wheels in a folder or behind an address, and a catalog with a model in them."""

import base64
import hashlib
import os
import random
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import small_catalog
from headatlas import locations


def payload(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress."""
    return b"GGUF" + random.Random(seed).randbytes(size - 4)


def write_wheel(folder: Path, name: str, files: Mapping[str, bytes], version: str = "1.0.0") -> Path:
    """A wheel of pure Python, as pip takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    under = name.replace("-", "_")
    info = f"{under}-{version}.dist-info"
    whole = dict(files) | {
        f"{under}/__init__.py": b"raise SystemExit('imported')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        f"Requires-Dist: no-such-package-anywhere\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in whole.items())
    path = folder / f"{under}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in whole.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@dataclass
class Shelf:
    """A catalog with one model in packages, and the wheels of these packages.

    Attributes:
        catalog, wheels: folders.
        id: of the model.
        whole: content of the joined file.
    """

    catalog: Path
    wheels: Path
    id: str
    whole: bytes
    entry: dict[str, Any] = field(default_factory=dict)

    def change(self, **changes: Any) -> None:
        """Change what the catalog says of the packages."""
        self.entry["packages"] |= changes
        small_catalog.put(self.catalog, f"models/{self.id}.yaml", **self.entry)


def write(place: Path, parts: Sequence[bytes], id: str = "tiny-packaged", accept: bool = False) -> Shelf:
    """A catalog and a folder of wheels below `place`, with one wheel for each part."""
    catalog, wheels = small_catalog.write(place / "catalog"), place / "wheels"
    listed = []
    for number, part in enumerate(parts, 1):
        name = f"{id}-part{number}"
        path = f"{name.replace('-', '_')}/data/Tiny.Q4_1.gguf.part{number}"
        made = write_wheel(wheels, name, {path: part})
        listed.append(
            {
                "name": name,
                "version": "1.0.0",
                "size": made.stat().st_size,
                "files": [{"path": path, "size": len(part)}],
            }
        )
    whole = b"".join(parts)
    shelf = Shelf(catalog, wheels, id, whole)
    shelf.entry = {
        "id": id,
        "name": "Tiny",
        "access": "gated" if accept else "open",
        "architecture": "decoder",
        "licence": "Tiny Terms",
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "d_head": 8,
        "packages": {},
    }
    shelf.change(
        wheels=listed,
        file="Tiny.Q4_1.gguf",
        sha256=hashlib.sha256(whole).hexdigest(),
        quantisation="Q4_1",
        folder_size=2 * len(whole),
        terms="https://example.org/terms",
        must_accept=accept,
    )
    return shelf


def isolate(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """pip has no settings and asks once, and the cache is a test's own."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("HEADATLAS_CACHE", str(cache))


def offered(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """headatlas knows the catalog of a shelf and no other, and pip the wheels of it and no others."""
    monkeypatch.setattr(locations, "catalog", lambda: shelf.catalog)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf.wheels))
    return shelf


@dataclass
class Index:
    """An index behind an address.

    Attributes:
        address: for PIP_INDEX_URL.
        given: names of the wheels that were asked for, in order.
        slow: names of wheels that never come to their end.
    """

    address: str
    given: list[str] = field(default_factory=list)
    slow: set[str] = field(default_factory=set)


@contextmanager
def serving(wheels: Path) -> Iterator[Index]:
    """Serve a folder of wheels as an index on this machine."""
    index = Index("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, body: bytes, kind: str = "text/html", status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            words = self.path.strip("/").split("/")
            if words[0] == "simple":
                start = words[-1].replace("-", "_") + "-"
                links = [f'<a href="/files/{each.name}">{each.name}</a>' for each in wheels.glob(f"{start}*.whl")]
                self._answer("".join(links).encode(), status=200 if links else 404)
                return
            name = words[-1]
            index.given.append(name)
            body = (wheels / name).read_bytes()
            if name not in index.slow:
                self._answer(body, "application/zip")
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            while name in index.slow:
                time.sleep(0.05)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.address = f"http://127.0.0.1:{server.server_port}/simple"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield index
    finally:
        index.slow.clear()
        server.shutdown()
        server.server_close()
