package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor"
)

// What a server that is ready cannot do is a problem, and a release that says less is not.
func TestDoctorReadsReadiness(t *testing.T) {
	t.Parallel()
	for body, want := range map[string][2]string{
		`{"status":"ready","writes":"ok","reload":"ok"}`:          {"", ""},
		`{"status":"ready","writes":"refused","reload":"ok"}`:     {doctor.Problem, ""},
		`{"status":"ready","writes":"ok","reload":"failed"}`:      {"", doctor.Problem},
		`{"status":"ready","writes":"refused","reload":"failed"}`: {doctor.Problem, doctor.Problem},
		`{"status":"ready"}`: {"", ""},
		`ready`:              {"", ""},
	} {
		admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/readyz" {
				_, _ = io.WriteString(w, body)
			}
		}))
		code, out, errs := command(t, nil, "doctor", "--json", "--dev", "--admin-listen="+strings.TrimPrefix(admin.URL, "http://"))
		admin.Close()
		require.Empty(t, errs)
		d := diagnosed(t, code, out)
		assert.Equal(t, want, [2]string{d.By["server-writes"].Result, d.By["server-reload"].Result}, body)
	}
}
