"""Drives a headless Chromium over the DevTools protocol, on two pipes: no port is opened and no package needed."""
import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

SCREENSHOTS = pathlib.Path(os.environ.get("OCTAVO_WORK", tempfile.gettempdir())) / "screenshots"


def find_chromium():
    for name in (os.environ.get("OCTAVO_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        path = name and shutil.which(name)
        if path:
            return path
    return None


class DevToolsError(Exception):
    pass


class Browser:
    def __init__(self, path):
        self.profile = tempfile.mkdtemp(prefix="octavo-chromium-")
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        flags = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self.profile}", "--disable-gpu", "--no-first-run",
                 "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
                 "--hide-scrollbars", "--force-color-profile=srgb", "--window-size=1280,900"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # root has none
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        self.process = subprocess.Popen(
            ["bash", "-c", 'exec "$@" 3<&"$IN" 4>&"$OUT"', "chromium", path, *flags, "about:blank"],
            env=dict(os.environ, IN=str(to_read), OUT=str(from_write)), pass_fds=(to_read, from_write),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(from_write)
        self.out, self.input = to_write, from_read
        self.buffer, self.ids, self.events = b"", 0, []

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.out)
        os.close(self.input)
        shutil.rmtree(self.profile, ignore_errors=True)

    def read(self, deadline):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.input], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("Chromium does not answer")
            data = os.read(self.input, 1 << 20)
            if not data:
                raise DevToolsError("Chromium is gone")
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, timeout=60, **parameters):
        self.ids += 1
        message = {"id": self.ids, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data):]
        deadline = time.monotonic() + timeout
        while True:
            answer = self.read(deadline)
            if answer.get("id") == self.ids:
                if "error" in answer:
                    raise DevToolsError(f"{method}: {answer['error']}")
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def open(self, url, width=1280, height=900, dark=False, touch=False, media=""):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        page.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        page.set_media(media, dark)
        page.go(url)
        return page


class Page:
    def __init__(self, browser, session, target):
        self.browser, self.session, self.target = browser, session, target

    def call(self, method, **parameters):
        return self.browser.call(method, session=self.session, **parameters)

    def set_media(self, media, dark):
        self.call("Emulation.setEmulatedMedia", media=media,
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def go(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, expression):
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in answer:
            raise DevToolsError(answer["exceptionDetails"].get("exception", {}).get("description", str(answer)))
        return answer["result"].get("value")

    def wait(self, condition, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            if self.run(condition):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"never true: {condition}; errors: {self.errors()}")
            time.sleep(0.05)

    def errors(self):
        """What went wrong on the page's console."""
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(parameters["exceptionDetails"].get("exception", {}).get("description", str(parameters)))
            if event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                found.append(str(parameters["args"]))
            if event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(parameters["entry"]["text"])
        return found

    def requests(self):
        """Addresses that the page asked for, without those that stand in it."""
        return [event["params"]["request"]["url"] for event in self.browser.events
                if event.get("sessionId") == self.session and event["method"] == "Network.requestWillBeSent"
                and not event["params"]["request"]["url"].startswith(("data:", "blob:"))]

    def box(self, selector):
        """Left, top, width and height of the first element, scrolled into view."""
        return self.run(f"""(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});
            const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; }})()""")

    def mouse(self, kind, x, y, button="none", buttons=0):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons,
                  clickCount=1 if kind != "mouseMoved" else 0)

    def hover(self, selector):
        left, top, width, height = self.box(selector)
        self.mouse("mouseMoved", left + width / 2, top + height / 2)

    def click(self, selector):
        left, top, width, height = self.box(selector)
        self.click_at(left + width / 2, top + height / 2)

    def click_at(self, x, y):
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, "left", 1)
        self.mouse("mouseReleased", x, y, "left")

    def drag(self, start, end, steps=6):
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start, "left", 1)
        for i in range(1, steps + 1):
            self.mouse("mouseMoved", *(a + (b - a) * i / steps for a, b in zip(start, end)), "left", 1)
        self.mouse("mouseReleased", *end, "left")

    def tap(self, selector):
        left, top, width, height = self.box(selector)
        point = [{"x": left + width / 2, "y": top + height / 2}]
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=point)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def key(self, key, code=0):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, name, whole=True):
        """Kept as the test's output."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path = SCREENSHOTS / f"{name}.png"
        path.write_bytes(base64.b64decode(data))
        return path

    def pdf(self, name):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.pdf"
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))
        return path

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)


class BrowserTest(unittest.TestCase):
    """One browser for all tests of a class."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = Browser(CHROMIUM)
        cls.addClassCleanup(cls.browser.close)
        try:
            cls.browser.call("Browser.getVersion")
        except (OSError, TimeoutError, DevToolsError) as error:
            raise unittest.SkipTest(f"{CHROMIUM} does not start here: {error}") from error

    def open(self, url, **options):
        page = self.browser.open(url, **options)
        self.addCleanup(page.close)
        return page


CHROMIUM = find_chromium()


def main():
    if CHROMIUM is None:
        print("SKIP: no Chromium (scripts/install_deps.sh --tests installs it; OCTAVO_CHROMIUM names another)")
        sys.exit(77)
    unittest.main()
