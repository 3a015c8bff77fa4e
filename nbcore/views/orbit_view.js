// Orbits in the browser. The kernel sends its data once; what moves afterwards moves here.

const FADES = 12; // pieces of a trail, each with its own opacity
const SECONDS = 12; // that a whole run takes at speed 1
const MOST_STEP_DOTS = 1500;
const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4, 8];
const PANELS = [
  ["energy_error", "energy error"],
  ["dt", "step dt [T]"],
  ["closest", "closest pair [L]"],
];
const MARGIN = { left: 48, right: 8, top: 16, bottom: 18 };

// Data ---------------------------------------------------------------------------------------

function numbers(view, Kind) {
  return new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function unpack(run) {
  const curves = Object.fromEntries(
    Object.entries(run.curves).map(([name, view]) => [name, numbers(view, Float64Array)]),
  );
  const path = { time: numbers(run.time, Float64Array), points: numbers(run.path, Float32Array) };
  const steps = {
    time: numbers(run.step_time, Float64Array),
    points: numbers(run.step_path, Float32Array),
  };
  return { ...run, nBodies: run.mass.length, curves, path, steps };
}

// Index of the last time that is not after t; times increase.
function latest(times, t) {
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= t) low = middle;
    else high = middle - 1;
  }
  return low;
}

// Frames and camera ----------------------------------------------------------------------------

// Where the origin is and how the axes are turned at point k: [x, y, z, cos, sin].
function originOf(frame, points, k, nBodies, mass) {
  const at = (body, axis) => points[3 * (k * nBodies + body) + axis];
  if (frame.kind === "inertial") return [0, 0, 0, 1, 0];
  if (frame.kind === "body") return [at(frame.body, 0), at(frame.body, 1), at(frame.body, 2), 1, 0];
  const total = mass[0] + mass[1] || 1;
  const share = mass[0] + mass[1] ? mass[1] / total : 0.5;
  const [x, y] = [at(1, 0) - at(0, 0), at(1, 1) - at(0, 1)];
  const r = Math.hypot(x, y) || 1;
  const middle = [0, 1, 2].map((axis) => at(0, axis) + share * (at(1, axis) - at(0, axis)));
  return [...middle, x / r, y / r];
}

function inFrame(frame, points, nBodies, mass) {
  const shown = new Float32Array(points.length);
  for (let k = 0; k < points.length / (3 * nBodies); k++) {
    const [x0, y0, z0, c, s] = originOf(frame, points, k, nBodies, mass);
    for (let i = 3 * k * nBodies; i < 3 * (k + 1) * nBodies; i += 3) {
      const [x, y] = [points[i] - x0, points[i + 1] - y0];
      shown[i] = c * x + s * y;
      shown[i + 1] = c * y - s * x;
      shown[i + 2] = points[i + 2] - z0;
    }
  }
  return shown;
}

// What the camera sees, across and up the view, body after body, so that a trail is one stretch.
function project(points, nBodies, camera) {
  const count = points.length / (3 * nBodies);
  const [ca, sa] = [Math.cos(camera.azimuth), Math.sin(camera.azimuth)];
  const [ce, se] = [Math.cos(camera.elevation), Math.sin(camera.elevation)];
  const seen = new Float32Array(2 * count * nBodies);
  for (let body = 0; body < nBodies; body++) {
    for (let k = 0; k < count; k++) {
      const i = 3 * (k * nBodies + body);
      const j = 2 * (body * count + k);
      const [x, y, z] = [points[i], points[i + 1], points[i + 2]];
      seen[j] = -x * sa + y * ca;
      seen[j + 1] = z * ce - (x * ca + y * sa) * se;
    }
  }
  return seen;
}

// Half the side of a square about the origin that shows the bodies most of the time.
function reach(shown) {
  const distance = [];
  const thin = 3 * Math.max(1, Math.floor(shown.length / 3 / 5000));
  for (let i = 0; i < shown.length - 2; i += thin) {
    distance.push(Math.hypot(shown[i], shown[i + 1], shown[i + 2]));
  }
  distance.sort((a, b) => a - b);
  return 1.1 * distance[Math.floor(0.98 * (distance.length - 1))] || 1;
}

// Pens: one for the screen, one for files -----------------------------------------------------

class CanvasPen {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }
  begin(width, height) {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) {
      [this.canvas.width, this.canvas.height] = [w, h];
    }
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, width, height);
  }
  line(points, { colour, alpha = 1, width = 1, dash = [] }) {
    const c = this.context;
    c.globalAlpha = alpha;
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.setLineDash(dash);
    c.beginPath();
    for (let i = 0; i < points.length; i += 2) c.lineTo(points[i], points[i + 1]);
    c.stroke();
  }
  dot(x, y, radius, colour, alpha = 1) {
    const c = this.context;
    c.globalAlpha = alpha;
    c.fillStyle = colour;
    c.beginPath();
    c.arc(x, y, radius, 0, 2 * Math.PI);
    c.fill();
  }
  text(x, y, words, colour, anchor = "start") {
    const c = this.context;
    c.globalAlpha = 1;
    c.fillStyle = colour;
    c.font = "11px sans-serif";
    c.textAlign = anchor === "middle" ? "center" : anchor;
    c.fillText(words, x, y);
  }
}

class SvgPen {
  constructor() {
    this.parts = [];
    [this.x, this.y] = [0, 0]; // where the next picture begins
  }
  begin() {}
  line(points, { colour, alpha = 1, width = 1, dash = [] }) {
    const at = [];
    for (let i = 0; i < points.length; i += 2) {
      at.push(`${(points[i] + this.x).toFixed(2)},${(points[i + 1] + this.y).toFixed(2)}`);
    }
    this.parts.push(
      `<polyline points="${at.join(" ")}" fill="none" stroke="${colour}" stroke-opacity=` +
        `"${alpha.toFixed(2)}" stroke-width="${width}" stroke-dasharray="${dash.join(" ")}"/>`,
    );
  }
  dot(x, y, radius, colour, alpha = 1) {
    this.parts.push(
      `<circle cx="${(x + this.x).toFixed(2)}" cy="${(y + this.y).toFixed(2)}" ` +
        `r="${radius.toFixed(2)}" fill="${colour}" fill-opacity="${alpha.toFixed(2)}"/>`,
    );
  }
  text(x, y, words, colour, anchor = "start") {
    const safe = words.replace(/&/g, "&amp;").replace(/</g, "&lt;");
    this.parts.push(
      `<text x="${x + this.x}" y="${y + this.y}" fill="${colour}" font-size="11" ` +
        `font-family="sans-serif" text-anchor="${anchor}">${safe}</text>`,
    );
  }
  document(width, height, paper) {
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
      `viewBox="0 0 ${width} ${height}"><rect width="100%" height="100%" fill="${paper}"/>` +
      `${this.parts.join("\n")}</svg>`
    );
  }
}

// Pictures ------------------------------------------------------------------------------------

function drawOrbits(pen, side, run, view, look) {
  const { seen, stepsSeen } = run;
  const count = run.path.time.length;
  const scale = side / (2 * view.half);
  const x = (value) => side / 2 + scale * (value - view.middle[0]);
  const y = (value) => side / 2 - scale * (value - view.middle[1]);
  const now = Math.min(view.now, run.path.time[count - 1]);
  const k = Math.min(latest(run.path.time, now), Math.max(0, count - 2));
  const gap = run.path.time[k + 1] - run.path.time[k];
  const part = gap > 0 ? Math.min(1, Math.max(0, (now - run.path.time[k]) / gap)) : 0;
  const place = (body) => {
    const j = 2 * (body * count + k);
    const between = (axis) => seen[j + axis] + part * (seen[j + 2 + axis] - seen[j + axis]);
    return [x(between(0)), y(between(1))];
  };
  const bounds = [];
  for (let f = 0; f <= FADES; f++) {
    bounds.push(latest(run.path.time, now - view.trail * (1 - f / FADES)));
  }
  pen.begin(side, side);
  for (let f = 0; f < FADES; f++) {
    const last = f === FADES - 1;
    for (let body = 0; body < run.nBodies; body++) {
      const points = [];
      for (let j = bounds[f]; j <= (last ? k : bounds[f + 1]); j++) {
        const at = 2 * (body * count + j);
        points.push(x(seen[at]), y(seen[at + 1]));
      }
      if (last) points.push(...place(body));
      const colour = look.colours[body % look.colours.length];
      if (points.length > 2) pen.line(points, { colour, alpha: (0.9 * (f + 1)) / FADES, width: 1.4 });
    }
  }
  if (view.steps) {
    const nSteps = run.steps.time.length;
    const [first, end] = [latest(run.steps.time, now - view.trail), latest(run.steps.time, now)];
    const thin = Math.max(1, Math.ceil(((end - first) * run.nBodies) / MOST_STEP_DOTS));
    for (let body = 0; body < run.nBodies; body++) {
      for (let j = first; j <= end && nSteps; j += thin) {
        const at = 2 * (body * nSteps + j);
        pen.dot(x(stepsSeen[at]), y(stepsSeen[at + 1]), 1.6, look.ink, 0.6);
      }
    }
  }
  for (let body = 0; body < run.nBodies; body++) {
    pen.dot(...place(body), run.radii[body], look.colours[body % look.colours.length]);
  }
  drawScaleBar(pen, side, scale, look);
}

function drawScaleBar(pen, side, scale, look) {
  const longest = (0.3 * side) / scale;
  const decade = 10 ** Math.floor(Math.log10(longest));
  const length = decade * ([5, 2, 1].find((nice) => nice * decade <= longest) || 1);
  const [x, y] = [10, side - 10];
  pen.line([x, y, x + length * scale, y], { colour: look.ink, width: 1.5 });
  pen.text(x, y - 5, `${Number(length.toPrecision(2))} [L]`, look.ink);
}

function drawPanel(pen, size, name, title, runs, tolerance, view, look) {
  const inner = {
    w: size.w - MARGIN.left - MARGIN.right,
    h: size.h - MARGIN.top - MARGIN.bottom,
  };
  pen.begin(size.w, size.h);
  pen.text(MARGIN.left, 11, title, look.ink);
  const all = runs.flatMap((run) => Array.from(run.curves[name]).filter((v) => v > 0));
  if (name === "energy_error" && tolerance) all.push(tolerance);
  if (!all.length) {
    pen.text(size.w / 2, size.h / 2, "nothing above zero", look.ink, "middle");
    return null;
  }
  const log = all.map(Math.log10);
  let [low, high] = log.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  [low, high] = [Math.floor(low), Math.max(Math.ceil(high), Math.floor(low) + 1)];
  const [begin, end] = [Math.min(...runs.map((r) => r.path.time[0])), view.end];
  const x = (t) => MARGIN.left + (inner.w * (t - begin)) / (end - begin || 1);
  const y = (value) => MARGIN.top + (inner.h * (high - Math.log10(value))) / (high - low);
  for (let n = low; n <= high; n += Math.ceil((high - low) / 4)) {
    pen.line([MARGIN.left, y(10 ** n), size.w - MARGIN.right, y(10 ** n)], { colour: look.grid });
    pen.text(MARGIN.left - 4, y(10 ** n) + 4, `1e${n}`, look.ink, "end");
  }
  pen.text(MARGIN.left, size.h - 4, begin.toPrecision(3), look.ink);
  pen.text(size.w - MARGIN.right, size.h - 4, `${end.toPrecision(4)} [T]`, look.ink, "end");
  runs.forEach((run, i) => {
    let points = [];
    const flush = () => {
      if (points.length > 2) pen.line(points, { colour: look.sides[i], width: 1.1 });
      points = [];
    };
    run.curves[name].forEach((value, k) => {
      if (value > 0) points.push(x(run.curves.time[k]), y(value));
      else flush();
    });
    flush();
  });
  if (name === "energy_error" && tolerance) {
    const dash = [5, 3];
    pen.line([MARGIN.left, y(tolerance), size.w - MARGIN.right, y(tolerance)], { colour: look.ink, dash });
  }
  return x;
}

// The widget ----------------------------------------------------------------------------------

function element(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

function labelled(words, control) {
  return element("label", {}, words, control);
}

function lookOf(el, model) {
  const style = getComputedStyle(el);
  const variable = (name, other) => style.getPropertyValue(name).trim() || other;
  return {
    ink: variable("--jp-ui-font-color1", "#333"),
    grid: variable("--jp-border-color2", "#ddd"),
    paper: variable("--jp-layout-color0", "#fff"),
    colours: model.get("colours"),
    sides: model.get("colours").slice(0, 2),
  };
}

function download(name, url) {
  element("a", { href: url, download: name }).click();
}

class Player {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.view = { now: 0, end: 1, trail: 1, steps: false, half: 1, middle: [0, 0], zoom: 1, pan: [0, 0] };
    this.frame = { kind: "inertial" };
    this.playing = false;
    this.drawn = 0;
    this.build();
    this.take();
  }

  build() {
    this.stage = element("div", { className: "nb-stage" });
    this.button = element("button", { className: "nb-play", textContent: "play", title: "space" });
    this.scrub = element("input", { type: "range", className: "nb-scrub", min: 0, max: 1, step: "any" });
    this.clock = element("span", { className: "nb-clock" });
    this.speed = element("select", { className: "nb-speed" });
    SPEEDS.forEach((s) => this.speed.append(element("option", { value: s, textContent: `${s}×` })));
    this.speed.value = 1;
    this.trail = element("input", { type: "range", className: "nb-trail", min: 0, max: 1, step: 0.01, value: 0.4 });
    this.frames = element("select", { className: "nb-frame" });
    this.dots = element("input", { type: "checkbox", className: "nb-steps" });
    const png = element("button", { className: "nb-png", textContent: "PNG", title: "download the view" });
    const svg = element("button", { className: "nb-svg", textContent: "SVG", title: "download the view" });
    const reset = element("button", { className: "nb-reset", textContent: "reset view" });
    this.panels = PANELS.map(([name]) => element("canvas", { className: `nb-panel nb-${name}` }));
    this.el.append(
      this.stage,
      element("div", { className: "nb-bar" }, this.button, this.scrub, this.clock),
      element(
        "div",
        { className: "nb-bar" },
        labelled("speed", this.speed),
        labelled("trail", this.trail),
        labelled("frame", this.frames),
        labelled("steps", this.dots),
        ...[reset, png, svg],
      ),
      element("div", { className: "nb-panels" }, ...this.panels),
    );
    this.el.tabIndex = 0;
    this.el.addEventListener("keydown", (event) => {
      if (event.key !== " " || event.target !== this.el) return;
      event.preventDefault();
      this.toggle();
    });
    this.button.onclick = () => this.toggle();
    this.scrub.oninput = () => this.goTo(this.begin + Number(this.scrub.value) * (this.view.end - this.begin));
    this.trail.oninput = () => this.draw();
    this.dots.onchange = () => this.draw();
    this.frames.onchange = () => {
      this.frame = JSON.parse(this.frames.value);
      this.reset();
    };
    reset.onclick = () => this.reset();
    png.onclick = () => this.savePng();
    svg.onclick = () => this.saveSvg();
    this.panels.forEach((canvas) => {
      canvas.onpointerdown = canvas.onpointermove = (event) => {
        if (!event.buttons) return;
        const width = canvas.clientWidth - MARGIN.left - MARGIN.right;
        const share = Math.min(1, Math.max(0, (event.offsetX - MARGIN.left) / width));
        this.goTo(this.begin + share * (this.view.end - this.begin));
      };
    });
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.el);
  }

  // New data: the time, the camera and the frame stay where they were, if they still fit.
  take() {
    const runs = this.model.get("runs").map(unpack);
    const before = this.runs;
    const dimensions = this.model.get("dimensions");
    const same = before && before.length && runs.length && before[0].nBodies === runs[0].nBodies;
    this.runs = runs;
    this.begin = Math.min(...runs.map((run) => run.path.time[0]));
    this.view.end = Math.max(...runs.map((run) => run.path.time.at(-1)));
    this.view.now = Math.min(Math.max(this.view.now, this.begin), this.view.end);
    this.stage.replaceChildren(
      ...runs.map((run, i) => {
        run.canvas = element("canvas", { className: "nb-orbits" });
        this.follow(run.canvas);
        const label = element("figcaption", {}, element("b", { textContent: run.label }), ` ${run.cost}`);
        label.firstChild.style.color = runs.length > 1 ? this.model.get("colours")[i] : "";
        return element("figure", {}, run.canvas, label);
      }),
    );
    if (!same || dimensions !== this.dimensions) {
      this.dimensions = dimensions;
      this.fillFrames();
      this.reset();
    } else {
      this.look();
    }
  }

  fillFrames() {
    const nBodies = this.runs.length ? this.runs[0].nBodies : 0;
    const choices = [["inertial", { kind: "inertial" }]];
    if (nBodies > 1) choices.push(["rotating with 0 and 1", { kind: "rotating" }]);
    for (let body = 0; body < nBodies; body++) choices.push([`body ${body}`, { kind: "body", body }]);
    this.frames.replaceChildren(
      ...choices.map(([name, frame]) => element("option", { textContent: name, value: JSON.stringify(frame) })),
    );
    this.frame = { kind: "inertial" };
  }

  reset() {
    const flat = this.dimensions === 2;
    this.camera = flat
      ? { azimuth: -Math.PI / 2, elevation: Math.PI / 2 }
      : { azimuth: -Math.PI / 3, elevation: (25 * Math.PI) / 180 };
    [this.view.zoom, this.view.pan] = [1, [0, 0]];
    this.look();
  }

  // The frame or the camera changed.
  look() {
    this.runs.forEach((run) => {
      run.shown = inFrame(this.frame, run.path.points, run.nBodies, run.mass);
      run.stepsShown = inFrame(this.frame, run.steps.points, run.nBodies, run.mass);
    });
    this.half = this.frame.kind === "inertial" ? this.model.get("half") : Math.max(...this.runs.map((r) => reach(r.shown)));
    this.turn();
  }

  turn() {
    this.runs.forEach((run) => {
      run.seen = project(run.shown, run.nBodies, this.camera);
      run.stepsSeen = project(run.stepsShown, run.nBodies, this.camera);
    });
    this.draw();
  }

  follow(canvas) {
    canvas.onpointerdown = (event) => canvas.setPointerCapture(event.pointerId);
    canvas.onpointermove = (event) => {
      if (!event.buttons) return;
      if (this.dimensions === 3 && !event.shiftKey) {
        this.camera.azimuth -= 0.01 * event.movementX;
        const tilted = this.camera.elevation + 0.01 * event.movementY;
        this.camera.elevation = Math.min(Math.PI / 2, Math.max(-Math.PI / 2, tilted));
        this.turn();
      } else {
        const size = (2 * this.view.half) / canvas.clientWidth;
        this.view.pan = [this.view.pan[0] - size * event.movementX, this.view.pan[1] + size * event.movementY];
        this.draw();
      }
    };
    canvas.ondblclick = () => this.reset();
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.view.zoom *= Math.exp(-0.002 * event.deltaY);
        this.draw();
      },
      { passive: false },
    );
  }

  goTo(time) {
    this.view.now = time;
    this.draw();
  }

  toggle() {
    this.playing = !this.playing;
    this.button.textContent = this.playing ? "pause" : "play";
    if (!this.playing) return;
    if (this.view.now >= this.view.end) this.view.now = this.begin;
    let before = performance.now();
    const tick = (time) => {
      if (!this.playing) return;
      const share = ((time - before) / 1000 / SECONDS) * Number(this.speed.value);
      before = time;
      this.goTo(Math.min(this.view.end, this.view.now + share * (this.view.end - this.begin)));
      if (this.view.now >= this.view.end) this.toggle();
      else requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  settle() {
    const { view } = this;
    const centre = this.frame.kind === "inertial" ? this.model.get("centre") : [0, 0, 0];
    view.half = this.half / view.zoom;
    view.middle = [...project(Float32Array.from(centre), 1, this.camera)].map((c, i) => c + view.pan[i]);
    view.trail = Number(this.trail.value) ** 2 * (view.end - this.begin);
    view.steps = this.dots.checked;
  }

  draw() {
    if (!this.runs.length || !this.el.clientWidth) return;
    this.settle();
    const look = lookOf(this.el, this.model);
    for (const run of this.runs) {
      run.pen ??= new CanvasPen(run.canvas);
      drawOrbits(run.pen, run.canvas.clientWidth, run, this.view, look);
    }
    this.drawPanels(look);
    this.scrub.value = (this.view.now - this.begin) / (this.view.end - this.begin || 1);
    this.clock.textContent = `t = ${this.view.now.toPrecision(5)} [T]`;
    this.el.dataset.drawn = ++this.drawn;
  }

  // Curves are drawn when they change; the cursor alone moves.
  drawPanels(look) {
    PANELS.forEach(([name, title], i) => {
      const canvas = this.panels[i];
      const size = { w: canvas.clientWidth, h: canvas.clientHeight };
      const key = [size.w, size.h, look.ink].join();
      if (canvas.runs !== this.runs || canvas.key !== key) {
        [canvas.runs, canvas.key] = [this.runs, key];
        canvas.still = element("canvas");
        const pen = new CanvasPen(canvas.still);
        canvas.x = drawPanel(pen, size, name, title, this.runs, this.model.get("tolerance"), this.view, look);
      }
      const pen = (canvas.pen ??= new CanvasPen(canvas));
      pen.begin(size.w, size.h);
      if (size.w) pen.context.drawImage(canvas.still, 0, 0, size.w, size.h);
      this.drawCursor(pen, canvas.x, size, look);
    });
  }

  drawCursor(pen, x, size, look) {
    if (!x) return;
    const at = x(this.view.now);
    pen.line([at, MARGIN.top, at, size.h - MARGIN.bottom], { colour: look.ink, alpha: 0.7 });
  }

  savePng() {
    const look = lookOf(this.el, this.model);
    const canvases = [...this.runs.map((run) => run.canvas), ...this.panels];
    const { boxes, width, height } = this.layout(canvases);
    const ratio = window.devicePixelRatio || 1;
    const sheet = element("canvas", { width: width * ratio, height: height * ratio });
    const context = sheet.getContext("2d");
    context.scale(ratio, ratio);
    context.fillStyle = look.paper;
    context.fillRect(0, 0, width, height);
    canvases.forEach((canvas, i) => context.drawImage(canvas, ...boxes[i]));
    download("orbits.png", sheet.toDataURL("image/png"));
  }

  saveSvg() {
    const look = lookOf(this.el, this.model);
    const { boxes, width, height } = this.layout([...this.runs.map((run) => run.canvas), ...this.panels]);
    const pen = new SvgPen();
    this.runs.forEach((run, i) => {
      [pen.x, pen.y] = boxes[i];
      drawOrbits(pen, boxes[i][2], run, this.view, look);
    });
    PANELS.forEach(([name, title], i) => {
      const [x0, y0, w, h] = boxes[this.runs.length + i];
      [pen.x, pen.y] = [x0, y0];
      const x = drawPanel(pen, { w, h }, name, title, this.runs, this.model.get("tolerance"), this.view, look);
      this.drawCursor(pen, x, { w, h }, look);
    });
    const blob = new Blob([pen.document(width, height, look.paper)], { type: "image/svg+xml" });
    download("orbits.svg", URL.createObjectURL(blob));
  }

  // Where canvases stand on the page: [x, y, width, height] from their common corner.
  layout(canvases) {
    const on = canvases.map((canvas) => canvas.getBoundingClientRect());
    const [left, top] = [Math.min(...on.map((b) => b.left)), Math.min(...on.map((b) => b.top))];
    return {
      boxes: on.map((b) => [b.left - left, b.top - top, b.width, b.height]),
      width: Math.max(...on.map((b) => b.right)) - left,
      height: Math.max(...on.map((b) => b.bottom)) - top,
    };
  }

  end() {
    this.playing = false;
    this.resized.disconnect();
  }
}

export default {
  render({ model, el }) {
    el.classList.add("nb-view");
    const player = new Player(model, el);
    const take = () => player.take();
    model.on("change:runs", take);
    return () => {
      model.off("change:runs", take);
      player.end();
    };
  },
};
