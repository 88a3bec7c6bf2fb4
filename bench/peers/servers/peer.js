// The code that the Node peers share: where to listen, which Redis to use, and the view.
import { randomBytes } from "node:crypto";
import { RedisStore } from "connect-redis";
import { createClient } from "redis";

export const cookieName = "session_id";

// How long a session lives without use: coatcheck's default.
export const maxAge = 30 * 60 * 1000;

// Signs the cookies; a peer's sessions need not outlive its process.
export const secret = randomBytes(32).toString("hex");

export function address() {
  const [host, port] = process.env.PEER_LISTEN.split(":");
  return { host, port: Number(port) };
}

// store returns the Redis store that is asked for, or undefined for the library's own memory store.
export async function store() {
  const url = process.env.PEER_REDIS;
  if (!url) {
    return undefined;
  }
  const client = createClient({ url });
  await client.connect();
  return new RedisStore({ client });
}

export function view(session, id) {
  if (!session?.user_id) {
    return { authenticated: false, user_id: null, refreshed: false, session_id: null };
  }
  return { authenticated: true, user_id: session.user_id, refreshed: session.refreshed === true, session_id: id };
}
