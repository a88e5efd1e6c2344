// Paints cells (`Unanswered` stands in ../drawing.js); each stroke sends one message with all 64 cells as 16 hexadecimal digits, the top left cell's bit first.
const SIDE = 8;
const PAUSE = 350; // ms after the last key before it is sent

const toBits = (mask) => [...mask].flatMap((digit) => [8, 4, 2, 1].map((bit) => Boolean(parseInt(digit, 16) & bit)));
const toMask = (bits) =>
  Array.from({ length: 16 }, (_, i) =>
    bits.slice(4 * i, 4 * i + 4).reduce((sum, on, k) => sum + (on ? 8 >> k : 0), 0).toString(16)
  ).join("");

function build(editor) {
  const cells = editor.querySelector(".cells");
  const state = { bits: toBits("0".repeat(16)), stroke: null, timer: 0, focus: 0, waiting: new Unanswered() };
  const buttons = Array.from({ length: SIDE * SIDE }, (_, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", `row ${1 + Math.floor(i / SIDE)}, column ${1 + (i % SIDE)}`);
    return button;
  });
  cells.append(...buttons);

  const draw = () => {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-pressed", String(state.bits[i]));
      button.tabIndex = i === state.focus ? 0 : -1;
    });
    const painted = state.bits.filter(Boolean).length;
    const count = editor.querySelector(".count");
    count.dataset.empty = String(painted === 0);
    count.textContent =
      painted === 0 ? "Nothing may change: paint at least one cell." : `${painted} of 64 cells may change.`;
  };
  const send = () => {
    clearTimeout(state.timer);
    state.timer = 0;
    const mask = toMask(state.bits);
    state.waiting.sent(mask);
    state.report(mask);
  };
  const at = (event) => {
    const box = cells.getBoundingClientRect();
    const place = (value, start, size) => Math.max(0, Math.min(SIDE - 1, Math.floor(((value - start) / size) * SIDE)));
    return SIDE * place(event.clientY, box.top, box.height) + place(event.clientX, box.left, box.width);
  };
  // Every cell between the last and this one, so that a fast stroke leaves no gaps.
  const line = (from, to) => {
    const [r0, c0, r1, c1] = [Math.floor(from / SIDE), from % SIDE, Math.floor(to / SIDE), to % SIDE];
    const steps = Math.max(Math.abs(r1 - r0), Math.abs(c1 - c0), 1);
    for (let s = 0; s <= steps; s += 1) {
      const row = Math.round(r0 + ((r1 - r0) * s) / steps);
      const column = Math.round(c0 + ((c1 - c0) * s) / steps);
      state.bits[SIDE * row + column] = state.stroke.on;
    }
  };

  cells.onpointerdown = (event) => {
    if (event.button !== 0) return;
    const cell = at(event);
    cells.setPointerCapture(event.pointerId);
    state.stroke = { on: !state.bits[cell], last: cell };
    state.focus = cell;
    line(cell, cell);
    draw();
    buttons[cell].focus({ preventScroll: true }); // so that the keys go on from here
    event.preventDefault();
  };
  cells.onpointermove = (event) => {
    if (!state.stroke) return;
    const cell = at(event);
    line(state.stroke.last, cell);
    state.stroke.last = cell;
    draw();
  };
  cells.onpointerup = cells.onpointercancel = () => {
    if (!state.stroke) return;
    state.stroke = null;
    send();
  };
  cells.onkeydown = (event) => {
    const [row, column] = [Math.floor(state.focus / SIDE), state.focus % SIDE];
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key in moves) {
      const [down, right] = moves[event.key];
      const clip = (value) => Math.max(0, Math.min(SIDE - 1, value));
      state.focus = SIDE * clip(row + down) + clip(column + right);
      draw();
      buttons[state.focus].focus();
    } else if (event.key === " " || event.key === "Enter") {
      state.bits[state.focus] = !state.bits[state.focus];
      draw();
      clearTimeout(state.timer);
      state.timer = setTimeout(send, PAUSE);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };
  cells.addEventListener("focusin", (event) => {
    const index = buttons.indexOf(event.target);
    if (index >= 0 && index !== state.focus) {
      state.focus = index;
      draw();
    }
  });
  const all = (change) => () => {
    state.bits = state.bits.map(change);
    draw();
    send();
  };
  editor.querySelector(".invert").onclick = all((on) => !on);
  editor.querySelector(".clear").onclick = all(() => false);
  return { state, draw };
}

export default function ({ data, parentElement, setTriggerValue }) {
  const editor = parentElement.querySelector(".editor");
  editor.own ??= build(editor);
  const { state, draw } = editor.own;
  state.report = (mask) => setTriggerValue("painted", mask);
  const image = editor.querySelector("img");
  if (image.src !== data.picture) image.src = data.picture;
  editor.querySelector(".cells").setAttribute("aria-label", data.label);
  const free = state.waiting.yieldsTo(data.mask) && !state.stroke && !state.timer;
  if (free) state.bits = toBits(data.mask); // not under the hand that paints
  draw();
}
