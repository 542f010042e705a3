// Sorts, searches and opens the rows of the report. Without it the page shows everything in order of the names.
"use strict";
{
  const table = document.querySelector("table");
  const heads = [...table.tHead.rows[0].cells];
  const bodies = [...table.tBodies];
  const find = document.getElementById("find");
  const wrong = document.getElementById("wrong");
  const choice = document.getElementById("sort");
  const names = new Intl.Collator("en", { numeric: true });

  const valueOf = (body, column) => body.rows[0].cells[column]?.dataset.sort;

  // Rows without a value, as those of unreachable routers, stay last.
  const compare = (column, down) => (one, other) => {
    const [left, right] = [valueOf(one, column), valueOf(other, column)];
    if (left === undefined || right === undefined) return (left === undefined) - (right === undefined);
    const order = heads[column].dataset.kind === "number" ? left - right : names.compare(left, right);
    return down ? -order : order;
  };

  const sortBy = (column, down) => {
    heads.forEach((head, number) => {
      if (number === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    choice.value = String(column);
    table.append(...bodies.sort(compare(column, down)));
  };

  const show = () => {
    const wanted = find.value.trim().toLowerCase();
    let count = 0;
    for (const body of bodies) {
      const fits = body.textContent.toLowerCase().includes(wanted);
      body.hidden = !fits || (wrong.checked && body.dataset.state === "ok");
      count += !body.hidden;
    }
    document.getElementById("shown").textContent = `${count} of ${bodies.length} shown`;
  };

  heads.forEach((head, column) => {
    choice.append(new Option(head.textContent, String(column)));
    head.addEventListener("click", () => {
      const sorted = head.getAttribute("aria-sort");
      sortBy(column, sorted ? sorted === "ascending" : "down" in head.dataset);
    });
  });
  choice.addEventListener("change", () => sortBy(+choice.value, "down" in heads[choice.value].dataset));
  find.addEventListener("input", show);
  wrong.addEventListener("change", show);
  table.addEventListener("click", (event) => {
    const button = event.target.closest("button.more");
    if (button) button.setAttribute("aria-expanded", String(button.closest("tbody").classList.toggle("open")));
  });
  sortBy(1, false);
  show();
}
