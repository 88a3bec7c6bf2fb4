package servertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

// shape is the part of an exchange that the document's rules apply to. Exchanges of one shape are checked once, because the
// validator compiles schemas each time, which costs ten times the request.
func shape(op *openapi3.Operation, req request, r response) string {
	_, query, _ := strings.Cut(req.Path, "?")
	var head []string
	for _, line := range req.Head {
		name, value, _ := strings.Cut(line, ":")
		if !strings.EqualFold(name, "Content-Type") {
			value = ""
		}
		head = append(head, name+value)
	}
	return fmt.Sprintf("%s %q %q %s %d %q %s", op.OperationID, query, head, shapeOf(req.Body), r.Status, shapeOfHeader(r.Header), shapeOf(r.Body))
}

func shapeOfHeader(h http.Header) []string {
	var all []string
	for name, values := range h {
		switch name {
		case "Date", "Content-Length":
			values = nil
		}
		for _, value := range values {
			if name == "Set-Cookie" { // the suite checks it itself
				value, _, _ = strings.Cut(value, "=")
			}
			all = append(all, name+": "+alike(value))
		}
	}
	slices.Sort(all)
	return all
}

// alike returns text without the names that differ from one exchange to the next, each in the one form that it may have: tokens,
// IDs, handles, the harness' users, and times.
func alike(text string) string {
	if isTime(text) {
		return "time"
	}
	var b strings.Builder
	begin := 0
	for i := 0; i <= len(text); i++ {
		if i < len(text) && httpcontract.TokenChar(text[i]) {
			continue
		}
		run := text[begin:i]
		switch {
		case len(run) == 43, len(run) == 22, len(run) == 31 && strings.HasPrefix(run, "user-"):
			b.WriteByte('$')
		default:
			b.WriteString(run)
		}
		if i < len(text) {
			b.WriteByte(text[i])
		}
		begin = i + 1
	}
	return b.String()
}

// isTime reports whether text is a time of RFC 3339 in UTC.
func isTime(text string) bool {
	if len(text) < 20 || text[10] != 'T' || text[len(text)-1] != 'Z' {
		return false
	}
	_, err := time.Parse(time.RFC3339, text)
	return err == nil
}

// shapeOf returns a body with what is alike left out. A JSON array keeps each kind of element once.
func shapeOf(body string) string {
	var v any
	if len(body) == 0 {
		return ""
	}
	if json.Unmarshal([]byte(body), &v) != nil {
		return "not JSON"
	}
	var b strings.Builder
	writeShape(&b, v)
	return b.String()
}

func writeShape(b *strings.Builder, v any) {
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(b, "{%q:", name)
			writeShape(b, v[name])
		}
		b.WriteByte('}')
	case []any:
		var elements []string
		for _, element := range v {
			var e strings.Builder
			writeShape(&e, element)
			elements = append(elements, e.String())
		}
		slices.Sort(elements)
		fmt.Fprintf(b, "[%s]", strings.Join(slices.Compact(elements), ","))
	case string:
		fmt.Fprintf(b, "%q", alike(v))
	default:
		fmt.Fprintf(b, "%T %v", v, v)
	}
}
