// Images on one map or two, drawn on canvases: everything arrived as one message (see packing.py), nothing is asked again.
// `t` is the current frame, the same on all maps; one whose walk has ended earlier rests on its last frame.
// What it shares with the trace player (`unpack`, `marker`, `towards` ...) stands in ../drawing.js and ../keyboard.js, which are put
// before it.

const THUMBNAILS = (globalThis[Symbol.for("explorer.thumbnails")] ??= new Map()); // see sheet.js
const WALK_SECONDS = 4; // a whole walk ...
const SLOWEST = 0.5; // ... but no frame is held longer than this, seconds
const TOO_QUICK = 2500; // ms: an attack that took less is played again, so that it can be watched
const NEAR = { move: 13, centre: 13, point: 10 }; // px between the pointer and what it is on
const FAR = 0.1; // of a map's width: an arrow key with Shift goes at least so far
const LISTED = 100; // more classes than this have no legend and no names on the map
const NO_IMAGE = 65535; // the row of a reference that is no image
const START = { yaw: -0.55, pitch: 0.42 }; // radians: so that the third axis shows
const WHOLE = { scale: 1, x: 0, y: 0 }; // nothing enlarged; the shift in px
const LARGEST = 12; // times enlarged
const ABOVE = 420; // px of the window that the controls above and the slider below a map need
const PAD = { left: 26, right: 8, top: 8, bottom: 26 };

class Cloud {
  constructor(host) {
    this.root = host.querySelector(".cloud");
    this.$ = (selector) => this.root.querySelector(selector);
    this.range = this.$("input[type=range]");
    this.shown = { regions: true, names: true, arrows: true, paths: true };
    this.turn = { ...START };
    this.zoom = { ...WHOLE }; // the same on all maps
    this.only = null; // the one class that is not dimmed
    this.hover = null; // {lane, kind, i, byKey}: what the pointer is on, or a key has come to
    this.t = 0;
    this.playing = this.follow = false;
    this.stale = true;
    this.pending = 0;
    this.lanes = [];
    this.listen();
  }

  destroy() {
    this.abort.abort();
    this.resized.disconnect();
    cancelAnimationFrame(this.pending);
  }

  listen() {
    this.abort = new AbortController();
    const on = (this.on = (target, type, run) => target.addEventListener(type, run, { signal: this.abort.signal }));
    on(this.range, "input", () => this.take(Number(this.range.value)));
    on(this.$(".play"), "click", () => this.act("play"));
    playByKeys(this, this.abort.signal);
    on(this.$(".legend"), "click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const k = Number(button.dataset.k);
      this.only = this.only === k ? null : k;
      for (const each of this.$(".legend").children) each.setAttribute("aria-pressed", String(Number(each.dataset.k) === this.only));
      this.restyle();
    });
    on(this.$(".switches"), "click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const what = button.dataset.show;
      if (what) {
        this.shown[what] = !this.shown[what];
        button.setAttribute("aria-pressed", String(this.shown[what]));
      } else if (button.dataset.zoom) this.enlarge(Number(button.dataset.zoom));
      else {
        this.turn = { ...START };
        this.zoom = { ...WHOLE };
      }
      this.restyle();
    });
    on(window, "resize", () => this.restyle());
    on(matchMedia("(forced-colors: active)"), "change", () => this.restyle());
    on(window, "explorer.thumbnails", () => this.wake());
    this.resized = new ResizeObserver(() => this.restyle());
    this.resized.observe(this.root);
    document.fonts.ready.then(() => this.restyle());
  }

  // ---- what arrives

  receive(message) {
    if (message !== this.message) {
      const { head, arrays } = unpack(message);
      const before = this.data;
      this.message = message;
      this.data = { ...head, ...arrays };
      this.hover = null;
      if (!before || before.lanes.length !== head.lanes.length) this.buildLanes();
      if (before && before.dims !== head.dims) this.zoom = { ...WHOLE };
      if (!before || before.classes.join() !== head.classes.join()) this.buildLegend();
      this.meet(before);
    }
    this.restyle();
  }

  /** What the new message does to where we stand: follow, play once, or stay. */
  meet(before) {
    const { moves, live } = this.data;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const fresh = moves && before?.moves?.name !== moves.name;
    if (!moves) [this.t, this.playing, this.follow] = [0, false, false];
    else if (fresh) {
      this.begun = performance.now();
      this.playing = false;
      this.follow = live;
      this.t = this.last;
      if (!live && before && !calm) this.play();
    } else if (this.follow) {
      this.t = this.last;
      if (!live) {
        this.follow = false;
        if (performance.now() - this.begun < TOO_QUICK && !calm) this.play();
      }
    }
    this.t = Math.min(this.t, this.last);
  }

  get last() {
    return this.data.moves ? Math.max(...this.data.lanes.map((lane) => lane.steps.length)) - 1 : 0;
  }

  frameOf(k) {
    return Math.min(this.t, this.data.lanes[k].steps.length - 1);
  }

  // ---- moving

  /** Whether the page's keys have something to play here. */
  get plays() {
    return Boolean(this.data && this.last);
  }

  act(name) {
    if (name === "play") this.playing ? this.pause() : this.play();
    else this.take({ first: 0, back: this.t - 1, forward: this.t + 1, last: this.last }[name]);
  }

  take(t) {
    this.pause();
    this.t = clamp(t, 0, this.last);
    this.follow = this.data.live && this.t === this.last;
    this.wake();
  }

  play() {
    if (!this.last) return;
    if (this.t === this.last) this.t = 0;
    this.playing = true;
    this.follow = false;
    this.anchor = null;
    this.wake();
  }

  pause() {
    this.playing = false;
    this.wake();
  }

  advance(now) {
    this.anchor ??= { now, t: this.t };
    const hold = 1000 * Math.min(SLOWEST, WALK_SECONDS / this.last);
    this.t = Math.min(this.last, this.anchor.t + Math.floor((now - this.anchor.now) / hold));
    if (this.t === this.last) {
      this.playing = false;
      this.follow = this.data.live;
    }
  }

  // ---- building

  buildLegend() {
    const { classes, colors, shapes } = this.data;
    this.only = null;
    this.$(".legend").replaceChildren(
      ...(classes.length > LISTED ? [] : classes).map((name, k) => {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.k = k;
        button.setAttribute("aria-pressed", "false");
        const words = document.createElement("span");
        words.textContent = name;
        button.append(glyph(shapes[k], colors[k]), words);
        return button;
      })
    );
  }

  buildLanes() {
    this.lanes = this.data.lanes.map((_, k) => {
      const root = document.createElement("div");
      root.className = "lane";
      const title = document.createElement("h2");
      const chart = document.createElement("div");
      chart.className = "chart";
      const [back, front] = [document.createElement("canvas"), document.createElement("canvas")];
      back.dataset.layer = "back";
      front.dataset.layer = "front";
      front.setAttribute("role", "application");
      front.setAttribute("aria-roledescription", "map");
      front.setAttribute("aria-description", "Arrow keys go from mark to mark, with Shift farther");
      front.tabIndex = 0;
      chart.append(back, front);
      root.append(title, chart);
      const lane = { root, title, chart, back, front };
      this.on(front, "pointermove", (event) => this.point(k, event));
      this.on(front, "pointerleave", () => !this.dragging && this.see(null));
      this.on(front, "keydown", (event) => this.key(k, event));
      this.on(front, "blur", () => this.see(null));
      this.on(front, "pointerdown", (event) => this.grab(k, event));
      for (const type of ["pointerup", "pointercancel"]) this.on(front, type, () => this.release());
      this.on(front, "dblclick", (event) => {
        const box = front.getBoundingClientRect();
        this.enlarge(2, [event.clientX - box.left, event.clientY - box.top], k);
        this.restyle();
      });
      return lane;
    });
    this.$(".lanes").replaceChildren(...this.lanes.map((lane) => lane.root));
  }

  /** Enlarge all maps, around a point of map k or around the middle; never below the whole. */
  enlarge(factor, at = null, k = 0) {
    const scale = clamp(this.zoom.scale * factor, 1, LARGEST);
    const [cx, cy] = this.lanes[k].view.centre;
    const [dx, dy] = at ? [at[0] - cx, at[1] - cy] : [0, 0];
    const grown = scale / this.zoom.scale;
    this.zoom = scale === 1 ? { ...WHOLE } : { scale, x: dx + grown * (this.zoom.x - dx), y: dy + grown * (this.zoom.y - dy) };
  }

  // ---- the pointer: a drag turns a map of three axes or moves an enlarged one, else what is under it is shown

  get movable() {
    return this.data.dims === 3 || this.zoom.scale > 1;
  }

  grab(k, event) {
    if (!this.movable) return;
    this.lanes[k].front.setPointerCapture(event.pointerId);
    this.dragging = { x: event.clientX, y: event.clientY, turn: this.turn, zoom: this.zoom };
    for (const lane of this.lanes) lane.chart.dataset.turning = "true";
    this.see(null);
  }

  release() {
    if (this.dragging) this.restyle(); // the names find their places
    this.dragging = null;
    for (const lane of this.lanes) lane.chart.dataset.turning = "false";
  }

  point(k, event) {
    if (this.dragging) {
      const { x, y, turn, zoom } = this.dragging;
      const [dx, dy] = [event.clientX - x, event.clientY - y];
      if (this.data.dims === 3) this.turn = { yaw: turn.yaw + dx / 160, pitch: clamp(turn.pitch + dy / 160, -1.57, 1.57) };
      else this.zoom = { ...zoom, x: zoom.x + dx, y: zoom.y + dy };
      this.restyle();
      return;
    }
    const box = this.lanes[k].front.getBoundingClientRect();
    this.see(this.under(k, event.clientX - box.left, event.clientY - box.top));
  }

  /** Where what can be pointed at is on map k, kind by kind: (n,2) px each. */
  spotsOf(k) {
    const { places, centres, spots } = this.lanes[k];
    return { move: spots, centre: this.shown.names ? centres : null, point: places };
  }

  under(k, x, y) {
    let found = null;
    for (const [kind, list] of Object.entries(this.spotsOf(k))) {
      let least = NEAR[kind] ** 2;
      for (let i = 0; list && i < list.length / 2; i++) {
        if (this.isDim(kind, i)) continue;
        const d = (list[2 * i] - x) ** 2 + (list[2 * i + 1] - y) ** 2;
        if (d < least) [least, found] = [d, { lane: k, kind, i }];
      }
      if (found) return found;
    }
    return found;
  }

  see(found) {
    const [a, b] = [this.hover, found];
    if (a === b || (a && b && a.lane === b.lane && a.kind === b.kind && a.i === b.i)) return;
    this.hover = found;
    this.wake();
  }

  // ---- the keyboard: from mark to mark

  key(k, event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in TOWARD) this.see(this.next(k, event.key, event.shiftKey) ?? this.hover);
    else if (event.key in ACTS && this.plays) this.act(ACTS[event.key]);
    else if (event.key === "Escape") this.see(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** The mark that an arrow key leads to; from nowhere, the first that is there: an attacked image, else a class's centre. */
  next(k, key, far) {
    const marks = Object.entries(this.spotsOf(k)).flatMap(([kind, list]) => {
      const all = Array.from({ length: (list?.length ?? 0) / 2 }, (_, i) => ({ lane: k, kind, i, byKey: true, spot: [list[2 * i], list[2 * i + 1]] }));
      return all.filter(({ i, spot }) => !this.isDim(kind, i) && this.isSeen(k, spot));
    });
    const from = marks.find(({ kind, i }) => this.hover?.lane === k && this.hover.kind === kind && this.hover.i === i);
    if (!from) return marks[0] ?? null;
    const found = towards(key, from.spot, marks.map(({ spot }) => spot), far ? FAR * this.lanes[k].width : 0);
    return found === null ? null : marks[found];
  }

  /** Whether another class than this mark's is looked at alone. */
  isDim(kind, i) {
    return this.only !== null && kind !== "move" && (kind === "centre" ? i : this.data.kinds[i]) !== this.only;
  }

  isSeen(k, [x, y]) {
    const { width, height } = this.lanes[k];
    return x >= PAD.left && x <= width - PAD.right && y >= PAD.top && y <= height - PAD.bottom;
  }

  // ---- drawing, once per animation frame at most

  restyle() {
    this.stale = true;
    this.wake();
  }

  wake() {
    if (!this.pending && this.data) this.pending = requestAnimationFrame((now) => this.tick(now));
  }

  tick(now) {
    this.pending = 0;
    if (!this.root.clientWidth) return; // hidden: laid out when it has a size
    if (this.playing) this.advance(now);
    if (this.stale) this.layOut();
    this.draw();
    if (this.playing) this.wake();
  }

  layOut() {
    const { lanes, dims, moves } = this.data;
    const wide = this.root.clientWidth;
    const beside = wide > 640 ? lanes.length : 1;
    this.root.style.setProperty("--lanes", beside);
    this.root.style.setProperty("--height", `${Math.round(clamp((wide / beside) * (beside > 1 ? 0.84 : 0.62), 340, clamp(window.innerHeight - ABOVE, 340, 680)))}px`);
    this.ratio = window.devicePixelRatio || 1;
    this.ink = inkOf(this.root, this.$(".body"));
    this.$(".transport").dataset.idle = String(this.last === 0);
    const { scale } = this.zoom;
    this.$(".upright").hidden = dims !== 3 && scale === 1;
    this.$("[data-zoom='0.5']").setAttribute("aria-disabled", String(scale === 1));
    this.$("[data-show=regions]").hidden = !lanes.some((lane) => lane.regions);
    for (const name of ["arrows", "paths"]) this.$(`[data-show=${name}]`).hidden = !moves;
    write(this.$(".key"), moves
      ? `○ before the attack   ● now, as the class the model sees${dims === 3 ? "; drag to turn" : ""}`
      : `${dims === 3 ? "drag to turn; " : ""}point at a mark, or go to it by arrow keys, to see its picture${dims === 3 ? "" : "; double-click to enlarge"}`);
    lanes.forEach((lane, k) => {
      const own = this.lanes[k];
      write(own.title, lane.title);
      own.chart.dataset.movable = String(this.movable);
      own.front.setAttribute("aria-label", `Map of ${lane.title}: ${this.data.kinds.length} reference images by ${lane.axes.join(" and ")}`);
      own.width = own.chart.clientWidth;
      own.height = own.chart.clientHeight;
      own.view = this.viewOf(k);
      own.places = this.placed(k, this.data[`points${k}`]);
      own.centres = this.placed(k, this.data[`centroids${k}`]);
      own.walked = moves && this.placed(k, this.data[`path${k}`]);
      own.names = this.shown.names ? this.namesOf(k) : [];
      this.drawBack(k);
    });
    this.stale = false;
  }

  /** From the map to the canvas: the same scale on all axes. */
  viewOf(k) {
    const { dims, moves } = this.data;
    const { width, height } = this.lanes[k];
    const low = Array(dims).fill(Infinity);
    const high = Array(dims).fill(-Infinity);
    for (const list of [this.data[`points${k}`], moves ? this.data[`path${k}`] : []]) {
      for (let i = 0; i < list.length; i++) {
        low[i % dims] = Math.min(low[i % dims], list[i]);
        high[i % dims] = Math.max(high[i % dims], list[i]);
      }
    }
    const middle = low.map((v, j) => (v + high[j]) / 2);
    const [w, h] = [width - PAD.left - PAD.right - 20, height - PAD.top - PAD.bottom - 20];
    const centre = [PAD.left + 10 + w / 2, PAD.top + 10 + h / 2];
    if (dims === 2) {
      return { middle, centre, unit: Math.min(w / (high[0] - low[0] || 1), h / (high[1] - low[1] || 1)) };
    }
    let radius = 0;
    for (const list of [this.data[`points${k}`], moves ? this.data[`path${k}`] : []]) {
      for (let i = 0; i < list.length; i += 3) radius = Math.max(radius, Math.hypot(...middle.map((v, j) => list[i + j] - v)));
    }
    return { middle, centre, unit: Math.min(w, h) / 2 / (radius || 1), radius };
  }

  /** (n,d) values of the map as (n,2) pixels; with three axes seen from where the reader has turned it. */
  placed(k, list) {
    const { dims } = this.data;
    const { middle, centre, unit } = this.lanes[k].view;
    const { scale, ...shift } = this.zoom;
    const n = list.length / dims;
    const out = new Float32Array(2 * n);
    const [cy, sy, cp, sp] = [Math.cos(this.turn.yaw), Math.sin(this.turn.yaw), Math.cos(this.turn.pitch), Math.sin(this.turn.pitch)];
    const depth = dims === 3 ? new Float32Array(n) : null;
    for (let i = 0; i < n; i++) {
      let x = list[dims * i] - middle[0];
      let y = list[dims * i + 1] - middle[1];
      if (dims === 3) {
        const z = list[3 * i + 2] - middle[2];
        const [flat, away] = [cy * x + sy * z, cy * z - sy * x];
        depth[i] = sp * y + cp * away; // larger is nearer
        [x, y] = [flat, cp * y - sp * away];
      }
      out[2 * i] = centre[0] + scale * unit * x + shift.x;
      out[2 * i + 1] = centre[1] - scale * unit * y + shift.y;
    }
    out.depth = depth;
    return out;
  }

  /** A class's mark, drawn once and stamped often. */
  stamp(k, r) {
    const side = Math.ceil(3.2 * r + 2);
    const canvas = new OffscreenCanvas(1, 1);
    const pen = fit(canvas, side, side, this.ratio);
    const path = new Path2D();
    marker(path, this.data.shapes[k], side / 2, side / 2, r);
    pen.fillStyle = this.data.colors[k];
    pen.fill(path);
    return { canvas, side };
  }

  drawBack(k) {
    const { dims, kinds, classes, moves, lanes } = this.data;
    const own = this.lanes[k];
    const { width, height, places, centres } = own;
    const pen = fit(own.back, width, height, this.ratio);
    if (dims === 2 && lanes[k].regions && this.shown.regions) this.drawRegions(k, pen);
    pen.strokeStyle = this.ink.line;
    pen.lineWidth = 1;
    pen.strokeRect(PAD.left + 0.5, PAD.top + 0.5, width - PAD.left - PAD.right - 1, height - PAD.top - PAD.bottom - 1);
    if (dims === 2) this.drawTitles(k, pen);

    this.clipTo(k, pen);
    const size = clamp(Math.sqrt((width * height) / Math.max(kinds.length, 200)) / 4.6, 2.4, 4.6) * Math.min(1.8, this.zoom.scale ** 0.4);
    const stamps = classes.map((_, c) => this.stamp(c, size));
    const order = [...kinds.keys()];
    if (places.depth) order.sort((a, b) => places.depth[a] - places.depth[b]);
    const rest = moves ? 0.42 : 0.78;
    for (const bright of this.only === null ? [true] : [false, true]) {
      pen.globalAlpha = this.only === null ? rest : bright ? 0.9 : 0.07;
      for (const i of order) {
        if (this.only !== null && (kinds[i] === this.only) !== bright) continue;
        const { canvas, side } = stamps[kinds[i]];
        pen.drawImage(canvas, places[2 * i] - side / 2, places[2 * i + 1] - side / 2, side, side);
      }
    }
    pen.globalAlpha = 1;
    if (dims === 3) this.drawAxes(k, pen);
    if (this.shown.names) this.drawCentres(k, pen, centres);
    pen.restore();
  }

  /** From here to `restore`, draw inside the frame only. */
  clipTo(k, pen) {
    const { width, height } = this.lanes[k];
    pen.save();
    pen.beginPath();
    pen.rect(PAD.left, PAD.top, width - PAD.left - PAD.right, height - PAD.top - PAD.bottom);
    pen.clip();
  }

  drawRegions(k, pen) {
    const { colors } = this.data;
    const { regions: s, extent } = this.data.lanes[k];
    const kinds = this.data[`regions${k}`];
    const { middle, centre, unit } = this.lanes[k].view;
    const image = new ImageData(s, s);
    const bytes = colors.map((color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
    for (let y = 0; y < s; y++) {
      for (let x = 0; x < s; x++) image.data.set([...bytes[kinds[(s - 1 - y) * s + x]], 255], 4 * (y * s + x)); // the top row last
    }
    const small = new OffscreenCanvas(s, s);
    small.getContext("2d").putImageData(image, 0, 0);
    const [x0, x1, y0, y1] = extent;
    const [dx, dy] = [(x1 - x0) / (s - 1), (y1 - y0) / (s - 1)];
    const [each, shift] = [unit * this.zoom.scale, this.zoom];
    const left = centre[0] + each * (x0 - dx / 2 - middle[0]) + shift.x;
    const top = centre[1] - each * (y1 + dy / 2 - middle[1]) + shift.y;
    this.clipTo(k, pen);
    pen.globalAlpha = 0.15;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, left, top, each * (x1 - x0 + dx), each * (y1 - y0 + dy));
    pen.restore();
  }

  drawTitles(k, pen) {
    const { width, height } = this.lanes[k];
    const [across, up] = this.data.lanes[k].axes;
    pen.font = this.ink.font(400, 1);
    pen.fillStyle = this.ink.muted;
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    pen.fillText(across, (PAD.left + width - PAD.right) / 2, height - 7);
    pen.save();
    pen.translate(17, (PAD.top + height - PAD.bottom) / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(up, 0, 0);
    pen.restore();
  }

  /** Where the three axes end on the canvas, and their names there: {name,tip,x,y,w,h}; `from` is where they meet. */
  axesOf(k, pen) {
    const { width, height, view } = this.lanes[k];
    const { middle, radius } = view;
    const { axes } = this.data.lanes[k];
    const ends = axes.map((_, j) => middle.map((v, i) => v + (i === j ? 0.72 * radius : 0)));
    const spots = this.placed(k, new Float32Array([...middle, ...ends.flat()]));
    const [from, ...tips] = [0, 1, 2, 3].map((i) => [spots[2 * i], spots[2 * i + 1]]);
    pen.font = this.axisFont;
    const names = axes.map((name, j) => {
      const [x, y] = tips[j];
      const w = pen.measureText(name).width + 8;
      const beside = y + (y < from[1] ? -11 : 12);
      return {
        name, tip: tips[j], w, h: 1.3 * this.ink.size,
        x: clamp(x, PAD.left + w / 2, width - PAD.right - w / 2), y: clamp(beside, 18, height - PAD.bottom - 12),
      };
    });
    return { from, names };
  }

  get axisFont() {
    return this.ink.font(600, 0.95);
  }

  drawAxes(k, pen) {
    const { from, names } = this.axesOf(k, pen);
    pen.strokeStyle = this.ink.muted;
    pen.lineWidth = 1.5;
    pen.font = this.axisFont;
    pen.textBaseline = "middle";
    pen.textAlign = "center";
    for (const { name, tip, x, y } of names) {
      stroke(pen, [from, tip]);
      haloed(pen, name, x, y, this.ink.muted, this.ink.page);
    }
  }

  /** Where the classes' names stand: near their centres; none over another, nor over an axis's, unless the map is being turned. */
  namesOf(k) {
    const { classes, dims } = this.data;
    const { width, height, centres, front } = this.lanes[k];
    const pen = front.getContext("2d");
    pen.font = this.ink.font(700, 1);
    const frame = { left: PAD.left, top: PAD.top, right: width - PAD.right, bottom: height - PAD.bottom };
    const labels = classes.map((name, c) => ({
      name, k: c, cx: centres[2 * c], cy: centres[2 * c + 1], x: centres[2 * c], y: centres[2 * c + 1] - 1.25 * this.ink.size,
      w: pen.measureText(name).width + 10, h: 1.35 * this.ink.size,
    })).filter((l) => this.named(k, l.k) && l.cx > frame.left && l.cx < frame.right && l.cy > frame.top && l.cy < frame.bottom);
    if (dims === 3 && this.dragging) return labels; // pushed apart they would jump while it turns
    const marks = labels.map((l) => ({ x: l.cx, y: l.cy, w: 16, h: 16 }));
    return spread(labels, dims === 3 ? [...marks, ...this.axesOf(k, pen).names] : marks, frame);
  }

  /** Whether a class has its name on map k: of more than can be listed only those that play a part in the attack. */
  named(k, c) {
    const { classes, labels, moves } = this.data;
    return classes.length <= LISTED || Boolean(moves && (labels.includes(c) || this.data[`predicted${k}`].includes(c)));
  }

  drawCentres(k, pen, centres) {
    const { classes, colors, shapes } = this.data;
    classes.forEach((_, c) => {
      if (!this.named(k, c)) return;
      pen.globalAlpha = this.only === null || this.only === c ? 1 : 0.25;
      const path = new Path2D();
      marker(path, shapes[c], centres[2 * c], centres[2 * c + 1], 7);
      this.outlined(pen, path, colors[c]);
    });
    pen.globalAlpha = 1;
  }

  drawNames(k, pen) {
    pen.font = this.ink.font(700, 1);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    for (const l of this.lanes[k].names) {
      pen.globalAlpha = this.only === null || this.only === l.k ? 1 : 0.25;
      if (Math.hypot(l.x - l.cx, l.y - l.cy) > 2.2 * this.ink.size) {
        pen.lineWidth = 1;
        pen.strokeStyle = this.ink.muted;
        stroke(pen, [[l.cx, l.cy], [l.x, l.y]]);
      }
      haloed(pen, l.name, l.x, l.y, this.ink.text, this.ink.page, 5);
    }
    pen.globalAlpha = 1;
  }

  /** A mark in its class's colour, with a rim that parts it from whatever lies under it. */
  outlined(pen, path, color) {
    pen.lineJoin = "round";
    pen.lineWidth = 5;
    pen.strokeStyle = this.ink.page;
    pen.stroke(path);
    pen.lineWidth = 2.4;
    pen.strokeStyle = this.ink.text;
    pen.stroke(path);
    pen.fillStyle = color;
    pen.fill(path);
  }

  draw() {
    const { moves, live } = this.data;
    this.data.lanes.forEach((_, k) => this.drawFront(k));
    this.showTip();
    this.range.max = this.last;
    this.range.value = this.t;
    this.root.dataset.frame = this.t;
    this.root.dataset.frames = this.last + 1;
    const longest = moves ? this.data.lanes.find((lane) => lane.steps.length === this.last + 1) : null;
    write(this.$(".step"), longest ? `${longest.steps[this.t]}${live && this.t === this.last ? " …" : ""}` : "");
    this.range.setAttribute("aria-valuetext", longest ? longest.steps[this.t] : "");
    const play = this.$(".play");
    play.setAttribute("aria-label", this.playing ? "Pause" : "Play");
    play.querySelector("path").setAttribute("d", this.playing ? PLAYBACK.pause : PLAYBACK.play);
  }

  drawFront(k) {
    const { moves } = this.data;
    const own = this.lanes[k];
    const pen = fit(own.front, own.width, own.height, this.ratio);
    own.spots = null;
    this.clipTo(k, pen);
    if (moves) this.drawMoves(k, pen);
    this.drawNames(k, pen);
    if (this.hover) this.drawRing(k, pen);
    pen.restore();
  }

  /** Around what the pointer is on: the same image on all maps. */
  drawRing(k, pen) {
    const { kind, i } = this.hover;
    const list = this.spotsOf(k)[kind];
    if (!list) return;
    pen.beginPath();
    pen.arc(list[2 * i], list[2 * i + 1], kind === "point" ? 8 : 12, 0, 2 * Math.PI);
    pen.lineWidth = 5;
    pen.strokeStyle = this.ink.page;
    pen.stroke();
    pen.lineWidth = 2.5;
    pen.strokeStyle = this.ink.text;
    pen.stroke();
  }

  drawMoves(k, pen) {
    const { moves, shapes, colors, labels } = this.data;
    const own = this.lanes[k];
    const { n } = moves;
    const t = this.frameOf(k);
    const end = this.data.lanes[k].steps.length - 1;
    const at = (frame, i) => [own.walked[2 * (frame * n + i)], own.walked[2 * (frame * n + i) + 1]];
    own.spots = own.walked.subarray(2 * t * n, 2 * (t + 1) * n);
    const [attacked, predicted, off] = [this.data[`attacked${k}`], this.data[`predicted${k}`], this.data[`off${k}`]];
    const few = n <= 12;
    pen.lineJoin = pen.lineCap = "round";
    for (let i = 0; i < n; i++) {
      if (!attacked[i]) continue;
      const walked = [];
      for (let frame = 0; frame <= t; frame++) walked.push(at(frame, i));
      if (this.shown.paths && t) {
        pen.globalAlpha = few ? 1 : 0.55;
        pen.strokeStyle = this.ink.page;
        pen.lineWidth = few ? 5 : 3;
        stroke(pen, walked);
        pen.strokeStyle = this.ink.text;
        pen.lineWidth = few ? 2.2 : 1.1;
        stroke(pen, walked);
      }
      if (this.shown.arrows && t) this.drawArrow(pen, at(0, i), at(t, i), few);
    }
    pen.globalAlpha = 1;
    const r = few ? 8 : 6;
    for (let i = 0; i < n; i++) {
      if (!t) continue;
      pen.beginPath();
      pen.arc(...at(0, i), 0.5 * r, 0, 2 * Math.PI);
      pen.fillStyle = this.ink.page;
      pen.fill();
      pen.lineWidth = 2;
      pen.strokeStyle = colors[labels[i]];
      pen.stroke();
    }
    for (let i = 0; i < n; i++) {
      const seen = predicted[t * n + i];
      const path = new Path2D();
      marker(path, shapes[seen], ...at(t, i), attacked[i] ? r : 0.6 * r);
      this.outlined(pen, path, colors[seen]);
      if (off?.[i] && t === end) {
        pen.beginPath();
        pen.arc(...at(t, i), 1.9 * r, 0, 2 * Math.PI);
        pen.setLineDash([3, 3]);
        pen.lineWidth = 2;
        pen.strokeStyle = this.ink.warn;
        pen.stroke();
        pen.setLineDash([]);
      }
    }
  }

  drawArrow(pen, from, to, few) {
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    const length = Math.hypot(dx, dy);
    if (length < 14) return;
    const [ux, uy] = [dx / length, dy / length];
    const tip = [to[0] - 9 * ux, to[1] - 9 * uy]; // short of the mark
    const head = few ? 9 : 6;
    pen.globalAlpha = few ? 0.9 : 0.5;
    pen.strokeStyle = this.ink.accent;
    pen.lineWidth = few ? 2.5 : 1.6;
    stroke(pen, [from, tip]);
    pen.beginPath();
    pen.moveTo(...tip);
    pen.lineTo(tip[0] - head * ux + 0.5 * head * uy, tip[1] - head * uy - 0.5 * head * ux);
    pen.lineTo(tip[0] - head * ux - 0.5 * head * uy, tip[1] - head * uy + 0.5 * head * ux);
    pen.closePath();
    pen.fillStyle = this.ink.accent;
    pen.fill();
    pen.globalAlpha = 1;
  }

  // ---- what the pointer is on

  showTip() {
    const tip = this.$(".tip");
    const list = this.hover && this.spotsOf(this.hover.lane)[this.hover.kind];
    tip.hidden = !list;
    if (tip.hidden) return write(this.$(".said"), "");
    const { lane: k, kind, i, byKey } = this.hover;
    const { classes, kinds, rows, picks, labels, moves } = this.data;
    const own = this.lanes[k];
    const pictures = [];
    const words = document.createElement("div");
    const line = (tag, text) => {
      const node = document.createElement(tag);
      node.textContent = text;
      words.append(node);
    };
    if (kind === "centre") {
      line("b", classes[i]);
      line("span", "the centre of this class");
    } else if (kind === "point") {
      pictures.push(this.thumb(rows[i]));
      line("b", classes[kinds[i]]);
      line("span", rows[i] === NO_IMAGE ? "the class's direction in the last layer" : `reference image ${rows[i]}`);
    } else {
      const t = this.frameOf(k);
      const seen = this.data[`predicted${k}`][t * moves.n + i];
      pictures.push(this.thumb(picks[i]));
      if (this.data[`images${k}`]) pictures.push(this.result(k, i));
      line("b", seen === labels[i] ? classes[seen] : `${classes[labels[i]]} → seen as ${classes[seen]}`);
      line("span", `picture ${picks[i]}${pictures[1] ? ": before, and the result" : ""}`);
      if (!this.data[`attacked${k}`][i]) line("span", "wrong before any attack: left alone");
      if (this.data[`off${k}`]?.[i]) line("span", "in the end off the map, far from all others");
    }
    tip.replaceChildren(...pictures.filter(Boolean), words);
    write(this.$(".said"), byKey ? [...words.children].map((each) => each.textContent).join(", ") : ""); // read aloud
    const body = this.$(".body").getBoundingClientRect();
    const box = own.front.getBoundingClientRect();
    const [x, y] = [box.left - body.left + list[2 * i], box.top - body.top + list[2 * i + 1]];
    const [w, h] = [tip.offsetWidth, tip.offsetHeight];
    tip.style.left = `${clamp(x + 18 + w > body.width ? x - w - 18 : x + 18, 0, Math.max(0, body.width - w))}px`;
    tip.style.top = `${clamp(y - h / 2, 0, Math.max(0, body.height - h))}px`;
  }

  thumb(row) {
    const sheet = THUMBNAILS.get(this.data.dataset);
    if (!sheet || row === NO_IMAGE) return null;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = sheet.size;
    const [wide, tall] = sheet.tile;
    const [column, line] = [row % sheet.columns, Math.floor(row / sheet.columns)];
    canvas.getContext("2d").drawImage(sheet.picture, column * wide, line * tall, ...sheet.size, 0, 0, ...sheet.size);
    return canvas;
  }

  /** The image an attack ended with. */
  result(k, i) {
    const [height, width] = this.data.moves.size;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const pixels = new ImageData(width, height);
    const from = this.data[`images${k}`].subarray(3 * width * height * i);
    for (let p = 0; p < width * height; p++) pixels.data.set([from[3 * p], from[3 * p + 1], from[3 * p + 2], 255], 4 * p);
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }
}

export default ({ data, parentElement }) => living(parentElement, (place) => new Cloud(place), data);
