// Saves what the page draws in the browser: plotly's figures as SVG and PNG with their conditions below, canvases as PNG.

const SCALE = 2; // of a PNG made from a figure
const LINE = 15; // height of a line of the conditions
const LETTER = 6; // width of an average letter of theirs

/** All elements that match, inside other components, too. */
function everywhere(root, selector) {
  const found = [...root.querySelectorAll(selector)];
  for (const node of root.querySelectorAll("*")) if (node.shadowRoot) found.push(...everywhere(node.shadowRoot, selector));
  return found;
}

/** The key that Python gave the place where this element is drawn. */
function keyOf(element) {
  let at = element;
  while (at) {
    const place = at.closest('[class*="st-key-"]');
    if (place) return [...place.classList].find((name) => name.startsWith("st-key-")).slice("st-key-".length);
    at = at.getRootNode().host; // out of a component
  }
  return "";
}

function lines(text, width) {
  const most = Math.max(Math.floor(width / LETTER), 20);
  const found = [""];
  for (const word of text.split(/\s+/)) {
    if (found.at(-1) && found.at(-1).length + word.length >= most) found.push("");
    found[found.length - 1] += (found.at(-1) ? " " : "") + word;
  }
  return found;
}

/** A drawn plotly figure as one SVG, on the page's own ground, its conditions as lines below. */
function figureAsSvg(figure, conditions) {
  const parts = [...figure.querySelectorAll("svg.main-svg")];
  const [width, height] = ["width", "height"].map((side) => Number(parts[0].getAttribute(side)));
  const page = getComputedStyle(document.querySelector(".stApp"));
  const said = lines(conditions, width - 20);
  const whole = height + said.length * LINE + 10;
  const parser = document.implementation.createDocument("http://www.w3.org/2000/svg", "svg");
  const svg = parser.documentElement;
  const put = (name, attributes, into = svg) => {
    const node = parser.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return into.appendChild(node);
  };
  for (const [key, value] of Object.entries({ width, height: whole, viewBox: `0 0 ${width} ${whole}` })) {
    svg.setAttribute(key, value);
  }
  put("rect", { width, height: whole, fill: page.backgroundColor });
  for (const part of parts) {
    const group = put("g", {});
    for (const child of part.children) group.append(parser.importNode(child, true));
    for (const unseen of group.querySelectorAll(".draglayer, .hoverlayer, .zoomlayer, .selectionlayer")) unseen.remove();
  }
  const text = put("g", { "font-family": "sans-serif", "font-size": 11, fill: page.color });
  said.forEach((line, k) => (put("text", { x: 10, y: height + (k + 0.7) * LINE }, text).textContent = line));
  return new XMLSerializer().serializeToString(svg).replace(/url\((?:&quot;|["'])?[^)#]*(#[^)"'&]+)(?:&quot;|["'])?\)/g, "url($1)");
}

async function asPng(svg) {
  const picture = new Image();
  const url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  try {
    picture.src = url;
    await picture.decode();
    const canvas = document.createElement("canvas");
    canvas.width = picture.naturalWidth * SCALE;
    canvas.height = picture.naturalHeight * SCALE;
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    return await new Promise((done) => canvas.toBlob(done));
  } finally {
    URL.revokeObjectURL(url);
  }
}

function keep(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function fileName(...parts) {
  return parts.join(" ").toLowerCase().replace(/[^a-z0-9._]+/g, "-").replace(/^-|-$/g, "").slice(0, 90);
}

/** What can be saved now: [label, {format: () => Blob}]. */
function pictures({ stem, names, conditions }) {
  const figures = everywhere(document, ".js-plotly-plot").filter((figure) => figure.querySelector("svg.main-svg"));
  const canvases = everywhere(document, "canvas[aria-label]").filter((canvas) => canvas.width && canvas.getClientRects().length);
  const svg = (figure) => figureAsSvg(figure, conditions);
  return [
    ...figures.map((figure) => [
      names[keyOf(figure)] ?? keyOf(figure).replaceAll("-", " "),
      {
        svg: () => new Blob([svg(figure)], { type: "image/svg+xml" }),
        png: () => asPng(svg(figure)),
      },
    ]),
    ...canvases.map((canvas) => [
      canvas.getAttribute("aria-label"),
      { png: () => new Promise((done) => canvas.toBlob(done)) },
    ]),
  ].map(([label, formats], k) => [label, formats, fileName(stem, String(k + 1), label)]);
}

function list(place, data) {
  place.replaceChildren(
    ...pictures(data).map(([label, formats, name]) => {
      const row = document.createElement("li");
      const text = row.appendChild(document.createElement("span"));
      text.textContent = text.title = label;
      for (const [format, make] of Object.entries(formats)) {
        const button = row.appendChild(document.createElement("button"));
        button.type = "button";
        button.textContent = format.toUpperCase();
        button.setAttribute("aria-label", `${label} as ${button.textContent}`);
        button.onclick = async () => keep(await make(), `${name}.${format}`);
      }
      return row;
    })
  );
}

export default function ({ data, parentElement }) {
  const place = parentElement.querySelector(".pictures");
  list(place, data);
  const seen = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && list(place, data));
  seen.observe(parentElement.host ?? place.parentElement ?? place);
  return () => seen.disconnect();
}
