// Outbox: answers until the server has acknowledged them, also across a closed browser; sent one after another.
const PAUSES = [300, 1000, 2000, 4000]; // ms between tries

export class Outbox {
  // place: names store and annotator; told: {state(word, text), reply(operation, reply), refused(operation, text)}
  constructor(place, told) {
    this.prefix = `outbox/${place}/`;
    this.told = told;
    this.waiting = [];
    this.busy = false;
    this.isKept = true; // whether the browser keeps what is not acknowledged
    this.count = 0;
    this.tries = 0;
  }

  // Takes up what an earlier page left.
  restore() {
    try {
      for (const key of Object.keys(localStorage).filter((name) => name.startsWith(this.prefix)).sort())
        this.waiting.push({ key, operation: JSON.parse(localStorage.getItem(key)) });
    } catch { this.isKept = false; }
    if (this.waiting.length) this.send();
    return this.waiting.map((item) => item.operation);
  }

  add(operation) {
    const stamped = { ...operation, client_id: newId() };
    const place = String(Date.now()).padStart(15, "0") + String(this.count++).padStart(6, "0");
    const item = { key: `${this.prefix}${place}-${stamped.client_id}`, operation: stamped };
    try { localStorage.setItem(item.key, JSON.stringify(stamped)); } catch { this.isKept = false; }
    this.waiting.push(item);
    this.send();
  }

  // In order, each until it is acknowledged or refused. The server counts a client_id once, so a repeat is harmless.
  async send() {
    if (this.busy) return;
    this.busy = true;
    while (this.waiting.length) {
      const item = this.waiting[0];
      this.told.state("saving", "");
      let answer = null;
      try { answer = await post("api/events", item.operation); } catch { /* nobody answered */ }
      if (!answer || answer.status >= 500 || answer.status === 403) {
        this.told.state("gone", reason(answer));
        await pause(PAUSES[Math.min(this.tries++, PAUSES.length - 1)]);
        continue;
      }
      this.tries = 0;
      this.waiting.shift();
      try { localStorage.removeItem(item.key); } catch { /* it was not kept */ }
      if (answer.status === 200) this.told.reply(item.operation, answer.body);
      else this.told.refused(item.operation, answer.body.error || `refused (${answer.status})`);
    }
    this.busy = false;
    this.told.state("saved", "");
  }
}

function reason(answer) {
  if (!answer) return "The server does not answer.";
  if (answer.status === 403) return "The server no longer knows this page: open the address that it printed.";
  return answer.body.error || `The server failed (${answer.status}).`;
}

export async function post(path, content) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(content),
    signal: AbortSignal.timeout(15000),
  });
  const body = await response.json().catch(() => ({}));
  return { status: response.status, body };
}

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
