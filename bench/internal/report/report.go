// Package report has what the commands of bench need to report their results: a description of the machine, medians and
// quantiles, files of results, and pages of Markdown with a generated part.
package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Median is the middle one of the values, or the mean of the two in the middle; 0 if there are none.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Quantile is the least of the values that at least this share of them does not exceed (the nearest rank): share 0.5 is a
// median, 0.99 the 99th percentile, 1 the maximum. It is the zero value if there are no values.
func Quantile[T cmp.Ordered](values []T, share float64) (q T) {
	n := len(values)
	if n == 0 {
		return q
	}
	sorted := slices.Sorted(slices.Values(values))
	// A float64 just above a whole rank must not become the next one: 0.07 * 100 is 7.000000000000001.
	rank := int(share*float64(n)*(1-1e-12)) + 1
	return sorted[min(max(rank, 1), n)-1]
}

// Replace puts text between two lines of a page, begin and end. An error says so if the page does not have them.
func Replace(page, begin, end, text string) error {
	data, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(data), begin+"\n")
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines\n%s\n%s", page, begin, end)
	}
	return os.WriteFile(page, []byte(head+begin+"\n"+text+end+tail), 0o644) //nolint:gosec // a page of the docs
}

// WriteJSON writes a result, and makes the directory for it.
func WriteJSON(file string, result any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(result); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // results are for everybody
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644) //nolint:gosec // results are for everybody
}

// ReadJSON reads a result that WriteJSON has written.
func ReadJSON(file string, result any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, result); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
