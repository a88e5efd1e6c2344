// The trace player. One current frame `t`; every view is drawn from it, at most once per animation frame.
// Nothing here talks to the server: the whole walk arrived as one message (see packing.py and ../messages.py).
// What it shares with other pictures (`unpack`, `marker`, `fit` ...) stands in ../drawing.js, which is put before it.
// Players of one group stand at the same step, `at`; one whose walk has ended earlier rests on its last frame.

const PLOT = { left: 44, right: 14, top: 8, bottom: 24 }; // margin chart, px; the slider's track follows left and right
const TOO_QUICK = 2500; // ms: an attack that took less is played again, at a speed that can be watched
const WALK_SECONDS = 3; // a whole walk at normal speed ...
const SLOWEST = 0.5; // ... but no frame is held longer than this, seconds
const LARGEST_IMAGE = 300; // px
const MANY = 16; // more classes than this: the bars scroll
const ICONS = {
  ...PLAYBACK,
  holds: "M12 3l7.5 2.8v5.4c0 4.6-3.1 8-7.5 9.8-4.4-1.8-7.5-5.2-7.5-9.8V5.8zM8.5 12l2.6 2.6 4.6-5",
  wrong: "M12 3.5L21.5 20h-19zM12 9.5v5M12 17.3v.2",
  fooled: "M12 2.8a9.2 9.2 0 1 0 0 18.4 9.2 9.2 0 0 0 0-18.4zM8.4 8.4l7.2 7.2M15.6 8.4l-7.2 7.2",
};

const GROUPS = (globalThis[Symbol.for("explorer.trace-players")] ??= new Map()); // name -> its players; this file may be loaded once a player

// ---------------------------------------------------------------- the message

function walkOf(bytes) {
  const { head, arrays } = unpack(bytes);
  return { ...head, ...arrays, height: head.size[0], width: head.size[1], channels: head.size[2] };
}

function isPrefix(short, long) {
  if (short.length > long.length) return false;
  for (let i = 0; i < short.length; i++) if (short[i] !== long[i] && short[i] === short[i]) return false;
  return true;
}

/** Does `next` show the same walk as `walk`, as far as that had come? */
function continues(walk, next) {
  return (
    walk.label === next.label && walk.target === next.target && walk.classes.join() === next.classes.join() &&
    isPrefix(walk.logits, next.logits) && isPrefix(walk.image, next.image)
  );
}

// ---------------------------------------------------------------- words

function percent(p, digits = 1) {
  if (!Number.isFinite(p)) return "–";
  const least = 0.5 * 10 ** -(digits + 2);
  const step = (10 ** -digits).toFixed(digits);
  if (p > 1 - least && p < 1) return `>${(100 - step).toFixed(digits)} %`;
  if (p < least && p > 0) return `<${step} %`;
  return `${(100 * p).toFixed(digits)} %`;
}

/** Frame 0 is the original, frame 1 where the attack starts, then one per step. */
function stepWords(walk, t) {
  const steps = Math.max(walk.planned - 2, 0);
  if (t === 0) return "original image";
  if (t === 1) return steps ? `start, 0 of ${steps} steps` : "start";
  return `step ${t - 1} of ${steps}`;
}

function verdict(walk, t) {
  const wrong = walk.predicted[t] !== walk.label;
  const how = walk.transfer && t > 0 ? " (transfer)" : ""; // the image was made on another model
  const before = walk.transfer && walk.reached[0]; // nothing had to be transferred
  if (walk.reached[t]) return t === 0 || before ? ["wrong", "wrong from the start"] : ["fooled", `fooled${how}`];
  if (!wrong) return ["holds", `holds${how}`];
  return ["wrong", walk.target === null ? "wrong" : `wrong, not the target${how}`];
}

// ---------------------------------------------------------------- drawing

function niceTicks(lo, hi, count) {
  const rough = (hi - lo) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= 0.75 * rough);
  const ticks = [];
  for (let v = Math.ceil(lo / step) * step; v <= hi + 1e-9 * step; v += step) ticks.push(Math.abs(v) < 1e-9 * step ? 0 : v);
  return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

// ---------------------------------------------------------------- the player

class Player {
  constructor(host) {
    this.root = host.querySelector(".player");
    this.$ = (selector) => this.root.querySelector(selector);
    this.$$ = (selector) => [...this.root.querySelectorAll(selector)];
    this.body = this.$(".body");
    this.range = this.$("input[type=range]");
    this.canvas = Object.fromEntries(this.$$("canvas").map((c) => [c.dataset.chart ?? c.dataset.view, c]));
    this.message = null;
    this.walk = null;
    this.group = null;
    this.at = 0; // where the group stands
    this.t = 0; // where this walk does: there, or on its last frame
    this.drawn = -1;
    this.playing = false;
    this.leads = false; // keeps the time while the group plays
    this.led = false; // was last moved by another player
    this.dragging = false;
    this.follow = false; // keep to the newest frame of a running attack
    this.wish = false; // play once as soon as the player is in sight
    this.inSight = false;
    this.speed = 1;
    this.scale = "probabilities";
    this.chosen = "map"; // or "other": which of the maps
    this.stale = true; // sizes, colours or data changed: everything must be laid out again
    this.pending = 0;
    this.listen();
  }

  destroy() {
    this.join(null);
    this.abort.abort();
    this.resized.disconnect();
    this.seen.disconnect();
    cancelAnimationFrame(this.pending);
  }

  listen() {
    this.abort = new AbortController();
    const on = (target, type, run, options = {}) =>
      target.addEventListener(type, run, { ...options, signal: this.abort.signal });
    on(this.range, "input", () => this.take(Number(this.range.value)));
    on(this.range, "pointerdown", () => this.hold(true));
    for (const type of ["pointerup", "pointercancel", "change"]) on(this.range, type, () => this.hold(false));
    on(this.root, "click", (event) => this.click(event));
    on(this.root, "keydown", (event) => this.key(event));
    for (const strip of [this.canvas.margin, this.$(".slider")]) { // the strip: a press just beside the slider counts, too
      const move = (event) => this.take(this.frameAt(event.clientX - strip.getBoundingClientRect().left));
      on(strip, "pointerdown", (event) => {
        if (event.target === this.range) return; // drags itself
        strip.setPointerCapture(event.pointerId);
        this.hold(true);
        move(event);
      });
      on(strip, "pointermove", (event) => this.dragging && strip.hasPointerCapture(event.pointerId) && move(event));
      for (const type of ["pointerup", "pointercancel"]) on(strip, type, () => this.hold(false));
    }
    on(window, "resize", () => this.restyle()); // also told when the zoom changes
    on(document, "pointerdown", (event) => {
      const inside = event.composedPath();
      for (const tip of this.$$("details[open]")) if (!inside.includes(tip)) tip.open = false;
    });
    this.resized = new ResizeObserver(() => this.restyle());
    for (const box of [this.root, ...this.$$(".chart")]) this.resized.observe(box);
    this.seen = new IntersectionObserver(([entry]) => {
      this.inSight = entry.isIntersecting;
      this.startIfWished();
    }, { threshold: 0.25 });
    this.seen.observe(this.root);
    document.fonts.ready.then(() => this.restyle());
  }

  // ---- what arrives from the server

  receive(message) {
    if (message !== this.message) {
      const next = walkOf(message);
      const same = this.walk && this.walk.group === next.group && continues(this.walk, next);
      this.join(next.group);
      this.message = message;
      this.walk = next;
      if (same) this.goOn(next);
      else this.begin(next);
      for (const mate of this.mates) mate.wake(); // the longest walk sets the time axis of all
    }
    this.restyle(); // the theme may be what changed
  }

  begin(walk) {
    const last = walk.frames - 1;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const mate = this.mates.find((other) => other !== this);
    this.playing = this.leads = this.dragging = false;
    if (mate) {
      for (const name of ["playing", "follow", "wish", "begun"]) this[name] = mate[name];
      this.choose("speed", mate.speed);
      this.choose("scale", mate.scale);
      this.choose("ground", mate.chosen);
      this.led = true;
      this.place(this.follow ? last : mate.at);
    } else {
      this.follow = walk.live;
      this.begun = performance.now();
      this.wish = !walk.live && walk.autoplay && !calm && last > 0;
      const rest = walk.group || !calm || !walk.autoplay ? last : (walk.first_reached ?? last);
      this.place(walk.live ? last : this.wish ? 0 : rest);
    }
    this.buildBars();
    this.startIfWished();
  }

  goOn(walk) {
    this.place(this.follow ? this.last : this.at);
    if (walk.live) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const followed = this.follow; // nobody took the slider
    this.follow = false;
    if (followed && performance.now() - this.begun < TOO_QUICK && walk.autoplay && !calm) { // nobody could look
      for (const mate of this.mates) Object.assign(mate, { follow: false, wish: true }).place(0);
      this.startIfWished();
    } else if (followed) {
      for (const mate of this.mates) if (!mate.walk.live) mate.place(this.end);
    }
  }

  startIfWished() {
    if (this.wish && this.inSight) this.play();
  }

  // ---- in step with others

  join(name) {
    if (name === this.group) return;
    if (this.group !== null) {
      if (this.leads) this.pause();
      const left = GROUPS.get(this.group);
      left.delete(this);
      if (!left.size) GROUPS.delete(this.group);
    }
    this.group = name;
    if (name === null) return;
    if (!GROUPS.has(name)) GROUPS.set(name, new Set());
    GROUPS.get(name).add(this);
    this.walk = null; // until it has begun, it is no mate
  }

  /** All players that move with this one, itself among them. */
  get mates() {
    return this.group === null ? [this] : [...GROUPS.get(this.group)].filter((player) => player.walk);
  }

  /** The group's last frame. */
  get end() {
    return Math.max(...this.mates.map((mate) => mate.last));
  }

  /** Number of frames the time axis has room for: all planned ones while the attack runs. */
  get span() {
    return Math.max(...this.mates.map(({ walk }) => Math.max(walk.live ? walk.planned : walk.frames, 2) - 1));
  }

  // ---- moving through the walk

  get last() {
    return this.walk.frames - 1;
  }

  place(at) {
    this.at = clamp(Math.round(at), 0, this.end);
    this.t = Math.min(this.at, this.last);
  }

  /** The user chose a frame. */
  take(at) {
    this.pause();
    const newest = clamp(Math.round(at), 0, this.end) === this.end;
    for (const mate of this.mates) {
      mate.place(at);
      mate.follow = newest && mate.walk.live;
      mate.led = mate !== this;
      mate.range.value = mate.at;
      mate.wake();
    }
  }

  hold(dragging) {
    this.dragging = dragging;
    if (dragging) this.pause();
    this.wake(true);
  }

  play() {
    this.wish = false;
    const { end } = this;
    if (!end) return;
    const from = this.at === end ? 0 : this.at;
    for (const mate of this.mates) {
      Object.assign(mate, { wish: false, follow: false, playing: true, leads: mate === this, led: mate !== this });
      mate.place(from);
      mate.wake(true);
    }
    this.anchor = null;
  }

  pause() {
    for (const mate of this.mates) {
      mate.wish = false;
      if (!mate.playing) continue;
      mate.playing = mate.leads = false;
      mate.wake(true);
    }
  }

  advance(now) {
    const hold = (Math.min(SLOWEST, WALK_SECONDS / this.span) * 1000) / this.speed;
    this.anchor ??= { now, at: this.at };
    const { end } = this;
    const at = Math.min(end, this.anchor.at + Math.floor((now - this.anchor.now) / hold));
    for (const mate of this.mates) {
      if (at !== mate.at) mate.place(at);
      if (at === end) mate.follow = mate.walk.live;
      mate.wake();
    }
    if (at === end) this.pause();
  }

  act(name) {
    if (name === "play") this.playing ? this.pause() : this.play();
    else this.take({ first: 0, back: this.at - 1, forward: this.at + 1, last: this.end }[name]);
  }

  /** `name` is speed, scale or ground. */
  choose(name, value) {
    if (name === "ground") {
      this.chosen = value;
      this.stale = true;
    } else this[name] = value;
    this.anchor = null;
    for (const button of this.$$(`[data-${name}]`)) button.setAttribute("aria-pressed", String(button.dataset[name] === String(value)));
    this.wake(true);
  }

  click(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const { act, speed, scale, ground } = button.dataset;
    if (act) this.act(act);
    if (speed) for (const mate of this.mates) mate.choose("speed", Number(speed));
    if (scale) for (const mate of this.mates) mate.choose("scale", scale);
    if (ground) for (const mate of this.mates) mate.choose("ground", ground);
    if (event.detail) this.root.focus({ preventScroll: true }); // by pointer: leave space and arrows to the player
    this.wake(true);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      const tip = this.$("details[open]");
      if (!tip) return;
      tip.open = false;
      tip.firstElementChild.focus();
    } else if (event.key === " ") {
      if (event.target.closest("button, summary")) return event.stopPropagation();
      this.act("play");
    } else {
      const act = { ArrowLeft: "back", ArrowDown: "back", ArrowRight: "forward", ArrowUp: "forward", Home: "first", End: "last" }[event.key];
      if (!act) return;
      this.act(act);
    }
    event.preventDefault();
    event.stopPropagation();
  }

  // ---- drawing, once per animation frame at most

  restyle() {
    this.stale = true;
    this.wake();
  }

  wake(force = false) {
    if (force) this.drawn = -1;
    if (!this.pending && this.walk) this.pending = requestAnimationFrame((now) => this.tick(now));
  }

  tick(now) {
    this.pending = 0;
    if (!this.walk) return;
    if (this.leads) this.advance(now);
    if (this.stale || this.span !== this.axis) this.layOut();
    if (this.at !== this.drawn) this.draw();
    if (this.leads) this.wake();
  }

  layOut() {
    const walk = this.walk;
    if (!this.root.clientWidth) return; // hidden: laid out when it has a size
    this.body.dataset.empty = "false";
    this.axis = this.span;
    this.compact = getComputedStyle(this.$(".map")).display === "none"; // a narrow lane: the style sheet decides
    this.ratio = window.devicePixelRatio || 1;
    this.ink = inkOf(this.root, this.body);
    this.brief = this.$(".bars").clientWidth < 25 * this.ink.size; // no room for words behind the bars
    this.writeFixedWords();
    this.sizeImages();
    this.root.style.setProperty("--plot-left", `${PLOT.left}px`);
    this.root.style.setProperty("--plot-right", `${PLOT.right}px`);
    this.range.max = this.axis;
    this.layOutMargin();
    this.placeTick();
    if (walk.map && !this.compact) this.layOutMap();
    else this.clearMap();
    this.stale = false;
    this.drawn = -1;
  }

  writeFixedWords() {
    const walk = this.walk;
    const title = this.$(".title");
    title.textContent = walk.title;
    title.hidden = !walk.title;
    const factor = walk.amplification;
    this.$(".factor").textContent = factor === null ? "no change yet" : `shown × ${factor}`;
    this.$(".running").hidden = !walk.live;
    this.$(".loss-name").textContent = walk.transfer ? "same loss, here" : "attack's loss";
    this.$(".room .tags").textContent = this.tags(walk.target === null ? [this.own, "◀ model"] : ["◎ target", "◀ model"]);
    this.say("original", 0);
    this.canvas.original.setAttribute("aria-label", `Original image: ${walk.classes[walk.label]}`);
    this.canvas.delta.setAttribute("aria-label", "Signed perturbation, amplified around grey");
    this.canvas.map.setAttribute("aria-label", "Path of the image through the map of the model's features");
  }

  say(view, t) {
    const { classes, predicted, probabilities } = this.walk;
    const k = predicted[t];
    this.$(`[data-says="${view}"]`).textContent = `${classes[k]} ${percent(probabilities[t * classes.length + k], 0)}`;
  }

  sizeImages() {
    const { width, height } = this.walk;
    const [shown, between] = this.compact ? [2, 0.8] : [3, 2.8]; // images; room for what stands between them
    const room = Math.min((this.$(".trio").clientWidth - between * this.ink.size) / shown, LARGEST_IMAGE);
    const scale = Math.max(1, Math.floor((room * this.ratio) / Math.max(width, height)));
    for (const name of ["original", "delta", "image"]) {
      const canvas = this.canvas[name];
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      canvas.style.width = `${(width * scale) / this.ratio}px`;
      canvas.style.height = `${(height * scale) / this.ratio}px`;
    }
    this.pixels = new ImageData(width, height);
    this.paint("original", this.walk.image, 0);
  }

  /** One frame of (T,H,W,C) bytes onto a canvas of exactly as many pixels; the browser enlarges it by a whole number. */
  paint(name, bytes, t) {
    const { data } = this.pixels;
    const { width, height, channels } = this.walk;
    const count = width * height;
    const from = t * count * channels;
    for (let i = 0; i < count; i++) {
      const p = from + i * channels;
      data[4 * i] = bytes[p];
      data[4 * i + 1] = bytes[channels === 3 ? p + 1 : p];
      data[4 * i + 2] = bytes[channels === 3 ? p + 2 : p];
      data[4 * i + 3] = 255;
    }
    this.canvas[name].getContext("2d").putImageData(this.pixels, 0, 0);
  }

  // ---- bars

  buildBars() {
    const { classes, colors, shapes, label, label_known: known, target } = this.walk;
    const own = (this.own = known ? "✓ true" : "✓ first guess"); // of a picture whose class nobody told
    const list = this.$(".bars");
    list.replaceChildren();
    list.classList.toggle("many", classes.length > MANY);
    this.bars = classes.map((name, k) => {
      const row = document.createElement("li");
      row.className = "bar";
      row.append(glyph(shapes[k], colors[k]));
      const part = (className, parent = row) => {
        const span = document.createElement("span");
        span.className = className;
        parent.append(span);
        return span;
      };
      const title = part("name");
      title.textContent = name;
      title.title = name;
      const track = part("track");
      const fill = part("fill", track);
      fill.style.background = colors[k];
      const zero = part("zero", track);
      const value = part("value");
      const tags = part("tags");
      const fixed = [k === label ? own : "", k === target ? "◎ target" : ""].filter(Boolean);
      list.append(row);
      return { row, fill, zero, value, tags, fixed };
    });
    const room = document.createElement("li"); // invisible: reserves the width of the widest tags
    room.className = "bar room";
    room.setAttribute("aria-hidden", "true");
    room.append(...[1, 2, 3, 4].map(() => document.createElement("span")), Object.assign(document.createElement("span"), { className: "tags" }));
    list.append(room);
  }

  /** What stands behind a bar; where there is little room the signs alone. */
  tags(list) {
    return list.map((tag) => (this.brief ? tag.split(" ")[0] : tag)).join(" ");
  }

  drawBars() {
    const { classes, predicted, probabilities, logits } = this.walk;
    const logit = this.scale === "logits";
    const values = logit ? logits : probabilities;
    let [lo, hi] = [0, 1];
    if (logit) {
      [lo, hi] = [0, 0];
      for (const v of logits) if (Number.isFinite(v)) [lo, hi] = [Math.min(lo, v), Math.max(hi, v)]; // one scale for all frames
      if (hi === lo) hi = lo + 1;
    }
    const zero = -lo / (hi - lo);
    this.bars.forEach((bar, k) => {
      const v = values[this.t * classes.length + k];
      const at = Number.isFinite(v) ? (v - lo) / (hi - lo) : zero;
      bar.fill.style.transform = `translateX(${(100 * Math.min(zero, at)).toFixed(2)}%) scaleX(${Math.abs(at - zero).toFixed(4)})`;
      bar.zero.style.left = `${100 * zero}%`;
      bar.zero.hidden = !logit;
      write(bar.value, logit ? number(v, 1) : percent(v));
      const says = predicted[this.t] === k;
      bar.row.dataset.predicted = says;
      write(bar.tags, this.tags([...bar.fixed, ...(says ? ["◀ model"] : [])]));
    });
  }

  // ---- margin over the steps

  xAt(t) {
    return PLOT.left + (t / this.axis) * (this.plot.width - PLOT.left - PLOT.right);
  }

  frameAt(x) {
    return ((x - PLOT.left) / (this.plot.width - PLOT.left - PLOT.right)) * this.axis;
  }

  layOutMargin() {
    const { margin } = this.walk;
    const box = this.canvas.margin.parentElement;
    const [width, height] = [box.clientWidth, box.clientHeight];
    const finite = margin.filter(Number.isFinite);
    let [lo, hi] = [Math.min(0, ...finite), Math.max(0, ...finite)];
    if (hi === lo) [lo, hi] = [-1, 1];
    const extent = hi - lo;
    hi += 0.1 * extent;
    lo -= 0.1 * extent;
    const [top, bottom] = [PLOT.top, height - PLOT.bottom];
    const least = (1.7 * this.ink.size) / (bottom - top); // room for a line of words on either side of zero
    lo = Math.min(lo, (-least * hi) / (1 - least));
    hi = Math.max(hi, (-least * lo) / (1 - least));
    const y = (v) => bottom - ((v - lo) / (hi - lo)) * (bottom - top);
    this.plot = { width, height, y };

    const pen = fit(this.canvas["margin-back"], width, height, this.ratio);
    const [left, right] = [PLOT.left, width - PLOT.right];
    pen.fillStyle = this.ink.warnBack;
    pen.fillRect(left, y(0), right - left, bottom - y(0));
    pen.font = this.ink.font(400, 0.95);
    pen.textBaseline = "middle";
    const { ticks, digits } = niceTicks(lo, hi, Math.max(2, Math.floor((bottom - top) / 34)));
    pen.textAlign = "right";
    for (const v of ticks) {
      pen.strokeStyle = this.ink.line;
      pen.lineWidth = 1;
      stroke(pen, [[left, y(v)], [right, y(v)]]);
      pen.fillStyle = this.ink.muted;
      pen.fillText(number(v, digits), left - 7, y(v));
    }
    pen.strokeStyle = this.ink.text;
    pen.lineWidth = 1.5;
    stroke(pen, [[left, y(0)], [right, y(0)]]);

    pen.textBaseline = "alphabetic";
    pen.fillStyle = this.ink.muted;
    const steps = this.axis - 1;
    const marks = steps ? niceTicks(0, steps, Math.max(2, Math.floor((right - left) / 70))).ticks.filter(Number.isInteger) : [];
    const base = height - 6;
    pen.textAlign = "left";
    const first = "original";
    pen.fillText(first, left - 4, base);
    const free = left + pen.measureText(first).width + 8;
    pen.textAlign = "center";
    const final = steps ? this.xAt(steps + 1) : right;
    for (const n of marks) {
      const x = this.xAt(n + 1);
      const words = n === steps ? `step ${n}` : String(n);
      if (n !== steps && x + 34 > final) continue;
      if (n > 0 && x - pen.measureText(words).width / 2 > free) pen.fillText(words, Math.min(x, right - pen.measureText(words).width / 2 + 8), base);
    }
    if (steps && !marks.includes(steps)) pen.fillText(`step ${steps}`, Math.min(final, right - pen.measureText(`step ${steps}`).width / 2 + 8), base);

    pen.lineJoin = "round";
    pen.strokeStyle = this.ink.muted;
    pen.lineWidth = 1.5;
    stroke(pen, this.curve(0, this.last));
    pen.font = this.ink.font(600, 0.95);
    const above = [y(0) - 1.5 * this.ink.size, y(0)];
    const below = [y(0), y(0) + 1.5 * this.ink.size];
    const [kept, lost] = this.walk.label_known ? ["model is right", "model is wrong"] : ["first guess stands", "first guess is gone"];
    this.besideCurve(pen, `above 0: ${kept}`, "right", above, y(0) - 0.55 * this.ink.size, this.ink.muted, this.ink.page);
    this.besideCurve(pen, `below 0: ${lost}`, "left", below, y(0) + 1.25 * this.ink.size, this.ink.warn);
    fit(this.canvas.margin, width, height, this.ratio);
  }

  /** Words at that end of the chart; at the other one if the curve runs through them here and not there. */
  besideCurve(pen, words, end, [top, bottom], level, ink, halo) {
    const [left, right] = [PLOT.left + 7, this.plot.width - PLOT.right - 6];
    const span = pen.measureText(words).width;
    const crossed = (from, to) => {
      const points = this.curve(0, this.last);
      return points.some(([x, v], i) => {
        const [u, w] = points[i + 1] ?? [x, v];
        return x <= to && u >= from && Math.min(v, w) <= bottom && Math.max(v, w) >= top;
      });
    };
    const [here, there] = [crossed(left, left + span), crossed(right - span, right)];
    const atLeft = end === "left" ? !here || there : !here && there;
    pen.textAlign = atLeft ? "left" : "right";
    const x = atLeft ? left : right;
    if (halo) haloed(pen, words, x, level, ink, halo);
    pen.fillStyle = ink;
    pen.fillText(words, x, level);
  }

  curve(from, to) {
    const points = [];
    for (let t = from; t <= to; t++) if (Number.isFinite(this.walk.margin[t])) points.push([this.xAt(t), this.plot.y(this.walk.margin[t])]);
    return points;
  }

  drawMargin() {
    const { width, height, y } = this.plot;
    const pen = fit(this.canvas.margin, width, height, this.ratio);
    const value = this.walk.margin[this.t];
    const x = this.xAt(this.t);
    pen.strokeStyle = this.ink.text;
    pen.lineWidth = 1;
    stroke(pen, [[x, 0], [x, height - PLOT.bottom]]);
    pen.lineJoin = "round";
    pen.lineWidth = 3;
    stroke(pen, this.curve(0, this.t));
    if (!Number.isFinite(value)) return;
    pen.beginPath();
    pen.arc(x, y(value), 6, 0, 2 * Math.PI);
    pen.fillStyle = this.ink.page;
    pen.fill();
    pen.strokeStyle = this.ink.text;
    pen.lineWidth = 3;
    pen.stroke();
    pen.font = this.ink.font(700);
    const words = (value > 0 ? "+" : "") + number(value, 1);
    const space = pen.measureText(words).width + 14;
    // A walk mostly falls: above and to the right of the dot, or below and to its left, the curve is out of the way.
    const leftward = x + space > width - PLOT.right || (value < 0 && x - space > PLOT.left);
    pen.textAlign = leftward ? "right" : "left";
    pen.textBaseline = "middle";
    const shift = (leftward ? 0.95 : -0.95) * this.ink.size;
    const level = clamp(y(value) + shift, 0.7 * this.ink.size, height - PLOT.bottom - 0.6 * this.ink.size);
    haloed(pen, words, leftward ? x - 11 : x + 11, level, this.ink.text, this.ink.page, 5);
  }

  placeTick() {
    const { first_reached: first, target, classes } = this.walk;
    const tick = this.$(".tick");
    tick.hidden = first === null || (this.walk.transfer && this.walk.reached[0]);
    if (tick.hidden) return;
    const goal = target === null ? "first fooled" : `first taken for ${classes[target]}`;
    const text = tick.querySelector(".tick-text");
    text.textContent = `${goal}: ${first === 1 ? "at the start" : `step ${first - 1}`}`;
    const x = this.xAt(first);
    tick.style.left = `${x}px`;
    const half = text.offsetWidth / 2;
    text.style.marginLeft = `${clamp(x - half, 0, Math.max(0, this.plot.width - 2 * half)) - x}px`;
  }

  // ---- the map

  /** The reference images, the classes' centres and the path on the chosen map, if the walk has it. */
  get ground() {
    const { walk } = this;
    if (this.chosen !== "other" || !walk.other) return { points: walk.points, centroids: walk.centroids, path: walk.path, axes: walk.map.axes };
    return { points: walk.other_points, centroids: walk.other_centroids, path: walk.other_path, axes: walk.other.axes };
  }

  offerMaps() {
    const { map, other } = this.walk;
    this.$(".which").hidden = !other;
    write(this.$(".other-note"), other?.note ?? "");
    for (const [name, each] of Object.entries({ map, other })) {
      const button = this.$(`[data-ground=${name}]`);
      write(button, each?.method ?? "");
      button.setAttribute("aria-pressed", String(name === (other ? this.chosen : "map")));
    }
  }

  clearMap() {
    for (const name of ["map-back", "map"]) fit(this.canvas[name], 1, 1, 1);
    this.$(".which").hidden = true;
    this.chart = null;
    write(this.$(".share"), "");
    write(this.$(".between"), "");
    const words = this.$(".no-map");
    words.hidden = false;
    words.textContent = this.walk.live ? "The map is drawn when the attack has finished." : "No map for this walk.";
  }

  layOutMap() {
    const { points, centroids, path, axes } = this.ground;
    this.offerMaps();
    this.$(".no-map").hidden = true;
    const box = this.canvas.map.parentElement;
    const [width, height] = [box.clientWidth, box.clientHeight];
    const pad = { left: 1.7 * this.ink.size, right: 8, top: 8, bottom: 1.7 * this.ink.size };
    const [xs, ys] = [[Infinity, -Infinity], [Infinity, -Infinity]];
    for (const list of [points, centroids, path]) {
      for (let i = 0; i < list.length; i += 2) {
        if (!Number.isFinite(list[i]) || !Number.isFinite(list[i + 1])) continue;
        xs[0] = Math.min(xs[0], list[i]);
        xs[1] = Math.max(xs[1], list[i]);
        ys[0] = Math.min(ys[0], list[i + 1]);
        ys[1] = Math.max(ys[1], list[i + 1]);
      }
    }
    const inner = { w: width - pad.left - pad.right - 16, h: height - pad.top - pad.bottom - 16 };
    const unit = Math.max(1e-9, Math.min(inner.w / (xs[1] - xs[0] || 1), inner.h / (ys[1] - ys[0] || 1))); // same scale on both axes
    const middle = [pad.left + 8 + inner.w / 2, pad.top + 8 + inner.h / 2];
    const x = (v) => middle[0] + (v - (xs[0] + xs[1]) / 2) * unit;
    const y = (v) => middle[1] - (v - (ys[0] + ys[1]) / 2) * unit;
    this.chart = { width, height, pad, x, y, axes, layers: new Map(), shown: -1 };
    this.chart.labels = this.placeLabels();
    fit(this.canvas["map-back"], width, height, this.ratio);
  }

  /** Class names near their centres, pushed apart until none covers another, a centre's mark or the path. */
  placeLabels() {
    const { classes, label, toward, predicted } = this.walk;
    const { centroids, path } = this.ground;
    const { x, y, width, height, pad } = this.chart;
    const few = classes.length <= MANY; // else only classes that play a part in this walk are named
    const met = new Set([label, ...toward, ...predicted]);
    const fixed = []; // what a name must not cover
    const some = Math.max(1, Math.floor(path.length / 2 / 12)); // of a long path a dozen points will do
    for (const [list, r, stride] of [[centroids, 8, 1], [path, 9, some]]) {
      for (let i = 0; i < list.length; i += 2 * stride) fixed.push({ x: x(list[i]), y: y(list[i + 1]), w: 2 * r, h: 2 * r });
    }
    const pen = this.canvas.map.getContext("2d");
    pen.font = this.ink.font(700, 0.95);
    const labels = classes.map((name, k) => {
      const [cx, cy] = [x(centroids[2 * k]), y(centroids[2 * k + 1])];
      return { name, k, cx, cy, x: cx, y: cy - 1.2 * this.ink.size, w: pen.measureText(name).width + 10, h: 1.35 * this.ink.size };
    }).filter((l) => Number.isFinite(l.cx + l.cy) && (few || met.has(l.k)));
    return spread(labels, fixed, { left: pad.left, top: pad.top, right: width - pad.right, bottom: height - pad.bottom });
  }

  /** Everything on the map that does not move, for one class the walk may be heading for; drawn once each. */
  mapLayer(toward) {
    const { layers, width, height } = this.chart;
    if (!layers.has(toward)) {
      const layer = new OffscreenCanvas(1, 1);
      this.drawReference(fit(layer, width, height, this.ratio), toward);
      layers.set(toward, layer);
    }
    return layers.get(toward);
  }

  drawReference(pen, toward) {
    const { point_classes: kinds, label, colors, shapes } = this.walk;
    const { points, centroids } = this.ground;
    const { x, y, width, height, pad, axes, labels } = this.chart;
    pen.strokeStyle = this.ink.line;
    pen.lineWidth = 1;
    pen.strokeRect(pad.left + 0.5, pad.top + 0.5, width - pad.left - pad.right - 1, height - pad.top - pad.bottom - 1);
    pen.font = this.ink.font(400, 0.95);
    pen.fillStyle = this.ink.muted;
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    pen.fillText(axes[0], (pad.left + width - pad.right) / 2, height - 5);
    pen.save();
    pen.translate(this.ink.size, (pad.top + height - pad.bottom) / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(axes[1], 0, 0);
    pen.restore();

    const size = clamp(Math.sqrt((width * height) / Math.max(kinds.length, 200)) / 7, 1.8, 3.6);
    const named = new Set([label, toward]);
    for (const near of [false, true]) {
      for (let k = 0; k < colors.length; k++) {
        if (named.has(k) !== near) continue;
        const path = new Path2D();
        for (let i = 0; i < kinds.length; i++) if (kinds[i] === k) marker(path, shapes[k], x(points[2 * i]), y(points[2 * i + 1]), near ? size * 1.15 : size);
        pen.fillStyle = colors[k];
        pen.globalAlpha = near ? 0.75 : 0.33;
        pen.fill(path);
      }
    }
    pen.globalAlpha = 1;
    const centre = (k) => [x(centroids[2 * k]), y(centroids[2 * k + 1])];
    pen.setLineDash([4, 4]);
    pen.strokeStyle = this.ink.muted;
    pen.lineWidth = 1.5;
    if (toward !== label) stroke(pen, [centre(label), centre(toward)]);
    pen.setLineDash([]);
    for (const near of [false, true]) {
      for (const l of labels) {
        if (named.has(l.k) !== near) continue;
        const path = new Path2D();
        marker(path, shapes[l.k], l.cx, l.cy, near ? 7 : 5);
        pen.lineWidth = near ? 5 : 3;
        pen.strokeStyle = this.ink.page;
        pen.stroke(path);
        pen.fillStyle = colors[l.k];
        pen.fill(path);
        if (Math.hypot(l.x - l.cx, l.y - l.cy) > 2 * this.ink.size) {
          pen.lineWidth = 1;
          pen.strokeStyle = this.ink.muted;
          stroke(pen, [[l.cx, l.cy], [l.x, l.y]]);
        }
        pen.textAlign = "center";
        pen.textBaseline = "middle";
        pen.font = this.ink.font(near ? 700 : 400, 0.95);
        haloed(pen, l.name, l.x, l.y, near ? this.ink.text : this.ink.muted, this.ink.page, 5);
      }
    }
  }

  drawMap() {
    const { toward, progress, predicted, classes, colors, shapes, label } = this.walk;
    const { path } = this.ground;
    const { x, y, width, height } = this.chart;
    const goal = toward[this.t];
    if (this.chart.shown !== goal) {
      const back = fit(this.canvas["map-back"], width, height, this.ratio);
      back.setTransform(1, 0, 0, 1, 0, 0);
      back.drawImage(this.mapLayer(goal), 0, 0);
      this.chart.shown = goal;
    }
    const share = progress[this.t];
    const known = Number.isFinite(share);
    write(this.$(".share"), known ? `${String(Math.round(100 * share) + 0).replace("-", "−")} %` : "");
    write(this.$(".between"), known ? `of the way from ${classes[label]}'s centre to ${classes[goal]}'s` : "");

    const pen = fit(this.canvas.map, width, height, this.ratio);
    const spots = [];
    for (let t = 0; t <= this.last; t++) spots.push([x(path[2 * t]), y(path[2 * t + 1])]);
    pen.lineJoin = pen.lineCap = "round";
    const walked = spots.slice(0, this.t + 1);
    for (const [points, color, thick] of [[spots, this.ink.page, 4], [spots, this.ink.muted, 1.2], [walked, this.ink.page, 6], [walked, this.ink.text, 3]]) {
      pen.strokeStyle = color;
      pen.lineWidth = thick;
      stroke(pen, points);
    }
    if (this.t) {
      pen.beginPath();
      pen.arc(...spots[0], 5.5, 0, 2 * Math.PI);
      pen.fillStyle = this.ink.page;
      pen.fill();
      pen.lineWidth = 2.5;
      pen.strokeStyle = this.ink.text;
      pen.stroke();
    }
    const here = new Path2D();
    marker(here, shapes[predicted[this.t]], ...spots[this.t], 7.5);
    pen.lineWidth = 7;
    pen.strokeStyle = this.ink.page;
    pen.stroke(here);
    pen.lineWidth = 3.5;
    pen.strokeStyle = this.ink.text;
    pen.stroke(here);
    pen.fillStyle = colors[predicted[this.t]];
    pen.fill(here);
  }

  // ---- everything that depends on the current frame

  draw() {
    const { walk, t } = this;
    this.drawn = this.at;
    this.paint("delta", walk.delta, t);
    this.paint("image", walk.image, t);
    this.say("image", t);
    this.drawBars();
    this.drawMargin();
    if (this.chart) this.drawMap();

    const [state, words] = verdict(walk, t);
    const badge = this.$(".verdict");
    if (badge.dataset.state !== state || !badge.dataset.drawn) this.$(".verdict-icon path").setAttribute("d", ICONS[state]);
    badge.dataset.state = state;
    badge.dataset.drawn = "true";
    write(this.$(".verdict-text"), words);
    const step = stepWords(walk, t);
    write(this.$(".step-text"), step);
    const values = { linf: `${number(255 * walk.linf[t], 1)}/255`, l2: number(walk.l2[t], 2), loss: number(walk.loss[t], 2), margin: number(walk.margin[t], 2) };
    for (const [name, value] of Object.entries(values)) write(this.$(`[data-number="${name}"]`), value);
    write(this.$(".margin-note"), walk.degenerate[t]
      ? "⚠ zero gradient here: the attack saw no way on" : `${walk.classes[walk.label]}'s logit minus the largest other one`);

    const { at, end } = this;
    this.range.value = at;
    this.range.style.setProperty("--played", `${(100 * at) / this.axis}%`);
    this.range.style.setProperty("--known", `${(100 * end) / this.axis}%`);
    this.root.dataset.frame = t;
    const moving = this.playing || this.dragging;
    const caption = this.$(".caption");
    caption.setAttribute("aria-live", moving || this.led ? "off" : "polite"); // read aloud at rest, and one of a group
    write(caption, walk.captions[t]);
    if (!moving || this.dragging) this.range.setAttribute("aria-valuetext", `${step}: ${words}`);
    const play = this.$(".play");
    play.setAttribute("aria-label", this.playing ? "Pause" : "Play");
    play.querySelector("path").setAttribute("d", this.playing ? ICONS.pause : ICONS.play);
    for (const [act, off] of Object.entries({ first: at === 0, back: at === 0, forward: at === end, last: at === end })) {
      this.$(`[data-act="${act}"]`).setAttribute("aria-disabled", String(off));
    }
  }
}

export default ({ data, parentElement }) => living(parentElement, (place) => new Player(place), data);
