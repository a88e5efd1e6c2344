// Draws the cards (the keys stand in ../keyboard.js); an update changes them in place, so that nothing flickers; a click sends one message with the value.
const ICONS = {
  fooled: "M6 6l12 12M18 6L6 18", // a cross
  holds: "M12 3l7 3v5c0 4.6-2.9 8.3-7 10-4.1-1.7-7-5.4-7-10V6z", // a shield
  wrong: "M5 12h14", // a dash
  waiting: "M12 3a9 9 0 1 0 .01 0M12 7v5l3 2", // a clock
};

function element(tag, className) {
  const made = document.createElement(tag);
  made.className = className;
  return made;
}

function blank(card) {
  const button = element("button", "card");
  button.type = "button";
  const pictures = element("span", "pictures");
  pictures.append(...card.pictures.map(() => document.createElement("img")));
  const state = element("span", "state");
  state.innerHTML = '<svg viewBox="0 0 24 24" aria-hidden="true"><path/></svg><span></span>';
  button.append(pictures, ...card.lines.map(() => element("span", "line")), state);
  return button;
}

function fill(button, card) {
  button.title = card.name;
  button.dataset.state = card.state;
  button.querySelectorAll("img").forEach((img, i) => {
    const [url, what] = card.pictures[i];
    if (img.src !== url) img.src = url;
    img.alt = what;
  });
  button.querySelectorAll(".line").forEach((line, i) => (line.textContent = card.lines[i]));
  button.querySelector(".state path").setAttribute("d", ICONS[card.state]);
  button.querySelector(".state span").textContent = card.word;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const strip = parentElement.querySelector(".strip");
  strip.setAttribute("aria-label", data.label);
  const shape = JSON.stringify(data.cards.map((c) => [c.value, c.pictures.length, c.lines.length]));
  if (strip.dataset.shape !== shape) {
    strip.dataset.shape = shape;
    const dense = data.cards.length > 20; // many are smaller, so that all fit on a screen
    strip.dataset.dense = dense;
    const most = Math.max(...data.cards.map((c) => c.pictures.length));
    strip.style.setProperty("--card", `${most * (dense ? 3.8 : 4.5)}rem`); // as the letters: a presenter's are larger
    strip.replaceChildren(...data.cards.map(blank));
  }
  [...strip.children].forEach((button, i) => {
    const card = data.cards[i];
    fill(button, card);
    button.setAttribute("aria-pressed", String(card.value === data.chosen));
    button.onclick = () => setTriggerValue("picked", card.value);
  });
  roving(strip);
}
