// Tells Python when the page has become light or dark: figures are drawn there, with inks for one of the two.
// Streamlit calls this anew after such a change; what this element was drawn on before is kept in it.

export default function ({ parentElement, setTriggerValue }) {
  const mark = parentElement.querySelector("div");
  const page = getComputedStyle(mark).getPropertyValue("--st-background-color").trim();
  const before = mark.dataset.page;
  mark.dataset.page = page;
  if (before && before !== page) setTriggerValue("changed", page);
}
