// The labelling page: what is shown, what the keys do, what goes to the server.
import { Outbox } from "./outbox.js";
import {
  WORDS, all, announce, enable, get, hint, press, setup, tellLabels, tellMissing, tellOpinion, tellProgress, tellReaders, tellSaved, wordsOf,
} from "./panel.js";
import { View } from "./view.js";

const AHEAD = 3; // images that are ready behind the one on the screen
const BOUNCE = 120; // ms after an image has appeared in which nothing decides: a bouncing key, the second half of a double click
const IDLE = 60000; // ms without a sign of life that still count as looking
const BESIDE = 3; // images of the group at once

const state = {
  queue: [], // {item, picture: promise of a bitmap or of {error}}; the first is on the screen
  values: [], // per label: 1, 0, "?" or "" for untouched
  isReady: false, // whether a decision counts
  shownAt: 0, active: 0, lastSign: 0, // ms: how long the image was looked at
  isSingle: false,
  undoing: 0, // undos that wait for the server
  isOver: false, // the server has no further image
  filling: false,
  beside: null, // {items, from} while other images of the group are shown
  missing: new Map(), // image -> {name, reason}
  hasLeft: false, // another tab has taken over
  sawModel: false, // whether the model's opinion of the image has been on the screen
  run: 0, // counts images shown: a late picture belongs to an earlier run
};

const outbox = new Outbox(setup.place, { state: (word, text) => tellSaved(word, text, outbox), reply: replied, refused });
let view = null; // of the image
let views = []; // of all that is on the screen

// ---- from the server ----

async function fetchJson(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(15000) });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(response.status === 403
    ? "The server no longer knows this page: open the address that it printed." : body.error || `The server failed (${response.status}).`);
  return body;
}

function entryOf(item) {
  return { item, picture: load(item) };
}

async function load(item) {
  try {
    const response = await fetch(`image/${item.image}`);
    if (!response.ok) {
      const body = await response.json().catch(() => ({}));
      return { error: body.error || `The server failed (${response.status}).`, isMissing: response.status === 404 };
    }
    return await createImageBitmap(await response.blob());
  } catch { return { error: "The server does not answer.", isGone: true }; }
}

// Asks for as many images as are lacking, says which ones are held, and hears how things stand.
async function fill() {
  if (state.filling || state.hasLeft) return;
  state.filling = true;
  try {
    const held = state.queue.map((entry) => entry.item.image);
    const sent = outbox.waiting.map((item) => item.operation.image).filter((image) => image !== undefined);
    const count = Math.max(0, 1 + AHEAD - held.length);
    const reply = await fetchJson(`api/next?count=${count}&have=${[...held, ...sent].join(",")}`);
    if (state.hasLeft) return;
    const known = new Set([...state.queue.map((entry) => entry.item.image), ...held]);
    const wasEmpty = !state.queue.length;
    state.queue = state.queue.filter((entry, place) => place === 0 || !reply.lost.includes(entry.item.image));
    for (const item of reply.items) if (!known.has(item.image)) state.queue.push(entryOf(item));
    state.isOver = count > 0 && !reply.items.length;
    tellProgress(reply.progress);
    if (!outbox.waiting.length) tellSaved("saved", "", outbox);
    if (reply.labels !== setup.labels.length && isUntouched() && (outbox.isKept || !outbox.waiting.length)) return location.reload();
    if (wasEmpty || document.body.dataset.state === "gone") show();
  } catch (error) {
    tellSaved("gone", error instanceof TypeError || error.name === "TimeoutError" ? "The server does not answer." : error.message, outbox);
    if (!state.queue.length) notice("gone", "The server does not answer", "This page goes on by itself when it is back.");
  } finally { state.filling = false; }
}

// Whether nothing that the reader has marked would be lost with the page.
function isUntouched() {
  const item = state.queue[0]?.item;
  return !item || setup.labels.every((_, place) => state.values[place] === startOf(item, place));
}

// ---- what is shown ----

async function show() {
  const run = ++state.run;
  state.isReady = false;
  closeBeside();
  const entry = state.queue[0];
  document.body.dataset.image = entry ? entry.item.image : "";
  if (!entry) return showEnd();
  const { item } = entry;
  state.values = setup.labels.map((_, place) => startOf(item, place));
  const others = item.others === 1 ? "1 other image" : `${item.others} other images`;
  get("caption").textContent = item.others ? `${item.name}  ·  group ${item.group}, ${others}` : item.name;
  tellReaders(item);
  tellLabels(state.values);
  tellOpinion(item.opinion || null);
  state.sawModel = Boolean(item.opinion);
  enable(item);
  let picture = await Promise.race([entry.picture, later(150, null)]);
  if (!picture) {
    if (run === state.run) notice("loading", "", "Loading ...");
    picture = await entry.picture;
  }
  if (run !== state.run) return;
  if (picture.isGone) {
    notice("gone", "The server does not answer", "This page goes on by itself when it is back.");
    entry.picture = later(2000).then(() => load(item));
    await entry.picture;
    if (run === state.run) show();
    return;
  }
  if (picture.error) {
    state.missing.set(item.image, { name: item.name, reason: picture.error });
    tellMissing(state.missing);
    notice("missing", picture.isMissing ? "This image is missing" : "This image cannot be shown", picture.error, ["skip", "bad"]);
  } else {
    if (state.missing.delete(item.image)) tellMissing(state.missing);
    hideNotice("shown");
    view.show(picture);
    view.canvas.setAttribute("aria-label", `Image ${item.name}`);
  }
  if (item.undone) hint(`Undone: ${wordsOf(item.undone)}`);
  startClock();
  await later(BOUNCE);
  if (run !== state.run) return;
  state.isReady = !state.undoing;
  document.body.dataset.ready = String(item.image);
}

// What stands beside a label when its image appears: what was undone, what this reader held before, in a review the model's answer.
function startOf(item, place) {
  const undone = item.undone?.kind === "label" ? item.undone.values[place] : item.mine?.[place];
  if (undone === 1 || undone === 0) return undone;
  if (undone === null) return "?";
  if (setup.sitting !== "review" || !item.opinion) return "";
  return item.opinion[place] === null ? "" : item.opinion[place] >= 0.5 ? 1 : 0;
}

function showEnd() {
  if (!state.isOver) return notice("loading", "", "Loading ...");
  document.body.dataset.ready = "end";
  notice("end", setup.end_title, setup.end_words, ["undo"]);
  get("caption").textContent = "";
  tellReaders(null);
  state.values = setup.labels.map(() => "");
  tellLabels(state.values);
  tellOpinion(null);
  enable(null);
}

function notice(word, title, text, actions = []) {
  document.body.dataset.state = word;
  view.show(null);
  const box = get("notice");
  box.hidden = false;
  box.querySelector("h2").textContent = title;
  box.querySelector("p").textContent = text;
  box.setAttribute("role", word === "loading" ? "presentation" : "status");
  if (title) announce(`${title}. ${text} ${actions.length ? `Keys: ${actions.map((name) => ACTIONS[name].key).join(", ")}.` : ""}`);
}

function hideNotice(word) {
  document.body.dataset.state = word;
  get("notice").hidden = true;
}

// ---- decisions ----

const isShown = () => document.body.dataset.state === "shown";

function set(place) {
  if (!state.queue.length || !isShown()) return;
  if (setup.is_one_of) return answer("label", setup.labels.map((_, other) => (other === place ? 1 : 0)));
  const next = { "": 1, 1: "?", "?": 0, 0: 1 };
  const flip = { 1: 0, 0: 1, "?": 1, "": 1 }; // in a review a key disagrees
  state.values[place] = (setup.sitting === "review" ? flip : next)[state.values[place]];
  tellLabels(state.values);
  announce(`${setup.labels[place]}: ${WORDS[state.values[place]]}`);
}

function save() {
  if (!isShown()) return hint("Nothing to save: s skips this image, x marks it as bad.");
  if (state.values.every((value) => value === "")) return hint(setup.is_one_of ? "Nothing is marked." : "Nothing is marked: n is for none, ? for unsure.");
  answer("label", state.values.map((value) => (value === "?" ? null : value === 1 ? 1 : 0)));
}

function none() {
  if (setup.is_one_of || !isShown()) return;
  if (state.isSingle) return answer("label", setup.labels.map(() => 0));
  state.values = setup.labels.map(() => 0);
  tellLabels(state.values);
  announce(`${setup.none_words}. Enter saves.`);
}

function choose(choice) { if (isShown()) answer("label", choice.values); }

function answer(kind, values) {
  const entry = state.queue[0];
  if (!entry || !state.isReady) return;
  state.isReady = false;
  const { item } = entry;
  const operation = { op: "answer", kind, image: item.image, values: kind === "label" ? values : null, arm: item.arm, saw_model: state.sawModel, seconds: lookedAt() };
  outbox.add(operation);
  announce(`${kind === "label" ? wordsOf({ kind, values }) : kind}. Next image.`);
  get("hint").hidden = true;
  state.queue.shift();
  show();
  fill();
}

function undo() {
  if (state.hasLeft) return;
  state.undoing += 1;
  state.isReady = false;
  outbox.add({ op: "undo" });
}

function replied(operation, reply) {
  tellProgress(reply.progress);
  if (operation.op !== "undo") {
    if (!state.queue.length) fill();
    return;
  }
  if (state.hasLeft) return;
  state.undoing -= 1;
  if (reply.item) {
    state.queue = state.queue.filter((entry) => entry.item.image !== reply.item.image);
    state.queue.unshift(entryOf(reply.item));
    show();
  } else {
    hint("Nothing is left to undo.");
    state.isReady = Boolean(state.queue.length) && !state.undoing;
  }
}

function refused(operation, text) {
  if (operation.op === "undo") state.undoing -= 1;
  hint(`Not saved: ${text}`);
  show();
  fill();
}

// ---- the time an image was looked at ----

function startClock() {
  state.active = 0;
  state.lastSign = performance.now();
}

function sign() {
  const now = performance.now();
  state.active += document.hidden ? 0 : Math.min(IDLE, now - state.lastSign);
  state.lastSign = now;
}

function lookedAt() {
  sign();
  return Math.round(state.active) / 1000;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) state.active += Math.min(IDLE, performance.now() - state.lastSign);
  state.lastSign = performance.now();
});
for (const kind of ["pointermove", "pointerdown", "keydown", "wheel"]) document.addEventListener(kind, sign, { passive: true, capture: true });

// ---- other images of the group, and the model's opinion ----

async function compare() {
  const item = state.queue[0]?.item;
  if (!item?.others) return hint("No other image belongs to this group.");
  const { run } = state;
  if (!state.beside) {
    try { state.beside = { items: (await fetchJson(`api/others/${item.image}`)).items, from: 0 }; } catch (error) { return hint(error.message); }
  } else state.beside.from += BESIDE;
  if (run !== state.run) return;
  const { items, from } = state.beside;
  if (from >= items.length) return closeBeside();
  removeBeside();
  press("compare", true);
  for (const other of items.slice(from, from + BESIDE)) addFrame(other);
}

function addFrame(other) {
  const frame = frameOf(other.name);
  frame.classList.add("beside");
  const made = new View(frame.querySelector("canvas"));
  made.isInverted = view.isInverted;
  views.push(made);
  load(other).then((picture) => {
    if (picture.error) frame.querySelector("figcaption").textContent = `${other.name}: ${picture.error}`;
    else made.show(picture);
  });
}

function removeBeside() {
  all(".beside").forEach((frame) => frame.remove());
  views = [view];
}

function closeBeside() {
  state.beside = null;
  removeBeside();
  press("compare", false);
}

async function opinion() {
  const item = state.queue[0]?.item;
  if (!item || !setup.has_opinion) return hint("The model has no opinion here.");
  const { run } = state;
  if (!get("labels").querySelector(".opinion").hidden) return tellOpinion(null);
  try {
    const reply = await fetchJson(`api/opinion/${item.image}`);
    if (run !== state.run) return;
    if (reply.opinion) {
      tellOpinion(reply.opinion);
      state.sawModel = true;
    } else hint("The model has not seen this image yet.");
  } catch (error) { hint(error.message); }
}

// ---- modes and keys ----

function setSingle(isSingle) {
  state.isSingle = isSingle && setup.choices.length > 0;
  document.body.dataset.single = String(state.isSingle);
  get("choices").hidden = !state.isSingle;
  get("labels").hidden = state.isSingle && !setup.has_opinion;
  press("mode", state.isSingle);
  try { localStorage.setItem(`single/${setup.place}`, String(state.isSingle)); } catch { /* it is asked for again */ }
}

const ACTIONS = {
  save: { key: "Enter", run: save },
  none: { key: "n", run: none },
  unsure: { key: "?", run: () => answer("unsure") },
  skip: { key: "s", run: () => answer("skip") },
  bad: { key: "x", run: () => answer("bad") },
  undo: { key: "u", run: undo },
  invert: { key: "i", run: () => { views.forEach((each) => each.invert()); press("invert", view.isInverted); } },
  fit: { key: "z", run: () => views.forEach((each) => each.toggleFit()) },
  reset: { key: "r", run: () => { views.forEach((each) => { each.isInverted = false; each.reset(); }); press("invert", false); } },
  compare: { key: "c", run: compare },
  opinion: { key: "o", run: opinion },
  mode: { key: "m", run: () => { if (!setup.is_one_of) setSingle(!state.isSingle); } },
  help: { key: "h", run: () => get("help").showModal() },
};
const STEP = 60, SHARE = 0.04;
const MOVES = {
  ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
};
const DECIDES = new Set(["save", "none", "unsure", "skip", "bad", "undo"]);
const BY_KEY = new Map(Object.entries(ACTIONS).map(([name, action]) => [action.key, name]));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
  if (pressed(event)) event.preventDefault();
});

// Whether the key means something here.
function pressed(event) {
  const { key, target } = event;
  const button = target.closest?.("button");
  if (button && (key === " " || (key === "Enter" && !button.matches(".label")))) return false; // the button's own
  if (MOVES[key]) {
    const [dx, dy] = MOVES[key];
    views.forEach((each) => (event.shiftKey ? each.window(-dy * SHARE, -dx * SHARE) : each.pan(dx * STEP, dy * STEP)));
    return true;
  }
  if (key === "+" || key === "=" || key === "-") {
    views.forEach((each) => each.zoom(key === "-" ? 1 / 1.25 : 1.25));
    return true;
  }
  const choice = state.isSingle ? setup.choices.find((each) => each.key === key) : undefined;
  const place = state.isSingle ? -1 : setup.keys.indexOf(key);
  const name = BY_KEY.get(key) ?? BY_KEY.get(key.toLowerCase()); // a tool whose key a label has listens to Shift with it
  if (!choice && place < 0 && !name) return false;
  if (event.repeat) return true; // a key that is held down decides once
  if (choice) choose(choice);
  else if (place >= 0) set(place);
  else ACTIONS[name].run();
  return true;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { label, choice } = button.dataset, action = button.dataset.do;
  const isSecond = event.detail > 1; // of a double click
  if (event.detail > 0 && !button.closest("dialog")) button.blur(); // so that Enter saves after a click
  if (button.id === "missing-count") get("missing").showModal();
  else if (choice !== undefined && !isSecond) choose(setup.choices[choice]);
  else if (label !== undefined && !state.isSingle && !(isSecond && setup.is_one_of)) set(Number(label));
  else if (action && !(isSecond && DECIDES.has(action) && action !== "undo")) ACTIONS[action].run();
});

// ---- beginning ----

function frameOf(name) {
  const frame = document.createElement("figure");
  frame.className = "frame";
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Image ${name}`);
  const caption = document.createElement("figcaption");
  caption.textContent = name;
  frame.append(canvas, caption);
  get("frames").append(frame);
  return frame;
}

const later = (ms, value) => new Promise((resolve) => setTimeout(resolve, ms, value));

// Another tab has opened the same sitting: this one stops, so that no image is shown in both.
function leave() {
  state.hasLeft = true;
  state.queue = [];
  state.run++;
  state.isReady = false;
  notice("left", "This sitting goes on in another tab", "Close this one, or reload it to go on here.");
}

function begin() {
  const frame = frameOf("");
  frame.querySelector("figcaption").id = "caption";
  view = new View(frame.querySelector("canvas"));
  views = [view];
  let isSingle = setup.is_single;
  try { isSingle = JSON.parse(localStorage.getItem(`single/${setup.place}`)) ?? isSingle; } catch { /* as the server says */ }
  setSingle(isSingle && !setup.is_one_of);
  const left = outbox.restore();
  state.undoing = left.filter((operation) => operation.op === "undo").length;
  if (left.length) hint(`${left.length} kept ${left.length === 1 ? "answer is" : "answers are"} sent now.`);
  notice("loading", "", "Loading ...");
  fill();
  setInterval(() => { if (!document.hidden || outbox.waiting.length) fill(); }, 4000);
  addEventListener("beforeunload", (event) => { if (outbox.waiting.length && !outbox.isKept) event.preventDefault(); });
  const channel = new BroadcastChannel(`sitting/${setup.place}`);
  channel.onmessage = leave;
  channel.postMessage("opened");
  addEventListener("pagehide", () => {
    if (state.hasLeft) return;
    const content = new Blob([JSON.stringify({ have: state.queue.map((entry) => entry.item.image) })], { type: "application/json" });
    navigator.sendBeacon("api/release", content);
  });
  get("stage").focus();
}

begin();
