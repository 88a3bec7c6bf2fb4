// The caller's sessions, through the JSON API alone. What the server or a user agent says goes in as text, never as markup.

const $ = (id) => document.getElementById(id);

const browsers = [
  ["Edge", /\bEdg(e|A|iOS)?\//], ["Opera", /\b(OPR|Opera)\//], ["Samsung Internet", /\bSamsungBrowser\//], ["Vivaldi", /\bVivaldi\//],
  ["Firefox", /\b(Firefox|FxiOS)\//], ["Chrome", /(Chrome|CriOS)\//], ["Safari", /\bVersion\/.*\bSafari\//],
];
const systems = [
  ["iPhone", /\biPhone\b/], ["iPad", /\biPad\b/], ["Android", /\bAndroid\b/], ["Windows", /\bWindows\b/], ["ChromeOS", /\bCrOS\b/],
  ["macOS", /\bMacintosh\b/], ["Linux", /\bLinux\b/],
];

// nameOf makes a short name for people from a User-Agent header.
export function nameOf(agent) {
  const known = (names) => names.find(([, pattern]) => pattern.test(agent))?.[0];
  const browser = known(browsers), system = known(systems);
  if (browser && system) return `${browser} on ${system}`;
  const [program] = agent.match(/^[\w.-]{1,40}(?=[/ ]|$)/) ?? [];
  return browser ?? (program && program !== "Mozilla" ? program : system ? `A browser on ${system}` : "Unknown browser");
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const dayAndYear = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });

// ago tells how long before now a time was; a clock that is behind makes nothing happen in the future.
export function ago(time, now) {
  const minutes = Math.floor((now - time) / 60000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return relative.format(-minutes, "minute");
  if (minutes < 24 * 60) return relative.format(-Math.floor(minutes / 60), "hour");
  return relative.format(-Math.floor(minutes / 1440), "day");
}

// at tells a day and the time of that day.
export function at(time, now) {
  const t = new Date(time), today = new Date(now);
  if (t.toDateString() === today.toDateString()) return `today, ${clock.format(t)}`;
  return `${(t.getFullYear() === today.getFullYear() ? day : dayAndYear).format(t)}, ${clock.format(t)}`;
}

// parsed reads a body. A proxy's own 429 or 503 may be HTML; any other answer that is not JSON was not this server's.
function parsed(text, status) {
  try {
    return JSON.parse(text);
  } catch (err) {
    if (status === 429 || status === 503) return {};
    throw err;
  }
}

// call asks the API. Its answer has status 0 when there was none.
async function call(method, path, body) {
  try {
    const resp = await fetch(path, {
      method, redirect: "error", ...(body && { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
    });
    const text = await resp.text();
    return { status: resp.status, wait: resp.headers.get("Retry-After"), ...(text && parsed(text, resp.status)) };
  } catch {
    return { status: 0 };
  }
}

// why explains an answer that is not what was asked for.
function why({ status, code, wait }) {
  const later = wait > 1 ? `Try again in ${wait} seconds.` : "Try again in a moment.";
  if (code === "reauth_required") {
    // After a sign-out a provider may let the person in without asking for anything, which does not count, unless it never says when it
    // asked: then signing in anew fails, and every login counts.
    const how = $("anew") ? "Sign in again; if that fails, sign out and sign in again. Then" : "Sign out, sign in again, then";
    return `Nothing was ended: for this you must have signed in a short time ago. ${how} try once more.`;
  }
  if (code === "login_refused") return "You could not be signed in.";
  if (code === "too_many_requests") return `Nothing was ended: you have ended other sessions too often. ${later}`;
  if (code === "login_throttled") return `Too many sign-ins failed. ${later}`;
  // The answer names a second, but what keeps a browser from renewing may take minutes: Chromium's quota up to nine.
  if (code === "binding_pending") return "Your browser could not renew your session yet. Nothing has changed. Try again in a few minutes.";
  if (code === "too_many_connections") return `Too many requests come from your address. Nothing has changed. ${later}`;
  if (status === 429) return `Too many requests. Nothing has changed. ${later}`; // of a proxy, for whatever reason
  if (status === 503) return `The server cannot do that now. ${later}`;
  if (status === 0) return "The server cannot be reached. Check your connection, then try again.";
  return "That did not work. Reload the page, then try again.";
}

function say(done = "", failed = "") {
  $("done").textContent = done;
  $("failed").textContent = failed;
}

// show makes one of the sections the visible one.
function show(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
  $("who").hidden = id !== "signed-in";
  watch();
}

let watching = null; // the EventSource that waits for the end of this session

// watch has the server tell when this session ends, while the page is visible: a browser has at most six connections to a server,
// and a hidden page needs none of them.
function watch() {
  const wanted = !document.hidden && !$("signed-in").hidden;
  if (!wanted) {
    unwatch();
  } else if (!watching) {
    watching = new EventSource("watch");
    watching.addEventListener("ended", (event) => gone(JSON.parse(event.data).reason));
    watching.addEventListener("error", refusedToWatch);
  }
}

function unwatch() {
  watching?.close();
  watching = null;
}

// refusedToWatch asks whether the session has ended when the server refuses a watch. After any other refusal the page does not watch
// again until it is shown anew. After a broken connection the browser reconnects by itself.
async function refusedToWatch() {
  if (watching?.readyState !== EventSource.CLOSED) return;
  watching = null;
  const me = await call("GET", "me");
  // An action in progress tells of the end itself, and signing out must not be called an end.
  if (me.status === 200 && !me.authenticated && !busy && !$("signed-in").hidden) gone("ended");
}

// gone shows that the session has ended elsewhere. A newer token of the same session is watched in its turn.
async function gone(reason) {
  unwatch();
  if (reason !== "rotated") $("ask").close();
  const focus = await load();
  if (focus !== $("in")) return;
  focus.focus();
  say("Your session has ended.");
}

function element(name, text, attrs = {}) {
  const e = document.createElement(name);
  e.textContent = text;
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  return e;
}

function item(session) {
  const now = Date.now(), name = nameOf(session.user_agent), place = session.ip ?? "unknown address";
  const seen = ago(new Date(session.last_seen_at), now), moved = session.created_ip !== session.ip;
  const li = element("li", ""), text = element("div", ""), title = element("h3", name);
  const last = element("p", "Last seen "), since = element("p", "Signed in "), until = element("p", "Valid until ");
  if (session.user_agent) title.title = session.user_agent;
  if (session.current) title.append(" ", element("span", "This session", { class: "here" }));
  if (session.bound) title.append(" ", element("span", "Bound to its device", { class: "bound" }));
  last.append(element("time", seen, { datetime: session.last_seen_at }), ` from ${place}`);
  since.append(element("time", at(session.created_at, now), { datetime: session.created_at }), moved ? ` from ${session.created_ip ?? "unknown address"}` : "");
  until.append(element("time", at(session.expires_at, now), { datetime: session.expires_at }));
  text.append(title, last, since, until);
  li.append(text);
  if (!session.current) {
    const end = element("button", "End", { type: "button", "data-handle": session.handle, "aria-label": `End ${name}, ${place}, last seen ${seen}` });
    end.addEventListener("click", () => ask(`End ${name}?`, `Last seen ${seen} from ${place}. Whoever uses it has to sign in again.`, "End session", () => endOne(session.handle, name)));
    li.append(end);
  }
  return li;
}

let others = 0; // sessions on the page, beside this one
let loading = null; // the latest look; if two overlap, only this one is shown

// load shows how things are. It returns where the focus belongs if what had it is gone.
function load() {
  const mine = look(() => mine === loading);
  loading = mine;
  return mine;
}

async function look(counts) {
  const me = await call("GET", "me");
  const list = me.authenticated ? await call("GET", "sessions") : me;
  if (!counts()) return loading;
  if (list.sessions) {
    $("user").textContent = me.user_id;
    const focused = document.activeElement?.dataset.handle;
    $("list").replaceChildren(...list.sessions.map(item));
    if (focused) document.querySelector(`[data-handle="${focused}"]`)?.focus();
    others = list.sessions.length - 1;
    $("others").hidden = others < 1;
    show("signed-in");
    return $("where");
  }
  $("list").replaceChildren();
  $("user").textContent = "";
  if (list.status === 200 || list.status === 401) {
    show("signed-out");
    return $("in");
  }
  show("unknown");
  say("", why(list));
  return $("again");
}

// What an action returns: what to say, and whether anything is other than it was. A session that has ended is.
const ended = (done) => ({ done, changed: true });
function refused(answer) {
  if (answer.status === 401 && answer.code === "unauthenticated") return { failed: "You are no longer signed in.", changed: true };
  // A store may have done what it did not answer.
  const maybe = answer.code === "store_unavailable" ? " It may have been done all the same." : "";
  return { failed: why(answer) + maybe, anew: answer.code === "reauth_required" };
}

async function endOne(handle, name) {
  const answer = await call("DELETE", `sessions/${handle}`);
  if (answer.status === 204) return ended(`${name} was signed out.`);
  if (answer.status === 404) return ended(`${name} had been signed out before.`);
  return refused(answer);
}

async function endOthers() {
  const answer = await call("DELETE", "sessions");
  if (answer.status !== 200) return refused(answer);
  return ended(answer.revoked === 1 ? "1 other session was ended." : `${answer.revoked} other sessions were ended.`);
}

async function signOut() {
  unwatch(); // or a request to watch that is on its way is refused
  const answer = await call("POST", "logout");
  if (answer.status === 204) return ended("You are signed out.");
  watch();
  return refused(answer);
}

async function signIn(field) {
  const answer = await call("POST", "login", { user_id: field.value });
  const wrong = answer.status === 422;
  field.setAttribute("aria-invalid", wrong);
  $("wrong").textContent = wrong ? "Enter a user ID: 1 to 256 bytes, without control characters." : "";
  if (wrong) {
    field.focus();
    return {};
  }
  if (answer.status !== 200) return refused(answer);
  field.value = "";
  return ended("You are signed in.");
}

let busy = false;

// act does one thing at a time, then shows how things are and what came of it. What came of the last one goes first: a screen
// reader says a refusal once more only if it was gone.
async function act(what) {
  if (busy) return;
  busy = true;
  say();
  try {
    const { done, failed, changed, anew } = await what();
    if ($("anew")) $("anew").hidden = !anew;
    if (changed) (await load()).focus();
    if (!changed || $("unknown").hidden) say(done, failed);
  } finally {
    busy = false;
  }
}

let asked = null; // what the answer of yes does

// ask puts a question before what cannot be undone. The answer that changes nothing has the focus, and Escape gives it.
function ask(question, effect, yes, what) {
  if (busy) return;
  asked = what;
  $("question").textContent = question;
  $("effect").textContent = effect;
  $("yes").textContent = yes;
  $("ask").showModal();
}

// On submit, not on close: the close event comes later, and another button could be pressed before it.
$("ask").addEventListener("submit", (event) => event.submitter.value === "yes" && act(asked));

$("others").addEventListener("click", () => ask(others === 1 ? "End the other session?" : `End the ${others} other sessions?`,
  "You stay signed in here. Whoever uses the others has to sign in again.", "End all others", endOthers));
$("out").addEventListener("click", () => act(signOut));
$("again").addEventListener("click", () => act(() => ended("")));
$("login")?.addEventListener("submit", (event) => {
  event.preventDefault();
  act(() => signIn($("user-id")));
});
// What another tab did meanwhile is seen when one comes back to this one.
document.addEventListener("visibilitychange", () => {
  watch();
  if (!document.hidden && !busy && !$("ask").open) load();
});
$("site").textContent = location.host;
document.title = `Your sessions at ${location.host}`;
if ($("home")) $("home").textContent = location.host;
if ($("sign-in")) { // a login page that knows verify's parameter leads back here
  const url = new URL($("sign-in").href);
  url.searchParams.set("rd", url.origin === location.origin ? location.pathname : location.href);
  $("sign-in").href = url;
}
load();
