package shardstore_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// These are TestCrash's environment variables: how often the child is killed (15 times; `make crash` does it 200 times),
// and, in the child, the folder that it works on.
const (
	crashKills = "COATCHECK_CRASH_KILLS"
	crashChild = "COATCHECK_CRASH_CHILD"
)

// TestCrash kills a process at random moments of mixed traffic, in the middle of snapshots too, and checks what the next
// store restores from its folder: no acknowledged change is undone, and no session that has ended is back.
//
// The child writes a line before each operation and one after it. An operation without the second line may have happened or
// not.
func TestCrash(t *testing.T) {
	if dir := os.Getenv(crashChild); dir != "" {
		crash(t, dir)
	}
	kills := 15
	if n, err := strconv.Atoi(os.Getenv(crashKills)); err == nil {
		kills = n
	}
	dir := t.TempDir()
	seen := newWitness()
	for i := range kills {
		seen.read(t, killed(t, dir))
		s, err := tryOnDisk(dir, realClock)
		require.NoError(t, err, "after kill %d", i)
		seen.check(t, s)
		require.NoError(t, s.Close())
		if t.Failed() {
			t.Fatalf("after kill %d", i)
		}
	}
	t.Logf("%d kills, %d sessions, %d of them ended, %d snapshots", kills, len(seen.sessions), seen.ended(), snapshots(t, dir))
}

func realClock(opt *shardstore.Options) { opt.Now = nil }

// snapshots returns how many snapshots were taken, by the name of the last one.
func snapshots(t *testing.T, dir string) (n int) {
	for _, name := range filesIn(t, dir) {
		if digits, ok := strings.CutPrefix(name, "snapshot-"); ok {
			n, _ = strconv.Atoi(digits)
		}
	}
	return n - 1
}

// killed runs a child on the folder, kills it, and returns what it wrote.
func killed(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrash$") //nolint:noctx // it is killed below
	cmd.Env = append(os.Environ(), crashChild+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	in := bufio.NewReader(out)
	first, err := in.ReadString('\n') // the child is at work
	require.NoError(t, err)
	time.AfterFunc(time.Duration(rand.IntN(150_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
	rest, err := io.ReadAll(in)
	require.NoError(t, err)
	require.Error(t, cmd.Wait(), "it was killed")
	return first + string(rest)
}

// crash is the child. It ends by being killed.
func crash(t *testing.T, dir string) {
	s, err := shardstore.New(shardstore.Options{Dir: dir, SnapshotBytes: 20 << 10})
	require.NoError(t, err)
	go func() { // snapshots more often than the store would take them itself
		for {
			_ = s.Snapshot()
		}
	}()
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(os.Stdout, format+"\n", args...)
	}
	for worker := range 4 {
		go func() {
			for {
				crashUser(t, s, fmt.Sprintf("user-%d-%d", worker, rand.Int()), say)
			}
		}()
	}
	time.Sleep(time.Minute)
	os.Exit(3)
}

// crashUser does a few operations as a user of its own.
func crashUser(t *testing.T, s *shardstore.Store, user string, say func(string, ...any)) {
	ctx, now := context.Background(), time.Now()
	until := now.Add(10 * time.Second)
	var recs []*coatcheck.Record
	for range 3 {
		rec := session(t, user, now, time.Hour)
		opt := coatcheck.CreateOptions{Limit: 2, Until: until}
		if len(recs) == 2 { // the limit ends the first
			say("? E %s", key64(oldestOf(recs)))
		}
		say("? P %s 1", key64(rec))
		_, err := s.Create(ctx, rec, opt, now)
		require.NoError(t, err)
		say("! P %s 1", key64(rec))
		if len(recs) == 2 {
			say("! E %s", key64(oldestOf(recs)))
		}
		recs = append(recs, rec)
	}
	alive := recs[2]
	for range 5 {
		say("? P %s %d", key64(alive), alive.Version+1)
		require.NoError(t, renew(t, s, alive, now, time.Hour))
		require.NoError(t, s.Load(ctx, alive.Key, alive.ID, now, alive))
		say("! P %s %d", key64(alive), alive.Version)
	}
	switch rand.IntN(3) {
	case 0:
		var last coatcheck.Record
		say("? E %s", key64(alive))
		require.NoError(t, s.End(ctx, alive.Key, user, now, until, &last))
		say("! E %s", key64(alive))
	case 1:
		for _, rec := range recs {
			say("? E %s", key64(rec))
		}
		_, err := s.EndUser(ctx, user, coatcheck.Key{}, true, now, until)
		require.NoError(t, err)
		for _, rec := range recs {
			say("! E %s", key64(rec))
		}
	}
}

// oldestOf returns the session that a limit of two ends: of two sessions of the same age, the one with the smaller key.
func oldestOf(recs []*coatcheck.Record) *coatcheck.Record {
	if string(recs[0].Key[:]) < string(recs[1].Key[:]) {
		return recs[0]
	}
	return recs[1]
}

func key64(rec *coatcheck.Record) string { return base64.RawURLEncoding.EncodeToString(rec.Key[:]) }

// witness is what is known of the sessions of all children.
type witness struct{ sessions map[coatcheck.Key]*known }

type known struct {
	asked, answered       int // versions
	askedEnd, answeredEnd bool
}

func newWitness() *witness { return &witness{map[coatcheck.Key]*known{}} }

func (w *witness) ended() (n int) {
	for _, k := range w.sessions {
		if k.answeredEnd {
			n++
		}
	}
	return n
}

func (w *witness) read(t *testing.T, lines string) {
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		if !strings.HasSuffix(line, "\n") || len(f) < 3 || (f[0] != "?" && f[0] != "!") {
			continue // the kill cut the line
		}
		key, ok := coatcheck.ParseKey([]byte(f[2]))
		require.True(t, ok, line)
		k := w.sessions[key]
		if k == nil {
			k = &known{}
			w.sessions[key] = k
		}
		switch f[0] + f[1] {
		case "?P":
			k.asked, _ = strconv.Atoi(f[3])
		case "!P":
			k.answered, _ = strconv.Atoi(f[3])
		case "?E":
			k.askedEnd = true
		case "!E":
			k.answeredEnd = true
		}
	}
}

func (w *witness) check(t *testing.T, s *shardstore.Store) {
	var rec coatcheck.Record
	for key, k := range w.sessions {
		err := s.Load(context.Background(), key, coatcheck.ID{}, time.Now(), &rec)
		switch {
		case k.answeredEnd && err == nil:
			t.Errorf("an ended session is back: %v", key)
		case err == nil && (rec.Version < uint64(k.answered) || rec.Version > uint64(k.asked)):
			t.Errorf("version %d, answered %d, asked %d", rec.Version, k.answered, k.asked)
		case err != nil && k.answered > 0 && !k.askedEnd:
			t.Errorf("a session is lost: %v", err)
		}
		if err != nil { // the session must stay ended
			k.askedEnd, k.answeredEnd = true, true
		}
	}
	_, err := s.Sizes()
	assert.NoError(t, err)
}
