package shardstore_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// A disk that fills up refuses writes, serves reads, and is used again when there is space.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	disk := shardstore.NewFlakyFiles()
	s := onDisk(t, dir, disk.Use)
	ctx := context.Background()
	rec := add(t, s, "ada", t0, time.Hour)
	for _, partly := range []int{0, 5, 100} {
		disk.Fill(partly)
		_, err := s.Create(ctx, session(t, "bob", t0, time.Hour), coatcheck.CreateOptions{}, t0)
		require.ErrorIs(t, err, coatcheck.ErrUnavailable)
		require.ErrorIs(t, renew(t, s, rec, t0, 2*time.Hour), coatcheck.ErrUnavailable)
		var last coatcheck.Record
		require.ErrorIs(t, s.End(ctx, rec.Key, "ada", t0, t0.Add(time.Second), &last), coatcheck.ErrUnavailable)
		_, err = s.EndUser(ctx, "ada", coatcheck.Key{}, true, t0, t0.Add(time.Second))
		require.ErrorIs(t, err, coatcheck.ErrUnavailable)
		require.Error(t, s.Snapshot())
		require.NoError(t, load(s, rec.Key, t0), "reads go on, and nothing has happened")
		require.Error(t, s.Stats().Refusing)
		reason, refused := s.WritesRefused()
		require.True(t, refused)
		require.Equal(t, s.Stats().Refusing.Error(), reason)
		assert.Equal(t, shardstore.Sizes{Sessions: 1, Users: 1, Indexed: 1}, sizes(t, s))
		mark, err := s.Mark(ctx, "ada", t0)
		require.NoError(t, err)
		assert.Zero(t, mark)

		disk.Drain()
		require.NoError(t, renew(t, s, rec, t0, 2*time.Hour))
		require.NoError(t, s.Stats().Refusing)
		_, refused = s.WritesRefused()
		require.False(t, refused)
		require.NoError(t, s.Load(ctx, rec.Key, rec.ID, t0, rec))
	}
	other := add(t, s, "bob", t0, time.Hour)
	require.NoError(t, s.Close())
	s = onDisk(t, dir)
	require.NoError(t, load(s, rec.Key, t0))
	require.NoError(t, load(s, other.Key, t0))
	assert.Equal(t, 2, s.Len())
}

// The part of a refused change that a full disk did write is cut off before the next change is written.
func TestFullDiskLeavesNoScrap(t *testing.T) {
	dir := t.TempDir()
	disk := shardstore.NewFlakyFiles()
	s := onDisk(t, dir, disk.Use)
	rec := add(t, s, "ada", t0, time.Hour)
	disk.Fill(300)
	_, err := s.Create(context.Background(), session(t, strings.Repeat("u", 256), t0, time.Hour), coatcheck.CreateOptions{}, t0)
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	disk.Drain()
	require.NoError(t, renew(t, s, rec, t0, 2*time.Hour))
	s.Abandon()
	var log bytes.Buffer
	s = onDisk(t, dir, func(opt *shardstore.Options) { opt.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	assert.Empty(t, log.String())
	assert.Equal(t, 1, s.Len())
}

// Changes that a failed sync may have lost are written anew, and until then no change is acknowledged.
func TestFailedSync(t *testing.T) {
	dir := t.TempDir()
	disk := shardstore.NewFlakyFiles()
	s := onDisk(t, dir, disk.Use, func(opt *shardstore.Options) { opt.FsyncEvery = -1 })
	rec := add(t, s, "ada", t0, time.Hour)
	disk.FailSyncs(true)
	require.ErrorIs(t, renew(t, s, rec, t0, 2*time.Hour), coatcheck.ErrUnavailable)
	_, err := s.Create(context.Background(), session(t, "bob", t0, time.Hour), coatcheck.CreateOptions{}, t0)
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	require.Error(t, s.Stats().Refusing)
	require.NoError(t, load(s, rec.Key, t0))
	disk.FailSyncs(false)
	require.Eventually(t, func() bool { return s.Stats().Refusing == nil }, 20*time.Second, 10*time.Millisecond)
	add(t, s, "bob", t0, time.Hour)
	require.NoError(t, s.Close())
	s = onDisk(t, dir)
	assert.Equal(t, 2, s.Len())
}

// A journal whose sync failed is closed when a snapshot has replaced it, and when the store is closed: it keeps its lock and
// its blocks until then.
func TestFailedSyncLeavesNoFileOpen(t *testing.T) {
	for name, snapshot := range map[string]bool{"snapshot": true, "close": false} {
		t.Run(name, func(t *testing.T) {
			disk := shardstore.NewFlakyFiles()
			s, err := tryOnDisk(t.TempDir(), disk.Use, func(opt *shardstore.Options) { opt.FsyncEvery = time.Hour })
			require.NoError(t, err)
			add(t, s, "ada", t0, time.Hour)
			require.Equal(t, 1, disk.Open())
			require.NoError(t, s.Rotate())
			require.Equal(t, 2, disk.Open(), "the first journal is not synced yet")
			disk.FailSyncs(true)
			for range 2 {
				require.ErrorIs(t, s.SyncNow(), coatcheck.ErrUnavailable)
			}
			if snapshot {
				disk.FailSyncs(false)
				require.NoError(t, s.Snapshot())
				require.Eventually(t, func() bool { return disk.Open() == 1 }, 20*time.Second, time.Millisecond, "another snapshot may be under way")
			}
			assert.Equal(t, snapshot, s.Close() == nil)
			assert.Zero(t, disk.Open())
		})
	}
}

// A journal that could be neither begun nor removed is in nobody's way when the disk is well again.
func TestFailedSyncAndRemove(t *testing.T) {
	disk := shardstore.NewFlakyFiles()
	dir := t.TempDir()
	s := onDisk(t, dir, disk.Use, func(opt *shardstore.Options) { opt.FsyncEvery = time.Hour })
	rec := add(t, s, "ada", t0, time.Hour)
	disk.FailSyncs(true)
	disk.FailRemoves(true)
	require.ErrorIs(t, s.SyncNow(), coatcheck.ErrUnavailable)
	require.Error(t, s.Snapshot())
	require.ErrorIs(t, renew(t, s, rec, t0, 2*time.Hour), coatcheck.ErrUnavailable)
	left, err := filepath.Glob(filepath.Join(dir, "journal-*"))
	require.NoError(t, err)
	require.Len(t, left, 2, "one was begun and could not be removed")

	disk.FailSyncs(false)
	disk.FailRemoves(false)
	require.NoError(t, s.Snapshot())
	require.NoError(t, renew(t, s, rec, t0, 2*time.Hour))
}

// lockedLog is a log that is read while the store may write to it.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A sync that fails is logged once, and not at every tick until a snapshot succeeds.
func TestFailedSyncIsLoggedOnce(t *testing.T) {
	const line = "writes are refused"
	disk, log := shardstore.NewFlakyFiles(), &lockedLog{}
	s := onDisk(t, t.TempDir(), disk.Use, func(opt *shardstore.Options) {
		opt.FsyncEvery, opt.Logger = time.Hour, slog.New(slog.NewTextHandler(log, nil))
	})
	rec := add(t, s, "ada", t0, time.Hour)
	for failed := range 2 {
		disk.FailSyncs(true)
		s.SyncTicks(5)
		require.Equal(t, failed+1, strings.Count(log.String(), line))
		disk.FailSyncs(false)
		require.NoError(t, s.Snapshot())
		require.NoError(t, renew(t, s, rec, t0, 2*time.Hour))
		require.NoError(t, s.Load(context.Background(), rec.Key, rec.ID, t0, rec))
	}
}

// What changes while a snapshot is taken stands in the new journal only: a sync of that one that fails is not forgotten when the
// snapshot is complete.
func TestFailedSyncDuringASnapshot(t *testing.T) {
	dir := t.TempDir()
	disk := shardstore.NewFlakyFiles()
	s := onDisk(t, dir, disk.Use, func(opt *shardstore.Options) { opt.FsyncEvery = time.Hour })
	rec := add(t, s, "ada", t0, time.Hour)
	disk.Before("rename", func() {
		end(t, s, rec)
		disk.FailSyncs(true)
		assert.ErrorIs(t, s.SyncNow(), coatcheck.ErrUnavailable)
	})
	require.NoError(t, s.Snapshot())
	require.Error(t, s.Stats().Refusing, "the end may have been lost")
	require.ErrorIs(t, s.SyncNow(), coatcheck.ErrUnavailable)

	disk.FailSyncs(false)
	require.Eventually(t, func() bool { return s.Stats().Refusing == nil }, 20*time.Second, 10*time.Millisecond, "another snapshot holds the end")
	require.NoError(t, s.SyncNow())
	require.NoError(t, s.Close())
	s = onDisk(t, dir)
	require.ErrorIs(t, load(s, rec.Key, t0), coatcheck.ErrEnded)
}

// A sync that fails during a write that fails, too, is not forgotten with that one, which the next write that works ends.
func TestFailedSyncDuringAFailedWrite(t *testing.T) {
	dir := t.TempDir()
	disk := shardstore.NewFlakyFiles()
	s := onDisk(t, dir, disk.Use, func(opt *shardstore.Options) { opt.FsyncEvery = time.Hour })
	rec := add(t, s, "ada", t0, time.Hour)
	syncing, written, failed := make(chan bool), make(chan bool), make(chan error)
	disk.FailSyncs(true)
	disk.Before("sync", func() { close(syncing); <-written })
	go func() { failed <- s.SyncNow() }()
	<-syncing
	disk.Fill(0)
	disk.Before("write", func() {
		close(written)
		assert.ErrorIs(t, <-failed, coatcheck.ErrUnavailable)
	})
	require.ErrorIs(t, renew(t, s, rec, t0, 2*time.Hour), coatcheck.ErrUnavailable)
	disk.Drain()
	require.ErrorIs(t, renew(t, s, rec, t0, 2*time.Hour), coatcheck.ErrUnavailable, "what was written before may be lost")
	disk.FailSyncs(false)
	require.NoError(t, s.Snapshot())
	require.NoError(t, renew(t, s, rec, t0, 2*time.Hour))
}
