// The page's own script: charts drawn when they come into view, and tables of clips that sort, filter and turn pages.
// Text from runs is only ever set as text, never as markup.
"use strict";

const PAGE = 50; // rows of a table of clips that are shown at once

/** Return the value that was packed into a script element: JSON, gzip, base64. */
async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** Return a new element; attributes with the value false or null are left out. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const short = (value) => value.toFixed(2).replace(/^0/, "");
const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** What systems answered, clip by clip. */
class Answers {
  constructor(data) {
    Object.assign(this, data);
    this.all = this.ids.map((_, clip) => clip);
    // How many systems are wrong on each clip.
    this.wrong = this.all.map((clip) => this.systems.filter((system) => system.kind[clip] !== 0).length);
  }

  truth(clip) { return this.labels[this.truths[clip]]; }
  answer(system, clip) { return this.labels[this.systems[system].answer[clip]]; }
  right(system, clip) { return this.systems[system].kind[clip] === 0; }
  probabilities(system, clip) { return this.systems[system].values.slice(6 * clip, 6 * clip + 6); }
  holds(label, emotion) { return label.split(" ")[0].split("+").includes(emotion); }

  /** Return the probability that a system gave to the emotions of its answer. */
  confidence(system, clip) {
    const answer = this.answer(system, clip);
    const values = this.probabilities(system, clip);
    return this.emotions.reduce((sum, name, k) => sum + (this.holds(answer, name) ? values[k] : 0), 0) / 1000;
  }

  /** Return how far two systems' probabilities lie apart: half the sum of absolute differences. */
  distance(one, two, clip) {
    const other = this.probabilities(two, clip);
    return this.probabilities(one, clip).reduce((sum, value, k) => sum + Math.abs(value - other[k]), 0) / 2000;
  }

  /** Return how two systems differ on a clip: 0 one is right, 1 both are wrong otherwise, 2 same answer or both right. */
  difference(one, two, clip) {
    if (this.right(one, clip) !== this.right(two, clip)) return 0;
    return this.answer(one, clip) !== this.answer(two, clip) ? 1 : 2;
  }

  drawAnswer(system, clip) {
    const kind = this.systems[system].kind[clip];
    const mark = make("span", { class: kind ? "bad" : "good", "aria-hidden": "true" }, kind ? "✗ " : "✓ ");
    const [emotions, ...salience] = this.answer(system, clip).split(" ");
    return make("span", {}, make("span", { class: "together" }, mark, emotions), ` ${salience.join(" ")}`,
      make("span", { class: "unseen" }, kind ? " wrong" : " right"));
  }

  drawBars(system, clip) {
    const values = this.probabilities(system, clip);
    const spoken = this.emotions.map((name, k) => `${name} ${short(values[k] / 1000)}`).join(", ");
    const bars = make("span", { class: "bars", role: "img", "aria-label": spoken, title: spoken });
    this.emotions.forEach((name, k) => {
      const bar = make("i");
      bar.style.setProperty("--p", values[k] / 10);
      bar.style.setProperty("--colour", `var(--${name})`);
      bars.append(make("span", { class: this.holds(this.truth(clip), name) ? "true" : null }, bar, name[0]));
    });
    return bars;
  }

  drawThumbnail(clip) {
    const image = this.thumbnails[this.ids[clip]];
    return image ? make("img", { class: "thumbnail", src: `data:image/jpeg;base64,${image}`, alt: "", height: 48 }) : "";
  }
}

/** A table of clips in a section of the page, which holds its form, its table, its number of rows and its pager. */
class ClipTable {
  /**
   * @param section the section's element
   * @param columns function from the form's values to columns: name, head, key (to sort by), cell, first ("descending")
   * @param rows function from the form's values to clips
   */
  constructor(section, columns, rows) {
    this.columns = columns;
    this.rows = rows;
    this.form = section.querySelector("form");
    this.table = section.querySelector("table[data-sort]");
    this.status = section.querySelector("[role=status]");
    [this.before, this.after] = section.querySelectorAll(".pager button");
    this.place = section.querySelector(".pager span");
    this.order = { name: this.table.dataset.sort, direction: this.table.dataset.direction || "ascending" };
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", () => this.update());
    this.form.addEventListener("reset", () => setTimeout(() => this.update()));
    this.before.addEventListener("click", () => this.turn(-1));
    this.after.addEventListener("click", () => this.turn(1));
    this.update();
  }

  update() {
    const values = Object.fromEntries(new FormData(this.form));
    this.shown = this.columns(values);
    this.found = this.rows(values);
    this.page = 0;
    this.drawHead();
    this.sort();
  }

  sort() {
    const column = this.shown.find((each) => each.name === this.order.name) ?? this.shown[0];
    const sign = this.order.direction === "descending" ? -1 : 1;
    const keys = new Map(this.found.map((clip) => [clip, column.key(clip)]));
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    this.found.sort((a, b) => sign * compare(keys.get(a), keys.get(b)) || a - b);
    for (const head of this.table.tHead.rows[0].cells) {
      if (head.dataset.name === column.name) head.setAttribute("aria-sort", this.order.direction);
      else head.removeAttribute("aria-sort");
    }
    this.drawRows();
  }

  orderBy(column) {
    const again = this.order.name === column.name;
    const other = this.order.direction === "ascending" ? "descending" : "ascending";
    this.order = { name: column.name, direction: again ? other : column.first ?? "ascending" };
    this.page = 0;
    this.sort();
  }

  turn(step) {
    this.page += step;
    this.drawRows();
    this.table.parentElement.scrollTop = 0;
  }

  drawHead() {
    const focused = document.activeElement?.closest("th")?.dataset.name;
    const heads = this.shown.map((column) => make("th",
      { scope: "col", "data-name": column.name, class: column.number ? "number" : null },
      column.key ? make("button", { type: "button", onclick: () => this.orderBy(column) }, column.head) : column.head));
    this.table.tHead.replaceChildren(make("tr", {}, ...heads));
    if (focused) this.table.tHead.querySelector(`[data-name="${focused}"] button`)?.focus();
  }

  drawRows() {
    const start = this.page * PAGE;
    const rows = this.found.slice(start, start + PAGE).map((clip) => make("tr", {},
      ...this.shown.map((column) => make("td", { class: column.number ? "number" : null }, column.cell(clip)))));
    this.table.tBodies[0].replaceChildren(...rows);
    this.status.textContent = this.found.length ? plural(this.found.length, "clip") : "No clip matches.";
    const last = Math.max(0, Math.ceil(this.found.length / PAGE) - 1);
    this.place.textContent = `Page ${this.page + 1} of ${last + 1}`;
    this.before.disabled = this.page === 0;
    this.after.disabled = this.page >= last;
  }
}

/** Columns that every table of clips has. */
function clipColumns(answers, show) {
  const text = (name, head, key) => ({ name, head, key, cell: key });
  const columns = [{
    name: "clip", head: "Clip", key: (clip) => answers.ids[clip],
    cell: (clip) => make("button", { type: "button", class: "clip", onclick: () => show(clip) }, answers.ids[clip]),
  }];
  if (Object.keys(answers.thumbnails).length) {
    columns.push({ name: "frame", head: "Frame", cell: (clip) => answers.drawThumbnail(clip) });
  }
  return [...columns, text("fold", "Fold", (clip) => answers.folds[clip]),
    text("actor", "Actor", (clip) => answers.actors[clip]), text("truth", "Truth", (clip) => answers.truth(clip))];
}

function answerColumns(answers, system, mark = "") {
  const named = mark && ` ${mark}`;
  return [
    { name: `answer${mark}`, head: `Answer${named}`, key: (clip) => answers.answer(system, clip),
      cell: (clip) => answers.drawAnswer(system, clip) },
    { name: `probabilities${mark}`, head: `Probabilities${named}`, cell: (clip) => answers.drawBars(system, clip) },
    { name: `confidence${mark}`, head: `Confidence${named}`, first: "descending", number: true,
      key: (clip) => answers.confidence(system, clip), cell: (clip) => short(answers.confidence(system, clip)) },
  ];
}

const wrongColumn = (answers) => ({
  name: "wrong", head: "Wrong systems", first: "descending", number: true,
  key: (clip) => answers.wrong[clip], cell: (clip) => `${answers.wrong[clip]} of ${answers.systems.length}`,
});

/** Return whether a clip passes what all tables can be filtered by. */
function passes(answers, values, clip, systems) {
  const { text = "", fold = "", actor = "", emotion = "" } = values;
  const words = [answers.ids[clip], answers.truth(clip), ...systems.map((system) => answers.answer(system, clip))];
  return (!fold || answers.folds[clip] === Number(fold)) && (!actor || answers.actors[clip] === actor)
    && (!emotion || answers.holds(answers.truth(clip), emotion))
    && words.join(" ").toLowerCase().includes(text.trim().toLowerCase());
}

function setUpClips(answers, show) {
  const section = document.getElementById("clips");
  const system = (values) => Number(values.system);
  const kindColumn = (chosen) => ({
    name: "kind", head: "Kind of answer", key: (clip) => answers.kinds[answers.systems[chosen].kind[clip]],
    cell: (clip) => answers.kinds[answers.systems[chosen].kind[clip]],
  });
  new ClipTable(section,
    (values) => [...clipColumns(answers, show), ...answerColumns(answers, system(values)),
      kindColumn(system(values)), wrongColumn(answers)],
    (values) => answers.all.filter((clip) => {
      const kind = answers.systems[system(values)].kind[clip];
      const kindWanted = values.kind === "" || (values.kind === "wrong" ? kind !== 0 : kind === Number(values.kind));
      const confidence = answers.confidence(system(values), clip);
      return kindWanted && confidence >= Number(values.least || 0) && confidence <= Number(values.most || 1) + 1e-9
        && passes(answers, values, clip, [system(values)]);
    }));
}

function setUpPair(answers, show) {
  const section = document.getElementById("pair");
  if (!section) return;
  const pair = (values) => [Number(values.one), Number(values.two)];
  const counts = section.querySelectorAll("[data-count]");
  const groups = { both: [true, true], one: [true, false], two: [false, true], neither: [false, false] };
  new ClipTable(section,
    (values) => {
      const [one, two] = pair(values);
      return [...clipColumns(answers, show), ...answerColumns(answers, one, "A"), ...answerColumns(answers, two, "B"),
        { name: "difference", head: "Difference", number: true, first: "descending",
          key: (clip) => answers.distance(one, two, clip) / 2 - answers.difference(one, two, clip),
          cell: (clip) => short(answers.distance(one, two, clip)) }];
    },
    (values) => {
      const [one, two] = pair(values);
      const is = (group, clip) => answers.right(one, clip) === groups[group][0]
        && answers.right(two, clip) === groups[group][1];
      const found = answers.all.filter((clip) => passes(answers, values, clip, [one, two]));
      for (const cell of counts) cell.textContent = found.filter((clip) => is(cell.dataset.count, clip)).length;
      if (values.group === "differ") return found.filter((clip) => answers.difference(one, two, clip) < 2);
      return values.group ? found.filter((clip) => is(values.group, clip)) : found;
    });
}

function setUpWrong(answers, show) {
  const section = document.getElementById("wrong");
  if (!section) return;
  const count = answers.systems.length;
  // Probability of the true emotions, the mean over systems.
  const given = (clip) => {
    const truth = answers.truth(clip);
    const sum = answers.systems.reduce((total, system) => total + answers.emotions.reduce((part, name, k) =>
      part + (answers.holds(truth, name) ? system.values[6 * clip + k] : 0), 0), 0);
    return sum / count / 1000;
  };
  const votes = (clip) => {
    const found = new Map();
    answers.systems.forEach((_, s) => found.set(answers.answer(s, clip), (found.get(answers.answer(s, clip)) ?? 0) + 1));
    return [...found].sort((a, b) => b[1] - a[1]).map(([answer, times]) => `${answer} (${times})`).join(", ");
  };
  const wrong = answers.all.filter((clip) => answers.wrong[clip] === count);
  new ClipTable(section,
    () => [...clipColumns(answers, show), { name: "votes", head: "Answers (systems)", key: votes, cell: votes },
      { name: "given", head: "Probability of the truth", number: true, key: given, cell: (clip) => short(given(clip)) }],
    (values) => wrong.filter((clip) => passes(answers, values, clip, answers.systems.map((_, s) => s))));
}

/** Return a function that shows one clip with the answers of all systems. */
function clipDialog(answers) {
  const dialog = document.getElementById("clip");
  return (clip) => {
    dialog.querySelector("h2").textContent = answers.ids[clip];
    dialog.querySelector("p").textContent =
      `Truth: ${answers.truth(clip)}. Actor ${answers.actors[clip]}, fold ${answers.folds[clip]}.`;
    dialog.querySelector(".frame").replaceChildren(answers.drawThumbnail(clip));
    dialog.querySelector("tbody").replaceChildren(...answers.systems.map((system, s) => make("tr", {},
      make("th", { scope: "row" }, system.name), make("td", {}, answers.drawAnswer(s, clip)),
      make("td", {}, answers.kinds[system.kind[clip]]), make("td", {}, answers.drawBars(s, clip)),
      make("td", { class: "number" }, short(answers.confidence(s, clip))))));
    dialog.showModal();
  };
}

/** Charts: drawn when they come near the view, again when the theme changes; their numbers as tables on demand. */
class Charts {
  constructor(charts) {
    this.charts = charts;
    this.figures = [...document.querySelectorAll("figure.chart")];
    this.drawn = new Map();
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) this.draw(entry.target);
    }, { rootMargin: "400px" });
    for (const figure of this.figures) {
      observer.observe(figure);
      figure.querySelector("details").addEventListener("toggle", () => this.fill(figure));
    }
  }

  /** Draw a chart once per theme. */
  draw(figure) {
    const theme = getComputedStyle(document.body).color;
    const before = this.drawn.get(figure);
    if (before?.theme !== theme) {
      const done = Promise.resolve(before?.done).then(() => this.embed(figure));
      this.drawn.set(figure, { theme, done });
    }
    return this.drawn.get(figure).done;
  }

  async embed(figure) {
    const { spec } = this.charts[figure.dataset.chart];
    const plot = figure.querySelector(".plot");
    const area = plot.firstElementChild;
    // Expressions are interpreted and not compiled, since the page forbids scripts that are made at run time.
    await vegaEmbed(area, { ...spec, config: { ...spec.config, ...themeConfig(plot) } }, {
      actions: false, ast: true, renderer: "svg", defaultStyle: false, tooltip: { disableDefaultStyle: true },
    });
    for (const part of area.querySelectorAll("[role], [aria-roledescription]")) {
      part.removeAttribute("role");
      part.removeAttribute("aria-roledescription");
    }
  }

  redraw() { for (const figure of this.drawn.keys()) this.draw(figure); }

  /** Draw all charts that are not in a closed part of the page. */
  async drawOpen() {
    await Promise.all(this.figures.filter((each) => each.checkVisibility()).map((each) => this.draw(each)));
  }

  fill(figure) {
    const place = figure.querySelector("table");
    if (place.tBodies.length) return;
    const { columns, rows } = this.charts[figure.dataset.chart];
    place.append(make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))))));
  }
}

/** Return Vega's configuration in the colours of the page. */
function themeConfig(plot) {
  const text = getComputedStyle(document.body).color;
  const quiet = getComputedStyle(plot.closest("figure").querySelector("figcaption p")).color;
  const line = getComputedStyle(plot.closest("figure")).borderTopColor;
  const font = "system-ui, sans-serif";
  return {
    aria: false, background: null, font,
    axis: { labelColor: quiet, titleColor: text, gridColor: line, domainColor: quiet, tickColor: quiet },
    legend: { labelColor: text, titleColor: text }, header: { labelColor: text, titleColor: text },
    title: { color: text, subtitleColor: quiet }, view: { stroke: line },
    text: { color: text }, rule: { color: text }, style: { "guide-label": { font }, "guide-title": { font } },
  };
}

function setUpTheme(charts) {
  const choice = document.getElementById("theme");
  const apply = () => {
    document.documentElement.dataset.theme = choice.value;
    charts.redraw();
  };
  choice.addEventListener("change", apply);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.redraw());
  apply();
}

function setUpPrinting(charts) {
  document.getElementById("print").addEventListener("click", async () => {
    const { dataset } = document.documentElement;
    const { theme } = dataset;
    dataset.theme = "light"; // as paper is
    await charts.drawOpen();
    window.print();
    dataset.theme = theme;
    charts.redraw();
  });
}

/** A link into a closed part opens it. */
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const part = target && target.closest("details");
  if (part) part.open = true;
}

(async () => {
  const [data, thumbnails, charts] = await Promise.all(["clip-data", "frame-data", "chart-data"].map(unpack));
  const answers = new Answers({ ...data, thumbnails });
  const show = clipDialog(answers);
  setUpClips(answers, show);
  setUpPair(answers, show);
  setUpWrong(answers, show);
  document.documentElement.dataset.ready = "clips";
  if (document.readyState !== "complete") await new Promise((done) => addEventListener("load", done, { once: true }));
  const drawings = new Charts(charts);
  setUpTheme(drawings);
  setUpPrinting(drawings);
  addEventListener("hashchange", openTarget);
  openTarget();
  document.documentElement.dataset.ready = "all";
})();
