// Signs in through the JSON API alone, and goes on to the address that the server has checked.

const $ = (id) => document.getElementById(id);
const form = $("login"), user = $("user-id"), password = $("password"), remember = $("remember");

// wait tells a number of seconds to people.
export function wait(seconds) {
  const n = Number(seconds) || 1;
  if (n < 120) return n === 1 ? "a second" : `${n} seconds`;
  return `${Math.ceil(n / 60)} minutes`;
}

// why explains an answer that is not a login. Every refusal has one message, as the API has.
export function why({ status, code, after }) {
  if (status === 401) return password ? "The name or the password is wrong." : "You could not be signed in.";
  if (code === "login_throttled") return `Too many sign-ins failed. Try again in ${wait(after)}.`;
  if (code === "too_many_connections") return `Too many requests come from your address. Try again in ${wait(after)}.`;
  if (status === 429) return `Too many requests. Try again in ${wait(after)}.`; // of a proxy, for whatever reason
  if (code === "claims_too_large") return "You cannot be signed in: too much is known of you. Tell the administrator.";
  if (status === 503) return `The server cannot sign anybody in now. Try again in ${wait(after)}.`;
  if (status === 0) return "The server cannot be reached. Check your connection, then try again.";
  return "That did not work. Reload the page, then try again.";
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

async function ask(body) {
  try {
    const resp = await fetch("login", { method: "POST", redirect: "error", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
    const text = await resp.text();
    return { status: resp.status, after: resp.headers.get("Retry-After"), ...(text && { code: parsed(text, resp.status).code }) };
  } catch {
    return { status: 0 };
  }
}

function invalid(field, is) {
  field.setAttribute("aria-invalid", is);
  return is;
}

let busy = false;
let changes = 0; // of the fields
let signedIn = -1; // as what they said after so many changes

// goOn leads to the address, once more where the browser is still on its way there, or has made a download of it.
function goOn() {
  $("done").textContent = "You are signed in.";
  location.assign(form.dataset.return);
}

async function signIn() {
  $("failed").textContent = $("wrong").textContent = $("done").textContent = ""; // so that a screen reader says a refusal once more
  invalid(user, false);
  // A second login would end this session, and the browser drop its cookie when it leaves the page.
  if (signedIn === changes) return goOn();
  const sent = changes; // the fields may change while the answer is on its way
  const answer = await ask({ user_id: user.value, ...(password && { password: password.value }), ...(remember?.checked && { remember: true }) });
  if (answer.status === 200) {
    signedIn = sent;
    return goOn();
  }
  if (answer.status === 422) {
    invalid(user, true);
    $("wrong").textContent = `Enter ${password ? "your name" : "a user ID"}: 1 to 256 bytes, without control characters.`;
    user.focus();
    return;
  }
  $("failed").textContent = why(answer);
  if (answer.status === 401) {
    (password ?? user).focus();
    (password ?? user).select();
  }
}

form.addEventListener("input", () => { changes++; });
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy) return;
  busy = true;
  await signIn();
  busy = false;
});
