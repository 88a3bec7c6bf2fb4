// express-session on Express: resave and saveUninitialized off, as its documentation recommends; a request still touches the
// store, which cannot be turned off.
import express from "express";
import session from "express-session";
import { address, cookieName, maxAge, secret, store, view } from "../peer.js";

const app = express();
app.disable("x-powered-by");
app.disable("etag"); // a hash of every body that no client here asks for
app.use(
  session({
    name: cookieName,
    secret,
    store: await store(),
    resave: false,
    saveUninitialized: false,
    cookie: { httpOnly: true, sameSite: "lax", maxAge },
  }),
);

// regenerate begins a session with another ID and these values; the middleware saves it as it ends the response.
function regenerate(req, values) {
  return new Promise((resolve, reject) => {
    req.session.regenerate((err) => {
      if (err) {
        reject(err);
        return;
      }
      Object.assign(req.session, values);
      resolve();
    });
  });
}

app.post("/auth/login", express.json(), async (req, res) => {
  await regenerate(req, { user_id: req.body.user_id, refreshed: false });
  res.json(view(req.session, req.sessionID));
});

app.get("/auth/me", (req, res) => {
  res.json(view(req.session, req.sessionID));
});

app.post("/auth/refresh", async (req, res) => {
  if (req.session.user_id) {
    await regenerate(req, { user_id: req.session.user_id, refreshed: true });
  }
  res.json(view(req.session, req.sessionID));
});

app.post("/auth/logout", (req, res, next) => {
  req.session.destroy((err) => {
    if (err) {
      next(err);
      return;
    }
    res.clearCookie(cookieName);
    res.status(204).end();
  });
});

const { host, port } = address();
app.listen(port, host);
