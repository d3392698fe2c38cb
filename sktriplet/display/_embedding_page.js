// Behavior of the page that `EmbeddingDisplay.write_html` writes. Bokeh calls this code with the
// models and data named in _embedding_page.py, once the page is ready. Text is never parsed as HTML.

const N_PIXELS = 12; // within which a point is hovered or clicked
const tooltip = document.getElementById("tooltip");
const selection = document.getElementById("selection");
const { neighbor: neighbors, distance: distances } = graph.data;
const n_samples = sample.data.code.length;
const n_neighbors = neighbors.length / n_samples;
const x = new Float32Array(n_samples);
const y = new Float32Array(n_samples);
for (const group of groups) {
  const data = group.data_source.data;
  for (let i = 0; i < data.row.length; i++) {
    x[data.row[i]] = data.x[i];
    y[data.row[i]] = data.y[i];
  }
}

function element(name, text = "", className = "") {
  const node = document.createElement(name);
  node.textContent = text;
  node.className = className;
  return node;
}

function shown(value) {
  if (typeof value !== "number") return value;
  return Number.isNaN(value) ? "–" : String(Number(value.toPrecision(6)));
}

function thumbnail(row) {
  const position = sample.data.thumbnail[row];
  if (position < 0) return null;
  const image = element("img");
  image.onload = () => image.classList.toggle("pixelated", image.naturalWidth <= 32);
  image.src = thumbnails[position];
  image.alt = `sample ${row}`;
  return image;
}

const label = (row) => labels[sample.data.code[row]];
const features = (row) => names.map((name, i) => [name, shown(sample.data[`feature_${i}`][row])]);

// The visible point that is nearest to a position, or -1 if it is not close.
function find(event) {
  const horizontal = figure.inner_width / (figure.x_range.end - figure.x_range.start);
  const vertical = figure.inner_height / (figure.y_range.end - figure.y_range.start);
  let found = -1;
  let nearest = N_PIXELS ** 2;
  for (const group of groups) {
    if (!group.visible) continue;
    for (const row of group.data_source.data.row) {
      const squared = ((x[row] - event.x) * horizontal) ** 2 + ((y[row] - event.y) * vertical) ** 2;
      if (squared < nearest) [found, nearest] = [row, squared];
    }
  }
  return found;
}

function tableOf(head, rows) {
  const table = element("table");
  for (const cells of head ? [head, ...rows] : rows) {
    const line = table.insertRow();
    for (const cell of cells) {
      const node = element(cells === head ? "th" : "td");
      if (cell instanceof Node) node.append(cell);
      else node.textContent = cell ?? "";
      line.append(node);
    }
  }
  return table;
}

function hover(event) {
  const row = find(event);
  tooltip.hidden = row < 0;
  if (row < 0) return;
  tooltip.replaceChildren(element("strong", label(row)), ` (sample ${row})`);
  const image = thumbnail(row);
  if (image) tooltip.append(image);
  if (names.length) tooltip.append(tableOf(null, features(row)));
  // To the left of the pointer, or above it, where there is no space.
  const { width, height } = tooltip.getBoundingClientRect();
  const left = pointer.x + 14 + width < innerWidth ? pointer.x + 14 : pointer.x - 14 - width;
  const top = pointer.y + 14 + height < innerHeight ? pointer.y + 14 : pointer.y - 14 - height;
  tooltip.style.left = `${Math.max(0, left)}px`;
  tooltip.style.top = `${Math.max(0, top)}px`;
}

function select(row) {
  if (row < 0) {
    lines.data = { x0: [], y0: [], x1: [], y1: [] };
    rings.data = { x: [], y: [] };
    selection.replaceChildren(element("p", "Click a point to see its nearest neighbors."));
    return;
  }
  const start = row * n_neighbors;
  const found = Array.from(neighbors.slice(start, start + n_neighbors));
  const px = found.map((other) => x[other]);
  const py = found.map((other) => y[other]);
  lines.data = { x0: px.map(() => x[row]), y0: py.map(() => y[row]), x1: px, y1: py };
  rings.data = { x: [x[row], ...px], y: [y[row], ...py] };
  const head = ["", "class", "distance", "sample", ...names];
  const cells = (other, distance) => [
    thumbnail(other),
    label(other),
    distance,
    String(other),
    ...features(other).map(([, value]) => value),
  ];
  const body = found.map((other, i) => cells(other, distances[start + i].toPrecision(4)));
  const box = element("div");
  box.id = "neighbors";
  box.append(tableOf(head, [cells(row, "selected"), ...body]));
  const same = found.filter((other) => sample.data.code[other] === sample.data.code[row]).length;
  selection.replaceChildren(
    element("h2", `Sample ${row}: ${label(row)}`),
    element("p", `${same} of ${n_neighbors} nearest neighbors in the embedding are of this class.`),
    box,
  );
}

const pointer = { x: 0, y: 0 };
document.addEventListener("pointermove", (event) => {
  pointer.x = event.clientX;
  pointer.y = event.clientY;
});
figure.on_event("mousemove", hover);
figure.on_event("mouseleave", () => (tooltip.hidden = true));
figure.on_event("tap", (event) => select(find(event)));

if (labels.length <= groups.length) {
  groups.forEach((group, i) => {
    const button = element("button");
    const marker = element("span", `${symbols[i]} `);
    marker.style.color = group.glyph.fill_color.value ?? group.glyph.fill_color;
    button.append(marker, labels[i]);
    button.title = labels[i];
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      group.visible = !group.visible;
      button.setAttribute("aria-pressed", String(group.visible));
    });
    document.getElementById("legend").append(button);
  });
}
