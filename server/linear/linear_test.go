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
	requests int           // of each client
	pictures string        // where they go; "": see picture
}

// result is what a variant's histories have shown.
type result struct {
	mu                      sync.Mutex
	histories, asked, steps int // guarded by mu, as all that follow
	unknown                 int
	reads, stale, old       int
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
				history, err := newRound(v.nodes, v.rules.lossy).play(transport, cmp.Or(v.requests, 8), v.bound)
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

// judgeFor is how long one check may take: histories are short, and a check that takes this long decides nothing.
const judgeFor = time.Minute

func (v variant) judge(history []porcupine.Operation, res *result) {
	began := time.Now()
	var o outcome
	if v.bound == 0 {
		o.verdict = v.check(history)
		o.history = history
	} else {
		o = v.checkCached(history)
	}
	asked, unknown := count(history)
	res.mu.Lock()
	defer res.mu.Unlock()
	res.histories++
	res.asked += asked
	res.steps += len(history)
	res.unknown += unknown
	res.reads, res.stale, res.old = res.reads+o.reads, res.stale+o.stale, res.old+o.old
	res.longest = max(res.longest, time.Since(began))
	switch o.verdict {
	case porcupine.Ok:
	case porcupine.Unknown:
		res.undecided++
	case porcupine.Illegal:
		res.violation = o.history
	}
}

func (v variant) check(history []porcupine.Operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(v.rules.model(), history, judgeFor)
}

// outcome is what a history has shown.
type outcome struct {
	verdict           porcupine.CheckResult
	history           []porcupine.Operation // what the verdict is of
	reads, stale, old int                   // reads that a cache may have answered, that are old, and older than is healthy
}

// checkCached judges a history of nodes with caches: without the reads that a cache may have answered, and then with each of
// those alone, which may be as old as the bound.
func (v variant) checkCached(history []porcupine.Operation) outcome {
	rest, reads := cached(history)
	o := outcome{reads: len(reads)}
	for _, by := range []time.Duration{0, v.healthy, v.bound} {
		o.history = older(rest, by)
		if o.verdict = v.check(o.history); o.verdict == porcupine.Ok {
			break
		}
	}
	if o.verdict != porcupine.Ok {
		return o
	}
	rest = o.history
	for _, read := range reads {
		for i, by := range []time.Duration{0, v.healthy, v.bound} {
			moved := read
			moved.Call -= int64(by)
			o.history = append(slices.Clip(rest), moved)
			if o.verdict = v.check(o.history); o.verdict == porcupine.Ok {
				break
			}
			switch i {
			case 0:
				o.stale++
			case 1:
				o.old++
			}
		}
		if o.verdict != porcupine.Ok {
			return o
		}
	}
	return o
}

// picture writes what porcupine makes of a history that it refuses, and returns the file's name. The log has what the model
// could follow longest, and what did not fit then.
func (v variant) picture(t *testing.T, history []porcupine.Operation) string {
	t.Helper()
	dir := cmp.Or(v.pictures, os.Getenv("COATCHECK_VERIFY_DIR"), os.TempDir())
	_, info := porcupine.CheckOperationsVerbose(v.rules.model(), laned(history), judgeFor)
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

// hold plays rounds for that long, and fails the test for a history that is none of the contract.
func (v variant) hold(t *testing.T, d time.Duration) {
	t.Helper()
	began := time.Now()
	res := v.verify(t, d)
	t.Logf("%d histories, %d requests (%d unanswered), %d steps in %v; the longest check %v",
		res.histories, res.asked, res.unknown, res.steps, time.Since(began).Round(time.Second), res.longest.Round(time.Millisecond))
	if v.bound > 0 {
		t.Logf("%d reads that a cache may have answered: %d were old, %d older than %v", res.reads, res.stale, res.old, v.healthy)
	}
	if res.violation != nil {
		t.Fatalf("a history that the contract does not allow: see %s", v.picture(t, res.violation))
	}
	require.Zero(t, res.undecided, "checks that decided nothing")
	require.Positive(t, res.histories)
}

func line(op porcupine.Operation) string {
	return fmt.Sprintf("%d to %d µs: %s", op.Call/1000, op.Return/1000, describe(op.Input.(input), op.Output.(output)))
}
