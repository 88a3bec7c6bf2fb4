package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
)

// maxPage is how many sessions a page of GET /admin/sessions holds at most, and without a limit.
const maxPage = 1000

// anyonesSession is a sessionView in a list of the sessions of all users.
type anyonesSession struct {
	UserID string `json:"user_id"`
	sessionView
}

// page is a part of a list.
type page[T any] struct {
	Sessions []T    `json:"sessions"`
	Next     string `json:"next,omitempty"` // the cursor of the next page; empty on the last one
}

// listQuery is what GET /admin/sessions is asked for.
type listQuery struct {
	cursor, user string
	limit        int
	filter       sessionFilter
}

// sessionFilter is which sessions are listed. Its zero value is all.
type sessionFilter struct {
	userPrefix     []byte
	address        netip.Prefix // of where the session began, or was last seen
	oldest, newest int64        // the earliest and the latest creation, in Unix milliseconds; 0: no bound
}

// adminListAll lists the sessions of all users by pages, or those of one.
func (s *Server) adminListAll(c *fiber.Ctx) error {
	q, err := s.readListQuery(c)
	if err != nil {
		return err
	}
	if q.user != "" {
		return s.adminListQueried(c, q)
	}
	found, next, err := s.manager.ListAll(context.Background(), q.cursor, q.limit, func(r *coatcheck.Record) bool {
		return q.filter.admits(r.User(), r.CreatedAt, r.IP(), r.LastIP())
	})
	if err != nil {
		return cursorProblem(err)
	}
	p := page[anyonesSession]{make([]anyonesSession, 0, len(found)), next}
	for i := range found {
		p.Sessions = append(p.Sessions, anyonesSession{strings.ToValidUTF8(found[i].UserID, "\uFFFD"), viewOf(&found[i])})
	}
	return c.JSON(p)
}

func cursorProblem(err error) error {
	if errors.Is(err, coatcheck.ErrCursor) {
		return problemCursor
	}
	return err
}

// adminListQueried is adminList with a filter and by pages, which are in the list's order: newest first.
func (s *Server) adminListQueried(c *fiber.Ctx, q *listQuery) error {
	found, err := s.manager.List(context.Background(), q.user)
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(one coatcheck.Info) bool {
		return !q.filter.admits([]byte(one.UserID), one.CreatedAt.UnixMilli(), one.CreatedIP, one.LastIP)
	})
	if q.cursor != "" {
		created, handle, ok := parseUserCursor(q.cursor)
		if !ok {
			return problemCursor
		}
		found = slices.DeleteFunc(found, func(one coatcheck.Info) bool {
			ms := one.CreatedAt.UnixMilli()
			return ms > created || ms == created && bytes.Compare(one.Handle[:], handle[:]) <= 0
		})
	}
	p := page[sessionView]{Sessions: make([]sessionView, 0, min(len(found), q.limit))}
	for i := range found {
		if i == q.limit {
			p.Next = userCursor(&found[i-1])
			break
		}
		p.Sessions = append(p.Sessions, viewOf(&found[i]))
	}
	return c.JSON(p)
}

// userCursor is the cursor of a page of one user's sessions: the last session before it.
func userCursor(last *coatcheck.Info) string {
	return fmt.Sprintf("u%x.%s", last.CreatedAt.UnixMilli(), last.Handle)
}

func parseUserCursor(cursor string) (created int64, handle coatcheck.ID, ok bool) {
	ms, name, _ := strings.Cut(strings.TrimPrefix(cursor, "u"), ".")
	created, err := strconv.ParseInt(ms, 16, 64)
	handle, ok = coatcheck.ParseID([]byte(name))
	return created, handle, ok && err == nil && cursor[0] == 'u'
}

// readListQuery reads the parameters. Its error is the problem with one of them.
func (s *Server) readListQuery(c *fiber.Ctx) (*listQuery, error) {
	values, err := readQuery(c, "user_id", "user_prefix", "address", "min_age", "max_age", "limit", "cursor")
	if err != nil {
		return nil, err
	}
	q := &listQuery{
		cursor: values["cursor"], user: values["user_id"], limit: maxPage,
		filter: sessionFilter{userPrefix: []byte(values["user_prefix"])},
	}
	now := s.manager.Now()
	for name, value := range values {
		ok := value != "" // a parameter without a value is a mistake, and must not mean all
		switch name {
		case "limit":
			q.limit, err = strconv.Atoi(value)
			ok = err == nil && q.limit >= 1 && q.limit <= maxPage
		case "address":
			q.filter.address, ok = parseNet(value)
		case "min_age":
			q.filter.newest, ok = before(now, value)
		case "max_age":
			q.filter.oldest, ok = before(now, value)
		}
		if !ok {
			return nil, problemAdminQuery
		}
	}
	return q, nil
}

// before returns the time that lies an age before now.
func before(now time.Time, age string) (ms int64, ok bool) {
	d, err := time.ParseDuration(age)
	return max(1, now.Add(-d).UnixMilli()), err == nil && d >= 0
}

// parseNet reads an address, or a network as 192.0.2.0/24.
func parseNet(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	return p, err == nil && !p.Addr().Is4In6()
}

// admits reports whether a session is listed.
func (f *sessionFilter) admits(user []byte, created int64, began, last netip.Addr) bool {
	switch {
	case !bytes.HasPrefix(user, f.userPrefix), f.newest != 0 && created > f.newest, created < f.oldest:
		return false
	default:
		return !f.address.IsValid() || f.address.Contains(began) || f.address.Contains(last)
	}
}

// readQuery returns the parameters of the query. The error is the problem with it: one that is not known, twice, without "=",
// or not percent-encoded.
func readQuery(c *fiber.Ctx, known ...string) (map[string]string, error) {
	values := make(map[string]string)
	query := string(c.Request().URI().QueryString())
	if query == "" {
		return values, nil
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		_, twice := values[name]
		if !ok || err != nil || twice || !slices.Contains(known, name) {
			return nil, problemAdminQuery
		}
		values[name] = value
	}
	return values, nil
}
