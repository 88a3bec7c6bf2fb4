// Carries live sessions of express-session over to coatcheck, one by one, each at the next request that shows it.
import { parse } from 'cookie';
import signature from 'cookie-signature';

const name = 'connect.sid';
const claimOf = (sid) => `carried:${sid}`;

// carryOver is a middleware, which sets req.user. store and secret are those of express-session, redis is a client of the Redis that
// has the old sessions, coatcheck is the server's URL, and key a login key of it (--login trusted).
//
// An old session is claimed before it is used, by a key that stays: whoever shows its cookie later gets nothing, whatever became of the
// new session and whatever else writes to the old store. So a logout is final.
export function carryOver({ store, redis, secret, coatcheck, key }) {
  async function carry(req, res, next) {
    const me = await fetch(`${coatcheck}/auth/me`, { headers: { cookie: req.headers.cookie ?? '' } });
    if (!me.ok) return res.sendStatus(503);
    req.user = (await me.json()).user_id;

    const signed = parse(req.headers.cookie ?? '')[name] ?? '';
    const sid = signed.startsWith('s:') && signature.unsign(signed.slice(2), secret);
    if (!sid) return next();

    if (!(await redis.set(claimOf(sid), Date.now(), { NX: true }))) {
      // A parallel request has just carried it over, and its answer brings the cookie: try again.
      const justNow = Date.now() - Number(await redis.get(claimOf(sid))) < 10_000;
      if (!req.user && justNow) return res.set('Retry-After', '1').sendStatus(503);
    } else {
      const old = await new Promise((resolve, reject) => store.get(sid, (err, session) => (err ? reject(err) : resolve(session))));
      if (old?.userId && !req.user) {
        const login = await logIn(old.userId, req).catch(() => null);
        if (!login?.ok) {
          await redis.del(claimOf(sid)); // nobody was given a cookie
          return res.sendStatus(503);
        }
        const cookies = login.headers.getSetCookie();
        res.append('Set-Cookie', cookies);
        req.headers.cookie = cookies.map((c) => c.split(';')[0]).join('; '); // for a logout in this same request
        req.user = old.userId;
      }
      await new Promise((resolve, reject) => store.destroy(sid, (err) => (err ? reject(err) : resolve())));
    }
    res.clearCookie(name);
    next();
  }

  function logIn(user, req) {
    return fetch(`${coatcheck}/auth/login`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', 'user-agent': req.get('user-agent') ?? '', 'x-forwarded-for': req.ip },
      body: JSON.stringify({ user_id: String(user) }),
      signal: AbortSignal.timeout(5_000),
    });
  }

  return (req, res, next) => carry(req, res, next).catch(next);
}

// forgetting is for the old application while both run: its store with sessions that were carried over left out. A request that was on
// its way when its session was carried over may write it once more.
export function forgetting(store, redis) {
  const get = store.get.bind(store);
  store.get = (sid, callback) =>
    redis.exists(claimOf(sid)).then(
      (carried) => (carried ? callback(null, null) : get(sid, callback)),
      (err) => callback(err),
    );
  return store;
}
