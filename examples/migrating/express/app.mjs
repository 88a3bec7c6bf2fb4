// The application after the change: who somebody is comes from coatcheck, and old sessions are carried over.
// Usage: app.mjs PORT REDIS-URL COATCHECK-URL, with LOGIN_KEY and SESSION_SECRET in the environment.
import express from 'express';
import { createClient } from 'redis';
import { RedisStore } from 'connect-redis';
import { carryOver } from './carry.mjs';

const [port, redisURL, coatcheck] = process.argv.slice(2);
const redis = await createClient({ url: redisURL }).connect();
const app = express();
app.use(carryOver({ store: new RedisStore({ client: redis }), redis, secret: process.env.SESSION_SECRET, coatcheck, key: process.env.LOGIN_KEY }));
app.get('/', (req, res) => res.send(req.user ?? 'nobody'));
app.post('/logout', async (req, res, next) => {
  try {
    const out = await fetch(`${coatcheck}/auth/logout`, { method: 'POST', headers: { cookie: req.headers.cookie ?? '' } });
    if (!out.ok) return res.sendStatus(503);
    // In place of a cookie that this same request may have begun with.
    res.removeHeader('Set-Cookie');
    res.append('Set-Cookie', out.headers.getSetCookie());
    res.clearCookie('connect.sid').sendStatus(204);
  } catch (err) {
    next(err);
  }
});
app.listen(Number(port), '127.0.0.1');
