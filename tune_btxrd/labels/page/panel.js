// Panel: labels, progress, opinion and short messages as the page shows them.
export const setup = JSON.parse(document.getElementById("setup").textContent);
export const get = (id) => document.getElementById(id);
export const all = (selector) => [...document.querySelectorAll(selector)];
export const WORDS = { 1: "yes", 0: "no", "?": "not sure", "": "" };

let hintTimer = 0;
export function hint(text) {
  clearTimeout(hintTimer);
  get("hint").textContent = text;
  get("hint").hidden = false;
  announce(text);
  hintTimer = setTimeout(() => { get("hint").hidden = true; }, 2600);
}

export function announce(text) { get("live").textContent = text; }

// Where something is marked, what is untouched will be saved as no.
export function tellLabels(values) {
  const touched = values.some((value) => value !== "");
  for (const button of all("#labels .label")) {
    const value = values[button.dataset.label];
    button.dataset.value = value;
    button.querySelector(".value").textContent = value === "" ? (touched && !setup.is_one_of ? "no" : "") : WORDS[value];
    button.setAttribute("aria-checked", value === 1 ? "true" : value === "?" ? "mixed" : "false");
  }
}

export function tellOpinion(opinion) {
  for (const button of all("#labels .label")) {
    const share = opinion?.[button.dataset.label] ?? null;
    const bar = button.querySelector(".opinion");
    bar.hidden = share === null;
    bar.firstElementChild.style.width = `${100 * (share ?? 0)}%`;
    button.querySelector(".percent")?.remove();
    if (share === null) continue;
    const text = document.createElement("span");
    text.className = "percent";
    text.textContent = `model ${Math.round(100 * share)} %`;
    button.querySelector(".value").after(text);
  }
  press("opinion", Boolean(opinion));
}

export function tellReaders(item) {
  const lines = (item?.readers || []).map((reader) => `${reader.annotator}: ${wordsOf(reader)}`);
  get("readers").textContent = lines.join("\n");
  get("readers").hidden = !lines.length;
}

export function wordsOf({ kind, values }) {
  if (kind === "bad") return "bad image";
  if (kind !== "label") return kind;
  const named = (wanted) => setup.labels.filter((_, place) => values[place] === wanted);
  const unknown = named(null).map((name) => `${name}: not sure`);
  return [...named(1), ...unknown].join(", ") || setup.none_words;
}

export function tellProgress(progress) {
  if (!progress) return;
  const bar = get("bar");
  bar.setAttribute("aria-valuemax", progress.total);
  bar.setAttribute("aria-valuenow", progress.done);
  bar.firstElementChild.style.width = `${100 * progress.done / Math.max(1, progress.total)}%`;
  get("progress").replaceChildren(bold(progress.done.toLocaleString()), ` of ${progress.total.toLocaleString()} ${progress.words}`);
  get("pace").textContent = progress.pace;
}

function bold(text) {
  const made = document.createElement("b");
  made.textContent = text;
  return made;
}

export function tellSaved(word, text, outbox) {
  const waiting = outbox.waiting.filter((item) => item.operation.op === "answer").length;
  const kept = `${waiting} ${waiting === 1 ? "answer is" : "answers are"} kept in this ${outbox.isKept ? "browser" : "page: leave it open"}.`;
  const saved = get("saved");
  const words = { saved: "Saved", saving: "Saving", gone: waiting ? `${text} ${kept}` : text }[word];
  if (word === "saving" && saved.dataset.state === "gone") return; // still gone until somebody answers
  saved.dataset.state = word;
  if (saved.textContent !== words) saved.textContent = words;
  all("#panel footer").forEach((footer) => footer.classList.toggle("warned", word === "gone"));
}

export function tellMissing(missing) {
  const count = missing.size;
  get("missing-count").hidden = !count;
  get("missing-count").textContent = `${count} missing`;
  get("missing").querySelector("ul").replaceChildren(...[...missing.values()].map(({ name, reason }) => {
    const line = document.createElement("li");
    line.textContent = `${name}: ${reason}`;
    return line;
  }));
}

export function press(name, isOn) { get("panel").querySelector(`[data-do=${name}]`)?.setAttribute("aria-pressed", String(isOn)); }

export function enable(item) {
  const button = (name) => get("panel").querySelector(`[data-do=${name}]`);
  for (const name of ["save", "none", "unsure", "skip", "bad"]) button(name).disabled = !item;
  button("compare").disabled = !item?.others;
}
