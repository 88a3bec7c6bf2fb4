package server

import (
	"bytes"
	_ "embed" // the document
	"strings"

	"github.com/coatcheck/coatcheck/internal/cookie"
)

// openAPI describes every route of both listeners. Package servertest checks each request and response of its suite against it.
//
//go:embed openapi.yaml
var openAPI []byte

var typeYAML = []byte("application/yaml") // RFC 9512

// The document's lines about the cookie of the default configuration.
const (
	documentedName   = `name: "__Host-coatcheck"`
	documentedCookie = `example: "__Host-coatcheck=…43 characters…; Max-Age=43200; Path=/; Secure; HttpOnly; SameSite=Lax"`
)

// openAPIOf is the document of a server with this cookie: a client that is generated from it must send the one that the server
// reads.
func openAPIOf(c cookie.Config) ([]byte, error) {
	k, err := cookie.New(c)
	if err != nil {
		return nil, err
	}
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	name := quoted.Replace(k.Name())
	doc := bytes.ReplaceAll(openAPI, []byte(documentedName), []byte(`name: "`+name+`"`))
	line := name + "=…43 characters…; Max-Age=43200; " + quoted.Replace(k.Attributes())
	return bytes.ReplaceAll(doc, []byte(documentedCookie), []byte(`example: "`+line+`"`)), nil
}
