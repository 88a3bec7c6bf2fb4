package main

import (
	"context"
	"net/http"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/httpsession"
)

// carrier carries live sessions of scs over, one by one, each at the next request that shows it.
//
// An old session is claimed before it is used, by a key that stays: whoever shows its cookie later gets nothing, whatever became of
// the new session and whatever else writes to the old store. So a logout is final.
type carrier struct {
	old   *scs.SessionManager // with a store on redis
	redis *redis.Client
}

func claimOf(token string) string { return "carried:" + token }

// wrap stands behind httpsession's middleware and before all pages.
func (c carrier) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie(c.old.Cookie.Name)
		if err != nil || cookie.Value == "" {
			next.ServeHTTP(w, r)
			return
		}
		switch again, err := c.carry(r, cookie.Value); {
		case err != nil:
			http.Error(w, "try again", http.StatusServiceUnavailable)
		case again: // A parallel request has just carried it over, and its answer brings the cookie.
			w.Header().Set("Retry-After", "1")
			http.Error(w, "try again", http.StatusServiceUnavailable)
		default:
			http.SetCookie(w, &http.Cookie{Name: c.old.Cookie.Name, Path: c.old.Cookie.Path, Domain: c.old.Cookie.Domain, MaxAge: -1}) //nolint:gosec // clears it
			next.ServeHTTP(w, r)
		}
	})
}

// carry claims the old session of a token, and lets the request's session go on where that one was.
func (c carrier) carry(r *http.Request, token string) (again bool, err error) {
	session := httpsession.Get(r)
	old, err := c.old.Load(r.Context(), token) // empty if it is unknown
	if err != nil {
		return false, err
	}
	user := c.old.GetString(old, "user")
	claimed := false
	if user != "" {
		if claimed, err = c.redis.SetNX(r.Context(), claimOf(token), time.Now().UnixMilli(), 0).Result(); err != nil {
			return false, err
		}
	}
	if !claimed {
		at, err := c.redis.Get(r.Context(), claimOf(token)).Int64()
		if err == redis.Nil { //nolint:errorlint // as go-redis returns it
			return false, nil
		}
		return session.UserID() == "" && time.Since(time.UnixMilli(at)) < 10*time.Second, err
	}
	if session.UserID() == "" {
		if err := c.begin(r, old, user); err != nil {
			c.redis.Del(context.WithoutCancel(r.Context()), claimOf(token)) // nobody was given a cookie
			return false, err
		}
	}
	return false, c.old.Destroy(old)
}

// begin begins a session with the old one's user and values.
func (c carrier) begin(r *http.Request, old context.Context, user string) error {
	session := httpsession.Get(r)
	if err := session.Authenticate(user); err != nil {
		return err
	}
	if err := session.Insert("visits", c.old.GetInt(old, "visits")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	return session.Commit(ctx)
}

// forgetful is for the old application while both run: its store with sessions that were carried over left out. A request that was on
// its way when its session was carried over may write it once more.
type forgetful struct {
	*goredisstore.RedisStore
	redis *redis.Client
}

func (f forgetful) FindCtx(ctx context.Context, token string) (data []byte, found bool, err error) {
	switch carried, err := f.redis.Exists(ctx, claimOf(token)).Result(); {
	case err != nil:
		return nil, false, err
	case carried > 0:
		return nil, false, nil
	}
	return f.RedisStore.FindCtx(ctx, token)
}
