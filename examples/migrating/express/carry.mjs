// Carries live sessions of express-session over to coatcheck, one by one, each at the next request that shows it.
import { randomUUID } from 'node:crypto';
import { parse } from 'cookie';
import signature from 'cookie-signature';

const name = 'connect.sid';
const kept = 30 * 24 * 3600; // seconds that a claim stays: longer than any old session lives
const pending = 20; // seconds until a carry-over that has failed can be tried again
const onItsWay = 10; // seconds that an answer may take to bring the new cookie to the browser

const claimOf = (sid) => `carried:${sid}`;

const ask = (coatcheck, method, path, headers, body) =>
  fetch(coatcheck + path, { method, headers, body, signal: AbortSignal.timeout(5_000) });

// carryOver is a middleware, which sets req.user. store and secret (an array of them, too) are those of express-session, redis is a client of the Redis that
// has the old sessions, coatcheck is the server's URL, and key a login key of it (--login trusted).
//
// An old session is claimed before it is used: the claim is one request's, and then "done". A request that comes meanwhile is told
// to try again, and one that comes later gets nothing, whatever became of the new session and whatever else writes to the old store. So
// a logout is final.
export function carryOver({ store, redis, secret, coatcheck, key }) {
  // carry returns false if the request has to be tried again.
  async function carry(req, res) {
    const me = await ask(coatcheck, 'GET', '/auth/me', { cookie: req.headers.cookie ?? '' });
    if (!me.ok) return false;
    req.user = (await me.json()).user_id;

    const signed = parse(req.headers.cookie ?? '')[name] ?? '';
    const sid = signed.startsWith('s:') && [secret].flat().map((one) => signature.unsign(signed.slice(2), one)).find(Boolean);
    if (!sid) return true;

    const user = (await old('get', sid))?.userId;
    const mine = randomUUID();
    if (user && (await redis.set(claimOf(sid), mine, { NX: true, EX: pending }))) {
      const login = req.user ? null : await logIn(user, req);
      if (login?.ok === false) return false;
      const cookies = login?.headers.getSetCookie() ?? [];
      const cookie = cookies.map((c) => c.split(';')[0]).join('; ');
      // Another request has the claim if this one took too long, and the old session has gone if somebody ended it meanwhile.
      const held = (await redis.set(claimOf(sid), 'done', { GET: true, EX: kept })) === mine;
      if (!held || (await old('get', sid))?.userId !== user) {
        await ask(coatcheck, 'POST', '/auth/logout', { cookie }); // the session that nobody gets
        return false;
      }
      await old('destroy', sid);
      if (login) {
        res.append('Set-Cookie', cookies);
        req.headers.cookie = cookie; // for a logout in this same request
        req.user = user;
      }
    } else if (!(await isOver(sid, user, req))) return false;
    res.clearCookie(name);
    return true;
  }

  // isOver tells, of an old session that this request has not claimed, whether its cookie is nobody's.
  async function isOver(sid, user, req) {
    const claim = await redis.get(claimOf(sid));
    if (!claim) return !user; // a claim that has just expired left the session alive
    if (claim !== 'done') return false;
    return Boolean(req.user) || (await redis.ttl(claimOf(sid))) < kept - onItsWay;
  }

  const old = (method, sid) =>
    new Promise((resolve, reject) => store[method](sid, (err, session) => (err ? reject(err) : resolve(session))));

  function logIn(user, req) {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json', 'x-forwarded-for': req.ip };
    headers['user-agent'] = req.get('user-agent') ?? '';
    return ask(coatcheck, 'POST', '/auth/login', headers, JSON.stringify({ user_id: String(user) }));
  }

  return async (req, res, next) => {
    const passed = await carry(req, res).catch((err) => console.error('carry-over:', err));
    if (passed) return next();
    res.set('Retry-After', '1').sendStatus(503);
  };
}

// logOut answers POST /logout, behind carryOver: in the new application, and in the old one while both run. It passes on by what coatcheck
// knows a page of another site, and refuses what coatcheck refuses.
export function logOut(coatcheck) {
  return async (req, res) => {
    const headers = { cookie: req.headers.cookie ?? '' };
    for (const from of ['origin', 'sec-fetch-site']) if (from in req.headers) headers[from] = req.headers[from];
    const out = await ask(coatcheck, 'POST', '/auth/logout', headers).catch(() => null);
    if (out?.status === 403) return res.sendStatus(403);
    if (!out?.ok) return res.set('Retry-After', '1').sendStatus(503);
    res.removeHeader('Set-Cookie'); // of a session that this same request began
    res.append('Set-Cookie', out.headers.getSetCookie());
    res.clearCookie(name).sendStatus(204);
  };
}

// forgetting is for the old application while both run: its store with sessions that are claimed left out. A request that was on its
// way when its session was carried over may write it once more, but cannot rename it.
export function forgetting(store, redis) {
  const get = (sid, callback) =>
    redis.exists(claimOf(sid)).then(
      (claimed) => (claimed ? callback(null, null) : store.get(sid, callback)),
      (err) => callback(err),
    );
  // regenerate deletes first and looks for a claim then. A carry-over claims first and looks for the session then, so that at least one
  // of two that meet fails. express-session's own makes a new session although the old one could not be deleted.
  function regenerate(req, callback) {
    const sid = req.sessionID;
    const renamed = (claimed) => {
      if (claimed) return callback(new Error('the session is carried over'));
      this.generate(req);
      callback();
    };
    this.destroy(sid, (err) => (err ? callback(err) : redis.exists(claimOf(sid)).then(renamed, callback)));
  }
  return Object.assign(Object.create(store), { get, regenerate });
}
