"use strict";
// Filters and sorts tables; without it all rows are there, in order.
const collator = new Intl.Collator("en", { numeric: true });

for (const list of document.querySelectorAll(".list")) {
  const table = list.querySelector("table"), body = table.tBodies[0], rows = [...body.rows];
  const form = list.querySelector("form"), shown = list.querySelector("[role=status]");
  const cells = rows.map(row => [...row.cells].map(cell => cell.textContent));
  const texts = cells.map(row => row.join("\n").toLowerCase());

  function filter() {
    const words = form.elements.find.value.toLowerCase().split(/\s+/);
    const kinds = new Set([...form.querySelectorAll("[name=kind]:checked")].map(box => box.value));
    let n = 0;
    rows.forEach((row, i) => {
      row.hidden = !(kinds.has(row.className) && words.every(word => texts[i].includes(word)));
      n += row.hidden ? 0 : 1;
    });
    shown.textContent = `${n.toLocaleString("en")} of ${rows.length.toLocaleString("en")} ${list.dataset.noun} shown`;
  }

  function sort(header) {
    const down = header.getAttribute("aria-sort") === "ascending", column = header.cellIndex;
    const compare = header.dataset.sort === "order" ? (a, b) => a - b : (a, b) => collator.compare(cells[a][column], cells[b][column]) || a - b;
    const order = [...rows.keys()].sort((a, b) => down ? compare(b, a) : compare(a, b));
    for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...order.map(i => rows[i]));
  }

  for (const header of table.querySelectorAll("th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(header));
    header.append(button);
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", event => event.preventDefault());
  form.querySelector("[type=reset]").addEventListener("click", event => {
    event.preventDefault();
    form.reset();
    filter();
  });
  form.hidden = false;
  filter();
}
