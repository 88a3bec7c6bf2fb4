package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	good = `{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"hello\n"}
{"Action":"pass","Package":"p","Test":"TestA/sub","Elapsed":9}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":2.5}
{"Action":"skip","Package":"p","Test":"TestB","Elapsed":0}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t2.6s\n"}
{"Action":"pass","Package":"p","Elapsed":2.6}
`
	bad = `{"Action":"output","Package":"q","Test":"TestC","Output":"    c_test.go:1: wrong\n"}
{"Action":"fail","Package":"q","Test":"TestC","Elapsed":1}
{"Action":"output","Package":"q","Output":"FAIL\tq\t1.1s\n"}
{"Action":"fail","Package":"q","Elapsed":1.1}
`
	cut = `{"Action":"output","Package":"q","Test":"TestC","Output":"panic: test timed out after 10m\n"}
{"Action":"output","Package":"q","Output":"FAIL\tq\t600s\n"}
{"Action":"fail","Package":"q","Elapsed":600}
`
	unbuilt = `{"ImportPath":"q","Action":"build-output","Output":"q/a.go:1: undefined: x\n"}
{"ImportPath":"q","Action":"build-fail"}
{"Action":"output","Package":"q","Output":"FAIL\tq [build failed]\n"}
{"Action":"fail","Package":"q","Elapsed":0,"FailedBuild":"q"}
`
)

func TestSummary(t *testing.T) {
	for name, tt := range map[string]struct {
		in     string
		failed bool
		shows  []string
		hides  []string
	}{
		"all passed":        {good, false, []string{"ok  \tp\t2.6s\n", "    2.50 s  p.TestA\n    0.00 s  p.TestB\n", "\n2 passed, 0 failed\n"}, []string{"hello", "sub", "PASS"}},
		"one failed":        {good + bad, true, []string{"ok  \tp", "FAIL\tq\t1.1s\n", "c_test.go:1: wrong\n", "\n2 passed, 1 failed\n"}, []string{"hello"}},
		"one was cut off":   {good + cut, true, []string{"panic: test timed out", "FAIL\tq\t600s\n"}, []string{"hello"}},
		"one was not built": {unbuilt, true, []string{"q/a.go:1: undefined: x\n", "FAIL\tq [build failed]\n"}, nil},
		"go test was killed": {
			strings.TrimSuffix(good, `{"Action":"pass","Package":"p","Elapsed":2.6}`+"\n"), true, []string{"FAIL\tp\tdid not end"}, nil,
		},
		"what is no event": {"go: no such module\n" + good, false, []string{"go: no such module\n"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			all := filepath.Join(t.TempDir(), "all")
			var out bytes.Buffer
			failed, err := run(strings.NewReader(tt.in), &out, all, 20)
			require.NoError(t, err)
			assert.Equal(t, tt.failed, failed, out.String())
			for _, text := range tt.shows {
				assert.Contains(t, out.String(), text)
			}
			for _, text := range tt.hides {
				assert.NotContains(t, out.String(), text)
			}
			copied, err := os.ReadFile(all)
			require.NoError(t, err)
			assert.Equal(t, strings.Contains(tt.in, "hello"), strings.Contains(string(copied), "hello\n"))
		})
	}
}

func TestOnlyTheSlowestAreListed(t *testing.T) {
	var out bytes.Buffer
	_, err := run(strings.NewReader(good), &out, "", 1)
	require.NoError(t, err)
	assert.Contains(t, out.String(), "TestA")
	assert.NotContains(t, out.String(), "TestB")
}
