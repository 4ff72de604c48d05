#!/usr/bin/env python3
"""Takes pictures of a report in headless Chromium and checks how it behaves.

    vxf report EXPERIMENT --format html --output page.html
    tools/pages/look.py page.html shots

Writes a picture at each width, light and dark, a PDF as printed and its first pages as pictures, and fails
if the page logs an error, is wider than its window, or asks for anything beside itself. Needs Debian's
`chromium` and, for pictures of the print, `poppler-utils`.
"""

import functools
import http.server
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading

WIDTHS = [360, 768, 1440]
# Chromium's window is never narrower than this, so narrow pages are shown in a frame.
NARROWEST = 500


def chromium(*arguments, timeout=120):
    """Runs Chromium with a profile of its own and returns what it wrote."""
    program = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    if program is None:
        sys.exit("there is no chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   "--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}",
                   "--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    return done.stdout, done.stderr


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a directory and remembers every request."""

    asked = []

    def do_GET(self):
        Server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


FRAME = """<!doctype html><html style="color-scheme:{scheme}"><body style="margin:0">
<iframe id="page" src="page.html" style="border:0;width:{width}px;height:{height}px;color-scheme:{scheme}"></iframe>
<script>
const frame = document.getElementById("page");
frame.onload = () => {{
  const inner = frame.contentDocument.documentElement;
  document.title = JSON.stringify({{height: inner.scrollHeight, width: inner.scrollWidth}});
}};
</script></body></html>"""


def main():
    page, shots = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    shots.mkdir(parents=True, exist_ok=True)
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        shutil.copy(page, folder / "page.html")
        handler = functools.partial(Server, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        for width in WIDTHS:
            for scheme in ["light", "dark"]:
                dark = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
                frame = folder / f"frame-{width}-{scheme}.html"
                frame.write_text(FRAME.format(width=width, height=900, scheme=scheme))
                out, _ = chromium(*dark, "--dump-dom", f"--window-size={max(width, NARROWEST)},900",
                                  f"{root}/{frame.name}")
                size = json.loads(re.search(r"<title>(\{.*?\})</title>", out)[1])
                if size["width"] > width:
                    problems.append(f"at {width} px the page is {size['width']} px wide")
                frame.write_text(FRAME.format(width=width, height=size["height"], scheme=scheme))
                shot = shots / f"{width}-{scheme}.png"
                _, log = chromium(*dark, f"--screenshot={shot}",
                                  f"--window-size={max(width, NARROWEST)},{size['height']}",
                                  f"{root}/{frame.name}")
                problems += [line for line in log.splitlines() if "CONSOLE" in line]
                print(f"{shot}: {width} by {size['height']}")
        others = {path for path in Server.asked if not re.match(r"/(page|frame-.*)\.html$", path)}
        problems += [f"the page asked for {path}" for path in sorted(others) if path != "/favicon.ico"]
        pdf = shots / "print.pdf"
        chromium(f"--print-to-pdf={pdf}", "--no-pdf-header-footer", f"{root}/page.html")
        if shutil.which("pdftoppm"):
            subprocess.run(["pdftoppm", "-r", "70", "-png", pdf, shots / "print"], check=True)
    for problem in problems:
        print("problem:", problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
