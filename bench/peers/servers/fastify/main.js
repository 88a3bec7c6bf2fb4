// @fastify/session on Fastify: saveUninitialized and rolling off. Both are on by default; rolling would write and set the
// cookie on every read.
import cookie from "@fastify/cookie";
import session from "@fastify/session";
import Fastify from "fastify";
import { address, cookieName, maxAge, secret, store, view } from "../peer.js";

const app = Fastify({ logger: false });
await app.register(cookie);
await app.register(session, {
  cookieName,
  secret,
  store: await store(),
  saveUninitialized: false,
  rolling: false,
  cookie: { secure: false, httpOnly: true, sameSite: "lax", path: "/", maxAge },
});

async function rotate(request, values) {
  await request.session.regenerate();
  for (const [name, value] of Object.entries(values)) {
    request.session.set(name, value);
  }
}

// A schema lets Fastify compile the serializer, which is how Fastify is meant to be used.
const body = {
  type: "object",
  properties: {
    authenticated: { type: "boolean" },
    user_id: { type: ["string", "null"] },
    refreshed: { type: "boolean" },
    session_id: { type: ["string", "null"] },
  },
};
const schema = { response: { 200: body } };

app.post("/auth/login", { schema }, async (request) => {
  await rotate(request, { user_id: request.body.user_id, refreshed: false });
  return view(request.session, request.session.sessionId);
});

app.get("/auth/me", { schema }, async (request) => view(request.session, request.session.sessionId));

app.post("/auth/refresh", { schema }, async (request) => {
  const user = request.session.user_id;
  if (user) {
    await rotate(request, { user_id: user, refreshed: true });
  }
  return view(request.session, request.session.sessionId);
});

app.post("/auth/logout", async (request, reply) => {
  await request.session.destroy();
  reply.clearCookie(cookieName, { path: "/" });
  return reply.code(204).send();
});

await app.listen(address());
