package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkColdStart is from the start of the program to its first answer, which says that nobody is logged in.
func BenchmarkColdStart(b *testing.B) {
	path := shippedProgram(b)
	for b.Loop() {
		firstAnswer(b, path)
	}
}

func firstAnswer(b *testing.B, path string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "serve", "--dev", "--listen=127.0.0.1:0", "--admin-listen=off")
	cmd.Env = environment()
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	url := regexp.MustCompile(`https?://\S+`).FindString(line)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/auth/me", http.NoBody)
	require.NoError(b, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(b, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(b, err)
	require.NoError(b, resp.Body.Close())
	require.Equal(b, http.StatusOK, resp.StatusCode)
	b.StopTimer()
	require.NoError(b, cmd.Process.Kill())
	_ = cmd.Wait() // killed
	b.StartTimer()
}
