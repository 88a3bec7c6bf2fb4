package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log"
	"net/http"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/httpsession"
)

// carrier carries live sessions of scs over, one by one, each at the next request that shows it.
//
// An old session is claimed before it is used: the claim is one request's, and then "done". A request that comes meanwhile is told
// to try again, and one that comes later gets nothing, whatever became of the new session and whatever else writes to the old store. So
// a logout is final.
type carrier struct {
	old   *scs.SessionManager // with a store on redis
	redis *redis.Client
}

const (
	kept     = 30 * 24 * time.Hour // that a claim stays: longer than any old session lives
	pending  = 20 * time.Second    // until a carry-over that has failed can be tried again
	onItsWay = 10 * time.Second    // that an answer may take to bring the new cookie to the browser
)

func claimOf(token string) string { return "carried:" + token }

// wrap stands behind httpsession's middleware and before all pages.
func (c carrier) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie(c.old.Cookie.Name)
		if err != nil || cookie.Value == "" {
			next.ServeHTTP(w, r)
			return
		}
		over, err := c.carry(r, cookie.Value)
		if err != nil {
			log.Print("carry-over: ", err)
		}
		if !over {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: c.old.Cookie.Name, Path: c.old.Cookie.Path, Domain: c.old.Cookie.Domain, MaxAge: -1}) //nolint:gosec // clears it
		next.ServeHTTP(w, r)
	})
}

// carry claims the old session of a token, and lets the request's session go on where that one was. Unless the old cookie is nobody's
// afterwards, the request has to be tried again.
func (c carrier) carry(r *http.Request, token string) (over bool, err error) {
	ctx, session := r.Context(), httpsession.Get(r)
	old, err := c.old.Load(ctx, token) // empty if it is unknown
	if err != nil {
		return false, err
	}
	user, mine, claimed := c.old.GetString(old, "user"), rand.Text(), false
	if user != "" {
		if claimed, err = c.redis.SetNX(ctx, claimOf(token), mine, pending).Result(); err != nil {
			return false, err
		}
	}
	if !claimed {
		return c.isOver(r, token, user)
	}
	begins := session.UserID() == ""
	if begins {
		err = c.begin(r, old, user)
	}
	if err == nil {
		over, err = c.end(ctx, token, mine, user)
	}
	if !over && begins {
		session.Destroy() // nobody gets its cookie
		err = errors.Join(err, session.Commit(context.WithoutCancel(ctx)))
	}
	return over, err
}

// isOver tells, of an old session that this request has not claimed, whether its cookie is nobody's.
func (c carrier) isOver(r *http.Request, token, user string) (bool, error) {
	switch claim, err := c.redis.Get(r.Context(), claimOf(token)).Result(); {
	case errors.Is(err, redis.Nil):
		return user == "", nil // a claim that has just expired left the session alive
	case err != nil || claim != "done":
		return false, err
	case httpsession.Get(r).UserID() != "":
		return true, nil
	}
	left, err := c.redis.TTL(r.Context(), claimOf(token)).Result()
	return err == nil && left < kept-onItsWay, err
}

// end ends the old session. It returns false if another request has the claim, because this one took too long, and if somebody has
// ended the old session meanwhile.
func (c carrier) end(ctx context.Context, token, mine, user string) (bool, error) {
	claim, err := c.redis.SetArgs(ctx, claimOf(token), "done", redis.SetArgs{Get: true, TTL: kept}).Result()
	if claim != mine {
		return false, err
	}
	old, err := c.old.Load(ctx, token)
	if err != nil || c.old.GetString(old, "user") != user {
		return false, err
	}
	err = c.old.Destroy(old)
	return err == nil, err
}

// begin begins a session with the old one's user and values.
func (c carrier) begin(r *http.Request, old context.Context, user string) error {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	session := httpsession.Get(r)
	if err := session.BeginLogin(ctx, user); err != nil {
		return err
	}
	if err := session.Authenticate(user); err != nil {
		return err
	}
	if err := session.Insert("visits", c.old.GetInt(old, "visits")); err != nil {
		return err
	}
	return session.Commit(ctx)
}

// forgetful is for the old application while both run: its store with sessions that are claimed left out. A request that was on its
// way when its session was carried over may write it once more, but cannot rename it.
type forgetful struct {
	*goredisstore.RedisStore
	redis *redis.Client
}

func (f forgetful) FindCtx(ctx context.Context, token string) (data []byte, found bool, err error) {
	switch claimed, err := f.redis.Exists(ctx, claimOf(token)).Result(); {
	case err != nil:
		return nil, false, err
	case claimed > 0:
		return nil, false, nil
	}
	return f.RedisStore.FindCtx(ctx, token)
}

// DeleteCtx, with which RenewToken begins, deletes first and looks for a claim then. A carry-over claims first and looks for the session
// then, so that at least one of two that meet fails. It deletes in any case, because it may be Destroy that called it, for a logout.
func (f forgetful) DeleteCtx(ctx context.Context, token string) error {
	if err := f.RedisStore.DeleteCtx(ctx, token); err != nil {
		return err
	}
	claimed, err := f.redis.Exists(ctx, claimOf(token)).Result()
	if err == nil && claimed > 0 {
		err = errors.New("the session is carried over")
	}
	return err
}
