package linear

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock and its pools' cleaners cannot be stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
	)
}

// duration is how long each variant runs: COATCHECK_VERIFY, or a few seconds.
func duration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("COATCHECK_VERIFY")
	if text == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, "COATCHECK_VERIFY")
	return d
}

// variant is a set of nodes, and how strictly they are judged.
type variant struct {
	nodes    []node
	rules    rules
	healthy  time.Duration // how old a read is that is not yet counted as old; 0: none may be
	bound    time.Duration // how old one may be at most
	requests int           // of each client; 0: eight
	patience time.Duration // how long one check may take before it decides nothing; 0: a minute
	pictures string        // where they go; "": see picture
}

// result is what a variant's histories have shown.
type result struct {
	mu                      sync.Mutex
	histories, asked, steps int // guarded by mu, as all that follow
	unknown, old            int
	longest                 time.Duration // of a check
	violation               []porcupine.Operation
	undecided               int
}

// verify plays rounds for that long, or until one is no history of the contract.
func (v variant) verify(t *testing.T, d time.Duration) *result {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	t.Cleanup(transport.CloseIdleConnections)
	res := new(result)
	deadline := time.Now().Add(d)
	at := 10
	if v.bound > 0 {
		at = 32 // they wait most of the time
	}
	var all sync.WaitGroup
	for range at {
		all.Go(func() {
			for time.Now().Before(deadline) && !res.failed() && !t.Failed() {
				history, err := newRound(v.nodes).play(transport, cmp.Or(v.requests, 8), v.bound)
				if err != nil {
					t.Error(err)
					return
				}
				v.judge(history, res)
			}
		})
	}
	all.Wait()
	return res
}

func (r *result) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.violation != nil
}

func (v variant) judge(history []porcupine.Operation, res *result) {
	began := time.Now()
	verdict, old := v.check(history)
	asked, unknown := count(history)
	res.mu.Lock()
	defer res.mu.Unlock()
	res.histories++
	res.asked += asked
	res.steps += len(history)
	res.unknown += unknown
	res.longest = max(res.longest, time.Since(began))
	if old {
		res.old++
	}
	switch verdict {
	case porcupine.Ok:
	case porcupine.Unknown:
		res.undecided++
	case porcupine.Illegal:
		res.violation = history
	}
}

// check tells whether the history is one of the contract, and whether only with reads that were old.
func (v variant) check(history []porcupine.Operation) (verdict porcupine.CheckResult, old bool) {
	verdict = porcupine.CheckOperationsTimeout(v.rules.model(), stale(history, v.healthy), cmp.Or(v.patience, time.Minute))
	if verdict != porcupine.Ok && v.bound > v.healthy {
		return porcupine.CheckOperationsTimeout(v.rules.model(), stale(history, v.bound), cmp.Or(v.patience, time.Minute)), true
	}
	return verdict, false
}

// picture writes what porcupine makes of a history that it refuses, and returns the file's name. The log has what the model
// could follow longest, and what did not fit then.
func (v variant) picture(t *testing.T, history []porcupine.Operation) string {
	t.Helper()
	dir := cmp.Or(v.pictures, os.Getenv("COATCHECK_VERIFY_DIR"), os.TempDir())
	_, info := porcupine.CheckOperationsVerbose(v.rules.model(), laned(stale(history, v.bound)), cmp.Or(v.patience, time.Minute))
	var best []porcupine.Operation
	for _, part := range info.PartialLinearizationsOperations()[0] {
		if len(part) > len(best) {
			best = part
		}
	}
	followed := make(map[string]bool)
	for _, op := range best {
		followed[line(op)] = true
		t.Log(line(op))
	}
	m := v.rules.model()
	st := m.Init()
	for _, op := range best {
		_, st = m.Step(st, op.Input, op.Output)
	}
	t.Log("what follows does not fit", m.DescribeState(st))
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, op := range laned(history) {
		if !followed[line(op)] {
			t.Log(line(op))
		}
	}
	path := filepath.Join(dir, fmt.Sprintf("violation-%d.html", time.Now().UnixNano()))
	require.NoError(t, porcupine.VisualizePath(v.rules.model(), info, path))
	return path
}

// hold fails the test for a history that is none of the contract.
func (v variant) hold(t *testing.T) {
	t.Helper()
	began := time.Now()
	res := v.verify(t, duration(t))
	t.Logf("%d histories, %d requests (%d unanswered), %d steps in %v; the longest check %v; %d histories with reads older than %v",
		res.histories, res.asked, res.unknown, res.steps, time.Since(began).Round(time.Second), res.longest.Round(time.Millisecond), res.old, v.healthy)
	if res.violation != nil {
		t.Fatalf("a history that the contract does not allow: see %s", v.picture(t, res.violation))
	}
	require.Zero(t, res.undecided, "checks that decided nothing")
	require.Positive(t, res.histories)
}

func line(op porcupine.Operation) string {
	return fmt.Sprintf("%d to %d µs: %s", op.Call/1000, op.Return/1000, describe(op.Input.(input), op.Output.(output)))
}
