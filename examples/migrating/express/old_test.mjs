// The application before the change, with express-session, as it runs on while the new one is there.
// Usage: old_test.mjs PORT REDIS-URL COATCHECK-URL, with LOGIN_KEY and SESSION_SECRET in the environment.
import express from 'express';
import session from 'express-session';
import { createClient } from 'redis';
import { RedisStore } from 'connect-redis';
import { carryOver, forgetting, logOut } from './carry.mjs';

const [port, url, coatcheck] = process.argv.slice(2);
const redis = await createClient({ url }).connect();
const app = express();
let waiting = null;
const secret = process.env.SESSION_SECRET;
const store = new RedisStore({ client: redis });
app.post('/logout', carryOver({ store, redis, secret, coatcheck, key: process.env.LOGIN_KEY }), logOut(coatcheck));
app.use(session({ store: forgetting(store, redis), secret, resave: false, saveUninitialized: false, rolling: true }));
app.post('/login/:user', (req, res) => req.session.regenerate(() => { req.session.userId = req.params.user; res.sendStatus(204); }));
app.get('/', (req, res) => res.type('text').send(req.session.userId ?? 'nobody'));
// Each has read the session, and goes on when it is told to; one does not care whether the rename worked.
app.post('/slow/write', (req, res) => { waiting = () => { req.session.late = true; res.send(req.session.userId); }; });
app.post('/slow/rename', (req, res) => {
  const user = req.session.userId;
  waiting = () => req.session.regenerate(() => { req.session.userId = user; res.send(user); });
});
app.get('/waiting', (req, res) => res.send(String(waiting !== null)));
app.post('/go', (req, res) => { waiting(); waiting = null; res.sendStatus(204); });
app.listen(Number(port), '127.0.0.1');
