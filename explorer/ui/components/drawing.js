// Drawing, and what else the app's own components share: reading a message, living on the page, choices under way, inks, class
// markers, names that do not overlap.
// Python puts this text before that of each component that uses it (see drawing.py).

// ---------------------------------------------------------------- the message

const ARRAYS = { "|u1": Uint8Array, "<u2": Uint16Array, "<f4": Float32Array };

/** The head and the arrays of a message; see messages.py. */
function unpack(bytes) {
  const buffer = bytes.slice().buffer; // a copy of its own, so that typed arrays are aligned
  const length = new DataView(buffer).getUint32(4, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const arrays = {};
  for (const [name, [dtype, shape, offset]] of Object.entries(head.arrays)) {
    arrays[name] = new ARRAYS[dtype](buffer, offset, shape.reduce((a, b) => a * b, 1));
  }
  return { head, arrays };
}

// ---------------------------------------------------------------- on the page

const LIVING = new WeakMap(); // a place on the page -> what was made for it

/**
 * Hands `message` to what lives in this place of the page (`make` makes it for the first); returns what ends it.
 *
 * Streamlit ends every message that another one has overtaken on its way here, and may do so after that other one has
 * arrived. So an end is one only once the place is gone from the page.
 */
function living(place, make, message) {
  let own = LIVING.get(place);
  if (!own) LIVING.set(place, (own = make(place)));
  if (message) own.receive(message);
  return () => {
    if (place.isConnected || !LIVING.delete(place)) return;
    own.destroy();
  };
}

// ---------------------------------------------------------------- what was chosen here

/** What somebody chose here, and no answer has shown yet: an answer to an earlier choice does not take it back. */
class Unanswered {
  own = [];
  told = undefined;

  /** This was chosen and goes to Python. */
  sent(choice) {
    this.own.push(choice);
  }

  /** Python shows this: may it be drawn? One that nobody here chose is somebody else's, as a link's, and counts at once. */
  yieldsTo(shown) {
    const answered = this.own.indexOf(shown);
    if (answered >= 0) this.own.splice(0, answered + 1);
    else if (shown !== this.told) this.own = [];
    this.told = shown;
    return this.own.length === 0;
  }
}

// ---------------------------------------------------------------- words and signs

const PLAYBACK = { play: "M7 4.5v15l12-7.5z", pause: "M6.5 5h4v14h-4zM13.5 5h4v14h-4z" }; // of 24 x 24

const clamp = (x, lo, hi) => Math.min(hi, Math.max(lo, x));

/** A number with so many digits; one that is not zero is never rounded to it: "<0.01", ">−0.01". */
function number(x, digits) {
  if (!Number.isFinite(x)) return "not finite";
  const rounded = x.toFixed(digits);
  if (x === 0) return (0).toFixed(digits);
  if (Number(rounded) === 0) return `${x > 0 ? "<" : ">−"}${(10 ** -digits).toFixed(digits)}`;
  return rounded.replace("-", "−");
}

// ---------------------------------------------------------------- drawing

/** The page's colours and letters as a canvas needs them, of a `root` whose style names --muted, --line and --faint. */
function inkOf(root, body) {
  const style = getComputedStyle(root);
  const forced = matchMedia("(forced-colors: active)").matches; // then the system's colours alone are sure to differ
  const resolve = (name, system) => {
    const probe = document.createElement("span");
    probe.style.color = forced ? system : `var(${name})`;
    root.append(probe);
    const color = getComputedStyle(probe).color;
    probe.remove();
    return color;
  };
  const size = parseFloat(getComputedStyle(body).fontSize);
  return {
    text: style.color,
    page: resolve("--st-background-color", "Canvas"),
    muted: resolve("--muted", "CanvasText"),
    line: resolve("--line", "GrayText"),
    faint: resolve("--faint", "Canvas"),
    accent: resolve("--st-primary-color", "Highlight"),
    warn: resolve("--st-orange-text-color", "CanvasText"),
    warnBack: resolve("--st-orange-background-color", "Canvas"),
    sure: resolve("--st-blue-text-color", "CanvasText"),
    sureBack: resolve("--st-blue-background-color", "Canvas"),
    size: 0.9 * size,
    font: (weight, scale = 1) => `${weight} ${(0.9 * size * scale).toFixed(1)}px ${style.fontFamily}`,
  };
}

/** Outline of one of the ten class markers (plotly's names) around (x, y), radius r, all of about the same area. */
function marker(path, shape, x, y, r) {
  const polygon = (corners, turn, radius, inner) => {
    const count = inner ? corners * 2 : corners;
    for (let i = 0; i < count; i++) {
      const a = turn + (i * 2 * Math.PI) / count;
      const q = inner && i % 2 ? radius * inner : radius;
      path[i ? "lineTo" : "moveTo"](x + q * Math.cos(a), y + q * Math.sin(a));
    }
    path.closePath();
  };
  const plus = (turn) => {
    const [l, w] = [1.2 * r, 0.42 * r];
    const corners = [[-w, -l], [w, -l], [w, -w], [l, -w], [l, w], [w, w], [w, l], [-w, l], [-w, w], [-l, w], [-l, -w], [-w, -w]];
    corners.forEach(([a, b], i) => {
      const [c, s] = [Math.cos(turn), Math.sin(turn)];
      path[i ? "lineTo" : "moveTo"](x + a * c - b * s, y + a * s + b * c);
    });
    path.closePath();
  };
  const up = -Math.PI / 2;
  if (shape === "square") polygon(4, Math.PI / 4, 1.25 * r);
  else if (shape === "triangle-up") polygon(3, up, 1.35 * r);
  else if (shape === "triangle-down") polygon(3, -up, 1.35 * r);
  else if (shape === "diamond") polygon(4, up, 1.3 * r);
  else if (shape === "cross") plus(0);
  else if (shape === "x") plus(Math.PI / 4);
  else if (shape === "star") polygon(5, up, 1.45 * r, 0.45);
  else if (shape === "pentagon") polygon(5, up, 1.15 * r);
  else if (shape === "hexagon") polygon(6, 0, 1.1 * r);
  else {
    path.moveTo(x + r, y);
    path.arc(x, y, r, 0, 2 * Math.PI);
  }
}

/** Size a canvas in whole device pixels; returns its context, scaled to CSS pixels and cleared. */
function fit(canvas, width, height, ratio) {
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    if (canvas.style) {
      canvas.style.width = `${w / ratio}px`;
      canvas.style.height = `${h / ratio}px`;
    }
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

function haloed(pen, text, x, y, ink, halo, width = 4) {
  pen.lineJoin = "round";
  pen.lineWidth = width;
  pen.strokeStyle = halo;
  pen.strokeText(text, x, y);
  pen.fillStyle = ink;
  pen.fillText(text, x, y);
}

function stroke(pen, points) {
  pen.beginPath();
  points.forEach(([x, y], i) => pen[i ? "lineTo" : "moveTo"](x, y));
  pen.stroke();
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A class marker as a small picture, for use beside its name. */
function glyph(shape, color) {
  const parts = [];
  const pen = {
    moveTo: (x, y) => parts.push(`M${x.toFixed(2)} ${y.toFixed(2)}`),
    lineTo: (x, y) => parts.push(`L${x.toFixed(2)} ${y.toFixed(2)}`),
    closePath: () => parts.push("Z"),
    arc: (x, y, r) => parts.push(`A${r} ${r} 0 1 1 ${x - r} ${y}A${r} ${r} 0 1 1 ${x + r} ${y}Z`),
  };
  marker(pen, shape, 8, 8, 5.2);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", parts.join(""));
  path.setAttribute("fill", color);
  svg.append(path);
  return svg;
}

/** Names {x,y,w,h,k} pushed apart until none covers another or one of the `fixed` boxes {x,y,w,h}, inside a frame. */
function spread(labels, fixed, frame) {
  const inside = (l) => {
    l.x = clamp(l.x, frame.left + l.w / 2 + 2, frame.right - l.w / 2 - 2);
    l.y = clamp(l.y, frame.top + l.h / 2, frame.bottom - l.h / 2);
  };
  for (let round = 0; round < 120; round++) {
    for (const a of labels) {
      for (const b of labels) {
        if (a === b) continue;
        const overX = (a.w + b.w) / 2 - Math.abs(a.x - b.x);
        const overY = (a.h + b.h) / 2 - Math.abs(a.y - b.y);
        if (overX <= 0 || overY <= 0) continue;
        const axis = overY <= overX ? "y" : "x";
        const push = 0.3 * Math.min(overX, overY) + 0.2;
        const way = a[axis] < b[axis] || (a[axis] === b[axis] && a.k < b.k) ? 1 : -1;
        a[axis] -= way * push;
        b[axis] += way * push;
      }
      for (const b of fixed) {
        const overX = (a.w + b.w) / 2 - Math.abs(a.x - b.x);
        const overY = (a.h + b.h) / 2 - Math.abs(a.y - b.y);
        if (overX <= 0 || overY <= 0) continue;
        const axis = overY <= overX ? "y" : "x";
        a[axis] += (a[axis] < b[axis] ? -0.25 : 0.25) * Math.min(overX, overY);
      }
    }
    labels.forEach(inside);
  }
  return labels;
}
