// Keyboard: one stop of Tab for many buttons, arrow keys from mark to mark of a map, and keys that play wherever the focus is.
// Python puts this text after drawing.js, before that of each component that uses it (see drawing.py).
// No key is a letter: they would stand in the way of who speaks to the computer (WCAG 2.1.4).

// Where a key means something else: what one types or chooses in, on the way from the focus up to the page.
const TYPING = `input:not([type=checkbox]), textarea, select, [contenteditable], [role=application], [role=combobox], [role=dialog], [role=grid],
  [role=listbox], [role=menu], [role=radiogroup], [role=slider], [role=spinbutton], [role=tablist], [data-testid=stButtonGroup]`;
const PRESSED_BY_SPACE = "button, a, summary, [role=button], [type=checkbox]";
const ACTS = { " ": "play", ArrowLeft: "back", ArrowRight: "forward", Home: "first", End: "last" };
const TOWARD = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

const STAGES = (globalThis[Symbol.for("explorer.stages")] ??= new Set()); // what plays on this page

/** May this key do something for the whole page? Not while one types, nor where the element in focus has taken it. */
function isFree(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return false;
  const way = event.composedPath().filter((node) => node instanceof Element);
  const taken = event.key === " " ? `${TYPING}, ${PRESSED_BY_SPACE}` : TYPING;
  return !way.some((node) => node.matches(taken));
}

/** Hands the page's keys to `stage` (`root`, `plays`, `act(name)`), unless another one on the page came first; until `signal`. */
function playByKeys(stage, signal) {
  STAGES.add(stage);
  signal.addEventListener("abort", () => STAGES.delete(stage));
  document.addEventListener("keydown", (event) => {
    const act = ACTS[event.key];
    const first = [...STAGES].find(({ root, plays }) => plays && root.isConnected && root.clientWidth);
    if (!act || first !== stage || !isFree(event)) return;
    stage.act(act);
    event.preventDefault();
  }, { signal });
}

/** Keys that press buttons of the page: key -> the name Python gave the button; as long as `place` is on the page. */
function pressByKeys(place, buttons) {
  const listens = Boolean(place.pressedByKeys);
  place.pressedByKeys = buttons;
  if (listens) return;
  const press = (event) => {
    if (!place.isConnected) return document.removeEventListener("keydown", press);
    const name = place.pressedByKeys[event.key];
    const button = name && document.querySelector(`.st-key-${name} button`);
    if (!button || !isFree(event)) return;
    button.click();
    event.preventDefault();
  };
  document.addEventListener("keydown", press);
}

/** Arrows up and down scroll the page wherever the focus is: what scrolls is a box within it, which a browser moves only from inside. */
function scrollByKeys(place) {
  if (place.scrolls) return;
  place.scrolls = true;
  const scroll = (event) => {
    if (!place.isConnected) return document.removeEventListener("keydown", scroll);
    const [, down] = TOWARD[event.key] ?? [0, 0];
    if (!down || !isFree(event)) return;
    const box = document.querySelector("[data-testid=stMain]");
    box?.scrollBy({ top: 0.4 * down * box.clientHeight, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth" });
    event.preventDefault();
  };
  document.addEventListener("keydown", scroll);
}

/** Another view than the last one is seen from its top. */
function startAtTop(view) {
  const last = Symbol.for("explorer.view");
  if (globalThis[last] === view) return;
  globalThis[last] = view;
  document.querySelector("[data-testid=stMain]")?.scrollTo({ top: 0, behavior: "instant" });
}

/** One stop of Tab for the buttons in `box`: the last in focus, else the pressed one; arrows, Home and End go to others. */
function roving(box) {
  const buttons = [...box.children];
  const stopAt = (stop) => buttons.forEach((one) => (one.tabIndex = one === stop ? 0 : -1));
  const focused = buttons.find((one) => one.matches(":focus"));
  stopAt(focused ?? buttons.find((one) => one.ariaPressed === "true") ?? buttons[0]);
  box.onfocusin = (event) => stopAt(event.target);
  box.onkeydown = (event) => {
    const at = buttons.indexOf(event.target);
    const row = buttons.filter((one) => one.offsetTop === buttons[0].offsetTop).length;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row, Home: -at, End: buttons.length - 1 - at };
    if (at < 0 || !(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    buttons[at + steps[event.key]]?.focus();
    event.preventDefault();
    event.stopPropagation();
  };
}

/** Which of the `spots` ([x, y], px) an arrow key leads to from one of them: the nearest that way, at least so far; null: none. */
function towards(key, from, spots, least = 0) {
  const [dx, dy] = TOWARD[key];
  let [best, found] = [Infinity, null];
  spots.forEach(([x, y], i) => {
    const [a, b] = [x - from[0], y - from[1]];
    const [along, aside] = [a * dx + b * dy, Math.abs(a * dy - b * dx)];
    if (!(along > 0.1) || along < least || aside > along || along + aside >= best) return;
    [best, found] = [along + aside, i];
  });
  return found;
}
