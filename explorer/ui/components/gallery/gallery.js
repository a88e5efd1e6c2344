// Draws the thumbnails (`Unanswered` stands in ../drawing.js, the keys in ../keyboard.js); a click sends the values of all that
// are then chosen.
export default function ({ data, parentElement, setTriggerValue }) {
  const grid = parentElement.querySelector(".grid");
  grid.setAttribute("aria-label", data.label);
  grid.waiting ??= new Unanswered();
  if (grid.waiting.yieldsTo(JSON.stringify(data.chosen))) grid.chosen = data.chosen;
  const signature = JSON.stringify(data.thumbs.map((t) => t[0]));
  if (grid.dataset.signature !== signature) {
    grid.dataset.signature = signature;
    grid.replaceChildren(
      ...data.thumbs.map(([value, url, name]) => {
        const button = document.createElement("button");
        button.type = "button";
        button.title = name;
        button.dataset.value = value;
        const img = document.createElement("img");
        img.src = url;
        img.alt = name;
        button.append(img);
        return button;
      })
    );
  }
  const draw = () => {
    for (const button of grid.children) {
      button.setAttribute("aria-pressed", String(grid.chosen.includes(Number(button.dataset.value))));
    }
  };
  const choose = (value) => {
    const others = data.most === 1 ? [] : grid.chosen.filter((one) => one !== value);
    const taken = data.most > 1 && grid.chosen.includes(value);
    const chosen = taken ? others : [...others, value];
    setTriggerValue("picked", chosen);
    if (chosen.length > data.most) return; // Python says so
    grid.chosen = chosen;
    grid.waiting.sent(JSON.stringify(chosen));
    draw();
  };
  for (const button of grid.children) button.onclick = () => choose(Number(button.dataset.value));
  draw();
  roving(grid);
  pressByKeys(grid, data.keys);
}
