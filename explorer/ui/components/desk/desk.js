// Draws nothing: presses buttons of the page by keys (../keyboard.js), keeps a few words in this browser for the next visit, and
// asks for the part of the page that it is in again and again.
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

function lookAgain(place, every, setStateValue) {
  if (place.clock) return;
  place.clock = setInterval(() => {
    if (place.isConnected) setStateValue("looked", Date.now());
    else clearInterval(place.clock);
  }, 1000 * every);
}

export default function ({ data, parentElement, setStateValue }) {
  const place = parentElement.querySelector("div");
  pressByKeys(place, data.keys);
  if (Object.keys(data.keys).length) scrollByKeys(place);
  if (data.view) startAtTop(data.view);
  if (data.every) lookAgain(place, data.every, setStateValue);
  if (!data.name) return;
  if (data.value !== null) return keep(data.name, data.value);
  const told = JSON.stringify([data.name, kept(data.name)]);
  if (place.dataset.told === told) return;
  place.dataset.told = told;
  setStateValue("kept", told);
}
