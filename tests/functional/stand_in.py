"""Something at the admin address that says whatever a test wants: the page as it is built, and documents of the test's own."""
import http.server
import json
import re
import threading
import urllib.parse

from ground import BUILD


class StandIn:
    """answers maps a path to (status, document), or to a function of the request's query that gives one; requests has what came."""

    def __init__(self, test, answers):
        self.answers, self.requests = dict(answers), []
        source = (BUILD / "src/control/page_bytes.c").read_text()
        policy = "".join(re.findall(r'"([^"]*)"', source[source.index("page_policy[]"):source.index("page_etag[]")]))
        page = (BUILD / "src/control/page.html").read_bytes()
        stand_in = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                stand_in.requests.append(self.path)
                if url.path == "/":
                    return self.answer(200, page, "text/html; charset=utf-8", policy)
                answer = stand_in.answers.get(url.path, (404, {"error": f"there is no {url.path} here"}))
                status, document = answer(urllib.parse.parse_qs(url.query)) if callable(answer) else answer
                self.answer(status, json.dumps(document).encode(), "application/json")

            def answer(self, status, body, kind, policy=None):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if policy:
                    self.send_header("Content-Security-Policy", policy)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()
        test.addCleanup(self.close)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
