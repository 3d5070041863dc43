// Asks the server, and gives what it answers piece by piece.

/** An error that the server tells of, in its own words. */
export class Refused extends Error {
  constructor(message, status) { super(message); this.status = status; }
}

/** A view of the server as JSON. */
export async function look(path, key) {
  return await checked(await fetch(path, { headers: headers(key) }));
}

/** The events of an answer, as objects. */
export async function* answer(body, key, signal) {
  const response = await fetch("v1/chat/completions", {
    method: "POST", headers: { ...headers(key), "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
  });
  if (!response.ok) await checked(response);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new Refused(event.error.message, 500);
    yield event;
  }
  throw new Refused("The server broke off the answer.", 500);
}

/** The data of server-sent events in a body. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}

async function checked(response) {
  let told = null;
  try { told = await response.json(); } catch { /* not JSON: the status says what there is to say */ }
  if (!response.ok) throw new Refused(told?.error?.message ?? `The server answered with ${response.status}.`, response.status);
  return told;
}

function headers(key) {
  return key ? { Authorization: `Bearer ${key}` } : {};
}
