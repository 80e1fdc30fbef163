"""A hub on loopback that speaks what huggingface_hub asks, and can fail as real ones do."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

_LARGE = 4096  # from this size on a file is kept as LFS does it, and known by its SHA-256


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Hub:
    """Repositories: name -> revision -> file -> content. The last revision put is ``main``.

    ``gated``: repositories whose files need ``token``. ``break_at``: file name -> at which bytes
    of the file the connection breaks, one for each time it is asked for. ``hold_at``: file name ->
    after how many bytes of the file nothing more comes, though the connection stays. ``lies``: file
    name -> what is sent instead of its content. ``page``: what is sent whatever is asked for.
    """

    token: str = "hf_right"
    gated: set[str] = field(default_factory=set)
    break_at: dict[str, list[int]] = field(default_factory=dict)
    hold_at: dict[str, int] = field(default_factory=dict)
    held: threading.Event = field(default_factory=threading.Event)  # someone waits there
    lies: dict[str, bytes] = field(default_factory=dict)
    listing_has_sizes: bool = True
    page: bytes = b""
    asked: list[Asked] = field(default_factory=list)
    _repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    _main: dict[str, str] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def put(self, repository: str, files: Mapping[str, bytes]) -> str:
        """Commit ``files`` to the repository's main branch; the commit's hash."""
        before = self._repositories.setdefault(repository, {})
        content = dict(before.get(self._main.get(repository, ""), {})) | dict(files)
        text = repr([(name, sha256(data)) for name, data in sorted(content.items())])
        commit = hashlib.sha1(f"{len(before)}{text}".encode()).hexdigest()
        before[commit] = content
        self._main[repository] = commit
        return commit

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def hold(self) -> None:
        """Keep whoever fetches waiting."""
        self.held.set()
        self._over.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def ranges(self, file: str) -> list[str]:
        """The Range of each GET of a file's content, "" for those without."""
        return [
            a.headers.get("Range", "")
            for a in self.asked
            if a.method == "GET" and a.path.endswith(file) and "/resolve/" in a.path
        ]

    def commit(self, repository: str, revision: str) -> str | None:
        known = self._repositories.get(repository, {})
        if revision == "main":
            return self._main.get(repository)
        return next((c for c in known if c == revision), None)

    def files(self, repository: str, commit: str) -> dict[str, bytes]:
        return self._repositories[repository][commit]

    def knows(self, repository: str) -> bool:
        return repository in self._repositories


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server_hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.server_hub
        path = unquote(urlsplit(self.path).path)
        hub.asked.append(Asked(self.command, path, dict(self.headers)))
        parts = path.strip("/").split("/")
        if hub.page:
            self._send(200, hub.page, {"Content-Type": "text/html"})
            return
        if parts[:2] == ["api", "models"]:
            repository = "/".join(parts[2:4])
            self._describe(repository, "/".join(parts[5:]) or "main")
        elif parts[2:3] == ["resolve"]:
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._refuse(404, "EntryNotFound")

    def _describe(self, repository: str, revision: str) -> None:
        hub = self.server_hub
        if not hub.knows(repository):
            return self._refuse(401 if not self._token() else 404, "RepoNotFound")
        commit = hub.commit(repository, revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound")
        siblings = []
        for name, data in hub.files(repository, commit).items():
            entry: dict[str, Any] = {"rfilename": name}
            if hub.listing_has_sizes:
                entry |= {"size": len(data), "blobId": git_sha1(data)}
                if len(data) >= _LARGE:
                    entry["lfs"] = {"size": len(data), "sha256": sha256(data), "pointerSize": 134}
            siblings.append(entry)
        body = {"id": repository, "sha": commit, "siblings": siblings, "tags": [], "downloads": 0}
        body |= {"likes": 0, "private": False, "cardData": {"license": "gemma"}}
        return self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repository: str, revision: str, file: str) -> None:
        hub = self.server_hub
        commit = hub.commit(repository, revision) if hub.knows(repository) else None
        if commit is None:
            return self._refuse(404, "RevisionNotFound")
        if repository in hub.gated and self._token() != hub.token:
            return self._refuse(401 if not self._token() else 403, "GatedRepo")
        data = hub.files(repository, commit).get(file)
        if data is None:
            return self._refuse(404, "EntryNotFound")
        etag = sha256(data) if len(data) >= _LARGE else git_sha1(data)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        headers |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{etag}"'}
        data = hub.lies.get(file, data)
        start, status = 0, 200
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            start, status = int(wanted[6:].split("-")[0]), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        breaks = hub.break_at.get(file)
        end = breaks.pop(0) if breaks and self.command == "GET" else None
        sent = None if end is None else end - start
        hold = hub.hold_at.get(file) if self.command == "GET" else None
        if hold is None or hold <= start:
            return self._send(status, data[start:], headers, sent)
        return self._send(status, data[start:], headers, hold - start, then=hub.hold)

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str],
        sent: int | None = None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) if sent is None else max(0, sent)])
        then()
        if sent is not None:  # as when a cable is pulled
            self.close_connection = True
