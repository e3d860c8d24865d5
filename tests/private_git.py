"""A private Git server: git's own http-backend behind a password."""

import base64
import os
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOGIN = "me:hunter2"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
        if self.headers["Authorization"] != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        said = {
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers["Content-Type"] or "",
            "HTTP_CONTENT_ENCODING": self.headers["Content-Encoding"] or "",
            "HTTP_GIT_PROTOCOL": self.headers["Git-Protocol"] or "",
        }
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        answer = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, env=os.environ | said,
            check=True,
        ).stdout  # fmt: skip
        head, _, content = answer.partition(b"\r\n\r\n")
        self.send_response(200)
        for line in head.decode().splitlines():
            self.send_header(*line.split(": ", 1))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - the name that http.server calls

    def log_message(self, *arguments):
        pass


@contextmanager
def private_git(folder):
    """Serve the repositories in a folder; gives the URL without the login."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.folder = folder
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
