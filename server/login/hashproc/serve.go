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

// result is what a job came to.
type result struct {
	ID  uint64
	Tag []byte
	// Trouble is what the other process should know; then ID is 0.
	Trouble string
}

func (j *job) compute() []byte {
	return argon2.IDKey(j.Password, j.Salt, j.Passes, j.Memory, j.Threads, j.KeyLen)
}

// size is how many times the least cost of a users file the job costs, rounded up.
func (j *job) size() time.Duration {
	const least = 2 * 19456 // passes times KiB
	return 1 + time.Duration(uint64(j.Passes)*uint64(j.Memory)/(least+1))
}

// Serve is what the process of a Pool runs: it computes the jobs that it reads from in until that ends, as many at once as
// come. The kernel runs it, where it knows how (Linux), when nothing else wants the core.
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
			runtime.GC() // what the hash has used is used again, and not as much beside it
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
	_ = s.out.Encode(r) // if it fails, whoever asked is gone, and in ends too
}
