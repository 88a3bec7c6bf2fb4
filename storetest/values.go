package storetest

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// block encodes values as the tail of a record: 1-byte length and name, 2-byte length and JSON, names ascending.
func block(values map[string]string) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(values)) {
		b = append(b, byte(len(name)))
		b = append(b, name...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(values[name])))
		b = append(b, values[name]...)
	}
	return b
}

// unblock decodes what block wrote; coatcheck has checked the form.
func unblock(b []byte) map[string]string {
	values := map[string]string{}
	for len(b) > 0 {
		name := string(b[1 : 1+int(b[0])])
		b = b[1+len(name):]
		size := int(binary.BigEndian.Uint16(b))
		values[name] = string(b[2 : 2+size])
		b = b[2+size:]
	}
	return values
}

// valuesOf returns the tail of rec's encoding that its twin without values does not have. rec may have either values or a
// note of where the session was last seen, not both.
func valuesOf(t require.TestingT, rec *coatcheck.Record) []byte {
	var twin coatcheck.Record
	require.NoError(t, twin.Rewrite(rec, rec.Header, nil))
	return rec.Bytes()[len(twin.Bytes()):]
}

// extended returns rec, which has no values, in the codec's version 2: with an extension, and with a note of where the
// session was last seen.
func extended(t require.TestingT, rec *coatcheck.Record) *coatcheck.Record {
	const extension = "\x02\x00\x0A" + "public key" + "\xC8\x00\x02\xFF\x00" // two parts of unknown kinds
	b := append([]byte(nil), rec.Bytes()...)
	b[0]++
	b = binary.BigEndian.AppendUint16(b, uint16(len(extension)))
	b = append(b, extension...)
	next := &coatcheck.Record{}
	require.NoError(t, next.Read(rec.Key, b))
	next.SetLastIP(netip.AddrFrom4([4]byte{198, 51, 100, 7}))
	return next
}
