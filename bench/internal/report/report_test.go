package report_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/bench/internal/report"
)

func TestMedian(t *testing.T) {
	assert.Zero(t, report.Median(nil))
	assert.InDelta(t, 2, report.Median([]float64{3, 1, 2}), 0)
	values := []float64{4, 3, 1, 2}
	assert.InDelta(t, 2.5, report.Median(values), 0)
	assert.Equal(t, []float64{4, 3, 1, 2}, values, "the values keep their order")
}

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i)
	}
	for share, want := range map[float64]time.Duration{0: 1, 0.01: 1, 0.07: 7, 0.071: 8, 0.5: 50, 0.99: 99, 0.991: 100, 1: 100} {
		assert.Equal(t, want, report.Quantile(hundred, share), share)
	}
	assert.Zero(t, report.Quantile[float64](nil, 0.5))
	assert.Equal(t, "only", report.Quantile([]string{"only"}, 0.99))
}

func TestReplace(t *testing.T) {
	const begin, end = "<!-- it begins -->", "<!-- it ends -->"
	page := filepath.Join(t.TempDir(), "page.md")
	require.NoError(t, os.WriteFile(page, []byte("before\n"+begin+"\nold\n"+end+"\nafter\n"), 0o600))
	for range 2 { // the second time changes nothing
		require.NoError(t, report.Replace(page, begin, end, "new\n"))
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		assert.Equal(t, "before\n"+begin+"\nnew\n"+end+"\nafter\n", string(text))
	}
	assert.ErrorContains(t, report.Replace(page, "<!-- another -->", end, "new\n"), "has no lines\n<!-- another -->")
	assert.ErrorContains(t, report.Replace(page, begin, "<!-- another -->", "new\n"), "has no lines")
	assert.Error(t, report.Replace(page+"x", begin, end, "new\n"))
}

func TestJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "deep", "result.json")
	require.NoError(t, report.WriteJSON(file, map[string]string{"is": "<1>"}))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "{\n  \"is\": \"<1>\"\n}\n", string(text))
	var got map[string]string
	require.NoError(t, report.ReadJSON(file, &got))
	assert.Equal(t, "<1>", got["is"])
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	assert.ErrorContains(t, report.ReadJSON(file, &got), file)
}

func TestMachine(t *testing.T) {
	m := report.ThisMachine()
	assert.NotEmpty(t, m.CPU)
	assert.Positive(t, m.Cores)
	assert.Regexp(t, `^\d+\.\d+`, m.Kernel)
	assert.Regexp(t, `, \d+ cores, Linux \S+, load average \S+ at the start$`, m.String())
}
