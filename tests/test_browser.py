"""The notebooks and the explorer in a real browser: JupyterLab, Notebook 7 and Voilà in Chromium.

Needs Chromium (`apt-get install chromium`, or CHROMIUM with its path). Screenshots stay in the
folder that SCREENSHOTS names, if it does; explorer.png among them is README's.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import jupytext
import pytest

from nbcore.config import PRESETS
from nbcore.runs import notebooks
from nbcore.runs.records import Run

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; apt-get install chromium"),
]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    # nothing may be fetched: a page that asks another host must work without the answer
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
RUN_ALL = """async () => {
  const app = window.jupyterapp, panel = app.shell.currentWidget;
  const session = panel.context.sessionContext;
  await panel.context.ready; await session.ready;
  for (let i = 0; i < 300 && session.session?.kernel?.status !== 'idle'; i++)
    await new Promise(done => setTimeout(done, 100));
  await app.commands.execute('notebook:run-all-cells');
  return Array.from(panel.content.model.cells)
    .flatMap(cell => cell.type === 'code' ? cell.outputs.toJSON() : [])
    .filter(output => output.output_type === 'error')
    .map(output => output.ename + ': ' + output.evalue);
}"""

SHUT_DOWN = """async () => {
  await window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.shutdown();
}"""

# Saved first: of what is not, JupyterLab asks whether to save it, and waits.
CLOSE = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel?.context.save();
  panel?.close();
}"""

RUNS_STAY = """from pathlib import Path
from nbcore.runs import records
records.OUTPUTS = Path({!r})
"""


def served(arguments, folder, home, address):
    """Start a server and wait until it answers."""
    env = {
        **os.environ,
        **{f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")},
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    news = home / "settings" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True, exist_ok=True)
    quiet = {"checkForUpdates": False, "fetchNews": "false"}
    (news / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    startup = home / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "outputs.py").write_text(RUNS_STAY.format(str(home / "outputs")))
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    for _ in range(3000):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(address, timeout=2):
                return server
        except OSError:
            time.sleep(0.1)
    stop(server)
    raise RuntimeError("no server: " + (home / "server.log").read_text()[-2000:])


def stop(server):
    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def new_page(browser):
    """A page that notes what breaks in it."""
    context = browser.new_context(viewport={"width": 1500, "height": 1300})
    page = context.new_page()
    page.broken = []
    page.on("pageerror", lambda error: page.broken.append(str(error)))
    yield page
    context.close()


@contextmanager
def looked_at(page, name):
    """After a test: a screenshot if one is wanted, the kernel ended, and nothing broken."""
    yield page
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png")
    page.evaluate(SHUT_DOWN)
    broken, page.broken = page.broken, []
    assert broken == []


@pytest.fixture
def page(browser, request):
    with new_page(browser) as page, looked_at(page, request.node.name):
        yield page


@pytest.fixture(scope="module")
def desk(browser, lab):
    """One JupyterLab for all notebooks, which takes seconds to load."""
    with new_page(browser) as page:
        enter(page, lab)
        yield page


@pytest.fixture
def on_the_desk(desk, request):
    with looked_at(desk, request.node.name):
        yield desk
    desk.evaluate(CLOSE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The notebooks, .py and .ipynb apart so that neither is paired, small, and with a run."""
    folder = tmp_path_factory.mktemp("project")
    run = Run.create("simulated", root=folder)
    smoke = [str(PRESETS / "smoke.toml"), notebooks.SMOKE_OVERRIDES["20_simulate"]]
    notebooks.execute("20_simulate", run, *smoke, progress=False)
    for name in notebooks.names():
        preset = notebooks.SMOKE_PRESETS.get(name, "smoke")
        overrides = notebooks.SMOKE_OVERRIDES.get(name, [])
        for ending in ("py", "ipynb"):
            (folder / ending).mkdir(exist_ok=True)
            book = jupytext.read(notebooks.NOTEBOOKS / f"{name}.{ending}")
            book.metadata.pop("jupytext", None)
            (cell,) = (c for c in book.cells if "parameters" in c.metadata.get("tags", []))
            small = {"preset": preset, "overrides": overrides}
            if notebooks.reads_a_run(name):
                small = {"run_dir": str(run.path)}
            for key, value in small.items():
                cell.source = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value!r}", cell.source)
            fmt = "py:percent" if ending == "py" else "ipynb"
            jupytext.write(book, folder / ending / f"{name}.{ending}", fmt=fmt)
    return folder


def jupyter(application, name, folder, home):
    """A Jupyter application on loopback, and how its pages are addressed."""
    port, token = free_port(), "of-this-test"
    address = f"http://127.0.0.1:{port}"
    server = served(
        [
            *("jupyter", application, "--no-browser", "--allow-root", "--ip=127.0.0.1"),
            *(f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"),
            *(f"--ServerApp.root_dir={folder}", f"--{name}.expose_app_in_browser=True"),
        ],
        folder,
        home,
        f"{address}/api?token={token}",
    )
    return server, lambda path: f"{address}/{path}?token={token}"


@pytest.fixture(scope="module")
def lab(folder, tmp_path_factory):
    server, page_at = jupyter("lab", "LabApp", folder, tmp_path_factory.mktemp("jupyter"))
    yield page_at
    stop(server)


def enter(page, lab):
    """Load JupyterLab, with nothing open."""
    page.goto(lab("lab") + "&reset")
    page.wait_for_function(
        "() => window.jupyterapp?.commands.hasCommand('docmanager:open')", timeout=300_000
    )
    # not awaited: the promise has no holder in the page and may be collected
    page.evaluate("() => { window.jupyterapp.restored.then(() => { window.isRestored = true }) }")
    page.wait_for_function("() => window.isRestored", timeout=300_000)


def show(page, path):
    """Open a notebook as JupyterLab does on a double click."""
    how = "{path}" if path.endswith(".ipynb") else "{path, factory: 'Jupytext Notebook'}"
    open_it = f"window.jupyterapp.commands.execute('docmanager:open', {how})"
    page.evaluate(f"path => {{ {open_it}; }}", path)  # which would return the widget
    page.wait_for_function(
        "path => window.jupyterapp.shell.currentWidget?.context?.path === path", arg=path
    )
    page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell", timeout=300_000)


def opened(page, lab, path):
    """Open a notebook in a JupyterLab of its own, run it, and return its errors."""
    enter(page, lab)
    show(page, path)
    return page.evaluate(RUN_ALL)


def control(page, name, kind="input"):
    return page.locator(f'.jupyter-widgets:has(> label:text-is("{name}")) {kind}').first


def picture(page, number=0):
    return page.locator("canvas.nb-orbits").nth(number).evaluate("canvas => canvas.toDataURL()")


def until_it_differs(page, before):
    for _ in range(3000):
        if (now := picture(page)) != before:
            return now
        page.wait_for_timeout(100)
    raise AssertionError("the picture stays as it is")


def write_notebook(path, text):
    notebook = jupytext.reads(text, fmt="py:percent")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    jupytext.write(notebook, path)


def take_a_picture_for_the_readme(page):
    page.locator(".nb-steps").check()
    for control_of, value in ((".nb-scrub", 0.45), (".nb-trail", 0.28)):
        page.locator(control_of).evaluate(
            "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')) }", value
        )
    if folder := os.environ.get("SCREENSHOTS"):
        widget = page.locator(".widget-hbox:has(.nb-view)").first
        widget.screenshot(path=f"{folder}/explorer.png")


def use_the_explorer(page):
    """Move every kind of control, and watch the picture answer."""
    from playwright.sync_api import expect

    view = page.locator(".nb-view")
    expect(view).to_be_visible(timeout=300_000)
    view.scroll_into_view_if_needed()
    expect(page.locator(".nb-view figcaption")).to_have_count(2)
    costs = page.locator(".nb-view figcaption").all_inner_texts()
    assert costs[0] != costs[1]
    assert all("force evaluations" in cost for cost in costs)

    take_a_picture_for_the_readme(page)
    before = picture(page)
    system = control(page, "system")
    system.fill("kepler")
    system.press("Tab")
    before = until_it_differs(page, before)
    slider = control(page, "eccentricity", ".noUi-handle")
    slider.focus()
    for _ in range(5):
        slider.press("PageUp")
    before = until_it_differs(page, before)

    page.locator(".nb-play").click()
    before = until_it_differs(page, before)
    page.locator(".nb-play").click()

    control(page, "inclination", ".noUi-handle").press("End")
    message = page.locator(".nb-message")
    expect(message).to_contain_text("set dimensions=3", timeout=300_000)
    control(page, "dimensions", "select").select_option("3")
    expect(message).to_have_count(0, timeout=300_000)  # the engine is compiled
    page.wait_for_timeout(300)
    before = picture(page)
    box = page.locator("canvas.nb-orbits").first.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 140, steps=4)
    page.mouse.up()
    before = until_it_differs(page, before)
    page.locator(".nb-frame").select_option(label="body 0")
    until_it_differs(page, before)

    with page.expect_download() as caught:
        page.locator(".nb-svg").click()
    drawing = ElementTree.parse(caught.value.path()).getroot()
    kinds = {child.tag.rpartition("}")[2] for child in drawing}
    assert {"polyline", "circle", "text"} <= kinds
    with page.expect_download() as caught:
        page.locator(".nb-png").click()
    assert Path(caught.value.path()).read_bytes().startswith(b"\x89PNG")


def test_the_explorer_answers_in_jupyterlab(page, lab):
    assert opened(page, lab, "ipynb/60_orbit_explorer.ipynb") == []
    use_the_explorer(page)


@pytest.mark.parametrize(
    ("ending", "name"),
    [*(("py", name) for name in notebooks.names()), ("ipynb", "00_quickstart")],
)
def test_every_notebook_opens_and_runs_in_jupyterlab(on_the_desk, ending, name):
    show(on_the_desk, f"{ending}/{name}.{ending}")
    assert on_the_desk.evaluate(RUN_ALL) == []


@pytest.fixture
def notebook_7(folder, tmp_path):
    server, page_at = jupyter("notebook", "JupyterNotebookApp", folder, tmp_path)
    yield page_at
    stop(server)


# The server comes first: the page, which ends its kernel there, is closed before it.
def test_the_explorer_answers_in_notebook_7(notebook_7, page):
    page.goto(notebook_7("notebooks/ipynb/60_orbit_explorer.ipynb"))
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.context")
    assert page.evaluate(RUN_ALL) == []
    use_the_explorer(page)
    # Notebook's own, of a setting that its plugins look for in vain
    page.broken[:] = [message for message in page.broken if "'schema'" not in message]


@pytest.mark.parametrize("n_bodies", [10, 100])
def test_many_bodies_are_animated(page, lab, folder, n_bodies):
    """Prints the frames a second (pytest -s); how many is not asserted."""
    text = MANY.replace("N_BODIES", str(n_bodies))
    write_notebook(folder / f"many_{n_bodies}.ipynb", text)
    assert opened(page, lab, f"many_{n_bodies}.ipynb") == []
    view = page.locator(".nb-view")
    view.wait_for(timeout=300_000)
    page.locator(".nb-play").click()
    page.wait_for_timeout(1000)
    before = int(view.get_attribute("data-drawn"))
    page.wait_for_timeout(3000)
    frames = int(view.get_attribute("data-drawn")) - before
    print(f"{n_bodies} bodies: {frames / 3:.0f} frames/s")
    assert frames > 0


@pytest.fixture
def voila(folder, tmp_path):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    server = served(
        [
            *("voila", "--no-browser", "--Voila.ip=127.0.0.1", f"--port={port}"),
            *("--token=of-this-test", "ipynb/60_orbit_explorer.ipynb"),
        ],
        folder,
        tmp_path,
        f"{address}/voila/static/voila.js",
    )
    yield f"{address}/?token=of-this-test"
    stop(server)


def test_the_explorer_is_served_by_voila(voila, page):
    page.goto(voila)
    use_the_explorer(page)


LONG_TRAINING = """# %%
import nbcore as nb
config = nb.load_config("smoke", {"train.epochs": 100_000, "train.progress": False})
# %%
with nb.watch_training() as watch:
    result = nb.train(config, watch=watch)
# %%
print("epochs made:", len(result.history))
"""


MANY = """# %%
import nbcore as nb
from nbcore.views import orbit_view
orbit_view.FRAMES = 5000
state = nb.scenarios.make("plummer", n_bodies=N_BODIES, seed=1, softening=0.05)
run = nb.simulate(state, 20.0, nb.FixedStep(0.004), integrator="leapfrog").system(0)
view = orbit_view.OrbitView()
view.show([run])
view
"""


def test_the_button_ends_a_training_while_its_cell_runs(page, lab, folder):
    from playwright.sync_api import expect

    write_notebook(folder / "long_training.ipynb", LONG_TRAINING)
    enter(page, lab)
    show(page, "long_training.ipynb")
    page.evaluate(f"() => {{ window.running = ({RUN_ALL})(); }}")  # held, or it may be collected
    pictures = page.locator(".jp-OutputArea img")
    picture = pictures.last  # while one is renewed, the one before may still be there
    expect(picture).to_be_visible(timeout=300_000)
    before = picture.get_attribute("src")
    for _ in range(200):
        if picture.get_attribute("src") != before:
            break
        page.wait_for_timeout(100)
    assert picture.get_attribute("src") != before
    page.get_by_role("button", name="stop training").click()
    expect(page.get_by_text("stopped by hand after").last).to_be_visible(timeout=300_000)
    expect(page.locator(".jp-RenderedText", has_text="epochs made:")).to_be_visible(timeout=300_000)
    expect(pictures).to_have_count(1)
