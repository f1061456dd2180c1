// The front end of LiveWidget. State comes down as HTML, grids as bytes; this file keeps only the clock, what the reader
// has opened, and what is under the cursor. What goes up and down is listed in widgets.py.

const TICK_MS = 100;
// How long a view that ends waits with saying so.
const FAREWELL_MS = 500;
// How long the page is searched for the static output that took the place of a view.
const SEARCH_MS = 100;
const SEARCHES = 30;

const STATES = ["pending", "running", "resolved", "failed", "cancelled", "lost"];
const ACTIVE = new Set(["pending", "running"]);
const AGAIN = new Set(["failed", "cancelled"]);

function durationText(seconds) {
  if (seconds < 0.9995) return `${Math.round(Math.max(seconds, 0) * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  const pad = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
}

function element(tag, className, parent) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  parent?.append(made);
  return made;
}

function button(text, parent, onClick) {
  const made = element("button", "ipyremote-button", parent);
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", onClick);
  return made;
}

// The colours of the page's theme, read anew with each full drawing.
function colours(node) {
  const style = getComputedStyle(node);
  const read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  return {
    pending: read("--jp-border-color1", "#bdbdbd"),
    running: read("--jp-info-color1", "#0288d1"),
    resolved: read("--jp-success-color1", "#388e3c"),
    failed: read("--jp-error-color1", "#d32f2f"),
    cancelled: read("--jp-warn-color1", "#f57c00"),
    lost: read("--jp-warn-color1", "#f57c00"),
    paper: read("--jp-layout-color0", "#fff"),
    text: read("--jp-ui-font-color2", "#666"),
    line: read("--jp-border-color2", "#8885"),
    cursor: read("--jp-brand-color1", "#2196f3"),
    font: read("--jp-ui-font-family", "sans-serif"),
  };
}

function sharpCanvas(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return context;
}

// Replaces HTML; what the reader had unfolded or folded stays so, and so does the place of inner scroll bars.
function replaceHtml(node, html) {
  const before = [...node.querySelectorAll("details")].map((details) => details.open);
  const scrolls = [...node.querySelectorAll("pre")].map((pre) => [pre.scrollTop, pre.scrollLeft]);
  const shape = node.querySelectorAll("details").length;
  node.innerHTML = html;
  const after = node.querySelectorAll("details");
  if (after.length === shape) after.forEach((details, index) => (details.open = before[index]));
  node.querySelectorAll("pre").forEach((pre, index) => {
    if (scrolls[index]) [pre.scrollTop, pre.scrollLeft] = scrolls[index];
  });
}

// ------------------------------------------------------------------------------------------------- the grid of a board

// A cell says its state without colour too: pending is hollow, running half full, resolved full, failed crossed out,
// cancelled and lost struck through.
class Grid {
  constructor(well, tip, onOpen) {
    this.well = well;
    this.tip = tip;
    this.states = new Uint8Array(0);
    this.cursor = -1;
    this.dirty = new Set();
    this.frame = 0;
    this.drawn = 0;
    this.canvas = element("canvas", "ipyremote-grid", well);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.addEventListener("click", (event) => this.pick(event, onOpen));
    this.canvas.addEventListener("mousemove", (event) => this.hover(this.placeAt(event)));
    this.canvas.addEventListener("mouseleave", () => this.hover(-1));
    this.canvas.addEventListener("keydown", (event) => this.key(event, onOpen));
    this.resize = new ResizeObserver(() => this.drawAll());
    this.resize.observe(well);
    this.theme = new MutationObserver(() => {
      this.drawAll();
      // The attribute changes before the style sheets have; until they are there, sizes and colours are wrong.
      for (const delay of [300, 1000, 2000]) setTimeout(() => this.drawAll(), delay);
    });
    this.theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  }

  close() {
    this.resize.disconnect();
    this.theme.disconnect();
    cancelAnimationFrame(this.frame);
  }

  // Nobody knows any more what came of those that had not ended.
  lose() {
    this.states = this.states.map((state) => (ACTIVE.has(STATES[state]) ? STATES.indexOf("lost") : state));
    this.drawAll();
  }

  take(form, view) {
    if (form === "whole") {
      this.states = new Uint8Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
      this.full = true;
    } else {
      for (let at = 0; at + 4 <= view.byteLength; at += 4) {
        const number = view.getUint32(at, true);
        const place = number >>> 3;
        if (place < this.states.length) {
          this.states[place] = number & 7;
          this.dirty.add(place);
        }
      }
    }
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  drawAll() {
    this.full = true;
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  layout() {
    const count = this.states.length;
    this.width = this.well.clientWidth;
    const width = Math.max(60, this.width - 2);
    this.size = count <= 400 ? 14 : count <= 3000 ? 9 : count <= 30000 ? 6 : 4;
    this.columns = Math.max(1, Math.floor(width / this.size));
    const rows = Math.ceil(count / this.columns);
    const wide = Math.min(count, this.columns) * this.size;
    this.canvas.style.width = `${wide}px`;
    this.context = sharpCanvas(this.canvas, wide, Math.max(1, rows) * this.size);
    this.colours = colours(this.well);
  }

  draw() {
    this.frame = 0;
    if (!this.states.length) return;
    if (this.full || this.well.clientWidth !== this.width) {
      this.full = false;
      this.dirty.clear();
      this.layout();
      for (let place = 0; place < this.states.length; place += 1) this.cell(place);
    } else {
      for (const place of this.dirty) this.cell(place);
      this.dirty.clear();
    }
    if (this.cursor >= 0) this.outline(this.cursor);
    this.drawn += 1;
    this.canvas.dataset.drawn = this.drawn;
    this.canvas.setAttribute("aria-label", `${this.states.length} refs. Arrow keys move, Enter opens, F finds the next failure.`);
  }

  cell(place) {
    const { context, size, columns, colours: colour } = this;
    const x = (place % columns) * size;
    const y = Math.floor(place / columns) * size;
    const side = size - (size > 4 ? 2 : 1);
    const name = STATES[this.states[place]] ?? "lost";
    context.clearRect(x, y, size, size);
    context.fillStyle = colour[name];
    context.strokeStyle = name === "pending" ? colour.pending : colour.paper;
    context.lineWidth = 1;
    if (name === "pending") context.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
    else if (name === "running") {
      context.globalAlpha = 0.35;
      context.fillRect(x, y, side, side);
      context.globalAlpha = 1;
      context.fillRect(x, y + side / 2, side, side / 2);
    } else context.fillRect(x, y, side, side);
    if (size < 9) {
      // Too small for strokes: failures are bigger than the others.
      if (name === "failed") context.fillRect(x, y, size, size);
    } else if (name === "failed" || name === "cancelled" || name === "lost") {
      context.beginPath();
      context.moveTo(x + 1, y + side - 1);
      context.lineTo(x + side - 1, y + 1);
      if (name === "failed") {
        context.moveTo(x + 1, y + 1);
        context.lineTo(x + side - 1, y + side - 1);
      }
      context.stroke();
    }
  }

  outline(place) {
    const { context, size, columns } = this;
    context.strokeStyle = this.colours.cursor;
    context.lineWidth = 2;
    context.strokeRect((place % columns) * size, Math.floor(place / columns) * size, size - 1, size - 1);
  }

  placeAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / this.size);
    const row = Math.floor((event.clientY - box.top) / this.size);
    const place = row * this.columns + column;
    return column >= 0 && column < this.columns && place >= 0 && place < this.states.length ? place : -1;
  }

  describe(place) {
    return place < 0 ? "" : `ref ${place + 1} of ${this.states.length}: ${STATES[this.states[place]]}`;
  }

  hover(place) {
    this.tip.textContent = this.describe(place);
  }

  pick(event, onOpen) {
    const place = this.placeAt(event);
    if (place < 0) return;
    this.move(place);
    onOpen(place);
  }

  move(place) {
    const old = this.cursor;
    this.cursor = Math.min(Math.max(place, 0), this.states.length - 1);
    // The outline reaches into the cells around it.
    if (old >= 0) {
      for (const near of [0, 1, -1, this.columns, -this.columns, this.columns + 1, this.columns - 1, 1 - this.columns, -1 - this.columns]) {
        if (old + near >= 0 && old + near < this.states.length) this.dirty.add(old + near);
      }
    }
    this.hover(this.cursor);
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  key(event, onOpen) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns };
    if (event.key in steps) this.move(this.cursor < 0 ? 0 : this.cursor + steps[event.key]);
    else if (event.key === "Home") this.move(0);
    else if (event.key === "End") this.move(this.states.length - 1);
    else if (event.key === "f" || event.key === "F") {
      const failed = STATES.indexOf("failed");
      let place = this.states.indexOf(failed, this.cursor + 1);
      if (place < 0) place = this.states.indexOf(failed);
      if (place >= 0) this.move(place);
    } else if ((event.key === "Enter" || event.key === " ") && this.cursor >= 0) onOpen(this.cursor);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

// ----------------------------------------------------------------------------------------- the timeline of a dashboard

const LANE = 18;
const AXIS = 16;
const MARGIN = 74;

class Lanes {
  constructor(well, tip) {
    this.tip = tip;
    this.well = well;
    this.spans = [];
    this.lanes = [];
    this.running = [];
    this.now = 0;
    this.at = performance.now();
    // Seconds in sight, and how long ago the right edge is.
    this.range = 60;
    this.back = 0;
    this.frame = 0;
    this.canvas = element("canvas", "ipyremote-lanes", well);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", "Timeline of the workers. Arrow keys move, plus and minus zoom, 0 shows the last minute.");
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.canvas.addEventListener("mousemove", (event) => this.hover(event));
    this.canvas.addEventListener("mouseleave", () => (this.tip.textContent = ""));
    this.canvas.addEventListener("pointerdown", (event) => this.drag(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.resize = new ResizeObserver(() => this.later());
    this.resize.observe(well);
  }

  close() {
    this.resize.disconnect();
    cancelAnimationFrame(this.frame);
  }

  take(message) {
    this.now = message.now;
    this.at = performance.now();
    this.lanes = message.lanes;
    const known = this.lanes.map((lane) => lane[0]);
    this.spans = (message.whole ? [] : this.spans).concat(message.spans).slice(-20000);
    this.running = message.running ?? [];
    this.rows = new Map(known.map((id, row) => [id, row]));
    this.later();
  }

  tick() {
    if (this.back === 0 && this.lanes.length) this.later();
  }

  later() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  edge() {
    return this.now + (performance.now() - this.at) / 1000 - this.back;
  }

  all() {
    const present = this.edge() + this.back;
    return this.spans.concat(this.running.map(([worker, label, start]) => [worker, label, start, present, "running"]));
  }

  draw() {
    this.frame = 0;
    const width = this.well.clientWidth;
    if (!width) return;
    const height = this.lanes.length * LANE + AXIS;
    const context = sharpCanvas(this.canvas, width, height);
    const colour = colours(this.well);
    const right = this.edge();
    const left = right - this.range;
    const scale = (width - MARGIN) / this.range;
    context.font = `11px ${colour.font}`;
    context.textBaseline = "middle";
    this.lanes.forEach(([, name], row) => {
      context.fillStyle = colour.text;
      context.fillText(name, 0, row * LANE + LANE / 2, MARGIN - 6);
      context.fillStyle = colour.line;
      context.fillRect(MARGIN, (row + 1) * LANE - 1, width - MARGIN, 1);
    });
    context.save();
    context.beginPath();
    context.rect(MARGIN, 0, width - MARGIN, height);
    context.clip();
    for (const [worker, label, start, end, state] of this.all()) {
      const row = this.rows.get(worker);
      if (row === undefined || end < left || start > right) continue;
      const x = MARGIN + (start - left) * scale;
      const wide = Math.max((end - start) * scale, 1);
      context.fillStyle = state === "done" ? colour.resolved : state === "failed" || state === "lost" ? colour.failed : state === "running" ? colour.running : colour.cancelled;
      context.fillRect(x, row * LANE + 2, Math.max(wide - 1, 1), LANE - 5);
      if (wide > 46) {
        context.fillStyle = colour.paper;
        context.save();
        context.beginPath();
        context.rect(x, row * LANE, wide - 4, LANE);
        context.clip();
        context.fillText(label, Math.max(x, MARGIN) + 4, row * LANE + LANE / 2);
        context.restore();
      }
    }
    context.restore();
    const steps = [0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600];
    const step = steps.find((each) => each * scale > 70) ?? 1800;
    context.fillStyle = colour.text;
    for (let ago = Math.ceil(this.back / step) * step; ago < this.back + this.range; ago += step) {
      const x = MARGIN + (this.range - (ago - this.back)) * scale;
      const text = ago === 0 ? "now" : `-${durationText(ago)}`;
      context.fillText(text, x - context.measureText(text).width, height - AXIS / 2 + 1);
    }
  }

  zoom(factor, at = 1) {
    const range = Math.min(Math.max(this.range * factor, 0.01), 3600);
    const fixed = this.back + this.range * (1 - at);
    this.back = Math.max(0, fixed - range * (1 - at));
    if (this.back < range * 0.02) this.back = 0;
    this.range = range;
    this.later();
  }

  wheel(event) {
    if (!event.ctrlKey && !event.shiftKey && document.activeElement !== this.canvas) return;
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    this.zoom(Math.exp(event.deltaY / 300), Math.min(Math.max((event.clientX - box.left - MARGIN) / (box.width - MARGIN), 0), 1));
  }

  drag(event) {
    const from = event.clientX;
    const back = this.back;
    const scale = (this.canvas.clientWidth - MARGIN) / this.range;
    const move = (moved) => {
      this.back = Math.max(0, back + (moved.clientX - from) / scale);
      this.later();
    };
    const up = () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", up);
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", up);
  }

  key(event) {
    if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "ArrowLeft") this.back += this.range / 8;
    else if (event.key === "ArrowRight") this.back = Math.max(0, this.back - this.range / 8);
    else if (event.key === "0") [this.back, this.range] = [0, 60];
    else return;
    this.later();
    event.preventDefault();
    event.stopPropagation();
  }

  hover(event) {
    const box = this.canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top) / LANE);
    const scale = (box.width - MARGIN) / this.range;
    const time = this.edge() - this.range + (event.clientX - box.left - MARGIN) / scale;
    const slack = 2 / scale;
    const span = this.all().findLast(
      ([worker, , start, end]) => this.rows.get(worker) === row && start - slack <= time && time <= end + slack,
    );
    this.tip.textContent = span ? `${span[1]}: ${span[4]}, ${durationText(span[3] - span[2])}` : "";
  }
}

// ------------------------------------------------------------------------------------------------------------ the view

// Builds everything in `el`; returns what undoes it.
function build(model, el) {
  el.classList.add("ipyremote-live");
  const body = element("div", "ipyremote-body", el);
  const buttons = element("div", "ipyremote-buttons", el);
  const status = element("span", "ipyremote-status", el);
  status.setAttribute("role", "status");
  let grid = null;
  let lanes = null;
  let opened = null;
  let shownAt = 0;
  let timer = null;
  let lost = false;

  const send = (kind, place = -1) => model.send({ kind, place });
  const asking = (made, text, kind, place) => () => {
    made().disabled = true;
    made().textContent = text;
    send(kind, place());
  };
  const cancel = button("Cancel", buttons, asking(() => cancel, "Cancelling…", "cancel", () => -1));
  const again = button("Retry", buttons, asking(() => again, "Retrying…", "retry", () => -1));

  // Seconds so far came from the kernel; what has passed since is measured here, so the clocks need not agree.
  const tick = () => {
    const passed = (performance.now() - shownAt) / 1000;
    for (const time of el.querySelectorAll(".ipyremote-time[data-ticking]")) {
      time.textContent = durationText(Number(time.dataset.seconds) + passed);
    }
    lanes?.tick();
  };

  const setTimer = () => {
    const ticking = lanes !== null || el.querySelector(".ipyremote-time[data-ticking]") !== null;
    if (ticking && timer === null) timer = setInterval(tick, TICK_MS);
    if (!ticking && timer !== null) {
      clearInterval(timer);
      timer = null;
    }
  };

  const drawing = (className) => {
    const well = element("div", className, el);
    const tip = element("div", "ipyremote-tip", el);
    if (opened) el.append(opened.box);
    return [well, tip];
  };

  const show = () => {
    replaceHtml(body, model.get("html"));
    shownAt = performance.now();
    // A dashboard's timeline is drawn where its HTML has a still one.
    if (lanes) body.querySelector(".ipyremote-still")?.replaceChildren(lanes.well, lanes.tip);
    setTimer();
  };

  const showState = () => {
    const state = model.get("state");
    const many = grid !== null;
    cancel.hidden = !ACTIVE.has(state);
    again.hidden = !AGAIN.has(state) || !model.get("lasting");
    cancel.disabled = again.disabled = false;
    cancel.textContent = many ? "Cancel all" : "Cancel";
    again.textContent = many ? "Retry failed" : "Retry";
    // Announced to screen readers when the state changes, and not at every tick.
    status.textContent = state;
  };

  const showCard = () => {
    const card = model.get("card");
    if (!card) {
      opened?.box.remove();
      opened = null;
      return;
    }
    if (!opened) {
      const box = element("div", "ipyremote-opened", el);
      const inner = element("div", "", box);
      const row = element("div", "ipyremote-buttons", box);
      const place = () => grid?.cursor ?? -1;
      const stop = button("Cancel", row, () => send("cancel", place()));
      const repeat = button("Retry", row, () => send("retry", place()));
      button("Close", row, () => send("close"));
      opened = { box, inner, row, stop, repeat };
    }
    replaceHtml(opened.inner, card);
    const state = opened.inner.querySelector("[data-state]")?.dataset.state;
    opened.stop.hidden = !ACTIVE.has(state);
    opened.repeat.hidden = !AGAIN.has(state);
    shownAt = performance.now();
    setTimer();
  };

  // The kernel is gone: nothing will change any more, and no click will be heard.
  const lose = () => {
    lost = true;
    if (timer !== null) clearInterval(timer);
    timer = null;
    for (const row of [buttons, opened?.row]) row?.remove();
    for (const box of el.querySelectorAll(".ipyremote[data-state]")) {
      if (!ACTIVE.has(box.dataset.state) && box.dataset.state !== "live") continue;
      const word = box.dataset.state === "live" ? "ended" : "lost";
      box.dataset.state = status.textContent = word;
      box.querySelector(".ipyremote-word").textContent = word;
      element("div", "ipyremote-detail", box).textContent = "The kernel was restarted, and what happened since is not known here.";
    }
    for (const item of el.querySelectorAll(".ipyremote-items > [data-state]")) {
      if (!ACTIVE.has(item.dataset.state)) continue;
      item.dataset.state = item.querySelector(".ipyremote-word").textContent = "lost";
    }
    grid?.lose();
  };

  const onMessage = (message, buffers) => {
    if (message?.kind === "grid" && buffers?.length) {
      if (!grid) {
        grid = new Grid(...drawing("ipyremote-well"), (place) => lost || send("open", place));
        showState();
      }
      const [buffer] = buffers;
      grid.take(message.form, buffer instanceof DataView ? buffer : new DataView(buffer.buffer ?? buffer));
    } else if (message?.kind === "spans") {
      if (!lanes) lanes = new Lanes(...drawing("ipyremote-timeline"));
      lanes.take(message);
      body.querySelector(".ipyremote-still")?.replaceChildren(lanes.well, lanes.tip);
      setTimer();
    }
  };

  const listeners = [
    ["change:html", show],
    ["change:state", showState],
    ["change:lasting", showState],
    ["change:card", showCard],
    ["msg:custom", onMessage],
    // Only a restart of the kernel changes that of a model that is shown.
    ["comm_live_update", lose],
  ];
  for (const [event, listener] of listeners) model.on(event, listener);
  show();
  showState();
  showCard();
  send("shown");

  return () => {
    if (timer !== null) clearInterval(timer);
    grid?.close();
    lanes?.close();
    for (const [event, listener] of listeners) model.off(event, listener);
    if (!lost) setTimeout(() => farewell(model), FAREWELL_MS);
  };
}

// Says that a view is gone, unless the kernel has closed the widget meanwhile. A view ends mostly because its output
// became static, and then the widget is closed next, and with the last one the front end takes the subshell down that
// would read this: ipykernel prints a warning into the user's cell if that comes first.
function farewell(model) {
  try {
    model.send({ kind: "gone", place: -1 });
  } catch {
    // The kernel's side is closed already.
  }
}

// A widget that lasts is shown in the place of its static output, which is what the notebook's file has.
function last(model, area) {
  let undo = null;
  let host = null;
  let still = null;
  let searches = 0;

  const end = () => {
    clearInterval(timer);
    model.off("destroy", end);
    model.off("comm_live_update", end);
    try {
      undo?.();
    } catch {
      // The kernel's side is closed already.
    }
    if (host?.isConnected && still) host.replaceWith(still);
    undo = host = null;
  };

  const search = () => {
    if (host?.isConnected) return;
    if (host) {
      undo?.();
      undo = host = null;
      searches = 0;
    }
    searches += 1;
    if (searches > SEARCHES || !area.isConnected) {
      end();
      return;
    }
    still = area.querySelector(`.ipyremote[data-view="${model.get("number")}"]`);
    if (!still) return;
    host = document.createElement("div");
    host.classList.add("ipyremote-lasting");
    still.replaceWith(host);
    undo = build(model, host);
  };

  const timer = setInterval(search, SEARCH_MS);
  model.on("destroy", end);
  model.on("comm_live_update", end);
  search();
}

function render({ model, el }) {
  let area = null;
  const find = () => (area ??= el.closest(".jp-OutputArea"));
  const undo = build(model, el);
  const finder = setInterval(() => find() && clearInterval(finder), TICK_MS);
  model.on("change:lasting", find);
  return () => {
    clearInterval(finder);
    model.off("change:lasting", find);
    undo();
    if (model.get("lasting") && area) last(model, area);
  };
}

export default { render };
// For tests/javascript; a page uses the default export alone.
export { Grid, Lanes, durationText };
