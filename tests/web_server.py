"""A local web server, for tests of downloads."""

import hashlib
import http.server
import threading


class WebServer:
    """A web server that serves bytes by path.

    Attributes:
        files: Path, with its ``/``, -> content.
        lengths: Path -> a wrong ``Content-Length``.
        requests: The requested paths.
        url: The URL of the server, without a path.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lengths: dict[str, int] = {}
        self.requests: list[str] = []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802 - the library's name
                web.requests.append(self.path)
                content = web.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                length = web.lengths.get(self.path, len(content))
                self.send_header('Content-Length', str(length))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f'http://127.0.0.1:{self._server.server_port}'

    def add(self, path: str, content: bytes) -> str:
        """Serve content under a path; return its URL."""
        self.files[path] = content
        return self.url + path

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def sha256(content: bytes) -> str:
    """Return the SHA-256 in hex digits."""
    return hashlib.sha256(content).hexdigest()
