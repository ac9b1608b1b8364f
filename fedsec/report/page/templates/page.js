// What a page can do beyond being read: it is whole without this.
"use strict";

const THEME = "fedsec-theme";
const LONG = 12; // rows from which on a table has a filter

/** What the browser keeps for us; nothing, where it keeps nothing for files. */
const memory = {
  get() { try { return localStorage.getItem(THEME); } catch { return null; } },
  set(theme) { try { localStorage.setItem(THEME, theme); } catch { /* It lasts as long as the page, then. */ } },
};

function make(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

// Themes: the system's, until the reader chooses.

function isDark() {
  return (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}

function addThemeSwitch() {
  const button = make("button", { type: "button", className: "tool" });
  const name = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    memory.set(theme);
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
  document.querySelector(".masthead").append(button);
}

// Tables: a click on a column's head sorts by it, another turns the order round, a third restores the first order.

const collator = new Intl.Collator(undefined, { numeric: true });
const NUMBERS = { inf: Infinity, "-inf": -Infinity };

/** What a row is sorted by: a number, a text, or undefined, which stands last in either order. */
function orderOf(row, column, numeric) {
  const cell = row.cells[column];
  const text = (cell.dataset.order ?? cell.textContent).trim();
  if (!numeric) return text === "" ? undefined : text;
  const number = text in NUMBERS ? NUMBERS[text] : Number.parseFloat(text.replace("\u2212", "-"));
  return Number.isNaN(number) ? undefined : number;
}

function sorted(rows, column, numeric, sign) {
  const compare = numeric ? (a, b) => a - b : collator.compare;
  const keys = new Map(rows.map((row) => [row, orderOf(row, column, numeric)]));
  return rows.toSorted((one, other) => {
    const [a, b] = [keys.get(one), keys.get(other)];
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return a === b ? 0 : sign * compare(a, b);
  });
}

function addSorting(table) {
  const body = table.tBodies[0];
  const given = [...body.rows];
  if (given.length < 2) return;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", { type: "button", title: "Sort by this column" });
    button.append(...head.childNodes);
    head.append(button);
    const orders = given.map((row) => row.cells[column].dataset.order);
    const isNumber = (order) => order in NUMBERS || order === "nan" || (order !== "" && !Number.isNaN(Number(order)));
    const known = orders.filter((order) => order !== undefined);
    const numeric = known.length ? known.every(isNumber) : head.classList.contains("number");
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      const next = { null: "ascending", ascending: "descending" }[before];
      if (next) head.setAttribute("aria-sort", next);
      body.append(...(next ? sorted(given, column, numeric, next === "ascending" ? 1 : -1) : given));
    });
  });
}

function addFilter(table) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < LONG) return;
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const input = make("input", { type: "search", autocomplete: "off" });
  const count = make("output", { textContent: `${rows.length} rows` });
  const label = make("label", { className: "filter" });
  label.append("Find rows with", input, count);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => texts.get(row).includes(word));
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
  });
  table.closest(".scroll").before(label);
}

/** Says that a region can be scrolled sideways; only then it takes part in the order of the Tab key. */
function watchWidth(region) {
  const hint = make("p", { className: "hint", textContent: "Scroll sideways to see the rest.", hidden: true });
  region.after(hint);
  const look = () => {
    const wide = region.scrollWidth > region.clientWidth + 1;
    hint.hidden = !wide;
    region.classList.toggle("scrolls", wide);
    if (wide || region.scrollHeight > region.clientHeight + 1) region.tabIndex = 0;
    else region.removeAttribute("tabindex");
  };
  new ResizeObserver(look).observe(region);
}

function addCopying(figure) {
  const text = figure.querySelector("code");
  const button = make("button", { type: "button", className: "tool", textContent: "Copy" });
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(text);
    try {
      await navigator.clipboard.writeText(text.textContent);
      getSelection().removeAllRanges();
      button.textContent = "Copied";
    } catch {
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it with Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 3000);
  });
  figure.querySelector("pre").before(button);
}

/** Marks the section that is being read among the links. */
function watchSections() {
  const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
  const shown = new Set();
  const observer = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) shown[isIntersecting ? "add" : "delete"](target.id);
    const current = [...links.keys()].find((id) => shown.has(id));
    for (const [id, link] of links) id === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }, { rootMargin: "-10% 0px -60% 0px" });
  document.querySelectorAll("main > section").forEach((section) => observer.observe(section));
}

/** What is folded is printed as well. */
function unfoldInPrint() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
}

const chosen = memory.get();
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
document.addEventListener("DOMContentLoaded", () => {
  addThemeSwitch();
  document.querySelectorAll(".table table").forEach((table) => { addSorting(table); addFilter(table); });
  document.querySelectorAll(".scroll").forEach(watchWidth);
  document.querySelectorAll("[data-copied]").forEach(addCopying);
  watchSections();
  unfoldInPrint();
});
