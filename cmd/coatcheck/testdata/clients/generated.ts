// The recipe with the types that openapi-typescript makes of the document, as api.ts beside this file, and openapi-fetch. Usage: node
// generated.js URL.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };

const jar = new Map<string, string>(); // fetch keeps no cookies outside browsers
const client = createClient<paths>({
  baseUrl: process.argv[2],
  fetch: async (request: Request) => {
    if (jar.size > 0) request.headers.set("Cookie", [...jar].map(([name, value]) => `${name}=${value}`).join("; "));
    const response = await fetch(request);
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = line.match(/^([^=;]+)=([^;]*)/)!;
      if (line.includes("Max-Age=0")) jar.delete(name);
      else jar.set(name, value);
    }
    return response;
  },
});

function must(holds: boolean, what: unknown): asserts holds {
  if (!holds) throw new Error(JSON.stringify(what));
}

const before = await client.GET("/auth/me");
must(before.data?.authenticated === false, before.data);
const refused = await client.GET("/auth/userinfo");
must(refused.response.status === 401 && refused.error?.code === "unauthenticated", refused.error);

const login = await client.POST("/auth/login", { body: { user_id: "Jürgen 🧥" } });
const began: components["schemas"]["UserSession"] | undefined = login.data;
must(began !== undefined && began.user_id === "Jürgen 🧥", login.error);
const me = await client.GET("/auth/me");
must(me.data !== undefined && me.data.authenticated && me.data.session_id === began.session_id, me.data);
console.log("login, me");

const refresh = await client.POST("/auth/refresh");
must(refresh.data !== undefined && refresh.data.authenticated && refresh.data.session_id !== began.session_id, refresh.data);
const list = await client.GET("/auth/sessions");
must(list.data?.sessions.length === 1 && list.data.sessions[0].current === true, list.data);
console.log("refresh");

const logout = await client.POST("/auth/logout");
must(logout.response.status === 204 && jar.size === 0, logout.error);
const after = await client.GET("/auth/me");
must(after.data?.authenticated === false, after.data);
console.log("logout");
