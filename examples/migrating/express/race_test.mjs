// Runs carry.mjs with a Redis, an old store and a coatcheck that it makes up, one step at a time, in an order that chance decides: two
// requests with the same old cookie, a logout with it, and somebody who deletes the old session and ends the user's new ones, or a slow
// request of the old application that writes the old session, or one that renames it. Logins fail, or take so long that the claim expires.
// Usage: race_test.mjs RUNS
import assert from 'node:assert';
import session from 'express-session';
import signature from 'cookie-signature';
import { carryOver, forgetting, logOut } from './carry.mjs';

const oldCookie = `connect.sid=${encodeURIComponent('s:' + signature.sign('x', 'secret'))}`;
let world;
globalThis.fetch = (...args) => world.fetch(...args);
console.error = () => {}; // of logins that fail

class World {
  constructor(seed) {
    Object.assign(this, { state: Math.imul(seed + 1, 0x9e3779b1), now: 0, keys: new Map(), old: new Map([['x', { userId: 'ann' }]]), live: new Set(), lost: new Set(), made: 0, waiting: [], running: 0, calm: false });
    this.redis = {
      set: (key, value, { NX, EX, GET }) => this.step(() => {
        const before = this.value(key);
        if (NX && before !== null) return null;
        this.keys.set(key, { value, until: this.now + EX });
        return GET ? before : 'OK';
      }),
      get: (key) => this.step(() => this.value(key)),
      exists: (key) => this.step(() => Number(this.value(key) !== null)),
      ttl: (key) => this.step(() => (this.value(key) === null ? -2 : Math.round(this.keys.get(key).until - this.now))),
    };
    const call = (f) => (sid, callback) => this.step(() => f(sid)).then((v) => callback(null, v), callback);
    this.store = Object.assign(new session.Store(), { get: call((sid) => this.old.get(sid) ?? null), destroy: call((sid) => void this.old.delete(sid)) });
  }
  random(n) { // xorshift
    this.state ^= this.state << 13; this.state ^= this.state >>> 17; this.state ^= this.state << 5;
    return (this.state >>> 0) % n;
  }
  value(key) {
    const entry = this.keys.get(key);
    return entry && entry.until > this.now ? entry.value : null;
  }
  // step does something when its turn has come.
  async step(f) {
    await new Promise((resolve) => this.waiting.push(resolve));
    this.now += this.random(100) / 1000;
    return f();
  }
  async play(...actors) {
    this.running = actors.length;
    for (const actor of actors) actor().finally(() => this.running--);
    while (this.running > 0) {
      await new Promise(setImmediate); // all actors wait for their turn now
      if (this.waiting.length) this.waiting.splice(this.random(this.waiting.length), 1)[0]();
    }
  }
  fetch(url, { method, headers }) {
    const answer = (status, body, cookies = []) => ({ ok: status < 300, status, json: async () => body, headers: { getSetCookie: () => cookies } });
    const mine = () => (headers.cookie ?? '').match(/coatcheck=\w+/)?.[0];
    return this.step(() => {
      switch (`${method} ${url}`) {
        case 'GET /auth/me': return answer(200, { user_id: this.live.has(mine()) ? 'ann' : null });
        case 'POST /auth/logout': this.live.delete(mine()); return answer(204, null, ['coatcheck=; Max-Age=0']);
        default: {
          if (!this.calm && this.random(4) === 0) this.now += 25;
          if (!this.calm && this.random(4) === 0) return answer(503);
          const cookie = `coatcheck=n${++this.made}`;
          this.live.add(cookie);
          if (!this.calm && this.random(8) === 0) {
            this.lost.add(cookie);
            throw new Error('the answer is lost');
          }
          return answer(201, null, [`${cookie}; HttpOnly`]);
        }
      }
    });
  }
  // request has a browser with only the old cookie ask, and returns what it is told.
  async request(path) {
    const res = { status: 200, user: null, cookies: [] };
    const answered = new Promise((resolve) => {
      Object.assign(res, {
        set: () => res, append: (_, values) => (res.cookies.push(...values), res), removeHeader: () => (res.cookies = []), clearCookie: () => res,
        sendStatus: (status) => resolve((res.status = status)), done: resolve,
      });
    });
    const req = { headers: { cookie: oldCookie }, get: () => 'a browser', ip: '127.0.0.1' };
    carryOver({ store: this.store, redis: this.redis, secret: ['the next secret', 'secret'], coatcheck: '', key: 'k' })(req, res, () => {
      if (path === '/logout') return logOut('')(req, res);
      res.user = req.user;
      res.done();
    });
    await answered;
    if (res.status === 503) assert.deepEqual(res.cookies, [], 'a request to try again brings no cookie');
    return res;
  }
  // rename has the old application rename the session, as at a change of privilege.
  async rename() {
    const store = Object.assign(forgetting(this.store, this.redis), { generate: (req) => { req.sessionID = 'y'; } });
    const found = await new Promise((resolve) => store.get('x', (_, old) => resolve(old)));
    const req = { sessionID: 'x' };
    const err = found ? await new Promise((resolve) => store.regenerate(req, resolve)) : 'nobody';
    if (!err) await this.step(() => this.old.set(req.sessionID, found));
  }
}

const seen = { carried: 0, renamed: 0, loggedOut: 0, refused: 0, endedElsewhere: 0 };
for (let seed = 0; seed < Number(process.argv[2]); seed++) {
  world = new World(seed);
  const w = world;
  const got = [];
  let out = null;
  const visit = async () => got.push(await w.request('/'));
  const logout = async () => { out = await w.request('/logout'); };
  const deletion = async () => { await w.step(() => w.old.delete('x')); await w.step(() => w.live.clear()); };
  const lateWrite = async () => { for (let i = 0; i < 8; i++) await w.step(() => {}); await w.step(() => w.old.set('x', { userId: 'ann' })); };
  const [leaves, ends, writes, renames] = [[true, false, true], [false, true, false], [true, false, false], [true, true, false], [true, false, false, true]][seed % 5];
  await w.play(visit, visit, ...(leaves ? [logout] : []), ...(ends ? [deletion] : []), ...(writes ? [lateWrite] : []), ...(renames ? [() => w.rename()] : []));

  const why = `seed ${seed}: ${JSON.stringify({ got, out })}`;
  const delivered = got.flatMap((res) => res.cookies.filter((c) => c.startsWith('coatcheck=n')).map((c) => c.split(';')[0]));
  assert(delivered.length <= 1, `${why}: two browsers were given a session`);
  const over = out?.status === 204 || ends;
  if (over) for (const cookie of delivered) assert(!w.live.has(cookie), `${why}: a session lives on`);
  for (const cookie of w.live) assert(delivered.includes(cookie) || w.lost.has(cookie), `${why}: a session that nobody was given`);
  if (delivered.length && !writes) assert(!w.old.has('x'), `${why}: the old session is still there`);
  if (delivered.length) assert(!w.old.has('y'), `${why}: the old session is there by another name`);
  w.now += 100;
  w.calm = true;
  await w.play(async () => {
    const copy = await w.request('/');
    assert.equal(copy.status, 200, why);
    if (over || delivered.length) assert.equal(copy.user ?? null, null, `${why}: a copy of the old cookie opens a session`);
  });
  seen.carried += delivered.length;
  seen.renamed += w.old.has('y');
  seen.loggedOut += out?.status === 204;
  seen.refused += out?.status === 503;
  seen.endedElsewhere += ends && delivered.length === 0;
}

// An old session that is unknown or has no user is not claimed.
for (const old of [undefined, { cart: 1 }]) {
  world = new World(1);
  world.old.set('x', old);
  await world.play(async () => assert.equal((await world.request('/')).status, 200));
  assert.equal(world.keys.size, 0, 'a claim of no session');
}
for (const [what, times] of Object.entries(seen)) assert(times > 0, `${what}: never`);
console.log(JSON.stringify(seen));
