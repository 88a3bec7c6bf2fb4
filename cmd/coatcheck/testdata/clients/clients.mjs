// The walk with the HTTP clients of Node that have a cookie jar. Usage: node clients.mjs CLIENT URL [CA-FILE]. Prints a line for each
// step. The packages are those of the folder that NODE_CLIENTS names.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import http from "node:http";
import https from "node:https";

const [name, base, caFile] = process.argv.slice(2);
const need = createRequire(process.env.NODE_CLIENTS + "/");
const { CookieJar } = need("tough-cookie");
const ca = caFile && readFileSync(caFile);
const jar = new CookieJar();

const clients = {
  // undici has no jar; this is how its users put tough-cookie beside it.
  undici() {
    const { Agent, request } = need("undici");
    const dispatcher = new Agent({ connect: { ca } });
    return async (method, path, body) => {
      const cookie = await jar.getCookieString(base + path);
      const resp = await request(base + path, {
        method,
        dispatcher,
        headers: { ...(cookie && { cookie }), ...(body && { "content-type": "application/json" }) },
        body: body && JSON.stringify(body),
      });
      for (const line of [resp.headers["set-cookie"] ?? []].flat()) await jar.setCookie(line, base + path);
      return [resp.statusCode, await resp.body.text()];
    };
  },
  // axios has none either; interceptors put one beside it.
  axios() {
    const axios = need("axios");
    const client = axios.create({
      baseURL: base,
      proxy: false,
      httpsAgent: new https.Agent({ ca }),
      transformResponse: (text) => text,
      validateStatus: () => true,
    });
    client.interceptors.request.use(async (config) => {
      const cookie = await jar.getCookieString(base + config.url);
      if (cookie) config.headers.set("Cookie", cookie);
      return config;
    });
    client.interceptors.response.use(async (resp) => {
      for (const line of resp.headers["set-cookie"] ?? []) await jar.setCookie(line, base + resp.config.url);
      return resp;
    });
    return async (method, url, data) => {
      const resp = await client.request({ method, url, data });
      return [resp.status, resp.data];
    };
  },
  // Node's own module.
  http() {
    const { request } = base.startsWith("https:") ? https : http;
    return (method, path, body) =>
      new Promise((resolve, reject) => {
        const cookie = jar.getCookieStringSync(base + path);
        const req = request(base + path, { method, ca, headers: { ...(cookie && { cookie }), ...(body && { "content-type": "application/json" }) } });
        req.on("error", reject);
        req.on("response", (resp) => {
          for (const line of resp.headers["set-cookie"] ?? []) jar.setCookieSync(line, base + path);
          let text = "";
          resp.setEncoding("utf8");
          resp.on("data", (part) => (text += part));
          resp.on("end", () => resolve([resp.statusCode, text]));
          resp.on("error", reject);
        });
        req.end(body && JSON.stringify(body));
      });
  },
};

const call = clients[name]();
let before = "";
for (const [method, path, body] of [
  ["GET", "/auth/me"],
  ["GET", "/auth/userinfo"],
  ["POST", "/auth/login", { user_id: "Jürgen 🧥" }],
  ["GET", "/auth/me"],
  ["POST", "/auth/refresh"],
  ["GET", "/auth/me"],
  ["POST", "/auth/logout"],
  ["GET", "/auth/userinfo"],
]) {
  const [status, text] = await call(method, path, body);
  const said = text ? JSON.parse(text) : {};
  const now = (await jar.getCookies(base)).map((c) => c.cookieString()).join("; ");
  const kept = now === "" ? "empty" : now === before ? "the same" : now.includes(";") ? "both" : "new";
  console.log(`${method} ${path}: ${status} ${said.code ?? said.user_id ?? "nobody"}, jar ${kept}`);
  before = now;
}
process.exit(0); // kept connections would hold it
