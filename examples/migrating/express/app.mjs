// The application after the change: who somebody is comes from coatcheck, and old sessions are carried over.
// Usage: app.mjs PORT REDIS-URL COATCHECK-URL, with LOGIN_KEY and SESSION_SECRET in the environment.
import express from 'express';
import { createClient } from 'redis';
import { RedisStore } from 'connect-redis';
import { carryOver, logOut } from './carry.mjs';

const [port, redisURL, coatcheck] = process.argv.slice(2);
const redis = await createClient({ url: redisURL }).connect();
const app = express();
app.use(carryOver({ store: new RedisStore({ client: redis }), redis, secret: process.env.SESSION_SECRET, coatcheck, key: process.env.LOGIN_KEY }));
app.get('/', (req, res) => res.type('text').send(req.user ?? 'nobody'));
app.post('/logout', logOut(coatcheck));
app.listen(Number(port), '127.0.0.1');
