package daemon

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// A server without a request cuts none off, however short the time to stop is: a listener may take longer to return.
func TestStopWithoutRequests(t *testing.T) {
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	srv, err := server.New(store, server.Config{Login: login.Open{}})
	require.NoError(t, err)
	d := &daemon{Options: Options{Config: new(config.Config)}, deadline: time.Now()}
	assert.NoError(t, d.stop(srv, make(chan error), 2))
}

// GNU timeout sends its signal to the process and then to its group, and a terminal sends a Ctrl-C to the whole group, in which another
// program may pass it on: all within a second are one stop. A later one ends the server at once.
func TestSignalsWithinASecondAreOneStop(t *testing.T) {
	began := time.Now()
	for name, tt := range map[string]struct {
		signalled time.Time // when the first one came; zero: a listener failed
		after     time.Duration
		ends      bool
	}{
		"the same":         {signalled: began},
		"just within":      {signalled: began, after: time.Second - 1},
		"later":            {signalled: began, after: time.Second, ends: true},
		"a failure before": {ends: true},
		"a clock set back": {signalled: began, after: -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := shardstore.New(shardstore.Options{})
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, store.Close()) })
			srv, err := server.New(store, server.Config{Login: login.Open{}})
			require.NoError(t, err)
			signals, ended, result := make(chan os.Signal), make(chan error), make(chan error, 1)
			d := &daemon{
				Options: Options{Config: new(config.Config), Signals: Signals{Stop: signals}}, deadline: began.Add(time.Hour), signalled: tt.signalled,
				now: func() time.Time { return began.Add(tt.after) },
			}
			go func() { result <- d.stop(srv, ended, 1) }()
			signals <- syscall.SIGTERM
			if tt.ends {
				assert.ErrorIs(t, <-result, errSecondSignal)
				return
			}
			select {
			case signals <- syscall.SIGINT: // which is taken when the one before has been judged
			case err := <-result:
				require.Fail(t, "it ends", "%v", err)
			}
			ended <- nil
			assert.NoError(t, <-result)
		})
	}
}
