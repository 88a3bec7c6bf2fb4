package hashproc

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
)

// job is one computation, with the arguments of argon2.IDKey.
type job struct {
	ID             uint64 // from 1
	Password, Salt []byte
	Passes, Memory uint32
	Threads        uint8
	KeyLen         uint32
}

// result is the result of a job.
type result struct {
	ID  uint64
	Tag []byte
	// Trouble is a message for the other process's log; then ID is 0.
	Trouble string
}

func (j *job) compute() []byte {
	return argon2.IDKey(j.Password, j.Salt, j.Passes, j.Memory, j.Threads, j.KeyLen)
}

// size is the job's cost as a multiple of the least cost in a users file, rounded up.
func (j *job) size() time.Duration {
	const least = 2 * 19456 // passes times KiB
	return 1 + time.Duration(uint64(j.Passes)*uint64(j.Memory)/(least+1))
}

// Serve is what the process of a Pool runs: it computes the jobs that it reads from in until that ends, all at the same
// time. On Linux the kernel runs the process only when nothing else needs the core.
func Serve(in io.Reader, out io.Writer) error {
	s := &results{out: gob.NewEncoder(out)}
	if err := yield(); err != nil {
		s.send(&result{Trouble: err.Error()})
	}
	return s.serve(in)
}

// serve computes the jobs that it reads from in.
func (s *results) serve(in io.Reader) error {
	jobs := gob.NewDecoder(in)
	for {
		j := new(job)
		switch err := jobs.Decode(j); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("what came is no job: %w", err)
		}
		go func() {
			s.send(&result{ID: j.ID, Tag: j.compute()})
			runtime.GC() // the next hash uses the memory of this one, not as much again
		}()
	}
}

type results struct {
	mu  sync.Mutex
	out *gob.Encoder // guarded by mu
}

func (s *results) send(r *result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.out.Encode(r) // if it fails, the process that asked is gone, and in ends too
}
