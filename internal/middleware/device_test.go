package middleware

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/shardstore"
)

// The path of the devices' routes goes to browsers, which would take some texts for another host's address.
func TestDBSCPath(t *testing.T) {
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	for path, good := range map[string]bool{
		"/d": true, "/a/d": true, "//x": false, "/a\nb": false, "/a\x00": false, "/a\x7f": false, "/\u00fc": false, "d": false, "/": false, "/d/": false,
		"/a b": false, `/a\b`: false, `/a"b`: false, "/a?b": false, "/a#b": false,
	} {
		_, err := NewFor(store, Config{DBSC: path})
		if good {
			assert.NoError(t, err, "%q", path)
		} else {
			assert.ErrorContains(t, err, "dbsc", "%q", path)
		}
	}
}
