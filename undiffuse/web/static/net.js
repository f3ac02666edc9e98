// Requests to the service, its jobs, and its streams of events.

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const ROOT = "/api/v1";

async function request(method, path, { body, headers } = {}) {
  const json = body !== undefined && !(body instanceof FormData);
  let answer;
  try {
    answer = await fetch(ROOT + path, {
      method,
      headers: { ...(json ? { "Content-Type": "application/json" } : {}), ...headers },
      body: json ? JSON.stringify(body) : body,
    });
  } catch {
    throw new Problem(0, "The server does not answer. Is undiffuse serve still running?");
  }
  if (answer.ok) return answer;
  let detail = `${answer.status} ${answer.statusText}`;
  try {
    const told = await answer.json();
    if (typeof told.detail === "string") detail = told.detail;
  } catch { /* not JSON: the status says all there is */ }
  if (answer.status === 429) {
    const after = Number(answer.headers.get("Retry-After")) || 5;
    detail = `The server is busy (${detail.replace(/\.$/, "")}). Try again in ${after} s.`;
  }
  throw new Problem(answer.status, detail);
}

export async function api(method, path, body) {
  const answer = await request(method, path, { body });
  return answer.status === 204 ? null : answer.json();
}

export const get = (path) => api("GET", path);
export const run = (name) => `/runs/${encodeURIComponent(name)}`;

export async function upload(files) {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.path || file.webkitRelativePath || file.name);
  return api("POST", "/uploads", form);
}

// What came of a job, as plain data.
export const result = (state) => get(`/jobs/${state.id}/result`);

// Start a job and follow it. `seen` is called with each state; resolves to the last one.
// `signal`, an AbortSignal, cancels the job.
export async function job(path, body, seen = () => {}, signal = null) {
  const answer = await request("POST", path, { body, headers: { Prefer: "respond-async" } });
  let state = await answer.json();
  const at = `/jobs/${state.id}`;
  const cancel = () => api("DELETE", at).catch(() => {});
  signal?.addEventListener("abort", cancel, { once: true });
  if (signal?.aborted) cancel(); // while the job was being asked for
  seen(state);
  await new Promise((resolve) => {
    const close = follow(`${ROOT}${at}/events`, {
      message: (data) => {
        state = { ...state, ...data };
        seen(state);
        if (over(state)) close();
        if (over(state)) resolve();
      },
      end: resolve,
      lost: async () => {
        try {
          state = await get(at);
        } catch (problem) {
          state = { ...state, state: "failed", problem: problem.message };
        }
        seen(state);
        if (over(state)) close();
        if (over(state)) resolve();
      },
    });
  });
  signal?.removeEventListener("abort", cancel);
  if (state.state === "failed") throw new Problem(422, state.problem || "The job failed.");
  if (state.state === "cancelled") throw new Problem(499, "Cancelled.");
  return state;
}

const over = (state) => ["done", "failed", "cancelled"].includes(state.state);

// Follow server-sent events. The browser connects again by itself with the last id that it saw;
// where it gives up (the server was away), we do, and tell by `lost`. A page that nobody sees lets
// go: a browser opens six connections to a server, over all its tabs.
// Returns a function that ends it.
export function follow(url, { message, begin, end, lost, open }) {
  let source = null, timer = null, ended = false;
  const drop = () => { source?.close(); source = null; clearTimeout(timer); };
  const stop = () => { ended = true; drop(); document.removeEventListener("visibilitychange", seen); };
  const seen = () => {
    if (document.hidden) drop();
    else if (!source) { begin?.(); connect(); }
  };
  const connect = () => {
    drop();
    source = new EventSource(url);
    source.onopen = () => open?.();
    source.onmessage = (event) => message(JSON.parse(event.data));
    source.addEventListener("begin", () => begin?.());
    source.addEventListener("end", () => { stop(); end?.(); });
    source.onerror = () => {
      lost?.();
      if (!ended && source?.readyState === EventSource.CLOSED) timer = setTimeout(() => { begin?.(); connect(); }, 2000);
    };
  };
  document.addEventListener("visibilitychange", seen);
  if (!document.hidden) connect();
  return stop;
}

// Save a result under a name, without leaving the page.
export function save(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}
