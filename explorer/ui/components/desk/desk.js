// Draws nothing: presses buttons of the page by keys (../keyboard.js), and keeps a few words in this browser for the next visit.
// Where a browser keeps nothing (a private window that forbids it), nothing is what was kept.
function kept(name) {
  try {
    return localStorage.getItem(name) ?? "";
  } catch {
    return "";
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch (error) {
    console.info(`${name} is not kept: ${error.name}`);
  }
}

export default function ({ data, parentElement, setStateValue }) {
  const place = parentElement.querySelector("div");
  pressByKeys(place, data.keys);
  if (Object.keys(data.keys).length) scrollByKeys(place);
  if (data.view) startAtTop(data.view);
  if (!data.name) return;
  if (data.value !== null) return keep(data.name, data.value);
  const told = JSON.stringify([data.name, kept(data.name)]);
  if (place.dataset.told === told) return;
  place.dataset.told = told;
  setStateValue("kept", told);
}
