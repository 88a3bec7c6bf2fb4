package shardstore

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Options configures a Store. The zero Options work.
type Options struct {
	// Shards is how many locks the sessions are spread over: a power of two. 0 is 256. More shards help only with many more
	// cores than sixteen or so.
	Shards int

	// MaxSessions is how many sessions may live at one time; a Create beyond it is coatcheck.ErrFull. 0 is no limit. Set
	// it when logins come from people you do not trust: a session's record takes up to 4 KiB, and what stands beside it 100 to 200
	// bytes, or some 75 where there are millions of sessions.
	MaxSessions int

	// JanitorEvery is how often expired sessions, tombstones and marks are removed. 0 is one second. It decides how long
	// they take up memory and nothing else: what has expired is never served.
	JanitorEvery time.Duration

	// Dir is a folder, made if need be, in which the store survives a restart and a crash. If it is empty, nothing is kept
	// on disk. One store at a time may use it. New fails if the files in it cannot be read.
	Dir string

	// FsyncEvery is how long an acknowledged change may stay unsynced, in which time a power cut undoes it; a crash of the
	// process alone undoes nothing. 0 is one second. If it is negative, every change is synced before its answer, and one
	// fsync serves many changes.
	FsyncEvery time.Duration

	// SnapshotBytes is how long the journal grows before the store writes a snapshot and begins a new journal. 0 is 64 MiB.
	// The journal grows at least as long as the last snapshot in any case.
	SnapshotBytes int64

	// Now is the janitor's clock; nil is time.Now. It must be the clock whose times the callers pass. It is for tests.
	Now func() time.Time

	// Logger gets a line when the janitor has panicked, when the disk fails and when a crash has left a torn journal; nil is
	// slog.Default().
	Logger *slog.Logger

	files fileSystem // nil: the system's. For tests
}

const (
	defaultShards        = 256
	defaultJanitorEvery  = time.Second
	defaultFsyncEvery    = time.Second
	defaultSnapshotBytes = 64 << 20
)

// withDefaults returns the options with every default filled in, or an error that names every mistake in them.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	if o.Shards < 0 || o.Shards&(o.Shards-1) != 0 || o.Shards > 1<<16 {
		errs = append(errs, fmt.Errorf("shardstore: Shards is %d, not a power of two up to 65536", o.Shards))
	}
	if o.MaxSessions < 0 {
		errs = append(errs, fmt.Errorf("shardstore: MaxSessions is %d, below zero", o.MaxSessions))
	}
	if o.JanitorEvery < 0 {
		errs = append(errs, fmt.Errorf("shardstore: JanitorEvery is %v, below zero", o.JanitorEvery))
	}
	if o.SnapshotBytes < 0 {
		errs = append(errs, fmt.Errorf("shardstore: SnapshotBytes is %d, below zero", o.SnapshotBytes))
	}
	if o.FsyncEvery == 0 {
		o.FsyncEvery = defaultFsyncEvery
	}
	if o.SnapshotBytes == 0 {
		o.SnapshotBytes = defaultSnapshotBytes
	}
	if o.files == nil {
		o.files = osFiles{}
	}
	if o.Shards == 0 {
		o.Shards = defaultShards
	}
	if o.JanitorEvery == 0 {
		o.JanitorEvery = defaultJanitorEvery
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, errors.Join(errs...)
}
