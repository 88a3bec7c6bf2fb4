package linear

import (
	"crypto/rand"
	"math"
	mrand "math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/dbsctest"
)

// round is one history: a few clients at work on the sessions of two users whom nobody else knows. That makes it a partition
// by itself, since nothing of a session or a user depends on others.
type round struct {
	nodes   []node
	settled bool // a request that failed is over: nothing of it happens later
	users   [2]string
	began   time.Time
	ops     atomic.Int64
	devices *devices

	mu     sync.Mutex
	tokens []token // guarded by mu: all that were issued so far
}

const clients = 4

func newRound(nodes []node, settled bool) *round {
	return &round{nodes: nodes, settled: settled, users: [2]string{"a-" + rand.Text(), "b-" + rand.Text()}, began: time.Now(), devices: &devices{key: dbsctest.NewDevice()}}
}

func (r *round) learn(t token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens = append(r.tokens, t)
}

// pick returns a token: mostly one of the newest, sometimes an old one, seldom none or one with a secret that nobody issued.
func (r *round) pick() token {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.tokens)
	switch dice := mrand.IntN(100); {
	case n == 0 || dice < 4:
		return token{}
	case dice < 7:
		t, _ := coatcheck.ParseToken([]byte(r.tokens[mrand.IntN(n)].text))
		wrong, _ := newToken(string(t.Rotated().AppendSecretText(nil)))
		return wrong
	case dice < 75:
		return r.tokens[n-1-mrand.IntN(min(n, 3))]
	default:
		return r.tokens[mrand.IntN(n)]
	}
}

// play lets the clients do their requests, and returns what they saw. With a pause, every token is presented once more to
// every node when nothing has changed for that long.
func (r *round) play(transport http.RoundTripper, requests int, pause time.Duration) ([]porcupine.Operation, error) {
	cs := make([]*client, clients)
	errs := make([]error, clients)
	var all sync.WaitGroup
	for i := range cs {
		cs[i] = &client{number: i, round: r, http: &http.Client{Transport: transport}}
		all.Go(func() {
			for range requests {
				if errs[i] = cs[i].act(); errs[i] != nil {
					return
				}
				if mrand.IntN(3) == 0 {
					time.Sleep(time.Duration(mrand.Int64N(int64(grace))))
				}
			}
		})
	}
	all.Wait()
	var history []porcupine.Operation
	for i, c := range cs {
		if errs[i] != nil {
			return nil, errs[i]
		}
		history = append(history, c.history...)
	}
	if pause == 0 {
		return history, nil
	}
	time.Sleep(pause)
	last := &client{number: clients, round: r, http: &http.Client{Transport: transport}}
	for _, at := range r.nodes {
		for _, t := range r.tokens {
			if err := last.values(at, t); err != nil {
				return nil, err
			}
		}
	}
	return append(history, last.history...), nil
}

// act sends one request.
func (c *client) act() error {
	r := c.round
	at, carried, user := r.nodes[mrand.IntN(len(r.nodes))], r.pick(), r.users[mrand.IntN(8)/7]
	switch dice := mrand.IntN(116); {
	case dice >= 108:
		return c.prove(at, true)
	case dice >= 100:
		return c.prove(at, false)
	case dice < 22:
		return c.login(at, carried, user)
	case dice < 38:
		return c.refresh(at, carried)
	case dice < 52:
		return c.set(at, carried)
	case dice < 64:
		return c.me(at, carried)
	case dice < 76:
		return c.values(at, carried)
	case dice < 82:
		return c.logout(at, carried)
	case dice < 86:
		return c.endOne(at, carried, r.handle())
	case dice < 90:
		return c.endOthers(at, carried, mrand.IntN(4) == 0)
	case dice < 94:
		return c.endUser(at, user)
	case dice < 96:
		return c.adminEnd(at, user, r.handle())
	default:
		return c.list(at, user)
	}
}

// handle returns the name of some session, or of none.
func (r *round) handle() string {
	if t := r.pick(); t.handle != "" {
		return t.handle
	}
	return coatcheck.NewToken(coatcheck.Tag{}).Key().Handle().String()
}

// cached takes from a history the reads that a cache may have answered: those that say yes, since a cached record may say
// nothing else. What remains is judged as strictly as without caches, but for what requests of several steps began with.
func cached(history []porcupine.Operation) (rest, reads []porcupine.Operation) {
	for _, op := range history {
		if k := op.Input.(input).kind; (k == kindMe || k == kindRead) && op.Output.(output).id != "" {
			reads = append(reads, op)
		} else {
			rest = append(rest, op)
		}
	}
	return rest, reads
}

// older lets the history's requests of several steps begin with a read that is that much older than they are.
func older(history []porcupine.Operation, by time.Duration) []porcupine.Operation {
	moved := make([]porcupine.Operation, len(history))
	for i, op := range history {
		if op.Input.(input).kind == kindOpen && op.Output.(output).status != http.StatusUnauthorized {
			op.Call -= int64(by)
		}
		moved[i] = op
	}
	return moved
}

// count tells how many requests a history has, and how many of them were not answered.
func count(history []porcupine.Operation) (asked, unknown int) {
	answered := make(map[int]bool)
	for _, op := range history {
		n := op.Input.(input).op
		if _, seen := answered[n]; !seen {
			answered[n] = true
		}
		if op.Output.(output).unknown() {
			answered[n] = false
		}
	}
	for _, ok := range answered {
		if !ok {
			unknown++
		}
	}
	return len(answered), unknown
}

// laned gives the steps of one request, which overlap, lanes of their own in a picture.
func laned(history []porcupine.Operation) []porcupine.Operation {
	lanes := make([]porcupine.Operation, len(history))
	step := make(map[int]int)
	var end int64
	for _, op := range history {
		if op.Return != math.MaxInt64 {
			end = max(end, op.Return)
		}
	}
	for i, op := range history {
		n := op.Input.(input).op
		op.ClientId = op.ClientId*5 + step[n]
		op.Return = min(op.Return, end+1)
		step[n]++
		lanes[i] = op
	}
	return lanes
}
