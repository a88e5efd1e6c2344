// The trace player. One current frame `t`; every view is drawn from it, at most once per animation frame.
// Nothing here talks to the server: messages say how far a walk is and name its parts, each fetched once (see packing.py).
// What it shares with other pictures (`unpack`, `marker`, `fit`, `towards` ...) stands in ../drawing.js and ../keyboard.js, which
// are put before it.
// Players of one group stand at the same moment, `at`: a step, or so many passes spent; each shows its last frame up to there.

const PLOT = { left: 44, right: 14, top: 8, bottom: 24 }; // margin chart, px; the slider's track follows left and right
const TOO_QUICK = 2500; // ms: an attack that took less is played again, at a speed that can be watched
const WALK_SECONDS = 3; // a whole walk at normal speed ...
const SLOWEST = 0.5; // ... but no frame is held longer than this, seconds
const LARGEST_IMAGE = 300; // px
const LEAST_MARGIN = 0.01; // the margin's axis reaches at least this far on both sides of zero: its labels have room
const [GREY, LARGEST] = [128, 127]; // bytes of a change: none, and the frame's largest
const MANY = 16; // more classes than this: the bars scroll
const LISTED = 100; // more classes than this: bars of those that matter at the moment
const TOP = 5; // the likeliest of them, beside the true class and the target
const COARSE = 64; // pixels a side up to which an image is enlarged by a whole number, each pixel a sharp square
const ON_MARK = 12; // px between the pointer and the mark it is on
const FAR = 0.1; // of the map's width: an arrow key with Shift goes at least so far
const ICONS = {
  ...PLAYBACK,
  holds: "M12 3l7.5 2.8v5.4c0 4.6-3.1 8-7.5 9.8-4.4-1.8-7.5-5.2-7.5-9.8V5.8zM8.5 12l2.6 2.6 4.6-5",
  wrong: "M12 3.5L21.5 20h-19zM12 9.5v5M12 17.3v.2",
  fooled: "M12 2.8a9.2 9.2 0 1 0 0 18.4 9.2 9.2 0 0 0 0-18.4zM8.4 8.4l7.2 7.2M15.6 8.4l-7.2 7.2",
};

const GROUPS = (globalThis[Symbol.for("explorer.trace-players")] ??= new Map()); // name -> its players; this file may be loaded once a player

// ---------------------------------------------------------------- the message

const PATIENCE = [100, 200, 400, 800, 1600, 3200, 6400]; // ms between tries to fetch a part

/** The walk that a message tells of. `parts`: address -> promise; a part is fetched unless the last message had it, too. */
async function walkOf(message, parts) {
  const { head, arrays } = unpack(message);
  const [scene, film, other] = await Promise.all([
    partAt(head.scene, parts), filmAt(head.parts, parts), head.other && partAt(head.other.scene, parts),
  ]);
  const walk = { ...scene.head, ...scene.arrays, ...head, ...arrays, captions: film.flatMap((part) => part.head.captions),
    sizes: film.flatMap((part) => part.head.sizes), radii: film.flatMap((part) => part.head.radii) };
  for (const name of Object.keys(film[0].arrays)) walk[name] = joined(film.map((part) => part.arrays[name]));
  if (other) for (const [name, array] of Object.entries(other.arrays)) walk[`other_${name}`] = array;
  if (head.remark) walk.captions[head.remark[0]] += head.remark[1];
  return { ...walk, height: walk.size[0], width: walk.size[1], channels: walk.size[2] };
}

/** The parts at these addresses, with what stands in lists of further addresses in its place. */
async function filmAt(urls, parts) {
  const found = await Promise.all(urls.map((url) => partAt(url, parts)));
  return (await Promise.all(found.map((part) => (part.head.parts ? filmAt(part.head.parts, parts) : [part])))).flat();
}

function partAt(url, parts) {
  if (!parts.own.has(url)) parts.own.set(url, parts.before.get(url) ?? fetchPart(url));
  parts.own.get(url).catch(() => parts.own.delete(url)); // so that the next message tries anew
  return parts.own.get(url);
}

async function fetchPart(url) {
  for (const pause of [...PATIENCE, null]) {
    try {
      const answer = await fetch(url);
      if (answer.ok) return unpack(new Uint8Array(await answer.arrayBuffer()));
      if (pause === null) throw new Error(`${answer.status} for ${url}`);
    } catch (error) {
      if (pause === null) throw error;
    }
    await new Promise((go) => setTimeout(go, pause)); // a page that is being drawn anew hands its files out again
  }
}

function joined(arrays) {
  if (arrays.length === 1) return arrays[0];
  const whole = new arrays[0].constructor(arrays.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const array of arrays) {
    whole.set(array, at);
    at += array.length;
  }
  return whole;
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
  const wrong = ![walk.label, walk.also].includes(walk.predicted[t]);
  const how = walk.transfer && t > 0 ? " (transfer)" : ""; // the image was made on another model
  if (walk.wrong_before && (t === 0 || walk.reached[t])) return ["wrong", "wrong before"]; // nobody had to be fooled
  if (walk.reached[t] && t > 0) return ["fooled", `fooled${how}`];
  if (!wrong || walk.reached[t]) return ["holds", `holds${how}`];
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
    this.parts = new Map(); // of the last message: address -> what was fetched from there
    this.arrived = this.shown = 0; // messages, counted
    this.walk = null;
    this.group = null;
    this.at = 0; // where the group stands, as its clock tells: at this step, or after so many passes
    this.t = 0; // this walk's frame then
    this.mark = null; // number of the mark on the map that is read out
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
    playByKeys(this, this.abort.signal);
    on(this.canvas.map, "focus", () => this.readMark(this.mark ?? 0));
    for (const type of ["blur", "pointerleave"]) on(this.canvas.map, type, () => this.readMark(null));
    on(this.canvas.map, "pointermove", (event) => this.readMark(this.markUnder(event)));
    for (const strip of [this.canvas.margin, this.$(".slider")]) { // the strip: a press just beside the slider counts, too
      const move = (event) => this.take(this.momentAt(event.clientX - strip.getBoundingClientRect().left));
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
    on(matchMedia("(forced-colors: active)"), "change", () => this.restyle());
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
    if (message === this.message) return this.restyle(); // the theme may be what changed
    this.message = message;
    const number = ++this.arrived;
    const parts = { own: new Map(), before: this.parts };
    this.parts = parts.own;
    walkOf(message, parts).then((next) => this.takeUp(next, number), (error) => console.warn("trace player:", error));
  }

  /** Shows a walk whose parts are all here, unless a later message's is on show already. */
  takeUp(next, number) {
    if (number < this.shown || this.abort.signal.aborted) return;
    this.shown = number;
    const anew = next.live && this.walk && !this.walk.live; // what has ended does not go on: the picture was looked at, now it is attacked
    const same = this.walk && !anew && this.walk.group === next.group && continues(this.walk, next);
    this.join(next.group);
    const turned = this.walk && this.walk.clock !== next.clock;
    this.walk = next;
    if (turned) this.goBy(next.clock);
    if (same) this.goOn(next);
    else this.begin(next);
    for (const mate of this.mates) mate.wake(); // the longest walk sets the time axis of all
    this.restyle();
  }

  begin(walk) {
    const last = walk.frames - 1;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const mate = this.mates.find((other) => other !== this);
    this.playing = this.leads = this.dragging = false;
    this.mark = null;
    if (mate) {
      for (const name of ["playing", "follow", "wish", "begun"]) this[name] = mate[name];
      this.choose("speed", mate.speed);
      this.choose("scale", mate.scale);
      this.choose("ground", mate.chosen);
      this.led = true;
      this.place(this.follow ? this.when(last) : mate.at);
    } else {
      this.follow = walk.live;
      this.begun = performance.now();
      this.wish = !walk.live && walk.autoplay && !calm && last > 0;
      const rest = walk.group || !calm || !walk.autoplay ? last : (walk.first_reached ?? last);
      this.place(walk.live ? this.when(last) : this.wish ? 0 : this.when(rest));
    }
    this.buildBars();
    this.startIfWished();
  }

  goOn(walk) {
    this.place(this.follow ? this.when(this.last) : this.at);
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

  /** The group's last moment. */
  get end() {
    return Math.max(...this.mates.map((mate) => mate.when(mate.last)));
  }

  /** How far the time axis reaches: to the last planned frame while the attack runs, its passes reckoned from those so far. */
  get span() {
    return Math.max(1, ...this.mates.map((mate) => {
      const { walk, last } = mate;
      const planned = walk.live ? walk.planned - 1 : last;
      return walk.clock === "passes" ? Math.ceil((mate.when(last) * planned) / Math.max(last, 1)) : planned;
    }));
  }

  /** The moment at which this walk had its frame t. */
  when(t) {
    return this.walk.clock === "passes" ? this.walk.passes[t] : t;
  }

  /** The last frame that this walk had at a moment; at 0 the original, also where the start costs nothing. */
  frameAt(at) {
    if (this.walk.clock !== "passes") return Math.min(at, this.last);
    let t = 0;
    while (at > 0 && t < this.last && this.walk.passes[t + 1] <= at) t++;
    return t;
  }

  /** The next moment (`way` 1) or the one before (-1) at which a walk of the group has a new frame. */
  beside(way) {
    const moments = this.mates.flatMap((mate) => Array.from({ length: mate.walk.frames }, (_, t) => mate.when(t)));
    const there = moments.filter((at) => way * (at - this.at) > 0);
    return there.length ? way * Math.min(...there.map((at) => way * at)) : this.at;
  }

  /** The group goes by this clock from now on, at rest on its end. */
  goBy(clock) {
    this.pause();
    for (const mate of this.mates) mate.walk.clock = clock;
    for (const mate of this.mates) mate.place(this.end);
    for (const mate of this.mates) mate.restyle();
  }

  // ---- moving through the walk

  get last() {
    return this.walk.frames - 1;
  }

  place(at) {
    this.at = clamp(Math.round(at), 0, this.end);
    this.t = this.frameAt(this.at);
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

  /** Whether the page's keys have something to play here. */
  get plays() {
    return Boolean(this.walk && this.last);
  }

  act(name) {
    if (name === "play") this.playing ? this.pause() : this.play();
    else this.take({ first: 0, back: this.beside(-1), forward: this.beside(1), last: this.end }[name]);
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
    if (event.target === this.canvas.map && event.key in TOWARD) this.goToMark(event);
    else if (event.key === "Escape") {
      const tip = this.$("details[open]");
      if (!tip) return;
      tip.open = false;
      tip.firstElementChild.focus();
    } else if (event.key === " ") {
      if (event.target.closest("button, summary")) return event.stopPropagation();
      this.act("play");
    } else {
      const act = { ...ACTS, ArrowDown: "back", ArrowUp: "forward" }[event.key];
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
    this.root.dataset.lane = walk.group !== null;
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
    this.$(".proven").hidden = walk.proven === null;
    const until = walk.proven > 1 ? `step ${walk.proven - 1}` : "the start";
    this.$(".until").textContent = walk.proven ? `┊ up to ${until} the walk is inside the original's: the class cannot change there`
      : "┊ every later frame is outside the original's";
    this.$(".loss-name").textContent = walk.transfer ? "same loss, here" : "attack's loss";
    this.$(".room .tags").textContent = this.tags(walk.target === null ? [this.own, "◀ model"] : ["◎ target", "◀ model"]);
    this.say("original", 0);
    this.canvas.original.setAttribute("aria-label", `Original image: ${walk.classes[walk.label]}`);
    this.canvas.delta.setAttribute("aria-label", "Signed perturbation, amplified around grey");
    this.canvas.margin.setAttribute("aria-label", "Margin over the steps: above zero the model is right");
    this.canvas.map.setAttribute("aria-label", "Path of the image through the map of the model's features");
  }

  say(view, t) {
    const { classes, predicted, probabilities } = this.walk;
    const k = predicted[t];
    this.$(`[data-says="${view}"]`).textContent = `${classes[k]} ${percent(probabilities[t * classes.length + k], 0)}`;
  }

  sizeImages() {
    const { width, height } = this.walk;
    const operators = getComputedStyle(this.$(".operator")).display !== "none";
    const [shown, between] = [this.compact ? 2 : 3, operators ? 2.8 : 0.8]; // images; room for what stands between them
    const room = Math.min((this.$(".trio").clientWidth - between * this.ink.size) / shown, LARGEST_IMAGE);
    const [side, most] = [Math.max(width, height), (room * this.ratio) / Math.max(width, height)];
    const scale = side > COARSE ? most : Math.max(1, Math.floor(most));
    for (const name of ["original", "delta", "image"]) {
      const canvas = this.canvas[name];
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      canvas.style.width = `${(width * scale) / this.ratio}px`;
      canvas.style.height = `${(height * scale) / this.ratio}px`;
      canvas.style.imageRendering = side > COARSE ? "auto" : "";
    }
    this.pixels = new ImageData(width, height);
    this.paint("original", this.walk.image, 0);
  }

  /** One frame of (T,H,W,C) bytes onto a canvas of exactly as many pixels; the browser enlarges it, by a whole number if they are few. */
  paint(name, bytes, t, gain = 1) {
    const { data } = this.pixels; // clamps and rounds what it is given
    const shift = GREY * (1 - gain);
    const { width, height, channels } = this.walk;
    const count = width * height;
    const from = t * count * channels;
    for (let i = 0; i < count; i++) {
      const p = from + i * channels;
      data[4 * i] = shift + gain * bytes[p];
      data[4 * i + 1] = shift + gain * bytes[channels === 3 ? p + 1 : p];
      data[4 * i + 2] = shift + gain * bytes[channels === 3 ? p + 2 : p];
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
    this.listed = classes.length > LISTED;
    list.classList.toggle("many", classes.length > MANY && !this.listed);
    const rows = this.listed ? [...Array(TOP + (target === null ? 1 : 2)).keys()] : [...classes.keys()];
    this.bars = rows.map((k) => {
      const row = document.createElement("li");
      row.className = "bar";
      row.append(document.createElement("span"));
      const part = (className, parent = row) => {
        const span = document.createElement("span");
        span.className = className;
        parent.append(span);
        return span;
      };
      const title = part("name");
      const track = part("track");
      const fill = part("fill", track);
      const zero = part("zero", track);
      const value = part("value");
      const tags = part("tags");
      list.append(row);
      const bar = { row, title, fill, zero, value, tags };
      this.giveBar(bar, k);
      return bar;
    });
    const room = document.createElement("li"); // invisible: reserves the width of the widest tags
    room.className = "bar room";
    room.setAttribute("aria-hidden", "true");
    room.append(...[1, 2, 3, 4].map(() => document.createElement("span")), Object.assign(document.createElement("span"), { className: "tags" }));
    list.append(room);
  }

  /** Let a bar stand for a class. */
  giveBar(bar, k) {
    if (bar.k === k) return;
    const { classes, colors, shapes, label, also, target } = this.walk;
    bar.k = k;
    bar.row.firstChild.replaceWith(glyph(shapes[k], colors[k]));
    bar.title.textContent = bar.title.title = classes[k];
    bar.fill.style.background = colors[k];
    const right = also === label || k === also ? this.own : "✓ right, too"; // the first answer, among whose first five the true one is
    bar.fixed = [k === label || k === also ? right : "", k === target ? "◎ target" : ""].filter(Boolean);
  }

  /** Of more classes than can be listed those whose bars stand there at this frame: the likeliest, the true one and the target. */
  chooseBars() {
    const { classes, logits, label, also, target } = this.walk;
    const now = logits.subarray(this.t * classes.length, (this.t + 1) * classes.length);
    const order = [...classes.keys()].sort((a, b) => now[b] - now[a] || a - b);
    const wanted = new Set([label, also, ...(target === null ? [] : [target])]);
    for (const k of order) if (wanted.size < this.bars.length) wanted.add(k);
    order.filter((k) => wanted.has(k)).forEach((k, i) => this.giveBar(this.bars[i], k));
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
    if (this.listed) this.chooseBars();
    this.bars.forEach((bar) => {
      const { k } = bar;
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
    return PLOT.left + (this.when(t) / this.axis) * (this.plot.width - PLOT.left - PLOT.right);
  }

  momentAt(x) {
    return ((x - PLOT.left) / (this.plot.width - PLOT.left - PLOT.right)) * this.axis;
  }

  layOutMargin() {
    const { margin } = this.walk;
    const box = this.canvas.margin.parentElement;
    const [width, height] = [box.clientWidth, box.clientHeight];
    const finite = margin.filter(Number.isFinite);
    let [lo, hi] = [Math.min(0, ...finite), Math.max(0, ...finite)];
    if (hi === lo) [lo, hi] = [-1, 1];
    [lo, hi] = [Math.min(lo, -LEAST_MARGIN), Math.max(hi, LEAST_MARGIN)];
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
    if (this.walk.proven !== null) this.drawProven(pen, top, bottom);
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

    this.nameMoments(pen, height - 6, left, right);
    pen.lineJoin = "round";
    pen.strokeStyle = this.ink.muted;
    pen.lineWidth = 1.5;
    stroke(pen, this.curve(0, this.last));
    pen.font = this.ink.font(600, 0.95);
    const above = [y(0) - 1.5 * this.ink.size, y(0)];
    const below = [y(0), y(0) + 1.5 * this.ink.size];
    const [kept, lost] = this.walk.label_known ? ["model is right", "model is wrong"] : ["first guess stands", "first guess is gone"];
    const brief = (words) => (width < 420 ? words.replace("model is ", "").replace("first guess ", "") : words);
    this.besideCurve(pen, `above 0: ${brief(kept)}`, "right", above, y(0) - 0.55 * this.ink.size, this.ink.muted, this.ink.page);
    this.besideCurve(pen, `below 0: ${brief(lost)}`, "left", below, y(0) + 1.25 * this.ink.size, this.ink.warn);
    fit(this.canvas.margin, width, height, this.ratio);
  }

  /** The steps within the untouched picture's certified radius: no attack can have changed the class there. */
  drawProven(pen, top, bottom) {
    const [from, to] = [this.xAt(0), this.xAt(this.walk.proven)];
    pen.fillStyle = this.ink.sureBack;
    pen.fillRect(from, top, Math.max(to - from, 3), bottom - top);
    pen.strokeStyle = this.ink.sure;
    pen.lineWidth = 1.5;
    pen.setLineDash([3, 3]);
    stroke(pen, [[Math.max(to, from + 3), top], [Math.max(to, from + 3), bottom]]);
    pen.setLineDash([]);
  }

  /** Names below the margin's chart: the original, the start and some steps, or how many passes were spent. */
  nameMoments(pen, base, left, right) {
    pen.textBaseline = "alphabetic";
    pen.fillStyle = this.ink.muted;
    const passes = this.walk.clock === "passes";
    const [first, last, before] = passes ? ["0", `${this.axis} passes`, 0] : ["original", `step ${this.axis - 1}`, 1];
    const steps = this.axis - before; // of the attack: the start comes before them
    const marks = steps ? niceTicks(0, steps, Math.max(2, Math.floor((right - left) / 70))).ticks.filter(Number.isInteger) : [];
    pen.textAlign = "left";
    pen.fillText(first, left - 4, base);
    const free = left + pen.measureText(first).width + 8;
    pen.textAlign = "center";
    const xOf = (n) => left + ((n + before) / this.axis) * (right - left);
    const inside = (words, x) => Math.min(x, right - pen.measureText(words).width / 2 + 8);
    const room = inside(last, xOf(steps)) - pen.measureText(last).width / 2 - 8; // to the left of the last name
    for (const n of marks) {
      const [words, x] = [n || passes ? String(n) : "start", xOf(n)];
      const half = pen.measureText(words).width / 2;
      if (n !== steps && x - half > free && x + half < room) pen.fillText(words, x, base);
    }
    if (steps) pen.fillText(last, inside(last, xOf(steps)), base);
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
    const rounded = number(value, Math.abs(value) < 0.05 ? 2 : 1);
    const words = (value > 0 && /^\d/.test(rounded) ? "+" : "") + rounded;
    const space = pen.measureText(words).width + 14;
    // A walk mostly falls: above and to the right of the dot, or below and to its left, the curve is out of the way.
    const leftward = x + space > width - PLOT.right || (value < 0 && x - space > PLOT.left);
    pen.textAlign = leftward ? "right" : "left";
    pen.textBaseline = "middle";
    const shift = (leftward ? 0.95 : -0.95) * this.ink.size;
    const [highest, lowest] = [0.7 * this.ink.size, height - PLOT.bottom - 0.6 * this.ink.size];
    const fits = y(value) + shift >= highest && y(value) + shift <= lowest; // else on the other side: clear of the curve there
    const level = clamp(y(value) + (fits ? shift : -shift), highest, lowest);
    haloed(pen, words, leftward ? x - 11 : x + 11, level, this.ink.text, this.ink.page, 5);
  }

  /** What frame t had cost, where the group goes by that. */
  spent(t) {
    return this.walk.clock === "passes" ? `, ${this.walk.passes[t]} passes` : "";
  }

  placeTick() {
    const { first_reached: first, target, classes } = this.walk;
    const tick = this.$(".tick");
    tick.hidden = first === null || this.walk.wrong_before;
    if (tick.hidden) return;
    const goal = target === null ? "first fooled" : `first taken for ${classes[target]}`;
    const text = tick.querySelector(".tick-text");
    text.textContent = `${goal}: ${first === 1 ? "at the start" : `step ${first - 1}`}${this.spent(first)}`;
    const x = this.xAt(first);
    tick.style.left = `${x}px`;
    const half = text.offsetWidth / 2;
    text.style.marginLeft = `${clamp(x - half, 0, Math.max(0, this.plot.width - 2 * half)) - x}px`;
  }

  // ---- the map

  /** Whether the points are no images but the classes' directions in the last layer. */
  get directions() {
    return Boolean(this.walk.map?.directions);
  }

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
    this.canvas.map.tabIndex = -1;
    for (const name of ["map-back", "map"]) fit(this.canvas[name], 1, 1, 1);
    this.$(".which").hidden = true;
    this.chart = this.mark = null;
    write(this.$(".mark"), "");
    write(this.$(".share"), "");
    write(this.$(".between"), "");
    const words = this.$(".no-map");
    words.hidden = false;
    words.textContent = this.walk.live ? "The map is drawn after the attack; a model's first one takes some seconds more." : "No map for this walk.";
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
    this.canvas.map.tabIndex = 0;
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
    const place = this.directions ? "direction" : "centre";
    write(this.$(".between"), known ? `of the way from ${classes[label]}'s ${place} to ${classes[goal]}'s` : "");

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
    this.drawMark(pen);
  }

  // ---- the marks on the map, one after the other

  /** Where each mark is and what it is: this image now, as it was, the classes' centres, the reference images. */
  get marks() {
    const { classes, predicted, point_classes: kinds } = this.walk;
    const { points, centroids, path } = this.ground;
    const spot = (list, i) => [this.chart.x(list[2 * i]), this.chart.y(list[2 * i + 1])];
    return [
      { spot: spot(path, this.t), words: `this image now, seen as ${classes[predicted[this.t]]}` },
      { spot: spot(path, 0), words: "this image before the attack" },
      ...classes.map((name, k) => ({ spot: spot(centroids, k), words: this.directions ? `${name}, the class's direction` : `${name}, the centre of the class` })),
      ...Array.from(kinds, (k, i) => ({ spot: spot(points, i), words: `${classes[k]}, a reference image` })),
    ];
  }

  readMark(mark) {
    if (mark === this.mark || (mark !== null && !this.chart)) return;
    this.mark = mark;
    if (mark === null) write(this.$(".mark"), "");
    this.wake(true);
  }

  /** The nearest mark under the pointer; a named one before a reference image. */
  markUnder({ offsetX, offsetY }) {
    if (!this.chart) return null;
    const away = this.marks.map(({ spot: [x, y] }) => Math.hypot(x - offsetX, y - offsetY));
    const nearest = (from, to) => away.slice(from, to).reduce((best, d, i) => (d < ON_MARK && d < (away[best] ?? Infinity) ? from + i : best), null);
    const named = 2 + this.walk.classes.length;
    return nearest(0, named) ?? nearest(named);
  }

  goToMark(event) {
    if (!this.chart) return;
    const spots = this.marks.map(({ spot }) => spot);
    const next = towards(event.key, spots[this.mark ?? 0], spots, event.shiftKey ? FAR * this.chart.width : 0);
    if (next !== null) this.readMark(next);
  }

  /** A ring around it, and what it is, beside it. */
  drawMark(pen) {
    if (this.mark === null) return;
    const { spot: [x, y], words } = this.marks[this.mark];
    for (const [color, thick] of [[this.ink.page, 6], [this.ink.text, 2.5]]) {
      pen.beginPath();
      pen.arc(x, y, 12, 0, 2 * Math.PI);
      pen.strokeStyle = color;
      pen.lineWidth = thick;
      pen.stroke();
    }
    const tip = this.$(".mark");
    write(tip, words);
    const [w, h] = [tip.offsetWidth, tip.offsetHeight];
    tip.style.left = `${clamp(x - w / 2, 0, Math.max(0, this.chart.width - w))}px`;
    tip.style.top = `${y > h + 20 ? y - h - 18 : y + 18}px`;
  }

  // ---- everything that depends on the current frame

  draw() {
    const { walk, t } = this;
    this.drawn = this.at;
    this.paint("delta", walk.delta, t, (walk.amplification ?? 0) * walk.peak[t] * (255 / LARGEST));
    this.paint("image", walk.image, t);
    this.say("image", t);
    this.canvas.image.setAttribute("aria-label", `Attacked image, ${stepWords(walk, t)}: ${walk.classes[walk.predicted[t]]}`);
    this.drawBars();
    this.drawMargin();
    if (this.chart) this.drawMap();

    const [state, words] = verdict(walk, t);
    const badge = this.$(".verdict");
    if (badge.dataset.state !== state || !badge.dataset.drawn) this.$(".verdict-icon path").setAttribute("d", ICONS[state]);
    badge.dataset.state = state;
    badge.dataset.drawn = "true";
    write(this.$(".verdict-text"), words);
    const step = `${stepWords(walk, t)}${this.spent(t)}`;
    write(this.$(".step-text"), step);
    const [linf, l2] = walk.sizes[t]; // rounded in Python, by the rule of all pages
    const values = { linf, l2, loss: number(walk.loss[t], 2), margin: number(walk.margin[t], 2), radius: walk.radii[t] ?? "" };
    for (const [name, value] of Object.entries(values)) write(this.$(`[data-number="${name}"]`), value);
    const right = [...new Set([walk.label, walk.also])].map((k) => `${walk.classes[k]}'s`); // two: the larger of both counts
    write(this.$(".margin-note"), walk.degenerate[t]
      ? "⚠ zero gradient here: the attack saw no way on" : `${right.join(" or ")} logit minus the largest other one`);

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
