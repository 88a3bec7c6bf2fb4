package adminclient_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
)

func TestURL(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:3001": "http://127.0.0.1:3001", ":3001": "http://127.0.0.1:3001", "0.0.0.0:1": "http://127.0.0.1:1",
		"[::]:1": "http://[::1]:1", "[::1]:1": "http://[::1]:1", "10.0.0.1:1": "http://10.0.0.1:1", "localhost:1": "http://localhost:1",
		"off": "", "127.0.0.1:0": "",
	} {
		assert.Equal(t, want, adminclient.URL(listen))
	}
}

func TestPrintable(t *testing.T) {
	assert.Equal(t, "a\uFFFD[31mb Zoë", adminclient.Printable("a\x1b[31mb Zoë"))
	assert.Equal(t, 100, len([]rune(adminclient.Printable(strings.Repeat("ä", 300)))))
}
