// Draws the thumbnails; a click sends one message with the value of the picture.
export default function ({ data, parentElement, setTriggerValue }) {
  const grid = parentElement.querySelector(".grid");
  grid.setAttribute("aria-label", data.label);
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
  for (const button of grid.children) {
    button.setAttribute("aria-pressed", String(data.chosen.includes(Number(button.dataset.value))));
    button.onclick = () => setTriggerValue("picked", Number(button.dataset.value));
  }
}
